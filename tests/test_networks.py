"""Levels, collectives, changing bandwidth and presets of the simulated network, against closed forms."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import math
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.interface import Algorithm, Need, Worker
from bench.budget import Budget
from bench.cluster import HEADER_NBYTES, PRESETS, Change, Compute, Cut, Fabric, Link, Network, Schedule, Wire
from bench.cluster.collectives import Collective, steps
from bench.settings import StudyError, build
from bench.simulate import Simulation
from tests.algorithms.support import quadratic
from tests.test_cluster import (
    BYTES_PER_S,
    LATENCY_S,
    SLOW_NETWORK,
    Traffic,
    exactly,
    payload,
    rows,
    run,
    traffic,
    wire_s,
)

GBIT = BYTES_PER_S * 8 / 1e9
KEYS: dict[str, type[Any]] = {"network": Network, "compute": Compute}
KINDS: tuple[Collective, ...] = ("ring", "tree", "recursive-halving")


@pytest.mark.parametrize("module", ["schedule", "collectives", "network", "fabric", "presets", "compute", "trace"])
def test_doctests(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"bench.cluster.{module}")).failed == 0


def closed_form(kind: Collective, members: int, nbytes: int, latency_s: float, bytes_per_s: float) -> float:
    """The textbook's time of an all-reduce on equal links."""
    if members == 1:
        return 0.0
    if kind == "ring":
        return 2 * (members - 1) * (latency_s + nbytes / members / bytes_per_s)
    if kind == "tree":
        return 2 * math.ceil(math.log2(members)) * (latency_s + nbytes / bytes_per_s)
    k = math.floor(math.log2(members))
    halving_s = 2 * k * latency_s + 2 * (2**k - 1) / 2**k * nbytes / bytes_per_s
    return halving_s + (2 * (latency_s + nbytes / bytes_per_s) if members > 2**k else 0.0)


def allreduce_s(network: Network, nbytes: int, workers: int, start_s: float = 0.0) -> float:
    fabric = Fabric(network, workers=workers, ranks=workers)
    return fabric.allreduce_end_s(start_s, nbytes) - start_s


def nodes_of(ranks: int, **settings: Any) -> Network:
    """Inside a node 10 times the bandwidth and a tenth of the latency."""
    inside = Wire(latency_s=LATENCY_S / 10, bandwidth_Gbit_per_s=GBIT * 10)
    return Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, ranks_per_node=ranks, inside=inside, **settings)


# -- collectives ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 7, 8, 16, 17])
def test_an_allreduce_takes_its_closed_form(kind: Collective, workers: int) -> None:
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, collective=kind)
    expected = closed_form(kind, workers, 4000, LATENCY_S, BYTES_PER_S)
    assert allreduce_s(network, 4000, workers) == exactly(expected)
    reduced = rows(run(Traffic(messages=(), collective_nbytes=4000), workers, network), "allreduce")
    assert [r["t1_s"] for r in reduced] == [exactly(expected)] * workers


@given(st.sampled_from(KINDS), st.integers(1, 70))
def test_all_collectives_move_the_same_bytes_and_reach_everyone(kind: Collective, members: int) -> None:
    reduce, spread = steps(kind, members)
    vectors = sum(step.times * len(step.pairs) / step.parts for step in [*reduce, *spread])
    assert vectors == exactly(2 * (members - 1))
    if kind == "ring":
        return
    has = [{r} for r in range(members)]  # whose numbers are in what a rank holds in the end
    for step in [*reduce, *spread]:
        assert step.times == 1
        before = [set(h) for h in has]
        for src, dst in step.pairs:
            has[dst] |= before[src]
        assert len({dst for _, dst in step.pairs}) == len(step.pairs)  # one message in per rank and round
        assert len({src for src, _ in step.pairs}) == len(step.pairs)
    assert all(h == set(range(members)) for h in has)


