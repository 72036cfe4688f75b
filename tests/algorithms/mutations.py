"""Deliberate bugs, to show that the oracles would notice them.

A mutation is an edit of an algorithm's source text. The edited module is compiled beside the real one, and the oracle
that should notice must fail on its class.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from algorithms.interface import Algorithm
from algorithms.registry import algorithm_class
from bench.kernel import Stuck, TaskFailed

Oracle = Callable[[type[Algorithm]], None]
"""Checks an algorithm's class on something that is known exactly; raises AssertionError."""

_serial = count()


@dataclass(frozen=True)
class Mutation:
    """One plausible bug.

    Attributes:
        name: registry name of the algorithm.
        bug: what it does wrong, in words.
        old, new: the edit of the module's text; `old` must occur exactly once.
        oracle: fails on the edited class.
        module: where the edit is made, if not in the algorithm's own module (a helper or a base class of its).
    """

    name: str
    bug: str
    old: str
    new: str
    oracle: Oracle
    module: str | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.bug}"


def mutated(mutation: Mutation) -> type[Algorithm]:
    """The algorithm's class with the bug."""
    cls = algorithm_class(mutation.name)
    home = mutation.module or cls.__module__
    edited = _compile(home, mutation.old, mutation.new)
    if home == cls.__module__:
        found: Any = getattr(edited, cls.__name__)
        return found  # type: ignore[no-any-return]
    # The algorithm's own module again, unedited, but importing from the edited helper.
    found = getattr(_compile(cls.__module__, "", "", {home: edited}), cls.__name__)
    return found  # type: ignore[no-any-return]


def _compile(module: str, old: str, new: str, instead: dict[str, types.ModuleType] | None = None) -> types.ModuleType:
    """A fresh copy of a module with an edit; imports of the modules in `instead` get what is given there."""
    real = importlib.import_module(module)
    text = inspect.getsource(real)
    if old:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times in {module}"
        text = text.replace(old, new)
    copy = types.ModuleType(f"{module}__mutated{next(_serial)}")
    copy.__file__ = real.__file__
    sys.modules[copy.__name__] = copy  # dataclasses look their module up there
    hidden = {name: sys.modules[name] for name in instead or {}}
    sys.modules.update(instead or {})
    try:
        exec(compile(text, f"<{copy.__name__}>", "exec"), vars(copy))
    finally:
        sys.modules.update(hidden)
    return copy


def notices(mutation: Mutation) -> None:
    """The oracle fails on the class with the bug (a deadlock or an error counts), and on nothing else."""
    mutation.oracle(algorithm_class(mutation.name))
    with_bug = mutated(mutation)  # outside: an edit that finds nothing to edit must not pass for a bug that is noticed
    with pytest.raises((AssertionError, TaskFailed, Stuck)):
        mutation.oracle(with_bug)
