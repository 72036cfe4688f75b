"""Runs coroutines on a clock. Knows neither MPI nor torch; one kernel serves one MPI rank or all simulated ranks.

Everything that will happen is an entry (time, order, call, arguments) in one heap; what is to happen at once goes to a
queue beside it, which costs less. Ties are broken by `order`, a serial number in the order of entry, over heap and
queue together, unless a generator is given: then it is random, so that a test can try many schedules, all reproducible.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from functools import partial
from heapq import heappop, heappush
from itertools import count
from types import CoroutineType
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from bench.clock import Clock

T = TypeVar("T")


class Stuck(Exception):
    """No rank can go on (deadlock), or a rank waited too long (time-out). `rows` says who waits for what."""

    def __init__(self, reason: str, rows: list[tuple[str, ...]]) -> None:
        super().__init__(f"{reason}\n{table(rows)}")
        self.reason, self.rows = reason, rows


class TaskFailed(Exception):
    """A rank's coroutine raised; the cause is chained."""

    def __init__(self, rank: int, cause: BaseException) -> None:
        super().__init__(f"rank {rank}: {type(cause).__name__}: {cause}")
        self.rank = rank


class Wait(NamedTuple):
    """What somebody waits for, in words for tables and event rows."""

    what: str  # recv | request | allreduce | gradient | ...
    label: str = ""
    peer: int = -1


class Future(Generic[T]):
    """A value that will be there later."""

    __slots__ = ("_callbacks", "_done", "_error", "_value", "retrieved", "wait")

    def __init__(self, wait: Wait) -> None:
        self.wait = wait
        self.retrieved = False  # whether somebody has taken the result
        self._done = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] | None = None  # most have one, many none

    def done(self) -> bool:
        return self._done

    def set(self, value: T) -> None:
        assert not self._done, "a future is set once"
        self._done, self._value = True, value
        if self._callbacks is not None:
            for call in self._callbacks:
                call()

    def fail(self, error: BaseException) -> None:
        assert not self._done, "a future is set once"
        self._done, self._error = True, error
        if self._callbacks is not None:
            for call in self._callbacks:
                call()

    def then(self, call: Callable[[], None]) -> None:
        """Call when done; at once if it is."""
        if self._done:
            call()
        elif self._callbacks is None:
            self._callbacks = [call]
        else:
            self._callbacks.append(call)

    def result(self) -> T:
        assert self._done
        self.retrieved = True
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def __await__(self) -> Generator[Future[Any], None, T]:
        if not self._done:
            yield self
        return self.result()


