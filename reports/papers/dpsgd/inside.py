"""What DPSGD does to its own step while it trains: effective learning rate, noise, and the learners' spread."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.papers.dpsgd.inside import EARLY, LATE, noise_rows
from analysis.papers.dpsgd.landscape import FACTOR, SETTLED
from analysis.papers.evidence import Evidence, Missing
from reports import words
from reports.language import joined, t
from reports.papers.base import Draw, PaperFigure
from reports.papers.dpsgd.names import LOOKS
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.papers.tables import of_panels
from reports.sections.base import Material
from reports.style import LOOKS as ALL
from reports.style import Look

STEPS = Axis("steps of a learner")
WINDOW = 5
"""Probes of a seed that a running median is taken over: single values are heavy-tailed."""


def running(rows: pd.DataFrame, value: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
    """A value of the probes over training: running medians of each seed, and of these the middle and the range.

    Args:
        rows: of `noise_rows`.

    Returns:
        `step`, `median`, `low`, `high`, one row per probe's planned time.
    """
    each = rows.assign(value=value(rows)).sort_values("snapshot")
    smooth = each.groupby("seed")["value"].transform(
        lambda seed: seed.rolling(WINDOW, center=True, min_periods=1).median()
    )
    by_time = each.assign(smooth=smooth).groupby("snapshot")
    seeds = by_time["smooth"]
    return pd.DataFrame(
        {"step": by_time["step"].mean(), "median": seeds.median(), "low": seeds.min(), "high": seeds.max()}
    ).reset_index(drop=True)


def _line(label: str, look: Look, course: pd.DataFrame, n: int) -> Line:
    return Line(label, look, course["step"], course["median"], course["low"], course["high"], n=n)


def _reading(n: int) -> str:
    return t(
        "Lines: medians of {n} seeds, each a running median of {window} probes; bands: all seeds.", n=n, window=WINDOW
    )


def _made(name: str, title: str, text: str, panel: Panel, claims: tuple[str, ...]) -> PaperFigure:
    svg = panels(name, title, "", [panel])
    table = of_panels(name, title, [panel], x=t("Steps"), y=panel.y.label)
    return PaperFigure(name, title, svg, text, table, claims)


def _parts(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return rows[rows["step"] < EARLY], rows[rows["step"] >= LATE]


def _medians(rows: pd.DataFrame, value: Callable[[pd.DataFrame], pd.Series]) -> str:
    """Median of each seed, from the least to the greatest, in words: what the rules compare."""
    found = value(rows).groupby(rows["seed"]).median()
    return t("{low} to {high}", low=words.number(float(found.min()), 2), high=words.number(float(found.max()), 2))


def _effective_rate(evidence: Evidence, material: Material) -> PaperFigure:
    """A4: alpha_e over alpha, and the control."""
    rows = noise_rows(evidence)
    n = rows["seed"].nunique()

    def ratio(r: pd.DataFrame) -> pd.Series:
        return r["alpha_e"] / r["lr"]

    def control(r: pd.DataFrame) -> pd.Series:
        return r["alpha_e_control"] / r["lr"]

    lines = [
        _line("DPSGD", LOOKS["dpsgd-own"], running(rows, ratio), n),
        _line("SSGD at the same places", LOOKS["ssgd"], running(rows, control), n),
    ]
    end = float(rows["step"].max())
    known = [Known("bounds of the rule", [0, EARLY], [0.3, 0.3]), Known("", [LATE, end], [0.7, 0.7])]
    early, late = _parts(rows)
    text = t(
        "How far a step goes down the overall slope, over the learning rate that was set. DPSGD's medians of a seed "
        "are {early} before step {first} and {late} from step {last} on: it brakes itself where the landscape is "
        "rough. The control is what SSGD would have done with the same mini-batches at the learners' mean: {control} "
        "late. In the paper the effective rate starts far below the set one and rises to it.",
        early=_medians(early, ratio),
        late=_medians(late, ratio),
        first=EARLY,
        last=LATE,
        control=_medians(late, control),
    )
    panel = Panel(STEPS, Axis("effective / set learning rate"), lines, known)
    title = t("Effective learning rate over training")
    return _made("dpsgd-effective-rate", title, joined([text, _reading(n)]), panel, ("A4", "A4i"))


def _noise(evidence: Evidence, material: Material) -> PaperFigure:
    """A5: the parts of the noise."""
    rows = noise_rows(evidence)
    n = rows["seed"].nunique()
    shown = (
        ("noise", "all noise, Delta", ALL[7]),
        ("noise_diversity", "of the spread, Delta^(2)", LOOKS["dpsgd-own"]),
        ("noise_sampling", "of mini-batches, Delta_S", LOOKS["ssgd"]),
    )
    lines = [_line(label, look, running(rows, lambda r, name=name: r[name]), n) for name, label, look in shown]  # type: ignore[misc]
    early, late = _parts(rows)

    def share(r: pd.DataFrame) -> pd.Series:
        return r["noise_diversity"] / r["noise_sampling"]

    text = t(
        "What the noise of DPSGD's step is made of. That of the learners' spread is {early} times that of mini-batches "
        "before step {first} and {late} times from step {last} on (medians of a seed). In the paper it is far larger "
        "at first and decays.",
        early=_medians(early, share),
        late=_medians(late, share),
        first=EARLY,
        last=LATE,
    )
    panel = Panel(STEPS, Axis("noise, squared length", log=True), lines)
    return _made("dpsgd-noise", t("The parts of the noise over training"), joined([text, _reading(n)]), panel, ("A5",))


def _spread(evidence: Evidence, material: Material) -> PaperFigure:
    """A7: the learners' spread."""
    rows = noise_rows(evidence)
    n = rows["seed"].nunique()

    def variance(r: pd.DataFrame) -> pd.Series:
        return r["replica_variance"]

    early, late = _parts(rows[rows["step"] > 0])
    text = t(
        "How far the learners stand from their mean: mean squared distance. Medians of a seed: {early} before step "
        "{first}, {late} from step {last} on. The first point is where learners were drawn. In the paper the spread "
        "shrinks as training goes on.",
        early=_medians(early, variance),
        late=_medians(late, variance),
        first=EARLY,
        last=LATE,
    )
    lines = [_line("DPSGD", LOOKS["dpsgd-own"], running(rows, variance), n)]
    panel = Panel(STEPS, Axis("sigma_w^2", log=True), lines)
    return _made("dpsgd-spread", t("The learners' spread over training"), joined([text, _reading(n)]), panel, ("A7",))


