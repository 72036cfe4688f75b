"""Work that goes on at a changing speed: bandwidth that changes, processors that stop for a while."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Change:
    """From `at_s` on, every link between nodes has `factor` times its bandwidth, until the next change; 0 cuts it."""

    at_s: float
    factor: float

    def __post_init__(self) -> None:
        if not 0 <= self.at_s < math.inf:
            raise ValueError(f"at_s must be a finite time >= 0: got {self.at_s}")
        if not 0 <= self.factor < math.inf:
            raise ValueError(f"factor must be finite and >= 0 (0 cuts the links): got {self.factor}")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A node's link is down from `from_s` to `to_s`: nothing passes either way, and what was under way goes on then."""

    node: int
    from_s: float
    to_s: float

    def __post_init__(self) -> None:
        if self.node < 0:
            raise ValueError(f"node must be 0 or more: got {self.node}")
        if not 0 <= self.from_s < self.to_s < math.inf:
            raise ValueError(f"a cut needs 0 <= from_s < to_s, both finite: got from_s={self.from_s}, to_s={self.to_s}")


def with_cuts(changes: Sequence[Change], cuts: Sequence[Cut]) -> list[Change]:
    """The changes, with factor 0 wherever one of the cuts holds.

    Example:
        >>> found = with_cuts([Change(at_s=2.0, factor=0.5)], [Cut(node=0, from_s=1.0, to_s=3.0)])
        >>> [(change.at_s, change.factor) for change in found]
        [(0.0, 1.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.5)]
    """
    if not cuts:
        return list(changes)
    plain = Schedule(changes)
    times = {0.0, *(c.at_s for c in changes), *(c.from_s for c in cuts), *(c.to_s for c in cuts)}
    return [
        Change(at_s=at_s, factor=0.0 if any(c.from_s <= at_s < c.to_s for c in cuts) else plain.steady(at_s)[0])
        for at_s in sorted(times)
    ]


class Schedule:
    """A speed that is 1 at first and changes at given times.

    Example:
        >>> Schedule([Change(at_s=10.0, factor=0.5), Change(at_s=20.0, factor=2.0)]).finish(8.0, 9.0)  # 2 + 5 + 2
        21.0
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self._at_s = [change.at_s for change in changes]
        self._factors = [1.0, *(change.factor for change in changes)]

    def finish(self, start_s: float, work_s: float) -> float:
        """When work is done that takes `work_s` at speed 1 and begins at `start_s` [s]."""
        if work_s <= 0:
            return start_s
        i = bisect_right(self._at_s, start_s)
        while i < len(self._at_s):
            done_s = (self._at_s[i] - start_s) * self._factors[i]
            if work_s <= done_s:
                break
            start_s, work_s = self._at_s[i], work_s - done_s
            i += 1
        return start_s + work_s / self._factors[i]

    def steady(self, start_s: float) -> tuple[float, float]:
        """(speed at `start_s`, until when it stays so [s])."""
        i = bisect_right(self._at_s, start_s)
        return self._factors[i], self._at_s[i] if i < len(self._at_s) else math.inf


class Outages:
    """Times (from_s, to_s, lost) at which a worker computes nothing.

    Work under way goes on afterwards; if `lost`, it begins anew.

    Example:
        >>> Outages([(1.0, 4.0, False)]).finish(0.0, 3.0), Outages([(1.0, 4.0, True)]).finish(0.0, 3.0)
        (6.0, 7.0)
    """

    def __init__(self, windows: Iterable[tuple[float, float, bool]]) -> None:
        self.windows = sorted(windows)

    def finish(self, start_s: float, work_s: float) -> float:
        """When work of `work_s` is done that begins at `start_s` [s]."""
        left_s = work_s
        for from_s, to_s, lost in self.windows:
            if to_s <= start_s:
                continue
            if start_s + left_s <= from_s:
                break
            left_s = work_s if lost else left_s - max(from_s - start_s, 0.0)
            start_s = to_s
        return start_s + left_s

    def back_s(self, now_s: float) -> float:
        """When the worker is there again: `now_s` if it is there now [s]."""
        for from_s, to_s, _ in self.windows:
            if from_s <= now_s < to_s:
                now_s = to_s
        return now_s
