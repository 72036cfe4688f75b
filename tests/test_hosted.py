"""Hosts of simulated ranks: shared cores, handling of messages, naps and token buckets, against closed forms."""

from __future__ import annotations

import doctest
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch

from algorithms.interface import Algorithm, Need, Worker
from bench.budget import Budget
from bench.cluster import HEADER_NBYTES, Compute, Handling, Limit, Network, handling
from bench.cluster.compute import LONG_WAIT_S
from bench.settings import StudyError, build
from bench.simulate import Simulation
from bench.transports.hosted import HostedWorld, world_of
from bench.transports.simulated import SimulatedWorld
from tests.algorithms.support import make, quadratic
from tests.test_cluster import exactly, rows

FAST = Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"))
ONE_NODE = Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"), ranks_per_node=64, inside="NVLink")
SECOND = Compute(gradient_s=1.0)


def simulate(algorithm: Algorithm, network: Network, compute: Compute, *, workers: int = 2, **kw: Any) -> Simulation:
    settings = {"seed": 3, **kw}
    return Simulation(algorithm, quadratic(workers), workers=workers, network=network, compute=compute, **settings)


def steps(simulation: Simulation, seconds: float) -> list[int]:
    """Gradients of each worker that ended within that time."""
    simulation.run(Budget(seconds=seconds, snapshots=1))
    return [
        sum(r["rank"] == rank and r["t1_s"] <= seconds * (1 + 1e-9) for r in rows(simulation, "gradient"))
        for rank in range(len(simulation.workers))
    ]


