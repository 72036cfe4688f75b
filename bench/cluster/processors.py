"""Cores that the ranks of a node share: when more ranks compute than there are cores, all of them go slower.

Source: egalitarian processor sharing (Kleinrock: Time-shared systems: a theoretical treatment, JACM 1967), the limit of
what a fair scheduler does in short time slices. With a ranks computing on c cores each goes at min(1, c / a) of its
speed. One job never uses more than one core. A rank that is held to a share of a core, as by a cgroup's quota, goes at
that share always, and the others have the rest of the cores between them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.kernel import Future, Kernel, Wait

LEAST = 0.1
"""Of a core, that is left to the others however many ranks are held to a share."""


@dataclass(slots=True)
class _Job:
    work_s: float
    done: Future[None]


@dataclass(slots=True)
class _Node:
    """A node's clock of service: how much work each active rank has had since the beginning."""

    served_s: float = 0.0
    at_s: float = 0.0  # when that was so
    heap: list[tuple[float, int]] = field(default_factory=list)  # (served_s at which it is done, rank) of each active
    spinning: int = 0  # ranks that wait without sleeping
    held: float = 0.0  # cores that ranks use that are held to a share
    timer: int = 0  # number of the timer that counts


class Processors:
    """Work of ranks on shared cores, on a virtual clock.

    Each rank works off its jobs one after the other, in the order in which they came. A change costs O(log active).

    Args:
        kernel: whose clock it is.
        node_of: rank -> its node.
        cores: of each node.
        sharing: share of the cores' work that is left when there are more active ranks than cores; the rest goes into
            turns, and into memory that is no longer in the caches.
        held_to: rank -> share of a core, below 1, that it has and no more.

    Example:
        Two ranks share one core. The first has 1 s of work, the second begins 0.5 s later with 1 s of its own:

        >>> from bench.clock import VirtualClock
        >>> kernel = Kernel(VirtualClock())
        >>> processors, ended = Processors(kernel, node_of=[0, 0], cores=1), {}
        >>> def begin(rank: int) -> None:
        ...     processors.work(rank, 1.0).then(lambda: ended.update({rank: kernel.now()}))
        >>> kernel.call_at(0.0, lambda: begin(0))
        >>> kernel.call_at(0.5, lambda: begin(1))
        >>> kernel.run(lambda: len(ended) == 2)
        >>> ended
        {0: 1.5, 1: 2.0}
    """

    def __init__(
        self,
        kernel: Kernel,
        node_of: Sequence[int],
        cores: int,
        sharing: float = 1.0,
        held_to: Mapping[int, float] | None = None,
    ) -> None:
        if cores < 1:
            raise ValueError(f"cores must be at least 1: got {cores}")
        self._kernel, self._node_of, self._cores, self._sharing = kernel, node_of, cores, sharing
        self._held_to = held_to or {}
        self._nodes = [_Node() for _ in range(max(node_of) + 1)]
        self._jobs: list[deque[_Job]] = [deque() for _ in node_of]

    def work(self, rank: int, seconds: float) -> Future[None]:
        """A future that is done when this rank has worked that long [s of a whole core], after what it had to do."""
        job = _Job(seconds, Future(Wait("gradient")))
        self._jobs[rank].append(job)
        if len(self._jobs[rank]) > 1:
            return job.done
        if rank in self._held_to:
            self._hold(rank, self._held_to[rank])
            self._begin_held(rank)
        else:
            node = self._nodes[self._node_of[rank]]
            self._advance(node)
            heapq.heappush(node.heap, (node.served_s + seconds, rank))
            self._set_timer(node)
        return job.done

    def spin(self, rank: int, begin: bool) -> None:
        """From now on, or until now, this rank waits without sleeping: to a fair scheduler it is as good as working."""
        node = self._nodes[self._node_of[rank]]
        self._advance(node)
        node.spinning += 1 if begin else -1
        self._set_timer(node)

    def idle(self, rank: int) -> bool:
        """Whether a core of this rank's node will have nothing to do if the rank takes up work now."""
        node = self._nodes[self._node_of[rank]]
        return len(node.heap) + node.spinning + node.held + 1 <= self._cores - 1

    def _advance(self, node: _Node) -> None:
        now_s = self._kernel.now()
        node.served_s += (now_s - node.at_s) * self._speed(node)
        node.at_s = now_s

    def _speed(self, node: _Node) -> float:
        active, cores = len(node.heap) + node.spinning, self._cores - node.held
        return 1.0 if active <= cores else max(cores, LEAST) / active * self._sharing

    def _hold(self, rank: int, share: float) -> None:
        """From now on a rank that is held uses so much more of its node's cores, or less."""
        node = self._nodes[self._node_of[rank]]
        self._advance(node)
        node.held += share
        self._set_timer(node)

    def _begin_held(self, rank: int) -> None:
        at_s = self._kernel.now() + self._jobs[rank][0].work_s / self._held_to[rank]
        self._kernel.call_at(at_s, self._end_held, rank)

    def _end_held(self, rank: int) -> None:
        jobs = self._jobs[rank]
        done = jobs.popleft().done
        if jobs:
            self._begin_held(rank)
        else:
            self._hold(rank, -self._held_to[rank])
        done.set(None)

    def _set_timer(self, node: _Node) -> None:
        node.timer += 1
        if node.heap:
            number, left_s = node.timer, node.heap[0][0] - node.served_s
            self._kernel.call_at(node.at_s + left_s / self._speed(node), lambda: self._fire(node, number))

    def _fire(self, node: _Node, number: int) -> None:
        if number != node.timer:  # something came in between, which has set another
            return
        self._advance(node)
        due_s = node.heap[0][0]
        node.served_s = due_s  # to the last bit
        ended = []
        while node.heap and node.heap[0][0] <= due_s:
            rank = heapq.heappop(node.heap)[1]
            jobs = self._jobs[rank]
            ended.append(jobs.popleft().done)
            if jobs:
                heapq.heappush(node.heap, (due_s + jobs[0].work_s, rank))
        self._set_timer(node)
        for done in ended:
            done.set(None)
