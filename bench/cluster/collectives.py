"""The rounds of an all-reduce: who sends how much to whom, and what they add up to.

Source: Thakur, Rabenseifner, Gropp: Optimization of Collective Communication Operations in MPICH (IJHPCA 2005), for
binomial trees and recursive halving; Patarasuk, Yuan: Bandwidth optimal all-reduce algorithms for clusters of
workstations (JPDC 2009), for the ring. A message of b bytes takes latency + b / bandwidth (Hockney 1994); adding
numbers up is free. With m members, N bytes, latency a and bandwidth B, on equal links:

    ring                2 (m - 1) (a + N / (m B))
    tree                2 ceil(log2 m) (a + N / B)
    recursive-halving   2 log2 p a + 2 (p - 1) / p N / B, p = 2^floor(log2 m); 2 (a + N / B) more if p < m

All three send 2 (m - 1) N bytes in total.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Collective = Literal["ring", "tree", "recursive-halving"]


@dataclass(frozen=True, slots=True)
class Step:
    """`times` rounds in a row: each pair (from, to) of positions moves a `parts`-th of the vector, all at once."""

    times: int
    parts: int
    pairs: tuple[tuple[int, int], ...]


def steps(kind: Collective, members: int) -> tuple[list[Step], list[Step]]:
    """The rounds of an all-reduce among `members`: those that reduce, and those that spread the result.

    Example:
        >>> reduce, spread = steps("tree", 4)
        >>> [step.pairs for step in reduce], [step.pairs for step in spread]
        ([((1, 0), (3, 2)), ((2, 0),)], [((0, 2),), ((0, 1), (2, 3))])
    """
    if members == 1:
        return [], []
    if kind == "ring":
        around = Step(members - 1, members, tuple((r, (r + 1) % members) for r in range(members)))
        return [around], [around]
    reduce = _tree(members) if kind == "tree" else _halving(members)
    spread = [Step(s.times, s.parts, tuple((b, a) for a, b in s.pairs)) for s in reversed(reduce)]
    return reduce, spread


def _tree(members: int) -> list[Step]:
    """A binomial tree: at distance 1, 2, 4, ... the upper one hands all it has to the lower one."""
    distances = [1 << k for k in range((members - 1).bit_length())]
    return [Step(1, 1, tuple((r + d, r) for r in range(0, members - d, 2 * d))) for d in distances]


def _halving(members: int) -> list[Step]:
    """Partners at distance p/2, p/4, ... swap halves, quarters, ...; those beyond the power of two p hand theirs in
    first."""
    p = 1 << (members.bit_length() - 1)
    first = [Step(1, 1, tuple((p + r, r) for r in range(members - p)))] if p < members else []
    halvings = [p >> k for k in range(1, p.bit_length())]
    return first + [Step(1, p // d, tuple((r, r ^ d) for r in range(p))) for d in halvings]


def ring_wire_nbytes(length: int, itemsize: int, rank: int, workers: int) -> int:
    """Bytes that worker `rank` sends in a ring all-reduce of `length` items cut into `workers` nearly equal chunks.

    It sends every chunk but one while reducing, and every chunk but one while gathering; over all workers this makes
    exactly 2 (workers - 1) x length x itemsize.

    Example:
        >>> [ring_wire_nbytes(10, 4, rank, 4) for rank in range(4)]
        [60, 64, 60, 56]
    """
    if workers == 1:
        return 0

    def chunk(i: int) -> int:
        return length // workers + (i % workers < length % workers)

    return (2 * length - chunk(rank + 1) - chunk(rank + 2)) * itemsize
