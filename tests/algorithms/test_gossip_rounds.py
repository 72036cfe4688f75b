"""Gossip in rounds: D-PSGD, Gossip-PGA, D2, exact diffusion, gradient tracking, CHOCO-SGD; what all
have in common of PowerGossip too, the rest of which is in test_power_gossip.

Ids such as I9 or C6 are those of docs/oracles.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms.d2 import D2
from algorithms.interface import Algorithm, Traffic
from algorithms.optim import OptimizerSettings
from algorithms.registry import algorithm_class
from algorithms.schedule import Schedule
from algorithms.topology import Topology, expected_contraction, lazy
from bench.budget import Budget
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.digits_mlp import DigitsMlp
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import Row, make, quadratic, replicas, simulate

ROWS = [
    Row("d-psgd", {"order": "cta"}, workers=5),
    Row("d-psgd", {"order": "atc"}),
    Row("d-psgd", {"topology": "complete", "order": "atc"}),
    Row("d-psgd", {"topology": "random-ring"}, workers=5),
    Row("d-psgd", {"topology": "random-pair"}, workers=5),
    Row("d-psgd", {"topology": "torus"}, workers=9),
    Row("d-psgd", {"topology": "hypercube", "order": "atc"}),
    Row("d-psgd", {"topology": "star"}, workers=5),
    Row("d-psgd", {"topology": "exponential"}, workers=5),
    Row("d-psgd", {"topology": "one-peer-exponential", "order": "atc"}),
    Row("d-psgd", {"topology": "erdos-renyi"}, workers=6),
    Row("d-psgd", {"topology": "matcha"}, workers=6),
    Row("d-psgd", {"topology": "delay-by-one"}),
    Row("gossip-pga", {"period": 3}),
    Row("gossip-pga", {"topology": "matcha", "period": 4}, workers=5),
    Row("d2", {}, workers=5),
    Row("d2", {"topology": "erdos-renyi", "lazy": True}, workers=6),
    Row("exact-diffusion", {}),
    Row("exact-diffusion", {"topology": "star"}, workers=5),
    Row("gradient-tracking", {"order": "cta"}),
    Row("gradient-tracking", {"topology": "exponential", "order": "atc"}, workers=5),
    Row("choco-sgd", {"compressor": "identity"}),
    Row("choco-sgd", {"compressor": "top-k", "fraction": 0.25}, workers=5),
    Row("choco-sgd", {"compressor": "low-bit"}),
    Row("power-gossip", {}, workers=5),
    Row("power-gossip", {"rank": 2, "topology": "star"}),
]
FAMILY = ["d-psgd", "gossip-pga", "d2", "exact-diffusion", "gradient-tracking", "choco-sgd", "power-gossip"]
GRAPHS = {
    "ring": 5,
    "random-ring": 6,
    "random-pair": 5,
    "torus": 9,
    "hypercube": 8,
    "star": 5,
    "complete": 4,
    "exponential": 5,
    "one-peer-exponential": 6,
    "erdos-renyi": 6,
    "matcha": 6,
}  # with a number of workers on which it is not a special case
STEPS, LR, SEED = 20, 0.1, 3  # not seed 0, so that a forgotten seed is noticed

Step = Callable[[int, Tensor, Tensor], Tensor]
"""Of a recursion with full matrices: round t, models X [n, P], their gradients G [n, P] -> the next X."""


def scattered(workers: int, parameters: int = 12, seed: int = 1) -> Tensor:
    """Different initial points for all workers [n, P]."""
    return torch.randn(workers, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(
    algorithm: Algorithm,
    workers: int,
    steps: int = STEPS,
    *,
    seed: int = SEED,
    lr: float = LR,
    start: Tensor | None = None,
    snapshots: int = 1,
    **quadratic_: Any,
) -> Simulation:
    """From `scattered` points, or from `start` [n, P], on the quadratic."""
    workload = quadratic(workers, **quadratic_)
    start = scattered(workers, workload.parameters) if start is None else start
    budget = Budget(steps=steps, snapshots=snapshots)
    return simulate(algorithm, workload, workers=workers, budget=budget, seed=seed, lr=lr, start=list(start))


def recursion(workers: int, step: Step, steps: int = STEPS, **quadratic_: Any) -> Tensor:
    """What `run` should give [n, P], with the full matrices at once."""
    workload = quadratic(workers, **quadratic_)
    x = scattered(workers, workload.parameters)
    batches = [workload.batches(SEED, rank, workers) for rank in range(workers)]
    for t in range(1, steps + 1):
        gradients = torch.empty_like(x)
        for rank in range(workers):
            workload.gradient(x[rank].clone(), batches[rank].next(), gradients[rank])
        x = step(t, x, gradients)
    return x


def matrix(topology: Topology, workers: int, t: int = 1) -> Tensor:
    """W(t) [n, n]."""
    return torch.from_numpy(topology.matrix(workers, t, SEED))


def kept(simulation: Simulation, name: str) -> Tensor:
    """A kept state of all workers [n, P]."""
    return torch.stack([handle.state.kept[name] for handle in simulation.workers])


def same(got: Tensor, want: Tensor, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def consensus_distance(x: Tensor) -> float:
    return float((x - x.mean(0)).norm())


def digits(workers: int) -> Workload:
    """A network in float64: a quadratic's mean model does not notice how often models are averaged."""
    return DigitsMlp(dtype="float64").build(torch.device("cpu"), workers)


