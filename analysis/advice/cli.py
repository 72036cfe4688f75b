"""From a question to its answer: which simulated runs are made, and what is asked of their tables.

1. Learning: runs with gradients on the question's network, as long as each algorithm needs (`bench.until`).
2. Pace: short runs without gradients at other bandwidths (`bench.pace`).
3. The time to the target elsewhere is the product (`analysis.advice.prediction`); where the winner changes and an
   asynchronous algorithm takes part, its learning is simulated there too.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from analysis.advice.answer import Answer, Row
from analysis.advice.flips import TOLERANCE, Flip, flips, least, with_bounds
from analysis.advice.prediction import Prediction, by_inverse
from analysis.advice.ranking import cost, ranking, reached, sureness
from analysis.advice.sure import Ratio, Reached, geometric_interval, grade, versus
from analysis.advice.tables import look, samples_to_target, tables, traffic
from analysis.advice.trials import FACTOR, following
from bench.lanes import Lanes, only_cell, time_it
from bench.launch import write_study
from bench.pace import Pace
from bench.predict import coarse
from bench.question import Question
from bench.records import write_atomic
from bench.study import workload_label
from bench.until import Search, State

GRID = [10.0 ** (k / 2) for k in range(-4, 7)]
"""Bandwidths between nodes at which the algorithms are compared, and between which flips are searched [Gbit/s]."""

FIRST_STEPS = 64
"""Of the first budget, by the pace of each algorithm; it is doubled from there."""

SETTLED = 0.8
"""The target counts as reached once a run has stayed there for the last fifth of its budget."""

DEFAULT_MODEL_ERROR, LARGEST_MODEL_ERROR = 0.1, 0.9
"""Of a predicted time: where the cluster file does not say how well its fits are, and the most that makes sense."""

LOSS = 1.05
"""An algorithm needs the bandwidth at which it takes this many times as long as with an infinite one."""

CONFIRMED = 2
"""Flips, the nearest ones, at which asynchronous algorithms learn too, with all seeds."""

REFINED = 8
"""Most times that flips are simulated where they are; they settle after one or two."""

HOPEFUL = 1.5
"""An asynchronous algorithm learns with the first seed wherever it would take less than this many times the best."""

PACES = "paces.json"
"""File in the results folder with the paces that were found."""

HERE = "learning"
"""Folder of the runs on the question's own network."""

TUNING, TUNING_SEEDS = "tuning", (1000, 1001)
"""Folder and seeds (added to the largest) of the runs by which learning rates are chosen; they are not compared. Of two
seeds the later one counts: with one, the rate is chosen that is just not too large for it."""

PATIENCE = 4.0
"""Tries, and asynchronous algorithms elsewhere, are waited for this many times as long as the best takes."""

Change = tuple[tuple[str, float], ...]
"""What differs from the question's network and workers, as arguments of `Question.table`."""

BW = "bandwidth_Gbit_per_s"


