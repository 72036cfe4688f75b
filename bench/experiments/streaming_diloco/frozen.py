"""Freezing what is not about to be exchanged, as FedPart does: each fragment trains in its own part of the period."""

from __future__ import annotations

from dataclasses import dataclass

from algorithms.diloco import OUTER as LABEL
from algorithms.interface import Worker
from algorithms.streaming_diloco import StreamingDiLoCo
from bench.experiments.base import Rows, Scale
from bench.experiments.streaming_diloco.setting import OUTER, PERIOD, anchor, model, seeds_and_steps, trained


@dataclass(frozen=True, kw_only=True)
class Frozen(StreamingDiLoCo):
    """Streaming DiLoCo without overlap in which only the fragment that is exchanged next is trained.

    Fragment p trains in the steps from t_p to t_(p+1) of each period, then its outer gradient is averaged.
    """

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt, exchange = w.replica(), w.optimizer(self.optimizer), self.exchange()
        anchor, (parts, rounds) = w.keep("anchor", x.data), self.plan(w.layers)
        outer = [w.optimizer(self.resolved_outer, size=part.size) for part in parts]
        ends = [*rounds.offsets[1:], self.period]
        async for t in w.steps():
            place = (t - 1) % self.period
            p = next(k for k, end in enumerate(ends) if place < end)
            before = x.data.clone()
            x.apply_(await w.gradient(x), opt)
            moved = parts[p].take(x.data)
            x.assign_(before)
            parts[p].assign_(x, moved)
            if place + 1 == ends[p]:
                theta = parts[p].take(anchor)
                mean = await exchange.mean(w, f"{LABEL} {p}", theta - moved, t)
                assert mean is not None, "nobody drops out"
                outer[p].step_(theta, mean)
                parts[p].put_(anchor, theta)
                parts[p].assign_(x, theta)


def frozen(scale: Scale) -> Rows:
    """Held-out loss [nat] of the outer model at the end, for each seed; without freezing: the study's "streaming"."""
    rows = []
    for seed, steps in seeds_and_steps(scale):
        workload = model()
        algorithm = Frozen(period=PERIOD, outer=OUTER, fragment_layers=1, delay=0, alpha=0.0)
        loss = workload.heldout(anchor(trained(algorithm, workload, seed=seed, steps=steps))).loss
        rows.append({"variant": "frozen", "seed": seed, "loss": loss})
    return rows
