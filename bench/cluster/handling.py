"""What a message costs the processor that takes it, when that looks for it, and what a sender may send."""

from __future__ import annotations

import math
from dataclasses import dataclass

FIRST_NAP_S = 1e-5
"""Between the first looks of a rank that waits; each nap is twice the one before (`bench.clock.WallClock`)."""


@dataclass(frozen=True, kw_only=True)
class Handling:
    """A rank's own part in a message.

    A rank that waits looks for messages, and naps between two looks: 10 us, 20 us, and so on up to `nap_s`, counted
    from when it last had something to do. So a message is noticed late, by at most about as long as was waited for it.

    Attributes:
        message_s, byte_s: processor time of taking one message, and each byte of it, and of doing with it what is to be
            done; one after the other.
        wake_s: by which a message is taken later when the rank had napped and computed nothing: waking up, not work.
        look_s: what each nap takes longer than it should: the timer, waking up, and looking.
        nap_s: longest nap; 0 = messages are noticed at once.
    """

    message_s: float = 0.0
    byte_s: float = 0.0
    wake_s: float = 0.0
    look_s: float = 0.0
    nap_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("message_s", "byte_s", "wake_s", "look_s", "nap_s"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be a finite time >= 0: got {value}")
        if (self.look_s or self.wake_s) and not self.nap_s:
            raise ValueError(
                f"look_s and wake_s need nap_s > 0, the longest nap: got look_s={self.look_s}, wake_s={self.wake_s}"
            )

    def taking_s(self, nbytes: float) -> float:
        """Processor time of taking a message of `nbytes` [s]."""
        return self.message_s + nbytes * self.byte_s

    def noticed_s(self, idle_s: float, at_s: float) -> float:
        """When a rank that has had nothing to do since `idle_s` notices what comes at `at_s` [s].

        Example:
            Looks at 0, 10, 30, 70, 110, 150 us, when naps are at most 40 us:

            >>> handling = Handling(nap_s=40e-6)
            >>> [round(1e6 * handling.noticed_s(0.0, 1e-6 * at)) for at in (0, 1, 10, 11, 69, 71, 149)]
            [0, 10, 10, 30, 70, 110, 150]
        """
        if not self.nap_s or at_s <= idle_s:
            return at_s
        waited_s = (at_s - idle_s) * (1 - 1e-12)  # a look at the very moment sees it
        nap_s, look_s = min(FIRST_NAP_S, self.nap_s), 0.0
        while look_s < waited_s:
            if nap_s == self.nap_s:  # from here on evenly
                every_s = nap_s + self.look_s
                return idle_s + look_s + every_s * math.ceil((waited_s - look_s) / every_s)
            look_s += nap_s + self.look_s
            nap_s = min(2 * nap_s, self.nap_s)
        return idle_s + look_s

    def seen_s(self, idle_s: float, at_s: float) -> float:
        """The same, and awake [s]."""
        noticed_s = self.noticed_s(idle_s, at_s)
        return noticed_s + (self.wake_s if noticed_s > at_s else 0.0)


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A token bucket that all that a rank sends passes, as `rate_Gbit_per_s` puts in front of MPI.

    All-reduces are then rings of messages, as they are there.

    Attributes:
        rate_Gbit_per_s: of each rank.
        burst_nbytes: what may leave at once after a pause.
    """

    rate_Gbit_per_s: float
    burst_nbytes: int = 16 << 10

    def __post_init__(self) -> None:
        if not 0 < self.rate_Gbit_per_s < math.inf:
            raise ValueError(f"rate_Gbit_per_s must be > 0 and finite: got {self.rate_Gbit_per_s}")
        if self.burst_nbytes < 0:
            raise ValueError(f"burst_nbytes must be >= 0: got {self.burst_nbytes}")

    @property
    def rate_Bps(self) -> float:
        """The rate [byte/s]."""
        return self.rate_Gbit_per_s * 1e9 / 8

    def leaves_s(self, free_s: float, now_s: float, nbytes: int) -> float:
        """When the last of `nbytes` that are posted now has passed, if all before have at `free_s` [s].

        What lies in the past leaves at once; the value is what to give as `free_s` next time.

        Example:
            >>> limit = Limit(rate_Gbit_per_s=8e-9, burst_nbytes=2)  # 1 byte/s
            >>> first = limit.leaves_s(float("-inf"), 10.0, 2)
            >>> first, limit.leaves_s(first, 10.0, 3)
            (10.0, 13.0)
        """
        return max(free_s, now_s - self.burst_nbytes / self.rate_Bps) + nbytes / self.rate_Bps
