"""The templates, and what all of them know."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from reports import words
from reports.language import current, t
from reports.style import Look


def environment(look_of: Mapping[str, Look], beside: str = "") -> Environment:
    """The templates, and what all of them know.

    Args:
        look_of: label -> how the algorithm is drawn.
        beside: as for `build`.
    """
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # names, settings and errors come from outside; HTML in them must come out as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["named"] = _namer(look_of)
    made.globals.update(look_of=look_of, nothing=words.NOTHING, t=t, lang=current(), beside=beside)
    return made


def _namer(look_of: Mapping[str, Look]) -> Callable[[str], Markup]:
    """A filter that sets algorithms' names in a sentence in their colour, and keeps them on one line."""
    looks_by_text = {str(escape(label)): look for label, look in look_of.items()}
    if not looks_by_text:
        return escape
    longest_first = sorted(looks_by_text, key=lambda text: (-len(text), text))
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])")

    def mark(found: re.Match[str]) -> str:
        return f'<span class="name" style="color:var(--a{looks_by_text[found[0]].number})">{found[0]}</span>'

    return lambda sentence: Markup(pattern.sub(mark, str(escape(sentence))))
