"""A study as its prediction: the same runs in the simulator, on the network and with the compute times that a
calibration measured, or on a network that is asked about ("what if").

Predictions keep the study's name, so that a report lays them beside what was measured; a what-if has the change in its
name, such as `demo@1Gbit`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.cluster import Network
from bench.cluster.file import ONE_HOST, Cluster
from bench.cluster.file import table as as_table
from bench.cluster.presets import speed
from bench.settings import StudyError
from bench.study import BUCKET_MiB, Study, resolve, workload_label
from bench.workloads.registry import SIZES, settings_class
from bench.workloads.registry import known as workload_names

T = TypeVar("T")

COARSE = 0.25
"""What messages cost beside a gradient, as a share of its time, from which on predictions are coarse: at 0.15 they were
seen up to 1.15 times too fast, at 0.7 up to 1.5 times, at 2 up to 1.6 times."""


def as_predicted(
    raw: Mapping[str, Any],
    cluster: Cluster,
    *,
    workers: Sequence[int],
    bandwidth_Gbit_per_s: float | None = None,
    latency_s: float | None = None,
    preset: str | None = None,
    ranks_per_node: int | None = None,
    gradients: str | None = None,
    seconds: float | None = None,
) -> dict[str, Any]:
    """The table of the study that predicts another one, for `bench.study.resolve`.

    It runs on the simulated transport alone. Its network is the calibrated one with the changes that are asked for. If
    the study limits its ranks to rate_Gbit_per_s, the same token bucket stands in front of each, unless another
    bandwidth is asked for. Each workload's compute times are the calibrated ones and its network is that of all,
    whatever the study says of them; a model that is only a size has no calibrated times and keeps its own.

    Args:
        raw: the study's table, as read from its file.
        cluster: what `paceline calibrate` wrote.
        workers: numbers of workers to predict for.
        bandwidth_Gbit_per_s, latency_s, preset: another network between nodes; what is not given stays.
        ranks_per_node: another number of ranks a node. Where the cluster has one rank a node, its wire becomes the one
            inside nodes, and the one between nodes must be given.
        gradients: the study's key of that name; None leaves it as it is.
        seconds: virtual seconds of each run; None leaves the study's budgets.

    Raises:
        StudyError: a workload was not calibrated, or the changes do not fit.
    """
    table = dict(raw)
    rate_Gbit_per_s = table.pop("rate_Gbit_per_s", None)
    table.pop("testbed", None)  # the calibration's network stands for it
    measured = _built(lambda: cluster.network_with(rate_Gbit_per_s=rate_Gbit_per_s))
    if preset is None and bandwidth_Gbit_per_s is None:
        cluster = dataclasses.replace(cluster, network=measured)
    network = _changed(cluster, bandwidth_Gbit_per_s, latency_s, preset, ranks_per_node)
    if network != measured:
        asked = _asked(bandwidth_Gbit_per_s, latency_s, preset, ranks_per_node)
        table["name"] = f"{raw.get('name', 'study')}@{asked}"
    measured_with = cluster.measured.transport if cluster.measured.utc else ""  # not if it was written by hand
    compute = table.pop("compute", None)  # each workload has its own
    workloads = [_workload(entry, compute, cluster, seconds) for entry in _listed(raw, "workload")]
    algorithms = [
        {key: value for key, value in entry.items() if key != "transports"} for entry in _listed(raw, "algorithm")
    ]
    table |= {
        "workers": list(workers),
        "transports": ["simulated"],
        "network": as_table(dataclasses.replace(network, measured_with=measured_with)),
        "workload": workloads,
        "algorithm": algorithms,
    }
    table.setdefault("bucket_MiB", BUCKET_MiB[cluster.measured.transport])  # as on the transport that was measured
    if gradients is not None:
        table["gradients"] = gradients
    if seconds is not None:
        table["budget"] = _shortened(table.get("budget", {}), seconds)
    return table


def _listed(raw: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """A single [workload] or [algorithm] is a list of one."""
    entries = raw.get(key, [])
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise StudyError(f"study: {key} must be a list of tables, [[{key}]]: got {entries!r:.60}")
    return [dict(entry) for entry in entries]


def _workload(entry: dict[str, Any], compute: Any, cluster: Cluster, seconds: float | None) -> dict[str, Any]:
    """A `[[workload]]` with the calibrated compute times; `compute` is what the study says of all its workloads."""
    name = entry.get("name")
    if isinstance(name, str) and (".py:" in name or name in [*workload_names(), *SIZES]):  # else `resolve` complains
        cls, label = settings_class(name), workload_label(entry)
        if label in cluster.compute or not getattr(cls, "cost_only", False):  # a model's size is nowhere calibrated
            entry["compute"] = as_table(cluster.compute_of(label))
        elif compute:
            entry.setdefault("compute", compute)
    entry.pop("network", None)
    if seconds is not None and "budget" in entry:
        entry["budget"] = _shortened(entry["budget"], seconds)
    return entry


def coarse(cluster: Cluster, labels: Iterable[str]) -> list[str]:
    """A line for each workload whose steps are too short for a close prediction."""
    return [
        f"a message costs a step of {label} {100 * beside:.0f} % of its gradient's time: what is predicted of such "
        "short steps was seen up to 1.6 times too fast (docs/calibration.md)"
        for label in labels
        if label in cluster.compute and (beside := cluster.compute[label].beside) > COARSE
    ]


def _shortened(budget: Any, seconds: float) -> Any:
    if not isinstance(budget, Mapping):
        return budget  # `resolve` says what is wrong
    return {key: value for key, value in budget.items() if key != "steps"} | {"seconds": seconds}


def _changed(
    cluster: Cluster, gbit: float | None, latency_s: float | None, preset: str | None, ranks_per_node: int | None
) -> Network:
    """The cluster's network with the changes that are asked for."""
    latency_s, gbit = _built(lambda: speed(preset, latency_s, gbit))
    unjoined = cluster.network.ranks_per_node == 1 or cluster.network.ranks_per_node >= ONE_HOST
    if latency_s is gbit is None and unjoined and (ranks_per_node or 1) > 1:
        raise StudyError(
            f"network: the cluster file has one wire, which {ranks_per_node} ranks of a node then share: say what "
            "joins the nodes (--preset, or --bandwidth and --latency)"
        )
    return _built(
        lambda: cluster.network_with(bandwidth_Gbit_per_s=gbit, latency_s=latency_s, ranks_per_node=ranks_per_node)
    )


