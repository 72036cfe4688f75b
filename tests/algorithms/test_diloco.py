"""Oracles of the outer optimisers: DiLoCo and its streaming, eager and asynchronous forms, and NoLoCo.

"identity k" is number k in docs/oracles.md, to 1e-12 in float64 or to the bit; a "pitfall" is a mistake that others
have made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms.compression import wire_format
from algorithms.delayed_nesterov import DelayedNesterov
from algorithms.eager_diloco import EagerDiLoCo
from algorithms.exchange import Exchange
from algorithms.fragments import Fragment, Rounds, fragments
from algorithms.interface import Algorithm, Layer, Traffic
from algorithms.noloco import NoLoCo
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.registry import algorithm_class
from algorithms.shared import shared_generator
from algorithms.streaming_diloco import StreamingDiLoCo
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.layers import layers_of
from bench.settings import build
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.shakespeare_gpt import ShakespeareGpt
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import Row, evaluated, make, quadratic, replicas, simulate

SGD_1 = OptimizerSettings(name="sgd", lr=1.0)
OUTER = OptimizerSettings(name="nesterov", lr=0.4, momentum=0.6)
BALL = OptimizerSettings(name="momentum", lr=0.7, momentum=0.5)
ADAM = OptimizerSettings(name="adamw", lr=0.1, betas=(0.5, 0.9))
FP4 = {"wire": "e3m0", "block": 8}

ROWS: list[Row] = [
    Row("diloco", {"period": 5}, lr=0.2, seconds=900),
    Row("diloco", {"period": 1, "outer": SGD_1}, workers=3, lr=0.2),
    Row("diloco", {"period": 4, "outer": BALL, "wire": "bfloat16"}, lr=0.2),
    Row("diloco", {"period": 4, "outer": OUTER, "drop": 0.3}, workers=3, lr=0.2),
    Row("streaming-diloco", {"period": 5}, lr=0.2, seconds=900),
    Row("streaming-diloco", {"period": 7, "delay": 5, "fragment_layers": 1, "outer": OUTER}, lr=0.2),
    Row("streaming-diloco", {"period": 5, "delay": (0, 2, 4), "outer": OUTER, **FP4}, workers=3, lr=0.2),
    Row("streaming-diloco", {"period": 6, "delay": 2, "drop": 0.3, "outer": OUTER, "fragments": 3}, lr=0.2),
    Row("eager-diloco", {"period": 5, "outer": OUTER}, lr=0.2, seconds=700),
    Row("eager-diloco", {"period": 4, "variant": "naive", "outer": SGD_1}, workers=3, lr=0.05, seconds=900),
    Row("async-diloco", {"period": 5, "outer": OUTER}, lr=0.2),
    Row("async-diloco", {"period": 5, "variant": "naive"}, workers=3, lr=0.2, seconds=900),
    Row("async-diloco", {"period": 4, "dylu": True, "c": 0.1, "buffer": 3, "outer": OUTER}, lr=0.2),
    Row("noloco", {"period": 5}, lr=0.2),
    Row("noloco", {"period": 3, "gamma": 0.5, "outer_momentum": 0.3}, workers=5, lr=0.2),
]

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
KIND, STEP, PEER, LABEL, STALENESS = 0, 1, 6, 7, 10  # columns of the events
STEPS = 20
INNER = OptimizerSettings(name="adamw", lr=0.01)
Inner = Callable[[int, Tensor], None]
Quantise = Callable[[Tensor], Tensor]


def digits() -> Workload:
    """A network of three layers in float64: on a quadratic the mean model forgets where gradients were taken."""
    return DigitsMlp(dtype="float64", width=8).build(torch.device("cpu"), 4)


def sgd(lr: float = 0.1) -> OptimizerSettings:
    return OptimizerSettings(name="sgd", lr=lr)


def run(
    algorithm: Algorithm,
    workload: Workload,
    workers: int = 4,
    settings: OptimizerSettings = INNER,
    steps: int = STEPS,
    **more: Any,
) -> Simulation:
    return simulate(algorithm, workload, workers=workers, budget=Budget(steps=steps), optimizer=settings, **more)


def kept(simulation: Simulation, name: str) -> Tensor:
    """What the workers keep under a name [n, ...]."""
    return torch.stack([handle.state.kept[name] for handle in simulation.workers])


# -- references: the papers' lines, with whole matrices and masks in place of messages ---------------------------------


def inner_steps(workload: Workload, workers: int, settings: OptimizerSettings = INNER) -> Inner:
    """`step(rank, x)`: one inner update of a worker's parameters on its next mini-batch, in place."""
    batches = [workload.batches(0, rank, workers) for rank in range(workers)]
    optimizers = [Optimizer(settings, workload.parameters, workload.dtype) for _ in range(workers)]

    def step(rank: int, x: Tensor) -> None:
        gradient = torch.empty_like(x)
        workload.gradient(x.clone(), batches[rank].next(), gradient)
        optimizers[rank].step_(x, gradient)

    return step


def masks(workload: Workload, members: Sequence[Sequence[int]]) -> list[Tensor]:
    """Fragments as index vectors, from the numbers of their layers."""
    return [torch.cat([torch.arange(workload.layers[k].lo, workload.layers[k].hi) for k in part]) for part in members]


def algorithm_2(
    workload: Workload,
    workers: int,
    *,
    period: int,
    parts: Sequence[Tensor],
    offsets: Sequence[int],
    delays: Sequence[int],
    alpha: float,
    outer: OptimizerSettings = OUTER,
    quantise: Quantise = lambda v: v,
    present: Callable[[int], Sequence[int]] | None = None,
    steps: int = STEPS,
) -> tuple[Tensor, Tensor]:
    """Algorithm 2 of 2501.18512 (Algorithm 1 with one part, no delay and alpha = 0); Nesterov as in 2401.09135 (4).

    Returns:
        The replicas [n, P], and each worker's outer parameters [n, P].
    """
    step = inner_steps(workload, workers)
    x = workload.initial(0).repeat(workers, 1)
    theta, m = x.clone(), torch.zeros_like(x)
    eps, beta = outer.lr, outer.resolved_momentum
    sent: dict[tuple[int, int], list[Tensor]] = {}
    for t in range(1, steps + 1):
        for rank in range(workers):
            step(rank, x[rank])
        here = {u: list(range(workers)) if present is None else present(u) for u in range(t - period, t + 1)}
        for p, part in enumerate(parts):
            if (t - offsets[p]) % period == 0 and t >= offsets[p] + period:
                sent[p, t] = [quantise(theta[rank, part] - x[rank, part]) for rank in range(workers)]
        for (p, part), rank in itertools.product(enumerate(parts), range(workers)):
            u = t - delays[rank]
            if (p, u) not in sent:
                continue
            if here[u]:
                g = torch.stack([sent[p, u][j] for j in here[u]]).sum(0) / len(here[u])
                theta[rank, part] -= eps * (beta**2 * m[rank, part] + (1 + beta) * g)
                m[rank, part] = beta * m[rank, part] + g
            if rank in here[u]:
                x[rank, part] = alpha * x[rank, part] + (1 - alpha) * theta[rank, part]
    return x, theta


