"""A1 to A3 and the two recurrent networks: up to which learning rate SSGD, SSGD* and DPSGD train."""

from __future__ import annotations

import math
from functools import partial

import pandas as pd

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.dpsgd.found import finals, largest, losses, most, seen
from analysis.papers.evidence import Evidence, Missing

RATE = 0.8  # of A1 and A3
TRAINED = 0.2  # [nat]
GAP = 3.0
WINDOW = 1.3
SIGMAS = (0.003, 0.01, 0.03)


def _rises(evidence: Evidence, label: str) -> Decision:
    """A1: DPSGD trains at the rate where SSGD fails, and up to a rate larger than SSGD's largest."""
    table = finals(evidence, "sweep")
    ours, theirs = losses(table, label, lr=RATE), losses(table, "ssgd", lr=RATE)
    if not len(ours) or len(ours) != len(theirs):
        raise Missing(f"sweep: runs of {label} or ssgd at lr {RATE:g}")
    n = len(ours)
    trained, apart = int((ours < TRAINED).sum()), int((theirs > GAP * ours).sum())
    edge, base = largest(table, label, "lr", TRAINED), largest(table, "ssgd", "lr", TRAINED)
    ratio = edge / base
    at_rate, window = trained >= most(n) and apart >= most(n), ratio >= WINDOW
    verdict: Verdict = "not shown"
    if n < LEAST_SEEDS:
        pass
    elif at_rate and window:
        verdict = "reproduced"
    elif at_rate or window:
        verdict = "partly"
    elif trained <= int((theirs < TRAINED).sum()) and not ratio > 1:
        verdict = "contradicted"
    return Decision(
        verdict=verdict,
        found=f"lr {RATE:g}: DPSGD ends at {seen(ours)}; SSGD at {seen(theirs)}; largest rate that trains: "
        f"DPSGD {_said(edge)}, SSGD {_said(base)}",
        n=n,
        measured=ratio,
        unit="ratio of the largest rates",
        rows=_ids(table, label, "ssgd"),
    )


def _five(evidence: Evidence) -> Decision:
    """A2: five workers."""
    table = finals(evidence, "five")
    held, better, words, n = [], [], [], 0
    for lr in (0.7, 0.8):
        ours, theirs = losses(table, "dpsgd-own", lr=lr), losses(table, "ssgd", lr=lr)
        if not len(ours) or len(ours) != len(theirs):
            raise Missing(f"five: runs of dpsgd-own or ssgd at lr {lr:g}")
        n = len(ours)
        held.append(bool((ours < 0.5).all()) and int((theirs > 1).sum()) >= math.ceil(0.75 * n))
        better.append(int((ours < 0.5).sum()) > int((theirs < 0.5).sum()))
        words.append(f"lr {lr:g}: DPSGD {seen(ours)}; SSGD {seen(theirs)}")
    verdict: Verdict = "not shown"
    if n >= LEAST_SEEDS:
        if all(held):
            verdict = "reproduced"
        elif any(held):
            verdict = "partly"
        elif not any(better):
            verdict = "contradicted"
    if len(last := losses(table, "dpsgd-own", lr=1.0)):
        words.append(f"lr 1, which does not decide: DPSGD {seen(last)}; SSGD {seen(losses(table, 'ssgd', lr=1.0))}")
    return Decision(verdict=verdict, found=". ".join(words), n=n, rows=_ids(table, "dpsgd-own", "ssgd"))


def _noisy(evidence: Evidence) -> Decision:
    """A3: constant noise in place of the workers' spread."""
    table = finals(evidence, "sweep")
    ours = losses(table, "dpsgd-own", lr=RATE)
    starred = table.assign(label=table["label"].replace("ssgd-star-other", "ssgd-star"))
    each = {sigma: losses(starred, "ssgd-star", lr=RATE, sigma=sigma) for sigma in SIGMAS}
    lacking = [f"{sigma:g}" for sigma, found in each.items() if len(found) != len(ours)]
    if not len(ours) or lacking:
        raise Missing(f"sweep: runs of dpsgd-own or of ssgd-star with sigma {', '.join(lacking)} at lr {RATE:g}")
    ratios = {sigma: float(found.mean() / ours.mean()) for sigma, found in each.items()}
    paper = ratios[0.01]
    verdict: Verdict = "not shown"
    if len(ours) < LEAST_SEEDS or not math.isfinite(ours.mean()):
        pass
    elif min(ratios.values()) >= GAP:
        verdict = "reproduced"
    elif paper >= GAP:
        verdict = "partly"
    elif paper <= 1:
        verdict = "contradicted"
    words = "; ".join(f"sigma {sigma:g}: {seen(found)}" for sigma, found in each.items())
    return Decision(
        verdict=verdict,
        found=f"lr {RATE:g}: DPSGD {seen(ours)}; SSGD* with {words}",
        n=len(ours),
        measured=paper,
        unit="SSGD* over DPSGD, mean loss, sigma 0.01",
        rows=_ids(starred, "dpsgd-own", "ssgd-star"),
    )


