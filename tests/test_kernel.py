"""The kernel and its clocks: what runs when, how errors end a run, and what a deadlock tells."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import clock as clocks
from bench.clock import VirtualClock, WallClock
from bench.kernel import Future, Kernel, Stuck, TaskFailed, Wait, gather

HERE = Path(__file__)


def kernel(shuffle: int | None = None) -> Kernel:
    return Kernel(VirtualClock(), ties=None if shuffle is None else np.random.default_rng(shuffle))


def line_of(marker: str) -> str:
    """file:line of the one line of this file that ends with the comment `# marker`."""
    (number,) = [i for i, line in enumerate(HERE.read_text().splitlines(), 1) if line.endswith(f"# {marker}")]
    return f"{HERE}:{number}"


def run_all(k: Kernel) -> None:
    """Run until no entry is left."""
    done: list[bool] = []
    k.call_at(1e9, lambda: done.append(True))
    k.run(lambda: bool(done))


async def wait_for(future: Awaitable[object]) -> object:
    return await future


# -- order -------------------------------------------------------------------------------------------------------------

times = st.lists(st.integers(min_value=0, max_value=5).map(float), max_size=30)


@given(times)
def test_calls_come_in_order_of_time_and_then_of_entry(at: list[float]) -> None:
    k, fired = kernel(), []
    for i, t in enumerate(at):
        k.call_at(t, lambda i=i: fired.append((k.now(), i)))  # type: ignore[misc]
    run_all(k)
    assert fired == [(at[i], i) for i in sorted(range(len(at)), key=lambda i: at[i])]


@given(times, st.integers(min_value=0, max_value=99))
def test_shuffling_changes_the_order_within_an_instant_only(at: list[float], seed: int) -> None:
    k, fired = kernel(seed), []
    for i, t in enumerate(at):
        k.call_at(t, lambda i=i: fired.append((k.now(), i)))  # type: ignore[misc]
    run_all(k)
    assert [t for t, _ in fired] == sorted(at)
    assert sorted(fired) == sorted((t, i) for i, t in enumerate(at))


def order_of_twenty(shuffle: int | None) -> list[int]:
    k, fired = kernel(shuffle), []
    for i in range(20):
        k.call_at(1.0, lambda i=i: fired.append(i))  # type: ignore[misc]
    run_all(k)
    return fired


def test_a_shuffle_is_reproducible_and_depends_on_its_seed() -> None:
    orders = [tuple(order_of_twenty(seed)) for seed in range(10)]
    assert orders == [tuple(order_of_twenty(seed)) for seed in range(10)]
    assert len(set(orders)) == 10 and tuple(range(20)) not in orders
    assert order_of_twenty(None) == list(range(20))


def test_what_is_entered_during_an_instant_runs_in_it_after_what_was_there() -> None:
    k, fired = kernel(), []

    def first() -> None:
        fired.append("first")
        k.call_at(k.now(), lambda: fired.append("entered meanwhile"))
        k.call_at(0.0, lambda: fired.append("entered for the past"))  # which means now

    k.call_at(1.0, first)
    k.call_at(1.0, lambda: fired.append("second"))
    k.call_at(1.5, lambda: fired.append("later"))
    run_all(k)
    assert fired == ["first", "second", "entered meanwhile", "entered for the past", "later"]


@given(
    st.lists(st.tuples(st.floats(0, 10), st.floats(-5, 5)), max_size=20),
    st.none() | st.integers(0, 9),
    st.integers(1, 3),
)
def test_time_never_goes_back(pairs: list[tuple[float, float]], seed: int | None, depth: int) -> None:
    k = kernel(seed)
    seen: list[float] = []

    def call(after: float, left: int) -> None:
        seen.append(k.now())
        if left:
            k.call_at(k.now() + after, lambda: call(after, left - 1))  # `after` may be negative: then at once

    for at, after in pairs:
        k.call_at(at, lambda after=after: call(after, depth))  # type: ignore[misc]
    run_all(k)
    assert seen == sorted(seen) and len(seen) == len(pairs) * (depth + 1)


def test_run_stops_as_soon_as_it_is_told() -> None:
    k, fired = kernel(), []
    for t in (1.0, 2.0, 3.0):
        k.call_at(t, lambda t=t: fired.append(t))  # type: ignore[misc]
    k.run(lambda: len(fired) == 2)
    assert (fired, k.now()) == ([1.0, 2.0], 2.0)
    k.run(lambda: True)
    assert (fired, k.now()) == ([1.0, 2.0], 2.0)
    k.run(lambda: len(fired) == 3)  # and goes on where it stopped
    assert k.now() == 3.0


# -- coroutines --------------------------------------------------------------------------------------------------------


def test_a_task_runs_at_once_up_to_its_first_wait() -> None:
    k, log = kernel(), []

    async def work() -> str:
        log.append("begun")
        await k.sleep(2.0, Wait("nap"))
        log.append("slept")
        return "done"

    task = k.start(work(), rank=0, name="work")
    assert log == ["begun"] and not task.done() and k.alive(0) == 1
    k.run(task.done)
    assert log == ["begun", "slept"] and task.result() == "done"
    assert k.now() == 2.0 and k.alive(0) == 0


def test_a_task_without_a_wait_is_done_when_it_has_started() -> None:
    k = kernel()

    async def work() -> int:
        return 5

    task = k.start(work(), rank=0, name="work")
    assert task.done() and task.result() == 5 and k.alive(0) == 0


def test_awaiting_what_is_done_does_not_let_others_run() -> None:
    k, log = kernel(), []
    done: Future[int] = Future(Wait("x"))
    done.set(7)

    async def work() -> None:
        log.append(await done)
        log.append(await done)

    k.call_at(0.0, lambda: log.append(-1))
    k.start(work(), rank=0, name="work")
    assert log == [7, 7]


def test_all_who_wait_for_a_future_go_on_in_order_at_its_time() -> None:
    k, log = kernel(), []
    future: Future[str] = Future(Wait("x"))

    async def work(name: str) -> None:
        value = await future
        log.append((name, value, k.now()))

    tasks = [k.start(work(name), rank=0, name=name) for name in "abc"]
    k.call_at(4.0, lambda: future.set("v"))
    k.run(lambda: all(task.done() for task in tasks))
    assert log == [("a", "v", 4.0), ("b", "v", 4.0), ("c", "v", 4.0)]


def test_setting_a_future_does_not_run_its_waiters_inside_the_setter() -> None:
    k, log = kernel(), []
    future: Future[None] = Future(Wait("x"))

    async def work() -> None:
        await future
        log.append("waiter")

    task = k.start(work(), rank=0, name="work")
    k.call_at(1.0, lambda: (future.set(None), log.append("setter goes on"))[0])
    k.run(task.done)
    assert log == ["setter goes on", "waiter"]  # between two awaits nothing else runs


def test_tasks_can_be_awaited_and_gathered_in_order() -> None:
    k = kernel()

    async def nap(seconds: float) -> float:
        await k.sleep(seconds, Wait("nap"))
        return seconds

    async def parent() -> list[float]:
        tasks = [k.start(nap(s), rank=0, name="nap") for s in (3.0, 1.0, 2.0)]
        assert k.alive(0) == 4
        return await gather(tasks)

    task = k.start(parent(), rank=0, name="parent")
    k.run(task.done)
    assert task.result() == [3.0, 1.0, 2.0] and k.now() == 3.0


def test_a_future_is_set_once_and_calls_back_at_once_when_done() -> None:
    future: Future[int] = Future(Wait("x"))
    called: list[str] = []
    future.then(lambda: called.append("before"))
    assert called == [] and not future.done()
    future.set(1)
    future.then(lambda: called.append("after"))
    assert called == ["before", "after"]
    with pytest.raises(AssertionError, match="set once"):
        future.set(2)
    with pytest.raises(AssertionError, match="set once"):
        future.fail(ValueError())


def test_retrieved_tells_whether_anybody_took_the_result() -> None:
    k = kernel()

    async def work() -> int:
        return 1

    task = k.start(work(), rank=0, name="work")
    assert not task.retrieved
    k.start(wait_for(task), rank=0, name="taker")
    assert task.retrieved


def test_only_our_own_awaitables_may_be_awaited() -> None:
    class Foreign:
        def __await__(self):  # type: ignore[no-untyped-def]
            yield "something else"

    with pytest.raises(AssertionError, match="only await Paceline's own awaitables: got 'something else'"):
        kernel().start(wait_for(Foreign()), rank=0, name="work")


# -- errors ------------------------------------------------------------------------------------------------------------


def test_an_exception_ends_the_run_with_its_rank_and_its_cause() -> None:
    k, log = kernel(), []

    async def bad() -> None:
        await k.sleep(1.0, Wait("nap"))
        raise KeyError("lost")

    async def good() -> None:
        await k.sleep(1.0, Wait("nap"))
        log.append("went on")

    k.start(bad(), rank=3, name="bad")
    k.start(good(), rank=1, name="good")
    with pytest.raises(TaskFailed, match=r"^rank 3: KeyError: 'lost'$") as caught:
        run_all(k)
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.rank == 3
    assert log == []  # nobody goes on from half a state


def test_an_exception_before_the_first_wait_ends_the_run_too_and_the_first_one_wins() -> None:
    k = kernel()

    async def bad(text: str) -> None:
        raise ValueError(text)

    k.start(bad("first"), rank=0, name="a")
    k.start(bad("second"), rank=1, name="b")
    with pytest.raises(TaskFailed, match="rank 0: ValueError: first"):
        k.run(lambda: False)


def test_a_failed_future_raises_where_it_is_awaited() -> None:
    k = kernel()
    future: Future[int] = Future(Wait("x"))

    async def careful() -> str:
        try:
            await future
        except OSError as error:
            return f"caught {error}"
        return "nothing"

    task = k.start(careful(), rank=0, name="careful")
    k.call_at(1.0, lambda: future.fail(OSError("gone")))
    k.run(task.done)
    assert task.result() == "caught gone"


def test_an_interrupt_is_not_dressed_up_as_a_failed_rank() -> None:
    k = kernel()

    async def interrupted() -> None:
        await k.sleep(1.0, Wait("nap"))
        raise KeyboardInterrupt

    k.start(interrupted(), rank=0, name="x")
    with pytest.raises(KeyboardInterrupt):
        run_all(k)


def test_a_deadlock_says_who_waits_for_what_and_where() -> None:
    k = kernel()

    async def receiver() -> None:
        await Future(Wait("recv", "model", 1))  # the receiver waits here

    async def helper() -> None:
        await gather([Future(Wait("allreduce", "gradient"))])  # the helper waits here, inside the harness's gather

    async def caller() -> None:
        await helper()

    k.start(receiver(), rank=0, name="main")
    k.start(caller(), rank=12, name="main")
    with pytest.raises(Stuck) as caught:
        k.run(lambda: False)
    assert caught.value.reason == "deadlock: every rank waits and nothing is under way"
    assert caught.value.rows == [
        ("0", "recv", "model", "1", line_of("the receiver waits here")),
        ("12", "allreduce", "gradient", "any", line_of("the helper waits here, inside the harness's gather")),
    ]
    reason, head, *lines = str(caught.value).splitlines()
    assert reason == caught.value.reason
    assert re.split(r"\s{2,}", head) == ["rank", "waits for", "tag/label", "peer", "at"]
    assert [re.split(r"\s{2,}", line) for line in lines] == [list(row) for row in caught.value.rows]
    assert len({line.index(str(HERE)) for line in lines}) == 1  # columns stand below each other


def test_a_task_that_could_run_is_shown_as_waiting_for_its_turn() -> None:
    k = kernel()
    ready: Future[None] = Future(Wait("x", "y"))
    k.start(wait_for(ready), rank=0, name="a")
    assert k.waits_for(0) == {"x"} and k.waits_for(1) == set()
    ready.set(None)
    assert k.waits_for(0) == {"turn"}


def test_cancel_all_closes_every_coroutine_and_none_goes_on() -> None:
    k, log = kernel(), []

    async def work(name: str) -> None:
        try:
            await k.sleep(1.0, Wait("nap"))
            log.append(f"{name} went on")
        finally:
            log.append(f"{name} closed")

    tasks = [k.start(work(name), rank=rank, name=name) for rank, name in enumerate("ab")]
    k.cancel_all()
    assert log == ["a closed", "b closed"] and (k.alive(0), k.alive(1)) == (0, 0)
    run_all(k)  # the naps end, and nobody is there
    assert log == ["a closed", "b closed"] and not any(task.done() for task in tasks)


# -- real time ---------------------------------------------------------------------------------------------------------


class Ticking:
    """A clock on which an idle turn takes a second."""

    def __init__(self) -> None:
        self.t = 0.0

    def now(self) -> float:
        return self.t

    def idle(self, until: float | None, turns: int) -> bool:
        self.t += 1.0
        return True


def test_a_rank_that_waits_too_long_is_shown_with_its_place() -> None:
    k = Kernel(Ticking(), timeout_s=5.0)
    k.start(wait_for(Future(Wait("request", "gossip", 2))), rank=1, name="main")
    with pytest.raises(Stuck, match=r"^time-out: no progress for 5 s\n") as caught:
        k.run(lambda: False)
    ((rank, what, label, peer, place),) = caught.value.rows
    assert (rank, what, label, peer) == ("1", "request", "gossip", "2") and place.startswith(f"{HERE}:")
    assert k.now() == 6.0  # the first second beyond


def test_progress_starts_the_time_out_afresh() -> None:
    k = Kernel(Ticking(), timeout_s=5.0)
    news = [4.0, 8.0]

    def poll() -> bool:
        if news and k.now() >= news[0]:
            news.pop(0)
            return True
        return False

    k.add_poller(poll)
    with pytest.raises(Stuck, match="time-out"):
        k.run(lambda: False)
    assert k.now() == 8.0 + 6.0


def test_every_poller_is_asked_in_every_turn() -> None:
    k = Kernel(Ticking())
    asked: list[str] = []
    k.add_poller(lambda: asked.append("a") is not None)
    k.add_poller(lambda: asked.append("b") is not None)
    k.run(lambda: len(asked) >= 6)
    assert asked == ["a", "b"] * 3


class Sleeps:
    """Stands in for the event that the wall clock sleeps on."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def wait(self, pause: float) -> None:
        self.pauses.append(pause)

    def clear(self) -> None:
        pass


