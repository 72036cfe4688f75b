"""Which path messages take between GPUs: whether MPI may be handed device memory is tried out once, before ranks start.

MPI libraries that say they are CUDA-aware are often not, on this machine or for these calls, and then crash, hang or
deliver wrong bytes. So the supervisor has two ranks exchange device memory the way that runs do (see `cuda_probe`), and
only what then worked is used. The ranks learn of it by the environment variable PACELINE_CUDA_AWARE: "1" or "0"; who
sets it himself is believed. Imports neither torch nor MPI.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.processes import end_group

CUDA_AWARE = "PACELINE_CUDA_AWARE"
WORKS = "cuda-aware: messages in device memory arrive"
"""What the probe prints when every message arrived as it was sent."""

HOST, PINNED, DEVICE, NCCL = "host memory", "pinned host memory", "device memory (CUDA-aware MPI)", "NCCL"
"""Names of the paths, for `facts()` of a transport."""


def told_aware(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this rank was told that MPI takes device memory.

    Raises:
        ValueError: the variable is neither "0" nor "1".
    """
    value = environment.get(CUDA_AWARE, "0")
    if value not in ("0", "1"):
        raise ValueError(f"{CUDA_AWARE} must be 0 or 1: got {value!r} (leave it unset to have MPI tried out)")
    return value == "1"


def no_nccl(gpus: Sequence[str], *, built: bool) -> str:
    """Why NCCL cannot reduce vectors of workers on these GPUs; "" if it can.

    Args:
        gpus: each worker's GPU by a name that is the same in every process; "" for a worker without.
        built: whether Horovod was built with NCCL.
    """
    if "" in gpus:
        return "some workers have no GPU"
    if not built:
        return "Horovod was built without it"
    if len(set(gpus)) < len(gpus):
        return f"{len(gpus)} workers share {len(set(gpus))} GPU{'s' if len(set(gpus)) > 1 else ''}"
    return ""


def gpu_visible(environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev")) -> bool:
    """Whether a process started from here could see an NVIDIA GPU; a guess that costs nothing."""
    hidden = environment.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles")
    return not hidden and any(devices.glob("nvidia[0-9]*"))


def probed(
    two_ranks: Sequence[str],
    environment: Mapping[str, str],
    *,
    program: Sequence[str] = (sys.executable, "-m", "bench.transports.cuda_probe"),
    timeout_s: float = 60.0,
) -> dict[str, str]:
    """What to add to the environment of ranks that may use a GPU: {"PACELINE_CUDA_AWARE": "0" or "1"}.

    A crash, a hang or a wrong byte in the probe means no.

    Args:
        two_ranks: starts two ranks of what follows: mpirun -n 2.
        environment: the ranks' environment; if it says already, nothing is tried.
    """
    if CUDA_AWARE in environment:
        told_aware(environment)
        return {}
    process = subprocess.Popen(
        [*two_ranks, *program],
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout_s)
        works = process.returncode == 0 and WORKS in output
    except subprocess.TimeoutExpired:
        works = False
    finally:
        if process.poll() is None:
            end_group(process)
    return {CUDA_AWARE: "1" if works else "0"}
