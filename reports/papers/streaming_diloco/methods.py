"""The loss of the methods against tokens and against seconds, and over size, replicas, period and overlap."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.curves import over_runs
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.compare import Gap, final, gap
from analysis.papers.streaming_diloco.methods import PERIODS, SIZES
from analysis.papers.streaming_diloco.printed import GAP_BY_REPLICAS
from analysis.papers.streaming_diloco.speed import METHODS as RACED
from analysis.papers.streaming_diloco.speed import NETWORKS, gain, seconds_to_loss
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.forest import forest
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.papers.streaming_diloco.drawn import HERE, METHODS, between, of_gaps, per_cent, row, said
from reports.papers.tables import of_panels, of_rows
from reports.sections.base import Material

TOKENS = 32
"""Characters of a sequence, which is a sample."""
LOSS = "held-out loss [nat]"
JUDGED = (("diloco", "data-parallel"), ("overlapped-fp4", "diloco"), ("overlapped-fp4-H100", "overlapped-fp4"))
"""Pairs of methods that claims D12, D13 and D14 compare."""


def tokens(evidence: Evidence, material: Material) -> PaperFigure:
    """Loss against tokens.

    Raises:
        Missing: the study has not been run, or without the baseline.
    """
    results = evidence.results("methods")
    means = _means(results.heldout, results.runs)
    lines = []
    for label, look in METHODS.items():
        own = means[(means["label"] == label) & (means["snapshot"] > 0)]
        if len(own):
            lines.append(Line(label, look, own["samples"] * TOKENS / 1e3, own["mean"], own["low"], own["high"],
                              n=int(own["n"].min())))  # fmt: skip
    if not lines:
        raise Missing("methods: no snapshot of a method")
    drawn = {line.label for line in lines}
    each = []
    for ours, theirs in JUDGED:
        if {ours, theirs} <= drawn:
            found = between(evidence, "methods", ours, final(evidence, "methods", theirs))
            each.append(t("{ours} against {theirs} {difference}", ours=ours, theirs=theirs, difference=said(found)))
    whole = Panel(Axis("thousand characters", low=0.0), Axis(LOSS), lines, (), "from the start")
    late = [_later(line) for line in lines]
    levels = np.concatenate([np.asarray(line.y, dtype=np.float64) for line in late])
    room = 0.06 * float(np.ptp(levels)) or 0.1
    y = Axis(LOSS, low=float(levels.min()) - room, high=float(levels.max()) + room)
    parts = [whole, Panel(Axis("thousand characters"), y, late, (), "the last half")]
    title = t("Loss against tokens: data-parallel, DiLoCo, Streaming, overlapped and in 4 bits")
    text = t(
        "shakespeare-gpt with 55k parameters, two workers, mean over {n} seeds with its 95 % interval. At the end, "
        "seed by seed: {each}. The paper has Streaming and DiLoCo within 0.01 of each "
        "other and H = 100 0.02 to 0.03 above, on far larger models.",
        n=min(line.n for line in lines), each=words.commas(each),
    )  # fmt: skip
    table = of_panels(
        "diloco-tokens", t("Loss by tokens"), [whole], x=t("Thousand characters"), y=t("Held-out loss [nat]"),
        line=t("Method"),
    )  # fmt: skip
    return PaperFigure(
        "diloco-tokens", title, panels("diloco-tokens", title, "", parts), text, table, ("D13", "D14")
    )  # fmt: skip


def _means(heldout: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    return over_runs(heldout, runs, "heldout_loss").sort_values("snapshot")


def _later(line: Line) -> Line:
    """The second half of a line."""
    rows = line.frame()
    own = rows[rows["x"] >= rows["x"].iloc[-1] / 2]
    return Line(line.label, line.look, own["x"], own["y"], own["low"], own["high"], n=line.n)


def networks(evidence: Evidence, material: Material) -> PaperFigure:
    """Loss against seconds on three networks.

    Raises:
        Missing: the study is not whole.
    """
    seconds = seconds_to_loss(evidence)
    results = evidence.results("networks")
    means = _means(results.heldout, results.runs)
    parts, told = [], []
    for network in NETWORKS:
        lines = []
        for method in RACED:
            own = means[(means["workload"] == network) & (means["label"] == method) & (means["snapshot"] > 0)]
            lines.append(Line(method, METHODS[method], own["t_s"], own["mean"], own["low"], own["high"],
                              n=int(own["n"].min())))  # fmt: skip
        parts.append(Panel(Axis("virtual seconds", log=True), Axis(LOSS), lines, (), network))
        times = {method: gain(seconds[network], method) for method in RACED[1:]}
        each = words.commas([f"{m} {words.number(math.exp(mean.mean))}" for m, mean in times.items()])
        told.append(t("{network}: {each}", network=network, each=each))
    title = t("Loss against seconds on three networks (figure 6 of arXiv 2503.09799)")
    text = t(
        "A data-parallel transfer takes 0.4, 1.6 and 16 times a step's computing, as 1e9 parameters do on 400, 100 and "
        "10 Gbit/s. Time of data-parallel training to the same loss over that of the others: {each} (n = {n} seeds). "
        "The slower the network, the more the methods should gain.",
        each="; ".join(told), n=min(line.n for part in parts for line in part.lines),
    )  # fmt: skip
    table = of_panels(
        "diloco-networks", t("Loss by seconds on three networks"), parts, x=t("Virtual seconds"),
        y=t("Held-out loss [nat]"), line=t("Method"), part=t("Network"),
    )  # fmt: skip
    svg = panels("diloco-networks", title, "", parts)
    return PaperFigure("diloco-networks", title, svg, text, table, ("D30",))


def sizes(evidence: Evidence, material: Material) -> PaperFigure:
    """DiLoCo's distance to data-parallel training at three sizes.

    Raises:
        Missing: one of the studies has not been run.
    """
    gaps = {}
    for size in SIZES:
        part, workload = ("methods", None) if size == "middle" else ("sizes", size)
        gaps[size] = between(evidence, part, "diloco", final(evidence, part, "data-parallel", workload), workload)
    names = {"small": "14k parameters", "middle": "55k parameters", "large": "210k parameters"}
    rows = [
        row(names[size], found, tolerance=(0.0, 5.0) if size == "large" else None) for size, found in gaps.items()
    ]  # fmt: skip
    title = t("DiLoCo against data-parallel training at three sizes, two replicas, H = 30")
    svg = forest("diloco-sizes", title, "", rows, "loss over data-parallel's [%]")
    text = t(
        "Differences seed by seed with their 95 % interval: {each}. The paper has +0.9 % at 35 million parameters and "
        "0 at a billion; shaded: what claim D12 accepts at the largest size here.",
        each=words.commas([f"{said(found)} ({names[size]})" for size, found in gaps.items()]),
    )
    table = of_rows(
        "diloco-sizes", t("Loss over data-parallel's by size"), rows, label=t("Model"), value=t("Difference [%]")
    )
    return PaperFigure("diloco-sizes", title, svg, text, table, ("D12",))


def replicas(evidence: Evidence, material: Material) -> PaperFigure:
    """DiLoCo's distance to data-parallel training against the number of replicas.

    Raises:
        Missing: one of the studies has not been run.
    """
    base = final(evidence, "replicas-1", "data-parallel")
    gaps = {
        m: between(evidence, "methods" if m == 2 else f"replicas-{m}", "diloco", base) for m in GAP_BY_REPLICAS
    }  # fmt: skip
    counts = [float(m) for m in gaps]
    line = of_gaps("here", HERE, counts, list(gaps.values()))
    paper = Known("in the paper, 35M", counts, list(GAP_BY_REPLICAS.values()), points=True)
    x = Axis("replicas M", log=True, low=0.85, high=9.4, ticks=counts)
    parts = [Panel(x, Axis("loss over data-parallel's [%]"), [line], (paper, Known("", [0.85, 9.4], [0, 0])))]
    title = t("More replicas on equal tokens: loss over data-parallel training")
    text = t(
        "The same tokens and the same batch of all replicas together, n = {n} seeds: {each}. The paper (arXiv "
        "2503.09799, table 4) has {paper} with 1, 2, 4 and 8 replicas at 35 million parameters.",
        n=line.n, each=words.commas([f"{said(found)} (M = {m})" for m, found in gaps.items()]),
        paper=words.commas([f"{v:+.1f}\u00a0%" for v in GAP_BY_REPLICAS.values()]),
    )  # fmt: skip
    table = of_panels(
        "diloco-replicas", t("Loss over data-parallel's by replicas"), parts, x=t("Replicas"), y=t("Difference [%]")
    )
    svg = panels("diloco-replicas", title, "", parts)
    return PaperFigure("diloco-replicas", title, svg, text, table, ("D15", "D16"))


def periods(evidence: Evidence, material: Material) -> PaperFigure:
    """The loss of DiLoCo against H, over that at H = 10.

    Raises:
        Missing: one of the studies has not been run.
    """
    losses = {
        period: final(evidence, "methods", "diloco")
        if period == 30
        else final(evidence, "periods", f"diloco@period={period}")
        for period in PERIODS
    }
    gaps = {period: gap(own, losses[10]) for period, own in losses.items()}
    if not min(found.n for found in gaps.values()):
        raise Missing("periods: no seed in common, or H = 10 diverged")
    counts = [float(period) for period in gaps]
    line = of_gaps("DiLoCo", METHODS["diloco"], counts, list(gaps.values()))
    x = Axis("period H [inner steps]", log=True, low=0.8, high=125, ticks=counts)
    parts = [Panel(x, Axis("loss over that at H = 10 [%]"), [line], (Known("", [0.8, 125], [0, 0]),))]
    title = t("Loss against the period H with a fixed outer rate")
    text = t(
        "Two replicas, the same tokens and outer rate, differences seed by seed (n = {n}): {each}. The papers have "
        "H = 1 worst and the loss rising slowly beyond the best H.",
        n=line.n, each=words.commas([f"{per_cent(found.mean)} (H = {h})" for h, found in gaps.items() if h != 10]),
    )  # fmt: skip
    table = of_panels("diloco-periods", t("Loss by period"), parts, x=t("Period H"), y=t("Difference [%]"))
    svg = panels("diloco-periods", title, "", parts)
    return PaperFigure("diloco-periods", title, svg, text, table, ("D26",))


def delays(evidence: Evidence, material: Material) -> PaperFigure:
    """The loss of Streaming DiLoCo against the overlap tau.

    Raises:
        Missing: one of the studies has not been run.
    """
    base = final(evidence, "methods", "streaming")
    gaps: dict[int, Gap] = {1: between(evidence, "methods", "overlapped", base)}
    gaps |= {tau: between(evidence, "delays", f"overlapped@delay={tau}", base) for tau in (2, 5, 10, 20)}
    replaced = between(evidence, "delays", "replaced", base)
    unequal = between(evidence, "delays", "unequal", base)
    judged = between(evidence, "delays", "unequal", final(evidence, "methods", "overlapped"))  # as claim D18 does
    counts = [float(tau) for tau in gaps]
    halves = of_gaps("alpha = 0.5", METHODS["overlapped"], counts, list(gaps.values()))
    whole = of_gaps("alpha = 0, tau = 5", METHODS["diloco"], [5.35], [replaced])
    two = of_gaps("tau = 1 and 5", METHODS["overlapped-fp4-H100"], [1.4], [unequal])
    x = Axis("overlap tau [inner steps]", log=True, low=0.85, high=23.5, ticks=counts)
    none = Known("no overlap", [0.85, 23.5], [0, 0])
    parts = [Panel(x, Axis("loss over no overlap's [%]"), [halves, whole, two], (none,), bands=((-1.0, 1.0),))]
    title = t("Overlap of the exchange with training: loss against tau (figures 8 and 10)")
    text = t(
        "Streaming DiLoCo against itself without overlap, seed by seed (n = {n}): {each}; tau = 5 with alpha = 0 "
        "{replaced}; tau = 1 on one worker and 5 on the other, against 1 on both, {unequal}. Shaded: within 1 %; "
        "claims D17 and D18 ask only that overlap is not worse. The paper has less than 0.2 % up to tau = 10.",
        n=halves.n, each=words.commas([f"{said(found)} (tau = {tau})" for tau, found in gaps.items()]),
        replaced=said(replaced), unequal=said(judged),
    )  # fmt: skip
    table = of_panels("diloco-delays", t("Loss by overlap"), parts, x=t("Overlap tau"), y=t("Difference [%]"))
    svg = panels("diloco-delays", title, "", parts)
    return PaperFigure("diloco-delays", title, svg, text, table, ("D17", "D18"))


FIGURES: tuple[Draw, ...] = (tokens, networks, sizes, replicas, periods, delays)