@pytest.mark.parametrize("longest", [1e-3, 5e-4])
def test_the_wall_clock_backs_off_within_bounds(monkeypatch: pytest.MonkeyPatch, longest: float) -> None:
    clock, sleeps, yields = WallClock(longest_sleep_s=longest), Sleeps(), []
    monkeypatch.setattr(clock, "_woken", sleeps)
    monkeypatch.setattr(clocks.time, "sleep", yields.append)
    for turn in range(40):
        assert clock.idle(None, turn)
    assert yields == [0] * 4  # at first only the core is offered to others
    waited = 0.0
    for pause in sleeps.pauses:
        assert 0 < pause <= min(longest, waited + 1e-5 + 1e-12)  # late by at most as long as it was waited for
        waited += pause
    assert sleeps.pauses == sorted(sleeps.pauses) and sleeps.pauses[-1] == longest


def test_the_wall_clock_does_not_sleep_past_the_next_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sleeps = WallClock(longest_sleep_s=1.0), Sleeps()
    monkeypatch.setattr(clock, "_woken", sleeps)
    monkeypatch.setattr(clock, "now", lambda: 10.0)
    for until in (10.0 + 1e-6, 10.0, 9.0):
        clock.idle(until, 20)
    assert sleeps.pauses == pytest.approx([1e-6, 0.0, 0.0], abs=1e-12)


