"""A case: an algorithm that checks the machine it runs on, or whose outcome is checked; runs on every transport.

`on_simulator` runs it in this process, tests/support/mpi_program.py under mpirun; tests/support/mpi_launch.py starts
the latter from pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench import budget
from bench.budget import Budget
from bench.checkpoint import restore, save
from bench.cluster import Compute, Network
from bench.events import Recorder
from bench.kernel import TaskFailed
from bench.run import open_transport, run_segment
from bench.simulate import Simulation
from bench.worker import RankHandle
from bench.workloads.base import Workload
from bench.workloads.quadratic import Quadratic
from bench.workloads.registry import WorkloadSettings

if TYPE_CHECKING:
    from mpi4py import MPI

FAST_Gbit_per_s = 50.0
"""Of the transport "limited": mpi behind a token bucket, whose own machinery is tried and not its patience."""

SEED = 7
"""Study seed of every case."""


@dataclass(frozen=True)
class Outcome:
    """Where one rank stood at the end."""

    rank: int
    steps: int
    x: Tensor
    kept: dict[str, Tensor]
    drift: float | None  # see `Replica`
    nbytes: int
    wire_nbytes: int
    messages: int
    left: int  # messages that nobody took
    rows: list[dict[str, Any]]  # events

    def losses(self) -> list[float]:
        """Mini-batch losses in order."""
        return [row["loss"] for row in self.rows if row["kind"] == "gradient"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case.

    Attributes:
        after: checks the outcomes of all ranks, by rank; raises AssertionError.
        fails: text that must be in the error with which every rank ends; None: no rank fails.
        left: messages that nobody takes, all ranks together; None: any number.
        compute: how long a gradient takes on the simulator.
        interruptions: under MPI how often the run is interrupted, each time on the wish of another worker, its state
            written to bytes, and taken up by fresh ranks; outcomes are then those of the whole run.
    """

    algorithm: Algorithm
    workers: int = 2
    settings: WorkloadSettings = field(default_factory=lambda: Quadratic(dimension=20, noise=0.0))
    budget: Budget = field(default_factory=lambda: Budget(steps=1))
    optimizer: OptimizerSettings | None = None
    bucket_nbytes: int = 25 << 20
    after: Callable[[Case, Sequence[Outcome]], None] | None = None
    fails: str | None = None
    left: int | None = 0
    compute: Compute = field(default_factory=lambda: Compute(gradient_s=1.0))
    timeout_s: float = 30.0
    interruptions: int = 0

    @property
    def ranks(self) -> int:
        """Workers and server."""
        return self.workers + self.algorithm.server_ranks(self.workers)

    def workload(self) -> Workload:
        """A fresh workload."""
        return self.settings.build(torch.device("cpu"), self.workers)

    def judge(self, outcomes: Sequence[Outcome]) -> None:
        """Check what all ranks ended with."""
        left = [outcome.left for outcome in outcomes]
        if self.left is not None:
            assert sum(left) == self.left, f"messages that nobody took, by rank: {left}, expected {self.left} in all"
        if self.after is not None:
            self.after(self, outcomes)


def on_simulator(case: Case, *, shuffle: int | None = None) -> list[Outcome]:
    """Run a case in virtual time and judge it."""
    simulation = Simulation(
        case.algorithm,
        case.workload(),
        workers=case.workers,
        seed=SEED,
        optimizer=case.optimizer,
        compute=case.compute,
        network=Network(latency_s=1e-3, bandwidth_Gbit_per_s=100.0),
        bucket_nbytes=case.bucket_nbytes,
        shuffle=shuffle,
    )
    try:
        simulation.run(case.budget)
    except TaskFailed as error:
        expect(case, error)
        return []
    assert case.fails is None, f"nobody failed, but every rank should with {case.fails!r}"
    outcomes = [outcome_of(handle) for handle in simulation.handles]
    case.judge(outcomes)
    return outcomes


