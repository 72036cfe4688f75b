"""Budgets: every planned snapshot is taken once, in order, at its time; lock-step workers all do the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bench.budget import Budget, Plan
from bench.cluster import Compute, Network
from bench.simulate import Simulation
from tests.algorithms.support import make, quadratic

LOCKSTEP = [("allreduce-sgd", {}), ("local-sgd", {"period": 3}), ("d-psgd", {}), ("d-psgd", {"order": "atc"})]
FREE = [("ad-psgd", {}), ("easgd", {"period": 2})]
UNEQUAL = Compute(gradient_s=0.1, distribution="exponential", slow={"1": 3.0})


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


async def alone(value: float, at_once: bool) -> float:
    """The agreement of a single worker."""
    return value


def follow(plan: Plan, now_after: Callable[[int], float]) -> list[tuple[int, float, list[int]]]:
    """(steps done, time, snapshots) of each boundary up to the end; `now_after(t)` is the time after t steps."""
    seen = []
    for done in itertools.count():
        snapshots, over = at_once(plan.due(done, now_after(done)))
        seen.append((done, now_after(done), snapshots))
        if over:
            return seen
    raise AssertionError


durations = st.lists(st.floats(min_value=0.01, max_value=3.0), min_size=1, max_size=30)


def clock(steps: list[float]) -> Callable[[int], float]:
    """Time after t steps whose durations repeat for ever."""
    after = [0.0, *itertools.accumulate(steps)]
    return lambda t: t // len(steps) * after[-1] + after[t % len(steps)]


# -- the plan of one worker -------------------------------------------------------------------------------------------


@given(durations, st.floats(0.01, 10.0), st.integers(1, 12))
def test_free_workers_take_each_snapshot_at_the_first_boundary_after_its_time(
    steps: list[float], seconds: float, count: int
) -> None:
    seen = follow(Plan(Budget(seconds=seconds, snapshots=count), False, alone), clock(steps))
    assert [number for _, _, due in seen for number in due] == list(range(count + 1))
    planned = [seconds * number / count for number in range(count)] + [seconds]
    before = -math.inf
    for _, now_s, due in seen:
        for number in range(count + 1):
            assert (number in due) == (before < planned[number] <= now_s)
        before = now_s
    assert seen[-1][1] >= seconds and all(now_s < seconds for _, now_s, _ in seen[:-1])


@given(st.integers(1, 40), st.integers(1, 12), st.booleans())
def test_steps_are_counted_exactly(steps: int, count: int, lockstep: bool) -> None:
    seen = follow(Plan(Budget(steps=steps, snapshots=count), lockstep, alone), float)
    assert [number for _, _, due in seen for number in due] == list(range(count + 1))
    assert seen[-1][0] == steps and len(seen) == steps + 1
    at = {number: done for done, _, due in seen for number in due}
    assert all(at[number] == math.ceil(steps * number / count) for number in at)


@given(durations, st.floats(0.01, 10.0), st.integers(1, 12))
def test_lockstep_workers_take_each_snapshot_once_however_uneven_their_steps(
    steps: list[float], seconds: float, count: int
) -> None:
    seen = follow(Plan(Budget(seconds=seconds, snapshots=count), True, alone), clock(steps))
    assert [number for _, _, due in seen for number in due] == list(range(count + 1))


@given(st.floats(0.001, 0.1), st.integers(1, 10))
def test_lockstep_snapshots_are_within_half_a_step_of_their_time(step_s: float, count: int) -> None:
    seconds = 3.0
    seen = follow(Plan(Budget(seconds=seconds, snapshots=count), True, alone), lambda t: t * step_s)
    taken = {number: now_s for _, now_s, due in seen for number in due}
    assert taken[0] == 0.0
    for number in range(1, count + 1):
        assert abs(taken[number] - seconds * number / count) <= step_s * 0.5 + 1e-9


def test_workers_with_different_clocks_draw_the_same_conclusions() -> None:
    # Each worker's own clock differs; all are given the slowest one's, as the agreement does.
    clocks = [lambda t: 0.1 * t, lambda t: 0.13 * t, lambda t: 0.05 * t]

    def slowest(t: int) -> float:
        return max(c(t) for c in clocks)

    plans = []
    for own in clocks:

        async def agree(value: float, at_once: bool, own: Callable[[int], float] = own) -> float:
            return slowest(round(value / own(1)))

        plans.append(follow(Plan(Budget(seconds=4.0, snapshots=6), True, agree), own))
    conclusions = [[(done, due) for done, _, due in seen] for seen in plans]
    assert conclusions[0] == conclusions[1] == conclusions[2]


def test_workers_meet_seldom() -> None:
    meetings: list[float] = []

    async def agree(value: float, at_once: bool) -> float:
        meetings.append(value)
        return value

    follow(Plan(Budget(seconds=10.0, snapshots=5), True, agree), lambda t: 0.01 * t)
    # At the start, after the first estimate, and at each snapshot: 1000 steps must not cost 1000 rendezvous.
    assert len(meetings) == 2 + 5


def test_a_later_segment_goes_on_with_the_snapshot_that_is_next() -> None:
    first = follow(Plan(Budget(steps=20, snapshots=4), True, alone), float)
    numbers = [n for done, _, due in first for n in due if done <= 10]
    plan = Plan(Budget(steps=20, snapshots=4), True, alone, first_snapshot=numbers[-1] + 1)
    for done in range(10, 21):
        snapshots, over = at_once(plan.due(done, float(done)))
        numbers += snapshots
        assert over == (done == 20)
    assert numbers == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "either seconds or steps"),
        ({"seconds": 1.0, "steps": 1}, "either seconds or steps"),
        ({"seconds": 0.0}, "seconds must be > 0"),
        ({"seconds": -1.0}, "seconds must be > 0"),
        ({"seconds": math.nan}, "seconds must be > 0"),
        ({"seconds": math.inf}, "seconds must be > 0"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"steps": 1, "snapshots": 0}, "1..1000"),
        ({"steps": 1, "snapshots": 1001}, "1..1000"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Budget(**settings)


# -- whole runs -------------------------------------------------------------------------------------------------------


def names(row: Any) -> str | None:
    return "-".join(map(str, row.values())) or None if isinstance(row, dict) else None


@pytest.mark.parametrize(("name", "settings"), LOCKSTEP, ids=names)
@pytest.mark.parametrize(
    "budget", [Budget(seconds=7.0, snapshots=5), Budget(steps=13, snapshots=5)], ids=["s", "steps"]
)
def test_lockstep_workers_do_the_same_steps_whatever_their_speed(
    name: str, settings: dict[str, Any], budget: Budget
) -> None:
    simulation = Simulation(make(name, **settings), quadratic(4), workers=4, seed=1, compute=UNEQUAL).run(budget)
    assert len({handle.state.step for handle in simulation.workers}) == 1
    boundaries = [[(s.number, s.step) for s in handle.snapshots] for handle in simulation.workers]
    assert [number for number, _ in boundaries[0]] == list(range(6))
    assert all(b == boundaries[0] for b in boundaries)
    if budget.steps is not None:
        assert simulation.workers[0].state.step == 13


@pytest.mark.parametrize(("name", "settings"), FREE, ids=names)
def test_free_workers_each_take_every_snapshot_and_so_does_the_server(name: str, settings: dict[str, Any]) -> None:
    simulation = Simulation(make(name, **settings), quadratic(4), workers=4, seed=1, compute=UNEQUAL)
    simulation.run(Budget(seconds=7.0, snapshots=5))
    for handle in simulation.handles:
        assert [s.number for s in handle.snapshots] == list(range(6)), handle.rank
        times = [s.t_s for s in handle.snapshots]
        assert times == sorted(times)
    for handle in simulation.workers:
        assert all(s.t_s >= 7.0 * s.number / 5 for s in handle.snapshots)
    assert len({handle.state.step for handle in simulation.workers}) > 1  # fast ranks do not wait for the slow one
    assert all(handle.ended_s >= 7.0 for handle in simulation.workers)


def test_a_snapshot_is_what_the_replica_was_then() -> None:
    simulation = Simulation(make("allreduce-sgd"), quadratic(2), workers=2, seed=0).run(Budget(steps=4, snapshots=4))
    shorter = Simulation(make("allreduce-sgd"), quadratic(2), workers=2, seed=0).run(Budget(steps=2, snapshots=2))
    for long, short in zip(simulation.workers, shorter.workers, strict=True):
        assert [s.x.tolist() for s in long.snapshots[:3]] == [s.x.tolist() for s in short.snapshots]
        assert long.snapshots[-1].x.tolist() == long.replica().data.tolist()
        assert [s.samples for s in long.snapshots] == [0, 1, 2, 3, 4]


def test_a_slow_network_does_not_lose_the_servers_snapshots() -> None:
    network = Network(latency_s=0.4, bandwidth_Gbit_per_s=1e-6)
    simulation = Simulation(make("easgd", period=1), quadratic(3), workers=3, seed=1, compute=UNEQUAL, network=network)
    simulation.run(Budget(seconds=3.0, snapshots=8))
    assert [s.number for s in simulation.server.snapshots] == list(range(9))


def test_a_run_that_is_given_up_returns_at_once_before_its_end():
    def give_up(step: int, now_s: float, loss: Tensor) -> None:
        if step == 5:
            simulation.give_up()

    simulation = Simulation(make("ad-psgd"), quadratic(4), workers=4, seed=0, compute=UNEQUAL, on_step=give_up)
    simulation.run(Budget(steps=50, snapshots=1))
    assert simulation.interrupted and simulation.workers[0].state.computed == 5
    assert all(handle.state.computed < 50 for handle in simulation.workers)
