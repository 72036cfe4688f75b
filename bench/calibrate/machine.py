"""Runs the measuring programs: on the ranks of an MPI launch, or in the simulator, which is then the known truth."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, Protocol

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.clock import WallClock
from bench.cluster import Compute, Network
from bench.cluster.handling import FIRST_NAP_S
from bench.events import Recorder
from bench.simulate import Simulation
from bench.worker import RankHandle
from bench.workloads.base import Workload

if TYPE_CHECKING:
    import torch
    from mpi4py import MPI

SEED = 0


class Row(NamedTuple):
    """What calibration needs of an event row."""

    kind: str
    t0_s: float
    t1_s: float


Rows = list[list[Row]]
"""Of all ranks, by rank."""


@dataclass(frozen=True)
class Subject:
    """A workload of the study, under its label."""

    label: str
    workload: Workload
    optimizer: OptimizerSettings


class Machine(Protocol):
    """Ranks that run measuring programs."""

    ranks: int

    def run(self, program: Algorithm, subject: Subject, seconds: float, *, spin: bool = False) -> Rows:
        """Rows of a run of about that long; the same on every rank. `spin`: ranks that wait never nap."""
        ...

    def naps(self) -> tuple[float, float]:
        """(by how much a nap takes longer than it should, the longest nap) [s]."""
        ...


def rows_of(recorder: Recorder) -> list[Row]:
    """A rank's rows."""
    assert not recorder.dropped, "a measuring program is short"
    return [Row(kind, t0_s, t1_s) for kind, _, t0_s, t1_s, *_ in recorder.rows()]


@dataclass
class SimulatedMachine:
    """A cluster of which everything is known; its gradients have no values."""

    ranks: int
    network: Network
    compute: dict[str, Compute]  # by the workload's label

    def run(self, program: Algorithm, subject: Subject, seconds: float, *, spin: bool = False) -> Rows:
        """See `Machine`."""
        network = self.network
        if spin:
            awake = replace(network.handling, wake_s=0.0, look_s=0.0, nap_s=0.0)
            network = replace(network, handling=awake)
        simulation = Simulation(
            program,
            subject.workload,
            workers=self.ranks,
            seed=SEED,
            optimizer=subject.optimizer,
            network=network,
            compute=self.compute[subject.label],
            gradients="none",
        ).run(Budget(seconds=seconds, snapshots=1))
        return [rows_of(handle.recorder) for handle in simulation.handles]

    def naps(self) -> tuple[float, float]:
        """See `Machine`."""
        return self.network.handling.look_s, self.network.handling.nap_s


class MPIMachine:
    """The ranks of this launch, of which this process is one: every rank makes the same calls.

    Args:
        rate_Gbit_per_s: see a study's key of that name.
    """

    def __init__(
        self,
        transport: str,
        world: MPI.Comm,
        *,
        device: torch.device,
        poll: str = "sleep",
        bucket_nbytes: int = 25 << 20,
        timeout_s: float = 60.0,
        rate_Gbit_per_s: float | None = None,
    ) -> None:
        self.world, self.ranks, self.rank = world, world.Get_size(), world.Get_rank()
        self._transport, self._device, self._rate = transport, device, rate_Gbit_per_s
        self._spin, self._bucket_nbytes, self._timeout_s = poll == "spin", bucket_nbytes, timeout_s

    def run(self, program: Algorithm, subject: Subject, seconds: float, *, spin: bool = False) -> Rows:
        """See `Machine`."""
        from bench.run import open_transport, run_segment

        transport = open_transport(
            self._transport,
            self.world,
            self.ranks,
            device=self._device,
            spin=spin or self._spin,
            rate_Gbit_per_s=self._rate,
        )
        workload = subject.workload
        handle = RankHandle(
            transport,
            workload,
            Recorder("", transport.rank, transport.kernel.now),
            algorithm=program,
            seed=SEED,
            optimizer=subject.optimizer,
            bucket_nbytes=self._bucket_nbytes,
        )
        x, batches = handle.replica().data.clone(), workload.batches(SEED, self.rank, self.ranks)
        for _ in range(2):
            transport.rehearse(lambda: workload.gradient(x, batches.next(), x.clone()))
        transport.warm_up(workload.parameters, workload.dtype)
        budget = Budget(seconds=seconds, snapshots=1)
        run_segment(program, budget, handle, transport, self.world, self._timeout_s, self._fail)
        rows = self.world.allgather(rows_of(handle.recorder))
        transport.close()
        return rows

    def _fail(self, text: str) -> None:
        import os

        os.write(2, f"\n{text}\n".encode())
        self.world.Abort(1)

    def naps(self) -> tuple[float, float]:
        """See `Machine`."""
        if self._spin:
            return 0.0, 0.0
        clock, late_s = WallClock(), []
        self.world.Barrier()
        for _ in range(10):
            for turn in range(4, 12):
                t0 = time.perf_counter_ns()
                clock.idle(None, turn)
                late_s.append((time.perf_counter_ns() - t0) * 1e-9 - min(FIRST_NAP_S * 2 ** (turn - 4), LONGEST_NAP_S))
        late: Sequence[float] = self.world.allgather(median(late_s))
        return sum(late) / len(late), LONGEST_NAP_S


LONGEST_NAP_S = 1e-3
"""Of ranks under MPI (`bench.clock.WallClock`)."""