def on_mpi(case: Case, transport_name: str, world: MPI.Comm, fail: Callable[[str], None]) -> None:
    """Run a case on these ranks, the way `bench.run` does, and judge it on rank 0.

    Args:
        fail: told the table if a rank waits too long; must end all ranks.
    """
    rate = FAST_Gbit_per_s if transport_name == "limited" else None
    rows: list[tuple[Any, ...]] = []
    saved, elapsed_s = b"", 0.0
    if case.interruptions:
        budget.AGREE_S = budget.LOOK_S = 0.0  # at every step
    for part in range(case.interruptions + 1):
        transport = open_transport(transport_name, world, case.workers, rate_Gbit_per_s=rate)
        workload = case.workload()
        handle = RankHandle(
            transport,
            workload,
            Recorder("", transport.rank, transport.kernel.now),
            algorithm=case.algorithm,
            seed=SEED,
            optimizer=case.optimizer or OptimizerSettings(**workload.optimizer),
            bucket_nbytes=case.bucket_nbytes,
        )
        transport.warm_up(workload.parameters, workload.dtype)
        if saved:
            restore(handle, safetensors.torch.load(saved))
        wish = (
            WishAt(7 if case.algorithm.lockstep else 3)
            if part < case.interruptions and world.Get_rank() == part % case.workers
            else never
        )
        try:
            run_segment(
                case.algorithm, case.budget, handle, transport, world, case.timeout_s, fail,
                elapsed_s=elapsed_s, wish=wish if case.interruptions else None,
            )  # fmt: skip
        except TaskFailed as error:
            if case.fails is None:
                raise
            expect(case, error)
            world.Barrier()
            return  # the transport is lost with whatever was under way
        assert case.fails is None, f"rank {transport.rank} did not fail, but every rank should with {case.fails!r}"
        assert any(world.allgather(handle.interrupted)) == (part < case.interruptions), f"in part {part}"
        steps = world.allgather(handle.state.step)[: case.workers]
        assert len(set(steps)) == 1 or not case.algorithm.lockstep, f"in part {part} they ended after {steps} steps"
        saved, elapsed_s = safetensors.torch.save(save(handle)), max(world.allgather(transport.kernel.now()))
        rows += handle.recorder.rows()
        transport.close()
    outcomes = world.gather(outcome_of(handle, rows))
    if outcomes is not None:
        case.judge(outcomes)


class WishAt:
    """The wish to stop, from the n-th time that it is asked for."""

    def __init__(self, count: int) -> None:
        self._left = count

    def __call__(self) -> bool:
        self._left -= 1
        return self._left <= 0


def never() -> bool:
    """No wish to stop."""
    return False


def expect(case: Case, error: TaskFailed) -> None:
    """Whether a failed rank failed as it should; anything else is raised again."""
    if case.fails is None or case.fails not in f"{type(error.__cause__).__name__}: {error.__cause__}":
        raise error


def outcome_of(handle: RankHandle, rows: list[tuple[Any, ...]] | None = None) -> Outcome:
    """Where a rank stands; its events are those that its recorder holds, unless they are given."""
    names = (
        "kind", "step", "t0_s", "t1_s", "nbytes", "wire_nbytes", "peer", "label",
        "version_read", "version_applied", "staleness", "loss", "device_s", "mailbox_depth",
    )  # fmt: skip
    recorder = handle.recorder
    assert not recorder.dropped
    return Outcome(
        rank=handle.rank,
        steps=handle.state.step,
        x=handle.replica().data.clone(),
        kept=dict(handle.state.kept),
        drift=handle.replica().drift,
        nbytes=recorder.nbytes,
        wire_nbytes=recorder.wire_nbytes,
        messages=recorder.messages,
        left=handle.mailbox.depth,
        rows=[dict(zip(names, row, strict=True)) for row in (recorder.rows() if rows is None else rows)],
    )
