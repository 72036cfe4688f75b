"""Turns tables of a TOML file into typed settings, with one clear line for everything that does not fit.

Every message says what, got, allowed, remedy; an unknown key suggests the nearest known one.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class StudyError(ValueError):
    """What the user gave cannot be used; the message is one line, shown without a traceback, exit code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the nearest known name, else the list of what is known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(known)})"


def build(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """An instance of the dataclass `cls` from a TOML table.

    Args:
        where: path for messages, such as "algorithm[2].optimizer".

    Raises:
        StudyError: unknown or missing key, wrong type, or a value that the class itself refuses.
    """
    if not isinstance(table, Mapping):
        raise StudyError(f"{where}: expected a table, got {show(table)}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            raise StudyError(f"{where}: unknown key {key!r}{nearest(key, fields)}")
    values = {key: convert(value, hints[key], f"{where}.{key}") for key, value in table.items()}
    missing = [
        name
        for name, f in fields.items()
        if name not in values and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise StudyError(f"{where}: missing key {missing[0]!r} (every one of these is needed: {', '.join(missing)})")
    try:
        return cls(**values)
    except ValueError as error:
        raise StudyError(f"{where}: {error}") from error


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the type `hint`; ints are taken for floats, lists for tuples, tables for dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        options = [a for a in arguments if a is not type(None)]
        if value is None and len(options) < len(arguments):
            return None
        errors = []
        for option in options:
            try:
                return convert(value, option, where)
            except StudyError as error:
                errors.append(error)
        raise errors[0]
    if origin is Literal:
        if value not in arguments:
            raise StudyError(f"{where}: got {show(value)}, allowed: {', '.join(map(show, arguments))}")
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise StudyError(f"{where}: expected a list, got {show(value)}")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(convert(v, arguments[0], f"{where}[{i}]") for i, v in enumerate(value))
        if len(value) != len(arguments):
            raise StudyError(f"{where}: expected {len(arguments)} values, got {show(value)}")
        return tuple(convert(v, a, f"{where}[{i}]") for i, (v, a) in enumerate(zip(value, arguments, strict=True)))
    if origin is dict:
        if not isinstance(value, Mapping):
            raise StudyError(f"{where}: expected a table, got {show(value)}")
        return {str(k): convert(v, arguments[1], f"{where}.{k}") for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and not (hint is not bool and isinstance(value, bool)):
        return value
    expected = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}.get(hint, str(hint))
    raise StudyError(f"{where}: expected {expected}, got {show(value)}")


def parse_set(items: Iterable[str], example: str) -> dict[str, Any]:
    """What `--set KEY=VALUE` options say, each a line of TOML.

    Args:
        example: a good one, for the message.

    Raises:
        StudyError: one is not.
    """
    table: dict[str, Any] = {}
    for item in items:
        try:
            table |= tomllib.loads(item)
        except tomllib.TOMLDecodeError as error:
            raise StudyError(
                f"--set: expected KEY=VALUE as in TOML, such as {example}: got {item!r} ({error})"
            ) from error
    return table


def show(value: Any) -> str:
    """A value as the user wrote it, shortened."""
    text = {True: "true", False: "false"}.get(value, repr(value)) if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def plain(settings: Any) -> Any:
    """Dataclasses, tuples and the like as what JSON can hold.

    A field whose metadata say `in_id`: "never" is left out, with "if set" only while it has its default: so a setting
    that is added later changes no run's id.
    """
    if dataclasses.is_dataclass(settings) and not isinstance(settings, type):
        return {
            f.name: plain(value)
            for f in dataclasses.fields(settings)
            if f.init
            for value in [getattr(settings, f.name)]
            if not ((rule := f.metadata.get("in_id")) == "never" or (rule == "if set" and value == f.default))
        }
    if isinstance(settings, Mapping):
        return {str(k): plain(v) for k, v in settings.items()}
    if isinstance(settings, list | tuple):
        return [plain(v) for v in settings]
    return settings
