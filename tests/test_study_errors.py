"""What users get wrong: one line with what, got, allowed or remedy; exit code 2; nothing started, nothing written."""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import paceline
from bench import launch, started

ROOT = Path(__file__).resolve().parents[1]

GOOD = """\
name = "errors"
workers = [4]
transports = ["simulated"]
budget = {seconds = 0.1}

[[workload]]
name = "quadratic"

[[algorithm]]
name = "easgd"
"""


def top(line: str) -> str:
    """The good study with one more line at the top level; it replaces the line with the same key."""
    head, rest = GOOD.split("\n\n", 1)
    kept = [old for old in head.splitlines() if old.split()[0] != line.split()[0]]
    return "\n".join([line, *kept, "", rest])


def workload(lines: str) -> str:
    return GOOD.replace('name = "quadratic"', f'name = "quadratic"\n{lines}')


def algorithm(lines: str) -> str:
    return GOOD.replace('name = "easgd"', lines)


Ask = Callable[..., str]


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Run the command on a study; check all that every refusal has in common; return what it said."""
    monkeypatch.chdir(tmp_path)

    def start(*_: object, **__: object) -> None:
        raise AssertionError("something was started")

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(launch.Session, "run", start)

    def refused(study: str | bytes | None, *arguments: str, command: str = "run") -> str:
        line = [command, *arguments]
        if study is not None:
            data = study if isinstance(study, bytes) else study.encode()
            (tmp_path / "study.toml").write_bytes(data)
            line.insert(1, "study.toml")
        before = tree(tmp_path)
        code = paceline.main(line)
        out, err = capsys.readouterr()
        assert code == 2, f"exit code {code}: {err}"
        assert out == "" and tree(tmp_path) == before, "something was written"
        assert err.endswith("\n") and err.count("\n") == 1, f"one line, got: {err!r}"
        assert "Traceback" not in err and err.startswith("paceline")
        return err

    return refused


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


def test_the_study_that_is_spoilt_below_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.toml").write_text(GOOD)
    assert paceline.main(["run", "study.toml", "--dry-run"]) == 0


# study file, and what the one line must say: what, got, allowed or remedy
STUDIES: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    # the file
    "invalid TOML": ("name = errors\n", ("study.toml is not valid TOML", "line 1")),
    "not text": (b'name = "\xff\xfe"', ("study.toml is not valid TOML", "utf-8")),
    "empty": ("", ("missing key 'name'", "name, workload, algorithm")),
    # top level
    "unknown key": (top("budjet = {seconds = 1}"), ("unknown key 'budjet'", "did you mean 'budget'?")),
    "unknown key without a likeness": (top("qqq = 1"), ("unknown key 'qqq'", "known: name", "workers")),
    "missing name": (GOOD.replace('name = "errors"\n', ""), ("study.toml: missing key 'name'",)),
    "missing workload": (GOOD.replace('[[workload]]\nname = "quadratic"\n', ""), ("missing key 'workload'",)),
    "no algorithm": (
        top("algorithm = []").replace('[[algorithm]]\nname = "easgd"\n', ""),
        ("algorithm must not be empty",),
    ),
    "name with a slash": (top('name = "a/b"'), ("usable as a file name", "'a/b'")),
    "name of the folder above": (top('name = ".."'), ("usable as a file name", "'..'")),
    "name with a line break": (top('name = "a\\nb"'), ("usable as a file name", r"'a\nb'")),
    "wrong type": (top('workers = ["four"]'), ("workers[0]", "expected a whole number", "'four'")),
    "fraction where an int is wanted": (top("seeds = [1.5]"), ("seeds[0]", "expected a whole number", "1.5")),
    "bool where an int is wanted": (top("workers = [true]"), ("workers[0]", "expected a whole number", "got true")),
    "bool instead of a list of ints": (top("workers = true"), ("workers", "expected a whole number", "got true")),
    "string instead of a list": (top('transports = "mpi"'), ("transports", "expected a list", "'mpi'")),
    "workers 0": (top("workers = [0]"), ("workers must be at least 1", "got 0")),
    "no workers": (top("workers = []"), ("workers must not be empty",)),
    "workers twice": (top("workers = [2, 2]"), ("workers names something twice", "[2, 2]")),
    "negative seed": (top("seeds = [-1]"), ("seeds must", "got -1")),
    "seed beyond the tables": (top(f"seeds = [{1 << 63}]"), ("seeds must", str(1 << 63))),
    "unknown transport": (top('transports = ["tcp"]'), ("transports[0]", "'tcp'", "'mpi', 'horovod', 'simulated'")),
    "unknown device": (top('device = "gpu"'), ("device", "'gpu'", "'auto', 'cpu', 'cuda'")),
    "bucket not finite": (top("bucket_MiB = nan"), ("bucket_MiB", "got nan")),
    "bucket infinite": (top("bucket_MiB = inf"), ("bucket_MiB", "got inf")),
    "time-out 0": (top("timeout_s = 0"), ("timeout_s must be > 0", "got 0")),
    # budget
    "seconds and steps": (
        top("budget = {seconds = 1, steps = 5}"),
        ("either seconds or steps", "seconds=1.0, steps=5"),
    ),
    "neither seconds nor steps": (top("budget = {snapshots = 5}"), ("either seconds or steps",)),
    "steps for an asynchronous algorithm": (
        top("budget = {steps = 5}"),
        ("easgd on simulated", "asynchronous", "give budget.seconds"),
    ),
    "steps 0": (top("budget = {steps = 0}"), ("budget.steps must be at least 1", "got 0")),
    "seconds not finite": (top("budget = {seconds = inf}"), ("budget.seconds must be > 0", "got inf")),
    "snapshots 0": (top("budget = {seconds = 1, snapshots = 0}"), ("budget.snapshots must lie in 1..1000", "got 0")),
    "budget is a number": (top("budget = 5"), ("budget", "expected a table", "got 5")),
    # network and compute
    "unknown network key": (top("network = {latency = 1}"), ("network: unknown key 'latency'", "'latency_s'")),
    "bandwidth 0": (top("network = {bandwidth_Gbit_per_s = 0}"), ("bandwidth_Gbit_per_s must be > 0", "got 0")),
    "link of a rank that is not there": (
        top("network = {link = [{src = 0, dst = 9, latency_s = 1}]}"),
        ("network.link", "rank 9", "0..4"),
    ),
    "link to itself": (top("network = {link = [{src = 1, dst = 1, latency_s = 1}]}"), ("link", "1")),
    "slow worker out of range": (top("compute = {slow = {4 = 2.0}}"), ("compute.slow", "worker 4", "workers are 0..3")),
    "slow worker by another name": (top('compute = {slow = {"01" = 2.0}}'), ("slow maps a worker", "'01'")),
    "slow worker in other digits": (top('compute = {slow = {"\u00b2" = 2.0}}'), ("slow maps a worker",)),
    "slow for ever": (top("compute = {slow = {1 = inf}}"), ("slow maps a worker", "inf")),
    "sigma without its distribution": (top("compute = {sigma = 0.5}"), ("sigma", "lognormal", "0.5")),
    "sigma not a number": (top('compute = {sigma = nan, distribution = "lognormal"}'), ("sigma", "nan")),
    # workloads
    "unknown workload": (
        GOOD.replace("quadratic", "quadratik"),
        ("workload[0]", "'quadratik'", "did you mean 'quadratic'?"),
    ),
    "workload without a name": (
        GOOD.replace('name = "quadratic"', "dimension = 3"),
        ("workload[0]", "missing key 'name'", "digits-mlp"),
    ),
    "workload twice": (
        GOOD + '[[workload]]\nname = "quadratic"\n',
        ("'quadratic' stands there 2 times", "label of its own"),
    ),
    "unknown setting of a workload": (
        workload("dimensions = 3"),
        ("(quadratic)", "'dimensions'", "did you mean 'dimension'?"),
    ),
    "bad setting of a workload": (workload("dimension = 0"), ("(quadratic)", "dimension", "got 0")),
    "unknown optimizer key": (
        workload("optimizer = {lr = 0.1, momentun = 0.9}"),
        ("workload[0].optimizer", "'momentun'", "did you mean 'momentum'?"),
    ),
    "optimizer key without effect": (
        workload("optimizer = {lr = 0.1, momentum = 0.9}"),
        ("optimizer.momentum has no effect", "name='sgd'"),
    ),
    "optimizer without a rate": (workload('optimizer = {name = "sgd"}'), ("workload[0].optimizer", "missing key 'lr'")),
    "optimizer is a name": (workload('optimizer = "sgd"'), ("workload[0].optimizer", "expected a table", "'sgd'")),
    "target not finite": (workload("target_loss = inf"), ("target_loss must be a finite number", "inf")),
    # algorithms
    "unknown algorithm": (algorithm('name = "esgd"'), ("algorithm[0]", "'esgd'", "did you mean 'easgd'?")),
    "algorithm's name is no string": (algorithm("name = 3"), ("algorithm[0]", "unknown algorithm 3")),
    "unknown setting": (algorithm('name = "easgd"\nperriod = 3'), ("(easgd)", "'perriod'", "did you mean 'period'?")),
    "setting of another type": (
        algorithm('name = "easgd"\nperiod = "ten"'),
        ("period", "expected a whole number", "'ten'"),
    ),
    "bool as a setting": (algorithm('name = "easgd"\nbeta = true'), ("beta", "expected a number", "got true")),
    "period 0": (algorithm('name = "local-sgd"\nperiod = 0'), ("period must be at least 1", "got 0")),
    "moving rate out of range": (algorithm('name = "easgd"\nmoving_rate = 1.5'), ("moving_rate", "[0, 1]", "got 1.5")),
    "beta too large": (
        algorithm('name = "easgd"\nbeta = 8.0'),
        ("beta / workers must not exceed 1", "8.0 / 4", "try beta"),
    ),
    "bad choice": (algorithm('name = "d-psgd"\norder = "act"'), ("order", "'act'", "'cta', 'atc'")),
    "odd ring": (
        algorithm('name = "ad-psgd"').replace("workers = [4]", "workers = [3]"),
        ("ad-psgd on simulated with 3 workers", "bipartite", "even number of workers"),
    ),
    "gossip alone": (
        algorithm('name = "d-psgd"').replace("workers = [4]", "workers = [1]"),
        ("d-psgd on simulated with 1 workers", "at least 2 workers", "got 1"),
    ),
    "own momentum on another optimizer": (
        GOOD.replace("quadratic", "digits-mlp").replace('"easgd"', '"eamsgd"'),
        ("eamsgd on simulated", "its optimizer must be \"sgd\": got 'momentum'", 'optimizer = { name = "sgd"'),
    ),
    "groups that do not divide": (
        algorithm('name = "async-sgd"\ngroup_size = 3'),
        ("group_size must divide the number of workers: got 3 for 4",),
    ),
    "more fragments than the model has blocks": (
        algorithm('name = "streaming-diloco"\nfragments = 9'),
        ("on quadratic", "fragments must not exceed the model's 4 blocks: got 9"),
    ),
    "torus of a prime": (
        algorithm('name = "d-psgd"\ntopology = "torus"').replace("workers = [4]", "workers = [7]"),
        ("d-psgd on simulated with 7 workers", "torus"),
    ),
    "D2 where it diverges": (
        algorithm('name = "d2"\ntopology = "hypercube"').replace("workers = [4]", "workers = [8]"),
        ("smallest eigenvalue of W must be above -1/3", "lazy = true"),
    ),
    "outer optimizer that is none": (
        algorithm('name = "diloco"\nouter = { name = "lamb", lr = 0.1 }'),
        ("outer.name must be one of sgd, momentum, nesterov, adamw", "'lamb'"),
    ),
    "a sequential baseline on many": (
        algorithm('name = "msgd"'),
        ("msgd on simulated with 4 workers",),
    ),
    "rate that is none": (top("rate_Gbit_per_s = 0"), ("rate_Gbit_per_s must be > 0", "got 0")),
    "rate on horovod": (
        top("rate_Gbit_per_s = 1").replace('["simulated"]', '["horovod"]'),
        ("rate_Gbit_per_s cannot limit Horovod", "leave horovod out"),
    ),
    "duplicate label": (
        GOOD + '[[algorithm]]\nname = "easgd"\nperiod = 3\n',
        ("'easgd' stands there 2 times", "label of its own"),
    ),
    "label with a tab": (algorithm('name = "easgd"\nlabel = "a\\tb"'), ("label", "usable as a file name", r"'a\tb'")),
    "label too long": (algorithm(f'name = "easgd"\nlabel = "{"a" * 300}"'), ("label", "usable as a file name")),
    "transport that the study has not": (
        algorithm('name = "easgd"\ntransports = ["mpi"]'),
        ("transports", "'mpi'", "(simulated)"),
    ),
    "workload that the study has not": (
        algorithm('name = "easgd"\nworkloads = ["digits"]'),
        ("no workload 'digits'", "quadratic"),
    ),
}


@pytest.mark.parametrize("what", STUDIES)
def test_a_bad_study_file_is_refused_in_one_line(ask: Ask, what: str) -> None:
    study, words = STUDIES[what]
    said = ask(study)
    for word in ("study.toml", *words):
        assert word in said


def test_a_study_that_is_not_there(ask: Ask) -> None:
    said = ask(None, "nowhere.toml")
    assert "no such study" in said and "'nowhere.toml'" in said
    assert "no such study" in ask(None, ".")  # a folder


def test_workers_and_algorithms_of_the_command_line_are_checked_too(ask: Ask) -> None:
    assert "workers must be at least 1: got 0" in ask(GOOD, "-n", "0")
    assert "even number of workers" in ask(algorithm('name = "ad-psgd"'), "-n", "5")
    said = ask(GOOD, "--only", "easgdd")
    assert "--only" in said and "'easgdd'" in said and "did you mean 'easgd'?" in said


def test_an_unknown_command_suggests_the_nearest(ask: Ask) -> None:
    assert "unknown command 'runn' (did you mean 'run'?)" in ask(None, command="runn")
    assert "known: run, report" in ask(None, command="zzz")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["run"], "required: study"),
        (["run", "s.toml", "-n", "two"], "invalid int value: 'two'"),
        (["run", "s.toml", "--launcher", "slurm"], "invalid choice: 'slurm'"),
        (["run", "s.toml", "--dryrun"], "unrecognized arguments: --dryrun"),
        (["report"], "required: DIR"),
        (["algorithms", "easgd", "-n", "x"], "invalid int value: 'x'"),
        (["workloads", "-x"], "unrecognized arguments: -x"),
        (["doctor", "-x"], "unrecognized arguments: -x"),
    ],
)
def test_a_bad_option_is_answered_by_usage_and_one_line(
    line: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        paceline.main(line)
    assert end.value.code == 2
    said = capsys.readouterr().err
    usage, error = said[: said.rindex("\npaceline")], said[said.rindex("\npaceline") + 1 :]
    assert usage.startswith(f"usage: paceline {line[0]}")
    assert error.count("\n") == 1 and error.startswith(f"paceline {line[0]}: error: ") and words in error


# -- the results folder ------------------------------------------------------------------------------------------------


def test_out_is_a_file_or_below_one(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    for out in ("taken", "taken/below"):
        said = ask(GOOD, "--out", out)
        assert f"cannot write to {out}" in said and "not a folder" in said


def test_out_may_not_be_written_to(ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Access is faked because a superuser may write anywhere.
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "cannot write to sealed/new" in ask(GOOD, "--out", "sealed/new")


def test_out_turns_out_to_be_read_only(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    said = ask(GOOD, "--out", "new")
    assert "cannot write to new" in said and "Read-only file system" in said


@pytest.mark.parametrize("kept", ['{"name": "other"}', "[]", '{"na'], ids=["another's", "no table", "torn"])
def test_out_holds_another_study(ask: Ask, tmp_path: Path, kept: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "study.json").write_text(kept)
    said = ask(GOOD, "--out", "out")
    assert "out" in said and "another --out" in said
    assert ("'other'" in said and "'errors'" in said) or "study.json" in said


# -- what is not installed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["horovod", "mpi4py"])
def test_a_transport_whose_library_is_missing(ask: Ask, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    find_spec = importlib.util.find_spec

    def find(name: str, package: str | None = None) -> Any:
        return None if name == missing else find_spec(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find)
    said = ask(top('transports = ["simulated", "horovod"]'))
    assert "not installed" in said and f"{missing} is" in said.lower()
    assert ("bench.build_horovod" if missing == "horovod" else "pip install") in said


@pytest.mark.parametrize("launcher", ["mpirun", "srun"])
def test_a_launcher_that_is_missing(ask: Ask, monkeypatch: pytest.MonkeyPatch, launcher: str) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(sys, "executable", "/nowhere/bin/python")
    monkeypatch.setattr(started, "inside_mpi", lambda *_: 0)
    said = ask(top('transports = ["mpi"]'), "--launcher", launcher)
    assert f"no {launcher} found" in said


# -- report ------------------------------------------------------------------------------------------------------------


def test_report_on_what_is_not_a_results_folder(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "file").write_text("")
    for name in ("plain", "file", "nowhere"):
        said = ask(None, name, command="report")
        assert "not a results folder" in said and name in said and "paceline run" in said


def test_report_to_a_place_that_is_not_there(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "out" / "runs").mkdir(parents=True)
    assert "no folder missing" in ask(None, "out", "-o", "missing/report.html", command="report")
    assert "is a folder" in ask(None, "out", "-o", "out", command="report")


# -- as a program ------------------------------------------------------------------------------------------------------


def program(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "paceline", *arguments], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_the_program_itself_ends_with_code_2_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(top("budjet = 1"))
    for arguments, words in (
        (["run", "study.toml"], "did you mean 'budget'?"),
        (["report", "."], "not a results folder"),
    ):
        before = tree(tmp_path)
        ended = program(*arguments, cwd=tmp_path)
        assert ended.returncode == 2 and ended.stdout == ""
        assert ended.stderr.count("\n") == 1 and words in ended.stderr
        assert tree(tmp_path) == before


HEAVY = "torch mpi4py horovod numpy pandas pyarrow matplotlib"

LOOK = """
import contextlib, io, json, sys, paceline
with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
    paceline.main(sys.argv[2:])
print(json.dumps([said.getvalue(), [name for name in sys.argv[1].split() if name in sys.modules]]))
"""


@pytest.mark.parametrize("command", ["", *paceline.COMMANDS])
def test_help_answers_at_once_and_imports_nothing_heavy(command: str) -> None:
    words = [command, "--help"] if command else ["--help"]
    seconds = []
    for _ in range(3):
        # The child's processor time: what it takes on a machine with nothing else to do.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-c", LOOK, HEAVY, *words], capture_output=True, text=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
        said, heavy = json.loads(done.stdout)
        assert f"usage: paceline {command}".strip() in said
        assert heavy == []
        if seconds[-1] < 0.5:
            break  # the best of three counts
    assert min(seconds) < 0.5


def test_every_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main([]) == 2
    assert paceline.main(["--help"]) == 0
    said = capsys.readouterr().out
    for name, (_, _, what) in paceline.COMMANDS.items():
        assert name in said and what in said
