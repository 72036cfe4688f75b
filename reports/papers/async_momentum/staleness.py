"""How stale gradients are, the mean path that follows from it, and the momentum that can be measured in it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.asynchrony.law import WARM_UP
from analysis.asynchrony.mean_path import heavy_ball_path, staleness_path
from analysis.asynchrony.recorded import center_writes
from analysis.asynchrony.server import quadratic
from analysis.papers.async_momentum.mean_path import STEADY, at_share, staleness_counts
from analysis.papers.async_momentum.sensors import FITTED, readings
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import mean_over_runs
from analysis.theory.delays import constant_limit
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.lines import Axis, Known, Line, Panel, over_seeds, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.style import LOOKS

SHARE = 0.25
"""Of the largest stable rate: the middle one of the three at which the rule compares mean paths."""
LAWS = {"normal": "N(1, 0.3²) times", "fixed": "equal times"}


def law(evidence: Evidence, material: Material) -> PaperFigure:
    """The law of the staleness with memoryless workers beside the geometric one.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("staleness")
    if rows.empty:
        raise Missing("staleness: the table is empty")
    lines, known, means = [], [], []
    for i, (workers, own) in enumerate(rows.groupby("workers", sort=True)):
        m, own = int(str(workers)), own.sort_values("staleness")
        share = own["gradients"] / own["gradients"].sum()
        seen = own["gradients"] >= LEAST
        tau = own["staleness"].to_numpy(dtype=np.float64)
        look = LOOKS[1 + i % 9]
        lines.append(Line(f"M = {m}", look, tau[seen], share[seen], n=int(own["gradients"].sum())))
        known.append(Known("(1/M) (1 - 1/M)^l", tau[seen], (1 / m) * (1 - 1 / m) ** tau[seen], look=look))
        means.append(f"{float((tau * share).sum()):.3f} (M = {m})")
    parts = [Panel(Axis("staleness l [writes]", low=0.0), Axis("share of the gradients", log=True), lines, known)]
    title = t("Staleness with memoryless workers against the geometric law (theorem 5)")
    text = t(
        "Thick: counted in {n} gradients and more for each M, where at least {least} have a staleness; thin: the "
        "law. Mean staleness {means}; M - 1 is expected.",
        n=f"{min(line.n for line in lines):,}", least=LEAST, means=words.commas(means),
    )  # fmt: skip
    table = of_panels(
        "async-law", t("Share of the gradients by staleness"), parts, x=t("Staleness"), y=t("Share"), line=t("Workers")
    )
    return PaperFigure("async-law", title, panels("async-law", title, "", parts), text, table, ("B1",))


LEAST = 20
"""Gradients below which a share is not drawn: fewer say little of it."""


def ranks(evidence: Evidence, material: Material) -> PaperFigure:
    """The staleness on real MPI ranks.

    Raises:
        Missing: the study has not been run.
    """
    results = evidence.with_events("mpi-staleness")
    done = results.runs[results.runs["status"] == "completed"]
    writes = center_writes(results.events, done)
    if writes.empty:
        raise Missing("mpi-staleness: no write of a server")
    sizes = dict(zip(done["run_id"].astype(str), done["workers"], strict=True))
    shares: dict[int, list[pd.Series]] = {}
    for run_id, own in writes.groupby("run_id", observed=True):
        m = int(sizes[str(run_id)])
        late = own["staleness_updates"].iloc[WARM_UP * m :]
        shares.setdefault(m, []).append(late.value_counts(normalize=True))
    parts, said = [], []
    for m, runs in sorted(shares.items()):
        most = max(3 * m, 4)
        across = np.arange(most + 1)
        heights = [mean_over_runs([float(run.get(tau, 0.0)) for run in runs]) for tau in across]
        measured = over_seeds("MPI ranks", LOOKS[1], across, heights, marks=True)
        memoryless = Known("geometric", across, (1 / m) * (1 - 1 / m) ** across)
        parts.append(Panel(Axis("staleness [writes]", low=-0.3), Axis("share of the gradients", low=0.0, high=1.0),
                           [measured], (memoryless,), f"M = {m}"))  # fmt: skip
        mean = mean_over_runs([float((run.index.to_numpy() * run.to_numpy()).sum()) for run in runs])
        said.append(f"{mean.mean:.3f} (M = {m}, n = {mean.n})")
    title = t("Staleness on real MPI ranks: the mean is M - 1, the law need not be geometric")
    text = t(
        "Share of the gradients at each staleness, with its interval over the runs, beside the law of memoryless "
        "workers (dashed). Mean staleness {means}. Workers with equal compute times would write in turn, "
        "and every gradient be M - 1 writes old.",
        means=words.commas(said),
    )
    table = of_panels(
        "async-ranks", t("Share of the gradients by staleness, MPI"), parts, x=t("Staleness"), y=t("Share"),
        part=t("Workers"),
    )  # fmt: skip
    return PaperFigure("async-ranks", title, panels("async-ranks", title, "", parts), text, table, ("B2",))


def _from_to(low: int, high: int) -> str:
    return f"{low:,}" if low == high else t("{low} to {high}", low=f"{low:,}", high=f"{high:,}")