def whole(workload: Workload) -> dict[str, Any]:
    """Algorithm 1 as a case of Algorithm 2."""
    return {"parts": [torch.arange(workload.parameters)], "offsets": [0], "delays": [0] * 9, "alpha": 0.0}


def draws(drop: float, workers: int) -> Callable[[int], list[int]]:
    """Who is present in the round of step t."""

    def present(t: int) -> list[int]:
        if t < 1:
            return []
        u = shared_generator(0, "drop", t).random(workers)
        return [rank for rank in range(workers) if not u[rank] < drop]

    return present


def round_trip(name: Any, block: int) -> Quantise:
    def quantise(v: Tensor) -> Tensor:
        code = wire_format(name, block)
        return code.decode(code.encode(v), v.numel(), v.dtype)

    return quantise


# -- DiLoCo ------------------------------------------------------------------------------------------------------------


def oracle_diloco_is_data_parallel_sgd(cls: type[Algorithm]) -> None:
    """Identity 1: H = 1, inner SGD, outer SGD with lr 1."""
    for workers in (2, 4):
        ours = run(cls(period=1, outer=SGD_1), digits(), workers, sgd())
        theirs = run(make("allreduce-sgd"), digits(), workers, sgd())
        torch.testing.assert_close(replicas(ours), replicas(theirs), **EXACT)


def oracle_diloco_is_data_parallel_nesterov(cls: type[Algorithm]) -> None:
    """Identity 2: H = 1, inner SGD with lr 1, outer Nesterov with the rate and momentum."""
    nesterov = OptimizerSettings(name="nesterov", lr=0.05, momentum=0.8)
    ours = run(cls(period=1, outer=nesterov), digits(), 4, sgd(1.0))
    theirs = run(make("allreduce-sgd"), digits(), 4, nesterov)
    torch.testing.assert_close(replicas(ours), replicas(theirs), **EXACT)


def oracle_diloco_is_algorithm_1(cls: type[Algorithm]) -> None:
    """Algorithm 1 with Adam inside and Nesterov outside; the inner state is kept over rounds."""
    for workers, period in ((1, 3), (3, 4)):
        workload = digits()
        x, theta = algorithm_2(workload, workers, period=period, **whole(workload))
        simulation = run(cls(period=period, outer=OUTER), workload, workers)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)
        torch.testing.assert_close(kept(simulation, "anchor"), theta, **EXACT)


def oracle_diloco_alone_is_its_inner_optimizer(cls: type[Algorithm]) -> None:
    """Identity 5: one worker, outer SGD with lr 1; and workers with the same data are one worker."""
    for period in (1, 3, 7):
        workload = digits()
        x, step = workload.initial(0), inner_steps(workload, 1)
        for _ in range(STEPS):
            step(0, x)
        torch.testing.assert_close(replicas(run(cls(period=period, outer=SGD_1), workload, 1))[0], x, **EXACT)
    one = replicas(run(cls(period=3), digits(), 1))
    workload = digits()
    shard = workload.batches
    workload.batches = lambda seed, rank, size: shard(seed, 0, 1)  # type: ignore[method-assign]
    for same in replicas(run(cls(period=3), workload, 3)):
        torch.testing.assert_close(same, one[0], **EXACT)


def oracle_dropped_rounds(cls: type[Algorithm]) -> None:
    """Identity 12: q = 1 is isolated training and changes no outer state; in between, the mean is over the present."""
    workload = digits()
    alone = run(cls(period=4, drop=1.0), workload, 3)
    assert torch.equal(replicas(alone), replicas(run(cls(period=STEPS + 1), workload, 3)))
    for handle in alone.workers:
        assert torch.equal(handle.state.kept["anchor"], workload.initial(0))
        assert not handle.state.optimizers[1].state()["momentum"].any()
        assert handle.state.optimizers[1].steps == 0
    for drop, period in ((0.3, 2), (0.7, 3)):
        counts = {len(draws(drop, 3)(t)) for t in range(period, STEPS + 1, period)}
        assert len(counts) > 2 and (drop < 0.5 or 0 in counts), "the draws of this seed test little"
        x, theta = algorithm_2(workload, 3, period=period, present=draws(drop, 3), **whole(workload))
        simulation = run(cls(period=period, drop=drop, outer=OUTER), workload, 3, shuffle=1)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)
        torch.testing.assert_close(kept(simulation, "anchor"), theta, **EXACT)


def oracle_messages_do_what_the_all_reduce_does(cls: type[Algorithm]) -> None:
    """Identity 12: q -> 0 is DiLoCo, to the bit: sums run in rank order on either way (identity 13)."""
    reduced = run(cls(period=3), digits(), 3)
    for shuffle in range(4):
        sent = run(cls(period=3, drop=1e-300), digits(), 3, shuffle=shuffle)
        assert sum(handle.recorder.messages for handle in sent.handles)
        assert torch.equal(replicas(sent), replicas(reduced))


def oracle_differences_are_quantised(cls: type[Algorithm]) -> None:
    """Identity 11 and pitfalls: the unreduced differences are quantised, then added in full precision."""
    workload = digits()
    for name, block in (("e3m0", 16), ("int8", 256)):
        x, theta = algorithm_2(workload, 3, period=4, quantise=round_trip(name, block), **whole(workload))
        simulation = run(cls(period=4, outer=OUTER, wire=name, block=block), workload, 3)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)
        torch.testing.assert_close(kept(simulation, "anchor"), theta, **EXACT)


def oracle_the_outer_state_is_the_same_everywhere(cls: type[Algorithm]) -> None:
    """Identity 8: anchor and momentum have the same bits on all workers, on any wire."""
    for settings in ({}, {"drop": 0.4}, {"wire": "bfloat16"}, FP4, {"wire": "fp8-e4m3", "drop": 0.2}):
        simulation = run(cls(period=3, **settings), digits(), 3, shuffle=2)
        first = simulation.workers[0].state
        for handle in simulation.workers[1:]:
            assert torch.equal(handle.state.kept["anchor"], first.kept["anchor"])
            for mine, others in zip(handle.state.optimizers[1:], first.optimizers[1:], strict=True):
                assert torch.equal(mine.state()["momentum"], others.state()["momentum"])


# -- Streaming DiLoCo --------------------------------------------------------------------------------------------------


