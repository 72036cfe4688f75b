"""The algorithms themselves on real ranks: what they conserve, and that they walk the simulator's trajectory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from algorithms.interface import Algorithm, Need, Server, Worker
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.check import Row, SpyOptimizer
from bench.worker import RankHandle
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.quadratic import Quadratic
from tests.algorithms.test_common import FIRST, ROWS
from tests.support.mpi_cases import Case, Outcome, on_simulator

SIZES = (2, 4, 5)
"""Numbers of workers that an algorithm's first row is tried with, where it takes them; its other rows with one."""

# -- conservation laws ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Watched(Algorithm):
    """Another algorithm, started from a different point on each rank, with what its optimiser applies added up."""

    inner: Algorithm
    spied: bool
    lr: float

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """The inner algorithm's."""
        return self.inner.needs

    @property
    def lockstep(self) -> bool:  # type: ignore[override]
        """The inner algorithm's."""
        return self.inner.lockstep

    def server_ranks(self, size: int) -> int:
        return self.inner.server_ranks(size)

    def shard(self, server: int, size: int, parameters: int) -> slice:
        return self.inner.shard(server, size, parameters)

    def conserved(self) -> bool:
        return True

    def begin(self, w: Worker | Server) -> None:
        """Move this rank's replica away from the others' and note where it is; once, also in an interrupted run."""
        if "start" in cast("RankHandle", w).state.kept:
            return
        x = w.replica()
        x.data.add_(torch.linspace(-1, 1, x.data.numel(), dtype=x.data.dtype) * (w.rank + 1))
        w.keep("start", x.data)

    async def worker(self, w: Worker) -> None:
        self.begin(w)
        x = w.replica().data
        if self.spied:  # as the inner algorithm's first optimiser
            spy = SpyOptimizer(self.lr, x)
            spy.total = w.keep("applied", torch.zeros_like(x))
            cast("RankHandle", w).state.optimizers.append(spy)
        await self.inner.worker(w)

    async def server(self, s: Server) -> None:
        self.begin(s)
        await self.inner.server(s)


def conserved(case: Case, outcomes: Sequence[Outcome]) -> None:
    """The sum of all models, the servers' included, changed by the applied updates and by nothing else."""
    workers = outcomes[: case.workers]
    assert min(outcome.steps for outcome in workers) >= 5, "too short to mean anything"
    assert sum(outcome.nbytes for outcome in outcomes) > 0, "nothing was exchanged"
    scale = sum(float(outcome.x.abs().sum() + outcome.kept["start"].abs().sum()) for outcome in outcomes)
    drift = sum(outcome.drift or 0.0 for outcome in outcomes)
    assert abs(drift) <= 1e-12 * scale, (drift, scale)
    if cast("Watched", case.algorithm).spied:
        begin, end = (
            sum(float(v.sum()) for v in of) for of in ([o.kept["start"] for o in outcomes], [o.x for o in outcomes])
        )
        applied = sum(float(outcome.kept["applied"].sum()) for outcome in workers)
        assert abs(end - begin - applied) <= 1e-12 * scale, (end - begin, applied, scale)


def with_sizes(row: Row) -> Iterator[tuple[Algorithm, int]]:
    """The row's algorithm with the numbers of workers that it takes."""
    algorithm = row.make()
    for workers in SIZES if row is FIRST[row.name] else (4, row.workers):
        try:
            algorithm.validate(workers)
        except ValueError:
            continue
        yield algorithm, workers
        if row is not FIRST[row.name]:
            return


# -- trajectories -----------------------------------------------------------------------------------------------------

STEPS = 30


def like_simulated(case: Case, outcomes: Sequence[Outcome]) -> None:
    """The same losses step by step, and the same models and kept states at the end, as on the simulator, to
    rounding."""
    expected = on_simulator(replace(case, after=None))
    assert len(expected) == len(outcomes)
    for ours, theirs in zip(outcomes, expected, strict=True):
        losses, others = torch.tensor(ours.losses()).double(), torch.tensor(theirs.losses()).double()
        assert len(losses) == len(others)
        near("losses", losses, others)
        near("x", ours.x, theirs.x)
        assert set(ours.kept) == set(theirs.kept)
        for name, kept in theirs.kept.items():
            near(name, ours.kept[name].double(), kept.double())


def near(what: str, ours: Tensor, theirs: Tensor) -> None:
    """Equal to 1e-12 of the largest element."""
    if theirs.numel():
        away, scale = float((ours - theirs).abs().max()), float(theirs.abs().max())
        assert away <= 1e-12 * max(scale, 1e-3), f"{what}: {away} of {scale}"


QUADRATIC = Quadratic(dimension=50, noise=0.3, heterogeneity=1.0)
NETWORK = DigitsMlp(dtype="float64")
ON_A_NETWORK = {"allreduce-sgd", "d-psgd", "diloco"}
"""Algorithms whose trajectories are compared on a network too: the three ways of exchange."""

# -- the table --------------------------------------------------------------------------------------------------------

CASES: dict[str, Case] = {
    **{
        f"conserved-{row}-with{workers}": Case(
            # Unscaled gradient push may blow up where speeds differ, as its paper says; exchanges conserve anyway.
            algorithm=Watched(inner=algorithm, spied=row.spied, lr=0.05 * getattr(algorithm, "scaled", True)),
            workers=workers,
            settings=replace(QUADRATIC, dimension=20),
            budget=Budget(steps=40) if algorithm.lockstep else Budget(seconds=0.4),
            optimizer=OptimizerSettings(name="sgd", lr=0.05 * getattr(algorithm, "scaled", True)),
            after=conserved,
            left=None,
        )
        for row in ROWS
        if row.make().conserved()
        for algorithm, workers in with_sizes(row)
    },
    **{
        f"trajectory-{row}-{name}-with{workers}": Case(
            algorithm=algorithm,
            workers=workers,
            settings=settings,
            budget=Budget(steps=STEPS),
            optimizer=OptimizerSettings(name="sgd" if algorithm.plain_sgd else "momentum", lr=min(row.lr, 0.02)),
            bucket_nbytes=8192,  # several buckets for digits-mlp
            after=like_simulated,
            left=None,
        )
        for row in ROWS
        if row.make().lockstep
        for name, settings in (("quadratic", QUADRATIC), ("digits-mlp", NETWORK))
        if name == "quadratic" or row.name in ON_A_NETWORK
        for algorithm, workers in with_sizes(row)
    },
}
