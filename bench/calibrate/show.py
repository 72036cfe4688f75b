"""What was measured, beside what the fitted simulator says of it, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bench.calibrate.fit import medians
from bench.calibrate.measure import Measurements
from bench.cluster import HEADER_NBYTES, Cluster, Fabric
from bench.cluster.compute import COSTS_S


def report(found: Measurements, cluster: Cluster, ranks: int) -> str:
    """The tables."""
    parts = [_steps(found, cluster)]
    if ranks > 1:
        network = cluster.network
        latency_s, gbit = (network.inner if network.ranks_per_node > 1 else network.outer).figures
        handling = network.handling
        fabric = Fabric(network, workers=ranks, ranks=ranks)

        def trip_s(nbytes: int) -> float:
            return latency_s + (nbytes + HEADER_NBYTES) * 8e-9 / gbit + handling.taking_s(nbytes)

        parts += [
            _sizes("one way between two ranks that do nothing else", found.trips, trip_s),
            _sizes(
                "between two answers of a rank with more requests than it can answer",
                found.answers,
                lambda nbytes: max(handling.taking_s(nbytes), (nbytes + HEADER_NBYTES) * 8e-9 / gbit),
            ),
            _sizes(
                f"all-reduce of {ranks} ranks after a gradient, fitted as {network.collective}",
                found.reductions,
                lambda nbytes: fabric.allreduce_end_s(0.0, nbytes),
            ),
            "residuals (root mean square of model / measured - 1, the workloads' own sizes weighing most): "
            + ", ".join(f"{name} {residual:.1%}" for name, residual in cluster.residuals.items()),
        ]
    return "\n\n".join(parts)


def _steps(found: Measurements, cluster: Cluster) -> str:
    titles = ("workload", "bytes", "alone", "together", "5 %", "95 %", "all ranks", "idle answers", "busy answers")
    gradients: list[Sequence[str]] = [titles]
    costs = (*COSTS_S, "cold_lasts")
    beside: list[Sequence[str]] = [("workload", *costs)]
    for label, times in found.steps.items():
        together = [_ms(times.together_s, quantile) for quantile in (0.5, 0.05, 0.95)]
        others = [_ms(times_s, 0.5) for times_s in (times.crowded_s, times.idle_answers_s, times.busy_answers_s)]
        gradients.append((label, str(times.nbytes), _ms(times.alone_s, 0.5), *together, *others))
        values = [(name, getattr(cluster.compute[label], name)) for name in costs]
        beside.append((label, *(f"{v if name == 'cold_lasts' else 1e3 * v:.3f}" for name, v in values)))
    return (
        "gradients (medians), and waits for an answer of a rank that does nothing else, and of one that computes [ms]\n"
        f"{columns(gradients)}\n\nwhat a step costs beside its gradient [ms]\n{columns(beside)}"
    )


def _ms(times_s: Sequence[float], quantile: float) -> str:
    return f"{1e3 * np.quantile(times_s, quantile):.3f}" if times_s else "-"


def _sizes(title: str, times_s: Mapping[int, Sequence[float]], model: Callable[[int], float]) -> str:
    lines = [("bytes", "us", "Gbit/s", "model", "error")]
    for nbytes, time_s in zip(*medians(times_s), strict=True):
        modelled_s = model(nbytes)
        lines.append(
            (
                str(nbytes),
                f"{1e6 * time_s:.1f}",
                f"{8e-9 * nbytes / time_s:.3g}",
                f"{1e6 * modelled_s:.1f}",
                f"{modelled_s / time_s - 1:+.0%}",
            )
        )
    return f"{title} (medians)\n{columns(lines)}"


def columns(lines: Sequence[Sequence[str]]) -> str:
    """Lines of cells as text, the first column to the left."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  "
        + "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
