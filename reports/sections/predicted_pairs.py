"""Every pair of measured and predicted: the numbers behind the section on predictions, and beside the page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from analysis.predictions import pairs, within
from reports import words
from reports.language import t
from reports.predictions import TOLERANCE
from reports.sections.base import Material, Section
from reports.shown import Mark, Shown, ShownTable

ALSO = (
    "study",
    "predicted_study",
    "transport",
    "rate_Gbit_per_s",
    "measured_seeds",
    "predicted_seeds",
    "within",
    "sure",
)


def section(material: Material) -> Section | None:
    """All comparable pairs; None if there are none."""
    judged = within(pairs(material.results.runs, material.table), TOLERANCE)
    if judged.empty:
        return None
    rows = [{str(name): value for name, value in row.items()} for row in judged.to_dict("records")]
    frame = judged.assign(over=[_over(row) for row in rows]).reset_index(drop=True)
    waiting, sent, loss = t("Waiting not hidden"), t("Bytes sent per sample"), t("Final held-out loss")
    table = ShownTable(
        "predicted-pairs",
        t("Predicted against measured: one row per pair"),
        [
            Shown("label", t("Algorithm")),
            Shown("workload", t("Workload")),
            Shown("workers", t("Workers")),
            Shown("over", t("Measured over")),
            Shown("ratio", t("Predicted / measured"), low="ratio_low", high="ratio_high"),
            _side("measured_samples_per_s", t("Throughput, measured"), t("samples/s")),
            _side("predicted_samples_per_s", t("Throughput, predicted"), t("samples/s")),
            _side("measured_exposed_comm_share", t("{what}, measured", what=waiting), text=words.percent),
            _side("predicted_exposed_comm_share", t("{what}, predicted", what=waiting), text=words.percent),
            _side("measured_wire_nbytes_per_sample", t("{what}, measured", what=sent), text=words.nbytes),
            _side("predicted_wire_nbytes_per_sample", t("{what}, predicted", what=sent), text=words.nbytes),
            _side("measured_final_heldout_loss", t("{what}, measured", what=loss), "nat", text=_loss),
            _side("predicted_final_heldout_loss", t("{what}, predicted", what=loss), "nat", text=_loss),
        ],
        frame,
        label="label",
        mark=_mark,
        also=ALSO,
    )
    template = material.environment.get_template("sections/predicted_pairs.html.j2")
    return Section(
        "predicted-pairs",
        t("Predicted against measured: every pair"),
        Markup(template.render(table=table.html(material.environment))),
        (table,),
    )


def _side(name: str, heading: str, unit: str = "", text: Any = None) -> Shown:
    return Shown(name, heading, unit, text=text, low=f"{name}_low", high=f"{name}_high")


def _loss(value: float) -> str:
    return words.number(value, 4)


def _mark(row: Mapping[str, Any]) -> Mark:
    if row["within"]:
        return Mark()
    return Mark(badges=[("diverged", t("beyond {tolerance}", tolerance=words.percent(TOLERANCE)))])


def _over(row: Mapping[str, Any]) -> str:
    """The transport, and what each rank was limited to."""
    title, rate = words.transport(str(row["transport"])), float(row["rate_Gbit_per_s"])
    return title if math.isnan(rate) else t("{transport}, {rate} Gbit/s", transport=title, rate=f"{rate:g}")
