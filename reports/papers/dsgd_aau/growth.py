"""What grows, and where DSGD-AAU's limits are: slower stragglers, more workers, one that is slow for good, agreeing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.papers.dsgd_aau.growth import PER_DOUBLING, REACHED, advantages, at_own_rates, times
from analysis.papers.dsgd_aau.pathsearch import SLOPE, control_shares, slopes
from analysis.papers.dsgd_aau.rivals import OURS
from analysis.papers.dsgd_aau.rules import Curve, curves, named
from analysis.papers.evidence import Evidence, Missing
from analysis.statistics import Mean, mean_over_runs
from reports import words
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dsgd_aau.drawn import LOOK_OF, OTHERS, interval, over_curves
from reports.papers.lines import Axis, Known, Line, Panel, over_seeds, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.style import LOOKS, looks

SYNCHRONOUS = "d-psgd"
TIMES = (6.0, 10.0)
"""How much slower the stragglers of the curves are: the paper's two."""


def slower(evidence: Evidence, material: Material) -> PaperFigure:
    """Accuracy against seconds with stragglers six and ten times slower, synchronous and not.

    Raises:
        Missing: the study has not been run at both.
    """
    found = curves(evidence, "slowdown")
    parts, said = [], []
    for times_slower in TIMES:
        here = [curve for curve in found if curve.workload == f"p=0.1,slow={times_slower:g}"]
        groups = {name: named(here, name) for name in (OURS, SYNCHRONOUS)}
        if not all(groups.values()):
            raise Missing(f"slowdown: no runs with stragglers {times_slower:g} times slower")
        lines = [
            over_curves(name, LOOK_OF[name], [c.t_s for c in own], [c.accuracy for c in own])
            for name, own in groups.items()
        ]
        x, y = Axis("virtual seconds", low=0.0), Axis("held-out accuracy", low=0.0, high=1.0)
        most = max(float(np.max(np.asarray(line.x))) for line in lines)
        level = Known("waited for", [0, most], [REACHED, REACHED])
        parts.append(Panel(x, y, lines, (level,), f"{times_slower:g} times slower"))
        first = [_reached(own) for own in groups.values()]
        said.append(
            t(
                "{times} times slower: {ours} against {theirs}",
                times=f"{times_slower:g}", ours=first[0], theirs=first[1],
            )
        )  # fmt: skip
    title = t("Accuracy against virtual seconds with stragglers six and ten times slower")
    text = t(
        "One gradient in ten is slower; one learning rate for both, since what is compared is time. Until accuracy "
        "{level} (dashed), DSGD-AAU against synchronous DSGD: {each} (n = {n} seeds). The paper's two settings; its "
        "rivals are in the first figure, ten times slower.",
        level=f"{REACHED:g}", each="; ".join(said), n=min(line.n for part in parts for line in part.lines),
    )  # fmt: skip
    table = of_panels(
        "aau-slower", t("Accuracy at each snapshot, by stragglers"), parts, x=t("Virtual seconds"), y=t("Accuracy"),
        line=t("Algorithm"), part=t("Stragglers"),
    )  # fmt: skip
    return PaperFigure("aau-slower", title, panels("aau-slower", title, "", parts), text, table, ("B7",))


def advantage(evidence: Evidence, material: Material) -> PaperFigure:
    """How many times longer synchronous DSGD takes, over the stragglers' slowness and over their rate.

    Raises:
        Missing: the study has not been run, or nothing in it reached the accuracy.
    """
    ratios = advantages(curves(evidence, "slowdown"))
    if not ratios:
        raise Missing(f"slowdown: accuracy {REACHED} is not reached by all, or there are too few seeds")
    slowness = {s: ratio for (p, s), ratio in sorted(ratios.items()) if p == 0.1}
    frequency = {p: ratio for (p, s), ratio in sorted(ratios.items()) if s == 10}
    sweeps = (
        ("times slower", slowness, "one gradient in ten"),
        ("share of slow gradients", frequency, "ten times slower"),
    )
    top = 1.08 * max(r.high if math.isfinite(r.high) else r.mean for r in ratios.values())
    y = Axis(f"time of {SYNCHRONOUS} over {OURS}'s", low=0.0, high=top)
    parts = []
    for label, sweep, held in sweeps:
        line = over_seeds(OURS, LOOK_OF[OURS], list(sweep), list(sweep.values()), marks=True)
        ends = [0.0, 1.05 * max(sweep, default=1.0)]
        parts.append(Panel(Axis(label, low=0.0), y, [line], (Known("equally fast", ends, [1, 1]),), held))
    title = t("Advantage over synchronous DSGD as stragglers get slower and more frequent")
    said = [_both_ends(sweep) for _, sweep, _ in sweeps]
    text = t(
        "Time until accuracy {level} of synchronous DSGD over that of DSGD-AAU, with its 95 % interval over {n} seeds: "
        "{slowness} as the slow tenth gets slower, {frequency} as slow gradients get more frequent. In the paper the "
        "margin grows with both.",
        level=f"{REACHED:g}", n=min(r.n for r in ratios.values()), slowness=said[0], frequency=said[1],
    )  # fmt: skip
    table = of_panels(
        "aau-advantage", t("Time of synchronous DSGD over that of DSGD-AAU"), parts,
        x=t("Times slower, or share of slow gradients"), y=t("Ratio of times"), part=t("With"),
    )  # fmt: skip
    return PaperFigure("aau-advantage", title, panels("aau-advantage", title, "", parts), text, table, ("B7",))


