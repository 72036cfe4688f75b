"""The answer to "which algorithm?": everything that was found, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from analysis.advice.flips import Flip


@dataclass(frozen=True, kw_only=True)
class Row:
    """One algorithm.

    Attributes:
        state: how the search for its time ended: "there", "not within", "over" (diverged or failed), "stopped".
        seeds, reached: runs, and how many got there.
        time_s, low_s, high_s: geometric mean over the seeds and its 95 % interval; infinite if it did not get there.
        within_s: it was not there before, where it did not get there.
        ratio, ratio_low, ratio_high, chance: its time over the winner's, and how probable it is at least that the
            winner is faster.
        sent_nbytes: on the wire, of all ranks, to the target.
        goodput_Gbit_per_s: payload of a rank, on average.
        peak_Gbit_per_s: on the wire of the busiest rank in its busiest time (see `analysis.advice.cli`).
        needs_Gbit_per_s: least bandwidth that costs less than 5 % against an infinite one.
        ranks: workers and servers.
        cost: of reaching the target; NaN without a price.
    """

    label: str
    algorithm: str
    lockstep: bool
    state: str
    seeds: int
    reached: int
    time_s: float
    low_s: float
    high_s: float
    within_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    chance: float
    sent_nbytes: float
    goodput_Gbit_per_s: float
    peak_Gbit_per_s: float
    needs_Gbit_per_s: float
    ranks: int
    cost: float


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Everything that was found.

    Attributes:
        rows: the winner first.
        grade: of the winner against the second, see `analysis.advice.sure.grade`; "none reached", "alone".
        chance: that the winner is the fastest of all that got there, at least.
        model_error: relative error of a predicted time that the calibration leaves.
        flips: where on the axis of the bandwidth between nodes the winner changes.
        searched: from which bandwidth to which [Gbit/s].
        curve: label -> (Gbit/s, s) [points]; of those that got there.
        anchored: label -> bandwidths at which the learning of an asynchronous algorithm was simulated.
        worlds: (what is different, who is first there, in s, the present winner there in s).
        left_out: algorithms that cannot run like this, and why.
        notes: what else a reader must know.
    """

    workload: str
    workers: int
    target: float
    seeds: tuple[int, ...]
    bandwidth_Gbit_per_s: float
    latency_s: float
    price: float | None
    rows: Sequence[Row]
    grade: str
    chance: float
    model_error: float
    flips: Sequence[Flip] = ()
    searched: tuple[float, float] = (0.01, 1000.0)
    curve: Mapping[str, Sequence[tuple[float, float]]] = field(default_factory=dict)
    anchored: Mapping[str, Sequence[float]] = field(default_factory=dict)
    worlds: Sequence[tuple[str, str, float, float]] = ()
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    out: str = ""

    @property
    def winner(self) -> Row | None:
        """The first row, if it reached the target."""
        return self.rows[0] if self.rows and math.isfinite(self.rows[0].time_s) else None

    @property
    def second(self) -> Row | None:
        """The next one that reached it too."""
        return self.rows[1] if len(self.rows) > 1 and math.isfinite(self.rows[1].time_s) else None
