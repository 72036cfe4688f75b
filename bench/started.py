"""How this process was started, as its environment tells: by MPI's launcher, by one that knows no MPI, or alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from bench.settings import StudyError

PMI = ("PMIX_", "PMI_")
"""Begin the variables by which a launcher offers MPI's start-up."""

OF_RANKS = (*PMI, "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_APP_CTX_", "PRTE_LAUNCHED", "HYDRA_")
"""Begin the variables that tell a process that it is a rank: a launch from within must not join in."""

TORCH = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and its like tell each process."""


@dataclass(frozen=True)
class Call:
    """One of several processes that were started without MPI.

    Attributes:
        rank: its number, from 0.
        size: how many there are.
        by: the launcher, in words.
        key: differs between launches into the same results folder.
        store: whether there is a place to meet, at MASTER_ADDR and MASTER_PORT.
    """

    rank: int
    size: int
    by: str
    key: str
    store: bool


def inside_mpi(environment: Mapping[str, str] = os.environ) -> int:
    """Number of ranks of the mpirun or srun that started this very process; 0 if there is none.

    Example:
        >>> inside_mpi({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "1"})
        4
        >>> inside_mpi({"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4"})  # srun --mpi=none
        0
    """
    tasks = _tasks(environment)
    if tasks == 1:
        return 0  # a shell on a node, such as srun --pty gives, or a task that is to start the ranks
    for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE"):
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return tasks if any(name.startswith(PMI) for name in environment) else 0


def called(environment: Mapping[str, str] = os.environ) -> Call | None:
    """This process among several that were started without MPI; None if it is alone or a rank of MPI.

    Example:
        >>> called({"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "n0", "MASTER_PORT": "29500"}).size
        2
    """
    if inside_mpi(environment):
        return None
    if all(environment.get(name) for name in TORCH) and environment["WORLD_SIZE"] != "1":
        by = "torchrun" if "TORCHELASTIC_RUN_ID" in environment else "RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT"
        key = ".".join(environment.get(name, "0") for name in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT"))
        return Call(int(environment["RANK"]), int(environment["WORLD_SIZE"]), by, key, True)
    if (tasks := _tasks(environment)) > 1:
        names = ("SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT")
        key = ".".join(environment.get(name, "0") for name in names)
        return Call(int(environment["SLURM_PROCID"]), tasks, "srun without MPI's start-up", key, False)
    return None


def number(environment: Mapping[str, str] = os.environ) -> int:
    """Which of several processes this one is, from 0, whether MPI sees them or not; 0 if it is alone."""
    names = ("SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "RANK")
    return next((int(environment[name]) for name in names if environment.get(name, "").isdigit()), 0)


def need_one(command: str) -> None:
    """For commands that are one process, or ranks of MPI.

    Raises:
        StudyError: this is the first of several processes that were started without MPI.
        SystemExit: it is another one; one of them speaks for all.
    """
    if (call := called()) is not None:
        if call.rank:
            raise SystemExit(2)
        raise StudyError(f"{command} is one process: got {call.size} from {call.by} (call it without them)")


def apart(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for starting ranks from here.

    In a shell on a node (srun --pty) it takes away what would make mpirun part of that shell's own step, and lets a
    step of ours share the shell's cores; else srun would wait for ever for cores that the shell holds.
    """
    if _tasks(environment) != 1:
        return dict(environment)
    kept = {k: v for k, v in environment.items() if not k.startswith(PMI) or k.startswith("PMIX_MCA_")}
    return {**kept, "SLURM_OVERLAP": "1"}


def _tasks(environment: Mapping[str, str]) -> int:
    """Tasks of the Slurm step that this process belongs to; 0 if to none, as in a batch script."""
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return 0
    return int(environment.get("SLURM_STEP_NUM_TASKS", environment.get("SLURM_NTASKS", "1")))
