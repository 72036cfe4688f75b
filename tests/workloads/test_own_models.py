"""A model of one's own: a function under @workload, in a file or in another package."""

import dataclasses
import importlib.metadata
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import paceline
from bench.records import load
from bench.settings import StudyError, build
from bench.study import read
from bench.workloads import registry
from bench.workloads.check import CHECKS, Subject
from bench.workloads.define import workload
from bench.workloads.problem import Problem, Samples
from tests.support.datasets import needs_data

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "my_model.py"

OWN = '''
import torch
from torch import nn
from bench.workloads.define import workload
from bench.workloads.problem import Problem, Samples

@workload("my-line", optimizer={"name": "sgd", "lr": 0.1})
def my_line(*, width: int = 3, batch_size: int = 5) -> Problem:
    """A line through points. Settings: how many inputs; samples per step."""
    if width > 9:
        raise ValueError(f"width must be at most 9: got {width} (default 3)")
    inputs = torch.linspace(-1, 1, 40 * width).view(40, width)
    targets = inputs.sum(1, keepdim=True) + 1
    return Problem(
        module=nn.Linear(width, 1),
        initialise=lambda module, generator: [nn.init.normal_(p, generator=generator) for p in module.parameters()],
        train=Samples(inputs=inputs, targets=targets),
        heldout=(inputs[::4], targets[::4]),
        loss=lambda y, target: (y - target).square().mean(),
        metric="mean square",
        measure=lambda y, target: (y - target).square().mean(),
        facts={"data": "40 points of a line"},
    )
'''

STUDY = """
name = "own"
seeds = [0, 1]
workers = 2
transports = ["simulated"]
budget = { steps = 12, snapshots = 2 }
[[workload]]
name = "models/mine.py:my_line"
width = 2
[[workload]]
name = "models/mine.py:my_line"
label = "split"
partition = { by = "iid" }
[[algorithm]]
name = "allreduce-sgd"
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A study with a model of its own, in a folder that is not the current one."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "mine.py").write_text(OWN)
    (tmp_path / "study.toml").write_text(STUDY)
    monkeypatch.chdir("/")
    return tmp_path


def settings_of(own, function="my_line", **changes):
    cls = registry.settings_class(f"{own}/models/mine.py:{function}")
    return build(cls, changes, "test")


def test_the_functions_parameters_are_the_settings(own):
    settings = settings_of(own, width=2, dtype="float64")
    assert (settings.width, settings.batch_size, settings.title, settings.name) == (2, 5, "my-line", "my-line")
    built = settings.build(torch.device("cpu"), 2)
    assert (built.parameters, built.batch_size, built.dtype) == (3, 5, torch.float64)
    assert dataclasses.replace(settings, batch_size=7).build(torch.device("cpu"), 2).batch_size == 7
    assert hash(settings) == hash(settings_of(own, width=2, dtype="float64"))
    with pytest.raises(StudyError, match=r"unknown key 'widht' \(did you mean 'width'\?\)"):
        settings_of(own, widht=2)
    with pytest.raises(StudyError, match="batch_size must be at least 1: got 0"):
        settings_of(own, batch_size=0)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_passes_every_check(own, check):
    check(Subject(settings_of(own)))


@pytest.mark.thorough
def test_a_study_runs_it_from_anywhere(own, capsys):
    out = own / "out"
    assert paceline.main(["run", str(own / "study.toml"), "--out", str(out)]) == 0
    runs = load(out).runs
    assert sorted(runs["workload"]) == ["my-line", "my-line", "split", "split"]
    assert set(runs["status"]) == {"completed"}
    assert set(runs.loc[runs["workload"] == "my-line", "parameters"]) == {3}
    facts = [json.loads(text) for text in runs.sort_values("workload")["workload_facts"]]
    assert [fact["partition"].split()[0] for fact in facts] == ["whole:", "whole:", "iid", "iid"]
    shares = load(out).shares.merge(runs[["run_id", "workload"]], on="run_id")
    assert list(shares.loc[shares["workload"] == "split", "samples"]) == [20, 20, 20, 20]
    assert list(shares.loc[shares["workload"] == "my-line", "samples"]) == [40, 40, 40, 40]


def test_what_its_author_refuses_is_one_line_before_anything_starts(own, capsys):
    text = (own / "study.toml").read_text().replace("width = 2", "width = 10")
    (own / "study.toml").write_text(text)
    assert paceline.main(["run", str(own / "study.toml"), "--out", str(own / "out")]) == 2
    assert capsys.readouterr().err == ("paceline run: workload my-line: width must be at most 9: got 10 (default 3)\n")
    assert not (own / "out").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("models/none.py:my_line", "there is no file .*none.py"),
        ("models/mine.py:my_lin", "mine.py has no 'my_lin'"),
        ("models/mine.py:torch", "expected a function under @workload, got module"),
        ("models/broken.py:x", "ZeroDivisionError in broken.py"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(own, capsys, name, message):
    (own / "models" / "broken.py").write_text("1 / 0\n")
    (own / "study.toml").write_text(STUDY.replace("models/mine.py:my_line", name))
    assert paceline.main(["run", str(own / "study.toml"), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    with pytest.raises(StudyError, match=message):
        read(own / "study.toml")


def test_a_parameter_without_type_or_default_is_refused():
    with pytest.raises(ValueError, match=r"needs a name, a type and a default: got width \(write it like"):

        @workload("no", optimizer={"name": "sgd", "lr": 0.1})
        def no(width) -> Problem:
            raise AssertionError(width)


def test_an_entry_point_adds_a_workload(monkeypatch):
    point = importlib.metadata.EntryPoint("theirs", "tests.workloads.test_own_models:theirs", registry.GROUP)
    monkeypatch.setattr(registry, "_others", lambda: {"theirs": point})
    assert "theirs" in registry.known()
    assert registry.settings_class("theirs") is theirs


@workload("theirs", optimizer={"name": "sgd", "lr": 0.1})
def theirs() -> Problem:
    """A model of another package."""
    x = torch.zeros(4, 2)
    return Problem(
        module=nn.Linear(2, 2),
        initialise=lambda module, generator: None,
        train=Samples(inputs=x, targets=torch.zeros(4, dtype=torch.int64)),
        heldout=(x, torch.zeros(4, dtype=torch.int64)),
    )


def test_the_documented_example_is_short_and_shown_whole():
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) <= 40
    assert text in (ROOT / "docs" / "adding-a-workload.md").read_text()


@pytest.mark.thorough
@needs_data
def test_the_documented_example_passes_and_is_measured(capsys, data_folder):
    assert paceline.main(["workloads", "check", f"{EXAMPLE}:my_net", "--set", "channels=2"]) == 0
    said = capsys.readouterr().out
    assert "FAILED" not in said and said.count("ok  ") == len(CHECKS)
    assert "1 of 1 workloads pass" in said