def _built(make: Callable[[], T]) -> T:
    """What `make` makes of the user's figures; a refusal is one line."""
    try:
        return make()
    except ValueError as error:
        raise StudyError(f"network: {error}") from error


def _asked(gbit: float | None, latency_s: float | None, preset: str | None, ranks_per_node: int | None) -> str:
    """What a what-if changes, short enough for a name."""
    parts = [
        preset or "",
        "" if gbit is None else f"{gbit:g}Gbit",
        "" if latency_s is None else f"{1e3 * latency_s:g}ms",
        "" if ranks_per_node is None else f"{ranks_per_node}-a-node",
    ]
    return ",".join(part for part in parts if part)


@dataclass(frozen=True)
class Part:
    """Predicted runs that stand in one study file: one network, and algorithms that take all its numbers of workers."""

    folder: Path  # below the results folder: "." for the measured network, else what is asked
    study: Study


def parts(tables: Sequence[Mapping[str, Any]], name: str) -> tuple[list[Part], list[str]]:
    """Predictions in as few studies as possible.

    An algorithm that cannot run with some number of workers is left out there, not everywhere.

    Args:
        tables: what `as_predicted` gives, a network each.
        name: of the study that they predict.

    Returns:
        The studies, and a line for each algorithm and number of workers that is left out.

    Raises:
        StudyError: nothing is left.
    """
    found: list[Part] = []
    left_out: dict[str, None] = {}
    for table in {table["name"]: table for table in tables}.values():
        folder = Path(str(table["name"]).removeprefix(name).lstrip("@"))
        groups: dict[tuple[int, ...], list[int]] = {}  # which algorithms -> with which numbers of workers
        for workers in table["workers"]:
            fit = []
            for i, entry in enumerate(table["algorithm"]):
                try:
                    resolve({**table, "workers": [workers], "algorithm": [entry]}, where=name)
                    fit.append(i)
                except StudyError as error:
                    left_out[str(error)] = None
            groups.setdefault(tuple(fit), []).append(workers)
        groups.pop((), None)
        # The largest group stands where a reader looks first.
        for i, (which, counts) in enumerate(sorted(groups.items(), key=lambda group: -len(group[0]) * len(group[1]))):
            inner = folder / "-".join(f"n{n}" for n in counts) if i else folder
            own = {**table, "workers": counts, "algorithm": [table["algorithm"][j] for j in which]}
            found.append(Part(inner, resolve(own, where=str(table["name"]))))
    if not found:
        raise StudyError(next(iter(left_out), "no run is left to predict"))
    return found, list(left_out)