def paths(evidence: Evidence, material: Material) -> PaperFigure:
    """The mean path of the center beside heavy ball, and beside theorem 2 for other compute times.

    Raises:
        Missing: one of the experiments has not been made.
    """
    random, other = evidence.table("mean-path"), evidence.table("other-laws")
    lines, known, counts, off = [], [], [], 0.0
    own = random[(random["momentum"] == 0) & (random["workers"] > 1)]
    for i, (workers, rows) in enumerate(own.groupby("workers", sort=True)):
        m, path = int(str(workers)), at_share(rows, SHARE)
        counts.append(runs := int(path["runs"].iloc[0]))
        a = float(path["a"].iloc[0])
        ball = heavy_ball_path(quadratic([a]), [1.0], writes=len(path) - 1, lr=1.0, implicit=1 - 1 / m)[:, 0]
        lines.append(Line(f"M = {m}", LOOKS[1 + i], path["write"], path["mean"], n=runs))
        known.append(Known("heavy ball, 1 - 1/M", path["write"], ball))
        off = max(off, float(np.abs(path["mean"].to_numpy() - ball).max()))
    if not lines or other.empty:
        raise Missing("mean-path: the table is empty")
    y = Axis("mean distance, start = 1")
    parts = [Panel(Axis("writes", low=0.0), y, lines, known, "memoryless")]
    m, of_ball, of_theorem = int(other["workers"].min()), 0.0, 0.0
    for name, label in LAWS.items():
        rows = other[(other["law"] == name) & (other["workers"] == m)]
        if rows.empty:
            continue
        a = float(rows.loc[rows["a"] <= STEADY * constant_limit(m - 1), "a"].max())
        path = rows[rows["a"] == a].sort_values("write")
        across, count = path["write"], len(path) - 1
        ball = heavy_ball_path(quadratic([a]), [1.0], writes=count, lr=1.0, implicit=1 - 1 / m)[:, 0]
        theorem = staleness_path(quadratic([a]), [1.0], staleness_counts(rows), lr=1.0, writes=count)[:, 0]
        line = Line(f"M = {m}, {label}", LOOKS[7 if name == "fixed" else 8], across, path["mean"])
        of_ball = max(of_ball, float(np.abs(path["mean"].to_numpy() - ball).max()))
        of_theorem = max(of_theorem, float(np.abs(path["mean"].to_numpy() - theorem).max()))
        counted = Known("theorem 2, counted law", across[::3], theorem[::3], points=True)
        known = [Known("heavy ball, 1 - 1/M", across, ball), counted]
        parts.append(Panel(Axis("writes", low=0.0), y, [line], known, label))
    title = t("Mean path of the parameters: heavy ball, where workers are memoryless (theorems 2 and 3)")
    text = t(
        "Left: the mean over {runs} runs at a quarter of the largest stable rate, at most {off} of the start off heavy "
        "ball with momentum 1 - 1/M (dashed). Further on, other compute times of the same mean, at three quarters of "
        "the stable rate: up to {ball} off heavy ball, and at most {theorem} off theorem 2 with the staleness as it "
        "was counted (hollow).",
        runs=_from_to(min(counts), max(counts)), off=words.number(off, 2),
        ball=words.number(of_ball, 2), theorem=words.number(of_theorem, 2),
    )  # fmt: skip
    table = of_panels(
        "async-paths", t("Mean path by write"), parts, x=t("Writes"), y=t("Mean distance, start = 1"),
        part=t("Compute times"),
    )  # fmt: skip
    return PaperFigure("async-paths", title, panels("async-paths", title, "", parts), text, table, ("B3", "B4"))


def sensors(evidence: Evidence, material: Material) -> PaperFigure:
    """Implicit momentum as two instruments read it, beside 1 - 1/M.

    Raises:
        Missing: the experiment has not been made.
    """
    found = readings(evidence)
    if not found:
        raise Missing("trajectories: the table is empty")
    lines = []
    for label, kind, look, aside in (
        ("sensor, one run without noise", "noiseless", LOOKS[1], 1 / 1.03),
        ("least squares over runs with noise", "noisy", LOOKS[2], 1.03),
    ):
        own = sorted((one for one in found if one.kind == kind), key=lambda one: one.workers)
        if own:
            lines.append(
                Line(label, look, [aside * one.workers for one in own], [one.implicit for one in own],
                     [one.low for one in own], [one.high for one in own], n=min(one.runs for one in own), marks=True,
                     joined=False)
            )  # fmt: skip
    sizes = sorted({one.workers for one in found})
    across = np.geomspace(sizes[0] / 1.3, sizes[-1] * 1.3, 60)
    x = Axis("workers M", log=True, low=float(across[0]), high=float(across[-1]), ticks=sizes)
    parts = [
        Panel(x, Axis("implicit momentum", low=0.0, high=1.05), lines, (Known("1 - 1/M", across, 1 - 1 / across),))
    ]
    title = t("Implicit momentum, measured: 1 - 1/M with M memoryless workers (theorem 6)")
    text = t(
        "Read off the path of the server's parameters on a quadratic: {each}. Two points of one M stand beside each "
        "other. The fit is judged from M = {fitted} on.",
        each=words.commas([f"{words.number(one.implicit)} (M = {one.workers}, n = {one.runs})" for one in found]),
        fitted=FITTED,
    )  # fmt: skip
    table = of_panels(
        "async-sensors", t("Implicit momentum by workers"), parts, x=t("Workers"), y=t("Implicit momentum"),
        line=t("Instrument"),
    )  # fmt: skip
    return PaperFigure("async-sensors", title, panels("async-sensors", title, "", parts), text, table, ("B9",))


FIGURES: tuple[Draw, ...] = (law, ranks, paths, sensors)
