"""What the rules of this paper share: verdicts on cases of a formula, and learning curves with their learning rates."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.papers.claim import Decision, Verdict
from analysis.papers.evidence import Evidence
from analysis.statistics import Mean

Values = NDArray[np.float64]


def without_exception(
    holds: Sequence[bool], found: str, *, measured: float = math.nan, unit: str = "", least: int = 1
) -> Decision:
    """The verdict on an exact claim: every case must hold; with fewer than `least` cases it is not shown.

    Source: an identity has no exceptions.

    Example:
        >>> [without_exception(holds, "").verdict for holds in ([True, True], [True, False], [])]
        ['reproduced', 'contradicted', 'not shown']
    """
    verdict: Verdict = "contradicted" if not all(holds) else "reproduced" if len(holds) >= least else "not shown"
    return Decision(verdict=verdict, found=found, n=len(holds), measured=measured, unit=unit)


@dataclass(frozen=True)
class Curve:
    """Held-out accuracy of one run, against seconds and bytes.

    Attributes:
        name: the algorithm's label without its grid.
        accuracy: of the evaluated model, 0 where it is not finite, at each snapshot.
        samples, nbytes: of all workers, and on the wire, by then.
    """

    run_id: str
    name: str
    lr: float
    workers: int
    seed: int
    workload: str
    status: str
    t_s: Values
    accuracy: Values
    samples: Values
    nbytes: Values

    def at(self, t_s: float) -> float:
        """Accuracy at a time, on a straight line between two snapshots."""
        return float(np.interp(t_s, self.t_s, self.accuracy))

    def first(self, accuracy: float, axis: Values | None = None) -> float:
        """When it is first reached [s, or in the unit of `axis`], on straight lines; NaN if never.

        Example:
            >>> a = np.array
            >>> c = Curve("r", "a", 0.1, 4, 0, "w", "completed", a([0., 2.]), a([0., 0.8]), a([0., 10.]), a([0., 6.]))
            >>> c.first(0.4), round(c.first(0.4, c.nbytes), 9), c.first(0.9)
            (1.0, 3.0, nan)
        """
        x = self.t_s if axis is None else axis
        above = np.flatnonzero(self.accuracy >= accuracy)
        if not len(above):
            return math.nan
        k = int(above[0])
        if k == 0:
            return float(x[0])
        share = (accuracy - self.accuracy[k - 1]) / (self.accuracy[k] - self.accuracy[k - 1])
        return float(x[k - 1] + share * (x[k] - x[k - 1]))


def curves(evidence: Evidence, part: str) -> list[Curve]:
    """The learning curves of a study's runs that completed or diverged.

    Raises:
        Missing: the study has not been run.

    Source: `bench.records.HELDOUT`; the metric of image workloads is accuracy.

    Example:
        >>> from pathlib import Path
        >>> from analysis.papers.evidence import Missing
        >>> try: curves(Evidence(Path("nowhere"), "quick"), "stragglers")
        ... except Missing as missing: print(str(missing)[:30])
        stragglers: not a results fold
    """
    results = evidence.results(part)
    runs = results.runs[results.runs["status"].isin(("completed", "diverged"))]
    by_run = {str(key): own for key, own in results.heldout.groupby("run_id", observed=True)}
    found = []
    for run in runs.to_dict("records"):
        if run["run_id"] not in by_run:
            continue
        held = by_run[run["run_id"]].sort_values("t_s")
        accuracy = np.nan_to_num(_column(held, "heldout_metric"), nan=0.0)
        found.append(
            Curve(
                run_id=run["run_id"],
                name=str(run["label"]).partition("@")[0],
                lr=float((json.loads(run["settings"]).get("optimizer") or {}).get("lr", math.nan)),
                workers=int(run["workers"]),
                seed=int(run["seed"]),
                workload=str(run["workload"]),
                status=run["status"],
                t_s=_column(held, "t_s"),
                accuracy=np.where(np.isfinite(_column(held, "heldout_loss")), accuracy, 0.0),
                samples=_column(held, "samples"),
                nbytes=_column(held, "wire_nbytes"),
            )
        )
    return found


def _column(frame: pd.DataFrame, name: str) -> Values:
    return frame[name].to_numpy(dtype=np.float64)


def final(curve: Curve) -> float:
    """Accuracy at the last snapshot.

    Source: the record's last row.

    Example:
        >>> a = np.array
        >>> final(Curve("r", "a", 0.1, 4, 0, "w", "completed", a([0., 2.]), a([0., 0.8]), a([0., 1.]), a([0., 1.])))
        0.8
    """
    return float(curve.accuracy[-1])


def best_rate(found: Sequence[Curve]) -> list[Curve]:
    """The curves of one algorithm at its best learning rate: highest mean final accuracy; of equals the smallest rate.

    Only rates that have as many seeds as any other are candidates.

    Source: the same grid for every algorithm, chosen by the same measure.

    Example:
        >>> a = np.array
        >>> make = lambda lr, y: Curve("r", "a", lr, 4, 0, "w", "completed", a([0., 1.]), a([0., y]), a([0.]), a([0.]))
        >>> best_rate([make(0.1, 0.7), make(0.2, 0.9), make(0.4, 0.1)])[0].lr
        0.2
    """
    rates: dict[float, list[Curve]] = {}
    for curve in found:
        rates.setdefault(curve.lr, []).append(curve)
    most = max((len(own) for own in rates.values()), default=0)
    whole = {lr: own for lr, own in rates.items() if len(own) == most}
    if not whole:
        return []
    return whole[max(sorted(whole), key=lambda lr: float(np.mean([final(curve) for curve in whole[lr]])))]


@dataclass(frozen=True)
class Compared:
    """Two samples of accuracies: how far the first is ahead, and whether by more than a standard deviation.

    Attributes:
        ahead: difference of the means.
        by: that in units of the larger of the two standard deviations.
    """

    ahead: float
    by: float


def compared(ours: Sequence[float], theirs: Sequence[float]) -> Compared:
    """How far the mean of `ours` is above that of `theirs`.

    Source: ahead by more than one standard deviation, of the two the larger one.

    Example:
        >>> found = compared([0.8, 0.9], [0.6, 0.7])
        >>> round(found.ahead, 12), round(found.by, 3)
        (0.2, 2.828)
    """
    ahead = float(np.mean(ours) - np.mean(theirs))
    spread = max(float(np.std(ours, ddof=1)), float(np.std(theirs, ddof=1)))
    return Compared(ahead, ahead / spread if spread > 0 else math.copysign(math.inf, ahead) if ahead else 0.0)


def words(mean: Mean) -> str:
    """A mean with its interval.

    Source: `analysis.statistics.mean_over_runs`.

    Example:
        >>> words(Mean(mean=2.0, low=1.0, high=3.0, n=2, interval=""))
        '2 (1 to 3)'
    """
    return f"{mean.mean:.3g} ({mean.low:.3g} to {mean.high:.3g})"


def named(found: Sequence[Curve], name: str) -> list[Curve]:
    """Those of one algorithm.

    Source: the study's labels.

    Example:
        >>> named([], "d-psgd")
        []
    """
    return [curve for curve in found if curve.name == name]


def ids(*groups: Sequence[Curve]) -> list[str]:
    """Their run_ids.

    Source: `bench.records.RUNS`.

    Example:
        >>> ids([])
        []
    """
    return [curve.run_id for group in groups for curve in group]
