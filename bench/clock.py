"""Clocks: what the kernel asks for the time, and how it lets time pass when nothing can run.

The virtual clock jumps to the next event; the wall clock sleeps, longer and longer, because ranks are often
oversubscribed.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Time in seconds since the common start of the run."""

    def now(self) -> float: ...

    def idle(self, until: float | None, turns: int) -> bool:
        """Let time pass; `until` is when the next timer is due, `turns` counts idle turns in a row.

        Returns:
            False if nothing can ever happen again (virtual clock without timers).
        """
        ...


class VirtualClock:
    """Time that moves only when nothing can run at the present instant; it begins at 0."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def idle(self, until: float | None, turns: int) -> bool:
        if until is None:
            return False
        self.jump(until)
        return True

    def jump(self, to_s: float) -> None:
        """Let time pass at once."""
        assert to_s >= self._now, "time cannot go backwards"
        self._now = to_s


class WallClock:
    """Real time (perf_counter_ns), minus the common start and this rank's clock offset.

    Args:
        spin: never sleep while waiting; for ranks that have a core of their own.
        longest_sleep_s: bound of the back-off. Pauses double, so that a message is noticed late by at most about as
        long
            as it was waited for, and never by more than this.
    """

    def __init__(self, *, spin: bool = False, longest_sleep_s: float = 1e-3) -> None:
        self._origin_ns = time.perf_counter_ns()
        self._spin = spin
        self._longest_s = longest_sleep_s
        self._woken = threading.Event()

    def now(self) -> float:
        return (time.perf_counter_ns() - self._origin_ns) * 1e-9

    def restart(self, origin_ns: int) -> None:
        """Set the common start, in this rank's perf_counter_ns."""
        self._origin_ns = origin_ns

    def wake(self) -> None:
        """End the present sleep (called by a helper thread that has finished)."""
        self._woken.set()

    def idle(self, until: float | None, turns: int) -> bool:
        if self._spin:
            return True
        if turns < 4:
            time.sleep(0)  # give the core to another rank, and the GIL to our own helper thread
            return True
        pause = min(1e-5 * 2 ** min(turns - 4, 10), self._longest_s)
        if until is not None:
            pause = min(pause, max(until - self.now(), 0.0))
        self._woken.wait(pause)
        self._woken.clear()
        return True