@dataclass(frozen=True, kw_only=True)
class Asks(Algorithm):
    """All workers but the first ask the first, once. It may compute beside."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    length: int = 1000
    after: int = 0  # gradients of those who ask before they ask
    then: int = 0  # and when they have their answer
    computes: int = 0  # gradients of the first

    async def worker(self, w: Worker) -> None:
        x = w.replica()
        if w.rank == 0:
            w.serve("t", lambda message: message.data)
            for _ in range(self.computes):
                await w.gradient(x)
            return
        for _ in range(self.after):
            await w.gradient(x)
        await w.request(0, "t", torch.zeros(self.length, dtype=torch.uint8))
        for _ in range(self.then):
            await w.gradient(x)


def answers_s(simulation: Simulation) -> list[float]:
    """When each asking worker had its answer, in order."""
    simulation.run(Budget(steps=1))
    return sorted(r["t1_s"] for r in rows(simulation, "recv") if r["rank"] > 0)


def test_doctests() -> None:
    assert doctest.testmod(handling).failed == 0


def test_without_a_hosts_part_the_world_is_the_simple_one() -> None:
    assert world_of(Network(), Compute(slow={"0": 2.0})) is SimulatedWorld
    for compute in (Compute(step_s=1e-3), Compute(cores_per_node=1), Compute(cold_reduce_s=1e-3)):
        assert world_of(Network(), compute) is HostedWorld
    assert world_of(Network(limit=Limit(rate_Gbit_per_s=1.0)), Compute()) is HostedWorld
    assert world_of(Network(handling=Handling(message_s=1e-6)), Compute()) is HostedWorld


@pytest.mark.parametrize("name", ["allreduce-sgd", "local-sgd", "d-psgd", "ad-psgd", "easgd", "diloco"])
def test_hosts_that_cost_nothing_change_no_time(name: str) -> None:
    compute = Compute(gradient_s=0.01, distribution="lognormal", sigma=0.3)
    free = Compute(gradient_s=0.01, distribution="lognormal", sigma=0.3, cores_per_node=64)
    plain, hosted = (simulate(make(name), Network(), c, workers=4) for c in (compute, free))
    for simulation in (plain, hosted):
        simulation.run(Budget(seconds=1.0))
    for kind in ("gradient", "allreduce", "recv"):
        before, after = rows(plain, kind), rows(hosted, kind)
        assert len(before) == len(after)
        key = lambda r: (r["rank"], r["t1_s"])  # noqa: E731
        for a, b in zip(sorted(before, key=key), sorted(after, key=key), strict=True):
            assert (a["rank"], a["nbytes"]) == (b["rank"], b["nbytes"])
            assert (a["t0_s"], a["t1_s"]) == (exactly(b["t0_s"]), exactly(b["t1_s"]))


@pytest.mark.parametrize(("cores", "expected"), [(1, 3), (2, 6), (3, 9), (4, 12), (8, 12)])
def test_steps_of_ranks_that_share_cores(cores: int, expected: int) -> None:
    compute = Compute(gradient_s=1.0, cores_per_node=cores)
    assert steps(simulate(make("local-sgd", period=100), ONE_NODE, compute, workers=4), 12.0) == [expected] * 4


def test_nodes_have_cores_of_their_own() -> None:
    network = Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"), ranks_per_node=2, inside="NVLink")
    compute = Compute(gradient_s=1.0, cores_per_node=1)
    simulation = simulate(make("local-sgd", period=100), network, compute, workers=3).run(Budget(steps=3))
    took = [(r["rank"], r["t1_s"] - r["t0_s"]) for r in rows(simulation, "gradient")]
    assert sorted(took) == [(rank, exactly(1.0 if rank == 2 else 2.0)) for rank in range(3) for _ in range(3)]


def test_nodes_of_one_machine_share_its_cores_and_a_slow_one_has_its_share_and_no_more() -> None:
    compute = Compute(gradient_s=1.0, cores_per_node=1, nodes_per_machine=3)

    def took(compute: Compute, workers: int) -> dict[tuple[int, float], int]:
        """(rank, duration of a gradient) -> how many."""
        simulation = simulate(make("local-sgd", period=100), FAST, compute, workers=workers).run(Budget(steps=3))
        return Counter((r["rank"], round(r["t1_s"] - r["t0_s"], 9)) for r in rows(simulation, "gradient"))

    # Three nodes on one core; a fourth is on another machine.
    assert took(compute, 4) == {(0, 3.0): 3, (1, 3.0): 3, (2, 3.0): 3, (3, 1.0): 3}
    # A quarter of the core for the first, which the two others, who share what is left, cannot use.
    slow = replace(compute, slow={"0": 4.0})
    assert took(slow, 3) == {(0, 4.0): 3, (1, round(8 / 3, 9)): 3, (2, round(8 / 3, 9)): 3}


def test_a_step_costs_its_time_before_the_gradient() -> None:
    simulation = simulate(make("local-sgd", period=100), FAST, Compute(gradient_s=1.0, step_s=0.5))
    assert steps(simulation, 15.0) == [10, 10]
    first = min(rows(simulation, "gradient"), key=lambda r: r["t0_s"])
    assert (first["t0_s"], first["t1_s"]) == (0.5, 1.5)


def test_a_message_costs_its_sender_time_before_the_next_gradient() -> None:
    simulation = simulate(make("d-psgd"), FAST, Compute(gradient_s=1.0, exchange_s=0.25)).run(Budget(steps=3))
    begins = sorted({r["t0_s"] for r in rows(simulation, "gradient")})
    assert begins == [exactly(t) for t in (0.0, 1.25, 2.5)]


def test_gradients_after_an_all_reduce_are_cold_and_warm_up() -> None:
    compute = Compute(gradient_s=1.0, cold_reduce_s=0.4, cold_lasts=0.5)
    simulation = simulate(make("local-sgd", period=3), FAST, compute)
    simulation.run(Budget(steps=9))
    took = [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient") if r["rank"] == 0]
    assert took == pytest.approx([1.0, 1.0, 1.0, 1.4, 1.2, 1.1, 1.4, 1.2, 1.1], rel=1e-9)


@pytest.mark.parametrize(("latency_s", "cold_s"), [(0.0, 0.1), (LONG_WAIT_S / 8, 0.2), (LONG_WAIT_S, 0.5)])
def test_the_longer_a_rank_has_slept_the_colder_it_is(latency_s: float, cold_s: float) -> None:
    compute = Compute(gradient_s=1.0, cold_s=0.1, cold_long_s=0.5, cold_lasts=0.5)
    network = Network(latency_s=latency_s, bandwidth_Gbit_per_s=float("inf"))
    simulation = simulate(Asks(after=1, then=3), network, compute).run(Budget(steps=1))
    took = [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient") if r["rank"] == 1]
    assert took == pytest.approx([1.0, 1.0 + cold_s, 1.0 + cold_s / 2, 1.0 + cold_s / 4], rel=1e-9)


def test_an_all_reduce_that_a_rank_sleeps_for_leaves_it_as_cold() -> None:
    limit = Limit(rate_Gbit_per_s=8e-6, burst_nbytes=0)  # some seconds for these models
    compute = Compute(gradient_s=1.0, cold_reduce_s=0.1, cold_long_s=0.5)
    for network, cold_s in ((replace(FAST, limit=limit), 0.5), (FAST, 0.1)):
        simulation = simulate(make("local-sgd", period=2), network, compute).run(Budget(steps=4))
        took = [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient") if r["rank"] == 0]
        assert took == pytest.approx([1.0, 1.0, 1.0 + cold_s, 1.0], rel=1e-9)


def test_a_thread_beside_wakes_up_on_an_idle_core() -> None:
    compute = Compute(gradient_s=1.0, aside_s=0.25, aside_idle_s=0.5, cores_per_node=2)
    simulation = simulate(Asks(length=1, computes=1), ONE_NODE, compute).run(Budget(steps=1))
    assert [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient")] == [exactly(1.5)]
    one_core = replace(compute, cores_per_node=1)
    simulation = simulate(Asks(length=1, computes=1), ONE_NODE, one_core).run(Budget(steps=1))
    assert [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient")] == [exactly(1.25)]


def test_a_gradient_that_others_may_interrupt_is_computed_aside() -> None:
    simulation = simulate(make("ad-psgd"), FAST, Compute(gradient_s=1.0, aside_s=0.25))
    simulation.run(Budget(seconds=10.0))
    took = {rank: [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient") if r["rank"] == rank] for rank in (0, 1)}
    passive, active = sorted(took, key=lambda rank: -took[rank][0])
    assert took[passive] == pytest.approx([1.25] * len(took[passive]), rel=1e-9)
    assert took[active] == pytest.approx([1.0] * len(took[active]), rel=1e-9)


def test_a_server_is_its_own_queue() -> None:
    network = Network(latency_s=0.5, bandwidth_Gbit_per_s=float("inf"), handling=Handling(message_s=1.0, byte_s=1e-3))
    # All requests are there at 0.5; each costs 1 s and 1000 bytes; an answer takes 0.5 s and costs its asker 2 s.
    assert answers_s(simulate(Asks(), network, SECOND, workers=4)) == [exactly(t) for t in (5.0, 7.0, 9.0)]


def test_answering_beside_a_gradient_takes_longer() -> None:
    network = Network(latency_s=0.5, bandwidth_Gbit_per_s=float("inf"))
    compute = Compute(gradient_s=1.0, busy_s=0.25)
    assert answers_s(simulate(Asks(computes=1), network, compute)) == [exactly(1.25)]
    assert answers_s(simulate(Asks(), network, compute)) == [exactly(1.0)]


def test_a_message_taken_beside_a_gradient_delays_the_next_one() -> None:
    network = Network(latency_s=0.5, bandwidth_Gbit_per_s=float("inf"))
    simulation = simulate(Asks(computes=3), network, Compute(gradient_s=1.0, taken_s=0.25), workers=3)
    simulation.run(Budget(steps=1))
    begins = [r["t0_s"] for r in rows(simulation, "gradient") if r["rank"] == 0]
    assert begins == [exactly(t) for t in (0.0, 1.5, 2.5)]


def test_a_napping_rank_notices_late_and_wakes_up() -> None:
    naps = Handling(nap_s=0.2, wake_s=0.01)
    network = Network(latency_s=0.5, bandwidth_Gbit_per_s=float("inf"), handling=naps)
    (answer_s,) = answers_s(simulate(Asks(after=1), network, SECOND))
    noticed_s = naps.noticed_s(0.0, 1.5)
    assert 1.5 < noticed_s < 1.7
    answered_s = noticed_s + 0.01
    back_s = naps.noticed_s(1.0, answered_s + 0.5)  # the asking rank has been waiting since it asked
    assert answer_s == exactly(back_s + 0.01)


def test_messages_pass_a_token_bucket() -> None:
    network = Network(
        latency_s=0.0, bandwidth_Gbit_per_s=float("inf"), limit=Limit(rate_Gbit_per_s=8e-6, burst_nbytes=0)
    )
    nbytes = 1000 + HEADER_NBYTES  # at 1000 byte/s, there; then all answers through the one bucket of worker 0
    expected = [nbytes / 1000 * k for k in (2, 3, 4)]
    assert answers_s(simulate(Asks(), network, SECOND, workers=4)) == [exactly(t) for t in expected]


@pytest.mark.parametrize("workers", [2, 4])
def test_an_all_reduce_behind_token_buckets_is_a_ring_of_messages(workers: int) -> None:
    network = Network(
        latency_s=0.1, bandwidth_Gbit_per_s=float("inf"), limit=Limit(rate_Gbit_per_s=8e-6, burst_nbytes=0)
    )
    simulation = simulate(make("allreduce-sgd"), network, SECOND, workers=workers)
    simulation.run(Budget(steps=1))
    nbytes = quadratic(workers).parameters * 8
    # First all learn that all have joined.
    expected = 0.1 + 2 * (workers - 1) * (0.1 + (-(-nbytes // workers) + HEADER_NBYTES) / 1000)
    assert [r["t1_s"] - r["t0_s"] for r in rows(simulation, "allreduce")] == [exactly(expected)] * workers


def test_what_has_been_saved_in_a_pause_leaves_at_once() -> None:
    limit = Limit(rate_Gbit_per_s=8e-6, burst_nbytes=2 * (1000 + HEADER_NBYTES))
    network = Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"), limit=limit)
    asked_s = 3.0
    answers = answers_s(simulate(Asks(after=3), network, SECOND, workers=4))
    assert answers == [exactly(t) for t in (asked_s, asked_s, asked_s + (1000 + HEADER_NBYTES) / 1000)]


@pytest.mark.parametrize("name", ["allreduce-sgd", "d-psgd", "ad-psgd", "easgd", "diloco"])
@pytest.mark.parametrize("shuffle", [None, 1, 2])
def test_the_same_seed_gives_the_same_rows(name: str, shuffle: int | None) -> None:
    network = Network(
        ranks_per_node=64, inside="shared-memory",
        handling=Handling(message_s=1e-4, wake_s=1e-5, look_s=5e-5, nap_s=1e-3), limit=Limit(rate_Gbit_per_s=1.0),
    )  # fmt: skip
    compute = Compute(
        gradient_s=1e-3, distribution="lognormal", sigma=0.3, cores_per_node=2,
        step_s=1e-4, aside_s=1e-4, busy_s=1e-4, cold_s=1e-4, cold_lasts=0.5,
    )  # fmt: skip
    found = []
    for _ in range(2):
        simulation = simulate(make(name), network, compute, workers=4, shuffle=shuffle)
        simulation.run(Budget(seconds=0.2))
        found.append([rows(simulation, kind) for kind in ("gradient", "recv", "allreduce", "wait")])
        assert min(len([r for r in found[-1][0] if r["rank"] == rank]) for rank in range(4)) > 10
    assert repr(found[0]) == repr(found[1])


@pytest.mark.parametrize(
    ("cls", "table", "message"),
    [
        (Compute, {"step_s": -1.0}, "step_s must be a finite time >= 0: got -1.0"),
        (Compute, {"cold_lasts": 1.0}, "cold_lasts must lie in 0..1: got 1.0"),
        (Compute, {"cores_per_node": -1}, "cores_per_node must be >= 0"),
        (Compute, {"nodes_per_machine": 4}, "nodes_per_machine must be at least 1 and needs cores_per_node"),
        (
            Compute,
            {"cores_per_node": 1, "pause": [{"worker": 0, "at_s": 1, "for_s": 1}]},
            "pause and absent are not modelled on shared cores",
        ),
        (Network, {"handling": {"look_s": 1.0}}, "look_s and wake_s need nap_s > 0"),
        (Network, {"handling": {"message_s": -1.0}}, "message_s must be a finite time >= 0"),
        (Network, {"limit": {"rate_Gbit_per_s": 0}}, "rate_Gbit_per_s must be > 0 and finite"),
        (Network, {"limit": {"rate_Gbit_per_s": 1, "burst_nbytes": -1}}, "burst_nbytes must be >= 0"),
        (Network, {"collective_latency_s": -1.0}, "collective_latency_s must be a finite time >= 0"),
    ],
)
def test_what_does_not_fit_is_one_line(cls: type, table: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as error:
        build(cls, table, "study")
    assert message in str(error.value) and "\n" not in str(error.value)
