"""Claims about compute utilisation: our simulator of it against what the paper prints and concludes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from analysis.papers.claim import Claim, Decision
from analysis.papers.evidence import Evidence
from analysis.papers.streaming_diloco.printed import METHODS, MODELS, PRINTED_STEP_S, TABLE_4
from analysis.theory.dag import Reals, TrainingDag
from analysis.theory.exchanges import equal_layers, fragments, schedule
from analysis.theory.utilization import GRID, Bandwidths, printed, required_bandwidth, utilization
from bench.workloads.sized_model import PRESETS

CELL = float(GRID[1] / GRID[0])
"""Ratio of neighbouring bandwidths of the paper's tables."""

FINE = np.logspace(-2, 4, 401)
"""Bandwidths on which curves are compared [Gbit/s]."""

ROUNDING = 1e-12


def row(model: str, method: str, **more: Any) -> Bandwidths:
    """A row of table 4 by our simulator."""
    return required_bandwidth(**{**MODELS[model], **METHODS[method], **more})


def curve(model: str, method: str, **more: Any) -> Reals:
    """Compute utilisation on `FINE`."""
    return utilization(FINE, **{**MODELS[model], **METHODS[method], **more})


def cells_off(found: float, paper: float) -> float:
    """How many cells of the grid lie between a point of it and a printed number; 0 if it is printed like that."""
    if printed(found) == paper:
        return 0.0
    same = [point for point in GRID.tolist() if printed(point) == paper]
    return min(abs(math.log(found / point)) for point in same) / math.log(CELL)


def table_4(evidence: Evidence) -> Decision:
    """D1."""
    off, nominal = [], 0
    for (model, method), papers in TABLE_4.items():
        ours = row(model, method).Gbit_per_s_on_grid
        off += [cells_off(point, paper) for point, paper in zip(ours, papers, strict=True)]
        rounded = row(model, method, step_time_s=PRINTED_STEP_S[model]).Gbit_per_s_on_grid
        nominal += sum(printed(point) == paper for point, paper in zip(rounded, papers, strict=True))
    equal, farthest = sum(distance == 0 for distance in off), max(off)
    near = farthest < 1.01
    return Decision(
        verdict="reproduced" if equal >= 47 and near and nominal >= 44 else "partly" if near else "contradicted",
        found=f"{equal} of {len(off)} cells equal, the others {farthest:.0f} cell off at most; {nominal} with step "
        "times as printed",
        n=len(off),
        measured=equal,
        unit="cells",
    )


def bandwidth_ratio(evidence: Evidence) -> Decision:
    """D2."""
    words, far = [], 0.0
    ratio = float("nan")
    for model in ("1B", "100B"):
        most, least = (row(model, method).Gbit_per_s_on_grid[-1] for method in ("data-parallel", "overlapped FP4"))
        paper = TABLE_4[model, "data-parallel"][-1] / TABLE_4[model, "overlapped FP4"][-1]
        ratio = most / least
        far = max(far, abs(np.log(ratio / paper)) / np.log(CELL))
        words.append(f"{model}: {ratio:.0f} (paper {paper:.0f})")
    return Decision(
        verdict="reproduced" if far <= 2 else "contradicted", found="; ".join(words), n=2, measured=ratio, unit="times"
    )


def order(evidence: Evidence) -> Decision:
    """D3."""
    worst = 0.0
    for model in MODELS:
        for worse, better in pairwise([curve(model, method) for method in METHODS]):
            worst = max(worst, float((worse - better).max()))
    low = {method: float(utilization(5.0, **{**MODELS["100B"], **METHODS[method]})[0]) for method in METHODS}
    near_one = [method for method, value in low.items() if value >= 0.95]
    only = set(near_one) <= {"overlapped", "overlapped FP4"} and bool(near_one)
    holds = worst <= ROUNDING
    return Decision(
        verdict="reproduced" if holds and only else "partly" if holds or only else "contradicted",
        found=f"largest breach of the order {worst:.1g} on {len(FINE)} bandwidths x {len(MODELS)} models; at 5 Gbit/s "
        "100B has " + ", ".join(f"{method} {value:.3f}" for method, value in low.items()),
        n=len(FINE) * len(MODELS),
        measured=worst,
    )


def square_cube(evidence: Evidence) -> Decision:
    """D4."""
    needed = {model: row(model, "overlapped").Gbit_per_s[-1] for model in MODELS}
    on_grid = {model: printed(row(model, "overlapped").Gbit_per_s_on_grid[-1]) for model in ("1B", "100B")}
    ends = all(on_grid[model] == TABLE_4[model, "overlapped"][-1] for model in on_grid)
    falls = all(small > large for small, large in pairwise(needed.values()))
    return Decision(
        verdict="reproduced" if falls and ends else "partly" if falls else "contradicted",
        found=", ".join(f"{model} {value:.2f}" for model, value in needed.items())
        + f" Gbit/s; on the paper's grid {on_grid['1B']} and {on_grid['100B']}",
        n=len(needed),
        measured=needed["100B"],
        unit="Gbit/s",
    )


def strided(evidence: Evidence) -> Decision:
    """D5."""
    gains: dict[str, float] = {}
    lowest = 0.0
    for model in MODELS:
        gain = curve(model, "streaming") - curve(model, "streaming", pattern="sequential")
        gains[model], lowest = float(gain.max()), min(lowest, float(gain.min()))
    holds = lowest >= -ROUNDING and min(gains.values()) > 0
    return Decision(
        verdict="reproduced" if holds else "contradicted",
        found="largest gain "
        + ", ".join(f"{model} {100 * gain:+.1f}" for model, gain in gains.items())
        + f" points; lowest {100 * lowest:+.2g}",
        n=len(FINE) * len(MODELS),
        measured=max(gains.values()),
        unit="of utilisation",
    )


