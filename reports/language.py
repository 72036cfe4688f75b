"""What the report's words are in other languages: English sentences are the keys, as in gettext.

Every text that a reader sees goes through `t`; one that stands in a table of the code is marked with `noted` there and
goes through `t` where it is shown; one that `analysis` wrote is recognised by `retold`. A translation is a TOML file of
`"English" = "translation"`, one file for each part of the report; placeholders like `{name}` stay as they are. A
sentence without a translation stays English.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

LANGUAGES = ("en", "ja")
FOLDER = Path(__file__).parent / "translations"

_language: ContextVar[str] = ContextVar("language", default="en")


@contextmanager
def language(code: str) -> Iterator[None]:
    """Have `t` answer in this language meanwhile."""
    before = _language.set(code)
    try:
        yield
    finally:
        _language.reset(before)


def current() -> str:
    """Code of the language that is spoken, for `<html lang>`."""
    return _language.get()


@cache
def catalogue(code: str) -> Mapping[str, str]:
    """English sentence -> translation, of all parts of the report together.

    What `common.toml` says goes before what the files of single parts say.
    """
    found: dict[str, str] = {}
    for path in files(code):
        for english, translated in tomllib.loads(path.read_text(encoding="utf-8")).items():
            found.setdefault(english, translated)
    return found


def files(code: str) -> list[Path]:
    """The catalogue's files: `common.toml` first."""
    return sorted((FOLDER / code).glob("*.toml"), key=lambda path: (path.stem != "common", path.stem))


def t(english: str, **values: object) -> str:
    """A sentence in the current language, its placeholders filled in.

    Example:
        >>> t("{n} runs", n=3)
        '3 runs'
    """
    sentence = english if _language.get() == "en" else catalogue(_language.get()).get(english, english)
    return sentence.format(**values) if values else sentence


def noted(english: str) -> str:
    """The sentence itself, marked as one that `t` is given later: so that it is known to need a translation."""
    return english


def retold(sentence: str, templates: Sequence[str], parts: Sequence[str] = ()) -> str:
    """A sentence that was made elsewhere from one of these templates, in the current language.

    Args:
        sentence: English, such as a reason that `analysis` gives.
        templates: each with the placeholders that tell how it is made; the first that fits is taken.
        parts: templates of what fills the placeholders.

    Example:
        >>> retold("range of n=2", ["n={n}, no interval", "range of n={n}"])
        'range of n=2'
    """
    for template in templates:
        found = re.fullmatch(_pattern(template), sentence, flags=re.S)
        if found:
            return t(
                template, **{name: retold(part, parts) if parts else part for name, part in found.groupdict().items()}
            )
    return sentence


@cache
def _pattern(template: str) -> str:
    """A regular expression for what a template may become."""
    parts = re.split(r"{(\w+)}", template)
    return "".join(f"(?P<{part}>.+?)" if i % 2 else re.escape(part) for i, part in enumerate(parts))


def joined(sentences: Sequence[str]) -> str:
    """Sentences one after the other: with a space between them where the language has one."""
    return ("" if current() == "ja" else " ").join(sentence for sentence in sentences if sentence)
