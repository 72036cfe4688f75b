"""The gossip papers' limits: messages behind gradients, how much may be left out of them, unequal speeds."""

from __future__ import annotations

import math

import numpy as np

from analysis.papers.dsgd_aau.gossip_limits import CHOCO
from analysis.papers.evidence import Evidence, Missing
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dsgd_aau.drawn import OTHERS
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material

LEAST, MOST = 1e-8, 1e12
"""Ends of the axis of what is left of a distance; what lies beyond stands on them."""


def hidden(evidence: Evidence, material: Material) -> PaperFigure:
    """Seconds of a step against those of a message, with and without overlap.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("overlap")
    if rows.empty:
        raise Missing("overlap: the table is empty")
    messages = np.array(sorted({float(v) for v in rows["transfer_s"]}))
    lines, known, off = [], [], []
    for i, (name, label) in enumerate((("sgp", "SGP"), ("overlap-sgp", "SGP, overlapped"))):
        own = rows[rows["algorithm"] == name].sort_values(["transfer_s", "workers"])
        lines.append(Line(label, OTHERS[i], own["transfer_s"], own["step_s"], marks=True, joined=False))
        expected = 1 + own["transfer_s"] if name == "sgp" else own["transfer_s"].clip(lower=1.0)
        off.append(float((own["step_s"] / expected - 1).abs().max()))
    known = [
        Known("sum of both", messages, 1 + messages),
        Known("the longer of both", messages, np.maximum(1.0, messages)),
    ]
    x, y = Axis("message [gradient times]", low=0.0), Axis("step [gradient times]", low=0.0)
    parts = [Panel(x, y, lines, known)]
    title = t("Messages hidden behind gradients: time of a step of SGP")
    text = t(
        "A step should take a gradient and a message, or overlapped the longer of the two: at most {plain} and {over} "
        "off. Virtual time, several numbers of workers.",
        plain=words.percent(off[0]), over=words.percent(off[1]),
    )  # fmt: skip
    table = of_panels(
        "aau-hidden", t("Time of a step by that of a message"), parts, x=t("Message [gradient times]"),
        y=t("Step [gradient times]"), line=t("Algorithm"),
    )  # fmt: skip
    return PaperFigure("aau-hidden", title, panels("aau-hidden", title, "", parts), text, table, ("C8",))


def compression(evidence: Evidence, material: Material) -> PaperFigure:
    """What CHOCO leaves of the consensus distance, against gamma.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("compression")
    own = rows[rows["compressor"] == "top-k"].sort_values("gamma")
    if own.empty:
        raise Missing("compression: no run that leaves values out")
    lines = [
        Line(f"top {100 * float(str(share)):g} % of the values", OTHERS[i], line["gamma"],
             line["left"].replace(math.inf, MOST).clip(LEAST, MOST), marks=True)
        for i, (share, line) in enumerate(own.groupby("fraction", sort=True))
    ]  # fmt: skip
    asked = sorted({gamma for pair in CHOCO.values() for gamma in pair})
    low, high = float(own["gamma"].min()) / 1.2, float(own["gamma"].max()) * 1.2
    x = Axis("gamma", log=True, low=low, high=high, ticks=asked)
    y = Axis("distance left", log=True, low=LEAST, high=MOST * 10)
    parts = [Panel(x, y, lines, (Known("as at the start", [low, high], [1, 1]),))]
    title = t("How much may be left out of messages: CHOCO's distance to consensus against gamma")
    text = t(
        "Ring of 16, 1000 values, {rounds} rounds; above the dashed line the models drift apart, at the upper edge "
        "without bound. Claim C9 asks for agreement at the smaller and divergence at the larger of two gammas for each "
        "share.",
        rounds=int(own["rounds"].iloc[0]),
    )
    table = of_panels(
        "aau-compression", t("Distance left by gamma"), parts, x=t("Gamma"), y=t("Distance left"), line=t("Values sent")
    )
    return PaperFigure(
        "aau-compression", title, panels("aau-compression", title, "", parts), text, table, ("C9",)
    )  # fmt: skip


FIGURES: tuple[Draw, ...] = (hidden, compression)