def _recurrent(evidence: Evidence, part: str, classes: int) -> Decision:
    """S1, W1: where a recurrent network stops to train."""
    table, bound = finals(evidence, part), 0.9 * math.log(classes)
    edge, base = largest(table, "dpsgd-own", "lr", bound), largest(table, "ssgd", "lr", bound)
    rates = sorted(table["lr"].unique())
    n = int(table[table["label"] == "ssgd"].groupby("lr").size().min())
    failing = [lr for lr in rates if (losses(table, "ssgd", lr=float(lr)) >= bound).any()]
    first = float(failing[0]) if failing else math.nan
    verdict: Verdict = "not shown"
    if n < LEAST_SEEDS or not failing or math.isnan(base):
        pass
    elif edge >= WINDOW * base:
        verdict = "reproduced"
    elif edge < base or math.isnan(edge):
        verdict = "contradicted"
    elif (losses(table, "dpsgd-own", lr=first) >= bound).sum() < (losses(table, "ssgd", lr=first) >= bound).sum():
        verdict = "partly"
    words = f"largest rate that trains: DPSGD {_said(edge)}, SSGD {_said(base)}"
    if failing:
        words += f"; lr {first:g}: DPSGD {seen(losses(table, 'dpsgd-own', lr=first))}, "
        words += f"SSGD {seen(losses(table, 'ssgd', lr=first))}"
    else:
        words += "; SSGD fails at no rate of the grid"
    return Decision(
        verdict=verdict,
        found=words,
        n=n,
        measured=edge / base,
        unit="ratio of the largest rates",
        rows=_ids(table, "dpsgd-own", "ssgd"),
    )


def _said(rate: float) -> str:
    return "none of the grid" if math.isnan(rate) else f"{rate:g}"


def _ids(table: pd.DataFrame, *labels: str) -> list[str]:
    return table.loc[table["label"].isin(labels), "run_id"].astype(str).tolist()


_RISES = (
    "At lr 0.8, nearly all seeds (7 of 8, rounded up): DPSGD's last held-out loss below 0.2 nat, and SSGD's above 3 "
    "times DPSGD's. And the largest rate of the grid at which nearly all seeds of DPSGD end below 0.2 nat is at least "
    "1.3 times SSGD's. Both: reproduced; one: partly; contradicted if at lr 0.8 no more seeds of DPSGD than of SSGD "
    "end below 0.2 nat and DPSGD's largest rate is not larger; else, or below 3 seeds, not shown."
)
_EDGE = (
    "A run trains if its last held-out loss is below 0.9 ln(classes). Reproduced if the largest rate of the grid at "
    "which nearly all seeds of DPSGD train is at least 1.3 times SSGD's; partly if they are nearer, but at the first "
    "rate at which a seed of SSGD fails fewer seeds of DPSGD do; contradicted if DPSGD's is smaller; else, or if SSGD "
    "fails at no rate or at all of them, or below 3 seeds, not shown."
)

CLAIMS = (
    Claim(
        id="A1",
        statement="In steps of 2000 samples DPSGD converges at learning rates at which SSGD does not.",
        kind="shape",
        expected="MNIST, 2000 samples a step: SSGD stuck or diverged, DPSGD converges; so on many of 18 tasks",
        rule=_RISES + " Learners start from points of their own.",
        parts=("sweep",),
        decide=partial(_rises, label="dpsgd-own"),
    ),
    Claim(
        id="A1e",
        statement="DPSGD converges at learning rates at which SSGD does not, also if all learners start at one point.",
        kind="shape",
        expected="the paper's text was not at hand for how learners start; its argument holds for both ways",
        rule=_RISES + " Learners start from one point.",
        parts=("sweep",),
        decide=partial(_rises, label="dpsgd"),
    ),
    Claim(
        id="A2",
        statement="With five learners and 2000 samples a step DPSGD converges where SSGD does not.",
        kind="shape",
        expected="MNIST, n = 5: SSGD stuck or diverged, DPSGD converges",
        rule="After 150 steps at lr 0.7 and at lr 0.8: DPSGD's held-out loss below 0.5 nat in all seeds and SSGD's "
        "above 1 nat in three quarters of them. Both rates: reproduced; one: partly; contradicted if at neither rate "
        "more seeds of DPSGD than of SSGD end below 0.5 nat; else, or below 3 seeds, not shown.",
        parts=("five",),
        decide=_five,
    ),
    Claim(
        id="A3",
        statement="Weight noise of constant size (SSGD*) does not do what DPSGD's noise does.",
        kind="shape",
        expected="SSGD* with sigma_0 = 0.01 fails where DPSGD converges",
        rule="At lr 0.8: reproduced if the mean last held-out loss of SSGD* is at least 3 times DPSGD's with sigma "
        "0.003, 0.01 and 0.03; partly if with 0.01 but not all; contradicted if with 0.01 it is not larger than "
        "DPSGD's; else, below 3 seeds, or if DPSGD itself diverged, not shown.",
        parts=("sweep",),
        decide=_noisy,
    ),
    Claim(
        id="S1",
        statement="An LSTM on speech trains with DPSGD at learning rates at which it does not with SSGD.",
        kind="shape",
        expected="SWB-300 and SWB-2000, large batch: SSGD's held-out loss stays at that of guessing, DPSGD's does not",
        rule=_EDGE,
        parts=("speech",),
        decide=partial(_recurrent, part="speech", classes=10),
    ),
    Claim(
        id="W1",
        statement="An LSTM on words trains with DPSGD at learning rates at which it does not with SSGD.",
        kind="shape",
        expected="no result of the paper, which has no WikiText-2: its claim carried over to another task",
        rule=_EDGE,
        parts=("wikitext",),
        decide=partial(_recurrent, part="wikitext", classes=33_278),
    ),
)