# -- what all of them share --------------------------------------------------------------------------------------------


def oracle_mean_model(cls: type[Algorithm]) -> None:
    """T3, I8, telescoping of D2: the mean model moves by -lr times the mean gradient, whatever is exchanged."""
    for row in (row for row in ROWS if row.name == cls.name):
        workload, algorithm = quadratic(row.workers, noise=0.0), cls(**row.settings)
        before, after = (replicas(run(algorithm, row.workers, steps, noise=0.0)) for steps in (4, 5))
        gradients = torch.empty_like(before)
        for rank in range(row.workers):
            workload.gradient(before[rank], workload.batches(SEED, rank, row.workers).next(), gradients[rank])
        same(after.mean(0), before.mean(0) - LR * gradients.mean(0))


def oracle_equal_workers(cls: type[Algorithm]) -> None:
    """I10: the same samples on all workers and an equal start: they stay equal."""
    for row in (row for row in ROWS if row.name == cls.name and row.settings.get("compressor") != "low-bit"):
        workload = quadratic(row.workers, noise=0.0, heterogeneity=0.0)
        simulation = simulate(
            cls(**row.settings), workload, workers=row.workers, budget=Budget(steps=STEPS), lr=LR, seed=SEED
        )
        assert consensus_distance(replicas(simulation)) < 1e-10


# -- D-PSGD ------------------------------------------------------------------------------------------------------------


def oracle_d_psgd_recursion(cls: type[Algorithm]) -> None:
    """Lian et al.: X <- W(t) X - lr G, or X <- W(t) (X - lr G), on every topology."""
    for name, workers in GRAPHS.items():
        for order in ("cta", "atc"):

            def step(t: int, x: Tensor, g: Tensor, name: str = name, order: str = order) -> Tensor:
                w = matrix(Topology(name), len(x), t)
                return w @ x - LR * g if order == "cta" else w @ (x - LR * g)

            same(replicas(run(cls(topology=name, order=order), workers)), recursion(workers, step))


def oracle_delay_by_one(cls: type[Algorithm]) -> None:
    """delay-by-one is combine-then-adapt on the complete graph, with another way to add up."""
    for workers in (2, 5):
        same(
            replicas(run(cls(topology="delay-by-one"), workers)),
            replicas(run(cls(topology="complete", order="cta"), workers)),
        )


def oracle_consensus_rate(cls: type[Algorithm]) -> None:
    """T2, I4, I6, C1: without gradients the mean stays, and the distance to it shrinks by rho = ||W - J|| a round."""
    sizes = [("ring", 8), ("ring", 16), ("torus", 9), ("torus", 16), ("hypercube", 16), ("star", 5), ("star", 8),
             ("exponential", 8), ("exponential", 5), ("erdos-renyi", 8)]  # fmt: skip
    for name, workers in sizes:
        # All workers on the slowest mode, so that no other one has to die out first (W is normal in all of these).
        values, modes = np.linalg.svd(Topology(name).mixing(workers, SEED) - 1 / workers)[1:]
        start = 3.0 + torch.from_numpy(modes[:1].T) * scattered(1)
        distances = []
        for steps in (5, 15):
            x = replicas(run(cls(topology=name), workers, steps, lr=1e-300, start=start))
            same(x.mean(0), start.mean(0))
            distances.append(consensus_distance(x))
        rate = (distances[1] / distances[0]) ** (1 / 10)
        assert abs(rate - values[0]) < 1e-4, (name, workers, rate, values[0])
    assert consensus_distance(replicas(run(cls(topology="complete"), 5, 1, lr=1e-300))) < 1e-13
    far = run(cls(topology="ring"), 4, 1000, lr=1e-300)
    same(replicas(far).mean(0), scattered(4).mean(0))