def by_delay(delays: Sequence[int], Gbit_per_s: float = 5.0) -> dict[int, float]:
    """Overlap tau [inner steps] -> compute utilisation of the 100B model.

    Over three periods, since the last transfer, which nothing hides, weighs less among three than among two.

    Source: arXiv 2501.18512, figure 9.
    """
    layers = equal_layers(**MODELS["100B"])  # type: ignore[arg-type]
    found = {}
    for delay in delays:
        exchanges = schedule(fragments(len(layers)), period=100, delay=delay, rounds=3)
        found[delay] = float(TrainingDag(layers=layers, exchanges=exchanges, steps=300).utilization(Gbit_per_s)[0])
    return found


def longer_delays(evidence: Evidence) -> Decision:
    """D6."""
    found = by_delay((0, 1, 2, 5, 20))
    late, early = found[20] - found[5], found[2] - found[0]
    holds = [late < 0.01, early > 0.2]
    return Decision(
        verdict="reproduced" if all(holds) else "partly" if any(holds) else "contradicted",
        found="at 5 Gbit/s " + ", ".join(f"tau {delay}: {value:.4f}" for delay, value in found.items()),
        n=len(found),
        measured=late,
        unit="of utilisation",
    )


def deepseek(evidence: Evidence) -> Decision:
    """D7."""
    known = PRESETS["deepseek-v3-671B"]
    shape: Mapping[str, Any] = {
        "parameters": known.parameters, "layers": known.layers, "step_time_s": known.step_s
    }  # fmt: skip
    least = required_bandwidth(**shape, **METHODS["overlapped FP4"]).Gbit_per_s[-1]
    most = required_bandwidth(**shape, **METHODS["data-parallel"]).Gbit_per_s[-1]
    holds = [4 / CELL**2 <= least <= 4 * CELL**2, 1000 / CELL**2 <= most <= 1000 * CELL**2]
    return Decision(
        verdict="reproduced" if all(holds) else "partly" if any(holds) else "contradicted",
        found=f"utilisation 99 % at {least:.2f} Gbit/s overlapped FP4 and {most:.0f} Gbit/s data-parallel",
        n=2,
        measured=least,
        unit="Gbit/s",
    )


CLAIMS = (
    Claim(
        id="D1",
        statement="Bandwidths for a compute utilisation of 50, 80, 90, 95 and 99 % are those of table 4.",
        kind="number",
        expected="50 cells (1B and 100B; the 10B rows were not at hand)",
        tolerance="47 of 50 cells equal, all within one cell (factor 1.21); 44 with step times as printed",
        rule="Reproduced if all three hold; partly if every cell is within one of the paper's; else contradicted.",
        parts=(),
        decide=table_4,
    ),
    Claim(
        id="D2",
        statement="Overlapped FP4 Streaming DiLoCo needs hundreds of times less bandwidth than data-parallel training.",
        kind="number",
        expected="at 99 %: 1B 569.0/3.0 = 190, 100B 471.5/1.4 = 337",
        tolerance="one cell of the table on either side",
        rule="Reproduced if both ratios are within two cells (factor 1.46) of the paper's; else contradicted.",
        parts=(),
        decide=bandwidth_ratio,
    ),
    Claim(
        id="D3",
        statement="FP4 <= overlapped <= streaming <= DiLoCo <= data-parallel in the bandwidth needed; only overlap "
        "comes near full utilisation on a slow link.",
        kind="shape",
        expected="the order in every column",
        tolerance="exact",
        rule="Reproduced if the order holds at all 401 bandwidths for three models, and at 5 Gbit/s only the "
        "overlapped methods have 95 % at 100B; partly if one of both; else contradicted.",
        parts=(),
        decide=order,
    ),
    Claim(
        id="D4",
        statement="With overlap, larger models need less bandwidth.",
        kind="shape",
        expected="99 %: 11.0 Gbit/s (1B) to 5.2 Gbit/s (100B)",
        rule="Reproduced if it falls from 1B over 10B to 100B and both printed ends come out; partly if it falls; else "
        "contradicted.",
        parts=(),
        decide=square_cube,
    ),
    Claim(
        id="D5",
        statement="Strided fragments have at least the utilisation of sequential ones.",
        kind="shape",
        expected="figure 7: strided above sequential",
        tolerance="never lower",
        rule="Reproduced if strided is nowhere lower on 401 bandwidths and somewhere higher, for each model; else "
        "contradicted.",
        parts=(),
        decide=strided,
    ),
    Claim(
        id="D6",
        statement="Overlapping more than about 5 inner steps gains no utilisation any more (100B).",
        kind="shape",
        expected="figure 9: saturation near tau = 5",
        tolerance="at 5 Gbit/s tau 5 to 20 gains less than 0.01, tau 0 to 2 more than 0.2",
        rule="Reproduced if both hold; partly if one does; else contradicted.",
        parts=(),
        decide=longer_delays,
    ),
    Claim(
        id="D7",
        statement="DeepSeek-V3's size is trained at nearly full utilisation at 4 Gbit/s, where data-parallel training "
        "needs 1 Tbit/s.",
        kind="number",
        expected="99 % at 4 Gbit/s against 1000 Gbit/s (figure 16)",
        tolerance="two cells (factor 1.46): read off a figure",
        rule="Reproduced if both bandwidths for 99 % are within two cells; partly if one is; else contradicted.",
        parts=(),
        decide=deepseek,
    ),
)
