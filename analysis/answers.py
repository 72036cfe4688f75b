"""The answer of each comparison as one row: who won, how surely, and what that saves against the baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from analysis.comparison import Verdict, saving, winner
from analysis.statistics import mean_over_runs

KEYS = ("study", "workload", "workers", "transport")
COLUMNS = (
    *KEYS, "simulated", "criterion", "best", "sure", "ties", "time_to_target_s", "time_to_target_s_low",
    "time_to_target_s_high", "target_loss", "rival", "baseline", "n_rival", "n_baseline", "time_saved",
    "time_saved_low", "time_saved_high", "time_saved_beyond", "time_shown", "loss_difference", "loss_difference_low",
    "loss_difference_high", "wire_saved", "wire_saved_low", "wire_saved_high", "wire_measure",
)  # fmt: skip


def answers(summary: pd.DataFrame, table: pd.DataFrame, baseline: str = "allreduce-sgd") -> pd.DataFrame:
    """Who won each comparison, and the three figures that decide, against the baseline.

    Args:
        summary: what `analysis.summary.summarise` gives.
        table: what `analysis.summary.per_run` gives, of the same runs.
        baseline: registry name of the algorithm to compare with.

    Returns:
        One row per study, workload, workers and transport with a completed run: these, `simulated`, `criterion` and
        `best` (see `analysis.comparison.Verdict`; "" if no model was evaluated), `sure` ("clear": shown to beat every
        other; "tied"; "one run": of the best, so nothing can be shown; "alone"; "none"), `ties` (labels that may be as
        good, separated by "; "), `time_to_target_s` [s] of the best with its interval, `target_loss` [nat]; `rival`
        (the best, or the next if the best is the baseline) and `baseline` (labels, "" if there is none), their
        completed runs, and of the rival against the baseline

        - `time_saved`: share of the baseline's time to the target; `time_saved_beyond` is a lower bound of it where the
          baseline never got there; `time_shown`: the difference is shown by the rule of `analysis.comparison.faster`;
        - `loss_difference`: of the final held-out losses, rival - baseline [nat];
        - `wire_saved`: share of the baseline's bytes on the wire, "to target" or, where not both reached it in all
          runs, "per sample" over the whole run (`wire_measure`).

        Bounds (`_low`, `_high`) take the worst and best cases of both intervals; NaN where one side has a single run.

    Source: the rules of `analysis.comparison`.

    Example:
        >>> from analysis.summary import per_run, summarise
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results
        >>> table = per_run(Results(*(t.schema.empty_table().to_pandas()
        ...     for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES))))
        >>> answers(summarise(table), table).empty
        True
    """
    per_sample = _per_sample(table)
    rows = []
    for key, group in summary[summary["seeds"] > 0].groupby(list(KEYS), sort=True, observed=True):
        one: dict[str, Any] = dict(zip(KEYS, key, strict=True))
        own = summary[(summary[list(KEYS)] == list(key)).all(axis=1)]
        verdict = winner(own, one["workload"], one["transport"], baseline=baseline)
        by_label = {str(row["label"]): row for row in _records(own)}
        sent = {label: per_sample[(*key, label)] for label in by_label if (*key, label) in per_sample}
        rows.append(
            {
                **one,
                "simulated": bool(group["simulated"].iloc[0]),
                **_winner(verdict, by_label),
                **_against_baseline(verdict, by_label, sent),
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _per_sample(table: pd.DataFrame) -> dict[Any, dict[str, float]]:
    """Bytes on the wire per sample, mean over the completed runs with its interval, by keys and label."""
    done = table[(table["status"] == "completed") & (table["samples_per_s"] > 0)]
    nbytes = 1e9 / 8 * done["wire_Gbit_per_s"] / done["samples_per_s"]
    found = {}
    for key, values in nbytes.groupby([done[name] for name in (*KEYS, "label")], observed=True):
        mean = mean_over_runs(values.to_numpy(dtype=np.float64))
        found[key] = {"sent": mean.mean, "sent_low": mean.low, "sent_high": mean.high}
    return found


def _winner(verdict: Verdict, rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    best = rows.get(verdict.best or "")
    if verdict.best is None or best is None:
        sure = "none"
    elif not verdict.claims:
        sure = "alone"
    elif int(best["completed"]) + int(best["diverged"]) < 2:
        sure = "one run"
    else:
        sure = "clear" if verdict.clear else "tied"
    times = {f"time_to_target_s{end}": math.nan if best is None else best[f"time_to_target_s{end}"] for end in ENDS}
    target = next(iter(rows.values()))["target_loss"]
    return {
        "criterion": verdict.criterion,
        "best": verdict.best or "",
        "sure": sure,
        "ties": "; ".join(verdict.ties),
        "target_loss": target,
        **times,
    }


ENDS = ("", "_low", "_high")


def _against_baseline(
    verdict: Verdict, rows: Mapping[str, Mapping[str, Any]], sent: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:
    base = rows.get(verdict.baseline or "")
    order = [verdict.best, *(claim.worse for claim in verdict.claims)]
    rival = next((rows[name] for name in order if name and name != verdict.baseline and rows[name]["seeds"]), None)
    found: dict[str, Any] = {
        name: math.nan for name in COLUMNS if name.startswith(("time_saved", "loss_difference", "wire_saved"))
    }
    found |= {"rival": "", "baseline": "", "n_rival": 0, "n_baseline": 0, "time_shown": False, "wire_measure": ""}
    if base is None or rival is None or not base["seeds"]:
        return found
    found |= {"rival": rival["label"], "baseline": base["label"]}
    found |= {"n_rival": int(rival["seeds"]), "n_baseline": int(base["seeds"])}
    claim = verdict.against(str(base["label"] if verdict.best == rival["label"] else rival["label"]))
    found["time_shown"] = bool(claim and claim.shown and verdict.criterion == "time_to_target_s")
    found |= _ends("time_saved", saving(rival, base, "time_to_target_s"))
    earliest, latest = float(base["target_earliest_s"]), float(rival["target_latest_s"])
    if math.isnan(found["time_saved"]) and math.isfinite(earliest) and latest < earliest:
        found["time_saved_beyond"] = 1 - latest / earliest
    loss = "final_heldout_loss"
    found["loss_difference"] = float(rival[loss] - base[loss])
    found["loss_difference_low"] = float(rival[f"{loss}_low"] - base[f"{loss}_high"])
    found["loss_difference_high"] = float(rival[f"{loss}_high"] - base[f"{loss}_low"])
    to_target = saving(rival, base, "wire_nbytes_to_target")
    if not math.isnan(to_target[0]):
        found |= {**_ends("wire_saved", to_target), "wire_measure": "to target"}
    elif {rival["label"], base["label"]} <= set(sent):
        of = saving(sent[rival["label"]], sent[base["label"]], "sent")
        found |= {**_ends("wire_saved", of), "wire_measure": "" if math.isnan(of[0]) else "per sample"}
    return found


def _ends(name: str, values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip((f"{name}{end}" for end in ENDS), values, strict=True))
