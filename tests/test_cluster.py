"""The simulated network against closed forms, and the compute-time models against their distributions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from algorithms.interface import SERVER, Algorithm, Message, Need, Server, Worker
from bench.budget import Budget
from bench.cluster import HEADER_NBYTES, Compute, Fabric, Link, Network, ring_wire_nbytes
from bench.simulate import Simulation
from tests.algorithms.support import make, quadratic

LATENCY_S, BYTES_PER_S = 0.5, 1000.0
SLOW_NETWORK = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=BYTES_PER_S * 8 / 1e9)


def exactly(value: Any) -> Any:
    """Equal but for the rounding of float64."""
    return pytest.approx(value, rel=1e-12)


def payload(nbytes: int) -> torch.Tensor:
    return torch.zeros(nbytes, dtype=torch.uint8)


def wire_s(nbytes: int, bytes_per_s: float = BYTES_PER_S) -> float:
    """How long a message occupies a NIC."""
    return (nbytes + HEADER_NBYTES) / bytes_per_s


@dataclass(frozen=True, kw_only=True)
class Traffic(Algorithm):
    """At time 0 every worker sends its messages (src, dst, bytes) in the order given, then takes what is for it."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "collectives"})
    messages: tuple[tuple[int, int, int], ...]
    collective_nbytes: int = 0  # then all join an all-reduce

    async def worker(self, w: Worker) -> None:
        for src, dst, nbytes in self.messages:
            if src == w.rank:
                w.send(dst, "t", payload(nbytes))
        if self.collective_nbytes:
            await w.allreduce_mean(torch.zeros(self.collective_nbytes // 8, dtype=torch.float64), label="all")
        for _, dst, _ in self.messages:
            if dst == w.rank:
                await w.recv("t")


@dataclass(frozen=True, kw_only=True)
class Ask(Algorithm):
    """Every worker asks the server once, at time 0; the answer is as long as the question."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "server"})
    nbytes: int

    async def worker(self, w: Worker) -> None:
        await w.request(SERVER, "q", payload(self.nbytes))

    async def server(self, s: Server) -> None:
        def reply(message: Message) -> torch.Tensor:
            return message.data

        s.serve("q", reply)
        await s.finished()


def run(algorithm: Algorithm, workers: int, network: Network = SLOW_NETWORK) -> Simulation:
    return Simulation(algorithm, quadratic(workers), workers=workers, seed=0, network=network).run(Budget(seconds=1))


def allreduce_s(nbytes: int, workers: int, network: Network = SLOW_NETWORK) -> float:
    """How long an all-reduce takes."""
    return Fabric(network, workers=workers, ranks=workers).allreduce_end_s(0.0, nbytes)


def rows(simulation: Simulation, kind: str) -> list[dict[str, Any]]:
    """Event rows of a kind on all ranks: rank, start, end, bytes, peer, label."""
    return [
        {"rank": handle.rank, "t0_s": r[2], "t1_s": r[3], "nbytes": r[4], "wire": r[5], "peer": r[6], "label": r[7]}
        for handle in simulation.handles
        for r in handle.recorder.rows()
        if r[0] == kind
    ]


def traffic(
    messages: Sequence[tuple[int, int, int]], workers: int, network: Network = SLOW_NETWORK
) -> list[tuple[int, int, float]]:
    """(src, dst, time) of each arrival, per receiver in order of arrival."""
    simulation = run(Traffic(messages=tuple(messages)), workers, network)
    return [(r["peer"], r["rank"], r["t1_s"]) for r in rows(simulation, "recv")]


# -- messages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 936, 100_000])
def test_a_message_takes_latency_plus_bytes_over_bandwidth(nbytes: int) -> None:
    assert traffic([(0, 1, nbytes)], 2) == [(0, 1, exactly(LATENCY_S + wire_s(nbytes)))]


def test_a_send_ends_when_its_last_byte_has_left_and_its_sender_counts_the_header() -> None:
    (sent,) = rows(run(Traffic(messages=((0, 1, 936),)), 2), "send")
    assert (sent["t0_s"], sent["t1_s"]) == (0.0, exactly(wire_s(936)))
    assert (sent["nbytes"], sent["wire"]) == (936, 1000)
    (received,) = rows(run(Traffic(messages=((0, 1, 936),)), 2), "recv")
    assert received["wire"] == 0


def test_an_endless_bandwidth_leaves_the_latency() -> None:
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=math.inf)
    messages = [(0, 1, 10**6), (0, 1, 0), (2, 1, 10**6)]
    assert sorted(traffic(messages, 3, network)) == [(0, 1, LATENCY_S), (0, 1, LATENCY_S), (2, 1, LATENCY_S)]


def test_a_senders_messages_leave_one_after_the_other() -> None:
    sizes = [936, 1936, 936]
    arrivals = traffic([(0, dst, nbytes) for dst, nbytes in zip((1, 2, 3), sizes, strict=True)], 4)
    left = list(itertools.accumulate(map(wire_s, sizes)))
    assert arrivals == [(0, dst, exactly(LATENCY_S + t)) for dst, t in zip((1, 2, 3), left, strict=True)]


@pytest.mark.parametrize("workers", [3, 5, 17])
def test_incast_takes_n_times_bytes_over_bandwidth(workers: int) -> None:
    # All first bytes are there after the latency; then the receiver's NIC takes one message after the other.
    arrivals = traffic([(src, 0, 936) for src in range(1, workers)], workers)
    assert [t for _, _, t in arrivals] == [exactly(LATENCY_S + k * wire_s(936)) for k in range(1, workers)]
    assert {src for src, _, _ in arrivals} == set(range(1, workers))  # who is first among equals is not the model's


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_server_congests_in_and_out(workers: int) -> None:
    simulation = run(Ask(nbytes=936), workers)
    asked = [r["t1_s"] for r in rows(simulation, "recv") if r["rank"] == workers]
    answered = sorted(r["t1_s"] for r in rows(simulation, "recv") if r["rank"] < workers)
    assert asked == [exactly(LATENCY_S + k * wire_s(936)) for k in range(1, workers + 1)]
    # The k-th question is in after k turns of the NIC; its answer goes out at once, on the other half of the NIC.
    assert answered == [exactly(2 * LATENCY_S + (k + 1) * wire_s(936)) for k in range(1, workers + 1)]


def test_both_directions_are_free_at_once() -> None:
    there_and_back = [(0, 1, 5000), (1, 0, 5000)]
    assert traffic(there_and_back, 2) == [
        (1, 0, exactly(LATENCY_S + wire_s(5000))),
        (0, 1, exactly(LATENCY_S + wire_s(5000))),
    ]


def test_a_link_may_differ_in_one_direction_and_in_one_respect() -> None:
    far = Link(src=0, dst=1, latency_s=7.0)
    thin = Link(src=0, dst=2, bandwidth_Gbit_per_s=BYTES_PER_S * 8 / 1e9 / 10)
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=SLOW_NETWORK.bandwidth_Gbit_per_s, link=(far, thin))
    for message, expected in (
        ((0, 1, 936), 7.0 + wire_s(936)),
        ((1, 0, 936), LATENCY_S + wire_s(936)),
        ((0, 2, 936), LATENCY_S + wire_s(936, BYTES_PER_S / 10)),
        ((2, 0, 936), LATENCY_S + wire_s(936)),
    ):
        assert traffic([message], 3, network) == [(*message[:2], exactly(expected))]


def test_a_later_message_on_a_short_way_overtakes_but_never_on_the_same_link() -> None:
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=math.inf, link=(Link(src=0, dst=2, latency_s=9.0),))
    arrivals = traffic([(0, 2, 10), (0, 2, 20), (1, 2, 30)], 3, network)
    assert [(src, t) for src, _, t in arrivals] == [(1, LATENCY_S), (0, 9.0), (0, 9.0)]


def test_a_message_to_oneself_costs_nothing() -> None:
    assert traffic([(0, 0, 10**6)], 2) == [(0, 0, 0.0)]


patterns = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 5000)).filter(lambda m: m[0] != m[1]),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40)
@given(patterns)
def test_no_nic_ever_carries_more_than_its_bandwidth(messages: list[tuple[int, int, int]]) -> None:
    simulation = run(Traffic(messages=tuple(messages)), 4)
    arrivals, departures = rows(simulation, "recv"), rows(simulation, "send")
    assert len(arrivals) == len(departures) == len(messages)
    for ends, earliest in ((departures, 0.0), (arrivals, LATENCY_S)):
        for rank in range(4):
            free_s = earliest
            for row in sorted((r for r in ends if r["rank"] == rank), key=lambda r: r["t1_s"]):
                assert row["t1_s"] >= free_s + wire_s(row["nbytes"]) - 1e-9
                free_s = row["t1_s"]
    # and none idles while it has something to do: two queues in a row can at most add up
    total_s = sum(wire_s(nbytes) for _, _, nbytes in messages)
    assert max(r["t1_s"] for r in arrivals) <= LATENCY_S + total_s + max(wire_s(m[2]) for m in messages) + 1e-9


# -- all-reduce -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_an_allreduce_takes_the_rings_time(workers: int) -> None:
    expected = 2 * (workers - 1) * (LATENCY_S + 4000 / workers / BYTES_PER_S)
    assert allreduce_s(4000, workers) == exactly(expected)
    reduced = rows(run(Traffic(messages=(), collective_nbytes=4000), workers), "allreduce")
    assert [(r["t0_s"], r["t1_s"]) for r in reduced] == [(0.0, exactly(expected))] * workers
    assert [r["nbytes"] for r in reduced] == [4000] * workers
    assert sum(r["wire"] for r in reduced) == 2 * (workers - 1) * 4000


def test_one_worker_reduces_for_nothing() -> None:
    assert allreduce_s(4000, 1) == 0.0
    (reduced,) = rows(run(Traffic(messages=(), collective_nbytes=4000), 1), "allreduce")
    assert (reduced["t0_s"], reduced["t1_s"], reduced["wire"]) == (0.0, 0.0, 0)


def test_a_ring_is_as_slow_as_its_slowest_link() -> None:
    on_the_ring = Link(src=3, dst=0, latency_s=2.0, bandwidth_Gbit_per_s=BYTES_PER_S * 8 / 1e9 / 4)
    across = Link(src=0, dst=2, latency_s=100.0)
    network = Network(
        latency_s=LATENCY_S, bandwidth_Gbit_per_s=SLOW_NETWORK.bandwidth_Gbit_per_s, link=(on_the_ring, across)
    )
    assert allreduce_s(4000, 4, network) == exactly(6 * (2.0 + 1000 / (BYTES_PER_S / 4)))
    assert allreduce_s(4000, 3, network) == exactly(4 * (LATENCY_S + 4000 / 3 / BYTES_PER_S))  # 3 is not in it


def test_an_allreduce_waits_for_the_nics_that_it_needs() -> None:
    # Worker 0's queue is full for 3 s when all join at time 0.
    reduced = rows(run(Traffic(messages=((0, 1, 2936),), collective_nbytes=800), 2), "allreduce")
    expected = wire_s(2936) + allreduce_s(800, 2)
    assert [(r["t0_s"], r["t1_s"]) for r in reduced] == [(0.0, exactly(expected))] * 2


@given(st.integers(0, 10_000), st.sampled_from([2, 4, 8]), st.integers(1, 40))
def test_what_the_workers_send_in_a_ring_adds_up(length: int, itemsize: int, workers: int) -> None:
    sent = [ring_wire_nbytes(length, itemsize, rank, workers) for rank in range(workers)]
    assert sum(sent) == 2 * (workers - 1) * length * itemsize
    assert max(sent) - min(sent) <= 2 * itemsize  # nearly equal chunks


# -- compute times ----------------------------------------------------------------------------------------------------

DRAWS = 20_000


def draws(model: Compute, *, seed: int = 0, rank: int = 0, count: int = DRAWS) -> np.ndarray:
    times = model.times(seed, rank)
    return np.array([times.next() for _ in range(count)])


def test_constant_times_are_constant() -> None:
    assert set(draws(Compute(gradient_s=0.25), count=50)) == {0.25}
    assert set(draws(Compute(gradient_s=0.25, slow={"2": 6.0}), rank=2, count=50)) == {1.5}


def test_exponential_times_have_their_mean_and_standard_deviation() -> None:
    found = draws(Compute(gradient_s=0.3, distribution="exponential"))
    error = 0.3 / math.sqrt(DRAWS)  # of the mean; five of them are passed once in two million seeds
    assert abs(found.mean() - 0.3) < 5 * error
    assert abs(found.std() - 0.3) < 5 * error * math.sqrt(2)  # var(s) is (kurtosis 9 - 1) / 4 = 2 times var(mean)
    assert (found > 0).all()


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_lognormal_times_have_their_median_and_mean(sigma: float) -> None:
    found = np.log(draws(Compute(gradient_s=0.3, distribution="lognormal", sigma=sigma)) / 0.3)
    assert abs(found.mean()) < 5 * sigma / math.sqrt(DRAWS)  # the median of the times is gradient_s
    assert abs(found.std() - sigma) < 5 * sigma / math.sqrt(2 * DRAWS)
    mean_s, spread = 0.3 * math.exp(sigma**2 / 2), math.sqrt(math.exp(sigma**2) - 1)
    assert abs(0.3 * np.exp(found).mean() - mean_s) < 5 * mean_s * spread / math.sqrt(DRAWS)


@pytest.mark.parametrize("distribution", ["exponential", "lognormal"])
def test_draws_depend_on_seed_and_worker_alone(distribution: Any) -> None:
    model = Compute(gradient_s=0.3, distribution=distribution, sigma=0.4 if distribution == "lognormal" else 0.0)
    assert (draws(model, count=20) == draws(model, count=20)).all()
    streams = [tuple(draws(model, seed=s, rank=r, count=20)) for s in range(3) for r in range(3)]
    assert len(set(streams)) == 9  # seed 1, worker 0 is not seed 0, worker 1
    slow = Compute(**{**vars(model), "slow": {"1": 3.0}})
    assert draws(slow, rank=1, count=20) == pytest.approx(3.0 * draws(model, rank=1, count=20), rel=1e-12)
    assert (draws(slow, rank=0, count=20) == draws(model, rank=0, count=20)).all()


def test_all_algorithms_meet_the_same_compute_times() -> None:
    compute = Compute(gradient_s=0.1, distribution="exponential", slow={"1": 2.0})
    expected = {rank: draws(compute, seed=5, rank=rank, count=200) for rank in range(4)}
    for name in ("allreduce-sgd", "local-sgd", "d-psgd", "ad-psgd", "easgd"):
        simulation = Simulation(make(name), quadratic(4), workers=4, seed=5, compute=compute).run(Budget(seconds=3))
        for handle in simulation.workers:
            took = [r[3] - r[2] for r in handle.recorder.rows() if r[0] == "gradient"]
            assert len(took) >= 5
            assert took == pytest.approx(expected[handle.rank][: len(took)], rel=1e-9, abs=1e-12), name
