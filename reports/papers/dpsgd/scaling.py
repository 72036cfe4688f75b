"""What one slow learner costs."""

from __future__ import annotations

import numpy as np

from analysis.papers.dpsgd.scaling import throughput
from analysis.papers.evidence import Evidence
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dpsgd.names import LOOKS, NAMES
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.sections.base import Material
from reports.shown import Shown, ShownTable


def _slow_learner(evidence: Evidence, material: Material) -> PaperFigure:
    """A10: throughput over how much slower one learner is."""
    found = throughput(evidence)
    workers = int(found["workers"].iloc[0])
    slower = np.geomspace(1, float(found["slower"].max()), 40)
    names = {"ssgd": "ssgd", "dpsgd": "dpsgd-own", "ad-psgd": "ad-psgd"}  # here DPSGD's start makes no difference
    lines = []
    for label, name in names.items():
        own = found[found["label"] == label].sort_values("slower")
        lines.append(
            Line(
                NAMES[name],
                LOOKS[name],
                own["slower"],
                own["share"],
                own["share"],
                own["share"],
                n=int(own["n"].min()),
                marks=True,
                joined=False,
            )
        )
    known = [
        Known("laws: (n - 1 + 1/s) / n and 1/s", slower, (workers - 1 + 1 / slower) / workers),
        Known("", slower, 1 / slower),
    ]
    most = found[found["slower"] == found["slower"].max()].set_index("label")["share"]
    text = t(
        "Samples a second with one of {n} learners s times slower, over those with s = 1 (simulated). At s = {s} "
        "AD-PSGD, which waits for nobody, keeps {free} of its throughput and SSGD {lock}; DPSGD in rounds, {ring}. "
        "The paper's argument for asynchrony is that a slow learner then costs only its own share.",
        n=workers,
        s=f"{found['slower'].max():g}",
        free=words.percent(float(most["ad-psgd"])),
        lock=words.percent(float(most["ssgd"])),
        ring=words.percent(float(most["dpsgd"])),
    )
    ticks = sorted(float(s) for s in found["slower"].unique())
    x = Axis("times that one learner is slower, s", log=True, low=0.85, high=1.2 * ticks[-1], ticks=ticks)
    parts = [Panel(x, Axis("share of the throughput left", log=True), lines, known)]
    title = t("One slow learner of {n}: throughput", n=workers)
    svg = panels("dpsgd-slow", title, "", parts)
    table = ShownTable(
        "paper-dpsgd-slow",
        title,
        [
            Shown("name", t("Algorithm")),
            Shown("slower", t("Times slower"), text="{:g}".format),
            Shown("share", t("Share of the throughput")),
            Shown("n", t("n"), meaning=t("Seeds.")),
        ],
        found.assign(name=found["label"].map({label: NAMES[name] for label, name in names.items()})),
    )
    return PaperFigure("dpsgd-slow", title, svg, text, table, ("A10",))


FIGURES: tuple[Draw, ...] = (_slow_learner,)
