"""Results of a study over several networks whose times are given, without running anything."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results, unknown_row

TARGET, START, BUDGET_S = 0.5, 2.0, 100.0  # nat, nat, s
Seconds = Callable[[str, float, float, int], float | None]
"""(label, bandwidth [Gbit/s], latency [s], seed) -> when the target is reached [s]; None for never."""


def over_networks(
    seconds: Seconds,
    labels: Iterable[str],
    bandwidths: Sequence[float],
    latencies: Sequence[float] = (1e-4,),
    seeds: Sequence[int] = (0, 1),
    **changes: Any,
) -> Results:
    """A run of every label on every network with every seed, that reaches the target exactly then.

    Its held-out loss falls from the start to the target along a straight line of eight snapshots; the model's 1000
    parameters are sent once a second.

    Args:
        changes: columns of RUNS that are the same in all runs.
    """
    runs: list[dict[str, Any]] = []
    heldout: list[dict[str, Any]] = []
    for label, gbit, latency_s, seed in itertools.product(labels, bandwidths, latencies, seeds):
        run_id = f"{label}.simulated.n8.s{seed}.digits-mlp-{gbit:g}-{latency_s:g}"
        network = {"latency_s": latency_s, "bandwidth_Gbit_per_s": gbit, "link": []}
        runs.append(
            {
                **unknown_row(RUNS), "run_id": run_id, "study": f"nets@{gbit:g}Gbit,{1e3 * latency_s:g}ms",
                "label": label, "algorithm": label, "transport": "simulated", "workload": "digits-mlp", "workers": 8,
                "ranks": 8, "seed": seed, "simulated": True, "gradients": "auto", "status": "completed",
                "duration_s": BUDGET_S, "budget_s": BUDGET_S, "parameters": 1000, "batch_size": 4, "steps": 8,
                "samples": int(1000 * gbit), "nbytes": 4000, "wire_nbytes": 8000, "target_loss": TARGET,
                "metric": "accuracy", "evaluated_model": "mean", "settings": "{}", "workload_settings": "{}",
                "workload_facts": "{}", "network": json.dumps({"network": network}), "provenance": "{}",
                "verdict": "all: yes", "device": "cpu",
            }
            | changes
        )  # fmt: skip
        at_s = seconds(label, gbit, latency_s, seed)
        end = 7 * BUDGET_S if at_s is None else at_s
        times = [0.0, *(end * k / 8 for k in range(1, 9) if end * k / 8 < BUDGET_S or at_s is not None), BUDGET_S]
        for snapshot, t_s in enumerate(times):
            loss = START - (START - TARGET) * min(t_s / end, 1.0)
            heldout.append(
                {
                    **unknown_row(HELDOUT), "run_id": run_id, "snapshot": snapshot, "t_s": t_s, "step": t_s,
                    "samples": int(t_s), "nbytes": int(4000 * t_s), "wire_nbytes": int(4000 * t_s),
                    "heldout_loss": loss, "heldout_metric": 0.9, "consensus_distance": 0.1,
                }
            )  # fmt: skip
    tables = [pd.DataFrame(runs, columns=RUNS.units()), _empty(EVENTS), _empty(SNAPSHOTS)]
    return Results(*tables, pd.DataFrame(heldout, columns=HELDOUT.units()), _empty(SHARES))


def _empty(table: Any) -> pd.DataFrame:
    """A frame as `bench.records.load` gives it, without rows."""
    frame: pd.DataFrame = table.in_memory.empty_table().to_pandas()
    return frame
