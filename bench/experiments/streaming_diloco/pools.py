"""A pool of workers that grows or shrinks while it trains: the same total of computing in another order."""

from __future__ import annotations

from dataclasses import dataclass, replace

from algorithms.diloco import OUTER as LABEL
from algorithms.diloco import DiLoCo
from algorithms.exchange import Exchange
from algorithms.interface import Worker
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import (
    OUTER,
    PERIOD,
    anchor,
    inner,
    model,
    seeds_and_steps,
    trained,
)

POOLS = {
    "doubling": (2, 4),
    "halving": (4, 2),
    "ramp-up": (1, 2, 3, 4),
    "ramp-down": (4, 3, 2, 1),
}


@dataclass(frozen=True, kw_only=True)
class Present(Exchange):
    """An exchange between the first workers, as many as there are at the step."""

    stages: tuple[int, ...]
    steps: int

    @property
    def reduces(self) -> bool:
        """No: not all take part."""
        return False

    def present(self, size: int, t: int, seed: int) -> list[int]:
        """The workers of the pool at step t."""
        return list(range(self.stages[(t - 1) * len(self.stages) // self.steps]))


@dataclass(frozen=True, kw_only=True)
class Pool(DiLoCo):
    """DiLoCo in which only the workers of the pool train; who joins begins at the outer parameters."""

    stages: tuple[int, ...]  # workers in each of equally long stretches of the run
    steps: int  # of the run

    def exchange(self) -> Exchange:
        """Between those in the pool."""
        return Present(stages=self.stages, steps=self.steps)

    async def worker(self, w: Worker) -> None:
        """One worker; outside of the pool it computes nothing."""
        x, opt, outer = w.replica(), w.optimizer(self.optimizer), w.optimizer(self.resolved_outer)
        anchor, exchange = w.keep("anchor", x.data), self.exchange()
        async for t in w.steps():
            if exchange.is_present(w, t):
                x.apply_(await w.gradient(x), opt)
            if t % self.period == 0:
                mean = await exchange.mean(w, LABEL, anchor - x.data, t)
                assert mean is not None, "the pool is never empty"
                outer.step_(anchor, mean)
                x.assign_(anchor)


def pools(scale: Scale) -> Rows:
    """Held-out loss [nat] at the end, for each order and seed; the inner rate is constant after the warm-up.

    A decaying rate would favour the orders that compute much while it is large. The steps are rounded up so that each
    stretch is a number of whole rounds.
    """
    rows = []
    for name, stages in POOLS.items():
        for seed, wanted in seeds_and_steps(scale):
            whole = PERIOD * len(POOLS["ramp-up"])
            steps = -(-wanted // whole) * whole
            workload = model(batch_size=4)
            algorithm = Pool(period=PERIOD, outer=OUTER, stages=stages, steps=steps)
            optimizer = replace(inner(steps, decay=False), lr=inner(steps).lr / 3)
            simulation = trained(algorithm, workload, seed=seed, steps=steps, workers=4, optimizer=optimizer)
            gradients = sum(handle.state.computed for handle in simulation.workers)
            loss = workload.heldout(anchor(simulation)).loss
            rows.append({"variant": name, "seed": seed, "gradients": gradients, "loss": loss})
    return rows
