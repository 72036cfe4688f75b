"""`paceline probe` under mpirun: the ranks share samples and workers, and find what one process finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.mpi_launch import ROOT, finish, require, start
from tests.support.probed import probed_study

pytestmark = [pytest.mark.mpi, pytest.mark.timeout(300)]

CALLS = {
    "noise": ["noise", "--snapshot", "last"],
    "landscape": ["landscape", "--points", "3", "--samples", "50", "--micro-batch", "7"],
    "hessian": ["hessian", "--samples", "50", "--micro-batch", "7", "--probes", "3", "--steps", "8"],
    "ggn": ["hessian", "--kind", "ggn", "--samples", "50", "--micro-batch", "7", "--probes", "3", "--steps", "8"],
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require("mpi")
    return probed_study(tmp_path_factory.mktemp("probed"), ["d-psgd"])


ALL = """
import json, sys
import paceline
for call in json.loads(sys.argv[2]):
    assert paceline.main(["probe", sys.argv[1], *call, "--float64", "--json"]) == 0
"""


def probe(made: Path, folder: Path, ranks: int) -> dict[str, list[dict[str, Any]]]:
    """What each call finds on so many ranks; one launch for all calls."""
    copy = Path(shutil.copytree(made, folder / "out"))
    out, err = finish(start(ranks, ["-c", ALL, str(copy), json.dumps(list(CALLS.values()))]), 250)
    lines = out.splitlines()
    assert len(lines) == len(CALLS), err
    return {name: json.loads(line) for name, line in zip(CALLS, lines, strict=True)}


@pytest.fixture(scope="module")
def alone(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What one process finds."""
    return probe(made, tmp_path_factory.mktemp("alone"), 1)


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.thorough)])
def test_ranks_find_what_one_process_finds(
    made: Path, tmp_path: Path, alone: dict[str, list[dict[str, Any]]], ranks: int
) -> None:
    for name, got in probe(made, tmp_path, ranks).items():
        want = alone[name]
        assert len(got) == len(want) > 0
        # An eigenvalue near zero is known to a part of the largest one.
        largest = max((row["value"] for row in want if row.get("quantity") == "eigenvalue"), default=0.0)
        for there, here in zip(got, want, strict=True):
            assert there.keys() == here.keys()
            for column, value in here.items():
                if not isinstance(value, float):
                    assert there[column] == value, (here, column)
                    continue
                # A residual, and a standard error of few draws, are small differences of large numbers.
                slack = 1e-4 if column == "error" else 1e-6
                near = 1e-6 * largest if here.get("quantity") == "smallest eigenvalue" else 1e-9
                assert there[column] == pytest.approx(value, rel=slack, abs=near), (here, column)


def test_what_cannot_be_done_is_one_line_and_ends_all_ranks(made: Path) -> None:
    process = start(2, [str(ROOT / "paceline.py"), "probe", str(made), "noise", "--run", "nobody"])
    _, err = finish(process, 100)
    assert process.returncode != 0
    lines = [line for line in err.splitlines() if line.startswith("paceline probe:")]
    assert len(lines) == 1 and "no run 'nobody'" in lines[0] and "Traceback" not in err


def test_a_file_that_only_one_rank_finds_torn_ends_all_ranks(made: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(made, tmp_path / "out"))
    torn = next(copy.glob("runs/*/snapshots/replica-0002-r1.safetensors"))
    torn.write_bytes(b"torn")
    process = start(2, [str(ROOT / "paceline.py"), "probe", str(copy), "noise", "--snapshot", "last"])
    _, err = finish(process, 60)
    assert process.returncode == 2
    lines = [line for line in err.splitlines() if line.startswith("paceline probe:")]
    assert len(lines) == 1 and torn.name in lines[0] and "Traceback" not in err
