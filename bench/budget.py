"""When a run ends, and when snapshots are taken.

"100 steps per rank" makes asynchronous results meaningless: ranks that finish early freeze while the rest drift. So
budgets are seconds (virtual or wall). Lock-step algorithms turn them into a step count that all workers agree on, and
only they accept a budget in steps.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum

AGREE_S = 5.0
"""Where workers in lock-step may be interrupted, they begin to agree this often on whether to go on, and know it as
much later: nobody waits who is not that far ahead. A wish to stop is obeyed after at most three times as long: until it
is brought, until all know it, and what the one who brings it is ahead by."""

LONG_STEP_S = 15.0
"""After steps longer than this they meet each time: three more would be half of what they are given to stop in."""

LOOK_S = 0.25
"""Other workers look as often for whether they are to stop."""


class Word(IntEnum):
    """What is said of a run at a step boundary; true unless it goes on."""

    GO_ON = 0
    OVER = 1  # the budget is spent
    INTERRUPTED = 2  # the run stops here and goes on from here another time


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Exactly one of `seconds` and `steps`; `snapshots` planned times after the start, evenly spaced, the last at the
    end."""

    seconds: float | None = None
    steps: int | None = None
    snapshots: int = 10

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.steps is None):
            raise ValueError(f"budget needs either seconds or steps: got seconds={self.seconds}, steps={self.steps}")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ValueError(f"budget.seconds must be > 0: got {self.seconds}")
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"budget.steps must be at least 1: got {self.steps}")
        if not 1 <= self.snapshots <= 1000:
            raise ValueError(f"budget.snapshots must lie in 1..1000: got {self.snapshots}")