class Task(Future[T]):
    """A coroutine under way on a rank; done when it returns."""

    __slots__ = ("beside", "coroutine", "rank", "waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], rank: int, name: str, beside: bool) -> None:
        super().__init__(Wait("task", name))
        self.coroutine, self.rank, self.beside = coroutine, rank, beside
        self.waits_for: Future[Any] | None = None

    def row(self) -> tuple[str, ...]:
        """(rank, what, label, peer, place) of this task, for the table of a deadlock."""
        wait = self.waits_for.wait if self.waits_for is not None else Wait("its turn")
        peer = "any" if wait.peer < 0 else str(wait.peer)
        return (str(self.rank), wait.what, wait.label, peer, place(self.coroutine))


def place(coroutine: Any) -> str:
    """file:line where a suspended coroutine waits: the innermost frame that is not part of `bench`."""
    best = ""
    while isinstance(coroutine, CoroutineType):
        frame = coroutine.cr_frame
        if frame is not None and (not best or not frame.f_globals.get("__name__", "").startswith("bench.")):
            best = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        coroutine = coroutine.cr_await
    return best


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """Rows (rank, what, label, peer, place) as text."""
    lines = [("rank", "waits for", "tag/label", "peer", "at"), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(5)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


class Kernel:
    """The run loop.

    Args:
        clock: wall or virtual.
        ties: shuffles what happens at the same instant; None keeps the order of entry.
        timeout_s: longest time without any progress on a wall clock before `Stuck`; None means no limit.
    """

    def __init__(
        self, clock: Clock, *, ties: np.random.Generator | None = None, timeout_s: float | None = None
    ) -> None:
        self.clock = clock
        self.now = clock.now  # seconds since the common start
        self.timeout_s = timeout_s
        self.progress_at = clock.now()
        self._ties = ties
        # The order of an entry is its serial number; with shuffled ties a random number comes before it.
        self._heap: list[tuple[float, Any, Callable[..., None], tuple[Any, ...]]] = []
        self._at_once: deque[tuple[int, Callable[..., None], tuple[Any, ...]]] = deque()  # empty if ties are shuffled
        self._serial = count()
        self._pollers: list[Callable[[], bool]] = []
        self._tasks: dict[int, dict[Task[Any], None]] = {}  # rank -> those alive, in order of start
        self.current: Task[Any] | None = None  # whose coroutine runs now
        self._failed: tuple[Task[Any], BaseException] | None = None
        self._before: Callable[[float], None] | None = None

    def call_at(self, time_s: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at a time, or as soon as possible if that is past."""
        now_s = self.now()
        if self._ties is not None:
            order = (float(self._ties.random()), next(self._serial))
            heappush(self._heap, (max(time_s, now_s), order, call, arguments))
        elif time_s > now_s:
            heappush(self._heap, (time_s, next(self._serial), call, arguments))
        else:
            self._at_once.append((next(self._serial), call, arguments))

    # -- for pictures of a simulation (bench.transports.cut) ---

    def pending(self) -> list[tuple[float, Any, Callable[..., None], tuple[Any, ...]]]:
        """What is due later: (time, order, call, arguments), by time and order; between two instants that is all."""
        assert not self._at_once
        return sorted(self._heap, key=lambda entry: entry[:2])

    @property
    def shuffles(self) -> bool:
        """Whether simultaneous entries are called in random order."""
        return self._ties is not None

    @property
    def between_instants(self) -> bool:
        """Whether nothing more is due now."""
        return not self._at_once and not (self._heap and self._heap[0][0] <= self.now())

    def put(self, time_s: float, order: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call at a time, in an order of the caller's."""
        heappush(self._heap, (time_s, order, call, arguments))

    def counted(self) -> int:
        """The serial number of the next entry."""
        number = next(self._serial)
        self.count_from(number)
        return number

    def count_from(self, number: int) -> None:
        """Have the next entry take this serial number."""
        self._serial = count(number)

    def tell(self, before: Callable[[float], None] | None) -> None:
        """From the next instant on have `before` told the order of each entry before its call is made."""
        self._before = before

    # ---

    def add_poller(self, poll: Callable[[], bool]) -> None:
        """Call `poll` whenever the kernel looks for work; it returns whether anything happened."""
        self._pollers.append(poll)

    def sleep(self, seconds: float, wait: Wait) -> Future[None]:
        """A future that is done `seconds` from now."""
        future: Future[None] = Future(wait)
        self.call_at(self.now() + seconds, future.set, None)
        return future

    def start(self, coroutine: Coroutine[Any, Any, T], *, rank: int, name: str, beside: bool = False) -> Task[T]:
        """Run a coroutine now, up to its first wait; the rest follows as its waits end.

        Args:
            beside: it runs beside the rank's main coroutine, which may go on while it waits.
        """
        task = Task(coroutine, rank, name, beside)
        self._tasks.setdefault(rank, {})[task] = None
        self._step(task)
        return task

    def alive(self, rank: int) -> int:
        """Number of unfinished tasks on a rank."""
        return len(self._tasks.get(rank, ()))

    def waits_for(self, rank: int) -> set[str]:
        """What the unfinished tasks of a rank wait for; "turn" if one could run now."""
        return {
            "turn" if task.waits_for is None or task.waits_for.done() else task.waits_for.wait.what
            for task in self._tasks.get(rank, ())
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Who waits for what, a row per unfinished task, by rank."""
        return [task.row() for rank in sorted(self._tasks) for task in self._tasks[rank]]

    def run(self, until: Callable[[], bool]) -> None:
        """Run until `until()` is true.

        Raises:
            TaskFailed: a task raised.
            Stuck: deadlock on a virtual clock, or no progress for `timeout_s` on a wall clock.
        """
        turns = 0
        self.progress_at = self.now()
        while not until():
            progressed = self._fire_due()
            for poll in self._pollers:
                progressed |= poll()
            if self._failed is not None:
                task, error = self._failed
                raise TaskFailed(task.rank, error) from error
            if progressed:
                turns = 0
                self.progress_at = self.now()
                if self._pollers or until():
                    continue
            if not self.clock.idle(self._heap[0][0] if self._heap else None, turns):
                raise Stuck("deadlock: every rank waits and nothing is under way", self.rows())
            turns += 1
            if self.timeout_s is not None and turns > 1 and self.now() - self.progress_at > self.timeout_s:
                raise Stuck(f"time-out: no progress for {self.timeout_s:g} s", self.rows())

    def cancel_all(self) -> None:
        """Close every unfinished task."""
        for tasks in list(self._tasks.values()):
            for task in list(tasks):
                task.coroutine.close()
        self._tasks.clear()

    def _fire_due(self) -> bool:
        """Make the calls that are due, and those that become so by that; whether there were any."""
        heap, at_once, now_s, before = self._heap, self._at_once, self.now(), self._before
        fired = False
        while self._failed is None:
            if heap and heap[0][0] <= now_s and not (at_once and at_once[0][0] < heap[0][1]):
                _, order, call, arguments = heappop(heap)
            elif at_once:
                order, call, arguments = at_once.popleft()
            else:
                break
            if before is not None:
                before(order)
            call(*arguments)
            fired = True
        return fired

    def _step(self, task: Task[Any]) -> None:
        task.waits_for = None
        outer, self.current = self.current, task  # a coroutine may start another one
        try:
            future = task.coroutine.send(None)
        except StopIteration as stop:
            del self._tasks[task.rank][task]
            task.set(stop.value)
        except BaseException as error:
            # A rank that raises ends the run (rule 11): the first error wins, and nobody goes on from half a state.
            del self._tasks[task.rank][task]
            if self._failed is None:
                self._failed = (task, error)
            if not isinstance(error, Exception):
                raise
        else:
            assert isinstance(future, Future), f"a coroutine may only await Paceline's own awaitables: got {future!r}"
            task.waits_for = future
            future.then(partial(self._wake, task))
        finally:
            self.current = outer

    def _wake(self, task: Task[Any]) -> None:
        self.call_at(-math.inf, self._resume, task)

    def _resume(self, task: Task[Any]) -> None:
        if task in self._tasks.get(task.rank, ()):
            self._step(task)


async def gather(futures: Iterable[Awaitable[T]]) -> list[T]:
    """Await all, in order."""
    return [await future for future in futures]
