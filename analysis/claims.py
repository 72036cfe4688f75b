"""Every pair of algorithms: better, worse, or not shown, with the numbers of runs, an interval, and what tuning was."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import pandas as pd

from analysis.comparison import Claim, faster, lower_loss

Word = Literal["better", "worse", "not shown"]
NOT_STATED = "not stated"


@dataclass(frozen=True)
class Finding:
    """What the runs show about A against B.

    Attributes:
        word: A is "better" or "worse" than B by the rule of `analysis.comparison`, or that is "not shown".
        criterion: "time_to_target_s", or "final_heldout_loss" if neither reached the target in all its runs.
        n_a: completed and diverged runs of A.
        n_b: the same of B.
        measure: "ratio A/B" of times, "difference A-B" [nat] of losses.
        value: by the means; NaN where one has none, such as a time that not all runs have.
        low: of its interval, from the worst and best cases of both means' intervals: wider than 95 %. NaN with one run.
        high: the same.
        chance: probability that two equal algorithms are separated like this by luck; NaN if not shown or not known.
        reason: one sentence in plain words.
        tuning_a: what was spent on A's settings, as stated.
        tuning_b: the same of B.
    """

    a: str
    b: str
    word: Word
    criterion: str
    n_a: int
    n_b: int
    measure: str
    value: float
    low: float
    high: float
    chance: float
    reason: str
    tuning_a: str
    tuning_b: str


def finding(a: Mapping[str, Any], b: Mapping[str, Any]) -> Finding:
    """Whether A is better or worse than B, or neither is shown.

    The rule is that of `analysis.comparison`, asked in both directions: by the time to the target if one of the two
    reached it in all its runs, else by the final held-out loss. A difference that is not shown is no proof that there
    is none. Comparisons are not corrected for their number.

    Args:
        a: row of `analysis.summary.summary`.
        b: another, of the same study, workload, transport and number of workers.

    Source: the rule of `analysis.comparison.faster`.

    Example:
        >>> def row(label, low, high):
        ...     return dict(label=label, completed=2, diverged=0, seeds=2, reached=2, time_to_target_s=(low + high) / 2,
        ...         time_to_target_s_low=low, time_to_target_s_high=high, target_earliest_s=low - 1,
        ...         target_latest_s=high)
        >>> fast, slow = row("fast", 2.0, 4.0), row("slow", 8.0, 10.0)
        >>> found = finding(fast, slow)
        >>> found.word, finding(slow, fast).word, finding(fast, fast).word
        ('better', 'worse', 'not shown')
        >>> round(found.value, 3), found.low, found.high, (found.n_a, found.n_b), found.tuning_a
        (0.333, 0.2, 0.5, (2, 2), 'not stated')
    """
    by_time = any(int(row["reached"]) == _results(row) > 0 for row in (a, b))
    rule = faster if by_time else lower_loss
    forward, backward = rule(a, b), rule(b, a)
    word: Word = "better" if forward.shown else "worse" if backward.shown else "not shown"
    said: Claim = backward if backward.shown else forward
    value, low, high = _ratio(a, b) if by_time else _difference(a, b)
    return Finding(
        a=str(a["label"]),
        b=str(b["label"]),
        word=word,
        criterion="time_to_target_s" if by_time else "final_heldout_loss",
        n_a=_results(a),
        n_b=_results(b),
        measure="ratio A/B" if by_time else "difference A-B",
        value=value,
        low=low,
        high=high,
        chance=said.chance,
        reason=said.reason,
        tuning_a=tuning(a),
        tuning_b=tuning(b),
    )


def _results(row: Mapping[str, Any]) -> int:
    return int(row["completed"]) + int(row["diverged"])


def _ratio(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float, float, float]:
    name = "time_to_target_s"

    def divided(x: float, y: float) -> float:
        return float(x) / float(y) if y > 0 else math.nan

    return (
        divided(a[name], b[name]),
        divided(a[f"{name}_low"], b[f"{name}_high"]),
        divided(a[f"{name}_high"], b[f"{name}_low"]),
    )


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float, float, float]:
    name = "final_heldout_loss"
    return (
        float(a[name] - b[name]),
        float(a[f"{name}_low"] - b[f"{name}_high"]),
        float(a[f"{name}_high"] - b[f"{name}_low"]),
    )


def tuning(row: Mapping[Any, Any]) -> str:
    """What was spent on choosing an algorithm's settings, in words.

    Args:
        row: of `analysis.summary.summary` or of `bench.records.RUNS`.

    Source: Dahl et al., arXiv 2306.07179: a result without its tuning budget cannot be compared.

    Example:
        >>> tuning({"tuning_trials": 12, "tuning_searched": "lr in 0.01..1"}), tuning({"tuning_trials": 0}), tuning({})
        ('12 trials: lr in 0.01..1', 'none', 'not stated')
    """
    trials = row.get("tuning_trials", -1)
    if trials is None or math.isnan(trials) or trials < 0:
        return NOT_STATED
    if trials == 0:
        return "none"
    searched = row.get("tuning_searched") or ""
    return f"{int(trials)} trial{'s' * (trials != 1)}" + (f": {searched}" if searched else "")


def findings(summary: pd.DataFrame) -> pd.DataFrame:
    """Every pair of algorithms that may be compared.

    Args:
        summary: what `analysis.summary.summary` gives.

    Returns:
        One row per pair of labels with completed or diverged runs in one study, on one workload, transport and number
        of workers: these four, and the attributes of `Finding`. A is the one that comes first in the order of the mean
        times to the target, then of the mean final losses.

    Source: the rule of `finding`.

    Example:
        >>> from analysis.summary import summary
        >>> from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, Results
        >>> findings(summary(Results(*(t.schema.empty_table().to_pandas()
        ...     for t in (RUNS, EVENTS, SNAPSHOTS, HELDOUT, SHARES))))).empty
        True
    """
    keys = ["study", "workload", "workers", "transport"]
    rows = []
    ordered = summary.sort_values(["time_to_target_s", "final_heldout_loss", "label"], na_position="last")
    tried = ordered[ordered["completed"] + ordered["diverged"] > 0]
    for key, group in tried.groupby(keys, sort=True, observed=True):
        records = [{str(name): value for name, value in row.items()} for row in group.to_dict("records")]
        for a, b in itertools.combinations(records, 2):
            rows.append({**dict(zip(keys, key, strict=True)), **asdict(finding(a, b))})
    return pd.DataFrame(rows, columns=[*keys, *(f.name for f in fields(Finding))])


def budgets(summary: pd.DataFrame) -> pd.DataFrame:
    """Whether algorithms that are compared were tuned alike: the tuning of each beside its result.

    Args:
        summary: what `analysis.summary.summary` gives.

    Returns:
        One row per row of `summary`: its keys, `tuning` in words, and `alike`: all labels of its study, workload,
        transport and number of workers state the same number of trials. False where one states none.

    Source: as for `tuning`.

    Example:
        >>> summary = pd.DataFrame({"study": "s", "workload": "w", "workers": 2, "transport": "mpi",
        ...     "label": ["a", "b"], "tuning_trials": [5, -1], "tuning_searched": ["lr", ""]})
        >>> budgets(summary)[["label", "tuning", "alike"]].to_numpy().tolist()
        [['a', '5 trials: lr', False], ['b', 'not stated', False]]
    """
    keys = ["study", "workload", "workers", "transport"]
    trials = summary.groupby(keys, observed=True)["tuning_trials"]
    alike = (trials.transform("nunique") == 1) & (trials.transform("min") >= 0)
    words = [tuning(row) for row in summary[["tuning_trials", "tuning_searched"]].to_dict("records")]
    return summary[[*keys, "label"]].assign(tuning=words, alike=alike)
