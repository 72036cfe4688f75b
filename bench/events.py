"""Rows of the events table: kept in memory, written to disk outside the timed region.

All ranks of a process write to one log, in the order of what they tell, so that a simulation of thousands of ranks
needs neither thousands of buffers nor thousands of files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.records import EVENTS, write_table

# One row without run_id, in the order of the table: rank, kind, step, t0_s, t1_s, nbytes, wire_nbytes, peer, label,
# version_read, version_applied, staleness_updates, loss, device_s, mailbox_depth.
Row = tuple[int, str, int, float, float, int, int, int, str, int, int, int, float, float, int]

NAN = float("nan")

TURNED_AT_ONCE = 512
"""Rows that become columns at once: all at once take six times as long, since they do not fit into a cache."""


class EventLog:
    """A buffer of fixed capacity. Rows that do not fit are counted, and fail the run.

    Args:
        rank: of the process, the first one if it has several; it names the files.
        capacity: rows kept in memory before they must be spilled.
    """

    def __init__(self, run_id: str, rank: int, *, capacity: int = 1 << 18) -> None:
        self.run_id, self.rank, self.capacity = run_id, rank, capacity
        self.spill_at = 0.75 * capacity
        self.dropped = 0
        self.rows: list[Row] = []
        self.parts = 0  # files written so far

    def add(self, row: Row) -> None:
        """Append a row."""
        if len(self.rows) < self.capacity:
            self.rows.append(row)
        else:
            self.dropped += 1

    @property
    def nearly_full(self) -> bool:
        """Time to spill at the next step boundary."""
        return len(self.rows) > self.spill_at

    def spill(self, folder: Path) -> None:
        """Write the rows so far as the next part file and empty the buffer."""
        if not self.rows and self.parts:
            return
        columns: list[list[Any]] = [[] for _ in EVENTS.columns[1:]]
        for lo in range(0, len(self.rows), TURNED_AT_ONCE):
            for column, part in zip(columns, zip(*self.rows[lo : lo + TURNED_AT_ONCE], strict=True), strict=True):
                column.extend(part)
        names = [c.name for c in EVENTS.columns]
        values = dict(zip(names, [[self.run_id] * len(self.rows), *columns], strict=True))
        write_table(EVENTS, values, folder / f"events-r{self.rank}-p{self.parts}.parquet")
        self.parts += 1
        self.rows.clear()


class Recorder:
    """One rank's way into its process's log, and its counts.

    Args:
        now: the run's clock [s].
        capacity: of the log, if the rank has one of its own.
        log: of the process.
    """

    def __init__(
        self, run_id: str, rank: int, now: Callable[[], float], *, capacity: int = 1 << 18, log: EventLog | None = None
    ) -> None:
        self.rank, self.now = rank, now
        self.log = EventLog(run_id, rank, capacity=capacity) if log is None else log
        self.nbytes = 0  # payload asked to move so far
        self.wire_nbytes = 0
        self.messages = 0  # point-to-point messages sent
        self.mailbox_depth_max = 0
        self.first_bad_loss_s = NAN
        self._add = self.log.add

    @property
    def dropped(self) -> int:
        """Rows of the log that did not fit; counted once, by the rank that the log is named after."""
        return self.log.dropped if self.rank == self.log.rank else 0

    # What happens in every step has a method of its own: an argument by name costs as much as the rest.

    def gradient(self, step: int, t0_s: float, t1_s: float, version: int, loss: float, device_s: float) -> None:
        """A gradient was computed."""
        self._add((self.rank, "gradient", step, t0_s, t1_s, 0, 0, -1, "", version, -1, -1, loss, device_s, -1))

    def apply(self, step: int, t0_s: float, t1_s: float, read: int, applied: int) -> None:
        """A gradient that was read at one version was applied to another."""
        self._add((self.rank, "apply", step, t0_s, t1_s, 0, 0, -1, "", read, applied, applied - read, NAN, NAN, -1))

    def send(self, step: int, t0_s: float, t1_s: float, nbytes: int, wire_nbytes: int, dst: int, tag: str) -> None:
        """A message has left."""
        self.nbytes += nbytes
        self.wire_nbytes += wire_nbytes
        self._add((self.rank, "send", step, t0_s, t1_s, nbytes, wire_nbytes, dst, tag, -1, -1, -1, NAN, NAN, -1))

    def recv(self, step: int, t0_s: float, t1_s: float, nbytes: int, src: int, tag: str, depth: int) -> None:
        """A message has arrived; its sender counts its bytes."""
        if depth > self.mailbox_depth_max:
            self.mailbox_depth_max = depth
        self._add((self.rank, "recv", step, t0_s, t1_s, nbytes, 0, src, tag, -1, -1, -1, NAN, NAN, depth))

    def add(
        self,
        kind: str,
        step: int,
        t0_s: float,
        t1_s: float,
        *,
        nbytes: int = 0,
        wire_nbytes: int = 0,
        peer: int = -1,
        label: str = "",
    ) -> None:
        """Any other row; see `bench.records.EVENTS` for what the columns mean."""
        self.nbytes += nbytes
        self.wire_nbytes += wire_nbytes
        self._add((self.rank, kind, step, t0_s, t1_s, nbytes, wire_nbytes, peer, label, -1, -1, -1, NAN, NAN, -1))

    def rows(self) -> list[tuple[Any, ...]]:
        """This rank's rows that are still in memory, without the rank (for tests and checks)."""
        return [row[1:] for row in self.log.rows if row[0] == self.rank]
