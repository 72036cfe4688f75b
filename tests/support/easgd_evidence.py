"""Evidence of the EASGD paper that was never run, for its rules and its figures."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.papers.evidence import TABLE, Evidence
from analysis.theory.easgd import largest_moving_rate
from analysis.theory.easgd_noise import SynchronousEASGD
from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results, unknown_row


def tabled(folder: Path, part: str, rows: Iterable[dict[str, Any]]) -> Evidence:
    (folder / part).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(list(rows)).to_parquet(folder / part / TABLE)
    return Evidence(folder, "quick")


def studied(folder: Path, studies: dict[str, list[dict[str, Any]]]) -> Evidence:
    """Evidence of runs: each row says algorithm, workers, lr, seed, errors (one a snapshot), and may say period, status
    and t_s (of the snapshots)."""
    evidence = Evidence(folder, "quick")
    for part, rows in studies.items():
        frames = {t.name: t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)}
        runs, heldout = [], []
        for row in rows:
            settings = {"optimizer": {"lr": row["lr"]}, "period": row.get("period", 1)}
            name = "-".join(str(row[key]) for key in ("algorithm", "workers", "lr", "seed")) + f"-{settings['period']}"
            runs.append(
                {
                    "run_id": name, "algorithm": row["algorithm"], "label": f"{row['algorithm']}@{row['lr']}",
                    "workers": row["workers"], "seed": row["seed"], "status": row.get("status", "completed"),
                    "settings": json.dumps(settings), "study": part, "workload": "w", "transport": "simulated",
                    "target_loss": math.nan, "duration_s": 1.0, "simulated": True,
                }
            )  # fmt: skip
            times = row.get("t_s", range(len(row["errors"])))
            for k, (t_s, error) in enumerate(zip(times, row["errors"], strict=True)):
                heldout.append(
                    {"run_id": name, "t_s": float(t_s), "snapshot": k, "heldout_metric": 1 - error, "heldout_loss": 1.0}
                )
        frames["runs"] = pd.DataFrame(runs).reindex(columns=[c.name for c in RUNS.columns])
        frames["heldout"] = pd.DataFrame(heldout).reindex(columns=[c.name for c in HELDOUT.columns])
        evidence._results[part] = Results(*(frames[t.name] for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)))
    return evidence


def sweep(
    algorithm: str, error: Callable[[int, int], float], *, periods: Iterable[int] = (1,), workers: Iterable[int] = (4,),
    seeds: int = 3, **more: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Runs whose last error is error(period, workers) and some noise; a second learning rate is worse."""
    return [
        {
            "algorithm": algorithm, "workers": p, "lr": lr, "seed": seed, "period": tau,
            "errors": [0.9, error(tau, p) + 1e-4 * seed + worse], **more,
        }
        for tau in periods for p in workers for lr, worse in ((0.1, 0.0), (0.3, 0.1)) for seed in range(seeds)
    ]  # fmt: skip


def stability_rows(shift: float) -> list[dict[str, Any]]:
    """A map whose edge is the limit times `shift`."""
    return [
        {
            "workers": p, "eta_h": e, "alpha": a,
            "growth_per_round": 0.9 if a < (shift * largest_moving_rate(e) if e <= 2 else -1) else 1.1,
        }
        for p in (1, 3) for e in np.linspace(0.1, 2.1, 20) for a in np.linspace(0.05, 1.0, 20)
    ]  # fmt: skip


def moment_rows(factor: float) -> list[dict[str, Any]]:
    theory = SynchronousEASGD(eta=0.1, beta=0.9, workers=4)
    return [
        {
            "workers": 4, "beta": 0.9, "eta": 0.1, "step": t, "replicas": 10_000,
            "mean": theory.center_mean(t, workers_at=1.0, center_at=1.0)[-1],
            "variance": factor * theory.center_variance(t)[-1],
        }
        for t in range(2, 20)
    ]  # fmt: skip


def timed(
    folder: Path, wait_ms: Callable[[int, int], float], *, spare: int = 0, slower: float = 0.0, workers: int = 3
) -> Evidence:
    """20 steps of 10 ms of each worker on MPI, which waits as told for each number of workers and period; `spare` bytes
    too many; gradients slower by a share with each worker. A step begins every 50 ms."""
    runs, events = [], []
    for p in (1, 2, 4)[:workers]:
        for tau in (1, 10):
            run, compute_s = f"n{p}-{tau}", 0.01 * (1 + slower * p)
            moved = 4 * 100 * p * 2 * math.ceil(20 / tau) + spare
            runs.append(
                unknown_row(RUNS) | {
                    "run_id": run, "status": "completed", "workers": p, "ranks": p + 1, "steps": 20 * p,
                    "parameters": 100, "nbytes": moved, "settings": json.dumps({"period": tau}), "duration_s": 1.0,
                }
            )  # fmt: skip
            for rank, step in itertools.product(range(p), range(20)):
                row = unknown_row(EVENTS) | {"run_id": run, "rank": rank, "step": step + 1}
                begin, ready = 0.05 * step, 0.05 * step + compute_s
                events.append(row | {"kind": "gradient", "t0_s": begin, "t1_s": ready})
                events.append(row | {"kind": "wait", "t0_s": ready, "t1_s": ready + 1e-3 * wait_ms(p, tau)})
    evidence = Evidence(folder, "quick")
    frames = {t.name: t.schema.empty_table().to_pandas() for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)}
    frames["runs"], frames["events"] = pd.DataFrame(runs), pd.DataFrame(events)
    evidence._results["breakdown"] = Results(*(frames[t.name] for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)))
    return evidence