def test_what_is_fastest_depends_on_latency_bytes_and_members() -> None:
    def fastest(latency_s: float, nbytes: int, workers: int) -> str:
        def time_s(kind: Collective) -> float:
            return allreduce_s(Network(latency_s=latency_s, bandwidth_Gbit_per_s=1.0, collective=kind), nbytes, workers)

        return min(KINDS, key=time_s)

    assert fastest(1e-6, 10**9, 6) == "ring"  # bandwidth is all
    assert fastest(1e-3, 10**9, 64) == "recursive-halving"  # as few bytes as the ring, as few rounds as the tree
    for workers in range(2, 40):  # with latency alone a tree takes the fewest rounds that there can be
        costs = [
            allreduce_s(Network(latency_s=1.0, bandwidth_Gbit_per_s=math.inf, collective=k), 8, workers) for k in KINDS
        ]
        assert costs[1] == costs[2] == 2 * math.ceil(math.log2(workers)) <= costs[0]


def test_only_the_links_that_a_collective_uses_slow_it_down() -> None:
    slow = Link(src=1, dst=3, latency_s=9.0)

    def slowed(kind: Collective) -> float:
        settings: dict[str, Any] = {"latency_s": LATENCY_S, "bandwidth_Gbit_per_s": GBIT, "collective": kind}
        with_link = allreduce_s(Network(**settings, link=(slow,)), 4000, 4)
        return with_link - allreduce_s(Network(**settings), 4000, 4)

    assert slowed("ring") == 0.0  # 1 -> 2 -> 3 -> 0
    assert slowed("tree") == 0.0  # 1 -> 0, 3 -> 2, 2 -> 0
    assert slowed("recursive-halving") == exactly(2 * (9.0 - LATENCY_S))  # distance 2, both ways of the vector


# -- an all-reduce and the queues -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Mixed(Algorithm):
    """All join `reductions` all-reduces and send a message round the ring at once."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "collectives"})
    nbytes: int
    reductions: int = 1

    async def worker(self, w: Worker) -> None:
        v = torch.zeros(self.nbytes // 8, dtype=torch.float64)
        under_way = [w.start(w.allreduce_mean(v, label=f"r{i}")) for i in range(self.reductions)]
        await w.gradient(w.replica())  # of no time: all have joined now
        w.send((w.rank + 1) % w.size, "t", payload(936))
        await w.recv("t")
        for each in under_way:
            await each


@pytest.mark.parametrize("kind", KINDS)
def test_an_allreduce_keeps_a_queue_for_its_bytes_and_not_for_its_latencies(kind: Collective) -> None:
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, collective=kind)
    simulation = Simulation(
        Mixed(nbytes=4000), quadratic(4), workers=4, seed=0, network=network, compute=Compute(gradient_s=0.0)
    ).run(Budget(seconds=1))
    reduced = rows(simulation, "allreduce")
    assert [r["t1_s"] for r in reduced] == [exactly(closed_form(kind, 4, 4000, LATENCY_S, BYTES_PER_S))] * 4
    sent = {r["rank"]: r["t1_s"] for r in rows(simulation, "send")}
    # Bytes out of each rank: a ring and halving 3/4 + 3/4 of the vector; in a tree rank 2 sends up and down.
    shares = {0: 2, 1: 1, 2: 2, 3: 1} if kind == "tree" else dict.fromkeys(range(4), 1.5)
    assert sent == {rank: exactly(share * 4000 / BYTES_PER_S + wire_s(936)) for rank, share in shares.items()}


def mixed(network: Network) -> dict[int, float]:
    """rank -> when its message has left that was sent as an all-reduce began; 4 workers, 4000 byte."""
    simulation = Simulation(
        Mixed(nbytes=4000), quadratic(4), workers=4, seed=0, network=network, compute=Compute(gradient_s=0.0)
    ).run(Budget(seconds=1))
    return {r["rank"]: r["t1_s"] for r in rows(simulation, "send")}


def test_the_queues_too_meet_a_change_between_nodes_and_none_inside() -> None:
    half = changing((0.0, 0.5))
    assert mixed(half) == dict.fromkeys(range(4), exactly((6000 + 936 + HEADER_NBYTES) / (BYTES_PER_S / 2)))
    inside = nodes_of(4, change=(Change(at_s=0.0, factor=0.5),))
    assert mixed(inside) == dict.fromkeys(range(4), exactly((6000 + 936 + HEADER_NBYTES) / (BYTES_PER_S * 10)))


@dataclass(frozen=True, kw_only=True)
class Late(Algorithm):
    """Worker 0 sends a message; a gradient later all join an all-reduce."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "collectives"})

    async def worker(self, w: Worker) -> None:
        if w.rank == 0:
            w.send(1, "t", payload(2936))
        await w.gradient(w.replica())
        await w.allreduce_mean(torch.zeros(100, dtype=torch.float64), label="all")


