"""Simulated runs that last until the target is reached: budgets are doubled, each algorithm's on its own.

A run's budget decides when its model is looked at, so a longer one is a run of its own and takes the place of the
shorter one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bench.lanes import Lanes, only_cell, run
from bench.launch import clock, is_complete

Seen = Literal["there", "not yet", "over"]
"""What a run has shown: the target was reached with time to spare; it was not; it diverged or failed."""

Key = tuple[str, int]
"""Label and seed."""

State = Literal["there", "not within", "over", "stopped"]
"""How the search ended for a label; stopped: the time that was allowed for computing was spent."""

PATIENCE = 10.0
"""Nobody waits longer for an algorithm than this many times the least time that has been found."""

DOUBLINGS = 24


@dataclass
class Search:
    """Runs of several algorithms, as long as each needs.

    Attributes:
        table: (label, seed, seconds) -> table of that one run.
        look: (run id, seconds of its budget) -> what it has shown, and when it was at the target [s].
        first_s: label -> the first budget [virtual s].
        out: results folder.
        most_s: longest budget [virtual s]; None: `patience` times the least time found.
        least_s: that was found before.
        deadline: on `time.monotonic`; nothing is begun that would not be done by then.
        say: told what goes on, in lines.
    """

    table: Callable[[str, int, float], Mapping[str, Any]]
    look: Callable[[str, float], tuple[Seen, float]]
    first_s: Mapping[str, float]
    out: Path
    lanes: Lanes
    deadline: float
    say: Callable[[str], None]
    most_s: float | None = None
    patience: float = PATIENCE
    least_s: float = float("inf")
    at_s: dict[Key, float] = field(default_factory=dict, init=False)  # at the target, by the last run; else infinite
    _took_s: dict[tuple[str, float], float] = field(default_factory=dict, init=False)  # real, by label and budget

    def go(self, labels: Sequence[str], seeds: Sequence[int]) -> dict[str, State]:
        """Run the first seed of every label to the target, then the other seeds of those that got there.

        Returns:
            label -> how it ended; "stopped" also if seeds are missing.
        """
        budget = {label: self._where_it_stood(label, seeds[0]) for label in labels}
        states = self._until({(label, seeds[0]): budget[label] for label in labels}, budget)
        ended = {label: state for (label, _), state in states.items()}
        rest = {
            (label, seed): max(budget[label], self._where_it_stood(label, seed))
            for seed in seeds[1:]
            for label in labels
            if ended[label] == "there"
        }
        for (label, _), state in self._until(rest, {}).items():
            if state == "stopped":
                ended[label] = "stopped"
        return ended

    def _until(self, todo: Mapping[Key, float], longest: dict[str, float]) -> dict[Key, State]:
        """(label, seed) -> how it ended, beginning with these budgets; the last ones are left in `longest`."""
        now, ended = dict(todo), dict[Key, State]()
        while now:
            late = [key for key, seconds in now.items() if not self._in_time(key[0], seconds)]
            ended |= dict.fromkeys(late, "stopped")
            asked = {key: self.table(*key, seconds) for key, seconds in now.items() if key not in late}
            since = time.monotonic()
            self._run(asked, now)
            following: dict[Key, float] = {}
            for key, table in asked.items():
                seconds = now[key]
                longest[key[0]] = seconds
                seen, at_s = self.look(only_cell(table).run_id, seconds)
                self.at_s[key] = at_s
                if seen != "not yet":
                    ended[key] = "there" if seen == "there" else "over"
                else:
                    following[key] = 2 * seconds
            limit_s = self.patience * min([self.least_s, *self.at_s.values()]) if self.most_s is None else self.most_s
            ended |= {key: "not within" for key, seconds in following.items() if seconds / 2 >= limit_s}
            now = {key: seconds for key, seconds in following.items() if key not in ended}
            self._tell(time.monotonic() - since, len(asked), sum(state == "there" for state in ended.values()), now)
        return ended

    def _run(self, asked: Mapping[Key, Mapping[str, Any]], seconds: Mapping[Key, float]) -> None:
        keys = {id(table): key for key, table in asked.items()}
        for (table, _), took_s in self.lanes.work_off(run, [(table, self.out) for table in asked.values()]):
            label, seed = key = keys[id(table)]
            if took_s:
                self._took_s[label, seconds[key]] = took_s
            self._forget_shorter(label, seed, seconds[key])

    def _tell(self, took_s: float, runs: int, there: int, now: Mapping[Key, float]) -> None:
        text = f"  {runs} runs in {took_s:.1f} s; at the target: {there}"
        if now:
            text += f"; on their way: {len(now)}, about {clock(2 * took_s * len(now) / max(runs, 1))} for twice as long"
        self.say(text)

    def _in_time(self, label: str, seconds: float) -> bool:
        """Whether a run would be done before the deadline, going by the label's last one."""
        known = [took_s * seconds / before for (of, before), took_s in self._took_s.items() if of == label]
        return time.monotonic() + max(known[-1:], default=0.0) < self.deadline

    def _where_it_stood(self, label: str, seed: int) -> float:
        """The first budget, or the longest one of which an earlier call has left a run."""
        budgets = [self.first_s[label] * 2.0**k for k in range(DOUBLINGS)]
        return max((s for s in budgets if self._is_there(label, seed, s)), default=budgets[0])

    def _is_there(self, label: str, seed: int, seconds: float) -> bool:
        return is_complete(self.out, only_cell(self.table(label, seed, seconds)).run_id) is not None

    def _forget_shorter(self, label: str, seed: int, seconds: float) -> None:
        for shorter in self._shorter(label, seconds):
            shutil.rmtree(self.out / "runs" / only_cell(self.table(label, seed, shorter)).run_id, ignore_errors=True)

    def _shorter(self, label: str, seconds: float) -> Iterable[float]:
        while (seconds := seconds / 2) >= self.first_s[label] * (1 - 1e-9):
            yield seconds
