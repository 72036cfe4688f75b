"""`paceline algorithms`: the table, the sheets, the checks, and its error lines."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from typing import Any, ClassVar

import pytest

import paceline
from algorithms import registry
from algorithms.interface import Algorithm, Traffic, Worker
from algorithms.registry import algorithm_class, names
from bench.describe import evaluated_in_words
from bench.meanings import meanings
from bench.settings import StudyError
from bench.study import resolve


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert paceline.main(["algorithms", *arguments]) == 0
    return capsys.readouterr().out


def test_the_list_tells_of_every_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys)
    for name in names():
        cls = algorithm_class(name)
        paragraph = re.search(rf"^{name} +(.*?)(\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
        assert paragraph, name
        for part in (cls.summary, cls.paper, cls.bytes_per_step, cls.state, *cls.needs):
            assert part and part in paragraph[0]


@pytest.mark.parametrize("name", names())
def test_a_sheet_explains_every_setting(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cls = algorithm_class(name)
    text = said(capsys, name)
    explained = meanings(cls)
    for f in dataclasses.fields(cls):
        assert re.search(rf"^  {f.name} = ", text, re.MULTILINE), f.name
        assert explained.get(f.name), f"{name}.{f.name} has no comment that says what it means"
    for part in ("Source:", "Update", "Differences from the paper"):
        assert part in text


def test_evaluated_models_in_words() -> None:
    words = {evaluated_in_words(algorithm_class(name).evaluated_model) for name in names()}
    assert {"the mean of the replicas", "the center", "the workers' anchor", "the servers' average"} <= words


@dataclass(frozen=True, kw_only=True)
class Forgetful(Algorithm):
    """Says nothing true of itself: sends twice what it says, keeps its momentum in a local variable."""

    name: ClassVar[str] = "forgetful"
    summary: ClassVar[str] = "wrong in several ways"
    paper: ClassVar[str] = "nobody"
    needs: ClassVar[Any] = frozenset({"point-to-point"})
    lockstep: ClassVar[bool] = True
    bytes_per_step: ClassVar[str] = "M"
    state: ClassVar[str] = "M + opt"

    async def worker(self, w: Worker) -> None:
        x, opt = w.replica(), w.optimizer(self.optimizer)
        last = 0 * x.data
        async for _ in w.steps():
            x.apply_(await w.gradient(x), opt)
            for other in range(w.size):
                if other != w.rank:
                    w.send(other, "x", x.data)
                    w.send(other, "x", x.data)
            for other in range(w.size):
                if other != w.rank:
                    x.mix_((await w.recv("x", src=other)).data, weight=0.1)
                    await w.recv("x", src=other)
            x.add_(0.01 * last)
            last = x.data.clone()

    def payload_nbytes(self, traffic: Traffic) -> int:
        return sum(traffic.steps) * (traffic.size - 1) * traffic.nbytes

    def conserved(self) -> bool:
        return True


def test_checks_find_what_is_wrong(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import sys

    monkeypatch.setitem(registry._BUILT_IN, "forgetful", f"{__name__}:Forgetful")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Forgetful.__module__])
    assert paceline.main(["algorithms", "check", "forgetful", "-n", "3"]) == 1
    outcome = {line[9:].partition(":")[0]: line[:6].strip() for line in capsys.readouterr().out.splitlines()}
    assert outcome == {
        "one worker is its sequential optimizer": "FAILED",
        "exchanges conserve the sum in any order": "FAILED",
        "the minimiser of a quadratic is reached": "FAILED",
        "the same seed gives the same events": "ok",
        "bytes equal the closed form": "FAILED",
        "the formulas say what is moved and kept": "FAILED",
        "a run goes on from the kept state alone": "FAILED",
    }


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_package:Thing", "cannot be loaded: ModuleNotFoundError"),
        ("json:dumps", "is no subclass of algorithms.interface.Algorithm"),
    ],
)
def test_another_packages_broken_algorithm_is_named(
    value: str, why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint(name="broken", value=value, group="paceline.algorithms")
    monkeypatch.setattr(registry, "_others", lambda: {"broken": point})
    assert why in re.search(r"^broken +not usable: (.*)$", said(capsys), re.MULTILINE)[1]  # type: ignore[index]
    assert paceline.main(["algorithms", "broken"]) == 2
    assert why in capsys.readouterr().err
    table = {
        "name": "x",
        "transports": ["simulated"],
        "workload": {"name": "quadratic"},
        "algorithm": {"name": "broken"},
    }
    with pytest.raises(StudyError, match="broken") as refused:
        resolve(table)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["easgdd"], "unknown algorithm 'easgdd' (did you mean 'easgd'?)"),
        (["check"], "unknown algorithm None"),
        (["check", "easgd", "--set", "period"], "--set: expected KEY=VALUE"),
        (["check", "easgd", "--set", "perod=3"], "unknown key 'perod' (did you mean 'period'?)"),
        (["check", "easgd", "--set", "period=0"], "period must be at least 1 step: got 0"),
        (["check", "d-psgd", "-n", "1"], "d-psgd with 1 workers: "),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main(["algorithms", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert line in error and "\n" not in error
