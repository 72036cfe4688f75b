"""Evidence on asynchrony as momentum that was never run, for its rules and its figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.asynchrony.mean_path import heavy_ball_path
from analysis.asynchrony.server import quadratic
from analysis.papers.async_momentum import tuning
from analysis.papers.evidence import TABLE, Evidence
from analysis.theory.delays import constant_limit, moment_map, scaled_limit
from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results

TABLES = (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)


def tabled(folder: Path, part: str, rows: Iterable[dict[str, Any]]) -> Evidence:
    (folder / part).mkdir(parents=True, exist_ok=True)
    pd.DataFrame(list(rows)).to_parquet(folder / part / TABLE)
    return Evidence(folder, "quick")


def studied(evidence: Evidence, part: str, rows: Iterable[dict[str, Any]], events: Any = None) -> None:
    """Runs that reach the target after `steps` (of 1000) of one sample a batch; infinite: never."""
    runs, heldout = [], []
    for k, row in enumerate(rows):
        settings = {"momentum": row.get("momentum", 0.0), "optimizer": {"lr": row.get("lr", 0.1)}}
        settings["group_size"] = row.get("group_size", 1)
        run = f"{part}-{k}"
        runs.append(
            {
                "run_id": run, "algorithm": row.get("algorithm", "async-sgd"), "label": f"l{k}", "study": part,
                "workload": "w", "transport": "simulated", "simulated": True, "workers": row["workers"],
                "seed": row["seed"], "status": row.get("status", "completed"), "batch_size": 1, "target_loss": 0.5,
                "settings": json.dumps(settings), "duration_s": 1000.0, "steps": row.get("done", 1000),
            }
        )  # fmt: skip
        for samples in np.unique([0.0, row["steps"], 1000.0]):
            if math.isfinite(samples):
                reached = samples >= row["steps"]
                heldout.append(
                    {
                        "run_id": run, "t_s": samples, "samples": samples, "heldout_loss": 0.4 if reached else 2.0,
                        "heldout_metric": row.get("accuracy", 0.5), "nbytes": 0, "wire_nbytes": 0,
                    }
                )  # fmt: skip
    frames = {t.name: t.schema.empty_table().to_pandas() for t in TABLES}
    frames["runs"] = pd.DataFrame(runs).reindex(columns=[c.name for c in RUNS.columns])
    frames["heldout"] = pd.DataFrame(heldout).reindex(columns=[c.name for c in HELDOUT.columns])
    if events is not None:
        frames["events"] = events
    evidence._results[part] = Results(*(frames[t.name] for t in TABLES))


def geometric(p: Callable[[int], float], gradients: int = 400_000) -> list[dict[str, Any]]:
    rows = []
    for workers in (2, 4, 8):
        tau = np.arange(200)
        law = p(workers) * (1 - p(workers)) ** tau
        rows += [
            {"workers": workers, "staleness": t, "gradients": n} for t, n in enumerate(np.rint(gradients * law)) if n
        ]
    return [row | {"gradients": int(row["gradients"])} for row in rows]


def mean_rows(implicit: Callable[[int], float], settings: Iterable[tuple[int, float]]) -> list[dict[str, Any]]:
    """Mean paths of heavy ball with some implicit momentum, of 10 000 runs with a spread of 0.1."""
    rows = []
    for workers, momentum in settings:
        for a in np.geomspace(0.03, 1.5, 30):
            path = heavy_ball_path(
                quadratic([a]), [1.0], writes=30, lr=1.0, implicit=implicit(workers), momentum=momentum
            )[:, 0]
            rows += [
                {
                    "workers": workers, "momentum": momentum, "law": "exponential", "a": a, "write": t, "runs": 10_000,
                    "mean": m, "mean_square": m * m + 0.01, "staleness": "",
                }
                for t, m in enumerate(path)
            ]  # fmt: skip
    return rows


SETTINGS = [(m, mu) for m in (2, 4, 8) for mu in (0.0, 0.3)]


def edge_rows(factor: float, delays: Iterable[int] = (0, 1, 3, 7, 15)) -> list[dict[str, Any]]:
    return [
        {"server": server, "staleness": d, "a": a, "grows": bool(a > factor * limit(d))}
        for server, limit in (("async-sgd", constant_limit), ("sa-asgd", scaled_limit))
        for d in delays
        for a in np.geomspace(0.05, 3.0, 1500)
    ]


def square_rows(factor: float) -> list[dict[str, Any]]:
    """Exact second moments, of rates that are `factor` times what they are said to be."""
    rows = []
    for workers in (2, 4):
        for a in np.geomspace(0.05, 2.0, 40):
            moments, step = np.ones(4), moment_map(a * factor, workers=workers)
            for t in range(10 * workers + 1):
                rows.append(
                    {"workers": workers, "momentum": 0.0, "a": a, "write": t, "mean_square": moments[0]}
                )  # fmt: skip
                moments = step @ moments
    return rows


Cost = Callable[[int, float], float]


def swept(tmp_path: Path, cost: Cost, seeds: int = 3) -> Evidence:
    """Steps to the target by workers and momentum; a second learning rate takes twice as many."""
    evidence = Evidence(tmp_path, "quick")
    for workers, part in zip(tuning.WORKERS, tuning.PARTS, strict=True):
        rows = [
            {"workers": workers, "seed": s, "momentum": mu, "lr": lr, "steps": times * cost(workers, mu) + s}
            for mu in (-0.5, 0.0, 0.5, 0.9)
            for lr, times in ((0.1, 1), (0.3, 2))
            for s in range(seeds)
        ]
        studied(evidence, part, rows)
    return evidence


def falling(workers: int, momentum: float) -> float:
    """The best momentum goes 0.9, 0.5, .., -0.5 as workers are added, and the steps grow."""
    best = {1: 0.9, 2: 0.5, 4: 0.5, 8: 0.0, 16: 0.0, 32: -0.5}[workers]
    return 10 * workers * (1 + abs(momentum - best))
