"""Studies as jobs on the cluster: submitting them, and waiting for what they do."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import PrivateSlurm, missing

ROOT = Path(__file__).parents[2]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
ON_SLURM = [
    pytest.mark.slurm,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(why := missing()), reason=f"no Slurm: {why}"),
]
PACELINE = (sys.executable, "-m", "paceline")

SMALL = """
name = "small"
seeds = [0, 1]
workers = [2]
transports = ["mpi", "simulated"]
[budget]
seconds = 1.0
snapshots = 3
[[workload]]
name = "quadratic"
[[algorithm]]
name = "allreduce-sgd"
[[algorithm]]
name = "ad-psgd"
"""


def submit(cluster: PrivateSlurm, out: Path, *more: str, study: str = SMALL, site: str = "") -> dict[str, str]:
    """Submit a study; job ids by name.

    Args:
        out: its results folder; the study and the site are written beside it.
        more: options of `paceline submit`.
    """
    (out.parent / "study.toml").write_text(study, encoding="utf-8")
    (out.parent / "site.toml").write_text(site, encoding="utf-8")
    cluster.command(
        *PACELINE, "submit", str(out.parent / "study.toml"), "--out", str(out), "--site", str(out.parent / "site.toml"),
        *more, cwd=ROOT,
    )  # fmt: skip
    return dict(json.loads((out / "slurm" / "jobs.json").read_text(encoding="utf-8")))


def log(out: Path) -> str:
    """What the jobs have said."""
    return "\n".join(f"--- {p.name}\n{p.read_text()}" for p in sorted((out / "slurm").glob("*.log")))


def until(there: Callable[[], object], out: Path, seconds: float = 90.0) -> None:
    """Wait for something to happen; the jobs' logs if it does not."""
    end_s = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end_s, log(out)
        time.sleep(0.1)


def fields(cluster: PrivateSlurm, job: str) -> dict[str, str]:
    """What Slurm knows of a job, or of an array's first task."""
    shown = cluster.command("scontrol", "--oneliner", "show", "job", job, check=False).stdout.splitlines()
    return dict(field.split("=", 1) for field in shown[0].split() if "=" in field) if shown else {}
