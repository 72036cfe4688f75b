"""The gossip papers: consensus and mixing against theory, one peer against many, bias, what a step costs."""

from __future__ import annotations

import numpy as np

from analysis.papers.dsgd_aau.gossip_learning import difference
from analysis.papers.dsgd_aau.gossip_rounds import expected_rate
from analysis.papers.dsgd_aau.gossip_time import WITHIN, expected_ratio, ratio
from analysis.papers.dsgd_aau.rules import best_rate, curves, named
from analysis.papers.evidence import Evidence, Missing
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dsgd_aau.drawn import OTHERS, end, interval, over_curves
from reports.papers.forest import Row, forest
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.papers.tables import of_panels, of_rows
from reports.sections.base import Material

FLOOR = 1e-17
"""Where a difference of nothing stands on a logarithmic axis: below the last bit of a number near 1."""
ONE_PEER, STATIC = "one-peer", "static"


def consensus(evidence: Evidence, material: Material) -> PaperFigure:
    """How fast gossip agrees, beside the closed forms; and what one peer per round leaves over.

    Raises:
        Missing: one of the experiments has not been made.
    """
    rows, rounds = evidence.table("consensus"), evidence.table("one-peer-rounds")
    if rows.empty or rounds.empty:
        raise Missing("consensus: the table is empty")
    sizes = sorted({float(n) for n in rows["workers"]})
    lines, known = [], []
    for i, (name, own) in enumerate(rows.sort_values("workers").groupby("topology", sort=True)):
        lines.append(Line(str(name), OTHERS[i], own["workers"], own["rate"], marks=True, joined=False))
        closed = [expected_rate(str(name), int(n)) for n in own["workers"]]
        known.append(Known("closed form", own["workers"], closed, look=OTHERS[i]))
    powers = rounds[(rounds["workers"] & (rounds["workers"] - 1)) == 0].sort_values("workers")
    others = rounds.drop(powers.index).sort_values("workers")
    left = [
        Line(label, OTHERS[5 + i], own["workers"], own["left"].clip(lower=FLOOR), marks=True, joined=False)
        for i, (label, own) in enumerate((("n = 2^k", powers), ("other n", others)))
    ]
    ticks = [n for n in (4, 8, 16, 32, 64) if n <= sizes[-1]]
    x = Axis("workers n", log=True, low=3.4, high=sizes[-1] * 1.2, ticks=ticks)
    parts = [
        Panel(x, Axis("factor per round", low=0.0, high=1.05), lines, known, "fixed graphs"),
        Panel(x, Axis("distance left", log=True, low=FLOOR / 3, high=10), left, (), "one peer, log2 n rounds"),
    ]
    title = t("Consensus against theory: rate on fixed graphs, and exact averages by one peer per round")
    closed = [expected_rate(str(graph), int(n)) for graph, n in zip(rows["topology"], rows["workers"], strict=True)]
    off = float((rows["rate"] - closed).abs().max())
    text = t(
        "Left: the factor by which the distance between models shrinks per round, measured (marks) and in closed form "
        "(dashed): at most {off} apart. Right: what is left of it after ceil(log2 n) rounds on the one-peer "
        "exponential graph: {exact} at powers of two, where Ying et al. have nothing, and {least} or more "
        "elsewhere.",
        off=words.number(off, 1), exact=words.number(float(powers["left"].max()), 1),
        least=words.number(float(others["left"].min()), 2) if len(others) else words.NOTHING,
    )  # fmt: skip
    table = of_panels(
        "aau-consensus", t("Consensus by graph and number of workers"), parts, x=t("Workers"),
        y=t("Factor per round, or distance left"), line=t("Graph"),
    )  # fmt: skip
    svg = panels("aau-consensus", title, "", parts)
    return PaperFigure("aau-consensus", title, svg, text, table, ("C1", "C2"))


