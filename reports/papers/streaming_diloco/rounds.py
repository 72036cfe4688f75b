"""Few bits and few values, missed rounds, late and missing updates, and how alike replicas move."""

from __future__ import annotations

import math

from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.compare import final, gap, mean_loss, of_variant
from analysis.papers.streaming_diloco.rounds import best
from analysis.statistics import mean_over_runs
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.forest import Row, forest
from reports.papers.lines import Axis, Known, Panel, over_seeds, panels
from reports.papers.streaming_diloco.drawn import HERE, between, of_gaps, row, said
from reports.papers.tables import of_panels, of_rows
from reports.sections.base import Material
from reports.style import LOOKS

DROPS = (0.1, 0.3, 0.5)
AT_MOST_2 = (-math.inf, 2.0)
"""What claim D22 accepts [%]."""


def formats(evidence: Evidence, material: Material) -> PaperFigure:
    """Wire formats against 32 bits, and dropped values against 4 bits.

    Raises:
        Missing: one of the parts has not been run.
    """
    exact, fp4 = (final(evidence, "methods", label) for label in ("overlapped", "overlapped-fp4"))
    rows = [
        row(name, between(evidence, "methods", f"overlapped-{name}", exact),
            tolerance=(-math.inf, 0.5) if name == "fp4" else None)
        for name in ("bf16", "fp8", "fp4")
    ]  # fmt: skip
    names = {"random": "random values", "rescaled": "random, rescaled", "largest": "largest values"}
    rows += [row(label, gap(of_variant(evidence, "dropped-values", name), fp4)) for name, label in names.items()]
    title = t("Few bits and few values: loss over that of 32 bits, or of 4 bits (figure 11)")
    svg = forest("diloco-formats", title, "", rows, "difference in loss [%]")
    text = t(
        "The first three against 32 bits a value; the last three send a few values at as many bytes as fp4 and are "
        "compared with it. Seed by seed, n = {n}; shaded: what claim D19 accepts for fp4. In the paper formats make no "
        "difference, and dropping values is worse, at random worst.",
        n=min(one.n for one in rows),
    )
    table = of_rows("diloco-formats", t("Loss by wire format"), rows, label=t("Format"), value=t("Difference [%]"))
    return PaperFigure("diloco-formats", title, svg, text, table, ("D19",))


def drops(evidence: Evidence, material: Material) -> PaperFigure:
    """Perplexity against the share of rounds that a worker misses.

    Raises:
        Missing: the study has not been run.
    """
    base = final(evidence, "drops", "diloco", "by-role")
    gaps = [gap(final(evidence, "drops", f"dropping@drop={q}"), base, perplexity=True) for q in DROPS]
    alike = gap(base, final(evidence, "drops", "diloco", "random"), perplexity=True)
    if not min([alike.n, *(found.n for found in gaps)]):
        raise Missing("drops: no seed in common, or the baseline diverged")
    line = of_gaps("shares by role", HERE, [100 * q for q in DROPS], gaps)
    paper = Known("in the paper", [50], [2.1], points=True)
    x = Axis("rounds missed [%]", low=0.0, high=56, ticks=(0, 10, 30, 50))
    none = Known("none missed", [0, 56], [0, 0])
    parts = [Panel(x, Axis("perplexity over none missed [%]"), [line], (paper, none), bands=((0.0, 5.0),))]
    title = t("Rounds that workers miss: perplexity against the share (arXiv 2311.08105)")
    text = t(
        "Against the same run without missed rounds, seed by seed (n = {n}): {each}; shaded: up to the 5 % that claim "
        "D23 accepts at 50 %. The paper has +2.1 % there. Shares by role against random shares, none missed: {alike}.",
        n=line.n,
        each=words.commas([f"{said(found)} ({100 * q:.0f} %)" for q, found in zip(DROPS, gaps, strict=True)]),
        alike=said(alike),
    )
    table = of_panels(
        "diloco-drops", t("Perplexity by missed rounds"), parts, x=t("Rounds missed [%]"), y=t("Difference [%]")
    )
    return PaperFigure("diloco-drops", title, panels("diloco-drops", title, "", parts), text, table, ("D23", "D28"))


