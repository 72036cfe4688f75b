"""Where a result came from: commit, versions, hosts, launcher, threads, GPU."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import socket
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("paceline", "torch", "numpy", "mpi4py", "horovod", "pandas", "pyarrow")
ENVIRONMENT = (
    "SLURM_",
    "OMPI_MCA_",
    "PRTE_MCA_",
    "MALLOC_",
    "UCX_",
    "NCCL_",
    "OMP_",
    "HOROVOD_",
    "CUDA_VISIBLE_DEVICES",
    "LOADEDMODULES",
)


def here() -> dict[str, Any]:
    """What is particular to this rank's process."""
    found: dict[str, Any] = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "cpus": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [],
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


@cache
def common() -> dict[str, Any]:
    """What is the same on all ranks; cached, since it asks git."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": os.environ.get("PACELINE_COMMAND") or shlex.join(["paceline", *sys.argv[1:]]),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": _diff_hash(),
        "versions": versions,
        "torch": {"cuda": torch.version.cuda or "", "config": torch.__config__.show().splitlines()[1].strip()},
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(ENVIRONMENT)},
    }


def code() -> str:
    """Which code runs: the commit, and a hash of what differs from it; "" where neither is known."""
    return " ".join(part for part in (common()["commit"], common()["uncommitted_changes"]) if part)


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _diff_hash() -> str:
    """ "" if the code is as committed, else a hash of the difference."""
    diff = _git("diff", "HEAD", "--", "*.py")
    return hashlib.sha256(diff.encode()).hexdigest()[:12] if diff else ""