def oracle_streaming_is_diloco(cls: type[Algorithm]) -> None:
    """Identity 3, to the bit: no delay, alpha = 0; one fragment, or any number of them at the same steps."""
    for outer in (OUTER, BALL, ADAM):
        expected = run(make("diloco", period=4, outer=outer), digits(), 3)
        for settings in ({}, {"fragments": 3, "offsets": (0, 0, 0)}, {"fragments": 2, "offsets": (0, 0)}):
            streaming = run(cls(period=4, outer=outer, delay=0, alpha=0.0, **settings), digits(), 3)
            assert torch.equal(replicas(streaming), replicas(expected))
            assert torch.equal(kept(streaming, "anchor"), kept(expected, "anchor"))
    for same in (FP4, {"drop": 0.4}):
        expected = run(make("diloco", period=4, outer=OUTER, **same), digits(), 3)
        streaming = run(cls(period=4, outer=OUTER, delay=0, alpha=0.0, **same), digits(), 3)
        assert torch.equal(replicas(streaming), replicas(expected))


def oracle_streaming_is_algorithm_2(cls: type[Algorithm]) -> None:
    """Algorithm 2 and pitfalls: offsets, delays longer than the gaps, one per worker, momentum by fragment, wire."""
    workload = digits()
    strided, neighbours = masks(workload, [[0, 2], [1]]), masks(workload, [[0], [1, 2]])
    three = masks(workload, [[0], [1], [2]])
    cases: list[tuple[list[Tensor], dict[str, Any], dict[str, Any]]] = [
        (strided, {"fragments": 2}, {"offsets": [0, 3], "delays": [1, 1, 1], "alpha": 0.5}),
        (neighbours, {"fragments": 2, "pattern": "sequential"}, {"offsets": [1, 5], "delays": [3] * 3, "alpha": 0.0}),
        (three, {"fragment_layers": 1}, {"offsets": [0, 2, 4], "delays": [5, 5, 5], "alpha": 0.25}),
        (three, {"fragment_layers": 1}, {"offsets": [4, 0, 2], "delays": [0, 2, 5], "alpha": 0.7}),
    ]
    for (parts, settings, schedule), wire in itertools.product(cases, ("float32", "e3m0")):
        quantise = round_trip("e3m0", 16) if wire == "e3m0" else lambda v: v
        x, theta = algorithm_2(workload, 3, period=6, parts=parts, quantise=quantise, **schedule)
        coded = {"wire": "e3m0", "block": 16} if wire == "e3m0" else {}
        algorithm = cls(
            period=6,
            outer=OUTER,
            alpha=schedule["alpha"],
            offsets=tuple(schedule["offsets"]),
            delay=tuple(schedule["delays"]),
            **settings,
            **coded,
        )
        simulation = run(algorithm, workload, 3, shuffle=4)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)
        torch.testing.assert_close(kept(simulation, "anchor"), theta, **EXACT)


def oracle_streaming_with_drops_is_algorithm_2(cls: type[Algorithm]) -> None:
    """Identity 12: who is absent neither sends nor merges; its outer state follows the others'."""
    workload = digits()
    parts, schedule = masks(workload, [[0, 2], [1]]), {"offsets": [0, 2], "delays": [2, 0, 3], "alpha": 0.5}
    x, theta = algorithm_2(workload, 3, period=4, parts=parts, present=draws(0.5, 3), **schedule)
    simulation = run(cls(period=4, outer=OUTER, delay=(2, 0, 3), fragments=2, drop=0.5), workload, 3, shuffle=4)
    torch.testing.assert_close(replicas(simulation), x, **EXACT)
    torch.testing.assert_close(kept(simulation, "anchor"), theta, **EXACT)


def oracle_alpha_one_is_isolated_training(cls: type[Algorithm]) -> None:
    """Identity 4, to the bit, while the outer parameters move."""
    alone = replicas(run(cls(period=STEPS + 1), digits(), 3))
    for settings in ({"delay": 0}, {"delay": 2, "fragments": 3}, {"delay": (0, 1, 3), "fragments": 2, **FP4}):
        simulation = run(cls(period=4, alpha=1.0, **settings), digits(), 3)
        assert torch.equal(replicas(simulation), alone)
        assert not torch.equal(kept(simulation, "anchor")[0], digits().initial(0))


def oracle_merging_is_exact(cls: type[Algorithm]) -> None:
    """Identity 7: right after receiving, alpha = 0 has the global fragment, alpha = 1/2 the exact midpoint."""
    for delay, settings in ((0, {}), (3, {}), (2, FP4)):
        runs = {
            alpha: run(cls(period=4, alpha=alpha, delay=delay, **settings), digits(), 3, steps=4 + delay)
            for alpha in (0.0, 0.5, 1.0)
        }
        theta = kept(runs[1.0], "anchor")
        assert torch.equal(replicas(runs[0.0]), theta)
        assert torch.equal(replicas(runs[0.5]), (replicas(runs[1.0]) + theta) / 2)


def oracle_fragments_are_sent_on_time(cls: type[Algorithm]) -> None:
    """Identity 9: H = 100, offsets 0 and 50: sent at 100, 150, 200, ..., received a step later."""
    workload = quadratic(2, dimension=8)
    algorithm = cls(period=100, fragments=2, offsets=(0, 50), delay=1, alpha=0.0, **FP4)
    simulation = run(algorithm, workload, 2, sgd(), steps=300)
    rows = [row for row in simulation.workers[0].recorder.rows() if row[KIND] == "send"]
    sent = [(row[STEP], row[LABEL]) for row in rows]
    assert sent == [(100, "outer 0"), (150, "outer 1"), (200, "outer 0"), (250, "outer 1"), (300, "outer 0")]
    first = Fragment((slice(0, 2), slice(4, 6)))
    for steps, moved in ((100, False), (101, True)):
        anchor = kept(run(algorithm, workload, 2, sgd(), steps=steps), "anchor")[0]
        assert bool((first.take(anchor) != first.take(workload.initial(0))).any()) is moved


def oracle_four_bits_are_400_times_fewer(cls: type[Algorithm]) -> None:
    """Identity 10: counted bytes, 16-bit data-parallel over 4-bit Streaming with H = 100, M = 2, scales apart."""
    workload, steps = quadratic(2, dimension=512), 300
    simulation = run(cls(period=100, delay=0, offsets=(0, 0), wire="e3m0"), workload, 2, sgd(), steps=steps)
    counted = sum(handle.recorder.nbytes for handle in simulation.workers)
    parallel = run(make("allreduce-sgd"), workload, 2, sgd(), steps=steps)
    sixteen_bit = sum(handle.recorder.nbytes for handle in parallel.workers) * 2 // workload.dtype.itemsize
    rounds, scales = 3, 4 * 512 // 256
    assert sixteen_bit / (counted - 2 * rounds * scales) == 400.0
    assert counted == 2 * rounds * (512 // 2 + scales)


# -- eager -------------------------------------------------------------------------------------------------------------


def oracle_eager_is_its_formula(cls: type[Algorithm]) -> None:
    """Section 9: the own part is fresh and the others' one round old; "naive": all of it is old."""
    for variant, workers in (("eager", 3), ("naive", 3), ("eager", 2)):
        workload = digits()
        step, x = inner_steps(workload, workers), workload.initial(0).repeat(workers, 1)
        theta, m = x.clone(), torch.zeros_like(x)
        before = torch.zeros_like(x)
        for t in range(1, STEPS + 1):
            for rank in range(workers):
                step(rank, x[rank])
            if t % 4:
                continue
            moved = theta - x
            applied = before.mean(0).repeat(workers, 1)
            if variant == "eager":
                for i in range(workers):
                    others = sum(before[j] for j in range(workers) if j != i)
                    applied[i] = (moved[i] + others) / workers
            theta = theta - OUTER.lr * (0.36 * m + 1.6 * applied)
            m = 0.6 * m + applied
            x, before = theta.clone(), moved
        simulation = run(cls(period=4, variant=variant, outer=OUTER), workload, workers)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)


