"""What the report's words are in other languages: English sentences are the keys, as in gettext.

Every text that a reader sees goes through `t`. A translation is a TOML file of `"English" = "translation"`, one file
for each part of the report; placeholders like `{name}` stay as they are. A sentence without a translation stays
English.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
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

    Raises:
        ValueError: two files translate the same sentence in different ways.
    """
    found: dict[str, str] = {}
    for path in sorted((FOLDER / code).glob("*.toml")):
        for english, translated in tomllib.loads(path.read_text(encoding="utf-8")).items():
            if found.setdefault(english, translated) != translated:
                raise ValueError(f"{path}: another file translates it in another way: {english!r}")
    return found


def t(english: str, **values: object) -> str:
    """A sentence in the current language, its placeholders filled in.

    Example:
        >>> t("{n} runs", n=3)
        '3 runs'
    """
    sentence = english if _language.get() == "en" else catalogue(_language.get()).get(english, english)
    return sentence.format(**values) if values else sentence
