"""Evidence of the DPSGD paper that was never run, for its rules and its figures."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.papers.evidence import TABLE, Evidence
from analysis.probes import tables
from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results

HOW = {"samples": 1, "of": "training", "probe_set": "p", "settings": "{}"}


def run_id(row: Mapping[str, Any]) -> str:
    return f"{row['label']}.{row.get('workload', 'w')}.s{row['seed']}"


def studied(folder: Path, part: str, rows: Iterable[Mapping[str, Any]]) -> Evidence:
    """Evidence of a study: each row says label, seed, loss, and may say lr, sigma, workload, samples, duration_s."""
    runs, heldout = [], []
    for row in rows:
        settings = {"optimizer": {"lr": row.get("lr", 0.8)}} | ({"sigma": row["sigma"]} if "sigma" in row else {})
        label = f"{row['label']}@lr={row['lr']:g}" if "lr" in row else row["label"]
        loss = row.get("loss", 0.1)
        name = run_id(row) + json.dumps(settings)
        runs.append(
            {
                "run_id": name, "label": label, "workload": row.get("workload", "w"), "workers": 16,
                "seed": row["seed"], "status": "completed" if math.isfinite(loss) else "diverged",
                "settings": json.dumps(settings), "samples": row.get("samples", 1), "duration_s": 1.0,
            }
        )  # fmt: skip
        heldout += [
            {"run_id": name, "t_s": 0.0, "heldout_loss": 2.3},
            {"run_id": name, "t_s": 1.0, "heldout_loss": loss},
        ]
    frames = [table.schema.empty_table().to_pandas() for table in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES)]
    frames[0], frames[3] = pd.DataFrame(runs), pd.DataFrame(heldout)
    evidence = Evidence(folder, "quick")
    evidence._results[part] = Results(*frames)
    return evidence


def sweep(edges: Mapping[str, float], *, seeds: int = 3, failing: float = 2.0) -> list[dict[str, Any]]:
    """Runs of which each label ends at 0.1 up to its largest rate, and at `failing` above."""
    rates = (0.5, 0.7, 0.8, 1.0, 1.25)
    return [
        {"label": label, "lr": lr, "seed": seed, "loss": 0.1 if lr <= edge else failing}
        for label, edge in edges.items()
        for lr in rates
        for seed in range(seeds)
    ]


def noise_row(seed: int, step: int, **changed: float) -> dict[str, Any]:
    """A probe at which all identities hold: alpha_e = 0.8 ratio, |g|^2 = 1."""
    ratio, control, spread = (changed.get(k, d) for k, d in (("ratio", 1.0), ("control", 1.0), ("spread", 1.0)))
    sampling, diversity, cross = 1.0, changed.get("diversity", 1.0), changed.get("cross", 0.0)
    noise = sampling + diversity + cross
    return {
        "run_id": f"r{seed}", "snapshot": step, "t_s": float(step), "step": float(step), "workers": 16, "lr": 0.8,
        "alpha_e": 0.8 * ratio, "alpha_e_control": 0.8 * control, "noise": noise, "noise_sampling": sampling,
        "noise_diversity": diversity, "noise_diversity_perp": diversity, "cross": cross, "replica_variance": spread,
        "slope": 1.0, "mean_gradient": ratio**2 + noise / 0.64, "noise_scale": 1.0, "diversity": 1.0, "samples": 1,
        "of": "training", "probe_set": "p", "settings": "{}",
    }  # fmt: skip


def inside(
    folder: Path, early: Mapping[str, float], late: Mapping[str, float], *, seeds: int = 3, label: str = "dpsgd-own"
) -> Evidence:
    """Probes of a study of runs that start apart: rows alike before step 80 and from step 400 on."""
    for seed in range(seeds):
        run = folder / "noise" / "runs" / f"r{seed}"
        run.mkdir(parents=True, exist_ok=True)
        rows = [noise_row(seed, step, **(early if step < 80 else late)) for step in (0, 20, 40, 60, 400, 500, 600)]
        tables.add(tables.NOISE, rows, run)
    evidence = studied(folder, "noise", [{"label": label, "seed": seed} for seed in range(seeds)])
    evidence._results["noise"].runs["run_id"] = [f"r{seed}" for seed in range(seeds)]
    return evidence


LOW, HIGH = {"ratio": 0.1, "diversity": 20.0, "spread": 5.0}, {"ratio": 0.9, "diversity": 1.0, "spread": 0.5}
"""Values of early and of late probes, as in the paper."""


def minima(folder: Path, ours: Sequence[float], losses: float, theirs: float = 2.0) -> Evidence:
    """Runs of SSGD and DPSGD that end at one loss, their largest eigenvalues at the last snapshot, by seed."""
    rows = [
        {"label": label, "seed": seed, "loss": losses} for label in ("ssgd", "dpsgd-own") for seed in range(len(ours))
    ]
    evidence = studied(folder, "minima", rows)
    for name, label, seed in evidence.results("minima").runs[["run_id", "label", "seed"]].itertuples(index=False):
        run = folder / "minima" / "runs" / f"{label}{seed}"
        run.mkdir(parents=True)
        last = ours[seed] if label == "dpsgd-own" else theirs
        where = {"run_id": name, "t_s": 0.0, "step": 0.0, **HOW}
        number = {"model": "evaluated", "number": 0, "error": 0.0, "method": "Lanczos", "products": 1}
        measures = (("hessian", "eigenvalue", 1.0), ("hessian", "trace", 10.0), ("loss", "sharpness", 0.01))
        tables.add(
            tables.NUMBERS,
            [
                where | number | {"kind": kind, "quantity": quantity, "snapshot": k, "value": factor * value}
                for kind, quantity, factor in measures
                for k, value in ((0, 5.0), (2, last))
            ],
            run,
        )
        grid = (-1.0, -0.5, 0.0, 0.5, 1.0)
        plane = {"curve": "plane", "a": "evaluated", "b": "", "snapshot": 2}
        tables.add(
            tables.LANDSCAPE,
            [where | plane | {"alpha": a, "beta": b, "loss": 0.1 + last * (a * a + b * b)} for a in grid for b in grid],
            run,
        )
    return evidence


def tabled(folder: Path, part: str, rows: list[dict[str, Any]]) -> Evidence:
    (folder / part).mkdir(exist_ok=True)
    pd.DataFrame(rows).to_parquet(folder / part / TABLE)
    return Evidence(folder, "quick")
