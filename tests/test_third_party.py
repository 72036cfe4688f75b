"""The documented example of an algorithm in a package of its own: found, checked, and run on every transport."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.support.mpi_launch import require

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "paceline-sparta"
LONGEST = 40  # lines of code

STUDY = """
name = "sparta"
workers = [3]
transports = ["simulated", "mpi"{horovod}]
budget = {{ steps = 20 }}
[[workload]]
name = "digits-mlp"
[[algorithm]]
name = "sparta"
fraction = 0.1
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment into which the example is installed."""
    place, copy = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("source")
    for file in EXAMPLE.iterdir():
        (copy / file.name).write_bytes(file.read_bytes()) if file.is_file() else None
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--no-index", "--target", str(place), str(copy)], check=True, cwd=copy, timeout=120)
    return {**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}


def paceline(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "paceline.py"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_it_is_short() -> None:
    text = (EXAMPLE / "paceline_sparta.py").read_text(encoding="utf-8")
    code = [line for line in text.partition("from dataclasses")[2].splitlines() if line.strip()]
    assert len(code) <= LONGEST
    shown = (ROOT / "docs" / "adding-an-algorithm.md").read_text(encoding="utf-8").split("```")[1].splitlines()[1:]
    assert all(line in text for line in shown), "the documentation shows something else than the example"


@pytest.mark.thorough
def test_it_is_listed_and_passes_all_checks(environment: dict[str, str]) -> None:
    assert "\nsparta " in paceline(environment, "algorithms")
    outcome = paceline(environment, "algorithms", "check", "sparta", "--set", "fraction=0.25")
    assert outcome.count("ok ") == 7 and "FAILED" not in outcome


@pytest.mark.mpi
@pytest.mark.thorough
@pytest.mark.timeout(240)
def test_it_runs_on_every_transport(environment: dict[str, str], tmp_path: Path) -> None:
    require("mpi")
    try:
        require("horovod")
        transports = {"simulated", "mpi", "horovod"}
    except pytest.skip.Exception:
        transports = {"simulated", "mpi"}
    study = tmp_path / "sparta.toml"
    study.write_text(STUDY.format(horovod=', "horovod"' if "horovod" in transports else ""), encoding="utf-8")
    paceline(environment, "run", str(study), "--out", str(tmp_path / "out"))
    runs = pd.concat([pd.read_parquet(file) for file in (tmp_path / "out").rglob("run.parquet")])
    assert set(runs["transport"]) == transports and set(runs["status"]) == {"completed"}
    assert {json.loads(settings)["fraction"] for settings in runs["settings"]} == {0.1}
