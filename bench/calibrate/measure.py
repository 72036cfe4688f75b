"""The plan: which programs run, how often, and what is taken from their rows.

Everything is measured in rounds, so that a machine that gets slower meanwhile favours nothing.

Symbols: N = ranks, S = sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.calibrate.machine import Machine, Row, Rows, Subject
from bench.calibrate.programs import Asking, Neighbours, Reductions, Requests, Steps, Waiting
from bench.cluster.compute import LONG_WAIT_S
from bench.settings import StudyError

Times = NDArray[np.float64]

TRIMMED = 0.05
"""Share of the times at each end that a mean leaves out: other processes' turns."""

AT_ONCE = 8
"""Requests under way at once, to see how many a rank can answer."""

PERIOD = 6
"""Steps between two requests, to see how long the first steps after one are slower."""

LEAST_STEPS = 12
"""Of a run of a program: where gradients are so long that there would be fewer, the run is longer."""

FEW = 3
"""Gradients between two long waits, to see the same after those."""

LARGEST_NBYTES = 64 << 20
APART = 16
"""Sizes are this factor apart."""


@dataclass
class StepTimes:
    """A workload's steps [s]: pooled over ranks and rounds."""

    nbytes: int  # of its vector
    alone_s: list[float] = field(default_factory=list)  # gradients of one rank, the others idle
    together_s: list[float] = field(default_factory=list)  # gradients of as many ranks as there are cores for
    crowded_s: list[float] = field(default_factory=list)  # gradients of all ranks
    plain_s: list[float] = field(default_factory=list)  # whole steps of `together`
    aside_s: list[float] = field(
        default_factory=list
    )  # by how much steps with the gradient beside are longer, by round
    reducing_s: list[float] = field(
        default_factory=list
    )  # the same of those with an all-reduce, without the all-reduce
    later_s: list[list[float]] = field(default_factory=lambda: [[] for _ in range(PERIOD)])  # gradients, the first,
    # second, ... after a request
    aside_idle_s: list[float] = field(default_factory=list)  # `aside` of one rank, the others idle
    after_waits_s: list[list[float]] = field(default_factory=lambda: [[] for _ in range(FEW)])  # gradients, the first,
    # second, ... after a long wait
    exchanges_s: list[float] = field(default_factory=list)  # what a request costs its asker, its waiting left out
    idle_answers_s: list[float] = field(default_factory=list)  # waits for an answer of a rank that does nothing else
    busy_answers_s: list[float] = field(default_factory=list)  # waits for an answer of one that computes
    asked_s: list[float] = field(default_factory=list)  # steps of that one
    neighbours_s: list[float] = field(default_factory=list)  # rounds in which all exchange with both neighbours; means
    overlapped_s: list[float] = field(default_factory=list)  # the same beside gradients
    disturbed_s: list[float] = field(default_factory=list)  # by how much those gradients are longer, by round


@dataclass
class Measurements:
    """What the programs found; sizes in bytes, times in seconds."""

    steps: dict[str, StepTimes]
    reductions: dict[int, list[float]] = field(default_factory=dict)
    trips: dict[int, list[float]] = field(default_factory=dict)  # one way
    answers: dict[int, list[float]] = field(default_factory=dict)  # between two answers of a busy rank
    look_s: float = 0.0
    nap_s: float = 0.0


