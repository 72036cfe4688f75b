"""A scheduler's wish that we stop: a signal sets a flag, and whoever may stop looks at it.

Nothing else is done inside the signal handler.
"""

from __future__ import annotations

import signal
from types import FrameType

EXIT_CODE = 85
"""Of a command that was interrupted and goes on when it is given again: the batch script requeues its job then."""

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)
"""What schedulers send before a time limit (as asked for with --signal) and before preemption."""


class Interrupted(Exception):
    """The work was interrupted by a signal; what is complete by then stays."""


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


ASKED = Flag()
"""This process's."""
