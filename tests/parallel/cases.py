"""The algorithms themselves on real ranks: what they conserve, and that they walk the simulator's trajectory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from algorithms.ad_psgd import ADPSGD
from algorithms.allreduce_sgd import AllreduceSGD
from algorithms.d_psgd import DPSGD
from algorithms.easgd import EASGD
from algorithms.interface import Algorithm, Need, Server, Worker
from algorithms.optim import Optimizer, OptimizerSettings
from bench.budget import Budget
from bench.worker import RankHandle
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.quadratic import Quadratic
from tests.support.mpi_cases import Case, Outcome, on_simulator

# -- conservation laws ------------------------------------------------------------------------------------------------


class SpyOptimizer(Optimizer):
    """Plain SGD that adds up what it applied."""

    def __init__(self, lr: float, x: Tensor, total: Tensor) -> None:
        super().__init__(OptimizerSettings(name="sgd", lr=lr), x.numel(), x.dtype)
        self.total = total

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        super().step_(x, gradient)
        self.total.sub_(gradient, alpha=self.settings.lr)


@dataclass(frozen=True, kw_only=True)
class Watched(Algorithm):
    """Another algorithm, started from a different point on each rank, with what its optimiser applies added up."""

    inner: Algorithm
    lr: float

    @property
    def needs(self) -> frozenset[Need]:  # type: ignore[override]
        """The inner algorithm's."""
        return self.inner.needs

    @property
    def lockstep(self) -> bool:  # type: ignore[override]
        """The inner algorithm's."""
        return self.inner.lockstep

    def begin(self, w: Worker | Server) -> None:
        """Move this rank's replica away from the others' and note where it is."""
        x = w.replica()
        x.data.add_(torch.linspace(-1, 1, x.data.numel(), dtype=x.data.dtype) * (w.rank + 1))
        w.keep("start", x.data)

    async def worker(self, w: Worker) -> None:
        self.begin(w)
        x = w.replica().data
        spy = SpyOptimizer(self.lr, x, w.keep("applied", torch.zeros_like(x)))
        cast("RankHandle", w).state.optimizers.append(spy)  # the inner algorithm's first optimiser
        await self.inner.worker(w)

    async def server(self, s: Server) -> None:
        self.begin(s)
        await self.inner.server(s)


def conserved(case: Case, outcomes: Sequence[Outcome]) -> None:
    """The sum of all models, the server's included, changed by the applied updates and by nothing else."""
    assert min(outcome.steps for outcome in outcomes[: case.workers]) >= 20, "too short to mean anything"
    start = torch.stack([outcome.kept["start"] for outcome in outcomes])
    end = torch.stack([outcome.x for outcome in outcomes])
    applied = sum(outcome.kept["applied"] for outcome in outcomes[: case.workers])
    scale = max(float(torch.linalg.vector_norm(start.sum(0))), float(torch.linalg.vector_norm(end.sum(0))))
    error = float(torch.linalg.vector_norm(end.sum(0) - start.sum(0) - applied))
    assert error <= 1e-12 * scale, (error, scale)
    spread, spread_before = (float(torch.linalg.vector_norm(v - v.mean(0))) for v in (end, start))
    assert spread < 0.9 * spread_before, "the models did not come closer: were they exchanged at all?"


CONSERVING: dict[str, tuple[Algorithm, int]] = {
    "easgd": (EASGD(period=1), 4),  # and a server: five ranks
    "easgd-period-3": (EASGD(period=3), 4),
    "ad-psgd-ring": (ADPSGD(), 4),
    "ad-psgd-complete-bipartite": (ADPSGD(topology="complete-bipartite"), 5),
    **{
        f"d-psgd-{topology}-{order}": (DPSGD(topology=topology, order=order), 5)
        for topology in ("ring", "complete")
        for order in ("cta", "atc")
    },
}

# -- trajectories -----------------------------------------------------------------------------------------------------

STEPS = 30


def like_simulated(case: Case, outcomes: Sequence[Outcome]) -> None:
    """The same losses step by step and the same final models as on the simulator, to rounding."""
    expected = on_simulator(replace(case, after=None))
    assert len(expected) == len(outcomes)
    for ours, theirs in zip(outcomes, expected, strict=True):
        losses, others = torch.tensor(ours.losses()).double(), torch.tensor(theirs.losses()).double()
        assert len(losses) == len(others) == STEPS
        assert float((losses - others).abs().max()) <= 1e-12 * float(others.abs().max())
        assert float((ours.x - theirs.x).abs().max()) <= 1e-12 * float(theirs.x.abs().max())


LOCKSTEP: dict[str, Algorithm] = {
    "allreduce-sgd": AllreduceSGD(),
    "d-psgd-cta": DPSGD(order="cta"),
    "d-psgd-atc": DPSGD(order="atc"),
}
WORKLOADS = {
    "quadratic": Quadratic(dimension=50, noise=0.3, heterogeneity=1.0),
    "digits-mlp": DigitsMlp(dtype="float64"),
}

# -- the table --------------------------------------------------------------------------------------------------------

CASES: dict[str, Case] = {
    **{
        f"conserved-{name}-lr{lr}": Case(
            algorithm=Watched(inner=algorithm, lr=lr),
            workers=workers,
            settings=Quadratic(dimension=20, noise=0.3, heterogeneity=1.0),
            budget=Budget(steps=60) if algorithm.lockstep else Budget(seconds=0.3),
            after=conserved,
        )
        for name, (algorithm, workers) in CONSERVING.items()
        for lr in (0.0, 0.05)
    },
    **{
        f"trajectory-{name}-{workload}-n{workers}": Case(
            algorithm=algorithm,
            workers=workers,
            settings=settings,
            budget=Budget(steps=STEPS),
            optimizer=OptimizerSettings(name="momentum", lr=0.02),
            bucket_nbytes=8192,  # several buckets for digits-mlp
            after=like_simulated,
        )
        for name, algorithm in LOCKSTEP.items()
        for workload, settings in WORKLOADS.items()
        for workers in (2, 4)
    },
}
