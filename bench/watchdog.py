"""Finds out that a rank waits too long, asks all ranks what they wait for, and brings the run down with a table.

A thread of its own, because the main thread may be blocked in a collective that never ends. It talks to the other
ranks' watchdogs through a channel (bench/transports/mpi_world.py), so that the table shows all ranks and not only this
one.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

from bench.kernel import Kernel, Wait, table

Rows = list[tuple[str, ...]]


class Channel(Protocol):
    """Talk between watchdogs, apart from the run's own traffic."""

    def question(self) -> int | None:
        """The rank that asks us, if any."""
        ...

    def answer(self, asker: int, rows: Rows, busy: bool) -> None:
        """Tell what this rank waits for, and whether it computes."""
        ...

    def ask_all(self, seconds: float, own: Rows) -> list[tuple[Rows, bool] | None]:
        """Ask all other ranks; None for those that did not answer in time. Own rank: None. `own`: answer to those who
        ask us meanwhile."""
        ...


class Watched(Protocol):
    """What the watchdog looks at."""

    rank: int
    kernel: Kernel
    computing: bool
    blocking: Wait | None


class Watchdog:
    """Args:
    fail: called once, in the watchdog's thread, with the reason and the table; it must end the process group.
    """

    def __init__(
        self, watched: Watched, channel: Channel | None, timeout_s: float, fail: Callable[[str], None]
    ) -> None:
        self._watched, self._channel, self._timeout_s, self._fail = watched, channel, timeout_s, fail
        self._patience_s = timeout_s + min(0.3 * watched.rank, 3.0)  # so that one rank cries first
        self._main = threading.main_thread().ident
        self._stop = threading.Event()
        self._since = time.monotonic()
        self._seen = -1.0
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; no rank may ask any more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.25):
            if self._channel is not None and (asker := self._channel.question()) is not None:
                self._channel.answer(asker, self.rows(), self._watched.computing)
            progress = self._watched.kernel.progress_at
            if progress != self._seen or self._watched.computing:
                self._seen, self._since = progress, time.monotonic()
            elif time.monotonic() - self._since > self._patience_s:
                self._cry()

    def _cry(self) -> None:
        rows = self.rows()
        answers = self._channel.ask_all(2.0, rows) if self._channel is not None else []
        if any(answer is not None and answer[1] for answer in answers):
            self._since = time.monotonic()  # somebody computes, so what we wait for may still come
            return
        for rank, answer in enumerate(answers):
            if answer is not None:
                rows += answer[0]
            elif rank != self._watched.rank:
                rows.append((str(rank), "no answer", "", "", ""))
        rows.sort(key=lambda row: int(row[0]))
        self._stop.set()
        self._fail(f"time-out: no progress for {self._timeout_s:g} s\n{table(rows)}")

    def rows(self) -> Rows:
        """What this rank waits for."""
        blocking = self._watched.blocking
        if blocking is not None:
            return [(str(self._watched.rank), blocking.what, blocking.label, "all", self._main_place())]
        for _ in range(10):
            try:
                waiting = self._watched.kernel.rows()
                return waiting or [(str(self._watched.rank), "nothing: it has ended", "", "", "")]
            except RuntimeError:  # the main thread changed its tasks while we looked
                time.sleep(0.01)
        return []

    def _main_place(self) -> str:
        """file:line of the innermost frame of the main thread that is not Paceline's own machinery."""
        frame = sys._current_frames().get(self._main or 0)
        first = frame
        while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("bench", "mpi4py"):
            frame = frame.f_back
        frame = frame or first
        return "" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