def _formula(evidence: Evidence, material: Material) -> PaperFigure:
    """A6: the paper's formula over the noise that was measured."""
    table = evidence.table("diversity")
    rows = table[table["case"] == "mnist-mlp"]
    if rows.empty:
        raise Missing("diversity: rows of mnist-mlp")
    lines = []
    for name, label, look in (
        ("paper", "alpha^2 tr(H^2 C)", LOOKS["dpsgd-own"]),
        ("first_order", "each mini-batch's own Hessian", ALL[3]),
    ):
        seeds = (rows[name] / rows["measured"]).groupby(rows["step"])
        middle = seeds.median()
        lines.append(
            Line(label, look, middle.index, middle, seeds.min(), seeds.max(), n=int(seeds.size().min()), marks=True)
        )
    late = rows[rows["step"] >= SETTLED]
    ratio = (late["paper"] / late["measured"]).to_numpy(dtype=np.float64)
    text = t(
        "The paper's formula for the noise of the spread, over the noise that was measured: 1 is equal. From step "
        "{settled} on {low} to {high}; grey: the factor of {factor} that the rule allows, which counts from there on. "
        "The second line has each mini-batch's own Hessian and all products, to first order.",
        settled=SETTLED,
        low=words.number(float(ratio.min()), 2) if len(ratio) else words.NOTHING,
        high=words.number(float(ratio.max()), 2) if len(ratio) else words.NOTHING,
        factor=f"{FACTOR:g}",
    )
    panel = Panel(
        STEPS, Axis("formula / measured", log=True), lines, [Known("", [0, rows["step"].max()], [1, 1])],
        bands=[(1 / FACTOR, FACTOR)],
    )  # fmt: skip
    return _made("dpsgd-formula", t("The noise of the spread against its formula"), text, panel, ("A6",))


FIGURES: tuple[Draw, ...] = (_effective_rate, _noise, _spread, _formula)
