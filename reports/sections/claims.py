"""A paper's claims: what it says, what was measured here, the verdict, and the runs behind it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from analysis.claim_table import VERDICTS, counts, run_ids
from reports import words
from reports.decided import decided
from reports.language import noted, t
from reports.sections.base import Material, Section
from reports.shown import Filter, Mark, Shown, ShownTable

WORDS = {
    "reproduced": noted("reproduced"),
    "partly": noted("partly reproduced"),
    "not shown": noted("not shown here"),
    "contradicted": noted("contradicted"),
}
SIGNS = {"reproduced": "✓", "partly": "◐", "not shown": "○", "contradicted": "✗"}
"""A verdict has a sign, a word and a colour, so that none of them is needed alone."""
BADGES = {"reproduced": "completed", "partly": "diverged", "not shown": "open", "contradicted": "failed"}
KINDS = {"exact": noted("exact"), "number": noted("number"), "shape": noted("shape")}
MANY = 12
"""Runs of a claim that are linked; of more the rest is counted."""


def section(material: Material) -> Section | None:
    """The claims of all results folders of the report; None if they have none."""
    claims, errors = decided(material.sources)
    if claims.empty and not errors:
        return None
    known = set(material.results.runs["run_id"])
    papers = [_paper(i, str(paper), own, known) for i, (paper, own) in enumerate(claims.groupby("paper"), start=1)]
    html = Markup(
        material.environment.get_template("sections/claims.html.j2").render(
            papers=[{**paper, "html": paper["table"].html(material.environment)} for paper in papers],
            summary=_summary(claims) if len(claims) else "",
            errors=errors,
        )
    )
    return Section("claims", t("The paper's claims, one by one"), html, tuple(paper["table"] for paper in papers))


def verdict_words(verdict: str) -> str:
    """A verdict as sign and word."""
    return f"{SIGNS[verdict]} {t(WORDS[verdict])}"


def _summary(claims: pd.DataFrame) -> str:
    totals = counts(claims)[list(VERDICTS)].sum()
    return t(
        "{total} claims: {parts}.",
        total=len(claims),
        parts=words.listed([f"{int(totals[verdict])} {t(WORDS[verdict])}" for verdict in VERDICTS if totals[verdict]]),
    )


def _paper(number: int, paper: str, claims: pd.DataFrame, known: set[str]) -> dict[str, Any]:
    """What the template needs for one paper."""
    return {
        "title": paper,
        "summary": _summary(claims),
        "table": _table(number, paper, claims),
        "claims": [_claim({str(k): v for k, v in row.items()}, known) for row in claims.to_dict("records")],
    }


def _table(number: int, paper: str, frame: pd.DataFrame) -> ShownTable:
    def mark(row: Mapping[str, Any]) -> Mark:
        verdict = str(row["verdict"])
        return Mark(
            badges=[(BADGES[verdict], verdict_words(verdict))],
            href=f"#{row['place']}",
            choices={"verdict": [verdict.replace(" ", "-")]},
        )

    return ShownTable(
        f"claims-{number}",
        t("Claims of {paper}: one row per claim", paper=paper),
        [
            Shown("claim_id", t("Claim")),
            Shown("statement", t("What the paper says")),
            Shown("kind", t("Kind"), text=lambda kind: t(KINDS.get(kind, kind))),
            Shown("expected", t("In the paper")),
            Shown("measured", t("Measured here"), text=_figure, low="low", high="high"),
            Shown("unit", t("Unit")),
            Shown("found", t("Found here")),
            Shown("n", t("n"), meaning=t("Runs, or cases of an exact claim, behind the verdict.")),
        ],
        frame,
        mark=mark,
        filters=[
            Filter(
                "verdict",
                t("Verdict"),
                [(v.replace(" ", "-"), verdict_words(v)) for v in VERDICTS if (frame["verdict"] == v).any()],
            )
        ],
        also=("paper", "verdict", "tolerance", "rule", "command", "rows"),
    )


def _claim(row: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    """A claim with the rule that judged it and the runs that it rests on."""
    ids: Sequence[str] = run_ids(row["rows"])
    return {
        "place": row["place"],
        "id": row["claim_id"],
        "badge": BADGES[row["verdict"]],
        "verdict": verdict_words(row["verdict"]),
        "statement": row["statement"],
        "facts": [
            (t("In the paper"), row["expected"]),
            (t("Tolerance, fixed beforehand"), row["tolerance"]),
            (t("Rule, fixed beforehand"), row["rule"]),
            (t("Measured here"), _measured(row)),
            (t("Found here"), row["found"]),
        ],
        "command": row["command"],
        "runs": [(one, one in known) for one in ids[:MANY]],
        "more": max(0, len(ids) - MANY),
    }


def _figure(value: float, digits: int = 3) -> str:
    """A claim's number; close to 1, such as a growth per round, in as many digits as tell it from 1.

    Example:
        >>> _figure(0.6128), _figure(1.000974), _figure(1.0)
        ('0.613', '1.00097', '1.00')
    """
    return words.number(value, 6 if 0 < abs(value - 1) < 0.01 else digits)


def _measured(row: Mapping[str, Any]) -> str:
    value, low, high = (float(row[name]) for name in ("measured", "low", "high"))
    if math.isnan(value):
        return ""
    text = f"{_figure(value, 4)} {row['unit']}".strip()
    if math.isnan(low):
        return text
    return t("{value} ({low} to {high})", value=text, low=_figure(low, 4), high=_figure(high, 4))