def test_an_allreduce_waits_for_queues_in_as_well_as_out() -> None:
    # The message leaves within 3 s, and keeps the queue into worker 1 from 0.5 s to 3.5 s.
    simulation = Simulation(
        Late(), quadratic(2), workers=2, seed=0, network=SLOW_NETWORK, compute=Compute(gradient_s=1.0)
    ).run(Budget(seconds=1))
    expected = exactly(LATENCY_S + wire_s(2936) + closed_form("ring", 2, 800, LATENCY_S, BYTES_PER_S))
    assert [(r["t0_s"], r["t1_s"]) for r in rows(simulation, "allreduce")] == [(1.0, expected)] * 2


def test_allreduces_go_one_after_the_other() -> None:
    reduced = rows(run(Mixed(nbytes=4000, reductions=3), 4), "allreduce")
    once = closed_form("ring", 4, 4000, LATENCY_S, BYTES_PER_S)
    assert sorted(r["t1_s"] for r in reduced) == [exactly(k * once) for k in (1, 2, 3) for _ in range(4)]


# -- levels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("workers", "ranks"), [(8, 4), (8, 2), (12, 3), (4, 8), (9, 4), (16, 1 + 1)])
def test_two_levels_are_an_allreduce_inside_and_one_between(kind: Collective, workers: int, ranks: int) -> None:
    inside = closed_form(kind, min(workers, ranks), 4000, LATENCY_S / 10, BYTES_PER_S * 10)
    between = closed_form(kind, math.ceil(workers / ranks), 4000, LATENCY_S, BYTES_PER_S)
    assert allreduce_s(nodes_of(ranks, collective=kind), 4000, workers) == exactly(inside + between)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("workers", "ranks"), [(8, 4), (9, 4), (8, 2), (5, 8)])
def test_what_passes_the_queues_is_what_all_send(kind: Collective, workers: int, ranks: int) -> None:
    fabric = Fabric(nodes_of(ranks, collective=kind), workers=workers, ranks=workers)
    for shares in (fabric.out, fabric.into):
        nics = sum(share for queue, share in shares.items() if queue < workers) * BYTES_PER_S
        ports = sum(share for queue, share in shares.items() if queue >= workers) * BYTES_PER_S * 10
        assert nics == exactly(2 * (math.ceil(workers / ranks) - 1))
        assert nics + ports == exactly(2 * (workers - 1))  # as many bytes as without nodes


def test_ranks_of_a_node_share_its_nic_and_talk_past_it_inside() -> None:
    network = nodes_of(2)  # nodes 0 1 | 2 3 | 4 5
    quick = LATENCY_S / 10 + wire_s(936, BYTES_PER_S * 10)
    assert traffic([(0, 1, 936)], 6, network) == [(0, 1, exactly(quick))]
    out = traffic([(0, 2, 936), (1, 4, 936)], 6, network)  # two ranks, one way out
    assert sorted(t for _, _, t in out) == [exactly(LATENCY_S + k * wire_s(936)) for k in (1, 2)]
    into = traffic([(0, 4, 936), (2, 5, 936)], 6, network)  # two nodes, one way in
    assert sorted(t for _, _, t in into) == [exactly(LATENCY_S + k * wire_s(936)) for k in (1, 2)]
    beside = dict((dst, t) for _, dst, t in traffic([(0, 2, 93_600), (0, 1, 936)], 6, network))
    assert beside[1] == exactly(quick)  # does not wait for the NIC


def test_a_link_may_differ_inside_a_node_too() -> None:
    network = nodes_of(2, link=(Link(src=0, dst=1, latency_s=7.0),))
    assert traffic([(0, 1, 936)], 4, network) == [(0, 1, exactly(7.0 + wire_s(936, BYTES_PER_S * 10)))]


