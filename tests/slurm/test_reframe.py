"""slurm/reframe_check.py under the stock ReFrame, on the cluster."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.slurm.cluster import PrivateSlurm
from tests.slurm.submitted import ON_SLURM, ROOT

REFRAME = os.environ.get("REFRAME") or shutil.which(
    "reframe", path=f"{ROOT / '.venv-reframe' / 'bin'}:{os.environ['PATH']}"
)
pytestmark = [
    *ON_SLURM,
    pytest.mark.skipif(
        REFRAME is None, reason="no reframe (python3 -m venv .venv-reframe; .venv-reframe/bin/pip install ReFrame-HPC)"
    ),
]


def reframe(cluster: PrivateSlurm, folder: Path, *more: str) -> tuple[int, str]:
    """(exit code, what it said) of the check of one algorithm."""
    assert REFRAME is not None
    done = cluster.command(
        REFRAME, "--config-file", str(ROOT / "tests/slurm/reframe_settings.py"), "--checkpath",
        str(ROOT / "slurm/reframe_check.py"), "--prefix", str(folder), "--run", "--performance-report",
        "--name", "PacelineCheck.*allreduce-sgd", "--setvar", f"PacelineCheck.python={sys.executable}", *more,
        "--nocolor", check=False, cwd=folder, timeout=280, more={"TMPDIR": str(folder)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_the_check_passes_however_ranks_are_started_and_reports_rates(cluster, tmp_path):
    code, said = reframe(cluster, tmp_path, "--report-file", str(tmp_path / "report.json"))
    assert code == 0 and said.count("[       OK ]") == 2, said
    (ran,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    for partition in ("ranks-by-srun", "ranks-by-paceline"):
        (case,) = [case for case in ran["testcases"] if case["partition"] == partition]
        for quantity, unit in (("rate", "samples/s"), ("wire", "Gbit/s")):
            value, *_, found, _ = case["perfvalues"][f"private:{partition}:{quantity}"]
            assert value > 0 and found == unit, case["perfvalues"]


def test_a_rate_below_its_reference_fails_the_check(cluster, tmp_path):
    references = {"private:ranks-by-paceline": {"rate": [1e12, -0.1, None]}}
    (tmp_path / "mine.json").write_text(json.dumps(references))
    more = ("--setvar", f"PacelineCheck.references={tmp_path / 'mine.json'}", "--system", "private:ranks-by-paceline")
    code, said = reframe(cluster, tmp_path, *more)
    assert code != 0 and "failed to meet reference" in said, said
