"""Evidence of DSGD-AAU's studies and experiments that were never run, for its rules and its figures."""

from __future__ import annotations

from typing import Any

from tests.support.learning_evidence import seeds


def slopes(ours_over_n: float, ours_over_k: float = -0.5, control: float = -0.5, points: int = 5) -> Any:
    rows = []
    for name, noise in (("d-psgd", 1.0), ("d-psgd", 10.0), ("dsgd-aau", 1.0), ("dsgd-aau", 10.0)):
        for sweep in ("workers", "iterations"):
            slope = control if name == "d-psgd" else ours_over_n if sweep == "workers" else ours_over_k
            for k in range(points):
                n, iterations = (2 << k, 1000) if sweep == "workers" else (8, 250 << k)
                rows.append(
                    {"algorithm": name, "noise": noise, "sweep": sweep, "workers": n, "iterations": iterations,
                     "mean_square": 3 * (n * iterations) ** slope}
                )  # fmt: skip
    for row in rows:  # what is over N may hold at one noise only
        if row["algorithm"] == "dsgd-aau" and row["sweep"] == "workers" and row["noise"] == 10:
            row["mean_square"] = 3 * (row["workers"] * row["iterations"]) ** -0.45
    return rows


RIVALS = ("prague", "agp", "d-psgd", "allreduce-sgd")


def raced(ours: float, theirs: float, count: int = 3) -> list[dict[str, Any]]:
    """All algorithms over two rates; the second is the better one."""
    ends = {"dsgd-aau": ours} | dict.fromkeys(RIVALS, theirs)
    return [run for name, end in ends.items() for lr in (0.1, 0.2) for run in seeds(count, name, lr, end - (lr < 0.15))]


def pair(ours: tuple[float, float], theirs: tuple[float, float], count: int = 3, **more: Any) -> list[dict[str, Any]]:
    """DSGD-AAU and AD-PSGD at a moderate and at a large rate."""
    rows = []
    for name, ends in (("dsgd-aau", ours), ("ad-psgd", theirs)):
        for lr, end in zip((0.1, 0.8), ends, strict=True):
            rows += seeds(count, name, lr, end, **(more if name == "dsgd-aau" else {}))
    return rows


def slowed(ratios: dict[tuple[float, float], float], count: int = 3) -> list[dict[str, Any]]:
    rows = []
    for (p, slow), ratio in ratios.items():
        workload = f"p={p:g},slow={slow:g}"
        rows += seeds(count, "dsgd-aau", 0.2, 0.9, workload=workload, reach_s=0.2)
        rows += seeds(count, "d-psgd", 0.2, 0.9, workload=workload, reach_s=0.2 * ratio)
    return rows


RISING = {
    (0.1, 2): 1.5,
    (0.1, 6): 2,
    (0.1, 10): 3,
    (0.1, 20): 4,
    (0.1, 40): 5,
    (0.05, 10): 2,
    (0.2, 10): 4,
    (0.4, 10): 5,
}
