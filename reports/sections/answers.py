"""The answers of all settings as one table: what the first screen says in words, as numbers, and beside the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from analysis.answers import answers
from reports import words
from reports.answer_words import mark as in_words
from reports.language import t
from reports.sections.base import Material, Section
from reports.shown import Mark, Shown, ShownTable

ALSO = (
    "study", "workload", "workers", "simulated", "criterion", "sure", "ties", "target_loss", "n_rival", "n_baseline",
    "time_saved_beyond", "time_shown", "wire_measure",
)  # fmt: skip


def section(material: Material) -> Section | None:
    """All answers; None if nothing has a result."""
    frame = answers(material.summary, material.table)
    if frame.empty:
        return None
    several = frame["study"].nunique() > 1
    rows = [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
    frame = frame.assign(setting=[_setting(row, several) for row in rows], certainty=[in_words(row) for row in rows])
    table = ShownTable(
        "answers",
        t("All answers: one row per workload, number of workers and transport"),
        [
            Shown("setting", t("What was trained")),
            Shown("transport", t("On"), text=words.transport),
            Shown("best", t("Best")),
            Shown("certainty", t("How sure")),
            _number("time_to_target_s", t("Time to target"), "s"),
            Shown("rival", t("Compared")),
            Shown("baseline", t("Baseline")),
            _number("time_saved", t("Training time saved"), text=words.percent),
            _number("loss_difference", t("Held-out loss, difference"), "nat"),
            _number("wire_saved", t("Bytes saved"), text=words.percent),
        ],
        frame,
        label="best",
        mark=_mark,
        also=ALSO,
    )
    template = material.environment.get_template("sections/answers.html.j2")
    html = Markup(template.render(table=table.html(material.environment)))
    return Section("answers", t("All answers as numbers"), html, (table,))


def _setting(row: Mapping[str, Any], several: bool) -> str:
    workers = words.plural(int(row["workers"]), "worker")
    if several:
        return t("{workload}, {workers}, study {study}", workload=row["workload"], workers=workers, study=row["study"])
    return t("{workload}, {workers}", workload=row["workload"], workers=workers)


def _number(name: str, heading: str, unit: str = "", text: Any = None) -> Shown:
    return Shown(name, heading, unit, text=text, low=f"{name}_low", high=f"{name}_high")


def _mark(row: Mapping[str, Any]) -> Mark:
    simulated = bool(row["simulated"])
    return Mark(badges=[("sim", t("simulated"))] if simulated else [], classes="simulated" if simulated else "")