def oracle_eager_alone_is_diloco(cls: type[Algorithm]) -> None:
    """One worker has no others: its eager outer gradient is its own, to the bit."""
    eager = run(cls(period=3, outer=OUTER), digits(), 1)
    assert torch.equal(replicas(eager), replicas(run(make("diloco", period=3, outer=OUTER), digits(), 1)))


def oracle_eager_hides_the_averaging(cls: type[Algorithm]) -> None:
    """Nobody waits for a transfer that takes less than a round."""
    slow = Network(latency_s=2.0, bandwidth_Gbit_per_s=float("inf"))
    workload = quadratic(2)
    for variant in ("eager", "naive"):
        simulation = run(cls(period=10, variant=variant), workload, 2, sgd(), steps=50, network=slow)
        assert simulation.workers[0].ended_s == 50.0
    assert run(make("diloco", period=10), workload, 2, sgd(), steps=50, network=slow).workers[0].ended_s > 60.0


# -- asynchronous ------------------------------------------------------------------------------------------------------


class PapersServer:
    """By how much the center falls on each arrival, as printed; buffer 0 is Nesterov's method with weight 1/n."""

    def __init__(self, outer: OptimizerSettings, buffer: int, c: float, workers: int) -> None:
        self.eps, self.beta, self.buffer, self.c, self.workers = outer.lr, outer.resolved_momentum, buffer, c, workers
        self.m, self.pending, self.t = torch.zeros(()), torch.zeros(()), 0

    def __call__(self, g: Tensor) -> Tensor:
        eps, beta, buffer, c = self.eps, self.beta, self.buffer, self.c
        if not buffer:
            before, self.m = self.m, beta * self.m + g / self.workers
            return eps * (beta**2 * before + (1 + beta) * g / self.workers)
        self.pending = self.pending + g
        self.t += 1
        if self.t % buffer:
            return eps * (c * beta * self.m + g / buffer)
        self.m, self.pending = beta * self.m + self.pending / buffer, torch.zeros(())
        return eps * ((1 - c * buffer + c) * beta * self.m + g / buffer)


