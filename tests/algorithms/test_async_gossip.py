"""Push-sum (SGP, OSGP, AGP), AD-PSGD and Prague: what is known exactly about them, and bugs that this would notice.

Ids such as I5 or I13 are those of docs/oracles.md.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from algorithms.group_generator import GroupGenerator, static_group, static_links
from algorithms.interface import Algorithm, Message
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.topology import Topology
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.simulate import Simulation
from bench.workloads.base import Workload
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import Row, digits, evaluated, make, quadratic, replicas, simulate

LR = 0.4  # 600 steps shrink the flattest direction of the quadratic, 0.1, by 2e-11
SLOW_LINKS = Network(latency_s=0.4, bandwidth_Gbit_per_s=1e-3)
UNEVEN = Compute(gradient_s=1.0, distribution="lognormal", sigma=0.5, slow={"1": 3.0})
MOMENTUM = OptimizerSettings(name="momentum", lr=0.05, weight_decay=0.01)

ROWS = [
    Row("sgp", lr=LR),
    Row("sgp", {"topology": "exponential"}, workers=5, lr=LR),
    Row("sgp", {"topology": "irregular"}, workers=5, lr=LR),
    Row("sgp", {"topology": "directed-ring"}, workers=3, lr=LR),
    Row("overlap-sgp", lr=LR),
    Row("overlap-sgp", {"delay": 3}, workers=5, lr=LR),
    Row("overlap-sgp", {"delay": 2, "period": 1, "topology": "irregular"}, lr=LR),
    Row("overlap-sgp", {"delay": 0}, lr=LR),
    Row("agp", lr=LR, spied=False),
    Row("agp", {"peers": "one"}, workers=5, lr=LR, spied=False),
    Row("agp", {"topology": "irregular"}, lr=LR, spied=False),
    Row("agp", {"topology": "ring", "scaled": False}, lr=LR),
    Row("ad-psgd", lr=LR),
    Row("ad-psgd", {"topology": "complete-bipartite"}, workers=5, lr=LR),
    Row("ad-psgd", {"overlap": True}, lr=LR),
    Row("ad-psgd", {"topology": "complete-bipartite", "overlap": True}, workers=5, lr=LR),
    Row("prague", lr=LR),
    Row("prague", {"group_size": 2}, workers=6, lr=LR),
    Row("prague", {"group_size": 3, "slowdown_threshold": 0}, workers=5, lr=LR),
    Row("prague", {"group_size": 2, "schedule": "static"}, workers=6, lr=LR),
]


def random_start(workers: int, seed: int = 0, parameters: int = 12) -> Tensor:
    """A model per worker [n, P]."""
    return torch.randn(workers, parameters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def resting(algorithm: Algorithm, start: Tensor, budget: Budget, **settings: Any) -> Simulation:
    """A run with learning rate 0 from `start` [n, P]: communication alone."""
    n = len(start)
    points = [*start, torch.zeros_like(start[0])][: n + algorithm.server_ranks(n)]
    workload = quadratic(n, dimension=start.shape[1])
    return simulate(algorithm, workload, workers=n, budget=budget, lr=0.0, start=points, **settings)


def kept(simulation: Simulation, name: str) -> Tensor:
    """A kept state of all workers [n, ...]."""
    return torch.stack([handle.state.kept[name] for handle in simulation.workers])


def spread(x: Tensor) -> float:
    """Sum of the squared distances of models [n, P] to their mean."""
    return float((x - x.mean(0)).square().sum())


def apply_events(simulation: Simulation) -> list[tuple[int, float, float]]:
    """(rank, when the gradient was read, when it was applied) of every gradient."""
    events = []
    for handle in simulation.workers:
        rows = handle.recorder.rows()
        read = {row[1]: row[2] for row in rows if row[0] == "gradient"}
        events += [(handle.rank, read[row[1]], row[3]) for row in rows if row[0] == "apply"]
    return events


# -- push-sum in rounds ------------------------------------------------------------------------------------------------


def push_sum_reference(
    workload: Workload, workers: int, topology: str, steps: int, settings: OptimizerSettings, delay: int = 0, q: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """(x [n, P], w [n], z [n, P]) of SGP and OSGP, computed with the whole push matrices at once."""
    x, w = workload.initial(0).repeat(workers, 1), torch.ones(workers, dtype=torch.float64)
    z = x.clone()
    batches = [workload.batches(0, rank, workers) for rank in range(workers)]
    optimizers = [
        Optimizer(settings, workload.parameters, workload.dtype, spans=workload.spans) for _ in range(workers)
    ]
    under_way: dict[int, tuple[Tensor, Tensor]] = {}
    for t in range(1, steps + 1):
        for rank in range(workers):
            gradient = torch.empty_like(x[rank])
            workload.gradient(z[rank].clone(), batches[rank].next(), gradient)
            optimizers[rank].step_(x[rank], gradient)
        if t % q == 0:
            shares = torch.from_numpy(Topology(topology).push_matrix(workers, t // q))
            stay = shares.diagonal().clone()
            go = shares - torch.diag(stay)
            under_way[t + delay] = go @ x, go @ w
            x, w = stay[:, None] * x, stay * w
        if t in under_way:
            arrived = under_way.pop(t)
            x, w = x + arrived[0], w + arrived[1]
        z = x / w[:, None]
    return x, w, z


def check_reference(cls: type[Algorithm], topology: str, workers: int, tau: int, q: int, **settings: Any) -> None:
    workload, steps = quadratic(workers, dimension=8), 23
    simulation = simulate(
        cls(topology=topology, **settings), workload, workers=workers, budget=Budget(steps=steps), optimizer=MOMENTUM
    )
    expected = push_sum_reference(workload, workers, topology, steps, MOMENTUM, tau, q)
    found = replicas(simulation), kept(simulation, "weight"), kept(simulation, "debiased")
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def oracle_sgp_is_the_matrix_recursion(cls: type[Algorithm]) -> None:
    """5.8: X <- P(t) (X - momentum step at Z), w <- P(t) w, also on an irregular digraph (I3)."""
    check_reference(cls, "irregular", 5, 0, 1)
    check_reference(cls, "one-peer-exponential", 6, 0, 1)


def oracle_sgp_on_the_complete_graph_is_d_psgd(cls: type[Algorithm]) -> None:
    """I9: balanced shares, so that the weights stay 1 and SGP is adapt-then-combine gossip."""
    workload, budget = digits(), Budget(steps=10)
    gossip = simulate(make("d-psgd", topology="complete", order="atc"), workload, workers=4, budget=budget)
    pushed = simulate(cls(topology="complete"), workload, workers=4, budget=budget)
    torch.testing.assert_close(replicas(pushed), replicas(gossip), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(kept(pushed, "weight"), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-14)


def oracle_sgp_one_peer_is_exact_after_log2_n_steps(cls: type[Algorithm]) -> None:
    """5.8-T3, I7: on n = 2^k workers without gradients."""
    for workers, rounds in ((4, 2), (8, 3), (16, 4)):
        start = random_start(workers)
        z = kept(resting(cls(), start, Budget(steps=rounds)), "debiased")
        torch.testing.assert_close(z, start.mean(0).expand_as(z), rtol=0, atol=1e-13)
        assert spread(kept(resting(cls(), start, Budget(steps=rounds - 1)), "debiased")) > 1e-3


def oracle_sgp_finds_the_mean_on_an_irregular_digraph(cls: type[Algorithm]) -> None:
    """5.8-T1 and T2, I5, C7: the weights differ but add up to n; z tends to the mean while x does not."""
    for workers in (4, 5, 8):
        start = random_start(workers)
        simulation = resting(cls(topology="irregular"), start, Budget(steps=150))
        weight, z = kept(simulation, "weight"), kept(simulation, "debiased")
        assert abs(float(weight.sum()) - workers) < 1e-12 and float((weight - 1).abs().max()) > 0.1
        assert float((z - start.mean(0)).abs().max()) < 1e-10
        assert float((replicas(simulation) - start.mean(0)).abs().max()) > 1e-2
        torch.testing.assert_close(replicas(simulation).sum(0), start.sum(0), rtol=0, atol=1e-12)


# -- overlapped --------------------------------------------------------------------------------------------------------


def oracle_overlap_sgp_without_delay_is_sgp(cls: type[Algorithm]) -> None:
    """5.8-T4, bit for bit, weights included."""
    for topology in ("one-peer-exponential", "irregular"):
        runs = [
            simulate(algorithm, quadratic(5), workers=5, budget=Budget(steps=20), optimizer=MOMENTUM)
            for algorithm in (cls(delay=0, topology=topology), make("sgp", topology=topology))
        ]
        for name in ("weight", "debiased"):
            assert torch.equal(kept(runs[0], name), kept(runs[1], name))
        assert torch.equal(replicas(runs[0]), replicas(runs[1]))


def oracle_overlap_sgp_is_the_delayed_matrix_recursion(cls: type[Algorithm]) -> None:
    """5.8: what is sent in step k q is added tau steps later."""
    check_reference(cls, "irregular", 5, 1, 1, delay=1)
    check_reference(cls, "one-peer-exponential", 6, 3, 3, delay=3)
    check_reference(cls, "irregular", 4, 3, 2, delay=3, period=2)
    check_reference(cls, "exponential", 4, 2, 1, delay=2, period=1)


def oracle_overlap_sgp_conserves_what_is_under_way(cls: type[Algorithm]) -> None:
    """5.8-T4, I5: x and w, with what lies in the mailboxes, at every stopping point."""
    for delay, steps in itertools.product((1, 2, 3), range(9, 16)):
        start = random_start(5, steps)
        simulation = resting(cls(topology="irregular", delay=delay), start, Budget(steps=steps), network=SLOW_LINKS)
        x, w = replicas(simulation).sum(0), kept(simulation, "weight").sum()
        messages = [message for handle in simulation.workers for message in handle.mailbox.messages()]
        assert len(messages) == (Topology("irregular").messages_per_round(5) if delay else 0)
        for message in messages:
            x, w = x + message.data[:-1], w + message.data[-1]
        torch.testing.assert_close(x, start.sum(0), rtol=0, atol=1e-12)
        assert abs(float(w) - 5) < 1e-12


def oracle_overlap_sgp_finds_the_mean_on_an_irregular_digraph(cls: type[Algorithm]) -> None:
    """5.8-T2 with a delay: the weight keeps a late message from biasing z."""
    start = random_start(5)
    simulation = resting(cls(topology="irregular", delay=2, period=1), start, Budget(steps=300))
    assert float((kept(simulation, "debiased") - start.mean(0)).abs().max()) < 1e-10


def oracle_overlap_sgp_hides_messages_behind_gradients(cls: type[Algorithm]) -> None:
    """C8: a step takes the longer of gradient and message, not their sum; within 5 %."""
    for comm_s in (0.5, 1.0, 2.0):
        nbytes = (12 + 1) * 8 + 64
        network = Network(latency_s=0.0, bandwidth_Gbit_per_s=nbytes * 8 / 1e9 / comm_s)
        times = []
        for algorithm in (make("sgp"), cls(delay=1)):
            simulation = simulate(algorithm, quadratic(4), workers=4, budget=Budget(steps=60), network=network)
            times.append(simulation.kernel.now() / 60)
        assert times[0] == pytest.approx(1 + comm_s, rel=0.05)
        assert times[1] == pytest.approx(max(1, comm_s), rel=0.05)


# -- without rounds ----------------------------------------------------------------------------------------------------


def oracle_agp_conserves_numerators_and_weights(cls: type[Algorithm]) -> None:
    """5.7-T1 and T3, I5: 1e-12, with unequal speeds and messages under way when workers stop."""
    rows = [({}, 4), ({"peers": "one"}, 5), ({"topology": "irregular"}, 5), ({"topology": "ring"}, 4)]
    for (settings, workers), shuffle in itertools.product(rows, range(8)):
        start = random_start(workers, shuffle)
        simulation = resting(
            cls(**settings), start, Budget(seconds=4.5 + shuffle), shuffle=shuffle, compute=UNEVEN, network=SLOW_LINKS
        )
        weight = kept(simulation, "weight")
        assert abs(float(weight.sum()) - workers) < 1e-12 and float(weight.min()) > 0
        torch.testing.assert_close(replicas(simulation).sum(0), start.sum(0), rtol=0, atol=1e-12)


def oracle_agp_finds_the_mean_on_an_irregular_digraph(cls: type[Algorithm]) -> None:
    """5.7-T2: z tends to the mean at any speeds."""
    for settings, seconds in (({}, 200.5), ({"peers": "one"}, 500.5)):
        start = random_start(5)
        simulation = resting(
            cls(topology="irregular", **settings), start, Budget(seconds=seconds, snapshots=1), compute=UNEVEN
        )
        assert float((kept(simulation, "debiased") - start.mean(0)).abs().max()) < 1e-10


def oracle_agp_at_equal_speeds_is_a_matrix_recursion(cls: type[Algorithm]) -> None:
    """5.7: with a free network all of a round has arrived when the next gradients, begun before, are applied.

    So Y <- P Y - lr diag(w) G(Z), w <- P w, Z = Y / w; unscaled without diag(w).
    """
    workers, lr, steps, workload = 5, 0.1, 20, quadratic(5)
    shares = torch.from_numpy(Topology("irregular").push_matrix(workers))
    for scaled in (True, False):
        w = torch.ones(workers, dtype=torch.float64)
        y = workload.initial(0).repeat(workers, 1)
        batches = [workload.batches(0, rank, workers) for rank in range(workers)]
        for t in range(steps):
            gradients = torch.empty_like(y)
            for rank in range(workers):
                workload.gradient(y[rank] / w[rank], batches[rank].next(), gradients[rank])
            if t:
                y, w = shares @ y, shares @ w
            y = y - lr * (w[:, None] if scaled else 1.0) * gradients
        simulation = simulate(
            cls(topology="irregular", scaled=scaled), workload, workers=workers, budget=Budget(seconds=steps - 0.5)
        )
        torch.testing.assert_close(kept(simulation, "debiased"), y / w[:, None], rtol=1e-12, atol=1e-12)


def agp_distance(cls: type[Algorithm], compute: Compute, lr: float, seconds: float, **settings: Any) -> float:
    """Distance of the evaluated model to the minimiser of the mean loss; every worker has its own minimiser."""
    workload = quadratic(4, noise=0.0, condition=2.0)
    budget = Budget(seconds=seconds, snapshots=1)
    simulation = simulate(cls(**settings), workload, workers=4, budget=budget, lr=lr, compute=compute)
    return float(workload.heldout(evaluated(simulation)).metric)


def oracle_agp_is_exact_at_equal_speeds_only(cls: type[Algorithm]) -> None:
    """C15: distance to the uniform optimum below 1e-2 at equal speeds; with a worker three times slower above 0.1.

    That is the paper's step. Scaled, a worker's weight grows as its steps get rarer: the bias is far smaller.
    """
    even, uneven = Compute(gradient_s=1.0), Compute(gradient_s=1.0, slow={"1": 3.0})
    for scaled in (True, False):
        assert agp_distance(cls, even, 0.1, 150.5, scaled=scaled) < 1e-2
    biased = agp_distance(cls, uneven, 0.1, 150.5, scaled=False)
    assert biased > 0.1
    assert agp_distance(cls, uneven, 0.1, 150.5, scaled=True) < biased / 4


def oracle_agp_scaled_is_stable_where_the_papers_step_is_not(cls: type[Algorithm]) -> None:
    """5.7, pitfall: weight drains from the fast workers; alpha / w_i explodes there."""
    compute = Compute(gradient_s=1.0, slow={"1": 10.0})
    settings = {"topology": "directed-ring"}
    assert agp_distance(cls, compute, 0.1, 300.5, **settings) < 5
    unscaled = agp_distance(cls, compute, 0.1, 300.5, scaled=False, **settings)
    assert not unscaled < 1e3


# -- AD-PSGD -----------------------------------------------------------------------------------------------------------


def oracle_ad_psgd_conserves_the_mean(cls: type[Algorithm]) -> None:
    """5.4-T1: 1e-12, also when the answer comes long after the gradient."""
    for latency_s, shuffle in itertools.product((0.0, 0.4, 1.7), range(6)):
        for overlap in (False, True):
            start = random_start(5, shuffle)
            workload = quadratic(5)
            simulation = simulate(
                cls(topology="complete-bipartite", overlap=overlap), workload, workers=5, shuffle=shuffle,
                budget=Budget(seconds=6.5, snapshots=1), compute=UNEVEN, start=list(start), spy=True,
                network=Network(latency_s=latency_s, bandwidth_Gbit_per_s=1e-3),
            )  # fmt: skip
            moved = torch.stack([h.state.optimizers[0].total for h in simulation.workers]).sum(0)  # type: ignore[attr-defined]
            torch.testing.assert_close(replicas(simulation).sum(0), start.sum(0) + moved, rtol=0, atol=1e-11)


def oracle_ad_psgd_contracts_as_expected(cls: type[Algorithm]) -> None:
    """5.4-T2 on the bipartite graph: mean of 200 runs within 5 % of the exact second moment, exchange by exchange."""
    workers = 4
    topology = Topology("complete-bipartite")
    active, passive = topology.sides(workers)
    ratios = []
    for seed in range(200):
        start = random_start(workers, seed, parameters=40)
        second = (start - start.mean(0)) @ (start - start.mean(0)).T
        for i in sorted(active):
            expected = torch.zeros_like(second)
            for j in passive:
                pair = torch.eye(workers, dtype=torch.float64)
                pair[[i, i, j, j], [i, j, i, j]] = 0.5
                expected += pair @ second @ pair / len(passive)
            second = expected
        simulation = resting(cls(topology="complete-bipartite"), start, Budget(seconds=0.5, snapshots=1), seed=seed)
        ratios.append(spread(replicas(simulation)) / float(second.trace()))
    assert np.mean(ratios) == pytest.approx(1, rel=0.05)


def oracle_ad_psgd_staleness_is_n(cls: type[Algorithm]) -> None:
    """5.4-T4: updates of all workers between the reading of a gradient and its applying, its own counted: n."""
    for overlap in (False, True):
        simulation = simulate(
            cls(topology="complete-bipartite", overlap=overlap), quadratic(6), workers=6, compute=UNEVEN,
            budget=Budget(seconds=300.5, snapshots=1), shuffle=1,
        )  # fmt: skip
        events = apply_events(simulation)
        times = np.sort([applied_s for _, _, applied_s in events])
        staleness = np.searchsorted(times, [e[2] for e in events], "right") - np.searchsorted(
            times, [e[1] for e in events], "right"
        )
        assert np.mean(staleness) == pytest.approx(6, rel=0.05)


def oracle_ad_psgd_overlapped_pair_is_gossip_in_rounds(cls: type[Algorithm]) -> None:
    """5.4: two equally fast workers whose exchange ends before their gradients: D-PSGD, combine-then-adapt."""
    budget, network = Budget(seconds=19.5), Network(latency_s=0.2, bandwidth_Gbit_per_s=1e9)
    pair = simulate(cls(overlap=True), digits(), workers=2, budget=budget, network=network)
    rounds = simulate(make("d-psgd", topology="complete"), digits(), workers=2, budget=Budget(steps=20))
    torch.testing.assert_close(replicas(pair), replicas(rounds), rtol=1e-12, atol=1e-12)


def oracle_ad_psgd_overlapped_gradients_are_applied_as_they_come(cls: type[Algorithm]) -> None:
    """5.1: a step lasts the longer of gradient and exchange; a gradient never waits for the exchange."""
    for latency_s in (0.2, 0.45, 0.8):
        network = Network(latency_s=latency_s, bandwidth_Gbit_per_s=1e9)
        simulation = simulate(cls(overlap=True), quadratic(4), workers=4, budget=Budget(seconds=99.5), network=network)
        expected = 100 / max(1.0, 2 * latency_s)
        assert [h.state.step for h in simulation.workers] == pytest.approx([100, expected, 100, expected], rel=0.03)
        waited = [applied_s - read_s for _, read_s, applied_s in apply_events(simulation)]
        assert waited == pytest.approx([1.0] * len(waited))


def oracle_ad_psgd_converges_to_the_frequency_weighted_optimum(cls: type[Algorithm]) -> None:
    """3.10: with a slow worker, to the optimum that weighs workers by their steps, not to the uniform one."""
    workload = quadratic(4, noise=0.0, condition=1.0)
    weights = torch.tensor([1.0, 0.25, 1.0, 1.0], dtype=torch.float64)
    shifts: Tensor = workload.shifts  # type: ignore[attr-defined]
    weighted = (weights[:, None] * shifts).sum(0) / weights.sum()
    budget, compute = Budget(seconds=3000.5, snapshots=1), Compute(gradient_s=1.0, slow={"1": 4.0})
    simulation = simulate(
        cls(topology="complete-bipartite"), workload, workers=4, budget=budget, lr=0.01, compute=compute
    )
    uniform = float((weighted - workload.minimiser).norm())  # type: ignore[attr-defined]
    assert float((evaluated(simulation) - weighted).norm()) < 0.2 * uniform


# -- Prague ------------------------------------------------------------------------------------------------------------


def oracle_prague_with_one_group_is_allreduce_sgd(cls: type[Algorithm]) -> None:
    """5.6-T2, I9: G = n at equal speeds; 1e-10."""
    budget = Budget(steps=20)
    reduced = simulate(make("allreduce-sgd"), digits(), workers=4, budget=budget)
    for settings in ({}, {"schedule": "static"}):
        grouped = simulate(cls(group_size=4, **settings), digits(), workers=4, budget=Budget(seconds=19.5))
        torch.testing.assert_close(replicas(grouped), replicas(reduced), rtol=1e-10, atol=1e-10)


def oracle_prague_contracts_as_expected(cls: type[Algorithm]) -> None:
    """5.6-T3: E ||X - mean||^2 shrinks by (n/G - 1)/(n - 1) per step at equal speeds; mean of many runs, 5 %."""
    for workers, group_size, steps in ((6, 3, 1), (6, 2, 2)):  # the second of 2 steps needs new groups
        ratios = []
        for seed in range(40):
            start = random_start(workers, seed, parameters=100)
            budget = Budget(seconds=steps - 0.5, snapshots=1)
            after = replicas(resting(cls(group_size=group_size), start, budget, seed=seed))
            ratios.append(spread(after) / spread(start))
        expected = (workers / group_size - 1) / (workers - 1)
        assert np.mean(ratios) ** (1 / steps) == pytest.approx(expected, rel=0.05)


def oracle_prague_open_groups_share_no_worker(cls: type[Algorithm]) -> None:
    """5.6-T4, and why nobody hangs: whoever is told a group finds all its members there, and none of them has left."""
    generator_class: type[GroupGenerator] = vars(sys.modules[cls.__module__])["GroupGenerator"]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        n, group_size = int(rng.integers(2, 9)), int(rng.integers(2, 5))
        ids, links = torch.zeros((), dtype=torch.int64), torch.zeros((), dtype=torch.int64)
        iterations = torch.zeros(n, dtype=torch.int64)
        generator = generator_class(group_size, int(rng.integers(0, 4)), rng, iterations, ids, links)
        open_group: dict[int, list[int]] = {}  # of each worker, as far as somebody has been told
        joined: set[int] = set()
        leaving: set[int] = set()
        gone: set[int] = set()
        groups, numbers = 0, 0
        while len(gone) < n:
            i = int(rng.choice([k for k in range(n) if k not in gone and k not in joined]))
            leaves = i in leaving or rng.random() < 0.03
            leaving |= {i} if leaves else set()
            answer = (generator.leave if leaves else generator.join)(Message(torch.tensor([i]), i, ""))
            group = answer.tolist()
            numbers += 1 + len(group)
            if not group:
                assert leaves and i not in open_group
                gone.add(i)
                continue
            assert i in group and len(set(group)) == len(group) <= group_size and not gone & set(group)
            if open_group.get(i) != group:
                assert not open_group.keys() & set(group), "a member is in another open group"
                open_group |= dict.fromkeys(group, group)
                groups += len(group) - 1
            joined.add(i)
            if joined.issuperset(group):
                joined.difference_update(group)
                for k in group:
                    del open_group[k]
        assert not open_group and (int(ids), int(links)) == (numbers, groups)


def oracle_prague_ends_in_all_orders(cls: type[Algorithm]) -> None:
    """I13: unequal speeds, several end times, 300 orders; the mean is conserved (T1) and no group is left open."""
    for shuffle in range(300):
        workers, group_size = ((5, 2), (6, 3), (4, 4))[shuffle % 3]
        start = random_start(workers, shuffle)
        compute = Compute(gradient_s=1.0, slow={"1": (0.5, 2.0, 7.0)[shuffle % 7 % 3], "3": 3.0})
        simulation = resting(
            cls(group_size=group_size), start, Budget(seconds=0.5 + shuffle % 7 / 2, snapshots=1), shuffle=shuffle,
            compute=compute, seed=shuffle,
        )  # fmt: skip
        torch.testing.assert_close(replicas(simulation).sum(0), start.sum(0), rtol=0, atol=1e-12)


def oracle_prague_does_not_wait_for_a_slow_worker(cls: type[Algorithm]) -> None:
    """C11: with one of 8 workers 10 times slower, more than twice the gradients of all-reduce; the filter does it."""

    def rate(**settings: Any) -> float:
        compute = Compute(gradient_s=1.0, slow={"1": 10.0})
        budget = Budget(seconds=150.5, snapshots=1)
        simulation = simulate(cls(group_size=4, **settings), quadratic(8), workers=8, budget=budget, compute=compute)
        return float(np.mean([handle.state.step for handle in simulation.workers])) / 150

    filtered = rate()
    assert filtered > 2 * 0.1
    assert filtered > 1.25 * rate(slowdown_threshold=0)


def oracle_prague_static_is_exact_after_log_g_n_steps(cls: type[Algorithm]) -> None:
    """5.6: the static schedule is conflict-free and mixes as fast as possible on n = G^m workers."""
    for workers, group_size, steps in ((4, 2, 2), (8, 2, 3), (9, 3, 2)):
        start = random_start(workers)
        algorithm = cls(group_size=group_size, schedule="static")
        x = replicas(resting(algorithm, start, Budget(seconds=steps - 0.5)))
        torch.testing.assert_close(x, start.mean(0).expand_as(x), rtol=0, atol=1e-13)


ORACLES: list[tuple[str, Oracle]] = [
    ("sgp", oracle_sgp_is_the_matrix_recursion),
    ("sgp", oracle_sgp_on_the_complete_graph_is_d_psgd),
    ("sgp", oracle_sgp_one_peer_is_exact_after_log2_n_steps),
    ("sgp", oracle_sgp_finds_the_mean_on_an_irregular_digraph),
    ("overlap-sgp", oracle_overlap_sgp_without_delay_is_sgp),
    ("overlap-sgp", oracle_overlap_sgp_is_the_delayed_matrix_recursion),
    ("overlap-sgp", oracle_overlap_sgp_conserves_what_is_under_way),
    ("overlap-sgp", oracle_overlap_sgp_finds_the_mean_on_an_irregular_digraph),
    ("overlap-sgp", oracle_overlap_sgp_hides_messages_behind_gradients),
    ("agp", oracle_agp_conserves_numerators_and_weights),
    ("agp", oracle_agp_finds_the_mean_on_an_irregular_digraph),
    ("agp", oracle_agp_at_equal_speeds_is_a_matrix_recursion),
    ("agp", oracle_agp_is_exact_at_equal_speeds_only),
    ("agp", oracle_agp_scaled_is_stable_where_the_papers_step_is_not),
    ("ad-psgd", oracle_ad_psgd_conserves_the_mean),
    ("ad-psgd", oracle_ad_psgd_contracts_as_expected),
    ("ad-psgd", oracle_ad_psgd_staleness_is_n),
    ("ad-psgd", oracle_ad_psgd_overlapped_pair_is_gossip_in_rounds),
    ("ad-psgd", oracle_ad_psgd_overlapped_gradients_are_applied_as_they_come),
    ("ad-psgd", oracle_ad_psgd_converges_to_the_frequency_weighted_optimum),
    ("prague", oracle_prague_with_one_group_is_allreduce_sgd),
    ("prague", oracle_prague_contracts_as_expected),
    ("prague", oracle_prague_open_groups_share_no_worker),
    ("prague", oracle_prague_ends_in_all_orders),
    ("prague", oracle_prague_does_not_wait_for_a_slow_worker),
    ("prague", oracle_prague_static_is_exact_after_log_g_n_steps),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda value: getattr(value, "__name__", value))
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(type(make(name)))


MUTATIONS = [
    Mutation(
        "sgp", "gradient at the numerator", "w.gradient(x, at=z)", "w.gradient(x)", oracle_sgp_is_the_matrix_recursion
    ),
    Mutation(
        "sgp", "a sender keeps nothing for itself", ".div_(1 + receivers)", ".div_(receivers)",
        oracle_sgp_one_peer_is_exact_after_log2_n_steps, "algorithms.push_sum",
    ),
    Mutation(
        "sgp", "the weight that is sent also stays", "weight.sub_(part[-1].double() * receivers)", "pass",
        oracle_sgp_finds_the_mean_on_an_irregular_digraph, "algorithms.push_sum",
    ),
    Mutation(
        "overlap-sgp", "messages of the first round are never added", "k > 0", "k > 1",
        oracle_overlap_sgp_conserves_what_is_under_way,
    ),
    Mutation(
        "overlap-sgp", "a step later than asked for", "divmod(t - self.delay,", "divmod(t - self.delay - 1,",
        oracle_overlap_sgp_without_delay_is_sgp,
    ),
    Mutation(
        "overlap-sgp", "the peers of a step, not of a round", "senders(w.rank, w.size, k,",
        "senders(w.rank, w.size, t,",
        oracle_overlap_sgp_is_the_delayed_matrix_recursion,
    ),
    Mutation(
        "agp", "the step is not scaled",
        "x.addcmul_(self.optimizer.update(gradient, x / self.weight), self.weight.to(x.dtype))",
        "x.add_(self.optimizer.update(gradient, x / self.weight))", oracle_agp_at_equal_speeds_is_a_matrix_recursion,
    ),
    Mutation(
        "agp", "one peer, but the shares of all", "push_(x, weight, len(receivers))",
        "push_(x, weight, len(neighbours))",
        oracle_agp_conserves_numerators_and_weights,
    ),
    Mutation(
        "agp", "models arrive without their weight", "weight.add_(part[-1])", "pass",
        oracle_agp_at_equal_speeds_is_a_matrix_recursion, "algorithms.push_sum",
    ),
    Mutation(
        "ad-psgd", "overlapped mean instead of half the difference", "x.add_((answer - sent) / 2)",
        "x.mix_(answer, weight=0.5)", oracle_ad_psgd_conserves_the_mean,
    ),
    Mutation(
        "ad-psgd", "answers with the model after mixing", "return before", "return x.data.clone()",
        oracle_ad_psgd_conserves_the_mean,
    ),
    Mutation(
        "ad-psgd", "the gradient waits for the exchange",
        "x.apply_(await gradient, opt)\n                await exchange",
        "await exchange\n                x.apply_(await gradient, opt)",
        oracle_ad_psgd_overlapped_gradients_are_applied_as_they_come,
    ),
    Mutation(
        "prague", "a worker goes without leaving", "while (members", "while False and (members",
        oracle_prague_does_not_wait_for_a_slow_worker,
    ),
    Mutation(
        "prague", "who left is put into new groups", "self.left.add(i)", "pass",
        oracle_prague_open_groups_share_no_worker, "algorithms.group_generator",
    ),
    Mutation(
        "prague", "who waits in a group is put into a second one", "if group is None and", "if",
        oracle_prague_open_groups_share_no_worker, "algorithms.group_generator",
    ),
    Mutation(
        "prague", "always the same groups", "self.rng.shuffle(idle)", "pass",
        oracle_prague_contracts_as_expected, "algorithms.group_generator",
    ),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_a_deliberate_bug_is_noticed(mutation: Mutation) -> None:
    notices(mutation)


@pytest.mark.parametrize(("workers", "group_size"), [(4, 2), (6, 4), (7, 3), (9, 3), (5, 5)])
def test_static_groups_are_partitions_that_connect_all_workers(workers: int, group_size: int) -> None:
    met = {0}
    for t in range(1, 2 * workers + 1):
        groups = [static_group(rank, workers, group_size, t) for rank in range(workers)]
        assert all(rank in group and len(group) <= group_size for rank, group in enumerate(groups))
        assert all(groups[k] == group for group in groups for k in group)
        assert static_links(workers, group_size, t) == workers - len({tuple(group) for group in groups})
        met |= {k for group in groups if met & set(group) for k in group}
    assert met == set(range(workers))


@pytest.mark.parametrize(
    ("name", "settings", "workers", "line"),
    [
        ("overlap-sgp", {"delay": -1}, 4, r"delay \(tau\) must be at least 0 steps: got -1 .*"),
        ("overlap-sgp", {"period": 0}, 4, r"period must be at least 1 step: got 0 .*"),
        ("prague", {"group_size": 1}, 4, r"group_size must be at least 2 workers: got 1 .*"),
        ("prague", {"slowdown_threshold": -1}, 4, r"slowdown_threshold must be at least 0 steps: got -1 .*"),
        (
            "prague",
            {"slowdown_threshold": 2, "schedule": "static"},
            4,
            r"slowdown_threshold is for .*: got 2 .*omit it.",
        ),
        ("prague", {}, 3, r"group_size must lie in 2..3 on 3 workers: got 4 \(try 3\)"),
        ("prague", {}, 1, r"prague needs at least 2 workers: got 1"),
        ("sgp", {}, 1, r"gossip needs at least 2 workers: got 1"),
        ("overlap-sgp", {}, 1, r"gossip needs at least 2 workers: got 1"),
        ("agp", {}, 1, r"gossip needs at least 2 workers: got 1"),
        ("ad-psgd", {}, 3, r"topology must be bipartite: 'ring' on 3 workers has an odd cycle .*"),
    ],
)
def test_settings_that_make_no_sense_are_refused(name: str, settings: Any, workers: int, line: str) -> None:
    with pytest.raises(ValueError, match=f"^{line}$"):
        make(name, **settings).validate(workers)


def test_the_papers_unscaled_step_comes_with_a_warning() -> None:
    assert not make("agp").warnings(4)
    assert "alpha / w_i" in make("agp", scaled=False).warnings(4)[0]