def workers(evidence: Evidence, material: Material) -> PaperFigure:
    """Speed-up with the number of workers, beside the ideal.

    Raises:
        Missing: the study has not been run with two numbers of workers.
    """
    found = {n: times(own) for n, own in at_own_rates(curves(evidence, "workers")).items()}
    known = {n: mean for n, mean in found.items() if mean is not None}
    if len(known) < 2:
        raise Missing(f"workers: accuracy {REACHED} is not reached with two numbers of workers")
    sizes, base = list(known), min(known)
    line = over_seeds("here", LOOK_OF[OURS], sizes, list(known.values()), marks=True)
    first, ratio = known[base].mean, np.array(sizes) / base
    ideal = Known("half the time per doubling", sizes, first / ratio)
    asked = Known(f"1 / {PER_DOUBLING:g} per doubling", sizes, first / PER_DOUBLING ** np.log2(ratio))
    x = Axis("workers N", log=True, low=sizes[0] / 1.15, high=sizes[-1] * 1.15, ticks=sizes)
    low, high = (first / ratio).min(), max(m.high if math.isfinite(m.high) else m.mean for m in known.values())
    y = Axis(f"virtual seconds to accuracy {REACHED:g}", log=True, low=low / 1.3, high=high * 1.3)
    parts = [Panel(x, y, [line], (ideal, asked))]
    last = sizes[-1]
    title = t("Time to an accuracy against the number of workers: the speed-up of DSGD-AAU")
    text = t(
        "Until accuracy {level}, at learning rates in proportion to sqrt(N), with the 95 % interval over {n} seeds: "
        "{first} with {base} workers, {end} with {last}, {speed} times as fast with {more} times the workers. The "
        "paper reports nearly linear; its rate is O(1 / sqrt(N K)).",
        level=f"{REACHED:g}", n=line.n, first=_seconds(known[base]), base=base, end=_seconds(known[last]), last=last,
        speed=words.number(first / known[last].mean), more=f"{last / base:g}",
    )  # fmt: skip
    table = of_panels(
        "aau-workers", t("Time to an accuracy by workers"), parts, x=t("Workers"), y=t("Virtual seconds")
    )  # fmt: skip
    return PaperFigure("aau-workers", title, panels("aau-workers", title, "", parts), text, table, ("B8",))


