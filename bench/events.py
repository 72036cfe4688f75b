"""One rank's rows of the events table: kept in memory, written to disk outside the timed region."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.records import EVENTS, write_table

# One row without run_id and rank, in the order of the table.
Row = tuple[str, int, float, float, int, int, int, str, int, int, int, float, float, int]

NAN = float("nan")


class Recorder:
    """A buffer of fixed capacity. Rows that do not fit are counted, and fail the run.

    Args:
        now: the run's clock [s].
        capacity: rows kept in memory before they must be spilled.
    """

    def __init__(self, run_id: str, rank: int, now: Callable[[], float], *, capacity: int = 1 << 18) -> None:
        self.run_id, self.rank, self.now = run_id, rank, now
        self.nbytes = 0  # payload asked to move so far
        self.wire_nbytes = 0
        self.messages = 0  # point-to-point messages sent
        self.mailbox_depth_max = 0
        self.first_bad_loss_s = NAN
        self.dropped = 0
        self._rows: list[Row | None] = [None] * capacity
        self._used = 0
        self._parts = 0

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
        version_read: int = -1,
        version_applied: int = -1,
        staleness: int = -1,
        loss: float = NAN,
        device_s: float = NAN,
        mailbox_depth: int = -1,
    ) -> None:
        """Append a row; see `bench.records.EVENTS` for what the columns mean."""
        if kind != "recv":
            self.nbytes += nbytes
            self.wire_nbytes += wire_nbytes
        if self._used == len(self._rows):
            self.dropped += 1
            return
        self._rows[self._used] = (
            kind, step, t0_s, t1_s, nbytes, wire_nbytes, peer, label,
            version_read, version_applied, staleness, loss, device_s, mailbox_depth,
        )  # fmt: skip
        self._used += 1

    @property
    def nearly_full(self) -> bool:
        """Time to spill at the next step boundary."""
        return self._used > 0.75 * len(self._rows)

    def spill(self, folder: Path) -> None:
        """Write the rows so far as the next part file and empty the buffer."""
        rows = self._rows[: self._used]
        if not rows and self._parts:
            return
        values: dict[str, Any] = {"run_id": [self.run_id] * len(rows), "rank": [self.rank] * len(rows)}
        names = [c.name for c in EVENTS.columns][2:]
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        values.update({name: list(column) for name, column in zip(names, columns, strict=True)})
        write_table(EVENTS, values, folder / f"events-r{self.rank}-p{self._parts}.parquet")
        self._parts += 1
        self._used = 0

    def rows(self) -> list[Row]:
        """The rows still in memory (for tests and checks)."""
        return [row for row in self._rows[: self._used] if row is not None]
