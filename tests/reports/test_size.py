"""How large a report is, and what it takes to build one, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.synthetic import write_results

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MEASURED = """
import resource, sys
from reports.cli import main
assert main(sys.argv[1:]) == 0
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr)
"""


@dataclass(frozen=True)
class Cost:
    """What a report cost: the page's size, all processor time, and the most memory at once."""

    MB: float
    seconds: float
    MiB: float


def cost_of(folders: Sequence[Path], page: Path) -> Cost:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", MEASURED, *map(str, folders), "-o", str(page)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    seconds, MiB = map(float, done.stderr.split())
    cost = Cost(page.stat().st_size / 1e6, seconds, MiB)
    print(cost)  # pytest -rP shows it
    return cost


def test_a_report_like_the_demos(tmp_path: Path) -> None:
    folder = write_results(
        tmp_path / "demo", seeds=(0, 1), steps=1500, workloads=("digits-mlp", "mnist-mlp"), bad=False
    )
    assert len(list(folder.glob("runs/*"))) == 48
    cost = cost_of([folder], tmp_path / "report.html")
    assert cost.MB <= 6 and cost.seconds <= 20 and cost.MiB <= 1024


def test_two_hundred_runs(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "many", seeds=range(8), steps=200, workloads=("digits-mlp", "mnist-mlp"))
    assert len(list(folder.glob("runs/*"))) >= 200
    cost = cost_of([folder], tmp_path / "report.html")
    assert cost.MB <= 12 and cost.seconds <= 60 and cost.MiB <= 1024