def server_replay(
    workload: Workload, workers: int, period: int, arrivals: Sequence[int], change: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Equal workers on a free network: in each round all arrive at once, and each gets what its arrival made.

    Args:
        arrivals: the ranks, in the order in which the server took them.
    """
    step, center = inner_steps(workload, workers), workload.initial(0)
    given = center.repeat(workers, 1)
    x = given.clone()
    for k in range(0, len(arrivals), workers):
        for _ in range(period):
            for rank in range(workers):
                step(rank, x[rank])
        for rank in arrivals[k : k + workers]:
            center = center - change(given[rank] - x[rank])
            given[rank] = center
            x[rank] = center
    return x, center


def asynchronous(algorithm: Algorithm, workload: Workload, workers: int, seconds: float, **more: Any) -> Simulation:
    return simulate(algorithm, workload, workers=workers, budget=Budget(seconds=seconds), optimizer=INNER, **more)


def oracle_async_is_the_papers_server(cls: type[Algorithm]) -> None:
    """Section 9: Delayed Nesterov as printed, any buffer and c; "naive": Nesterov at every arrival, weight 1/n."""
    cases: list[tuple[int, int, float]] = [(3, 3, 0.0), (3, 3, 0.2), (3, 2, 0.5), (2, 4, 0.1), (3, 1, 0.0), (3, 0, 0.0)]
    for workers, size, c in cases:
        workload = digits()
        settings: dict[str, Any] = {"buffer": size, "c": c} if size else {"variant": "naive"}
        simulation = asynchronous(cls(period=4, outer=OUTER, **settings), workload, workers, 19.5, shuffle=size)
        arrivals = [row[PEER] for row in simulation.server.recorder.rows() if row[KIND] == "recv"]
        assert len(arrivals) == 5 * workers
        x, center = server_replay(workload, workers, 4, arrivals, PapersServer(OUTER, size, c, workers))
        torch.testing.assert_close(simulation.server.replica().data, center, **EXACT)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)


def oracle_delayed_nesterov_is_nesterov_from_the_same_point(cls: type[Algorithm]) -> None:
    """Identity 6: N = M, c = 0, all dispatched from the same theta: one step of synchronous DiLoCo."""
    for workers in (1, 2, 4):
        server = asynchronous(cls(period=5, outer=OUTER), digits(), workers, 4.5).server.replica().data
        anchor = kept(run(make("diloco", period=5, outer=OUTER), digits(), workers, steps=5), "anchor")[0]
        torch.testing.assert_close(server, anchor, **EXACT)


def oracle_async_alone_is_diloco(cls: type[Algorithm]) -> None:
    """One worker and one arrival per buffer: DiLoCo with as many rounds, whatever c."""
    expected = replicas(run(make("diloco", period=4, outer=OUTER), digits(), 1))
    for settings in ({}, {"variant": "naive"}, {"c": 1.0}, {"dylu": True}):
        simulation = asynchronous(cls(period=4, outer=OUTER, **settings), digits(), 1, STEPS - 0.5)
        assert simulation.workers[0].state.step == STEPS
        torch.testing.assert_close(replicas(simulation), expected, **EXACT)


def oracle_dylu_makes_all_exchange_alike(cls: type[Algorithm]) -> None:
    """DyLU: steps = floor(v / max v H): after their first rounds all exchange every H of the fastest one's steps."""
    compute = Compute(gradient_s=1.0, slow={"1": 2.0, "2": 3.7})
    simulation = asynchronous(cls(period=12, dylu=True), quadratic(3), 3, 480.5, compute=compute)
    pushed = [[row[STEP] for row in h.recorder.rows() if row[KIND] == "send"] for h in simulation.workers]
    assert all(gap == 12 for gap in np.diff(pushed[0]))
    assert pushed[1][0] == pushed[2][0] == 12 and all(gap == 6 for gap in np.diff(pushed[1]))
    assert all(gap == 3 for gap in np.diff(pushed[2]))  # floor(12 / 3.7)
    # Worker 1 at 24, 36, .. s; worker 2 at 12 x 3.7 s and then every 3 x 3.7 s.
    assert [h.recorder.messages for h in simulation.workers] == [40, 39, 40]
    without = asynchronous(cls(period=12), quadratic(3), 3, 480.5, compute=compute)
    assert [h.recorder.messages for h in without.workers] == [40, 20, 10]


def oracle_staleness_is_counted_at_the_server(cls: type[Algorithm]) -> None:
    """Section 10's card: arrivals between dispatch and apply; equal workers: 0 .. n - 1 at first, n - 1 later."""
    simulation = asynchronous(cls(period=3), quadratic(4), 4, 14.5)
    staleness = [row[STALENESS] for row in simulation.server.recorder.rows() if row[KIND] == "apply"]
    assert staleness == [0, 1, 2, 3, *[3] * 16]


# -- NoLoCo ------------------------------------------------------------------------------------------------------------


def oracle_two_noloco_workers_are_diloco(cls: type[Algorithm]) -> None:
    """Section 9: one pair's slow weights never differ: DiLoCo with heavy ball, any gamma."""
    ball = OptimizerSettings(name="momentum", lr=0.6, momentum=0.4)
    expected = kept(run(make("diloco", period=4, outer=ball), digits(), 2), "anchor")
    for gamma in (0.0, 1.0, 3.0):
        ours = run(cls(period=4, outer_lr=0.6, outer_momentum=0.4, gamma=gamma), digits(), 2)
        torch.testing.assert_close(kept(ours, "slow"), expected, **EXACT)
        torch.testing.assert_close(replicas(ours), replicas(ours)[:1].repeat(2, 1), **EXACT)


def oracle_noloco_is_its_formula(cls: type[Algorithm]) -> None:
    """Section 9 with the pairs drawn again; an odd worker is a group of its own."""
    alpha, beta, gamma = 0.5, 0.7, 0.8
    for workers in (1, 4, 5):
        workload = digits()
        step, x = inner_steps(workload, workers), workload.initial(0).repeat(workers, 1)
        phi, delta = x.clone(), torch.zeros_like(x)
        for t in range(1, STEPS + 1):
            for rank in range(workers):
                step(rank, x[rank])
            if t % 4:
                continue
            order = shared_generator(0, "mixing", t).permutation(workers).tolist() if workers > 1 else [0]
            moved, new = phi - x, phi.clone()
            for k in range(0, workers, 2):
                group = order[k : k + 2]
                for i in group:
                    delta[i] = alpha * delta[i] - beta / len(group) * moved[group].sum(0)
                    delta[i] -= gamma * (phi[i] - phi[group].mean(0))
                    new[i] = phi[i] + delta[i]
            phi, x = new, new.clone()
        simulation = run(cls(period=4, outer_lr=beta, outer_momentum=alpha, gamma=gamma), workload, workers, shuffle=3)
        torch.testing.assert_close(replicas(simulation), x, **EXACT)


def oracle_the_mean_of_noloco_is_heavy_ball(cls: type[Algorithm]) -> None:
    """However they are paired, the mean of the slow weights is DiLoCo's anchor where the mean of the D_i is: on a
    quadratic with plain SGD inside."""
    for workers in (4, 5, 8):
        workload = quadratic(workers)
        ball = OptimizerSettings(name="momentum", lr=0.7, momentum=0.5)
        expected = kept(run(make("diloco", period=3, outer=ball), workload, workers, sgd(), steps=30), "anchor")[0]
        for gamma in (0.4, 1.0):
            simulation = run(cls(period=3, gamma=gamma), workload, workers, sgd(), steps=30)
            torch.testing.assert_close(evaluated(simulation), expected, **EXACT)
            assert float(replicas(simulation).std(0).max()) > 1e-3, "they never differed, so this tests nothing"


ORACLES: list[tuple[str, Oracle]] = [
    ("diloco", oracle_diloco_is_data_parallel_sgd),
    ("diloco", oracle_diloco_is_data_parallel_nesterov),
    ("diloco", oracle_diloco_is_algorithm_1),
    ("diloco", oracle_diloco_alone_is_its_inner_optimizer),
    ("diloco", oracle_dropped_rounds),
    ("diloco", oracle_messages_do_what_the_all_reduce_does),
    ("diloco", oracle_differences_are_quantised),
    ("diloco", oracle_the_outer_state_is_the_same_everywhere),
    ("streaming-diloco", oracle_streaming_is_diloco),
    ("streaming-diloco", oracle_streaming_is_algorithm_2),
    ("streaming-diloco", oracle_streaming_with_drops_is_algorithm_2),
    ("streaming-diloco", oracle_alpha_one_is_isolated_training),
    ("streaming-diloco", oracle_merging_is_exact),
    ("streaming-diloco", oracle_the_outer_state_is_the_same_everywhere),
    ("streaming-diloco", oracle_fragments_are_sent_on_time),
    ("streaming-diloco", oracle_four_bits_are_400_times_fewer),
    ("eager-diloco", oracle_eager_is_its_formula),
    ("eager-diloco", oracle_eager_alone_is_diloco),
    ("eager-diloco", oracle_eager_hides_the_averaging),
    ("async-diloco", oracle_async_is_the_papers_server),
    ("async-diloco", oracle_delayed_nesterov_is_nesterov_from_the_same_point),
    ("async-diloco", oracle_async_alone_is_diloco),
    ("async-diloco", oracle_dylu_makes_all_exchange_alike),
    ("async-diloco", oracle_staleness_is_counted_at_the_server),
    ("noloco", oracle_two_noloco_workers_are_diloco),
    ("noloco", oracle_noloco_is_its_formula),
    ("noloco", oracle_the_mean_of_noloco_is_heavy_ball),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda v: v if isinstance(v, str) else v.__name__)
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(algorithm_class(name))


# -- helpers -----------------------------------------------------------------------------------------------------------


GPT = [
    Layer("embedding", slice(0, 10), is_block=False),
    *(Layer(f"block {k}", slice(10 + 3 * k, 13 + 3 * k)) for k in range(7)),
    Layer("norm", slice(31, 33), is_block=False),
    Layer("head", slice(33, 40), is_block=False),
]


def spans(parts: Sequence[Fragment]) -> list[list[tuple[int, int]]]:
    return [[(span.start, span.stop) for span in part.spans] for part in parts]


def test_fragments_of_a_transformer() -> None:
    ends = [(0, 10), (31, 40)]
    strided = fragments(GPT)
    assert spans(strided) == [[(10, 13), (19, 22), (28, 31)], [(13, 16), (22, 25)], [(16, 19), (25, 28)], ends]
    neighbours = fragments(GPT, pattern="sequential", count=2)
    assert spans(neighbours) == [[(10, 19)], [(19, 31)], ends]
    joined = fragments(GPT, pattern="sequential", count=2, own_ends=False)
    assert spans(joined) == [[(0, 19)], [(19, 40)]]
    # The papers' depths, with 3 blocks each: 8, 16 and 36 fragments for 24, 48 and 108 layers.
    for depth in (24, 48, 108):
        assert len(fragments([Layer(str(k), slice(k, k + 1)) for k in range(depth)])) == depth // 3


@pytest.mark.parametrize("pattern", ["strided", "sequential"])
@pytest.mark.parametrize("own_ends", [True, False])
def test_fragments_sum_to_the_whole(pattern: Any, own_ends: bool) -> None:
    """Identity 8: every parameter is in exactly one fragment."""
    gpt = ShakespeareGpt(size="0.2M").build(torch.device("cpu"), 2)
    for layers in (GPT, layers_of(digits().layers), layers_of(quadratic(2).layers), layers_of(gpt.layers), GPT[:1]):
        blocks = sum(layer.is_block for layer in layers) or len(layers)
        for count in range(1, blocks + 1):
            parts = fragments(layers, count=count, pattern=pattern, own_ends=own_ends)
            seen = torch.zeros(layers[-1].span.stop)
            for number, part in enumerate(parts):
                part.put_(seen, part.take(seen) + 1)
                assert part.size == part.take(seen).numel() > 0
                part.put_(ordered := torch.zeros(seen.numel()), torch.arange(part.size) + 1.0)
                assert torch.equal(part.take(ordered), torch.arange(part.size) + 1.0), number
            assert bool((seen == 1).all())
            assert len(parts) == count + (own_ends and 0 < sum(layer.is_block for layer in layers) < len(layers))


def test_rounds() -> None:
    """Identity 9: exactly H steps before each sending, the first of each fragment at t_p + H."""
    rounds = Rounds(100, (0, 50))
    assert {t: rounds.due(t) for t in range(1, 301) if rounds.due(t)} == {
        100: [0], 150: [1], 200: [0], 250: [1], 300: [0],
    }  # fmt: skip
    assert [list(rounds.of(p, 300)) for p in (0, 1)] == [[100, 200, 300], [150, 250]]
    assert Rounds.spread(100, 9).offsets == (0, 11, 22, 33, 44, 55, 66, 77, 88)  # every 11 steps, as in the paper
    assert Rounds.spread(2, 3).due(2) == [0, 1]


def test_presence_is_a_fair_draw() -> None:
    exchange = Exchange(drop=0.3)
    drawn = np.zeros((2000, 4))
    for t in range(len(drawn)):
        drawn[t, exchange.present(4, t + 1, seed=5)] = 1
    assert abs(drawn.mean() - 0.7) < 4 * np.sqrt(0.21 / drawn.size)
    assert np.abs(np.corrcoef(drawn.T) - np.eye(4)).max() < 0.1
    assert exchange.present(4, 7, seed=5) == exchange.present(4, 7, seed=5)


def test_n_arrivals_at_one_point_are_one_step_of_nesterov() -> None:
    """Identity 6, over many rounds: the sum of N delayed steps is one of Nesterov's with the mean, whatever came
    before."""
    generator = torch.Generator().manual_seed(1)
    theirs = Optimizer(OUTER, 5, torch.float64)
    zero = torch.zeros(5, dtype=torch.float64)
    m, pending, arrivals = zero.clone(), zero.clone(), torch.zeros((), dtype=torch.int64)
    ours = DelayedNesterov(lr=0.4, decay=0.6, buffer=3, c=0.0, momentum=m, pending=pending, arrivals=arrivals)
    x, y = zero.clone(), zero.clone()
    for _ in range(10):
        g = torch.randn(3, 5, generator=generator, dtype=torch.float64)
        for k in range(3):
            arrivals += 1
            ours.step_(x, g[k])
        theirs.step_(y, g.mean(0))
        torch.testing.assert_close(x, y, **EXACT)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("workers", [3, 4, 6])
def test_the_drift_limit_of_noloco(alpha: float, workers: int) -> None:
    """At the limit, and not before, the second moments of the models' differences stop shrinking: E[S (x) S] over all
    pairings, S the map of (phi, d) of all workers."""
    n = workers
    project = np.eye(n) - 1 / n

    def growth(gamma: float) -> float:
        total, pairings = np.zeros((4 * n * n, 4 * n * n)), 0
        for order in itertools.permutations(range(n)):
            pairs = [order[k : k + 2] for k in range(0, n - 1, 2)]
            if any(i > j for i, j in pairs) or pairs != sorted(pairs):
                continue
            pairings += 1
            apart = np.zeros((n, n))
            for i, j in pairs:
                apart[np.ix_([i, j], [i, j])] = [[0.5, -0.5], [-0.5, 0.5]]
            change = np.block([[-gamma * apart, alpha * np.eye(n)]])
            step = np.vstack([np.hstack([np.eye(n), np.zeros((n, n))]) + change, change]) @ np.kron(np.eye(2), project)
            total += np.kron(step, step)
        return float(abs(np.linalg.eigvals(total / pairings)).max())

    limit = NoLoCo(outer_momentum=alpha).drift_limit(n)
    assert growth(0.97 * limit) < 1 < growth(1.03 * limit)
    assert NoLoCo(outer_momentum=alpha, gamma=1.01 * limit).warnings(n)
    assert not NoLoCo(outer_momentum=alpha, gamma=0.99 * limit).warnings(n)


def diverges(algorithm: Algorithm, size: int) -> bool:
    """Whether it warns that long rounds diverge."""
    return any("diverge" in line for line in algorithm.warnings(size))


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_the_limit_of_the_outer_rate(name: Any) -> None:
    """Long rounds on a quadratic: the outer gradient is the distance to the minimiser."""
    workload = quadratic(1, noise=0.0, heterogeneity=0.0, condition=1.0)
    mu = {} if name == "sgd" else {"momentum": 0.6}
    limit = {"sgd": 2.0, "momentum": 3.2, "nesterov": 3.2 / 2.2}[name]
    for factor in (0.98, 1.02):
        outer = OptimizerSettings(name=name, lr=factor * limit, **mu)
        algorithm = make("diloco", period=2, outer=outer)
        simulation = run(algorithm, workload, 1, sgd(1.0), steps=600)
        distance = float((evaluated(simulation) - workload.minimiser).norm())  # type: ignore[attr-defined]
        assert (distance > 1.0) is (factor > 1) is diverges(algorithm, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("variant", ["eager", "naive"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_the_growth_of_eager_rounds(name: Any, variant: Any) -> None:
    """Long rounds on a quadratic: inner SGD with rate 1 reaches the minimiser of curvature 1 in a step."""
    workload = quadratic(3, noise=0.0, heterogeneity=0.0, condition=1.0)
    mu = {} if name == "sgd" else {"momentum": 0.6}

    def algorithm(lr: float) -> EagerDiLoCo:
        return EagerDiLoCo(period=2, variant=variant, outer=OptimizerSettings(name=name, lr=lr, **mu))

    low, high = 0.0, 4.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if algorithm(middle).growth(3) >= 1 else (middle, high)
    for factor in (0.97, 1.03):
        simulation = run(algorithm(factor * low), workload, 3, sgd(1.0), steps=600)
        distance = float((evaluated(simulation) - workload.minimiser).norm())  # type: ignore[attr-defined]
        assert (distance > 3.0) is (factor > 1) is diverges(algorithm(factor * low), 3)


def test_delays_are_hidden() -> None:
    """A transfer of 2 steps costs nothing from tau = 2 on, and H / 2 steps of waiting without delay."""
    network, workload = Network(latency_s=2.0, bandwidth_Gbit_per_s=float("inf")), quadratic(2)

    def ended_s(delay: int, **settings: Any) -> float:
        algorithm = make("streaming-diloco", period=10, delay=delay, fragments=2, **settings)
        return run(algorithm, workload, 2, sgd(), steps=48, network=network).workers[0].ended_s

    for settings in ({}, FP4):
        assert ended_s(0, **settings) > ended_s(1, **settings) > ended_s(4, **settings) == 48.0


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("diloco", {"period": 0}, "period must be at least 1 step: got 0"),
        ("diloco", {"outer": OptimizerSettings(name="lamb", lr=0.1)}, "outer.name must be one of sgd, .*got 'lamb'"),
        ("diloco", {"drop": 1.5}, r"drop must be a probability in \[0, 1\]: got 1.5"),
        ("diloco", {"wire": "fp4"}, "wire format must be one of .*got 'fp4'"),
        ("diloco", {"wire": "bfloat16", "block": 8}, "block is for formats with scales: wire is 'bfloat16'"),
        ("streaming-diloco", {"period": 0}, "period must be at least 1 step"),
        ("streaming-diloco", {"period": 5, "delay": 5}, r"delay must lie in 0 .. period - 1: got \[5\]"),
        ("streaming-diloco", {"offsets": (0, 30)}, r"offsets must lie in 0 .. period - 1: got \[0, 30\]"),
        ("streaming-diloco", {"alpha": -0.1}, r"alpha must lie in \[0, 1\]: got -0.1"),
        ("streaming-diloco", {"fragments": 2, "fragment_layers": 1}, "fragment_layers and fragments say the same"),
        ("streaming-diloco", {"fragments": 0}, "fragments must be at least 1: got 0"),
        ("eager-diloco", {"period": 0}, "period must be at least 1 step"),
        ("eager-diloco", {"outer": OptimizerSettings(name="lars", lr=0.1)}, "outer.name must be one of"),
        ("async-diloco", {"period": 0}, "period must be at least 1 step"),
        ("async-diloco", {"buffer": 0}, "buffer must be at least 1 arrival"),
        ("async-diloco", {"variant": "naive", "c": 0.1}, "buffer and c are for variant 'delayed-nesterov'"),
        ("async-diloco", {"outer": SGD_1}, "outer must be nesterov with lr and momentum alone"),
        ("noloco", {"period": 0}, "period must be at least 1 step"),
        ("noloco", {"outer_lr": -1.0}, "outer_lr .* must be finite and at least 0: got -1.0"),
        ("noloco", {"outer_momentum": 1.0}, r"outer_momentum .* must lie in \[0, 1\): got 1.0"),
        ("noloco", {"gamma": float("nan")}, "gamma must be finite and at least 0: got nan"),
    ],
)
def test_settings_that_cannot_be(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        make(name, **settings)
    assert "\n" not in str(error.value)


def test_settings_that_do_not_fit_the_run() -> None:
    with pytest.raises(ValueError, match=r"delay must be one number or 3, one per worker: got \[1, 2\]"):
        make("streaming-diloco", delay=(1, 2)).validate(3)
    with pytest.raises(ValueError, match=r"c must lie in \[0, 1/4\]: got 0.3"):
        make("async-diloco", c=0.3).validate(4)
    make("async-diloco", c=0.3, buffer=3).validate(4)
    layers = layers_of(quadratic(2).layers)
    with pytest.raises(ValueError, match="fragments must not exceed the model's 4 blocks: got 5"):
        StreamingDiLoCo(fragments=5).plan(layers)
    with pytest.raises(ValueError, match=r"offsets must be 2, one per fragment: got \[0\]"):
        StreamingDiLoCo(offsets=(0,)).plan(layers)


def test_settings_from_a_study() -> None:
    table = {"period": 8, "outer": {"name": "momentum", "lr": 0.5}, "delay": [0, 2], "offsets": [0, 4], "wire": "e3m0"}
    algorithm = build(StreamingDiLoCo, table, "algorithm[0]")
    assert algorithm.outer == OptimizerSettings(name="momentum", lr=0.5)
    assert (algorithm.delay, algorithm.offsets) == ((0, 2), (0, 4))
    assert build(StreamingDiLoCo, {"delay": 3}, "algorithm[0]").delay == 3


def test_the_papers_outer_optimizers() -> None:
    """Section 0: Nesterov with 0.7 in the parent, 0.4 in Streaming DiLoCo, momentum 0.9; a tenth for naive arrivals."""
    given = {
        (outer.name, outer.lr, outer.resolved_momentum)
        for outer in (
            make(name, **settings).resolved_outer  # type: ignore[attr-defined]
            for name, settings in (
                ("diloco", {}), ("streaming-diloco", {}), ("async-diloco", {}), ("async-diloco", {"variant": "naive"}),
            )
        )
    }  # fmt: skip
    assert given == {("nesterov", 0.7, 0.9), ("nesterov", 0.4, 0.9), ("nesterov", 0.07, 0.9)}
    assert make("async-diloco", variant="naive", outer=OUTER).warnings(4)
    assert not make("async-diloco", variant="naive").warnings(4)


def test_bytes_do_not_count_the_absent() -> None:
    """Identity 10 with drops: each present worker sends its code to all others."""
    algorithm = make("diloco", period=4, drop=0.5, wire="int8", block=4)
    traffic = Traffic(steps=[40] * 3, layers=[Layer("all", slice(0, 12))], itemsize=8, seed=0)
    present = sum(len(draws(0.5, 3)(t)) for t in range(4, 41, 4))
    assert 0 < present < 30
    assert algorithm.payload_nbytes(traffic) == present * 2 * (12 + 3 * 4)


# -- deliberate bugs ---------------------------------------------------------------------------------------------------

RECEIVED = "outer[p].step_(theta, mean)"

MUTATIONS: list[Mutation] = [
    Mutation("diloco", "outer sign", "anchor - x.data, t)", "x.data - anchor, t)", oracle_diloco_is_algorithm_1),
    Mutation(
        "diloco", "parameters quantised, not the difference",
        "mean = await exchange.mean(w, OUTER, anchor - x.data, t)",
        "mean = anchor - await exchange.mean(w, OUTER, x.data, t)",
        oracle_differences_are_quantised,
    ),
    Mutation(
        "diloco", "replica not reset to the anchor", "x.assign_(anchor)", "pass", oracle_diloco_is_algorithm_1,
    ),
    Mutation(
        "diloco", "outer momentum forgotten between rounds", "outer.step_(anchor, mean)",
        "w.optimizer(self.resolved_outer).step_(anchor, mean)", oracle_diloco_is_algorithm_1,
    ),
    Mutation(
        "diloco", "momentum stepped in a round without anybody",
        "                if mean is not None:\n                    outer.step_(anchor, mean)",
        "                outer.step_(anchor, anchor * 0 if mean is None else mean)",
        oracle_dropped_rounds,
    ),
    Mutation("diloco", "absent workers reset", "if exchange.is_present(w, t):", "if True:", oracle_dropped_rounds),
    Mutation(
        "diloco", "mean over all, not over the present", "total.div_(len(present))", "total.div_(w.size)",
        oracle_dropped_rounds, module="algorithms.exchange",
    ),
    Mutation(
        "diloco", "own outer gradient spared the round trip",
        "return await self.collect(w, tag, self.post(w, tag, v, t), t, v)",
        "code = self.post(w, tag, v, t); mean = await self.collect(w, tag, code, t, v); "
        "return mean + (v - self.format.decode(code, v.numel(), v.dtype)) / w.size",
        oracle_differences_are_quantised, module="algorithms.exchange",
    ),
    Mutation(
        "diloco", "summed as they come, not in rank order", "for rank in present:",
        "for rank in [w.rank, *(r for r in present if r != w.rank)]:",
        oracle_messages_do_what_the_all_reduce_does, module="algorithms.exchange",
    ),
    Mutation(
        "streaming-diloco", "momentum of all fragments stepped at each receiving", RECEIVED,
        RECEIVED + "; [o.step_(theta.new_zeros(o.size), theta.new_zeros(o.size)) for o in outer if o is not outer[p]]",
        oracle_streaming_is_algorithm_2,
    ),
    Mutation(
        "streaming-diloco", "delta from the merged local copy", "parts[p].put_(anchor, theta)",
        "parts[p].put_(anchor, self.alpha * parts[p].take(x.data) + (1 - self.alpha) * theta)",
        oracle_streaming_is_algorithm_2,
    ),
    Mutation(
        "streaming-diloco", "alpha the other way round",
        "self.alpha * parts[p].take(x.data) + (1 - self.alpha) * theta",
        "(1 - self.alpha) * parts[p].take(x.data) + self.alpha * theta",
        oracle_alpha_one_is_isolated_training,
    ),
    Mutation(
        "streaming-diloco", "outer sign", "parts[p].take(anchor) - parts[p].take(x.data), t)",
        "parts[p].take(x.data) - parts[p].take(anchor), t)", oracle_streaming_is_diloco,
    ),
    Mutation(
        "streaming-diloco", "the outer gradient of the receiving step", "await flights[p].mean(t - delay)",
        "await exchange.mean(w, 'late', parts[p].take(anchor) - parts[p].take(x.data), t - delay)",
        oracle_streaming_is_algorithm_2,
    ),
    Mutation(
        "streaming-diloco", "who is absent merges", "if exchange.is_present(w, t - delay):", "if True:",
        oracle_streaming_with_drops_is_algorithm_2,
    ),
    Mutation(
        "streaming-diloco", "sent at the offset too", "t > offset and ", "t >= offset and ",
        oracle_streaming_is_algorithm_2, module="algorithms.fragments",
    ),
    Mutation(
        "eager-diloco", "own old part not taken out", "(mean - own / w.size)", "mean", oracle_eager_is_its_formula,
    ),
    Mutation("eager-diloco", "own part not weighted", "moved / w.size +", "moved +", oracle_eager_is_its_formula),
    Mutation("eager-diloco", "own old part never renewed", "own.copy_(moved)", "pass", oracle_eager_alone_is_diloco),
    Mutation(
        "eager-diloco", "waits for the fresh mean", "started = w.start(w.allreduce_mean(moved, label=OUTER))",
        "mean = await w.allreduce_mean(moved, label=OUTER)", oracle_eager_hides_the_averaging,
    ),
    Mutation(
        "async-diloco", "momentum moves at every arrival", "if int(self.arrivals) % self.buffer == 0:", "if True:",
        oracle_async_is_the_papers_server, module="algorithms.delayed_nesterov",
    ),
    Mutation(
        "async-diloco", "buffer not emptied", "self.pending.zero_()", "pass", oracle_async_is_the_papers_server,
        module="algorithms.delayed_nesterov",
    ),
    Mutation(
        "async-diloco", "weight of c forgotten", "weight = 1 - self.c * self.buffer + self.c", "weight = 1.0",
        oracle_async_is_the_papers_server, module="algorithms.delayed_nesterov",
    ),
    Mutation(
        "async-diloco", "arrivals weighted by 1", "-self.lr / self.buffer)", "-self.lr)",
        oracle_delayed_nesterov_is_nesterov_from_the_same_point, module="algorithms.delayed_nesterov",
    ),
    Mutation(
        "async-diloco", "naive arrivals weighted by 1", "1 / s.size if", "1.0 if", oracle_async_is_the_papers_server,
    ),
    Mutation(
        "async-diloco", "outer gradient against what was dispatched first", "anchor.copy_(x.data)", "pass",
        oracle_async_alone_is_diloco,
    ),
    Mutation(
        "async-diloco", "DyLU by the slowest", "speeds.max()", "speeds[speeds > 0].min()",
        oracle_dylu_makes_all_exchange_alike,
    ),
    Mutation(
        "noloco", "gamma's sign", "alpha=-self.gamma", "alpha=self.gamma", oracle_noloco_is_its_formula,
    ),
    Mutation("noloco", "only the own outer gradient", "mean = (mean + theirs) / 2",
             "mean = torch.cat([mean.tensor_split(2)[0], ((mean + theirs) / 2).tensor_split(2)[1]])",
             oracle_two_noloco_workers_are_diloco),
    Mutation("noloco", "pull towards the partner, not the middle", "mean = (mean + theirs) / 2",
             "mean = torch.cat([((mean + theirs) / 2).tensor_split(2)[0], theirs.tensor_split(2)[1]])",
             oracle_noloco_is_its_formula),
    Mutation(
        "noloco", "the same pairs in every round", "self.partner(w.rank, w.size, t, w.seed)",
        "self.partner(w.rank, w.size, 1, w.seed)", oracle_noloco_is_its_formula,
    ),
    Mutation(
        "noloco", "momentum forgotten", "velocity.mul_(self.outer_momentum)", "velocity.zero_()",
        oracle_the_mean_of_noloco_is_heavy_ball,
    ),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_oracles_notice(mutation: Mutation) -> None:
    notices(mutation)
