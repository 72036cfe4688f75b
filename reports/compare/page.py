"""The comparison as one self-contained HTML page. The same comparison gives the same bytes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.summary import KEYS
from reports.compare import words
from reports.compare.conditions import Judged
from reports.compare.found import Found
from reports.compare.reasons import told
from reports.language import current, language, noted, t

TEMPLATES = Path(__file__).parents[1] / "templates"

WORDS = {
    "better": noted("better"),
    "worse": noted("worse"),
    "higher": noted("higher"),
    "lower": noted("lower"),
    "not shown": noted("not shown"),
    "no change": noted("no change"),
    "no value": noted("no value"),
}
BADGES = {"better": "completed", "worse": "failed"}
"""Word -> class of its badge, which says it in a colour too."""


def page(found: Found, lang: str = "en") -> str:
    """The page.

    Args:
        lang: one of `reports.language.LANGUAGES`.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # names, settings and reasons come from outside; HTML in them must come out as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    with language(lang):
        return (
            environment.get_template("compare.html.j2").render(
                t=t,
                lang=current(),
                old=found.old,
                new=found.new,
                tally=_tally(found),
                conditions=[_condition(judged) for judged in found.judged],
                ended=words.ended(found),
                settings=words.settings(found),
                environment=words.environment(found),
                problems=found.problems,
                groups=list(_groups(found)),
                intervals=[told(how) for how in dict.fromkeys(found.changes["interval"]) if how != "none"],
                evidence=bool((found.changes[["n_old", "n_new"]].min(axis=1) >= 2).any()),
                luck=_luck(found),
            )
            + "\n"
        )


def _tally(found: Found) -> dict[str, Any]:
    """The headline numbers in short."""
    n, better, worse = words.tally(found)

    def told(rows: list[dict[str, Any]]) -> list[str]:
        lines = [f"{words.cell(row)}: {row['number']} {words.cells(row)[3]}" for row in rows[: words.MOST]]
        return lines + ([t("and {n} more", n=len(rows) - words.MOST)] if len(rows) > words.MOST else [])

    return {"n": n, "better": len(better), "worse": len(worse), "lists": [told(worse), told(better)]}


def _luck(found: Found) -> str:
    """Once in how many times what did not change looks changed; "" if seldom."""
    luck = found.changes["chance"].max()
    return f"{1 / luck:.0f}" if luck > 0.05 else ""


def _condition(judged: Judged) -> dict[str, Any]:
    """What is said of a condition."""
    unanswered = not judged.holds and len(judged.open) == judged.looked

    def cells(of: list[tuple[tuple[Any, ...], str]]) -> list[str]:
        return [f"{words.cell(dict(zip(KEYS, key, strict=True)))}: {told(why)}" for key, why in of]

    return {
        "text": judged.condition.text,
        "state": "open" if unanswered else "holds" if judged.holds else "fine",
        "holds": cells(judged.holds),
        "open": cells(judged.open),
        "looked": judged.looked,
    }


def _groups(found: Found) -> Iterator[dict[str, Any]]:
    """The tables: one for each setting, with the headlines; and all numbers."""
    wanted = {*words.HEADLINES, *(judged.condition.number for judged in found.judged)}
    for key, group in found.changes.groupby(list(KEYS[:-1]), sort=True, observed=True):
        rows = [_row({str(name): value for name, value in row.items()}) for row in group.to_dict("records")]
        yield {
            "title": words.setting_of(dict(zip(KEYS, key, strict=False))),
            "simulated": key[KEYS.index("transport")] == "simulated",
            "rows": [row for row in rows if row["number"] in wanted],
            "all": rows,
        }


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """One change as text, with its numbers in full."""
    kind = "ratio" if row["measure"] == "ratio new/old" else "difference"
    number, old, new, change, interval, word = words.cells(row)
    return {
        "label": str(row["label"]),
        "number": number,
        "unit": str(row["unit"]),
        "old": (old, _full(row["old"])),
        "new": (new, _full(row["new"])),
        "change": (change, _full(row[kind])),
        "interval": interval,
        "runs": f"{row['n_old']} → {row['n_new']}",
        "word": t(WORDS[word]),
        "badge": BADGES.get(word, ""),
        "shown": bool(row["shown"]),
        "reason": told(str(row["reason"])),
    }


def _full(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))
