"""Workers in lock-step that may be interrupted agree on it without waiting: whatever their speeds and however late an
agreement is known, all stop after the same step, soon, and nothing is left under way."""

from __future__ import annotations

import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.budget import AGREE_S, LONG_STEP_S, Budget, Plan, Word
from bench.clock import VirtualClock
from bench.interruption import GRACE_S
from bench.kernel import Future, Kernel, Wait


@dataclass
class Lived:
    """What a worker went through."""

    waited_s: list[float] = field(default_factory=list)  # at each boundary, from the start on
    snapshots: list[tuple[int, int]] = field(default_factory=list)  # steps done, number
    begun: list[tuple[int, bool]] = field(default_factory=list)  # agreements: steps done, awaited at once
    heard: int = 0  # agreements that were awaited
    word: Word = Word.GO_ON
    ended_s: float = math.nan


class Agreements:
    """The k-th one that each worker begins is one agreement; known `late_s` after the last worker has begun it."""

    def __init__(self, kernel: Kernel, size: int, late_s: float) -> None:
        self._kernel, self._size, self._late_s = kernel, size, late_s
        self._all: list[tuple[list[float], Future[None]]] = []

    async def _largest(self, number: int, lived: Lived) -> float:
        lived.heard += 1
        values, known = self._all[number]
        await known
        return max(values)

    def begin(self, value: float, lived: Lived) -> Awaitable[float]:
        """This worker's next one."""
        number = len(lived.begun) - 1
        if number == len(self._all):
            self._all.append(([], Future(Wait("agree"))))
        values, known = self._all[number]
        values.append(value)
        if len(values) == self._size:
            self._kernel.call_at(self._kernel.now() + self._late_s, known.set, None)
        return self._largest(number, lived)


def live(
    budget: Budget,
    step_s: Sequence[Callable[[int], float]],
    *,
    late_s: float = 0.0,
    wish: tuple[int, float] | None = None,
    may_be_interrupted: bool = True,
) -> list[Lived]:
    """Workers that need nothing from each other, each to the end.

    Args:
        step_s: for each worker, how long its n-th step takes, from 1.
        wish: which worker is asked to stop, and when.
    """
    kernel = Kernel(VirtualClock())
    agreements = Agreements(kernel, len(step_s), late_s)

    async def worker(rank: int, lived: Lived) -> None:
        done = 0

        def agree(value: float, at_once: bool) -> Awaitable[float]:
            lived.begun.append((done, at_once))
            return agreements.begin(value, lived)

        def asked() -> bool:
            return wish is not None and wish[0] == rank and kernel.now() >= wish[1]

        plan = Plan(budget, True, agree, asked=asked if may_be_interrupted else None)
        for done in itertools.count():
            if done and done < plan.quiet_until:  # the short way that most steps take
                lived.waited_s.append(0.0)
            else:
                came_s = kernel.now()
                due, lived.word = await plan.due(done, came_s)
                lived.waited_s.append(kernel.now() - came_s)
                lived.snapshots += [(done, number) for number in due]
            if lived.word:
                lived.ended_s = kernel.now()
                return
            await kernel.sleep(step_s[rank](done + 1), Wait("gradient"))

    all_lived = [Lived() for _ in step_s]
    tasks = [kernel.start(worker(rank, lived), rank=rank, name="main") for rank, lived in enumerate(all_lived)]
    kernel.run(lambda: all(task.done() for task in tasks))
    return all_lived


def repeated(durations: Sequence[float]) -> Callable[[int], float]:
    """Steps whose durations repeat for ever."""
    return lambda n: durations[n % len(durations)]


def constant(duration_s: float) -> Callable[[int], float]:
    """Steps that all take as long."""
    return lambda n: duration_s


durations = st.lists(st.floats(0.02, 12.0), min_size=1, max_size=6).map(repeated)
budgets = st.one_of(
    st.builds(Budget, seconds=st.floats(0.1, 100.0), snapshots=st.integers(1, 6)),
    st.builds(Budget, steps=st.integers(1, 100), snapshots=st.integers(1, 6)),
)
wishes = st.none() | st.tuples(st.integers(0, 1), st.floats(0.0, 150.0))


