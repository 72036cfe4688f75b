"""What `paceline algorithms` prints: the table, one algorithm's sheet, and the outcome of its checks."""

from __future__ import annotations

import dataclasses
import inspect
import sys

from algorithms.formula import evaluate
from algorithms.interface import Algorithm
from algorithms.registry import algorithm_class, names
from bench.meanings import settings_table
from bench.settings import StudyError, build, nearest, parse_set

WIDTH = 24  # of the column of names
PATIENCE_S = 1500.0  # of virtual time for reaching the minimiser: settings that nobody tuned may be slow
LARGE = 1e9  # bytes of a model beside which control messages vanish


def listing() -> str:
    """All algorithms, a paragraph each."""
    return "\n\n".join("\n".join(_paragraph(name)) for name in names())


def _paragraph(name: str) -> list[str]:
    try:
        cls = algorithm_class(name)
    except ImportError as error:
        return [f"{name:{WIDTH}s}not usable: {error}"]
    kind = "lock-step" if cls.lockstep else "asynchronous"
    needs = ", ".join(sorted(cls.needs)) or "nothing"
    lines = [
        cls.summary,
        cls.paper or "no source stated",
        f"needs {needs}; {kind}; evaluated on {evaluated_in_words(cls.evaluated_model)}",
        f"bytes per step: {cls.bytes_per_step or 'not stated'};  state per worker: {cls.state or 'not stated'}",
    ]
    return [f"{name if k == 0 else '':{WIDTH}s}{line}" for k, line in enumerate(lines)]


def evaluated_in_words(model: str) -> str:
    """ "mean:anchor" as "the workers' anchor"."""
    of, _, name = model.partition(":")
    if name:
        return f"the {'servers' if of == 'center' else 'workers'}' {name}"
    return "the center" if of == "center" else "the mean of the replicas"


def find(name: str | None) -> type[Algorithm]:
    """The class registered as `name`.

    Raises:
        StudyError: there is none.
    """
    try:
        return algorithm_class(name or "")
    except ImportError as error:
        raise StudyError(f"algorithm {name!r}: {error}") from error
    except KeyError as error:
        raise StudyError(f"unknown algorithm {name!r}{nearest(name or '', names())}") from error


def sheet(name: str, workers: int) -> str:
    """One algorithm: where it comes from, what it does, its settings with defaults and meanings, what it costs."""
    cls = find(name)
    about = inspect.getdoc(inspect.getmodule(cls)) or ""
    lines = settings_table(cls)
    return "\n".join(
        [*_paragraph(name), "", about, "", "Settings of a study's [[algorithm]]:", *lines, "", _cost(cls, workers)]
    ).rstrip()


def _cost(cls: type[Algorithm], workers: int) -> str:
    """What the formulas come to with the defaults."""
    head = f"With the defaults and {workers} workers: "
    if not (cls.bytes_per_step and cls.state):
        return ""
    try:
        default = cls()
        default.validate(workers)
    except (TypeError, ValueError) as error:
        return f"{head}{error}"
    moved, kept = (evaluate(formula, default, workers, LARGE) / LARGE for formula in (cls.bytes_per_step, cls.state))
    return f"{head}{moved:.3g} M per step, state {kept:.3g} M + the optimiser's where it says opt."


def check(name: str | None, settings: list[str], workers: int) -> int:
    """Run what every algorithm must pass; prints an outcome per check."""
    from bench.check import CHECKS, NotApplicable, Row

    cls = find(name)
    table = parse_set(settings, "period=4")
    algorithm = build(cls, table, f"--set ({name})")
    try:
        algorithm.validate(workers)
    except ValueError as error:
        raise StudyError(f"{name} with {workers} workers: {error}") from error
    bad = 0
    given = {f.name: getattr(algorithm, f.name) for f in dataclasses.fields(algorithm) if f.name in table}
    row = Row(name or "", given, workers, seconds=PATIENCE_S)
    for one in CHECKS:
        what = one.__name__.replace("_", " ")
        try:
            one(row)
            print(f"ok       {what}")
        except NotApplicable as reason:
            print(f"-        {what}: {reason}")
        except Exception as error:  # whatever it is, it is the algorithm's fault and the user's to read
            bad += 1
            print(f"FAILED   {what}: {type(error).__name__}: {error}")
        sys.stdout.flush()
    return 1 if bad else 0
