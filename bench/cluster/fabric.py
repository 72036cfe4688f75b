"""The network of one run: routes between its ranks, the queues on them, and the all-reduce among its workers.

Queues are numbered: 0..ranks-1 are the nodes' NICs (fewer where nodes have several ranks), ranks..2 ranks - 1 the
ranks' own ports inside their node. Each is two queues, one out and one in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import cached_property

from bench.cluster.collectives import Step, steps
from bench.cluster.network import Network
from bench.cluster.schedule import Schedule, with_cuts


@dataclass(slots=True)
class Route:
    """What a message from one rank to another meets."""

    latency_s: float
    bandwidth_Bps: float
    out: int  # queue that it leaves by
    into: int  # queue that it arrives by
    schedule: Schedule | None  # None: the bandwidth stays


@dataclass(frozen=True, slots=True)
class Rounds:
    """`times` rounds in a row in which an equal part of the vector passes some wires (latency [s], bandwidth
    [byte/s])."""

    times: int
    parts: int
    wires: tuple[tuple[float, float], ...]
    between: bool  # nodes, so that the schedule holds


class Fabric:
    """A network with its ranks.

    An all-reduce over nodes of several ranks goes in levels: the ranks of each node reduce among themselves, the nodes
    all-reduce, and each node spreads the result inside; in each phase by the algorithm that the network names. In a
    ring and in recursive halving each rank of a node then carries its own part of the vector to the other nodes; all of
    these parts pass the node's one NIC. In a tree the node's first rank carries the whole. Every round takes the time
    of its slowest link. A last node with fewer ranks keeps nobody waiting.

    Args:
        network: the settings.
        workers: n, which all-reduce; ranks 0..n-1.
        ranks: workers and servers.
    """

    def __init__(self, network: Network, *, workers: int, ranks: int) -> None:
        self.network, self.workers, self.ranks = network, workers, ranks
        # An all-reduce passes all links: it stands still while any of them is down.
        self.schedule = self._schedule(range(-(-ranks // network.ranks_per_node)))
        self.queues = ranks if network.ranks_per_node == 1 else 2 * ranks
        self._special: dict[tuple[int, int], tuple[float | None, float | None]] = {}
        for link in network.link:
            before = self._special.get((link.src, link.dst), (None, None))
            self._special[link.src, link.dst] = (
                before[0] if link.latency_s is None else link.latency_s,
                before[1] if link.bandwidth_Gbit_per_s is None else link.bandwidth_Gbit_per_s,
            )
        inner = network.inner if network.ranks_per_node > 1 else network.outer
        self._outer, self._inner = network.outer.figures, inner.figures
        self._rounds = network.outer.collective_figures, inner.collective_figures

    @property
    def out(self) -> dict[int, float]:
        """queue -> time that each byte of an all-reduced vector keeps it, going out [s/byte]."""
        return self._plan[1]

    @property
    def into(self) -> dict[int, float]:
        """The same, coming in."""
        return self._plan[2]

    @cached_property
    def _plan(self) -> tuple[list[Rounds], dict[int, float], dict[int, float]]:
        """The all-reduce: its rounds, and what it puts on queues out and in. Made when the first one begins."""
        out: defaultdict[int, float] = defaultdict(float)
        into: defaultdict[int, float] = defaultdict(float)
        return list(self._allreduce(out, into)), dict(out), dict(into)

    def route(self, src: int, dst: int) -> Route:
        """The way from rank `src` to another rank; not cached."""
        latency_s, bandwidth = self.wire(src, dst)
        g = self.network.ranks_per_node
        if src // g == dst // g:
            return Route(latency_s, bandwidth, self.ranks + src, self.ranks + dst, None)
        schedule = self._schedule((src // g, dst // g)) if self.network.cut else self.schedule
        return Route(latency_s, bandwidth, src // g, dst // g, schedule)

    def _schedule(self, nodes: Container[int]) -> Schedule | None:
        """Of what passes the links of these nodes; None if their speed stays."""
        network = self.network
        changes = with_cuts(network.change, [cut for cut in network.cut if cut.node in nodes])
        return Schedule(changes) if changes else None

    def wire(self, src: int, dst: int) -> tuple[float, float]:
        """(latency [s], bandwidth [byte/s]) from rank src to rank dst."""
        g = self.network.ranks_per_node
        latency_s, gbit = self._inner if src // g == dst // g else self._outer
        if (src, dst) in self._special:
            special = self._special[src, dst]
            latency_s = latency_s if special[0] is None else special[0]
            gbit = gbit if special[1] is None else special[1]
        return latency_s, gbit * 1e9 / 8

    def round_wire(self, src: int, dst: int) -> tuple[float, float]:
        """The same for a round of an all-reduce."""
        if (src, dst) in self._special:
            return self.wire(src, dst)
        g = self.network.ranks_per_node
        latency_s, gbit = self._rounds[src // g == dst // g]
        return latency_s, gbit * 1e9 / 8

    def allreduce_end_s(self, start_s: float, nbytes: int) -> float:
        """When an all-reduce of `nbytes` over the workers ends that begins at `start_s` [s].

        Example:
            >>> slow = Network(latency_s=1e-3, bandwidth_Gbit_per_s=8e-3)
            >>> Fabric(slow, workers=4, ranks=4).allreduce_end_s(0.0, 4000)  # 6 x (1 ms + 1 ms)
            0.012
        """
        if self.schedule is None:
            return start_s + self._duration_s(nbytes)
        speed, until_s = self.schedule.steady(start_s)
        if speed > 0:
            end_s = start_s + self._duration_s(nbytes, speed)
            if end_s <= until_s:
                return end_s
        now_s = start_s
        for rounds in self._plan[0]:
            for _ in range(rounds.times):
                ends_s = (
                    self.schedule.finish(now_s + latency_s, nbytes / rounds.parts / bandwidth)
                    if rounds.between
                    else now_s + latency_s + nbytes / rounds.parts / bandwidth
                    for latency_s, bandwidth in rounds.wires
                )
                now_s = max(ends_s)
        return now_s

    def queue_free_s(self, queue: int, start_s: float, busy_s: float) -> float:
        """When a queue has done work of `busy_s` that begins at `start_s` [s]."""
        if self.schedule is None or queue >= self.ranks:
            return start_s + busy_s
        return self.schedule.finish(start_s, busy_s)

    def _duration_s(self, nbytes: int, speed: float = 1.0) -> float:
        total_s = 0.0
        for rounds in self._plan[0]:
            factor = speed if rounds.between else 1.0
            total_s += rounds.times * max(
                latency_s + nbytes / rounds.parts / (bandwidth * factor) for latency_s, bandwidth in rounds.wires
            )
        return total_s

    def _allreduce(self, out: dict[int, float], into: dict[int, float]) -> Iterator[Rounds]:
        """The rounds, level by level; and what they put on each queue."""
        g, n, kind = self.network.ranks_per_node, self.workers, self.network.collective
        nodes = [range(first, min(first + g, n)) for first in range(0, n, g)]
        reduce_inside, spread_inside = steps(kind, len(nodes[0]))
        reduce_between, spread_between = steps(kind, len(nodes))
        yield from (self._inside(step, nodes) for step in reduce_inside)
        for step in [*reduce_between, *spread_between]:
            yield self._between(step, nodes, out, into)
        yield from (self._inside(step, nodes) for step in spread_inside)
        for node in nodes:
            for step in (step for half in steps(kind, len(node)) for step in half):
                for a, b in step.pairs:
                    byte_s = step.times / step.parts / self.round_wire(node[a], node[b])[1]
                    out[self.ranks + node[a]] += byte_s
                    into[self.ranks + node[b]] += byte_s

    def _inside(self, step: Step, nodes: list[range]) -> Rounds:
        """A step that all full nodes make at once."""
        full = [node for node in nodes if len(node) == len(nodes[0])]
        wires = {
            self.round_wire(node[a], node[b]) for node in (full if self._special else full[:1]) for a, b in step.pairs
        }
        return Rounds(step.times, step.parts, tuple(sorted(wires)), between=False)

    def _between(self, step: Step, nodes: list[range], out: dict[int, float], into: dict[int, float]) -> Rounds:
        """A step between nodes, of which each rank, or in a tree the first, carries its part."""
        wires = set()
        for a, b in step.pairs:
            carriers = 1 if self.network.collective == "tree" or not self._special else len(nodes[0])
            pairs = list(zip(nodes[a][:carriers], nodes[b][:carriers], strict=False))
            found = [self.round_wire(src, dst) for src, dst in pairs]
            wires.update(found)
            byte_s = sum(step.times / step.parts / bandwidth for _, bandwidth in found) / len(found)
            out[a] += byte_s
            into[b] += byte_s
        return Rounds(step.times, step.parts, tuple(sorted(wires)), between=True)
