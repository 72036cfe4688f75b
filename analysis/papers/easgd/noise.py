"""A3, A4, A5: the error of the center of synchronous EASGD under gradient noise.

Source: Zhang, Choromanska, LeCun, arXiv 1412.6651, supplement, Lemmas 7.1 and 7.2.
"""

from __future__ import annotations

from analysis.papers.cases import all_cases, rows_of
from analysis.papers.claim import Claim, Decision
from analysis.papers.evidence import Evidence
from analysis.theory.easgd_noise import SynchronousEASGD

ERRORS = 3.0
"""Standard errors by which a mean over replicas may be off."""
TABLE = {
    0.9: {1: 0.0326, 4: 0.0418, 8: 0.0461, 16: 0.0487, 64: 0.0508},
    0.5: {1: 0.0245, 4: 0.0378, 8: 0.0416, 16: 0.0438, 64: 0.0456},
    0.1: {1: 0.0173, 4: 0.0233, 8: 0.0248, 16: 0.0256, 64: 0.0262},
}
"""beta -> p -> p x mean square error in the end, h = sigma = 1, eta = 0.1."""
SHARE = 0.05


def moments(evidence: Evidence) -> Decision:
    """A3.

    Source: arXiv 1412.6651, supplement, Lemma 7.1.
    """
    cases, worst = {}, 0.0
    for row in rows_of(evidence.table("center-moments")):
        theory = SynchronousEASGD(eta=row.eta, beta=row.beta, workers=int(row.workers))
        mean = float(theory.center_mean(int(row.step), workers_at=1.0, center_at=1.0)[-1])
        variance = float(theory.center_variance(int(row.step))[-1])
        where = f"at step {row.step}, p = {row.workers}, beta = {row.beta:g}"
        for name, away, error in (
            ("E", row.mean - mean, (variance / row.replicas) ** 0.5),
            ("V", row.variance - variance, variance * (2 / row.replicas) ** 0.5),
        ):
            cases[f"{name} {where}"] = abs(away) <= ERRORS * error
            worst = max(worst, abs(away) / error)
    return all_cases(
        cases, least=20, found="mean and variance at single steps", measured=worst, unit="standard errors, largest"
    )


def error(evidence: Evidence) -> Decision:
    """A4.

    Source: arXiv 1412.6651, supplement, corollary of Lemma 7.1.
    """
    table = evidence.table("center-error")
    table = table[table["samples"] >= 1e6]
    found = {(row.beta, int(row.workers)): row.workers * row.mean_square for row in rows_of(table)}
    cases, worst = {}, 0.0
    for (beta, workers), value in found.items():
        expected = TABLE[beta][workers]
        cases[f"beta = {beta:g}, p = {workers}"] = abs(value - expected) <= SHARE * expected
        worst = max(worst, abs(value / expected - 1))
        smaller = [b for b, p in found if p == workers and b < beta]
        if smaller:
            cases[f"smaller beta is better, p = {workers}, beta = {beta:g}"] = value > found[max(smaller), workers]
    return all_cases(
        cases, least=15, found="p x mean square error in the long run", measured=100 * worst, unit="% off, largest"
    )


def double_average(evidence: Evidence) -> Decision:
    """A5.

    Source: arXiv 1412.6651, supplement, Lemma 7.2.
    """
    cases, words, worst = {}, [], 0.0
    for row in rows_of(evidence.table("double-average")):
        value = row.workers * row.steps * row.variance  # of h = sigma = 1, where the limit is 1
        cases[f"alpha = {row.alpha:g}"] = abs(value - 1) <= SHARE
        words.append(f"{value:.3f} at alpha = {row.alpha:g}")
        worst = max(worst, abs(value - 1))
    return all_cases(cases, least=3, found=", ".join(words), measured=100 * worst, unit="% off, largest")


CLAIMS = (
    Claim(
        id="A3",
        statement="Mean and variance of the center of synchronous EASGD on a noisy quadratic are those of Lemma 7.1 at "
        "every step.",
        kind="exact",
        expected="Lemma 7.1",
        tolerance="3 standard errors of 100 000 replicas",
        rule="The registered easgd-sync runs on 100 000 replicas or more. Reproduced if mean and variance are within 3 "
        "standard errors of the lemma at every step looked at; partly from 90 % of them on; contradicted below; not "
        "shown with fewer than 20.",
        parts=("center-moments",),
        decide=moments,
    ),
    Claim(
        id="A4",
        statement="The mean square error of the center falls as 1/p, and a smaller beta makes it smaller.",
        kind="exact",
        expected="p x error tends to the corollary's limit: 0.0516, 0.0463, 0.0264 for beta = 0.9, 0.5, 0.1",
        tolerance="5 % of p x error for each p and beta",
        rule="Over 10^6 samples for each p and beta. Reproduced if p x error is within 5 % of its value by Lemma 7.1 "
        "and falls with beta for every p; partly from 90 % of these on; contradicted below; not shown with fewer than "
        "15.",
        parts=("center-error",),
        decide=error,
    ),
    Claim(
        id="A5",
        statement="The mean of the center over time has the least variance possible, whatever alpha is.",
        kind="exact",
        expected="p t Var tends to sigma^2 / h^2 for every alpha",
        tolerance="5 %",
        rule="Reproduced if p t Var is within 5 % of sigma^2 / h^2 for three alphas; else contradicted; not shown with "
        "fewer.",
        parts=("double-average",),
        decide=double_average,
    ),
)