def oracle_random_rounds_contract(cls: type[Algorithm]) -> None:
    """I6: a round of a random graph shrinks the squared distance by lambda_2(E[W'W]), mean of 200 within 5 %."""
    workers = 8
    for name, steps in (("random-pair", 2), ("random-ring", 10)):  # three rounds of pairs may average exactly
        ratios = []
        for seed in range(200 // steps):
            simulation = run(cls(topology=name), workers, steps, seed=seed, lr=1e-300, snapshots=steps)
            rounds = zip(*(handle.snapshots[: steps + 1] for handle in simulation.workers), strict=True)
            distances = [consensus_distance(torch.stack([snapshot.x for snapshot in ranks])) for ranks in rounds]
            ratios += [(after / before) ** 2 for before, after in itertools.pairwise(distances)]
        assert len(ratios) == 200
        assert np.mean(ratios) == pytest.approx(expected_contraction(Topology(name).matrix(workers)), rel=0.05), name


def oracle_exact_average_is_allreduce_sgd(cls: type[Algorithm]) -> None:
    """T1, I9: adapt, then average over all: all-reduce SGD; also MATCHA with all matchings of the complete graph."""
    reduced = simulate(make("allreduce-sgd"), digits(4), workers=4, budget=Budget(steps=STEPS))
    for settings in ({"topology": "complete"}, {"topology": "matcha", "edge_probability": 1.0, "budget": 1.0}):
        gossip = simulate(cls(order="atc", **settings), digits(4), workers=4, budget=Budget(steps=STEPS))
        same(replicas(gossip), replicas(reduced), 1e-10)


def oracle_any_order(cls: type[Algorithm]) -> None:
    """The same bits whoever comes first: messages of a round are told apart by their sender."""

    def once(shuffle: int | None) -> Tensor:
        workload, start = quadratic(6), list(scattered(6))
        budget = Budget(steps=STEPS, snapshots=1)
        algorithm = cls(topology="erdos-renyi")
        return replicas(simulate(algorithm, workload, workers=6, budget=budget, shuffle=shuffle, start=start))

    first = once(None)
    assert all(torch.equal(once(shuffle), first) for shuffle in range(5))


def oracle_one_peer_is_exact(cls: type[Algorithm]) -> None:
    """I7, C2: log2 n rounds of one-peer exponential gossip average exactly if n is a power of two, else not."""
    for workers, rounds in ((4, 2), (8, 3), (16, 4)):
        x = replicas(run(cls(topology="one-peer-exponential"), workers, rounds, lr=1e-300))
        same(x, scattered(workers).mean(0).expand_as(x), 1e-13)
    assert consensus_distance(replicas(run(cls(topology="one-peer-exponential"), 6, 3, lr=1e-300))) > 1e-3


def oracle_bias_is_of_the_order_of_the_rate(cls: type[Algorithm]) -> None:
    """I11: on unlike quadratics with full gradients D-PSGD stalls at a distance in proportion to the rate."""
    for order in ("cta", "atc"):
        coarse, fine = (rms_error(cls(order=order), lr=lr, steps=250) for lr in (0.1, 0.05))
        assert 0.45 <= fine / coarse <= 0.65, (order, fine / coarse)


def rms_error(algorithm: Algorithm, *, lr: float, steps: int = 400, workers: int = 8) -> float:
    """Per coordinate, of the models to the minimiser of the mean of unlike quadratics, without noise."""
    workload = quadratic(workers, noise=0.0, condition=2.0)
    x = replicas(run(algorithm, workers, steps, lr=lr, noise=0.0, condition=2.0))
    minimiser: Tensor = workload.minimiser  # type: ignore[attr-defined]
    return float((x - minimiser).square().mean().sqrt())


# -- Gossip-PGA --------------------------------------------------------------------------------------------------------


def oracle_pga_recursion(cls: type[Algorithm]) -> None:
    """Chen et al.: X <- J (X - lr G) in every H-th round, X <- W(t) (X - lr G) in the others."""
    for name in ("ring", "random-pair", "matcha"):
        for period in (3, 4):

            def step(t: int, x: Tensor, g: Tensor, name: str = name, period: int = period) -> Tensor:
                w = matrix(Topology("complete" if t % period == 0 else name), len(x), t)
                return w @ (x - LR * g)

            same(replicas(run(cls(topology=name, period=period), 5)), recursion(5, step))


def oracle_pga_with_period_one(cls: type[Algorithm]) -> None:
    """5.21, I9: an exact average in every step is all-reduce SGD."""
    for workers in (2, 4):
        workload, budget = digits(workers), Budget(steps=STEPS)
        averaged = simulate(cls(period=1), workload, workers=workers, budget=budget)
        reduced = simulate(make("allreduce-sgd"), workload, workers=workers, budget=budget)
        same(replicas(averaged), replicas(reduced), 1e-10)


def oracle_pga_with_an_endless_period(cls: type[Algorithm]) -> None:
    """5.21: with no exact average before the end it is D-PSGD, adapt-then-combine, bit for bit."""
    for name, workers in GRAPHS.items():
        averaged = run(cls(topology=name, period=STEPS + 1), workers)
        gossip = run(make("d-psgd", topology=name, order="atc"), workers)
        assert torch.equal(replicas(averaged), replicas(gossip))


# -- D2 and exact diffusion --------------------------------------------------------------------------------------------


def d2_step(w: Tensor, rate: Callable[[int], float] = lambda t: LR) -> Step:
    """Tang et al.; with changing rates the form with (X_t - X_{t-1}) / lr."""
    last: list[Tensor] = []

    def step(t: int, x: Tensor, g: Tensor) -> Tensor:
        move = g if not last else g - last[1] + (last[0] - x) / rate(t - 1)
        last[:] = x, g
        return w @ (x - rate(t) * move)

    return step


def exact_diffusion_step(w: Tensor) -> Step:
    """Yuan et al., w = (I + W) / 2."""
    last: list[Tensor] = []

    def step(t: int, x: Tensor, g: Tensor) -> Tensor:
        psi = x - LR * g
        phi = psi + x - (last[0] if last else x)
        last[:] = [psi]
        return w @ phi

    return step


D2_CASES = [
    ({"topology": "ring"}, 5),
    ({"topology": "ring"}, 8),
    ({"topology": "star"}, 5),
    ({"topology": "complete"}, 4),
    ({"topology": "hypercube", "lazy": True}, 8),
    ({"topology": "torus", "lazy": True}, 9),
    ({"topology": "erdos-renyi", "lazy": True}, 6),
]


def averaging(settings: dict[str, Any], workers: int) -> Tensor:
    """The matrix that `settings` average with [n, n]."""
    mixing = Topology(settings["topology"]).mixing(workers, SEED)
    return torch.from_numpy(np.array(lazy(mixing) if settings.get("lazy") else mixing))


def oracle_d2_recursion(cls: type[Algorithm]) -> None:
    """5.10: X_{t+1} = W (2 X_t - X_{t-1} - lr G_t + lr G_{t-1})."""
    for settings, workers in D2_CASES:
        want = recursion(workers, d2_step(averaging(settings, workers)))
        same(replicas(run(cls(**settings), workers)), want)


def oracle_d2_with_a_schedule(cls: type[Algorithm]) -> None:
    """5.10: where the rate changes the difference of models is divided by the rate that it was made with."""
    schedule = Schedule(name="step", milestones=(5, 12), factor=0.3, warmup_steps=3)
    settings = {"topology": "ring"}
    optimizer = OptimizerSettings(name="sgd", lr=LR, schedule=schedule)
    want = recursion(5, d2_step(averaging(settings, 5), lambda t: LR * schedule.multiplier(t)))
    same(replicas(run(cls(**settings, optimizer=optimizer), 5)), want)


def oracle_no_bias(cls: type[Algorithm]) -> None:
    """T1 of D2, T2 of gradient tracking, I11, C5: on unlike quadratics the minimiser itself is reached."""
    limit, lr, cases = NO_BIAS[cls.name]
    for settings in cases:
        error = rms_error(cls(**settings), lr=lr, steps=600)
        assert error < limit, (settings, error)


NO_BIAS: dict[str, tuple[float, float, list[dict[str, Any]]]] = {
    "d2": (
        1e-10,
        0.2,
        [{}, {"lazy": True}],
    ),  # without `lazy` the ring of 8 is marginal, and only the curvature damps it
    "exact-diffusion": (1e-9, 0.2, [{}]),
    "gradient-tracking": (1e-14, 0.1, [{"order": "cta"}, {"order": "atc"}]),
}


def oracle_exact_diffusion_recursion(cls: type[Algorithm]) -> None:
    """5.12: psi' = x - lr g; phi = psi' + x - psi; x = W_bar phi."""
    for settings, workers in D2_CASES:
        want = recursion(workers, exact_diffusion_step(averaging({**settings, "lazy": True}, workers)))
        same(replicas(run(cls(topology=settings["topology"]), workers)), want)


def oracle_exact_diffusion_is_lazy_d2(cls: type[Algorithm]) -> None:
    """5.12: the trajectory of D2 with the weights (I + W) / 2."""
    for name, workers in (("ring", 8), ("star", 5), ("erdos-renyi", 6)):
        theirs = run(make("d2", topology=name, lazy=True), workers, 40)
        same(replicas(run(cls(topology=name), workers, 40)), replicas(theirs), 1e-10)


# -- gradient tracking -------------------------------------------------------------------------------------------------


def tracking_step(w: Tensor, order: str) -> Step:
    """5.11 with Q = G = 0 before the first step."""
    state: list[Tensor] = []

    def step(t: int, x: Tensor, g: Tensor) -> Tensor:
        q, last = state or (torch.zeros_like(x), torch.zeros_like(x))
        q = w @ q + g - last if order == "cta" else w @ (q + g - last)
        state[:] = q, g
        return w @ x - LR * q if order == "cta" else w @ (x - LR * q)

    return step


def oracle_tracking_recursion(cls: type[Algorithm]) -> None:
    """5.11, both orders."""
    for name, workers in (("ring", 5), ("star", 5), ("torus", 9), ("exponential", 5), ("erdos-renyi", 6)):
        for order in ("cta", "atc"):
            want = recursion(workers, tracking_step(matrix(Topology(name), workers), order))
            same(replicas(run(cls(topology=name, order=order), workers)), want)


def oracle_trackers_have_the_mean_gradient(cls: type[Algorithm]) -> None:
    """T1: mean(q) = mean(g) in every step."""
    for order in ("cta", "atc"):
        for steps in range(1, 13):
            simulation = run(cls(order=order), 5, steps)
            same(kept(simulation, "tracker").mean(0), kept(simulation, "gradient").mean(0))


# -- CHOCO-SGD ---------------------------------------------------------------------------------------------------------


def choco_step(w: Tensor, gamma: float, keep: int) -> Step:
    """5.14 with s recomputed from all public copies in each round; the `keep` largest differences travel."""
    public: list[Tensor] = []

    def step(t: int, x: Tensor, g: Tensor) -> Tensor:
        x = x - LR * g
        copies = public[0] if public else torch.zeros_like(x)
        difference = (x - copies).numpy()
        q = np.zeros_like(difference)
        for i, row in enumerate(difference):
            largest = np.argsort(-np.abs(row))[:keep]
            q[i, largest] = row[largest]
        copies = copies + torch.from_numpy(q)
        public[:] = [copies]
        return x + gamma * (w @ copies - copies)

    return step


def oracle_choco_recursion(cls: type[Algorithm]) -> None:
    """5.14, T3: the recursion with full matrices, without compression and with top-k."""
    for name, workers in (("ring", 5), ("star", 5), ("erdos-renyi", 6)):
        for settings, gamma, keep in (
            ({"compressor": "identity"}, 1.0, 12),
            ({"compressor": "identity", "gamma": 0.5}, 0.5, 12),
            ({"compressor": "top-k", "fraction": 0.25, "gamma": 0.2}, 0.2, 3),
        ):
            want = recursion(workers, choco_step(matrix(Topology(name), workers), gamma, keep))
            same(replicas(run(cls(topology=name, **settings), workers)), want)


COMPRESSORS: list[dict[str, Any]] = [
    {"compressor": "identity"},
    {"compressor": "top-k", "fraction": 0.25},
    {"compressor": "random-k", "fraction": 0.25},
    {"compressor": "low-bit", "bits": 4},
]


def oracle_choco_mixed_copies(cls: type[Algorithm]) -> None:
    """T3: s_i = sum_j W_ij x^_j, recomputed from scratch, for every compressor."""
    for settings in COMPRESSORS:
        simulation = run(cls(**settings), 5)
        same(kept(simulation, "mixed"), matrix(Topology("ring"), 5) @ kept(simulation, "public"))


def oracle_choco_keeps_the_mean(cls: type[Algorithm]) -> None:
    """T1: without gradients the mean of x stays, even where gamma is too large."""
    for settings in (*COMPRESSORS, {"compressor": "top-k", "fraction": 0.1, "gamma": 1.0}):
        same(replicas(run(cls(**settings), 8, 30, lr=1e-300)).mean(0), scattered(8).mean(0))


def oracle_choco_first_round(cls: type[Algorithm]) -> None:
    """T2: without compression and with gamma = 1, the first round from x^ = 0 is x <- W x."""
    x = replicas(run(cls(compressor="identity"), 5, 1, lr=1e-300))
    same(x, matrix(Topology("ring"), 5) @ scattered(5))


def relative_error(algorithm: Algorithm, *, workers: int, parameters: int, rounds: int) -> float:
    """Consensus distance after `rounds` without gradients, in units of that at the start."""
    simulation = run(algorithm, workers, rounds, lr=1e-300, dimension=parameters)
    return consensus_distance(replicas(simulation)) / consensus_distance(scattered(workers, parameters))


def oracle_choco_thresholds(cls: type[Algorithm]) -> None:
    """C9, smaller: compressed gossip agrees with a small gamma and diverges with a large one."""

    def error(**settings: Any) -> float:
        return relative_error(cls(**settings), workers=6, parameters=100, rounds=120)

    assert error(compressor="identity") < 1e-13
    assert error(compressor="top-k", fraction=0.1, gamma=0.2) < 1e-3
    assert error(compressor="top-k", fraction=0.1, gamma=0.9) > 1
    assert error(compressor="low-bit", bits=4) < 1e-3


ORACLES: list[tuple[str, Oracle]] = [
    *((name, oracle_mean_model) for name in FAMILY),
    *((name, oracle_equal_workers) for name in FAMILY),
    ("d-psgd", oracle_d_psgd_recursion),
    ("d-psgd", oracle_delay_by_one),
    ("d-psgd", oracle_consensus_rate),
    ("d-psgd", oracle_random_rounds_contract),
    ("d-psgd", oracle_exact_average_is_allreduce_sgd),
    ("d-psgd", oracle_any_order),
    ("d-psgd", oracle_one_peer_is_exact),
    ("d-psgd", oracle_bias_is_of_the_order_of_the_rate),
    ("gossip-pga", oracle_pga_recursion),
    ("gossip-pga", oracle_pga_with_period_one),
    ("gossip-pga", oracle_pga_with_an_endless_period),
    ("d2", oracle_d2_recursion),
    ("d2", oracle_d2_with_a_schedule),
    ("d2", oracle_no_bias),
    ("exact-diffusion", oracle_exact_diffusion_recursion),
    ("exact-diffusion", oracle_exact_diffusion_is_lazy_d2),
    ("exact-diffusion", oracle_no_bias),
    ("gradient-tracking", oracle_tracking_recursion),
    ("gradient-tracking", oracle_trackers_have_the_mean_gradient),
    ("gradient-tracking", oracle_no_bias),
    ("choco-sgd", oracle_choco_recursion),
    ("choco-sgd", oracle_choco_mixed_copies),
    ("choco-sgd", oracle_choco_keeps_the_mean),
    ("choco-sgd", oracle_choco_first_round),
    ("choco-sgd", oracle_choco_thresholds),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda value: getattr(value, "__name__", value))
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(algorithm_class(name))


@pytest.mark.parametrize("workers", [4, 5, 8, 16])
def test_bytes_equal_the_closed_form_on_every_topology(workers: int) -> None:
    """I12, 5.1: in n = 4, 5, 8, 16, wherever the topology exists."""
    tried = 0
    for name in (*GRAPHS, "delay-by-one"):
        algorithm = make("d-psgd", topology=name)
        try:
            algorithm.validate(workers)
        except ValueError:
            continue
        simulation = run(algorithm, workers, 7)
        moved = sum(handle.recorder.nbytes for handle in simulation.handles)
        traffic = Traffic(steps=[7] * workers, layers=simulation.handles[0].layers, itemsize=8, seed=SEED)
        assert moved == algorithm.payload_nbytes(traffic) > 0
        tried += 1
    assert tried >= 10


@pytest.mark.parametrize(("workers", "sent"), [(4, 1), (5, 0.8), (8, 1)])
def test_gossip_in_pairs_sends_one_model_a_step(workers: int, sent: float) -> None:
    """5.1: random-pair and one-peer gossip send M; of an odd number one rank rests."""
    simulation = run(make("d-psgd", topology="random-pair"), workers, 10)
    assert sum(handle.recorder.nbytes for handle in simulation.handles) == round(10 * workers * sent) * 12 * 8
    simulation = run(make("d-psgd", topology="one-peer-exponential"), workers, 10)
    assert sum(handle.recorder.nbytes for handle in simulation.handles) == 10 * workers * 12 * 8


@pytest.mark.parametrize("settings", COMPRESSORS, ids=lambda settings: settings["compressor"])
def test_choco_sends_the_compressed_bytes_and_no_more(settings: dict[str, Any]) -> None:
    """I12: deg C(M)."""
    want = {"identity": 100 * 8, "top-k": 25 * (8 + 4), "random-k": 25 * (8 + 4), "low-bit": 50 + 4}
    simulation = run(make("choco-sgd", **settings), 5, 10, dimension=100)
    moved = sum(handle.recorder.nbytes for handle in simulation.handles)
    assert moved == 5 * 2 * 10 * want[settings["compressor"]]


@pytest.mark.parametrize("name", FAMILY)
def test_two_segments_are_one_run(name: str) -> None:
    row = next(row for row in ROWS if row.name == name)
    whole = run(row.make(), row.workers, 21)
    halves = run(row.make(), row.workers, 8).run(Budget(steps=21, snapshots=1))
    assert torch.equal(replicas(halves), replicas(whole))


class UncheckedD2(D2):
    """D2 wherever the graph exists."""

    def validate(self, size: int) -> None:
        self.graph().check(size)


def test_d2_diverges_below_a_third() -> None:
    """C6, 4.3: a hypercube of 8 has the eigenvalue -1/2, which is what `validate` refuses; the lazy one converges."""
    assert rms_error(UncheckedD2(topology="hypercube"), lr=LR, steps=200) > 1e6
    assert rms_error(make("d2", topology="hypercube", lazy=True), lr=LR, steps=200) < 1e-3


@pytest.mark.parametrize(
    ("settings", "workers", "warned"),
    [
        ({}, 8, True),
        ({}, 5, False),
        ({"lazy": True}, 8, False),
        ({"topology": "hypercube"}, 4, True),
        ({"topology": "star"}, 5, False),
    ],
)
def test_d2_warns_where_it_is_marginal(settings: dict[str, Any], workers: int, warned: bool) -> None:
    algorithm = make("d2", **settings)
    algorithm.validate(workers)
    lines = algorithm.warnings(workers)
    assert len(lines) == warned
    assert all("lazy = true" in line for line in lines)


def test_choco_warns_of_a_gamma_that_was_tuned_elsewhere() -> None:
    assert "set gamma" in make("choco-sgd", compressor="low-bit").warnings(4)[0]
    assert not make("choco-sgd", compressor="low-bit", gamma=0.1).warnings(4)
    assert not make("choco-sgd", compressor="identity").warnings(4)


@pytest.mark.parametrize(
    ("name", "settings", "workers", "match"),
    [
        ("d-psgd", {}, 1, "at least 2 workers: got 1"),
        ("d-psgd", {"topology": "delay-by-one"}, 1, "at least 2 workers: got 1"),
        ("d-psgd", {"topology": "torus"}, 8, "a, b >= 3: got 8"),
        ("d-psgd", {"topology": "hypercube"}, 6, "power of two of workers: got 6"),
        ("d-psgd", {"topology": "moebius"}, 4, "unknown topology: 'moebius'"),
        ("d-psgd", {"edge_probability": 0.5}, 4, "erdos-renyi and matcha: topology is 'ring'"),
        ("d-psgd", {"topology": "matcha", "budget": 1.5}, 4, "budget must be above 0 and at most 1: got 1.5"),
        ("d-psgd", {"topology": "delay-by-one", "order": "atc"}, 4, "order must be 'cta' .* got 'atc'"),
        ("d-psgd", {"topology": "delay-by-one", "budget": 0.2}, 4, "topology is 'delay-by-one'"),
        ("gossip-pga", {"period": 0}, 4, "period must be at least 1 step: got 0"),
        ("d2", {"topology": "hypercube"}, 8, "above -1/3: got -0.5 .* lazy = true"),
        ("d2", {"topology": "torus"}, 16, "above -1/3: got -0.6 .* lazy = true"),
        ("d2", {"topology": "erdos-renyi"}, 6, "by the seed: set lazy = true"),
        ("gradient-tracking", {"topology": "torus"}, 10, "a, b >= 3: got 10"),
        ("choco-sgd", {"gamma": 0.0}, 4, "gamma must be above 0 and at most 1: got 0.0"),
        ("choco-sgd", {"gamma": 1.5}, 4, "gamma must be above 0 and at most 1: got 1.5"),
        ("choco-sgd", {"fraction": 0.0}, 4, "fraction must be in .* got 0.0"),
        ("choco-sgd", {"compressor": "low-bit", "fraction": 0.5}, 4, "fraction is for top-k and random-k"),
        ("choco-sgd", {"compressor": "low-bit", "bits": 3}, 4, "bits must be 2, 4 or 8.*: got 3"),
        ("choco-sgd", {"bits": 8}, 4, "bits is for low-bit: compressor is 'top-k'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name: str, settings: dict[str, Any], workers: int, match: str) -> None:
    with pytest.raises(ValueError, match=match) as error:
        make(name, **settings).validate(workers)
    assert "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "low", "high"),
    [
        ({"compressor": "identity", "gamma": 1.0}, 0.0, 1e-12),
        ({"compressor": "top-k", "fraction": 0.01, "gamma": 0.05}, 0.033 / 1.5, 0.033 * 1.5),
        ({"compressor": "top-k", "fraction": 0.01, "gamma": 0.1}, 0.38 / 1.5, 0.38 * 1.5),
        ({"compressor": "top-k", "fraction": 0.01, "gamma": 0.3}, 1.0, float("inf")),
        ({"compressor": "top-k", "fraction": 0.1, "gamma": 0.3}, 5e-8 / 1.5, 5e-8 * 1.5),
        ({"compressor": "top-k", "fraction": 0.1, "gamma": 0.6}, 1.0, float("inf")),
    ],
)
def test_choco_thresholds_of_the_notes(settings: dict[str, Any], low: float, high: float) -> None:
    """C9, 5.14: ring of 16, 1000 values, 1000 rounds."""
    error = relative_error(make("choco-sgd", **settings), workers=16, parameters=1000, rounds=1000)
    assert low < error < high


# -- deliberate bugs ---------------------------------------------------------------------------------------------------

HELPER = "algorithms.gossip"

MUTATIONS = [
    Mutation(
        "d-psgd", "averages without the weights of W", "alpha=weight)", "alpha=1 / w.size)", oracle_d_psgd_recursion,
        module=HELPER,
    ),
    Mutation(
        "d-psgd", "takes the neighbours of round 1 in every round", "topology.outgoing(w.rank, w.size, t, w.seed)",
        "topology.outgoing(w.rank, w.size, 1, w.seed)", oracle_one_peer_is_exact, module=HELPER,
    ),
    Mutation(
        "d-psgd", "takes whoever comes first for each neighbour", "w.recv(GOSSIP, src=j)", "w.recv(GOSSIP)",
        oracle_any_order, module=HELPER,
    ),
    Mutation(
        "d-psgd", "cta takes the gradient after averaging",
        "pending = w.start(w.gradient(x))\n                x.assign_(await average(w, graph, t, x.data))",
        "x.assign_(await average(w, graph, t, x.data))\n                pending = w.start(w.gradient(x))",
        oracle_d_psgd_recursion,
    ),
    Mutation(
        "d-psgd", "delay-by-one loses its gradient", "x.assign_(await mean)\n                x.apply_(g, opt)",
        "x.apply_(g, opt)\n                x.assign_(await mean)",
        oracle_delay_by_one,
    ),
    Mutation(
        "gossip-pga", "averages exactly one step late", "if t % self.period == 0", "if t % self.period == 1",
        oracle_pga_recursion,
    ),
    Mutation(
        "gossip-pga", "gossips before it adapts",
        "x.apply_(await w.gradient(x), opt)\n            if t % self.period == 0:\n",
        "g = await w.gradient(x)\n            x.assign_(await average(w, graph, t, x.data))\n"
        "            x.apply_(g, opt)\n            if t % self.period == 0:\n",
        oracle_pga_with_an_endless_period,
    ),
    Mutation("d2", "corrects the wrong way", "with_data(g.data + c)", "with_data(g.data - c)", oracle_d2_recursion),
    Mutation("d2", "divides by the next step's rate", "alpha=1 / lr", "alpha=1 / opt.lr", oracle_d2_with_a_schedule),
    Mutation("d2", "forgets the lazy weights", "if self.lazy else mean)", "if False else mean)", oracle_d2_recursion),
    Mutation(
        "exact-diffusion", "corrects by the combined model", "            psi.copy_(x.data)\n", "",
        oracle_exact_diffusion_recursion,
    ),
    Mutation(
        "exact-diffusion", "has no correction", "            x.move_(correction)\n", "",
        oracle_exact_diffusion_is_lazy_d2,
    ),
    Mutation(
        "exact-diffusion", "averages with W instead of (I + W) / 2",
        "(x.data + await average(w, graph, t, x.data)) / 2", "await average(w, graph, t, x.data)",
        oracle_exact_diffusion_is_lazy_d2,
    ),
    Mutation(
        "gradient-tracking", "does not mix the trackers", "q.copy_(mean_q + (g.data - before))",
        "q.add_(g.data - before)", oracle_tracking_recursion,
    ),
    Mutation(
        "gradient-tracking", "forgets the gradient of the step before", "            before.copy_(g.data)\n", "",
        oracle_trackers_have_the_mean_gradient,
    ),
    Mutation(
        "gradient-tracking", "steps along its own gradient",
        "x.assign_(mean_x)\n                x.apply_(g.with_data(q), opt)",
        "x.assign_(mean_x)\n                x.apply_(g, opt)", oracle_tracking_recursion,
    ),
    Mutation(
        "choco-sgd", "compresses the model, not the difference", "x.data - public,", "x.data,", oracle_choco_recursion,
    ),
    Mutation(
        "choco-sgd", "forgets to move its public copy", "            public.add_(decode(wire))\n", "",
        oracle_choco_mixed_copies,
    ),
    Mutation("choco-sgd", "forgets the copies of earlier rounds", "s.add_(", "s.copy_(", oracle_choco_mixed_copies),
    Mutation("choco-sgd", "ignores gamma", "self.step * (s - public)", "s - public", oracle_choco_recursion),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_the_oracles_notice_deliberate_bugs(mutation: Mutation) -> None:
    notices(mutation)