@pytest.mark.parametrize(
    ("src", "dst", "kind", "slow_rounds"),
    [
        (0, 1, "ring", 2),  # a round there and one back
        (2, 3, "ring", 2),  # in the other node
        (1, 3, "ring", 2),  # between nodes, where each rank carries its part
        (1, 3, "tree", 0),  # and where the first does
        (0, 2, "tree", 1),  # down; up it is 2 -> 0
        (0, 3, "ring", 0),  # a way that nobody takes
    ],
)
def test_a_link_that_differs_slows_what_passes_it(src: int, dst: int, kind: Collective, slow_rounds: int) -> None:
    network = nodes_of(2, link=(Link(src=src, dst=dst, latency_s=7.0),), collective=kind)
    usual_s = LATENCY_S / 10 if src // 2 == dst // 2 else LATENCY_S
    slowed = allreduce_s(network, 4000, 4) - allreduce_s(nodes_of(2, collective=kind), 4000, 4)
    assert slowed == pytest.approx(slow_rounds * (7.0 - usual_s), rel=1e-12, abs=1e-12)


def test_parts_that_pass_a_nic_over_different_links_keep_it_for_each() -> None:
    thin = Link(src=0, dst=2, bandwidth_Gbit_per_s=GBIT / 4)
    fabric = Fabric(nodes_of(2, link=(thin,)), workers=4, ranks=4)
    # Node 0 sends the vector once, half of it at a quarter of the bandwidth; node 1 sends it once.
    assert fabric.out[0] * BYTES_PER_S == exactly(0.5 * 4 + 0.5)
    assert fabric.out[1] * BYTES_PER_S == exactly(1.0)
    assert (fabric.into[1], fabric.into[0]) == (fabric.out[0], fabric.out[1])


# -- bandwidth that changes -------------------------------------------------------------------------------------------


def changing(*changes: tuple[float, float], **settings: Any) -> Network:
    change = tuple(Change(at_s=at_s, factor=factor) for at_s, factor in changes)
    return Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, change=change, **settings)


def test_a_transfer_that_spans_changes_takes_the_exact_time() -> None:
    # 4000 byte with header: 1000 in the first second, 2 s at 500 byte/s, 1 s cut, the last 2000 at 2000 byte/s.
    network = changing((1.0, 0.5), (3.0, 0.0), (4.0, 2.0))
    simulation = run(Traffic(messages=((0, 1, 4000 - HEADER_NBYTES),)), 2, network)
    assert [r["t1_s"] for r in rows(simulation, "send")] == [exactly(5.0)]
    assert [r["t1_s"] for r in rows(simulation, "recv")] == [exactly(5.0 + LATENCY_S)]


def test_a_receiver_is_never_ahead_of_its_sender() -> None:
    # While the bytes are on their way the network becomes slower; the receiver has to take the rest slowly.
    network = changing((1.0, 0.1))
    (_, _, end_s) = traffic([(0, 1, 1000 - HEADER_NBYTES)], 2, network)[0]
    assert end_s == exactly(1.0 + 500 / 100)  # sent within 1 s; received 500 byte until then, 500 at 100 byte/s


speeds = st.lists(st.tuples(st.floats(0.1, 5.0), st.floats(0.0, 4.0)), max_size=5)


@given(speeds, st.floats(0.0, 20.0), st.floats(0.0, 20.0), st.floats(0.0, 20.0))
def test_work_done_in_two_parts_ends_when_it_ends_in_one(
    steps_: list[tuple[float, float]], start_s: float, first_s: float, then_s: float
) -> None:
    at_s, changes = 0.0, []
    for gap_s, factor in steps_:
        at_s += gap_s
        changes.append(Change(at_s=at_s, factor=factor))
    schedule = Schedule([*changes, Change(at_s=at_s + 1.0, factor=0.7)])
    end_s = schedule.finish(start_s, first_s + then_s)
    assert end_s >= start_s

    def speed_up_to(t: float) -> float:
        """The integral of the speed, by adding up its pieces."""
        edges = [0.0, *schedule._at_s, math.inf]
        return sum(
            max(min(t, hi) - lo, 0.0) * f for lo, hi, f in zip(edges[:-1], edges[1:], schedule._factors, strict=True)
        )

    assert speed_up_to(end_s) - speed_up_to(start_s) == pytest.approx(first_s + then_s, abs=1e-9)
    # Where the network is cut, work ends before the cut and goes on behind it: the sum is what counts.
    middle_s = schedule.finish(start_s, first_s)
    assert speed_up_to(schedule.finish(middle_s, then_s)) == pytest.approx(speed_up_to(end_s), abs=1e-9)


