"""What the ranks of a run do together before and after it: clocks, sums over ranks, talk between watchdogs."""

from __future__ import annotations

import time
from typing import Any

from mpi4py import MPI
from torch import Tensor

from bench.clock import WallClock


def align_clocks(world: MPI.Comm, clock: WallClock, rounds: int = 20, *, elapsed_s: float = 0.0) -> tuple[float, float]:
    """Set a common start on all ranks, `elapsed_s` ago; returns this rank's offset to rank 0 and half the round trip
    that it was found with, both in seconds.

    Rank 0 asks each rank for its time; the answer of the fastest round trip lies in the middle of it, give or take half
    of it (Cristian's method).
    """
    rank = world.Get_rank()
    offset_ns, error_ns = 0, 0
    for other in range(1, world.Get_size()):
        if rank == 0:
            best: tuple[int, int] | None = None
            for _ in range(rounds):
                t0 = time.perf_counter_ns()
                world.send(None, dest=other, tag=1)
                theirs = world.recv(source=other, tag=2)
                t1 = time.perf_counter_ns()
                if best is None or t1 - t0 < best[0]:
                    best = (t1 - t0, theirs - (t0 + t1) // 2)
            world.send(best, dest=other, tag=3)
        elif rank == other:
            for _ in range(rounds):
                world.recv(source=0, tag=1)
                world.send(time.perf_counter_ns(), dest=0, tag=2)
            round_trip, offset_ns = world.recv(source=0, tag=3)
            error_ns = round_trip // 2
    world.Barrier()
    start_ns = world.bcast(time.perf_counter_ns(), root=0)
    clock.restart(start_ns + offset_ns - round(elapsed_s * 1e9))
    return offset_ns * 1e-9, error_ns * 1e-9


def everybody() -> MPI.Comm:
    """All ranks of this launch."""
    return MPI.COMM_WORLD


class MPIGroup:
    """The ranks of a run, for what is done together after it (see `bench.evaluate.Group`)."""

    def __init__(self, world: MPI.Comm, workers: int) -> None:
        self._world, self._workers = world, workers
        self.rank = world.Get_rank()

    def sum_(self, v: Tensor) -> Tensor:
        self._world.Allreduce(MPI.IN_PLACE, v.numpy())
        return v

    def gather(self, value: Any) -> list[Any] | None:
        return self._world.gather(value, root=0)

    def mine(self, item: int) -> bool:
        return item % self._workers == self.rank


class WatchdogChannel:
    """How the ranks' watchdogs talk (see `bench.watchdog.Channel`), from threads of their own: needs
    THREAD_MULTIPLE."""

    ASK, ANSWER = 1, 2

    def __init__(self, world: MPI.Comm) -> None:
        self._comm = world.Dup()

    def question(self) -> int | None:
        status = MPI.Status()
        if not self._comm.iprobe(source=MPI.ANY_SOURCE, tag=self.ASK, status=status):
            return None
        self._comm.recv(source=status.Get_source(), tag=self.ASK)
        return status.Get_source()

    def answer(self, asker: int, rows: list[tuple[str, ...]], busy: bool) -> None:
        self._comm.send((rows, busy), dest=asker, tag=self.ANSWER)

    def ask_all(self, seconds: float, own: list[tuple[str, ...]]) -> list[tuple[list[tuple[str, ...]], bool] | None]:
        rank, size = self._comm.Get_rank(), self._comm.Get_size()
        requests = [self._comm.isend(None, dest=other, tag=self.ASK) for other in range(size) if other != rank]
        answers: list[tuple[list[tuple[str, ...]], bool] | None] = [None] * size
        end = time.monotonic() + seconds
        status = MPI.Status()
        while time.monotonic() < end and sum(a is not None for a in answers) < size - 1:
            if self._comm.iprobe(source=MPI.ANY_SOURCE, tag=self.ANSWER, status=status):
                answers[status.Get_source()] = self._comm.recv(source=status.Get_source(), tag=self.ANSWER)
            elif (asker := self.question()) is not None:
                self.answer(asker, own, False)  # it found out at the same time
            else:
                time.sleep(0.01)
        del requests
        return answers

    def close(self) -> None:
        self._comm.Free()


def thread_multiple() -> bool:
    """Whether several threads may call MPI at once."""
    return bool(MPI.Query_thread() == MPI.THREAD_MULTIPLE)


def library() -> str:
    """The MPI library's own description, first line."""
    return MPI.Get_library_version().splitlines()[0].rstrip("\x00")


def local_rank(world: MPI.Comm) -> tuple[int, int]:
    """(this rank's number on its host, ranks on its host)."""
    node = world.Split_type(MPI.COMM_TYPE_SHARED)
    try:
        return node.Get_rank(), node.Get_size()
    finally:
        node.Free()