@given(budgets, st.lists(durations, min_size=2, max_size=4), st.floats(0.0, 10.0), wishes)
def test_all_do_the_same_and_leave_nothing_under_way(
    budget: Budget, step_s: list[Callable[[int], float]], late_s: float, wish: tuple[int, float] | None
) -> None:
    first, *others = live(budget, step_s, late_s=late_s, wish=wish)
    for other in others:
        assert (len(other.waited_s), other.snapshots, other.word) == (len(first.waited_s), first.snapshots, first.word)
        assert other.begun == first.begun, "another order of agreements"
    assert all(lived.heard == len(lived.begun) for lived in (first, *others)), "begun and not read"
    numbers = [number for _, number in first.snapshots]
    assert numbers == list(range(len(numbers)))
    assert first.word is Word.INTERRUPTED or len(numbers) == budget.snapshots + 1
    if wish is None:
        assert first.word is Word.OVER
        assert budget.steps is None or len(first.waited_s) == budget.steps + 1


@pytest.mark.parametrize("budget", [Budget(steps=9000, snapshots=3), Budget(seconds=90.0, snapshots=1)])
def test_who_is_not_far_ahead_waits_for_nobody(budget: Budget) -> None:
    def hesitant(n: int) -> float:
        return 0.8 * AGREE_S if n == 7000 else 0.01

    ahead, _ = live(budget, [constant(0.01), hesitant], late_s=0.02)
    assert len(ahead.waited_s) > 8000
    # The first are a step or two apart, which is as long as it takes to agree here.
    waited = {done for done, wait_s in enumerate(ahead.waited_s) if wait_s > 0.0 and done > 8}
    met = {done for done, at_once in ahead.begun if at_once and done > 8}
    assert waited == met
    assert bool(met) == (budget.seconds is not None), "an end by the clock needs a meeting, and no other does"


def test_who_is_far_behind_is_waited_for_once() -> None:
    def late(n: int) -> float:
        return 2 * AGREE_S if n == 7000 else 0.01

    ahead, behind = live(Budget(steps=9000), [constant(0.01), late])
    assert AGREE_S - 0.05 < sum(ahead.waited_s) < 1.2 * AGREE_S
    assert sum(wait_s > 1e-6 for wait_s in ahead.waited_s) <= 2  # the second as the estimate of a step changes
    assert sum(behind.waited_s) == 0.0


@pytest.mark.parametrize("by_time", [True, False])
@pytest.mark.parametrize("step_s", [0.01, 0.2, 1.9, 3.0, 7.0, 14.0, 16.0, 60.0])
def test_a_wish_is_obeyed_in_time(step_s: float, by_time: bool) -> None:
    total_s = max(50.0, 8 * step_s)
    budget = Budget(seconds=total_s, snapshots=1) if by_time else Budget(steps=round(total_s / step_s))
    distance_s = step_s * max(1, round(AGREE_S / step_s))
    obeyed_s = 3 * distance_s if step_s <= LONG_STEP_S else step_s
    assert obeyed_s < 0.7 * GRACE_S
    for wish_s in (0.0, 0.26 * total_s, 0.41 * total_s, 0.6 * total_s):  # before the start, and after two steps
        for quick in (1.0, 0.9):  # who is asked
            lived = live(budget, [constant(step_s), constant(quick * step_s)], wish=(1, wish_s))
            assert {one.word for one in lived} == {Word.INTERRUPTED}
            assert max(one.ended_s for one in lived) <= wish_s + obeyed_s + 1e-6


@pytest.mark.parametrize("wish_s", [0.5, 9.0, 30.0, 111.0])
def test_quick_first_steps_do_not_make_it_deaf(wish_s: float) -> None:
    """Steps of which only every fiftieth waits for the network, for long."""
    step_s = [lambda n: 10.0 if n % 50 == 0 else 0.001] * 2
    lived = live(Budget(steps=5000), step_s, wish=(0, wish_s))
    assert {one.word for one in lived} == {Word.INTERRUPTED}
    assert max(one.ended_s for one in lived) <= wish_s + 0.5 * GRACE_S


def test_workers_who_may_be_interrupted_meet_no_more_often_than_others() -> None:
    budget = Budget(seconds=100.0, snapshots=4)
    alone, interruptible = (live(budget, [constant(0.01)] * 2, may_be_interrupted=may)[0] for may in (False, True))
    met = [done for done, at_once in interruptible.begun if at_once]
    assert met[2:] == [done for done, _ in alone.begun][2:] == [done for done, number in alone.snapshots if number]
    assert len(interruptible.begun) < 20 + 2 * 100.0 / AGREE_S
    assert interruptible.snapshots == alone.snapshots


def test_a_snapshot_comes_closer_to_its_time_where_first_steps_were_quick() -> None:
    """What is agreed on in between tells when the next snapshot is due."""
    step_s = [lambda n: 0.1 if n < 5 else 1.0] * 2
    lived, _ = live(Budget(seconds=100.0, snapshots=1), step_s)
    assert lived.ended_s == pytest.approx(100.0, abs=1.0)
