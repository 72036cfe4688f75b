"""Algorithms that go wrong, and the session that runs them: what `bench.session` does, with these registered.

    mpirun -n RANKS python -m tests.parallel.failing OUT RUNS --mpi

Each says on stderr when it is about to go wrong, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from algorithms import registry
from algorithms.interface import Algorithm, Need, Worker
from bench import session

CULPRIT = 1


def now(rank: int) -> None:
    """Tell the test that it begins."""
    sys.stderr.write(f"@going wrong {rank} {time.monotonic()}\n")
    sys.stderr.flush()


@dataclass(frozen=True, kw_only=True)
class Raises(Algorithm):
    """One rank raises while the others are busy otherwise."""

    name: ClassVar[str] = "raises"
    summary: ClassVar[str] = "fails"
    lockstep: ClassVar[bool] = True

    others: Literal["all-reduce", "overlapped", "receive", "compute", "return"] = "all-reduce"

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Collectives block only where nothing else is needed."""
        return frozenset({"collectives"} if self.others == "all-reduce" else {"collectives", "point-to-point"})

    async def worker(self, w: Worker) -> None:
        x = w.replica()
        for _ in range(3):
            await w.allreduce_mean(x.data, label="together")
        if w.rank == CULPRIT:
            self.explode(w.rank)
        elif self.others == "all-reduce":
            await w.allreduce_mean(x.data, label="alone")
        elif self.others == "overlapped":
            tasks = [w.start(w.allreduce_mean(x.data, label=label)) for label in ("one", "two")]
            await tasks[1]
        elif self.others == "receive":
            await w.recv("never")
        elif self.others == "compute":
            while True:
                await w.gradient(x)

    def explode(self, rank: int) -> None:
        """Raise, two frames below `worker`."""
        now(rank)
        raise RuntimeError("as planned")


@dataclass(frozen=True, kw_only=True)
class Hangs(Algorithm):
    """The ranks wait for what never comes."""

    name: ClassVar[str] = "hangs"
    summary: ClassVar[str] = "waits for ever"
    lockstep: ClassVar[bool] = True

    how: Literal["recv", "request", "all-reduce", "overlapped"] = "recv"

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """Collectives block only where nothing else is needed."""
        return frozenset({"collectives"} if self.how == "all-reduce" else {"collectives", "point-to-point"})

    async def worker(self, w: Worker) -> None:
        v = torch.ones(1000)
        await w.allreduce_mean(v, label="together")
        now(w.rank)
        if w.rank == CULPRIT:
            if self.how == "recv":
                await w.recv("never", src=2)  # stuck: recv
            elif self.how == "request":
                await w.request(0, "never", v)  # stuck: request
        elif self.how == "all-reduce":
            await w.allreduce_mean(v, label="alone")  # stuck: all-reduce
        elif self.how == "overlapped":
            task = w.start(w.allreduce_mean(v, label="alone"))
            await task  # stuck: overlapped


def stuck_at(how: str) -> str:
    """file:line that the table must name for this way to hang."""
    with open(__file__, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.rstrip().endswith(f"# stuck: {how}"):
                return f"failing.py:{number}"
    raise AssertionError(how)


def register() -> None:
    """Make these algorithms known to study files, as an installed package would."""
    registry._BUILT_IN.update(raises="tests.parallel.failing:Raises", hangs="tests.parallel.failing:Hangs")


if __name__ == "__main__":
    register()
    sys.exit(session.main(sys.argv[1:]))