def test_a_node_that_is_cut_off_keeps_its_own_messages_waiting() -> None:
    # 1000 byte with header take 1 s; node 1 is cut off for the second half of it, and for 3 s more.
    network = Network(
        latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, cut=(Cut(node=1, from_s=0.5 + LATENCY_S, to_s=4.0),)
    )
    messages = tuple((src, dst, 1000 - HEADER_NBYTES) for src, dst in ((0, 1), (2, 3)))
    ends_s = {row["peer"]: row["t1_s"] for row in rows(run(Traffic(messages=messages), 4, network), "recv")}
    assert ends_s[2] == exactly(1.0 + LATENCY_S)
    assert ends_s[0] == exactly(4.0 + (0.5 - LATENCY_S) + LATENCY_S)


def test_an_allreduce_stands_still_while_any_of_its_nodes_is_cut_off() -> None:
    plain = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT)
    cut = dataclasses.replace(plain, cut=(Cut(node=3, from_s=0.75, to_s=2.75),))
    assert allreduce_s(cut, 4000, 4) == exactly(allreduce_s(plain, 4000, 4) + 2.0)
    with pytest.raises(ValueError, match=r"cut\[0\] names node 4: 4 ranks have no such node"):
        dataclasses.replace(plain, cut=(Cut(node=4, from_s=0.0, to_s=1.0),)).check(4)


def test_nothing_is_done_at_once_even_while_the_network_is_cut() -> None:
    cut = Schedule([Change(at_s=1.0, factor=0.0), Change(at_s=2.0, factor=1.0)])
    assert (cut.finish(1.5, 0.0), cut.finish(1.5, 0.25), cut.finish(0.5, 0.5)) == (1.5, 2.25, 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_allreduce_meets_the_change(kind: Collective) -> None:
    whole_s = allreduce_s(Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, collective=kind), 4000, 4)
    assert allreduce_s(changing((whole_s, 0.5), collective=kind), 4000, 4) == exactly(whole_s)  # ends just before
    slow_s = closed_form(kind, 4, 4000, LATENCY_S, BYTES_PER_S / 2)
    assert allreduce_s(changing((0.0, 0.5), collective=kind), 4000, 4) == exactly(slow_s)
    # The last bytes but those of 0.25 s meet a quarter of the bandwidth.
    late = changing((whole_s - 0.25, 0.25), collective=kind)
    assert allreduce_s(late, 4000, 4) == exactly(whole_s - 0.25 + 1.0)


def test_a_ring_round_by_round_through_a_change() -> None:
    # Two workers, two rounds of 0.5 s + 2000 byte: the second meets half the bandwidth after 1 s of its transfer.
    assert allreduce_s(changing((4.0, 0.5)), 4000, 2) == exactly(2.5 + 0.5 + 1.0 + 2.0)


def test_inside_a_node_nothing_changes() -> None:
    network = nodes_of(2, change=(Change(at_s=0.0, factor=0.1),))
    assert traffic([(0, 1, 936)], 4, network) == traffic([(0, 1, 936)], 4, nodes_of(2))
    assert traffic([(0, 2, 936)], 4, network) == [(0, 2, exactly(LATENCY_S + 10 * wire_s(936)))]
    inside, between = closed_form("ring", 2, 800, 0.05, 10_000.0), closed_form("ring", 2, 800, 0.5, 100.0)
    assert allreduce_s(network, 800, 4) == exactly(inside + between)
    whole_s = allreduce_s(nodes_of(2), 4000, 4)  # the last 0.25 s of it inside
    assert allreduce_s(nodes_of(2, change=(Change(at_s=whole_s - 0.1, factor=0.1),)), 4000, 4) == exactly(whole_s)


# -- presets and settings ---------------------------------------------------------------------------------------------


def network(**table: Any) -> Network:
    """As a study file has it."""
    return build(Network, table, "network")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_network(name: str) -> None:
    latency_s, gbit, source = PRESETS[name]
    assert network(preset=name) == network(latency_s=latency_s, bandwidth_Gbit_per_s=gbit) == network(between=name)
    assert len(source) > 20 and 0 < latency_s < 1 and gbit > 0
    assert traffic([(0, 1, 936)], 2, network(preset=name))[0][2] == exactly(latency_s + 1000 * 8 / (gbit * 1e9))