class Plan:
    """What one worker does at its step boundaries: which snapshots are due, and whether the run ends here.

    Args:
        lockstep: all workers follow the same step counts.
        agree: largest value over the workers, a rendezvous that begins when this is called and ends when its result is
            awaited; told this worker's value, and whether the result is awaited at once.
        first_snapshot: number of the first planned snapshot that has not been taken in an earlier segment.
        asked: whether this worker has been asked to stop; None where nobody asks.
    """

    def __init__(
        self,
        budget: Budget,
        lockstep: bool,
        agree: Callable[[float, bool], Awaitable[float]],
        first_snapshot: int = 0,
        asked: Callable[[], bool] | None = None,
    ) -> None:
        self._budget, self._lockstep, self._agree, self._asked = budget, lockstep, agree, asked
        self._total = float(budget.seconds or budget.steps or 0)
        self.told = False  # to stop, by another worker
        # Lock-step: the step count at which the workers meet next, each waiting for all others; and the one, before it,
        # at which they read what they began to agree on earlier: after how many steps, and the result.
        self.meet_at = 0
        self._read_at = math.inf
        self._begun: tuple[int, Awaitable[float]] | None = None
        self._since: int | None = None  # the step count from which on this plan has had its workers agree
        self.snapshot = first_snapshot  # the next planned snapshot
        # Nothing is due before so many steps, or seconds if `by_time`: most steps need not ask `due`.
        self.quiet_until = -math.inf
        self.by_time = not lockstep and (budget.seconds is not None or asked is not None)

    def stop(self) -> None:
        """Another worker has been asked to stop: this one ends at its next boundary."""
        self.told, self.quiet_until = True, -math.inf

    async def due(self, done: int, now_s: float) -> tuple[list[int], Word]:
        """After `done` steps at `now_s`: numbers of the snapshots to take now, and whether the run ends here."""
        if not self._lockstep:
            return self._alone(done, now_s)
        if self._budget.steps is not None:
            return await self._together_in_steps(done, now_s)
        heard = await self._hear(done, now_s)
        if heard is None:
            self.quiet_until = min(self.meet_at, self._read_at)
            return [], Word.GO_ON
        # All workers take the slowest one's clock, so they draw the same conclusions. Half a step is the rounding of a
        # time to a step count.
        at, elapsed_s = heard
        if elapsed_s == math.inf:
            return [], Word.INTERRUPTED
        if done == 0:
            self.meet_at = self.quiet_until = 2  # the first estimate of a step's duration
            return self._due(0.0, 0.0)
        step_s = max(elapsed_s / at, 1e-9)
        found = self._due(elapsed_s, step_s / 2) if at == done else ([], Word.GO_ON)
        next_s = self._total * self.snapshot / self._budget.snapshots - elapsed_s
        self.meet_at = max(at + round(next_s / step_s), done + 1)
        if found[1] is Word.GO_ON:
            self._begin(done, now_s, step_s)
        self.quiet_until = min(self.meet_at, self._read_at)
        return found

    async def _together_in_steps(self, done: int, now_s: float) -> tuple[list[int], Word]:
        if self._asked is None:
            found = self._due(done, 0.0)
            self.quiet_until = self._next()
            return found
        heard = await self._hear(done, now_s) if done < self._total else None  # the end needs no meeting
        if heard is not None:
            at, elapsed_s = heard
            if elapsed_s == math.inf:
                return [], Word.INTERRUPTED
            self.meet_at = 2 if done == 0 else int(self._total)
            if done:
                self._begin(done, now_s, elapsed_s / at)
        found = self._due(done, 0.0)
        self.quiet_until = min(self._next(), self.meet_at, self._read_at)
        return found

    async def _hear(self, done: int, now_s: float) -> tuple[int, float] | None:
        """What the workers know here of their clocks: after how many steps, and the slowest one's then; infinite if one
        of them had been asked to stop. None where they neither meet nor read."""
        if done >= self.meet_at:
            return done, await self._agree(self._brought(now_s), True)
        if self._begun is not None and done >= self._read_at:
            at, agreed = self._begun
            self._begun, self._read_at = None, math.inf
            return at, await agreed
        return None

    def _begin(self, done: int, now_s: float, step_s: float) -> None:
        """Begin to agree on whether to go on.

        What is begun is read before the next meeting and the end: so the workers are in one order of agreements, and
        nothing is under way when a segment ends. All here follows from numbers that they have agreed on.
        """
        if self._asked is None:
            return
        if step_s > LONG_STEP_S:
            self.meet_at = done + 1
            return
        # Steps so far may say little of those that follow, those before an interruption still less: the distance is at
        # most what has been done since.
        self._since = done if self._since is None else self._since
        read_at = done + max(1, min(round(AGREE_S / max(step_s, 1e-9)), done - self._since))
        if read_at < self.meet_at:
            self._begun, self._read_at = (done, self._agree(self._brought(now_s), False)), read_at

    def _alone(self, done: int, now_s: float) -> tuple[list[int], Word]:
        if self.told or (self._asked is not None and self._asked()):
            return [], Word.INTERRUPTED
        found = self._due(now_s if self._budget.seconds is not None else done, 0.0)
        if self._asked is None:
            self.quiet_until = self._next()
        elif self._budget.seconds is not None:
            self.quiet_until = min(self._next(), now_s + LOOK_S)
        return found

    def _brought(self, now_s: float) -> float:
        """What this worker brings to an agreement: its clock, or infinity if it has been asked to stop."""
        return math.inf if self._asked is not None and self._asked() else now_s

    def _next(self) -> float:
        """When the next snapshot is due, or the budget spent."""
        return self._total * min(self.snapshot / self._budget.snapshots, 1.0)

    def _due(self, spent: float, slack: float) -> tuple[list[int], Word]:
        over = spent + slack >= self._total
        due = []
        while self.snapshot <= self._budget.snapshots and (
            over or spent + slack >= self._total * self.snapshot / self._budget.snapshots
        ):
            due.append(self.snapshot)
            self.snapshot += 1
        return due, Word.OVER if over else Word.GO_ON

    def rest(self) -> list[int]:
        """The snapshots that have not been taken, because others ended the run; now they are."""
        rest = list(range(self.snapshot, self._budget.snapshots + 1))
        self.snapshot = self._budget.snapshots + 1
        return rest
