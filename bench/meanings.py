"""The settings of a dataclass in words: name, default and meaning.

Meanings are the comments that stand beside the settings in the source, so that there is one place for them.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import Any


def settings_table(cls: type) -> list[str]:
    """A line for each setting of a dataclass, or more: its default and its meaning."""
    settings = [f for f in dataclasses.fields(cls) if f.init]
    notes = meanings(cls)
    rows = [(f"{f.name} = {_default(f)}", notes.get(f.name, "")) for f in settings]
    width = max(len(left) for left, _ in rows) + 2
    lines = []
    for left, meaning in rows:
        first, *rest = textwrap.wrap(meaning, 116 - width) or [""]
        lines += [f"  {left:{width}s}{first}".rstrip(), *(f"  {'':{width}s}{line}" for line in rest)]
    return lines


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return "not set" if field.default is None else repr(field.default)
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
            text = ", ".join(f"{key} = {v!r}" for key, v in given.items() if isinstance(v, str | int | float))
            return f"{{ {text} }}"
        return repr(value)
    return "must be given"


def meanings(cls: type) -> dict[str, str]:
    """The comments beside the settings of a class and its bases, by setting.

    A comment on the setting's own line, or the lines of comment just above it.
    """
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        try:
            lines = textwrap.dedent(inspect.getsource(base)).splitlines()
        except (OSError, TypeError):  # made of a function (bench.workloads.define): its docstring tells
            continue
        body = ast.parse("\n".join(lines)).body[0]
        assert isinstance(body, ast.ClassDef)
        for node in body.body:
            if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
                continue
            assert node.end_lineno is not None
            last = lines[node.end_lineno - 1]
            beside = last[node.end_col_offset :].partition("#")[2].strip()
            above: list[str] = []
            k = node.lineno - 2
            while k >= 0 and lines[k].strip().startswith("#"):
                above.insert(0, lines[k].strip().lstrip("# "))
                k -= 1
            if beside or above:
                found[node.target.id] = beside if not above else " ".join([*above, beside]).strip()
    return found
