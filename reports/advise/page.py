"""The answer as one self-contained HTML page. The same answer gives the same bytes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from analysis.advice.answer import Answer, Row
from reports.advise import words
from reports.advise.figure import time_against_bandwidth
from reports.style import looks
from reports.words import NOTHING, nbytes, number

TEMPLATES = Path(__file__).parents[1] / "templates"


def page(a: Answer) -> str:
    """The page."""
    look_of = looks((row.label, row.algorithm) for row in a.rows)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,  # names and reasons come from outside; HTML in them must come out as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return (
        environment.get_template("advise.html.j2").render(
            a=a,
            headline=words.headline(a),
            sure=words.how_sure(a),
            changes=words.changes(a),
            figure=time_against_bandwidth(a, look_of),
            rows=[_row(row) for row in a.rows],
            look_of=look_of,
            palette=sorted({look.number: look for look in look_of.values()}.items()),
            gbit=number(a.bandwidth_Gbit_per_s),
            latency=f"{1e6 * a.latency_s:.3g}",
            priced=a.price is not None,
        )
        + "\n"
    )


def _row(row: Row) -> dict[str, Any]:
    """A row's numbers as text."""
    there = math.isfinite(row.time_s)

    def or_nothing(value: float) -> str:
        return number(value) if math.isfinite(value) else NOTHING

    return {
        "label": row.label,
        "there": there,
        "time": words.time(row.time_s) if there else words.verdict(row),
        "interval": words.interval(row) if there else "",
        "ratio": or_nothing(row.ratio),
        "ratio_interval": f"{number(row.ratio_low)} to {number(row.ratio_high)}"
        if math.isfinite(row.ratio_low)
        else "",
        "seeds": f"{row.reached} of {row.seeds}",
        "sent": nbytes(row.sent_nbytes) if there else NOTHING,
        "goodput": or_nothing(row.goodput_Gbit_per_s),
        "peak": or_nothing(row.peak_Gbit_per_s),
        "needs": words.needs(row.needs_Gbit_per_s),
        "cost": or_nothing(row.cost),
    }