def rate(evidence: Evidence, material: Material) -> PaperFigure:
    """The mean squared gradient against N K, over N and over K.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("linear-speedup")
    parts = []
    for sweep, held in OVER.items():
        own = rows[rows["sweep"] == sweep]
        lines, known = [], []
        for (name, noise), line in own.groupby(["algorithm", "noise"], sort=True):
            line = line.sort_values("workers" if sweep == "workers" else "iterations")
            x, y = (line["workers"] * line["iterations"]).to_numpy(dtype=np.float64), line["mean_square"].to_numpy()
            look = NOISY[str(name), float(str(noise)) > 1]
            lines.append(Line(f"{name}, noise {noise:g}", look, x, y, marks=True))
            known.append(Known("slope -1/2", x, y[-1] * (x / x[-1]) ** SLOPE))
        parts.append(Panel(Axis("N K", log=True), Axis("mean squared gradient", log=True), lines, known, held))
    if not any(part.lines for part in parts):
        raise Missing("linear-speedup: the table is empty")
    said = [((name, OVER[sweep], noise), slope) for (name, sweep, noise), slope in slopes(rows).items()]
    title = t("Mean squared gradient against N K: the rate of the theorem")
    text = t(
        "Noisy quadratics at the learning rate sqrt(N / K) / 2; noise in units of the first gradient. Dashed: the "
        "theorem's slope of -1/2 through the last point. Slopes: {each}. D-PSGD is the control.",
        each=words.commas([f"{name} {sweep}, noise {noise:g} {slope:.2f}" for (name, sweep, noise), slope in said]),
    )
    table = of_panels(
        "aau-rate", t("Mean squared gradient by N K"), parts, x=t("N K"), y=t("Mean squared gradient"), part=t("Sweep"),
    )  # fmt: skip
    return PaperFigure("aau-rate", title, panels("aau-rate", title, "", parts), text, table, ("B1",))


OVER = {"workers": "over N", "iterations": "over K"}
NOISY = {
    (SYNCHRONOUS, False): LOOKS[1],
    (SYNCHRONOUS, True): LOOKS[6],
    (OURS, False): LOOKS[9],
    (OURS, True): LOOKS[5],
}
"""Algorithm and whether the noise is the larger one -> look."""
PACED = looks(
    [("dsgd-aau S", "dsgd-aau"), ("dsgd-aau R", "other"), ("prague", "prague")]
    + [(name, name) for name in ("ad-psgd", "allreduce-sgd", "d-psgd")]
)


def straggler(evidence: Evidence, material: Material) -> PaperFigure:
    """Gradients that each algorithm makes with one worker that is slower for good.

    Raises:
        Missing: the experiment has not been made.
    """
    rows = evidence.table("persistent-straggler")
    lines = [
        Line(str(name), PACED[str(name)], own["slow"], own["gradients_per_s"], marks=True)
        for name, own in rows.sort_values("slow").groupby("algorithm", sort=True)
        if name in PACED
    ]
    factors = sorted({float(v) for v in rows["slow"]})
    if not lines or len(factors) < 2:
        raise Missing("persistent-straggler: fewer than two slownesses")
    y = Axis("gradients per gradient time", log=True, low=0.006, high=1.5, ticks=(0.01, 0.03, 0.1, 0.3, 1))
    x = Axis("times that one of 16 workers is slower", log=True, low=0.85, high=1.2 * factors[-1], ticks=factors)
    bounds = [Known("bounds of claim B11", [factors[0], factors[-1]], [bound, bound]) for bound in (0.1, 0.9)]
    parts = [Panel(x, y, lines, bounds)]
    last = rows[rows["slow"] == factors[-1]].set_index("algorithm")["gradients_per_s"]
    title = t("One worker that is slow for good: a limit of DSGD-AAU that the paper does not state")
    text = t(
        "Every epoch of Pathsearch needs every worker, so one that is always slower holds up all. {times} times "
        "slower: {each} gradients per worker in the time of one. Rule R accepts links that rule S, which the "
        "theory needs, does not.",
        times=f"{factors[-1]:g}", each=words.commas([f"{name} {words.number(float(v))}" for name, v in last.items()]),
    )  # fmt: skip
    table = of_panels(
        "aau-straggler", t("Gradients made with one slow worker"), parts, x=t("Times slower"),
        y=t("Gradients per worker and gradient time"), line=t("Algorithm"),
    )  # fmt: skip
    return PaperFigure("aau-straggler", title, panels("aau-straggler", title, "", parts), text, table, ("B11",))


def agreeing(evidence: Evidence, material: Material) -> PaperFigure:
    """Bytes of control messages over those of models.

    Raises:
        Missing: the experiment has not been made.
    """
    shares = control_shares(evidence.table("control"))
    sizes, models = sorted({n for n, _ in shares}), sorted({d for _, d in shares})
    if not sizes:
        raise Missing("control: the table is empty")
    lines = [
        Line(f"{d:,} parameters", OTHERS[i], sizes, [100 * shares[n, d] for n in sizes], marks=True)
        for i, d in enumerate(models)
    ]
    x = Axis("workers N", log=True, low=sizes[0] / 1.2, high=sizes[-1] * 1.2, ticks=sizes)
    line = Known("1 %", [sizes[0], sizes[-1]], [1, 1])
    parts = [Panel(x, Axis("control [% of models' bytes]", log=True), lines, (line,))]
    last = sizes[-1]
    title = t("What agreeing on who averages costs, in bytes")
    text = t(
        "Payload of all control messages over that of all models. With {n} workers {each}. The paper has it next "
        "to nothing; claim B10 asks for less than 1 % (dashed).",
        n=last, each=words.commas([f"{words.number(100 * shares[last, d])}\u00a0% ({d:,})" for d in models]),
    )  # fmt: skip
    table = of_panels(
        "aau-agreeing", t("Control messages by workers and model"), parts, x=t("Workers"),
        y=t("% of the models' bytes"), line=t("Model"),
    )  # fmt: skip
    return PaperFigure("aau-agreeing", title, panels("aau-agreeing", title, "", parts), text, table, ("B10",))


def _reached(own: Sequence[Curve]) -> str:
    """When the accuracy is reached, over the runs."""
    first = [curve.first(REACHED) for curve in own]
    return _seconds(mean_over_runs(first)) if np.isfinite(first).all() else t("never by all")


def _seconds(mean: Mean) -> str:
    return f"{interval(mean)}\u00a0s"


def _both_ends(sweep: Mapping[float, Mean]) -> str:
    if not sweep:
        return words.NOTHING
    first, last = min(sweep), max(sweep)
    return t(
        "from {low} at {first} to {high} at {last}",
        low=interval(sweep[first]), first=f"{first:g}", high=interval(sweep[last]), last=f"{last:g}",
    )  # fmt: skip


FIGURES: tuple[Draw, ...] = (slower, advantage, workers, rate, straggler, agreeing)