def measure(
    machine: Machine,
    subjects: Sequence[Subject],
    *,
    cores: int,
    seconds: float = 0.5,
    rounds: int = 3,
    largest_nbytes: int = LARGEST_NBYTES,
    between: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> Measurements:
    """Run all programs.

    Args:
        cores: that the ranks have between them.
        between: the ranks are on several hosts, whose links are to be measured when all are busy.
        seconds: of each run of a program; longer where that would be less than LEAST_STEPS.
        rounds: runs of each program.
        largest_nbytes: of the vectors that are sent, beside the workloads' own.
        tell: told what is going on.
    """
    found = Measurements({s.label: StepTimes(s.workload.parameters * s.workload.dtype.itemsize) for s in subjects})
    found.look_s, found.nap_s = machine.naps()
    lightest = min(subjects, key=lambda s: s.workload.parameters * s.workload.batch_size)
    lengths = sizes([times.nbytes for times in found.steps.values()], largest_nbytes)
    for k in range(rounds):
        for subject in subjects:
            tell(f"round {k + 1} of {rounds}: steps of {subject.label}")
            times = found.steps[subject.label]
            longer_s = _steps(machine, subject, times, min(machine.ranks, cores), seconds)
            if between and machine.ranks > 1:
                _neighbours(machine, subject, times, longer_s)
        if machine.ranks > 1:
            for length in lengths:
                tell(f"round {k + 1} of {rounds}: {4 * length} bytes")
                _messages(machine, lightest, found, length, seconds / 3)
    return found


def sharing(
    machine: Machine,
    subjects: Sequence[Subject],
    *,
    cores: int,
    seconds: float = 0.5,
    rounds: int = 3,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, float]:
    """Share of the cores' work that is left when all ranks, more than there are cores, take plain steps; by label.

    At most 1. Means of all steps are compared, not of most: turns are what is looked for.
    """
    assert machine.ranks > cores, "or nothing is shared"
    found: dict[str, list[float]] = {subject.label: [] for subject in subjects}
    for k in range(rounds):
        for subject in subjects:
            tell(f"round {k + 1} of {rounds}: steps of {subject.label} on shared cores")
            alone, longer_s = _plain_steps(machine, subject, cores, seconds)
            crowded = machine.run(Steps(ranks=machine.ranks), subject, longer_s)
            alone_s, crowded_s = (float(np.mean(_pooled(rows, steps_s))) for rows in (alone, crowded))
            found[subject.label].append(alone_s * machine.ranks / cores / crowded_s)
    return {label: min(1.0, float(np.median(shares))) for label, shares in found.items()}


def sizes(own_nbytes: Sequence[int], largest_nbytes: int) -> list[int]:
    """Lengths of the vectors [float32] that are sent: from one number up, and those of the workloads.

    Example:
        >>> sizes([4000], 1 << 12)
        [1, 64, 1000, 1024]
    """
    grid = []
    nbytes = largest_nbytes
    while nbytes > 4 * APART:
        grid.append(nbytes // 4)
        nbytes //= APART
    return sorted({1, *grid, *(max(1, own // 4) for own in own_nbytes)})


def _steps(machine: Machine, subject: Subject, found: StepTimes, fitting: int, seconds: float) -> float:
    """Programs without messages or with few; for how long [s] they had to run."""
    together, seconds = _plain_steps(machine, subject, fitting, seconds)
    found.together_s += _pooled(together, gradients_s)
    found.plain_s += _pooled(together, steps_s)
    # Differences are taken within a round: the machine may be slower in the next.
    plain_s = trimmed_mean(_pooled(together, steps_s))
    beside = machine.run(Steps(ranks=fitting, beside=True), subject, seconds)
    found.aside_s.append(trimmed_mean(_pooled(beside, steps_s)) - plain_s)
    crowded = machine.run(Steps(ranks=machine.ranks), subject, seconds) if machine.ranks > fitting else together
    if machine.ranks > fitting:
        found.crowded_s += _pooled(crowded, gradients_s)
    if machine.ranks > 1:
        alone = machine.run(Steps(ranks=1), subject, seconds / 2)
        found.alone_s += _pooled(alone, gradients_s)
        beside = machine.run(Steps(ranks=1, beside=True), subject, seconds / 2)
        found.aside_idle_s.append(trimmed_mean(_pooled(beside, steps_s)) - trimmed_mean(_pooled(alone, steps_s)))
        reducing = machine.run(Reductions(), subject, seconds)
        more_s = trimmed_mean(_pooled(reducing, without_reductions_s)) - trimmed_mean(_pooled(crowded, steps_s))
        found.reducing_s.append(more_s * fitting / machine.ranks)  # as work: crowded ranks feel more of it
        rows = machine.run(Asking(period=PERIOD), subject, seconds)[0]
        for phase, times_s in enumerate(after_requests_s(rows, PERIOD)):
            found.later_s[phase] += times_s
        if fitting > 1:
            waiting = Waiting(few=FEW, many=FEW + math.ceil(LONG_WAIT_S / float(np.median(found.together_s))))
            for phase, times_s in enumerate(after_waits_s(machine.run(waiting, subject, seconds)[0])):
                found.after_waits_s[phase] += times_s
        found.exchanges_s += exchanges_s(rows)
        found.idle_answers_s += waits_s(machine.run(Asking(), subject, seconds)[0])
        asking, asked = machine.run(Asking(busy=True), subject, seconds)[:2]
        found.busy_answers_s += waits_s(asking)
        found.asked_s += [float(time_s) for time_s in steps_s(asked)]
    return seconds


def _plain_steps(machine: Machine, subject: Subject, ranks: int, seconds: float) -> tuple[Rows, float]:
    """Rows of plain steps, and for how long [s] programs must run to take as many."""
    rows = machine.run(Steps(ranks=ranks), subject, seconds)
    least_s = LEAST_STEPS * float(np.median(_pooled(rows, gradients_s)))
    if seconds >= least_s:
        return rows, seconds
    return machine.run(Steps(ranks=ranks), subject, least_s), least_s


def _neighbours(machine: Machine, subject: Subject, found: StepTimes, seconds: float) -> None:
    found.neighbours_s.append(round_s(machine.run(Neighbours(), subject, seconds)))
    overlapped = machine.run(Neighbours(computing=True), subject, seconds)
    found.overlapped_s.append(round_s(overlapped))
    plain = machine.run(Steps(ranks=machine.ranks, beside=True), subject, seconds)
    found.disturbed_s.append(float(np.mean(_pooled(overlapped, gradients_s)) - np.mean(_pooled(plain, gradients_s))))


def _messages(machine: Machine, subject: Subject, found: Measurements, length: int, seconds: float) -> None:
    nbytes = 4 * length
    rows = machine.run(Reductions(length=length), subject, seconds)
    found.reductions.setdefault(nbytes, []).extend(reductions_s(rows))
    rows = machine.run(Requests(peer=1, length=length), subject, seconds, spin=True)
    found.trips.setdefault(nbytes, []).extend((round_trips_s(rows[0]) / 2).tolist())
    rows = machine.run(Requests(peer=1, length=length, at_once=AT_ONCE), subject, seconds, spin=True)
    answered_s = answers_s(rows[0], AT_ONCE)
    if len(answered_s) > 1:  # a single lot of long messages comes at one instant, in the end
        found.answers.setdefault(nbytes, []).extend(answered_s)


def _pooled(rows: Rows, of: Callable[[Sequence[Row]], Times]) -> list[float]:
    return [float(time_s) for rank in rows for time_s in of(rank)]


def _of(rows: Sequence[Row], kind: str) -> tuple[Times, Times]:
    """(beginnings, ends) of a kind of row, in order."""
    found = [(row.t0_s, row.t1_s) for row in rows if row.kind == kind]
    return np.array([t0 for t0, _ in found]), np.array([t1 for _, t1 in found])


def gradients_s(rows: Sequence[Row]) -> Times:
    """How long each gradient took."""
    t0, t1 = _of(rows, "gradient")
    return t1 - t0


def steps_s(rows: Sequence[Row]) -> Times:
    """From the end of each step to the end of the next."""
    between: Times = np.diff(_of(rows, "apply")[1])
    return between


def without_reductions_s(rows: Sequence[Row]) -> Times:
    """The same, without what passed from the end of a gradient to the end of its all-reduce."""
    computed = _of(rows, "gradient")[1]
    reduced = _of(rows, "allreduce")[1]
    if not len(computed):
        return computed
    # A gradient may be reduced in several pieces; the last that ends counts.
    pieces = len(reduced) // len(computed)
    ends = reduced[: pieces * len(computed)].reshape(len(computed), pieces).max(axis=1)
    waited: Times = np.maximum(ends - computed, 0.0)
    return steps_s(rows) - waited[1:]


def reductions_s(rows: Rows) -> list[float]:
    """From when the last rank had joined each all-reduce to its end, mean over the ranks."""
    begins, ends = zip(*(_of(rank, "allreduce") for rank in rows), strict=True)
    count = min(map(len, begins))
    last = np.max([b[:count] for b in begins], axis=0)
    took: Times = np.mean([e[:count] for e in ends], axis=0) - last
    return [float(time_s) for time_s in took]


def round_s(rows: Rows) -> float:
    """Mean duration of the rounds in which every rank sends to its neighbours, from one's beginning to the next one's.

    Raises:
        StudyError: there was only one round.
    """
    neighbours = min(2, len(rows) - 1)
    begun = [np.sort(_of(rank, "send")[0])[::neighbours] for rank in rows]
    if min(map(len, begun)) < 2:
        raise StudyError("a measurement was too short for two rounds of messages (give more --seconds)")
    return float(np.mean([(first[-1] - first[0]) / (len(first) - 1) for first in begun]))


def round_trips_s(rows: Sequence[Row]) -> Times:
    """From each request to its answer."""
    asked, answered = np.sort(_of(rows, "send")[0]), _of(rows, "recv")[1]
    return answered - asked[: len(answered)]


def waits_s(rows: Sequence[Row]) -> list[float]:
    """How long each wait took."""
    t0, t1 = _of(rows, "wait")
    return [float(time_s) for time_s in t1 - t0]


def _asking(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Which gradients were followed by a request."""
    ended, asked = _of(rows, "gradient")[1], _of(rows, "wait")[0]
    return np.searchsorted(ended, asked, side="right") - 1


def after_requests_s(rows: Sequence[Row], period: int) -> list[list[float]]:
    """How long the first, second, ... gradient after each request took: `period` lists."""
    took, asking = gradients_s(rows), _asking(rows)
    asking = asking[asking + period < len(took)]
    return [[float(time_s) for time_s in took[asking + 1 + phase]] for phase in range(period)]


def after_waits_s(rows: Sequence[Row]) -> list[list[float]]:
    """How long the first, second, ... gradient after each long wait took: FEW lists."""
    took = gradients_s(rows)[FEW:]  # before the first there was no wait
    return [[float(time_s) for time_s in took[phase::FEW]] for phase in range(FEW)]


def exchanges_s(rows: Sequence[Row]) -> list[float]:
    """What a request costs its asker, beside waiting: by how much longer it is then from gradient to gradient."""
    begun, ended = _of(rows, "gradient")
    between, asking, waited = begun[1:] - ended[:-1], _asking(rows), waits_s(rows)
    plain = np.ones(len(between), dtype=bool)
    plain[asking[asking < len(between)]] = False
    if not plain.any():
        return []
    usual_s = float(np.median(between[plain]))
    return [
        float(between[i]) - wait_s - usual_s for i, wait_s in zip(asking, waited, strict=True) if 0 <= i < len(between)
    ]


def answers_s(rows: Sequence[Row], at_once: int) -> list[float]:
    """Mean time between the answers to each lot of requests that were asked at once."""
    answered = _of(rows, "recv")[1]
    lots = answered[: len(answered) // at_once * at_once].reshape(-1, at_once)
    return [float(lot[-1] - lot[0]) / (at_once - 1) for lot in lots]


def trimmed_mean(times_s: Sequence[float]) -> float:
    """Mean without the shortest and the longest times [s].

    Raises:
        StudyError: there are none.

    Example:
        >>> trimmed_mean([1.0] * 19 + [99.0])
        1.0
    """
    if not len(times_s):
        raise StudyError("a measurement was too short for two steps of a workload: got no times (give more --seconds)")
    ordered = np.sort(np.asarray(times_s))
    cut = round(TRIMMED * len(ordered))
    return float(ordered[cut : len(ordered) - cut].mean())
