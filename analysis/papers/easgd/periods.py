"""A6, A8 and the same on CIFAR-10: which algorithms bear long periods between exchanges.

Source: Zhang, Choromanska, LeCun, arXiv 1412.6651, section 5 and figure 2.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.sweeps import above, best, errors

SHORT, LONG = (1, 4), (16, 64)
SLACK = 0.003
"""By which a test error may be higher at the next longer period and still not count as worse."""
ELASTIC = ("easgd", "eamsgd")


def _by_period(table: pd.DataFrame, algorithm: str) -> pd.DataFrame:
    own = table[table["algorithm"] == algorithm]
    if own.empty:
        raise Missing(f"no run of {algorithm}")
    return own.set_index("period").sort_index()


def _words(algorithm: str, own: pd.DataFrame) -> str:
    said = ", ".join(f"{100 * row['mean']:.2f} %" for _, row in own.iterrows())
    return f"{algorithm} {said} at tau = {', '.join(f'{t:g}' for t in own.index)}"


def downpour(evidence: Evidence, part: str) -> Decision:
    """A6.

    Source: arXiv 1412.6651, section 5.1.
    """
    own = _by_period(best(errors(evidence, part), "final"), "downpour")
    short, long = ([t for t in own.index if t in some] for some in (SHORT, LONG))
    worse = [above(own.loc[b], own.loc[a]) for a in short for b in long]
    verdict: Verdict
    if not worse or own["n"].min() < LEAST_SEEDS:
        verdict = "not shown"
    elif all(worse):
        verdict = "reproduced"
    elif any(worse):
        verdict = "partly"
    else:
        verdict = "contradicted" if any(above(own.loc[a], own.loc[b]) for a in short for b in long) else "not shown"
    factor = float(own["mean"].iloc[-1] / own["mean"].iloc[0])
    rows = [run for runs in own["rows"] for run in runs]
    found = f"final test error of the best rate: {_words('downpour', own)}"
    return Decision(
        verdict=verdict, found=found, n=len(rows), measured=factor, unit="x the error at the shortest", rows=rows
    )


def elastic(evidence: Evidence, part: str) -> Decision:
    """A8.

    Source: arXiv 1412.6651, section 5.1 and figure 2.
    """
    table = best(errors(evidence, part), "lowest")
    words, rows, holds, worse, stable = [], [], [], [], True
    for algorithm in ELASTIC:
        own = _by_period(table, algorithm)
        mean = own["mean"].to_numpy()
        words.append(_words(algorithm, own))
        rows += [run for runs in own["rows"] for run in runs]
        holds.append(bool(len(mean) > 1 and (mean[1:] <= mean[:-1] + SLACK).all()))
        first, last = own.iloc[0].copy(), own.iloc[-1]
        first["mean"] += SLACK
        worse.append(above(last, first))
        stable &= not own["diverged"].any()
    verdict: Verdict
    if table["n"].min() < LEAST_SEEDS:
        verdict = "not shown"
    elif all(holds) and stable:
        verdict = "reproduced"
    elif all(worse) or not stable:
        verdict = "contradicted"
    else:
        verdict = "partly" if any(holds) else "not shown"
    return Decision(verdict=verdict, found=f"lowest test error: {'; '.join(words)}", n=len(rows), rows=rows)


DOWNPOUR_RULE = (
    "The learning rate with the least mean final test error of the center is taken at each period. Reproduced if the "
    "error at each long period (16, 64) is above that at each short one (1, 4) by more than 2 standard errors over "
    "seeds; partly if in some pairs; contradicted if in none and a short period is worse than a long one by as much; "
    "else, or with fewer than 3 seeds, not shown. A diverged run counts as guessing."
)
ELASTIC_RULE = (
    "The learning rate with the least mean lowest test error is taken at each period. Reproduced if no run at these "
    "rates diverges and, for EASGD and EAMSGD both, the error at each period is at most 0.003 above that at the next "
    "shorter one; partly if so for one; contradicted if a run diverges or if for both the longest period is worse than "
    "the shortest by more than 0.003 and 2 standard errors; else, or with fewer than 3 seeds, not shown."
)


def _claim(id_: str, statement: str, expected: str, rule: str, part: str, downpours: bool) -> Claim:
    return Claim(
        id=id_,
        statement=statement,
        kind="shape",
        expected=expected,
        tolerance="2 standard errors" if downpours else "0.003 of test error",
        rule=rule,
        parts=(part,),
        decide=partial(downpour if downpours else elastic, part=part),
    )


CLAIMS = (
    _claim(
        "A6",
        "DOWNPOUR is good with exchanges every 1 or 4 steps and unstable with every 16 or 64, with 4 workers.",
        "good at tau = 1, 4; highly unstable at tau = 16, 64",
        DOWNPOUR_RULE,
        "periods",
        True,
    ),
    _claim(
        "A8",
        "EASGD and EAMSGD stay stable at all periods, and tend to a lower test error at longer ones.",
        "test error falls, or stays, as tau goes 1, 4, 16, 64",
        ELASTIC_RULE,
        "periods",
        False,
    ),
    _claim(
        "A6b",
        "As A6, with the paper's network on CIFAR-10.",
        "good at tau = 1, 4; highly unstable at tau = 16, 64",
        DOWNPOUR_RULE,
        "cifar",
        True,
    ),
    _claim(
        "A8b",
        "As A8, with the paper's network on CIFAR-10.",
        "test error falls, or stays, as tau grows",
        ELASTIC_RULE,
        "cifar",
        False,
    ),
)