def variants(evidence: Evidence, material: Material) -> PaperFigure:
    """Everything else that is compared with a synchronous, whole, Nesterov-stepped DiLoCo.

    Raises:
        Missing: none of it has been run.
    """
    rows: list[Row] = []
    claims: list[str] = []
    for claim, collect in (("D21", _late), ("D22", _asynchronous), ("D25", _outer), ("D29", _frozen)):
        try:
            rows += collect(evidence)
        except Missing:
            continue
        claims.append(claim)
    if not rows:
        raise Missing("eager: no variant of DiLoCo has been run")
    title = t("Variants of DiLoCo: late, asynchronous, with another outer optimiser, with frozen fragments")
    svg = forest("diloco-variants", title, "", rows, "loss over that of its baseline [%]")
    text = t(
        "Each against what it is a variant of, seed by seed with its 95 % interval; grids at their best outer rate. "
        "Hollow: what the papers print, on their models. They have naive delays bad and eager ones nearly harmless, "
        "asynchronous DiLoCo worse until Nesterov's momentum is delayed, other outer optimisers worse than Nesterov's, "
        "and freezing what is not exchanged bad."
    )
    table = of_rows("diloco-variants", t("Loss of variants"), rows, label=t("Variant"), value=t("Difference [%]"))
    return PaperFigure("diloco-variants", title, svg, text, table, tuple(claims))


PRINTED = {"naive": 3.01 / 2.67 - 1, "naive-lowered": 2.73 / 2.67 - 1, "eager": 2.69 / 2.67 - 1}
"""arXiv 2502.12996: losses a round late over those without overlap, relative."""
FROZEN = 3.2145 / 2.6749 - 1
"""arXiv 2501.18512: loss with frozen layers over that of Streaming DiLoCo, relative."""


def _late(evidence: Evidence) -> list[Row]:
    base = final(evidence, "methods", "diloco")
    names = {"naive": "a round late, naive", "naive-lowered": "naive, lower rate", "eager": "a round late, eager"}
    return [
        row(label, between(evidence, "eager", name, base), paper=100 * PRINTED[name]) for name, label in names.items()
    ]


def _asynchronous(evidence: Evidence) -> list[Row]:
    _, base = best(evidence, "asynchronous", "synchronous")
    names: dict[str, tuple[str, tuple[float, float] | None]] = {
        "naive": ("asynchronous, Nesterov", None),
        "delayed": ("asynchronous, delayed Nesterov", AT_MOST_2),
        "delayed-dylu": ("the same, unequal speeds, DyLU", AT_MOST_2),
    }
    return [
        row(label, gap(best(evidence, "asynchronous", name)[1], base), tolerance=tolerance)
        for name, (label, tolerance) in names.items()
    ]


def _outer(evidence: Evidence) -> list[Row]:
    candidates = [final(evidence, "methods", "diloco"), best(evidence, "outer", "nesterov")[1]]
    base = min(candidates, key=mean_loss)
    names = {"sgd": "outer SGD", "adam": "outer Adam"}
    return [row(label, gap(best(evidence, "outer", name)[1], base)) for name, label in names.items()]


def _frozen(evidence: Evidence) -> list[Row]:
    found = gap(of_variant(evidence, "frozen", "frozen"), final(evidence, "methods", "streaming"))
    return [row("other fragments frozen", found, paper=100 * FROZEN)]