def test_spinning_never_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, sleeps, yields = WallClock(spin=True), Sleeps(), []
    monkeypatch.setattr(clock, "_woken", sleeps)
    monkeypatch.setattr(clocks.time, "sleep", yields.append)
    assert all(clock.idle(None, turn) for turn in range(40))
    assert sleeps.pauses == [] and yields == []


def test_waking_ends_one_sleep() -> None:
    clock = WallClock()
    clock.wake()
    assert clock._woken.is_set()
    clock.idle(None, 20)
    assert not clock._woken.is_set()


def test_wall_time_counts_from_the_common_start_and_only_upwards() -> None:
    clock = WallClock()
    seen = [clock.now() for _ in range(1000)]
    assert seen == sorted(seen) and seen[0] >= 0
    clock.restart(time.perf_counter_ns() + 10**12)
    assert -1000 <= clock.now() < -900  # the start may lie ahead


def test_virtual_time_moves_only_to_the_next_timer() -> None:
    clock = VirtualClock()
    assert not clock.idle(None, 0)  # nothing can ever happen again
    assert clock.idle(2.5, 0) and clock.now() == 2.5
    assert clock.idle(2.5, 1) and clock.now() == 2.5
    with pytest.raises(AssertionError, match="backwards"):
        clock.idle(2.0, 2)