def test_presets_can_be_overridden_and_mixed() -> None:
    assert network(preset="10G", latency_s=1e-3) == network(latency_s=1e-3, bandwidth_Gbit_per_s=10.0)
    mixed = network(between="100G", inside={"preset": "NVLink", "latency_s": 5e-6}, ranks_per_node=8)
    assert mixed == network(preset="100G", inside={"latency_s": 5e-6, "bandwidth_Gbit_per_s": 3600}, ranks_per_node=8)
    fabric = Fabric(mixed, workers=16, ranks=16)
    assert fabric.wire(0, 7) == (5e-6, 450e9)
    assert fabric.wire(7, 8) == (2e-6, 12.5e9)


def test_the_default_is_what_it_was() -> None:
    assert network() == network(latency_s=50e-6, bandwidth_Gbit_per_s=10.0) == SLOW_NETWORK.__class__()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"preset": "10 G"}, "network: no such preset: got '10 G', allowed: 100M, 1G"),
        ({"preset": "nvlink"}, "did you mean 'NVLink'?"),
        ({"between": "1g"}, "did you mean '1G'?"),
        ({"between": {"speed": 1}}, "network.between: unknown key 'speed'"),
        ({"between": {"latency_s": 1.0}}, "a wire needs latency_s and bandwidth_Gbit_per_s, or a preset"),
        ({"between": "1G", "latency_s": 1.0}, "give one of them"),
        ({"ranks_per_node": 4}, "ranks_per_node above 1 and inside"),
        ({"inside": "NVLink"}, "ranks_per_node above 1 and inside"),
        ({"ranks_per_node": 0}, "ranks_per_node must be at least 1: got 0"),
        ({"collective": "star"}, "network.collective: got 'star', allowed: 'ring', 'tree', 'recursive-halving'"),
        ({"change": [{"at_s": 1.0, "factor": 0.0}]}, "change must not end with factor 0"),
        ({"change": [{"at_s": 2.0, "factor": 1.0}, {"at_s": 1.0, "factor": 2.0}]}, "change must be in order of at_s"),
        ({"change": [{"at_s": 2.0, "factor": -1.0}]}, "network.change[0]: factor must be finite and >= 0"),
        ({"change": [{"at_s": -1.0, "factor": 1.0}]}, "network.change[0]: at_s must be a finite time >= 0"),
        ({"latency_s": -1.0}, "latency_s must be a finite time >= 0: got -1.0"),
        (
            {"inside": {"preset": "1G", "bandwidth_Gbit_per_s": 0.0}, "ranks_per_node": 2},
            "must be > 0 (inf is allowed)",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as error:
        network(**table)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_link_of_no_rank_is_refused_when_the_ranks_are_known() -> None:
    with pytest.raises(ValueError, match=r"link\[0\] names rank 2: allowed are 0\.\.1"):
        traffic([(0, 1, 1)], 2, Network(link=(Link(src=0, dst=2),)))


# -- the page on it ---------------------------------------------------------------------------------------------------

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "networks.md").read_text(encoding="utf-8")


def test_what_the_page_shows_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("times.txt").write_text("0.1\n0.2\n")
    tables = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)]
    built = [build(cls, table[key], key) for table in tables for key, cls in KEYS.items() if key in table]
    assert len(built) == len(tables) == 8
    shown = {key for table in tables for part in table.values() for key in part}
    settable = {f.name for cls in KEYS.values() for f in dataclasses.fields(cls)}
    assert shown == settable - {"trace_sha256"}


def test_the_pages_presets_are_the_codes() -> None:
    row = re.compile(r"^\| `([^`]+)` \| ([\d.]+) (us|ms) \| ([\d.]+) \|", flags=re.MULTILINE)
    unit = {"us": 1e-6, "ms": 1e-3}
    shown = {name: (exactly(float(value) * unit[of]), float(gbit)) for name, value, of, gbit in row.findall(PAGE)}
    assert shown == {name: figures[:2] for name, figures in PRESETS.items()}
