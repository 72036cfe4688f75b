"""Where EASGD, ADMM and DOWNPOUR are stable: runs beside the closed forms, as in section 4 and figure 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context

from analysis.papers.easgd.stability import BAND
from analysis.papers.evidence import Evidence, Missing
from analysis.theory.admm import round_map
from analysis.theory.downpour import largest_period
from analysis.theory.easgd import largest_moving_rate
from analysis.theory.linear import spectral_radius
from reports import words
from reports.drawing import INK, MUTED, PAPER, SIZE, canvas, finish, theme, to_svg
from reports.language import t
from reports.papers.base import Draw, PaperFigure
from reports.papers.lines import Axis, Known, Line, Panel, panels
from reports.sections.base import Material
from reports.shown import Shown, ShownTable
from reports.style import LOOKS

MAP = 61  # points a side of the map of ADMM
PANELS = (3, 8)  # workers, as in figure 1


def edges(table: pd.DataFrame) -> pd.DataFrame:
    """Where what was simulated stops shrinking: `workers`, `eta_h`, `alpha` between the last rate that shrinks and the
    first that grows, at a growth of one; none where all rates of the grid do the same.
    """
    rows = []
    for (workers, eta_h), own in table.groupby(["workers", "eta_h"]):
        own = own.sort_values("alpha")
        # Where nothing is left after a few rounds, growth is 0.
        growth = np.log(own["growth_per_round"].clip(lower=np.finfo(np.float64).tiny).to_numpy())
        alpha = own["alpha"].to_numpy()
        first = int(np.argmax(growth >= 0))
        if growth[first] >= 0 and first > 0:
            part = -growth[first - 1] / (growth[first] - growth[first - 1])
            rows.append((workers, eta_h, alpha[first - 1] + part * (alpha[first] - alpha[first - 1])))
    return pd.DataFrame(rows, columns=["workers", "eta_h", "alpha"])


def _easgd(evidence: Evidence, material: Material) -> PaperFigure:
    """A1: the simulated edge on the closed form, and their ratio."""
    table = evidence.table("stability-map")
    found = edges(table)
    if found.empty:
        raise Missing("stability-map: no rate at which growth begins")
    found = found[found["eta_h"] <= 2]
    found = found.assign(ratio=found["alpha"] / found["eta_h"].map(largest_moving_rate))
    eta = np.linspace(0, 2, 81)
    limit = [largest_moving_rate(float(e)) for e in eta]
    looks = {workers: LOOKS[1 + i % 9] for i, workers in enumerate(sorted(found["workers"].unique()))}
    lines, ratios = [], []
    for workers, look in looks.items():
        own = found[found["workers"] == workers]
        label = f"p = {workers}, simulated"
        lines.append(Line(label, look, own["eta_h"], own["alpha"], marks=True, joined=False))
        ratios.append(Line(label, look, own["eta_h"], own["ratio"], marks=True, joined=False))
    formula = "closed form"
    parts = [
        Panel(Axis("eta h", low=0, high=2.1), Axis("largest moving rate alpha", low=0, high=1.05), lines,
              [Known(formula, eta, limit)]),
        Panel(Axis("eta h", low=0, high=2.1), Axis("simulated / closed form"), ratios,
              [Known("", [0, 2], [1, 1])], bands=[(1 - BAND, 1 + BAND)]),
    ]  # fmt: skip
    away = float((found["ratio"] - 1).abs().max())
    text = t(
        "Left: below the line round-robin EASGD on a quadratic is stable; dots: where the registered algorithm stops "
        "shrinking, between two rates of the grid. Right: the same over the closed form; grey: the band of {band} "
        "that the rule leaves out. The largest distance is {away}. In the paper alpha <= (4 - 2 eta h) / (4 - eta h), "
        "whatever p.",
        band=words.percent(BAND),
        away=words.percent(away),
    )
    title = t("Where EASGD is stable, run and derived")
    svg = panels("easgd-stability", title, "", parts)
    shown = ShownTable(
        "paper-easgd-stability",
        title,
        [
            Shown("workers", t("Workers")),
            Shown("eta_h", "eta h"),
            Shown("alpha", t("Simulated edge")),
            Shown("ratio", t("Over the closed form"), text="{:.4f}".format),
        ],
        found,
    )
    return PaperFigure("easgd-stability", title, svg, text, shown, ("A1",))


def _admm(evidence: Evidence, material: Material) -> PaperFigure:
    """A2: the map of the largest eigenvalue, and the example that was run."""
    run = evidence.table("admm")
    eta, rho = np.linspace(1e-4, 1e-2, MAP), np.linspace(0.05, 10, MAP)
    mesh_eta, mesh_rho = np.meshgrid(eta, rho, indexing="ij")
    look = LOOKS[7]
    shares, found = {}, run.set_index("workers")["growth_per_round"]
    with rc_context(theme()):
        figure = canvas(4.6, 2.6)
        for index, workers in enumerate(PANELS):
            radius = spectral_radius(round_map(eta=mesh_eta, rho=mesh_rho, workers=workers))
            shares[workers] = float((radius > 1).mean())
            axes = figure.add_axes((0.115 + 0.455 * index, 0.165, 0.42, 0.745))
            axes.contourf(eta, rho, radius.T, levels=[1, max(2.0, float(radius.max()))], colors=[look.light], alpha=0.2)
            drawn = axes.contour(eta, rho, radius.T, levels=[1, 1.001], colors=[look.light],
                                 linewidths=[1.8, 0.8])  # fmt: skip
            axes.clabel(drawn, fmt=lambda value: f"{value:g}", fontsize=SIZE - 1.5, inline_spacing=2)
            if workers in found.index:
                at = run[run["workers"] == workers].iloc[0]
                axes.plot(at["eta"], at["rho"], "D", color=INK, markerfacecolor=PAPER, markersize=5)
                axes.text(0.98, 0.87, f"run: {found[workers]:.5f}", transform=axes.transAxes, ha="right", va="top",
                          color=INK, fontsize=SIZE - 1)  # fmt: skip
            axes.set_title(f"p = {workers}", loc="left", fontsize=SIZE, color=INK, pad=3)
            axes.set_xlabel("eta")
            finish(axes)
            axes.grid(visible=False)
            axes.set_xticks([0.002, 0.005, 0.008])
            if index:
                axes.tick_params(labelleft=False)
            else:
                axes.set_ylabel("rho")
            axes.text(0.98, 0.97, "shaded: grows", transform=axes.transAxes, ha="right", va="top", color=MUTED,
                      fontsize=SIZE - 1)  # fmt: skip
        text = t(
            "Largest eigenvalue of a round of ADMM in round robin on x^2 / 2: shaded where it is above 1, so that "
            "the rounds grow; lines: growth per round. That is {three} of the plane with 3 workers and {eight} with "
            "8. Diamond: the paper's example, eta = 0.001 and rho = 2.5, run for 10 000 rounds: {runs}. EASGD is "
            "stable in all of it for alpha = eta rho. The paper's figure 1 is this map.",
            three=words.percent(shares[3]),
            eight=words.percent(shares[8]),
            runs=words.listed(
                [t("{growth} per round with p = {p}", growth=f"{value:.5f}", p=p) for p, value in found.items()]
            ),
        )
        title = t("Where ADMM in round robin grows (figure 1)")
        svg = to_svg(figure, "easgd-admm", title, text)
    shown = ShownTable(
        "paper-easgd-admm",
        title,
        [
            Shown("workers", t("Workers")),
            Shown("eta", "eta", text="{:g}".format),
            Shown("rho", "rho", text="{:g}".format),
            Shown("growth_per_round", t("Growth per round, run"), text="{:.6f}".format),
            Shown("theory", t("Largest eigenvalue"), text="{:.6f}".format),
        ],
        run.assign(
            theory=[
                float(spectral_radius(round_map(eta=row["eta"], rho=row["rho"], workers=int(row["workers"]))))
                for row in run.to_dict("records")
            ]
        ),
    )
    return PaperFigure("easgd-admm", title, svg, text, shown, ("A2",))


def _downpour(evidence: Evidence, material: Material) -> PaperFigure:
    """A7: the limit of DOWNPOUR's period."""
    table = evidence.table("downpour-periods")
    lines, known = [], []
    for index, (workers, own) in enumerate(table.groupby("workers")):
        look = LOOKS[1 + index % 9]
        shrinks, grows = own[own["growth"] < 1], own[own["growth"] >= 1]
        lines.append(
            Line(f"p = {workers}: shrinks", look, shrinks["eta_h"], shrinks["period"], marks=True, joined=False)
        )
        known.append(Known("grows", grows["eta_h"], grows["period"], points=True, look=look))
        eta = np.geomspace(0.008, 0.13, 30)
        limit = [largest_period(eta=float(e), workers=int(str(workers))) for e in eta]
        known.append(Known("limit tau*", eta, limit, look=look))
    right = sum(
        (row["growth"] < 1) == (row["period"] < largest_period(eta=row["eta_h"], workers=int(row["workers"])))
        for row in table.to_dict("records")
    )
    ticks = sorted(table["eta_h"].unique())
    periods = [p for p in (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0) if p <= 1.5 * table["period"].max()]
    x = Axis("eta h", log=True, low=0.008, high=0.13, ticks=ticks)
    y = Axis("period tau [steps]", log=True, low=1.5, high=1.6 * float(table["period"].max()), ticks=periods)
    parts = [Panel(x, y, lines, known)]
    text = t(
        "DOWNPOUR on a quadratic at the whole periods below and above its limit: filled where it shrinks, hollow where "
        "it grows; dashed: the limit in closed form. On the right side of it in {right} of {all} cases. Derived here, "
        "as the reason for what figure 2 of the paper shows of DOWNPOUR at long periods.",
        right=right,
        all=len(table),
    )
    title = t("DOWNPOUR's longest period, run and derived")
    svg = panels("easgd-downpour-limit", title, "", parts)
    shown = ShownTable(
        "paper-easgd-downpour-limit",
        title,
        [
            Shown("workers", t("Workers")),
            Shown("eta_h", "eta h", text="{:g}".format),
            Shown("period", t("Period")),
            Shown("growth", t("Growth")),
            Shown("limit", t("Limit tau*")),
        ],
        table.assign(
            limit=[largest_period(eta=r["eta_h"], workers=int(r["workers"])) for r in table.to_dict("records")]
        ),
    )
    return PaperFigure("easgd-downpour-limit", title, svg, text, shown, ("A7",))


FIGURES: tuple[Draw, ...] = (_easgd, _admm, _downpour)