def one_peer(evidence: Evidence, material: Material) -> PaperFigure:
    """Accuracy against samples and bytes with one peer per step and with log2 n.

    Raises:
        Missing: the study has not been run with both.
    """
    found = curves(evidence, "one-peer")
    groups = {name: best_rate(named(found, name)) for name in (ONE_PEER, STATIC)}
    if not all(groups.values()):
        raise Missing("one-peer: no runs with one peer, or with all")
    words_of = {ONE_PEER: "one peer per step", STATIC: "log2 n peers"}
    parts = []
    for label, scale, axis in (("thousand samples", 1e3, "samples"), ("MB on the wire", 1e6, "nbytes")):
        lines = [
            over_curves(
                words_of[name], OTHERS[i], [getattr(c, axis) / scale for c in own], [c.accuracy for c in own]
            )
            for i, (name, own) in enumerate(groups.items())
        ]  # fmt: skip
        parts.append(Panel(Axis(label, low=0.0), Axis("held-out accuracy", low=0.0, high=1.0), lines))
    sent = {name: float(np.mean([c.nbytes[-1] for c in own])) for name, own in groups.items()}
    title = t("One peer per step against log2 n: accuracy by samples and by bytes")
    text = t(
        "Exponential graphs of {workers} workers on MNIST, each at the best of the same rates, n = {n} seeds. At the "
        "end one peer has {ours}, log2 n peers {theirs}, at {share} of the bytes. Ying et al. have the two as "
        "accurate, at 1 / log2 n of the bytes.",
        workers=groups[STATIC][0].workers, n=min(len(own) for own in groups.values()),
        ours=interval(end(groups[ONE_PEER])), theirs=interval(end(groups[STATIC])),
        share=words.percent(sent[ONE_PEER] / sent[STATIC]),
    )  # fmt: skip
    table = of_panels(
        "aau-one-peer", t("Accuracy by samples and by bytes"), parts, x=t("Thousand samples, or MB"), y=t("Accuracy"),
        line=t("Graph"), part=t("Against"),
    )  # fmt: skip
    return PaperFigure("aau-one-peer", title, panels("aau-one-peer", title, "", parts), text, table, ("C4",))