@dataclass
class Advising:
    """One question, on its way to the answer.

    Attributes:
        out: results folder.
        budget_s: real seconds after which no more learning is simulated.
        most_s: nobody is waited for longer than this [virtual s]; None: see `bench.until`.
        price: of a rank for an hour.
        model_error: relative error of a predicted time; None: from the cluster's residuals.
        trials: learning rates that are tried for each algorithm; below 2 they are taken as they are.
        say: told what goes on, in lines.
    """

    question: Question
    lanes: Lanes
    out: Path
    budget_s: float
    say: Callable[[str], None]
    most_s: float | None = None
    price: float | None = None
    model_error: float | None = None
    trials: int = 0
    _paces: dict[tuple[str, Change], Pace] = field(default_factory=dict, init=False)
    _steps: dict[str, int] = field(default_factory=dict, init=False)  # of each worker to the target
    _notes: list[str] = field(default_factory=list, init=False)

    def answer(self) -> Answer:
        """Simulate, and say what was found."""
        q = self.question
        self._deadline = time.monotonic() + self.budget_s
        self._lockstep = {name: q.cell(name).algorithm.lockstep for name in q.labels}
        wire = q.cell(q.labels[0]).network.outer
        # A wire without a limit that was found has its place at the end of the range.
        self._base = min(float(wire.bandwidth_Gbit_per_s or math.inf), GRID[-1])
        self._latency_s = float(wire.latency_s or 0)
        self._target = float(q.raw["workload"][0]["target_loss"])
        self.say(
            f"{len(q.labels)} algorithms, {len(q.seeds)} seeds, {q.workers} workers; budgets are doubled from "
            f"{FIRST_STEPS} steps until the held-out loss is {self._target:g}; at most {self.budget_s:g} s, "
            f"{self.lanes.count} at once"
        )
        self._fetch([(name, {}) for name in q.labels])
        if self.trials > 1:
            self._tune()
        states, found = self._learn(q.labels, self.out / HERE, {}, q.seeds)
        grid = sorted({*GRID, self._base})
        prediction = self._prediction(found, grid)
        changes = self._flips(prediction, found, grid)
        rows = self._rows(states, found, prediction, grid)
        there = [row for row in rows if math.isfinite(row.time_s)]
        error = self._error()
        self._notes += [f"{line[0].upper()}{line[1:]}." for line in coarse(q.cluster, [self._workload])]
        missing = [name for name, state in states.items() if state == "stopped"]
        if missing:
            self._notes.append(
                f"The {self.budget_s:g} s for simulated learning were spent before all was done: runs are missing of "
                f"{', '.join(missing)} (the same command goes on; or give more with --budget-s)."
            )
        return Answer(
            workload=self._workload,
            workers=q.workers,
            target=self._target,
            seeds=tuple(q.seeds),
            bandwidth_Gbit_per_s=self._base,
            latency_s=self._latency_s,
            price=self.price,
            rows=rows,
            grade=_grade(there, error),
            # One that was given up, though its only run got there late, has one seed and nothing to say about chance.
            chance=sureness(ranking({row.label: found[row.label] for row in there if row.state == "there"})),
            model_error=error,
            flips=changes,
            searched=(grid[0], grid[-1]),
            curve={name: [(x, prediction.seconds(name, x)) for x in grid] for name in prediction.anchors},
            anchored={name: sorted(at) for name, at in prediction.anchors.items() if not self._lockstep[name]},
            worlds=self._worlds(prediction) if there else (),
            left_out=q.left_out,
            notes=self._notes,
            out=str(self.out),
        )

    # -- learning ------------------------------------------------------------------------------------------------------

    def _tune(self) -> None:
        """Choose each algorithm's learning rate: up and down by `FACTOR` from what is given, as long as it gets better.

        All have the same number of trials, with seeds that are not compared afterwards.
        """
        q, at_s = self.question, dict[tuple[str, int], float]()
        step_s = {name: self._pace(name, {}).s_per_step(q.workers) for name in q.labels}
        wanted = [(name, k) for k in (0, 1, -1)[: self.trials] for name in q.labels]
        while wanted:
            names = {f"{name} lr x {FACTOR**k:.3g}": (name, k) for name, k in wanted}
            self.say(f"learning rates: {len(names)} tries")
            search = self._search(
                partial(_tried, q, names),
                {text: step_s[name] for text, (name, _) in names.items()},
                self.out / TUNING,
            )
            search.patience = PATIENCE
            search.least_s = min(at_s.values(), default=math.inf)
            seeds = [max(q.seeds) + seed for seed in TUNING_SEEDS]
            search.go(list(names), seeds)
            at_s |= {names[text]: max(search.at_s.get((text, seed), math.inf) for seed in seeds) for text in names}
            wanted = following(at_s, self.trials)
        for name in q.labels:
            tried = {k: seconds for (of, k), seconds in at_s.items() if of == name}
            best = min(tried, key=lambda k: (tried[k], abs(k)))
            searched = f"lr x {FACTOR ** min(tried):.3g}..{FACTOR ** max(tried):.3g}"
            self.say(f"{name}: lr x {FACTOR**best:.3g} of {searched}")
            q.take(name, FACTOR**best, len(tried), searched)

    def _search(
        self, table: Callable[[str, int, float], Mapping[str, Any]], step_s: Mapping[str, float], out: Path
    ) -> Search:
        return Search(
            table=table,
            look=lambda run_id, seconds: look(out, run_id, SETTLED * seconds),
            first_s={name: _rounded(FIRST_STEPS * seconds) for name, seconds in step_s.items()},
            out=out,
            lanes=self.lanes,
            deadline=self._deadline,
            say=self.say,
            most_s=self.most_s,
        )

    def _learn(
        self,
        labels: Sequence[str],
        out: Path,
        network: Mapping[str, float],
        seeds: Sequence[int],
        least_s: float = math.inf,
    ) -> tuple[dict[str, State], dict[str, dict[int, Reached]]]:
        """How the search ended by label, and when each run was at the target."""
        q = self.question
        self._fetch([(name, network) for name in labels])
        write_study(out, {**q.study(), "network": q.table(labels[0], change=network)["network"]})
        search = self._search(
            lambda name, seed, seconds: q.table(name, seed, seconds, network),
            {name: self._pace(name, network).s_per_step(q.workers) for name in labels},
            out,
        )
        if math.isfinite(least_s):
            search.least_s, search.patience = least_s, PATIENCE
        states = search.go(labels, seeds)
        runs, heldout = tables(out)
        return states, reached(heldout, runs[runs["label"].isin(labels) & runs["seed"].isin(seeds)])

    def _prediction(self, found: Mapping[str, Mapping[int, Reached]], grid: Sequence[float]) -> Prediction:
        there = {name: geometric_interval(list(runs.values()))[0] for name, runs in found.items()}
        there = {name: seconds for name, seconds in there.items() if math.isfinite(seconds)}
        per_step = self.question.workers * self.question.workload.batch_size
        self._steps = {name: max(1, round(samples_to_target(self.out / HERE, name) / per_step)) for name in there}
        self._paces.clear()  # they were over other numbers of steps
        self.say(f"how fast {len(there)} algorithms go at {len(grid)} bandwidths, without gradients")
        self._fetch([(name, {BW: x}) for x in [*grid, math.inf] for name in there])
        prediction = Prediction(pace=self._s_per_sample)
        for name, seconds in there.items():
            prediction.anchor(name, self._base, seconds)
        return prediction

    def _flips(
        self, prediction: Prediction, found: Mapping[str, Mapping[int, Reached]], grid: Sequence[float]
    ) -> list[Flip]:
        """Where the winner changes; where an asynchronous algorithm takes part, its learning is simulated there too."""
        labels = list(prediction.anchors)
        for x in sorted(grid[::2], key=lambda x: abs(math.log(x / self._base))):
            best = min((prediction.seconds(name, x) for name in labels), default=math.inf)
            for name in labels:
                if x != self._base and not self._lockstep[name] and prediction.seconds(name, x) < HOPEFUL * best:
                    self._confirm(prediction, found, name, x, self.question.seeds[:1])
        for flip in sorted(self._exact(prediction, labels, grid), key=lambda flip: abs(math.log(flip.x / self._base)))[
            :CONFIRMED
        ]:
            for name in (flip.below, flip.above):
                if not self._lockstep[name]:
                    self._confirm(prediction, found, name, _rounded(flip.x), self.question.seeds)
        bounded = []
        for flip in self._exact(prediction, labels, grid):
            ratio = versus(found[flip.below], found[flip.above])
            low, high = ratio.low / ratio.middle, ratio.high / ratio.middle
            bounded.append(with_bounds(flip, prediction.seconds, low, high, grid))
        return bounded

    def _exact(self, prediction: Prediction, labels: Sequence[str], grid: Sequence[float]) -> list[Flip]:
        """Flips, with the paces of both algorithms simulated where they are."""
        for _ in range(REFINED):
            found = flips(prediction.seconds, labels, grid)
            missing = [
                (name, {BW: _rounded(flip.x)})
                for flip in found
                for name in (flip.below, flip.above)
                if min(abs(math.log(x / flip.x)) for x in self._known(name)) > math.log(1 + TOLERANCE)
            ]
            if not missing:
                return found
            self._fetch(missing)
        return flips(prediction.seconds, labels, grid)

    def _confirm(
        self,
        prediction: Prediction,
        found: Mapping[str, Mapping[int, Reached]],
        name: str,
        x: float,
        seeds: Sequence[int],
    ) -> None:
        """An asynchronous algorithm learns on another network, with the staleness that it has there."""
        self.say(f"{name} learns at {x:g} Gbit/s, with the staleness that it has there")
        best = min(prediction.seconds(other, x) for other in prediction.anchors)
        states, there = self._learn([name], self.out / f"{HERE}-at-{x:g}-Gbit", {BW: x}, seeds, best)
        runs = list(there.get(name, {}).values())
        if states[name] == "stopped" or not runs:
            self._notes.append(f"How {name} learns at {x:g} Gbit/s was not looked at: no time was left.")
            return
        # A run that is not there is bounded from below: by the limit of its search, at which it cannot win.
        seconds = [run.latest_s if math.isfinite(run.latest_s) else run.earliest_s for run in runs]
        if not all(math.isfinite(value) for value in seconds):
            self._notes.append(f"{name} diverges at {x:g} Gbit/s; the time that is shown for it there is too short.")
            return
        here = [found[name][seed].latest_s for seed in there[name]]
        ratio = math.exp(sum(map(math.log, seconds)) / len(seconds) - sum(map(math.log, here)) / len(here))
        prediction.anchor(name, x, ratio * prediction.seconds(name, self._base))

    # -- pace ----------------------------------------------------------------------------------------------------------

    def _pace(self, name: str, change: Mapping[str, float]) -> Pace:
        self._fetch([(name, change)])
        return self._paces[name, _key(change)]

    def _known(self, name: str) -> dict[float, float]:
        """Bandwidth -> s per sample, where an algorithm's pace was simulated."""
        return {
            dict(change)[BW]: pace.s_per_sample
            for (of, change), pace in self._paces.items()
            if of == name and dict(change).keys() == {BW}
        }

    def _s_per_sample(self, name: str, x: float) -> float:
        """At a bandwidth, simulated or between those that are."""
        known = self._known(name)
        return known[x] if x in known else by_inverse(known, x)

    def _fetch(self, wanted: Sequence[tuple[str, Mapping[str, float]]]) -> None:
        """Find out paces side by side; an earlier call may have left them in the results folder."""
        missing = {(name, _key(change)): change for name, change in wanted if (name, _key(change)) not in self._paces}
        asked: list[tuple[Mapping[str, Any], int]] = []
        keys = {}
        for (name, key), change in missing.items():
            table, steps = self.question.table(name, change=change), self._steps.get(name, 0)
            ident = f"{only_cell(table).run_id}.{steps}"
            if ident in self._kept:
                self._paces[name, key] = Pace(**self._kept[ident])
            else:
                asked.append((table, steps))
                keys[id(table)] = (name, key), ident
        for (own, _), pace in self.lanes.work_off(time_it, asked):
            at, ident = keys[id(own)]
            self._paces[at] = pace
            self._kept[ident] = asdict(pace)
        if asked:
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomic(self.out / PACES, json.dumps(self._kept).encode())

    @cached_property
    def _kept(self) -> dict[str, Any]:
        """What is in the results folder: run id and steps -> pace."""
        try:
            found: dict[str, Any] = json.loads((self.out / PACES).read_text())
        except (OSError, ValueError):
            return {}
        return found

    # -- what is said --------------------------------------------------------------------------------------------------

    def _rows(
        self,
        states: Mapping[str, State],
        found: Mapping[str, Mapping[int, Reached]],
        prediction: Prediction,
        grid: Sequence[float],
    ) -> list[Row]:
        sent = traffic(self.out / HERE) if found else {}
        rows = []
        for row in ranking(found).to_dict("records"):
            name = str(row["label"])
            cell, own = self.question.cell(name), sent.get(name, {})
            rows.append(
                Row(
                    label=name,
                    algorithm=cell.algorithm.name,
                    lockstep=cell.algorithm.lockstep,
                    state=states[name],
                    seeds=int(row["seeds"]),
                    reached=int(row["reached"]),
                    time_s=float(row["time_s"]),
                    low_s=float(row["low_s"]),
                    high_s=float(row["high_s"]),
                    within_s=float(row["within_s"]),
                    ratio=float(row["ratio"]),
                    ratio_low=float(row["ratio_low"]),
                    ratio_high=float(row["ratio_high"]),
                    chance=float(row["chance_winner_faster"]),
                    sent_nbytes=own.get("sent", math.nan),
                    goodput_Gbit_per_s=own.get("goodput", math.nan),
                    peak_Gbit_per_s=own.get("peak", math.nan),
                    needs_Gbit_per_s=self._needs(name, grid) if name in prediction.anchors else math.nan,
                    ranks=cell.ranks,
                    cost=math.nan if self.price is None else cost(float(row["time_s"]), cell.ranks, self.price),
                )
            )
        return rows

    def _needs(self, name: str, grid: Sequence[float]) -> float:
        ideal = self._s_per_sample(name, math.inf)
        return least(lambda x: self._s_per_sample(name, x) <= LOSS * ideal, list(grid))

    def _worlds(self, prediction: Prediction) -> list[tuple[str, str, float, float]]:
        """Who is first where one thing is different, with what they have to do here."""
        worlds: list[tuple[str, dict[str, float]]] = []
        if self._latency_s:
            worlds.append(("Latency ten times as long", {"latency_s": 10 * self._latency_s}))
        if self.question.workers > 1:
            worlds += [("One worker half as fast", {"slow": 2.0}), ("One worker ten times slower", {"slow": 10.0})]
        labels = list(prediction.anchors)
        self._fetch([(name, change) for _, change in worlds for name in labels])
        now = min(labels, key=lambda name: prediction.seconds(name, self._base))
        found = []
        for what, change in worlds:
            seconds = {k: prediction.samples(k, self._base) * self._pace(k, change).s_per_sample for k in labels}
            first = min(labels, key=lambda name: seconds[name])
            found.append((what, first, seconds[first], seconds[now]))
        return found

    def _error(self) -> float:
        if self.model_error is not None:
            return self.model_error
        cluster = self.question.cluster
        known = [value for value in cluster.residuals.values() if math.isfinite(value)] or [DEFAULT_MODEL_ERROR]
        # The middle of how far predictions were seen off, over how much a message costs beside a gradient.
        return min(max(*known, cluster.compute_of(self._workload).beside / 2), LARGEST_MODEL_ERROR)

    @property
    def _workload(self) -> str:
        return workload_label(self.question.raw["workload"][0])


def _grade(there: Sequence[Row], error: float) -> str:
    if len(there) < 2:
        return "alone" if there else "none reached"
    second = there[1]
    return grade(Ratio(second.seeds, second.ratio, second.ratio_low, second.ratio_high, second.chance), error)


def _tried(q: Question, names: Mapping[str, tuple[str, int]], text: str, seed: int, seconds: float) -> dict[str, Any]:
    name, k = names[text]
    return q.table(name, seed, seconds, {"rate": FACTOR**k})


def _key(change: Mapping[str, float]) -> Change:
    return tuple(sorted(change.items()))


def _rounded(x: float) -> float:
    """To three digits, so that names and ids stay short."""
    return float(f"{x:.3g}")
