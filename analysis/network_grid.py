"""Simulated runs of one study over several networks, as a grid of bandwidths and latencies."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.predictions import asked_study
from analysis.summary import METRICS, summarise

GRID = ("study", "workload", "workers", "variant")
"""What tells two grids apart: all but the wire between nodes is the same within one."""

POINT = ("latency_s", "bandwidth_Gbit_per_s")
"""Place of a network in its grid [s, Gbit/s]: the wire between nodes."""

NUMBERS = ("time_to_target_s", "final_heldout_loss", "wire_nbytes_to_target", "samples_per_s", "wire_Gbit_per_s")
"""Those of `analysis.summary.METRICS` that a grid has."""

ENDS = ("", "_low", "_high", "_n", "_interval")
KEPT = (
    "label", "algorithm", "target_loss", "metric", "seeds", "completed", "diverged", "failed", "crashed", "reached",
    "duration_s", "target_earliest_s", "target_latest_s", "target_resolution_s",
)  # fmt: skip


def wires(runs: pd.DataFrame) -> pd.DataFrame:
    """The network of each simulated run: its wire between nodes [s, Gbit/s], and all else that it was simulated with.

    Left out are runs whose workers are all on one node, which use no wire between nodes, and wires without a limit.

    Args:
        runs: rows of `bench.records.RUNS`.

    Returns:
        One row per run, in the order of `runs`: `run_id`, `study` (see `asked_study`), `latency_s`,
        `bandwidth_Gbit_per_s`, `variant` (JSON of everything else that must be equal within a grid: the rest of the
        network, compute times, the workload's settings, its target and batch size, and whether there are gradients),
        `gradients` (whether there are).

    Source: the network that `bench.records.RUNS` keeps of each simulated run.

    Example:
        >>> runs = pd.DataFrame([{"run_id": "a", "study": "s@1Gbit", "workers": 8, "simulated": True, "network":
        ...     '{"network": {"latency_s": 1e-4, "bandwidth_Gbit_per_s": 1.0, "collective": "tree"}}',
        ...     "gradients": "auto", "workload_settings": "{}", "batch_size": 8, "target_loss": 0.5}])
        >>> found = wires(runs).iloc[0]
        >>> found["study"], float(found["latency_s"]), json.loads(found["variant"])["network"]
        ('s', 0.0001, {'collective': 'tree'})
    """
    rows = []
    for run in runs[runs["simulated"].astype(bool)].to_dict("records"):
        told = _json(run["network"])
        network = told.get("network")
        if not isinstance(network, dict):
            continue
        latency_s, gbit = (_number(network.pop(name, None)) for name in POINT)
        one_node = run["workers"] <= _number(network.get("ranks_per_node"))
        if one_node or not (math.isfinite(latency_s) and 0 < gbit < math.inf):
            continue
        same = {
            "network": network,
            "compute": told.get("compute", {}),
            "workload": _json(run["workload_settings"]),
            "batch_size": int(run["batch_size"]),
            "target_loss": None if math.isnan(run["target_loss"]) else float(run["target_loss"]),
            "gradients": run["gradients"] != "none",
        }
        rows.append(
            {"run_id": run["run_id"], "study": asked_study(run["study"])}
            | {"latency_s": latency_s, "bandwidth_Gbit_per_s": gbit}
            | {"variant": json.dumps(same, sort_keys=True), "gradients": same["gradients"]}
        )
    return pd.DataFrame(rows, columns=["run_id", "study", *POINT, "variant", "gradients"])


def network_grid(runs: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals over seeds of every algorithm on every network of every grid.

    A grid is one study, workload and number of workers, simulated on at least two networks that differ in nothing but
    latency and bandwidth between nodes. Rules of means, intervals and of "reached" are those of `summarise`.

    Args:
        runs: rows of `bench.records.RUNS`.
        table: rows of `analysis.summary.per_run` for them.

    Returns:
        One row per `GRID`, `POINT` and label, sorted: these, `gradients` (whether there is a loss), and `KEPT` and
        `NUMBERS` as in `analysis.summary.summary`.

    Source: as for `analysis.summary.summary`.

    Example:
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results
        >>> from analysis.summary import per_run
        >>> empty = [t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
        >>> network_grid(empty[0], per_run(Results(*empty))).empty
        True
    """
    columns = [*GRID, *POINT, "gradients", *KEPT, *(f"{name}{end}" for name in NUMBERS for end in ENDS)]
    places = placed(runs)
    if places.empty:
        return pd.DataFrame(columns=columns)
    points = [*GRID, *POINT, "gradients"]
    number = places.groupby(points, sort=True).ngroup()
    # Intervals of what nobody looks at would take most of the time.
    others = {name: math.nan for name in METRICS if name not in NUMBERS}
    own = table.drop(columns=["study"]).assign(**others).merge(
        pd.DataFrame({"run_id": places["run_id"], "study": number.astype(str)}), on="run_id"
    )  # fmt: skip
    found = summarise(own)
    where = places[points].assign(point=number.astype(str)).drop_duplicates("point").set_index("point")
    found = found.drop(columns=["workload", "workers"]).join(where.rename(columns={"study": "of"}), on="study")
    found = found.drop(columns="study").rename(columns={"of": "study"})[columns]
    found = found.sort_values([*GRID, *POINT, "label"], kind="stable", ignore_index=True)
    found.attrs["units"] = {f"{name}{end}": METRICS[name][0] for name in NUMBERS for end in ("", "_low", "_high")}
    return found


def placed(runs: pd.DataFrame) -> pd.DataFrame:
    """Which runs belong to a grid, and where in it.

    Args:
        runs: rows of `bench.records.RUNS`.

    Returns:
        Of `wires` the rows of grids with two networks or more, with `workload` and `workers`.

    Source: as for `wires`.

    Example:
        One network is no grid:

        >>> runs = pd.DataFrame([{"run_id": "a", "study": "s@1Gbit", "workload": "w", "workers": 8, "simulated": True,
        ...     "network": '{"network": {"latency_s": 1e-4, "bandwidth_Gbit_per_s": 1.0}}', "gradients": "auto",
        ...     "workload_settings": "{}", "batch_size": 8, "target_loss": 0.5}])
        >>> len(placed(runs))
        0
    """
    found = wires(runs).merge(runs[["run_id", "workload", "workers"]], on="run_id")
    networks = found.drop_duplicates([*GRID, *POINT]).groupby(list(GRID)).size()
    several = networks[networks > 1].index
    return found[pd.MultiIndex.from_frame(found[list(GRID)]).isin(several)].reset_index(drop=True)


def what_ifs(runs: pd.DataFrame) -> list[str]:
    """Names of the studies that only ask what another network would do, and whose every run is in a grid.

    A report that shows the grid has told what they have to say.

    Args:
        runs: rows of `bench.records.RUNS`.

    Source: the names that `bench.predict.as_predicted` gives.

    Example:
        >>> what_ifs(pd.DataFrame([{"run_id": "a", "study": "s@1Gbit", "workload": "w", "workers": 8,
        ...     "simulated": True, "network": "{}", "gradients": "auto", "workload_settings": "{}", "batch_size": 8,
        ...     "target_loss": 0.5}]))
        []
    """
    inside = runs["run_id"].isin(placed(runs)["run_id"])
    whole = inside.groupby(runs["study"]).all()
    return sorted(str(name) for name in whole.index[whole] if "@" in str(name))


def mean_curves(runs: pd.DataFrame, heldout: pd.DataFrame, points: int = 50) -> pd.DataFrame:
    """Held-out loss [nat] against seconds, the mean over the seeds, of every algorithm on every network of every grid.

    Args:
        runs: rows of `bench.records.RUNS`; completed ones count.
        heldout: rows of `bench.records.HELDOUT`.
        points: most snapshots of a curve; of more, every second, third ... and the last are taken.

    Returns:
        One row per `GRID`, `POINT`, label and snapshot that all of its runs have, sorted: these, `t_s`, `heldout_loss`.

    Source: the arithmetic mean.

    Example:
        >>> runs = pd.DataFrame([{"run_id": f"{gbit}", "study": f"s@{gbit}Gbit", "workload": "w", "workers": 8,
        ...     "simulated": True, "status": "completed", "label": "easgd", "gradients": "auto", "network":
        ...     f'{{"network": {{"latency_s": 1e-4, "bandwidth_Gbit_per_s": {gbit}}}}}',
        ...     "workload_settings": "{}", "batch_size": 8, "target_loss": 0.5} for gbit in (1, 10)])
        >>> heldout = pd.DataFrame({"run_id": ["1", "1", "10", "10"], "snapshot": [0, 1, 0, 1],
        ...     "t_s": [0.0, 1.0, 0.0, 1.0], "heldout_loss": [2.0, 1.0, 2.0, 0.5]})
        >>> mean_curves(runs, heldout)["heldout_loss"].tolist()
        [2.0, 1.0, 2.0, 0.5]
    """
    keys = [*GRID, *POINT, "label"]
    done = runs.loc[runs["status"] == "completed", ["run_id", "label"]]
    places = placed(runs).merge(done, on="run_id")
    joined = heldout[["run_id", "snapshot", "t_s", "heldout_loss"]].merge(places[["run_id", *keys]], on="run_id")
    found = joined.groupby([*keys, "snapshot"], sort=True, observed=True).agg(
        t_s=("t_s", "mean"), heldout_loss=("heldout_loss", "mean"), seeds=("run_id", "nunique")
    )
    found = found.reset_index().merge(joined.groupby(keys)["run_id"].nunique().rename("of").reset_index(), on=keys)
    found = found[found["seeds"] == found["of"]].drop(columns=["seeds", "of"]).reset_index(drop=True)
    if found.empty:
        return found
    place = found.groupby(keys).cumcount()
    last = found.groupby(keys)["snapshot"].transform("size") - 1
    step = np.ceil(last / (points - 1)).clip(lower=1)
    thinned: pd.DataFrame = found[(place % step == 0) | (place == last)].reset_index(drop=True)
    return thinned


def differences(variants: Sequence[str]) -> list[str]:
    """What tells each of several variants from the others, in words such as "ranks_per_node=8".

    Args:
        variants: values of `variant` of grids with the same study, workload and workers.

    Source: the definition.

    Example:
        >>> differences(['{"network": {"collective": "tree"}}', '{"network": {}}'])
        ['collective=tree', '']
    """
    told = [dict(_leaves(_json(variant))) for variant in variants]
    common = {key for key in told[0] if all(key in one and one[key] == told[0][key] for one in told)} if told else set()
    return [", ".join(f"{key.rpartition('.')[2]}={one[key]}" for key in sorted(set(one) - common)) for one in told]


def _leaves(table: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan


def _json(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
