"""When a run ends, and when snapshots are taken.

"100 steps per rank" makes asynchronous results meaningless: ranks that finish early freeze while the rest drift. So
budgets are seconds (virtual or wall). Lock-step algorithms turn them into a step count that all workers agree on, and
only they accept a budget in steps.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


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
    """What one worker does at its step boundaries: which snapshots are due, and whether the run is over.

    Args:
        lockstep: all workers follow the same step counts.
        agree: largest value over the workers (a rendezvous).
        first_snapshot: number of the first planned snapshot that has not been taken in an earlier segment.
    """

    def __init__(
        self, budget: Budget, lockstep: bool, agree: Callable[[float], Awaitable[float]], first_snapshot: int = 0
    ) -> None:
        self._budget, self._lockstep, self._agree = budget, lockstep, agree
        self._meet_at = 0  # lock-step: the step count at which the workers meet next
        self._snapshot = first_snapshot  # the next planned snapshot
        # Nothing is due before so many steps, or seconds if `by_time`: most steps need not ask `due`.
        self.quiet_until = -math.inf
        self.by_time = budget.seconds is not None and not lockstep

    async def due(self, done: int, now_s: float) -> tuple[list[int], bool]:
        """After `done` steps at `now_s`: numbers of the snapshots to take now, and whether the budget is spent."""
        if self._budget.steps is not None:
            found = self._due(done, self._budget.steps, 0.0)
            self.quiet_until = self._next(self._budget.steps)
            return found
        assert self._budget.seconds is not None
        if not self._lockstep:
            found = self._due(now_s, self._budget.seconds, 0.0)
            self.quiet_until = self._next(self._budget.seconds)
            return found
        if done < self._meet_at:
            return [], False
        # All workers take the slowest one's clock, so they draw the same conclusions. Half a step is the rounding of a
        # time to a step count.
        elapsed_s = await self._agree(now_s)
        if done == 0:
            self._meet_at = self.quiet_until = 2  # the first estimate of a step's duration
            return self._due(0.0, self._budget.seconds, 0.0)
        step_s = max(elapsed_s / done, 1e-9)
        snapshots, over = self._due(elapsed_s, self._budget.seconds, step_s / 2)
        next_s = self._budget.seconds * self._snapshot / self._budget.snapshots
        self._meet_at = self.quiet_until = done + max(1, round((next_s - elapsed_s) / step_s))
        return snapshots, over

    def _next(self, budget: float) -> float:
        """When the next snapshot is due, or the budget spent."""
        return budget * min(self._snapshot / self._budget.snapshots, 1.0)

    def _due(self, spent: float, budget: float, slack: float) -> tuple[list[int], bool]:
        over = spent + slack >= budget
        due = []
        while self._snapshot <= self._budget.snapshots and (
            over or spent + slack >= budget * self._snapshot / self._budget.snapshots
        ):
            due.append(self._snapshot)
            self._snapshot += 1
        return due, over

    def rest(self) -> list[int]:
        """The snapshots that have not been taken, because others ended the run; now they are."""
        rest = list(range(self._snapshot, self._budget.snapshots + 1))
        self._snapshot = self._budget.snapshots + 1
        return rest