def bias(evidence: Evidence, material: Material) -> PaperFigure:
    """Error on unlike quadratics against the learning rate.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("bias")
    if rows.empty:
        raise Missing("bias: the table is empty")
    own = rows[rows["workers"] == rows["workers"].min()].sort_values("lr")
    lines = [
        Line(str(name), OTHERS[i], line["lr"], line["error"].clip(lower=FLOOR), marks=True)
        for i, (name, line) in enumerate(own.groupby("algorithm", sort=True))
    ]
    x = Axis("learning rate", log=True, ticks=sorted({float(v) for v in own["lr"]}))
    parts = [Panel(x, Axis("distance to the minimiser", log=True, low=FLOOR), lines)]
    title = t("What unlike data cost: error of gossip algorithms against the learning rate")
    biased = [line["error"].to_numpy() for name, line in own.groupby("algorithm") if str(name).startswith("d-psgd")]
    halved = [float(ratio) for errors in biased for ratio in errors[:-1] / errors[1:]]
    worst = own[~own["algorithm"].str.startswith("d-psgd")]["error"].max()
    text = t(
        "Quadratics that differ between {n} workers, full gradients. At half the learning rate D-PSGD's distance is "
        "{halved} times as large; D2, exact diffusion and gradient tracking, run at one rate each, end within {worst} "
        "of the minimiser. The papers have a bias in proportion to the rate, and none.",
        halved=words.listed(sorted({words.number(ratio, 2) for ratio in halved})),
        n=int(own["workers"].iloc[0]), worst=words.number(float(worst), 1),
    )  # fmt: skip
    table = of_panels(
        "aau-bias", t("Error on unlike quadratics"), parts, x=t("Learning rate"), y=t("Distance to the minimiser"),
        line=t("Algorithm"),
    )  # fmt: skip
    return PaperFigure("aau-bias", title, panels("aau-bias", title, "", parts), text, table, ("C5",))


def gains(evidence: Evidence, material: Material) -> PaperFigure:
    """Differences in final accuracy between pairs of algorithms, seed by seed, each at its best rate.

    Raises:
        Missing: none of the studies has been run.
    """
    rows = []
    pairs = [("unlike-data", name, "d-psgd", None) for name in ("d2", "exact-diffusion", "gradient-tracking")]
    for part, ours, theirs, tolerance in (
        *pairs, ("one-peer", ONE_PEER, STATIC, (-0.01, 0.01)), ("slow-momentum", "slowmo", "local-sgd", None),
    ):  # fmt: skip
        try:
            found = curves(evidence, part)
        except Missing:
            continue
        gain = difference(best_rate(named(found, ours)), best_rate(named(found, theirs)))
        if gain.n:
            rows.append(
                Row(f"{ours} over {theirs}", gain.mean, gain.low, gain.high, gain.n, tolerance=tolerance)
            )  # fmt: skip
    if not rows:
        raise Missing("unlike-data: no pair of algorithms has been run")
    title = t("Gossip algorithms in pairs: difference in accuracy on MNIST")
    svg = forest("aau-gains", title, "", rows, "difference in held-out accuracy at the end")
    text = t(
        "At equal steps, each algorithm at the best of the same rates; differences seed by seed with their 95 % "
        "interval. Two classes per worker where D-PSGD is the rival; shaded: what still counts as equal. The papers "
        "say that D2, exact diffusion and gradient tracking gain on unlike data, that one peer is as good as log2 n, "
        "and that slow momentum improves local SGD."
    )
    table = of_rows("aau-gains", t("Differences in accuracy"), rows, label=t("Pair"), value=t("Difference"))
    return PaperFigure("aau-gains", title, svg, text, table, ("C4", "C5", "C14"))


def pace(evidence: Evidence, material: Material) -> PaperFigure:
    """Gradients per second of one algorithm over another, on unequal workers and shared networks.

    Raises:
        Missing: one of the experiments has not been made.
    """
    prague, shared = evidence.table("prague"), evidence.table("shared-network")
    one_slow, alike = prague[prague["slow"] > 1], prague[prague["slow"] == 1]
    busy, free = shared[shared["shared"]], shared[~shared["shared"]]
    asked = (
        ("prague / all-reduce, one slow worker", one_slow, "prague", "allreduce-sgd", 4.4),
        ("prague / ad-psgd, equal workers", alike, "prague", "ad-psgd", 3.7),
        ("ad-psgd / all-reduce, shared network", busy, "ad-psgd", "allreduce-sgd", float("nan")),
        ("ad-psgd / d-psgd, shared network", busy, "ad-psgd", "d-psgd", float("nan")),
        ("ad-psgd / all-reduce, equal links", free, "ad-psgd", "allreduce-sgd", float("nan")),
    )
    rows = []
    for label, own, ours, theirs, paper in asked:
        if {ours, theirs} <= set(own["algorithm"]):
            found = ratio(own, ours, theirs)
            rows.append(Row(label, found.mean, found.low, found.high, found.n, paper))
    if not rows:
        raise Missing("prague: no pair of algorithms")
    title = t("Gradients per second on unequal workers and shared networks")
    svg = forest("aau-pace", title, "", rows, "times as many gradients per second", zero=1.0)
    text = t(
        "Virtual time, 16 workers; a slow worker is five times slower, on the shared network the links of two nodes "
        "are ten times slower. Hollow: Luo et al.; Lian et al. have AD-PSGD 4 to 8 times as fast as synchronous "
        "training on shared networks. What a library's locks and sockets cost is not in virtual time."
    )
    table = of_rows("aau-pace", t("Ratios of gradients per second"), rows, label=t("Pair"), value=t("Ratio"))
    return PaperFigure("aau-pace", title, svg, text, table, ("C11", "C12"))


def crossover(evidence: Evidence, material: Material) -> PaperFigure:
    """Time of a step of all-reduce over that of gossip, measured against the formula.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("crossover")
    if rows.empty:
        raise Missing("crossover: the table is empty")
    columns = (rows["workers"], rows["latency_s"], rows["transfer_s"])
    rows = rows.assign(
        expected=[expected_ratio(*point) for point in zip(*columns, strict=True)],
        measured=rows["allreduce_s"] / rows["gossip_s"],
    )
    lines = [
        Line(f"n = {n}", OTHERS[i], own["expected"], own["measured"] / own["expected"], marks=True, joined=False)
        for i, (n, own) in enumerate(rows.groupby("workers", sort=True))
    ]
    low, high = rows["expected"].min() / 1.3, rows["expected"].max() * 1.3
    known = (Known("as the formula says", [low, high], [1, 1]),)
    x = Axis("all-reduce over gossip, by the formula", log=True, low=low, high=high)
    y = Axis("measured over the formula", low=0.75, high=1.25)
    parts = [Panel(x, y, lines, known, bands=((1 - WITHIN, 1 + WITHIN),))]
    off = float((rows["measured"] / rows["expected"] - 1).abs().max())
    title = t("Time of a step of all-reduce over that of gossip on a ring: measured against the formula")
    text = t(
        "Every point is a network: latencies and bandwidths over three decades. Right of 1 gossip is faster; shaded: "
        "within 5 % of the formula. The farthest is {off} off. Low bandwidth alone does not favour gossip, "
        "as it sends two models a step and a ring all-reduce less than two; latency does.",
        off=words.percent(off),
    )
    table = of_panels(
        "aau-crossover",
        t("Ratio of times per step"),
        parts,
        x=t("By the formula"),
        y=t("Measured over the formula"),
        line=t("Workers"),
    )
    return PaperFigure("aau-crossover", title, panels("aau-crossover", title, "", parts), text, table, ("C16",))


FIGURES: tuple[Draw, ...] = (consensus, one_peer, bias, gains, pace, crossover)
