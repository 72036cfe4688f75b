"""Every pair of algorithms: better, worse, or not shown; with how many runs, by how much, and how each was tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.claims import NOT_STATED, budgets, findings
from reports import words
from reports.answer_words import reason
from reports.language import noted, retold, t
from reports.sections.base import Material, Section
from reports.shown import Filter, Mark, Shown, ShownTable

SAID = {
    "better": noted("better"),
    "worse": noted("worse"),
    "not shown": noted("not shown"),
}
SIGNS = {"better": "▲", "worse": "▼", "not shown": "○"}
MEASURES = {
    "ratio A/B": noted("ratio of the times"),
    "difference A-B": noted("difference of the losses [nat]"),
}
TUNING = (noted("none"), noted("not stated"), noted("{n} trials: {searched}"), noted("{n} trial: {searched}"),
          noted("{n} trials"), noted("{n} trial"))  # fmt: skip
"""What `analysis.claims.tuning` says."""


def section(material: Material) -> Section | None:
    """Every pair of the algorithms of one setting; None if there is none."""
    found = findings(material.summary)
    if found.empty:
        return None
    frame = found.assign(
        pair=[t("{a} against {b}", a=a, b=b) for a, b in zip(found["a"], found["b"], strict=True)],
        why=[reason(str(text)) for text in found["reason"]],
        on=[words.transport(str(on)) for on in found["transport"]],
    )
    setting = material.setting
    table = ShownTable(
        material.id("pairs"),
        t("Every pair of algorithms: {setting}", setting=setting.described if setting else ""),
        [
            Shown("pair", t("Pair")),
            Shown("on", t("On")),
            Shown("word", t("The first is"), text=lambda word: f"{SIGNS[word]} {t(SAID[word])}"),
            Shown("n_a", t("n of the first"), meaning=t("Completed and diverged runs.")),
            Shown("n_b", t("n of the second"), meaning=t("Completed and diverged runs.")),
            Shown(
                "value",
                t("By how much"),
                low="low",
                high="high",
                meaning=t("The first by the second, or the first less the second: see the column beside it."),
            ),
            Shown("measure", t("Measured as"), text=lambda measure: t(MEASURES[measure])),
            Shown(
                "chance",
                t("By luck"),
                text=words.percent,
                meaning=t("Probability that two equal algorithms are separated like this by luck."),
            ),
            Shown("why", t("Because")),
            Shown("tuning_a", t("Tuning of the first"), text=_tuning),
            Shown("tuning_b", t("Tuning of the second"), text=_tuning),
        ],
        frame,
        label="a",
        mark=_mark,
        filters=[
            Filter("on", t("On"), [(on, words.transport(on)) for on in sorted(found["transport"].unique())]),
            Filter(
                "word",
                t("The first is"),
                [(w.replace(" ", "-"), t(SAID[w])) for w in SAID if (found["word"] == w).any()],
            ),
        ],
        also=("transport", "a", "b", "criterion", "reason"),
    )  # fmt: skip
    html = Markup(
        material.environment.get_template("sections/findings.html.j2").render(
            table=table.html(material.environment),
            shown=int((found["word"] != "not shown").sum()),
            pairs=words.plural(len(found), "pair"),
            warning=_unequal(budgets(material.summary)),
        )
    )
    return Section(material.id("findings"), t("Every pair of algorithms"), html, (table,))


def _mark(row: Mapping[str, Any]) -> Mark:
    simulated = row["transport"] == "simulated"
    return Mark(
        badges=[("sim", t("simulated"))] if simulated else [],
        classes="simulated" if simulated else "",
        choices={"on": [str(row["transport"])], "word": [str(row["word"]).replace(" ", "-")]},
    )


def _tuning(text: str) -> str:
    return retold(text, TUNING)


def _unequal(tuned: pd.DataFrame) -> str:
    """What a reader must know of the tuning before believing a difference."""
    if tuned.empty or bool(tuned["alike"].all()):
        return ""
    if (tuned["tuning"] == NOT_STATED).all():
        return t(
            "How much the settings of each algorithm were tuned is not stated in the study, so a difference may be one "
            "of tuning. State it in the study: tuning of each algorithm."
        )
    labels = sorted(
        {str(label) for label, text in zip(tuned["label"], tuned["tuning"], strict=True) if text == NOT_STATED}
    )
    if labels:
        return t("Not stated for {labels}: how much its settings were tuned.", labels=words.named(labels))
    return t("The algorithms were not tuned alike: a difference may be one of tuning. The last two columns tell.")