def models(evidence: Evidence, material: Material) -> PaperFigure:
    """Which model is evaluated, and when is computed: differences that the papers say are small or none.

    Raises:
        Missing: neither has been run.
    """
    rows: list[Row] = []
    claims = []
    for claim, part, pairs, tolerance in (
        ("D20", "models", (("mean", "outer"), ("replica", "mean")), None),
        ("D24", "pools", (("doubling", "halving"), ("ramp-up", "ramp-down")), (-2.0, 2.0)),
    ):
        try:
            found = [gap(of_variant(evidence, part, a), of_variant(evidence, part, b)) for a, b in pairs]
        except Missing:
            continue
        rows += [
            row(
                f"{NAMED.get(a, a)} over {NAMED.get(b, b)}",
                one,
                paper=PAPER_MODELS.get(a, math.nan),
                tolerance=tolerance,
            )
            for (a, b), one in zip(pairs, found, strict=True)
        ]
        claims.append(claim)
    if not rows:
        raise Missing("models: neither the models nor the pools have been compared")
    title = t("Which model is evaluated, and whether workers come early or late")
    svg = forest("diloco-models", title, "", rows, "difference in loss [%]")
    text = t(
        "Outer model, mean of the replicas and one replica after the same training; pools of workers that grow and "
        "shrink with the same computing in all. Seed by seed, n = {n}; hollow: 2.67, 2.68 and 2.77 in the paper; "
        "shaded: what claim D24 accepts. The papers have the outer model best, and the end independent of "
        "when is computed.",
        n=min(one.n for one in rows),
    )
    table = of_rows("diloco-models", t("Loss by model and by pool"), rows, label=t("Pair"), value=t("Difference [%]"))
    return PaperFigure("diloco-models", title, svg, text, table, tuple(claims))


NAMED = {"outer": "outer model", "mean": "mean of replicas", "replica": "one replica"}
PAPER_MODELS = {"mean": 100 * (2.68 / 2.67 - 1), "replica": 100 * (2.77 / 2.68 - 1)}
"""arXiv 2501.18512: losses of the three models, relative [%]."""


def cosines(evidence: Evidence, material: Material) -> PaperFigure:
    """How alike the replicas' outer gradients are, round by round.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("cosines")
    blocks = rows[rows["block"] >= 0]
    if blocks.empty:
        raise Missing("cosines: the table has no layer")
    first, others = blocks[blocks["block"] == 0], blocks[blocks["block"] > 0]
    lines = []
    for label, own, look in (("first layer", first, LOOKS[2]), ("other layers", others, LOOKS[1])):
        by_round = own.groupby(["round", "seed"])["cosine"].mean().groupby(level="round")
        means = [mean_over_runs(values.to_numpy()) for _, values in by_round]
        lines.append(over_seeds(label, look, sorted(own["round"].unique()), means))
    last = int(blocks["rounds"].max())
    paper = Known("in the paper, about", [1, last / 2, last], [0.1, 0.0, -0.1], points=True)
    parts = [Panel(Axis("round", low=0.0), Axis("cosine"), lines, (paper, Known("", [0, last], [0, 0])))]
    ends = [blocks[blocks["round"] <= last / 3], blocks[blocks["round"] > 2 * last / 3]]
    means = [mean_over_runs(own.groupby("seed")["cosine"].mean().to_numpy()) for own in ends]
    title = t("Angle between the replicas' outer gradients, round by round (figures 17 and 18)")
    text = t(
        "Cosine of the two replicas' outer gradients, mean over layers, band: 95 % interval over {n} seeds. {first} in "
        "the first third of the rounds, {last} in the last. The paper's begin near 0.1, are near 0 for most of the "
        "training and end near -0.1; its models are larger, and larger ones have lower cosines.",
        n=lines[0].n, first=words.number(means[0].mean), last=words.number(means[1].mean),
    )  # fmt: skip
    table = of_panels("diloco-cosines", t("Cosine by round"), parts, x=t("Round"), y=t("Cosine"), line=t("Layer"))
    return PaperFigure("diloco-cosines", title, panels("diloco-cosines", title, "", parts), text, table, ("D27",))


FIGURES: tuple[Draw, ...] = (formats, drops, variants, models, cosines)
