"""A scheduler's wish that we stop: a signal sets a flag, and whoever may stop looks at it.

Nothing else is done inside the signal handler. Not every launcher hands signals on to the ranks, so the supervisor
leaves them a file, for which rank 0 looks; a rank that is sent the signal itself counts as well.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

from bench.budget import LOOK_S

EXIT_CODE = 85
"""Of a command that was interrupted and goes on when it is given again: the batch script requeues its job then."""

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
"""What schedulers send before a time limit (as asked for with --signal) and before preemption."""


GRACE_S = 90.0
"""What ranks are given to save their state before the supervisor ends them: less than batch scripts are warned by."""


class Interrupted(Exception):
    """The work was interrupted; what is complete by then stays, and so does the state of a run under way."""


class Flag:
    """Set by a signal, never cleared."""

    def __init__(self) -> None:
        self.signal = 0

    def install(self) -> None:
        """Have the signals set this flag from now on; in the main thread only."""
        for number in SIGNALS:
            signal.signal(number, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    @property
    def is_set(self) -> bool:
        """Whether a signal has come."""
        return self.signal != 0

    @property
    def name(self) -> str:
        """Of the signal that came."""
        return signal.Signals(self.signal).name

    def obey(self) -> None:
        """Where work may stop.

        Raises:
            Interrupted: a signal has come.
        """
        if self.is_set:
            raise Interrupted(self.name)


ASKED = Flag()
"""This process's."""


class Wish:
    """Whether this process is wished to stop: it was sent a signal, or a file has been left.

    Args:
        file: looked for at most a few times a second; None where only the signal counts.
    """

    def __init__(self, file: Path | None = None, flag: Flag = ASKED) -> None:
        self._file, self._flag = file, flag
        self._next, self._found = 0.0, False

    def __call__(self) -> bool:
        if self._flag.is_set or self._found:
            return True
        if self._file is not None and (now := time.monotonic()) >= self._next:
            self._next = now + LOOK_S
            self._found = self._file.exists()
        return self._found


def wish_file(runs: Path) -> Path:
    """Where the supervisor leaves its wish, for the session that was given this file of run ids."""
    return runs.with_suffix(".stop")
