"""Where a run ends over learning rates, sizes of constant noise, sizes of a step: which algorithm bears more."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pandas as pd

from analysis.papers.dpsgd.found import finals, largest, losses
from analysis.papers.dpsgd.rates import RATE, SIGMAS, TRAINED
from analysis.papers.dpsgd.scaling import TARGET
from analysis.papers.evidence import Evidence, Missing
from reports import words
from reports.language import joined, t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dpsgd.names import LOOKS, NAMES
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.sections.base import Material
from reports.shown import Shown, ShownTable

END = "held-out loss at the end [nat]"


def ends(table: pd.DataFrame, by: str, bound: float) -> pd.DataFrame:
    """Where the runs of each algorithm end at each value of a setting.

    Args:
        table: of `finals`.
        by: the setting's column.
        bound: a run below it has trained.

    Returns:
        `label`, `name`, `at` (the setting), `median`, `low`, `high` (of the seeds; infinite: diverged), `trained`
        (seeds), `n` (seeds).
    """
    rows = []
    for label in (label for label in NAMES if (table["label"] == label).any()):
        for at, own in table[table["label"] == label].groupby(by, dropna=False):
            values = own["loss"].to_numpy(dtype=np.float64)
            row = {"label": label, "name": NAMES[label], "at": float(str(at)), "median": float(np.median(values))}
            row |= {"low": float(values.min()), "high": float(values.max())}
            rows.append(row | {"trained": int((values < bound).sum()), "n": len(values)})
    return pd.DataFrame(rows)


def said(found: pd.DataFrame, label: str, at: float) -> str:
    """Where an algorithm ends at one value: the median and the range of its seeds, in words."""
    rows = found[(found["label"] == label) & np.isclose(found["at"], at, equal_nan=True)]
    if rows.empty:
        return words.NOTHING
    parts = {name: _loss(float(rows[name].iloc[0])) for name in ("median", "low", "high")}
    return t("{median} ({low} to {high})", **parts)


def figure(
    name: str,
    title: str,
    text: str,
    found: pd.DataFrame,
    x: Axis,
    *,
    bound: float,
    guess: float,
    claims: tuple[str, ...],
    log: bool = True,
    drawn: pd.DataFrame | None = None,
) -> PaperFigure:
    """The figure of a table of `ends`; losses above 1.25 times that of guessing stand at the upper edge.

    Args:
        drawn: the rows as they are drawn, if not as they are.

    Raises:
        Missing: there is no row.
    """
    if found.empty:
        raise Missing(f"{name}: no run of {', '.join(NAMES)}")
    seeds = int(found["n"].min())
    reading = t(
        "Lines: medians; bars: the best and the worst of {n} seeds; at the upper edge: larger still, or diverged. "
        "Grey across: the bound of the rule, and above it the loss of guessing.",
        n=seeds,
    )
    low, top = min(float(found["low"].min()), bound), 1.25 * guess
    known = [Known("", [min(x.ticks), max(x.ticks)], [level, level]) for level in (bound, guess)]
    y = Axis(END, log=log, low=low / 1.15 if log else 0.95 * low, high=top)
    svg = panels(name, title, "", [Panel(x, y, _lines(found if drawn is None else drawn, top), known)])
    return PaperFigure(name, title, svg, joined([text, reading]), _table(name, title, x.label, found), claims)


def _lines(found: pd.DataFrame, top: float) -> list[Line]:
    return [
        Line(
            NAMES[str(label)], LOOKS[str(label)], own["at"], own["median"].clip(upper=top),
            own["low"].clip(upper=top), own["high"].clip(upper=top), n=int(own["n"].min()), marks=True,
        )
        for label, own in found.groupby("label", sort=False)
    ]  # fmt: skip


def _table(name: str, title: str, at: str, found: pd.DataFrame) -> ShownTable:
    return ShownTable(
        f"paper-{name}",
        title,
        [
            Shown("name", t("Algorithm")),
            Shown("at", at, text="{:g}".format),
            Shown("median", t("Median of the seeds"), "nat", text=_loss),
            Shown("low", t("Best seed"), "nat", text=_loss),
            Shown("high", t("Worst seed"), "nat", text=_loss),
            Shown("trained", t("Seeds below the bound")),
            Shown("n", t("n"), meaning=t("Seeds.")),
        ],
        found,
    )


def _loss(value: float) -> str:
    return words.number(value) if math.isfinite(value) else t("diverged")


def rates(found: pd.DataFrame) -> Axis:
    """The axis of learning rates, with those of the grid."""
    ticks = sorted(found["at"].unique())
    return Axis("learning rate", log=True, low=0.93 * ticks[0], high=1.07 * ticks[-1], ticks=ticks)


def up_to(table: pd.DataFrame, label: str, by: str, bound: float) -> str:
    """The largest value of a setting at which nearly all seeds train, as the rules take it, in words."""
    found = largest(table, label, by, bound)
    return t("none of the grid") if math.isnan(found) else f"{found:g}"


def _mnist(evidence: Evidence, material: Material, *, part: str, bound: float, claims: tuple[str, ...]) -> PaperFigure:
    """A1, A1e, A2: MNIST in steps of 2000 samples."""
    table = finals(evidence, part)
    found = ends(table, "lr", bound)
    text = t(
        "Where MNIST ends after steps of 2000 samples with {n} learners. At learning rate {rate} DPSGD ends at {ours} "
        "nat, SSGD at {theirs}; largest rate at which nearly all seeds of DPSGD train: {high}, of SSGD: {base}. In the "
        "paper SSGD is stuck or diverges where DPSGD converges, and SSGD*, with noise of constant size, does not help.",
        n=int(table["workers"].iloc[0]),
        rate=f"{RATE:g}",
        ours=said(found, "dpsgd-own", RATE),
        theirs=said(found, "ssgd", RATE),
        high=up_to(table, "dpsgd-own", "lr", bound),
        base=up_to(table, "ssgd", "lr", bound),
    )
    title = t("MNIST, n = {n}: loss over learning rates", n=int(table["workers"].iloc[0]))
    return figure(f"dpsgd-{part}", title, text, found, rates(found), bound=bound, guess=math.log(10), claims=claims)


def _constant_noise(evidence: Evidence, material: Material) -> PaperFigure:
    """A3: SSGD* at the one rate, over the size of its noise."""
    table = finals(evidence, "sweep")
    table = table[np.isclose(table["lr"], RATE)]
    star = table[table["label"].isin(["ssgd-star", "ssgd-star-other"])].assign(label="ssgd-star")
    if star.empty or losses(table, "dpsgd-own").size == 0:
        raise Missing("sweep: runs of SSGD* and DPSGD at one learning rate")
    sizes = sorted(star["sigma"].unique())
    others = [
        table[table["label"] == label].assign(sigma=size) for label, size in (("ssgd", 0.0), ("dpsgd-own", np.nan))
    ]
    found = ends(pd.concat([star, *others]), "sigma", TRAINED)
    # The others have no such noise: each is a level from the least size to the largest.
    levels = [found[found["label"] != "ssgd-star"].assign(at=at) for at in (sizes[0], sizes[-1])]
    drawn = pd.concat([found[found["label"] == "ssgd-star"], *levels])
    text = t(
        "SSGD* adds noise of constant size to the weights, at learning rate {rate}. It ends at {star} nat with size "
        "0.01, the paper's; DPSGD, whose noise adjusts itself, at {ours}; SSGD without noise at {theirs}. In the paper "
        "SSGD* fails where DPSGD converges.",
        rate=f"{RATE:g}",
        star=said(found, "ssgd-star", SIGMAS[1]),
        ours=said(found, "dpsgd-own", np.nan),
        theirs=said(found, "ssgd", 0.0),
    )
    x = Axis("size of the constant noise, sigma", log=True, low=sizes[0] / 1.2, high=1.2 * sizes[-1], ticks=sizes)
    return figure(
        "dpsgd-constant-noise", t("SSGD* with constant noise of three sizes"), text, found, x, bound=TRAINED,
        guess=math.log(10), claims=("A3",), drawn=drawn,
    )  # fmt: skip


def _recurrent(evidence: Evidence, material: Material, *, part: str, classes: int, claim: str) -> PaperFigure:
    """S1, W1: an LSTM over learning rates."""
    table, guess = finals(evidence, part), math.log(classes)
    found, bound = ends(table, "lr", 0.9 * guess), 0.9 * guess
    workers = int(table["workers"].iloc[0])
    speech = part == "speech"
    text = t(
        "An LSTM with {n} learners; a run has trained below 0.9 times the loss of guessing, {bound} nat. Largest rate "
        "at which nearly all seeds train: DPSGD {high}, SSGD {base}.",
        n=workers,
        bound=words.number(bound),
        high=up_to(table, "dpsgd-own", "lr", bound),
        base=up_to(table, "ssgd", "lr", bound),
    )
    paper = (
        t("In the paper, on two large speech corpora, SSGD's loss stays at that of guessing where DPSGD's falls.")
        if speech
        else t("The paper has no such task: its claim is carried over to words.")
    )
    title = (
        t("Speech, n = {n}: loss over learning rates", n=workers)
        if speech
        else t("Words, n = {n}: loss over learning rates", n=workers)
    )
    return figure(
        f"dpsgd-{part}", title, joined([text, paper]), found, rates(found), bound=bound, guess=guess, claims=(claim,),
        log=speech,
    )  # fmt: skip


def _optimisers(evidence: Evidence, material: Material) -> PaperFigure:
    """A11: each optimiser over its own rates."""
    found = ends(finals(evidence, "optimizers"), "lr", TARGET)
    best = [own.sort_values("median").iloc[0] for _, own in found.groupby("label", sort=False)]
    listed = [
        t("{name} {loss} nat at {rate}", name=row["name"], loss=words.number(row["median"]), rate=f"{row['at']:g}")
        for row in best
    ]
    text = t(
        "Optimisers made for large steps beside plain SGD, 2000 samples a step, as many rates for each. Lowest median: "
        "{best}. The paper's claim is that LAMB and the like do not close the gap to DPSGD.",
        best=words.listed(listed),
    )
    ticks = [10.0**k for k in range(-4, 2) if found["at"].min() <= 10.0**k <= found["at"].max()]
    x = Axis("learning rate", log=True, low=found["at"].min() / 1.3, high=1.3 * found["at"].max(), ticks=ticks)
    title = t("Optimisers made for large steps")
    return figure("dpsgd-optimisers", title, text, found, x, bound=TARGET, guess=math.log(10), claims=("A11",))


def _batches(evidence: Evidence, material: Material) -> PaperFigure:
    """A12: larger steps, with the learning rate in proportion."""
    table = finals(evidence, "batches")
    table = table.assign(step=table["workload"].str.removeprefix("N").astype(float))
    found = ends(table, "step", TARGET)
    text = t(
        "Steps of more samples, with a learning rate of 0.1 for each 256 of them, after 10 passes over MNIST. Largest "
        "step at which nearly all seeds end below {bound} nat: DPSGD {high}, SSGD {base} samples. In related work of "
        "the authors, on speech, the asynchronous form bears three times as large a step.",
        bound=f"{TARGET:g}",
        high=up_to(table, "dpsgd-own", "step", TARGET),
        base=up_to(table, "ssgd", "step", TARGET),
    )
    ticks = sorted(found["at"].unique())
    room = 0.04 * (ticks[-1] - ticks[0])
    x = Axis("samples a step", low=ticks[0] - room, high=ticks[-1] + room, ticks=ticks)
    title = t("Loss over the samples of a step")
    return figure("dpsgd-batches", title, text, found, x, bound=TARGET, guess=math.log(10), claims=("A12",))


FIGURES: tuple[Draw, ...] = (
    partial(_mnist, part="sweep", bound=TRAINED, claims=("A1", "A1e")),
    partial(_mnist, part="five", bound=0.5, claims=("A2",)),
    _constant_noise,
    partial(_recurrent, part="speech", classes=10, claim="S1"),
    partial(_recurrent, part="wikitext", classes=33_278, claim="W1"),
    _optimisers,
    _batches,
)
