"""Claims about DSGD-AAU's iterations: epochs, mixing, the rate, control messages, a persistent straggler."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from analysis.papers.claim import Claim, Decision, Verdict
from analysis.papers.dsgd_aau.rules import without_exception
from analysis.papers.evidence import Evidence

EXACT = 1e-12
SLOPE, WITHIN = -0.5, 0.1
MODELS = (2_410, 42_310, 1_000_000)
"""Parameters of the models that control messages are set against: two perceptrons on MNIST, and a million."""
CONSERVED = "exchanges conserve the sum of all models: yes"


def slopes(table: pd.DataFrame) -> dict[tuple[str, str, float], float]:
    """(algorithm, sweep, noise) -> slope of the logarithm of the mean squared gradient against that of N K.

    Args:
        table: of the experiment `linear-speedup`; sweeps with fewer than four points are left out.

    Source: the theorem's rate O(1 / sqrt(N K)); least squares.

    Example:
        >>> rows = [("a", "workers", 1.0, n, 10, (10 * n) ** -0.5) for n in (1, 2, 4, 8)]
        >>> found = slopes(pd.DataFrame(rows, columns=["algorithm", "sweep", "noise", "workers", "iterations",
        ...     "mean_square"]))
        >>> round(found["a", "workers", 1.0], 9)
        -0.5
    """
    found = {}
    for (name, sweep, noise), rows in table.groupby(["algorithm", "sweep", "noise"], sort=True):
        if len(rows) >= 4:
            work = np.log(rows["workers"] * rows["iterations"])
            found[str(name), str(sweep), float(str(noise))] = float(np.polyfit(work, np.log(rows["mean_square"]), 1)[0])
    return found


def _rate(evidence: Evidence) -> Decision:
    """B1."""
    table = evidence.table("linear-speedup")
    found = slopes(table)
    holds = {key: abs(slope - SLOPE) <= WITHIN for key, slope in found.items()}
    ours = {key: value for key, value in holds.items() if key[0] == "dsgd-aau"}
    over_k = [value for key, value in ours.items() if key[1] == "iterations"]
    verdict: Verdict
    if len(found) < 8:
        verdict = "not shown"
    elif all(holds.values()):
        verdict = "reproduced"
    elif any(ours.values()) and all(over_k):
        verdict = "partly"
    else:
        verdict = "contradicted"
    told = (f"{name} over {sweep}, noise {noise:g}: {slope:.2f}" for (name, sweep, noise), slope in found.items())
    worst = max((s for k, s in found.items() if k[0] == "dsgd-aau"), key=lambda s: abs(s - SLOPE), default=math.nan)
    return Decision(verdict=verdict, found="; ".join(told), n=len(table), measured=worst)


def _epochs(evidence: Evidence) -> Decision:
    """B2."""
    table = evidence.table("epochs")
    holds = (table["iterations"] == table["workers"] - 1) & table["tree"] & (table["idle"] == 0)
    sizes = table.groupby("workers")["iterations"].agg(["min", "max", "size"])
    told = (
        f"{row['size']} epochs of {row['min']} to {row['max']} iterations at N = {n}" for n, row in sizes.iterrows()
    )
    return without_exception(
        holds.tolist(), "; ".join(told), measured=float((table["iterations"] + 1 - table["workers"]).max())
    )


def _mixing(evidence: Evidence) -> Decision:
    """B3."""
    table = evidence.table("mixing")
    worst = table[["row_error", "column_error", "mean_error"]].max(axis=1)
    holds = ((worst <= EXACT) & (table["least"] >= 0) & (table["closed"] > 0)).tolist()
    runs = evidence.results("ranks").runs
    real = runs[(runs["algorithm"] == "dsgd-aau") & runs["status"].isin(("completed", "failed"))]
    conserved = [bool(CONSERVED in verdict) for verdict in real["verdict"]]
    found = (
        f"largest error of a sum of P(k)...P(1) or of the mean {worst.max():.1g} over {len(table)} runs; the sum of "
        f"all models conserved to rounding in {sum(conserved)} of {len(conserved)} runs on 8 real ranks"
    )
    if not conserved:
        return Decision(verdict="not shown", found=found, n=len(holds))
    return without_exception([*holds, *conserved], found, measured=float(worst.max()))


def control_shares(table: pd.DataFrame) -> dict[tuple[int, int], float]:
    """(workers, parameters of the model) -> control messages' payload over that of the float32 models.

    Args:
        table: of the experiment `control`.

    Source: counted bytes; four for a parameter.

    Example:
        >>> found = control_shares(pd.DataFrame({"workers": [8], "control_nbytes": [80], "models": [2]}))
        >>> found[8, 1_000_000]
        1e-05
    """
    per_model = table["control_nbytes"] / table["models"]
    return {(int(n), d): b / (4 * d) for n, b in zip(table["workers"], per_model, strict=True) for d in MODELS}


def _control(evidence: Evidence) -> Decision:
    """B10."""
    table = evidence.table("control")
    per_model = table["control_nbytes"] / table["models"]
    share = control_shares(table)
    small = {key for key, value in share.items() if value < 0.01}
    verdict: Verdict
    if table["workers"].max() < 128:
        verdict = "not shown"
    elif len(small) == len(share):
        verdict = "reproduced"
    else:
        verdict = "partly" if {(n, 1_000_000) for n in table["workers"]} <= small else "contradicted"
    largest = table["workers"].max()
    told = (f"N = {n}: " + ", ".join(f"{100 * share[n, d]:.2g} % at d = {d}" for d in MODELS) for n in table["workers"])
    from_d = float(per_model[table["workers"] == largest].iloc[0]) / 0.04
    found = f"{'; '.join(told)}; below 1 % at N = {largest} from d = {from_d:.3g} on"
    return Decision(verdict=verdict, found=found, n=len(table), measured=100 * share[largest, 42_310], unit="%")


def _straggler(evidence: Evidence) -> Decision:
    """B11."""
    table = evidence.table("persistent-straggler")
    pace = table.pivot(index="algorithm", columns="slow", values="gradients_per_s")
    if 100.0 not in pace:
        return Decision(verdict="not shown", found="no straggler 100 times slower", n=len(table))
    ours, theirs = float(pace[100.0]["dsgd-aau S"]), float(pace[100.0]["ad-psgd"])
    holds = [ours < 0.1, theirs > 0.9]
    verdict: Verdict = "reproduced" if all(holds) else "partly" if any(holds) else "contradicted"
    told = (f"{name} {' / '.join(f'{value:.3f}' for value in row)}" for name, row in pace.iterrows())
    found = f"one of 16 slower by {' / '.join(f'{s:g}' for s in pace.columns)}: {'; '.join(told)}"
    return Decision(
        verdict=verdict, found=found, n=len(table), measured=ours, unit="gradients per worker and gradient time"
    )


RATE = Claim(
    id="B1",
    statement="The mean squared gradient falls as 1 / sqrt(N K) at the rate sqrt(N / K): N times the workers, N times "
    "as fast.",
    kind="number",
    expected="slope -1/2 of log mean |grad F|^2 against log(N K)",
    tolerance="0.1 on the slope",
    rule="Noisy quadratics, learning rate sqrt(N / K) / 2, noise 1 and 10 times the first gradient; N varied at "
    "fixed K and K at fixed N, of DSGD-AAU (K = iterations closed, 10 % x 10 stragglers) and of D-PSGD on a ring "
    "(the control). reproduced: all eight slopes within 0.1 of -1/2; partly: not all, but DSGD-AAU's over K at both "
    "noises; contradicted: else; not shown: a sweep has fewer than four points.",
    parts=("linear-speedup",),
    decide=_rate,
)
EPOCHS = Claim(
    id="B2",
    statement="An epoch of Pathsearch has at most N - 1 iterations and every worker takes part in it, so that the "
    "graph is B-connected.",
    kind="exact",
    expected="exactly N - 1 iterations where a link must join two components, a spanning tree, nobody idle",
    tolerance="none",
    rule="Read off the CLOSE messages of runs with 10 % x 10 stragglers, replayed with another library's graphs. "
    "reproduced: every epoch; contradicted: any other.",
    parts=("epochs",),
    decide=_epochs,
)
MIXING = Claim(
    id="B3",
    statement="P(k) is doubly stochastic, so that averaging leaves the mean of all models as it is.",
    kind="exact",
    expected="rows and columns of P(k)...P(1) add up to 1; the mean model moves by gradients / N alone",
    tolerance="1e-12 in float64; on real ranks float32 rounding",
    rule="Products read off models that start as unit vectors, and the mean with gradients; and the conservation check "
    "of runs on eight real MPI ranks. reproduced: all hold; contradicted: any does not.",
    parts=("mixing", "ranks"),
    decide=_mixing,
)
CONTROL = Claim(
    id="B10",
    statement="Agreeing on who averages costs next to nothing beside the models.",
    kind="shape",
    expected="below 1 % of the models' bytes for d >= 2000, N <= 256",
    tolerance="1 %",
    rule="Payload of all control messages over that of all models, for models of 2 410, 42 310 and 1 000 000 float32 "
    "parameters, N = 8 to 128 (full 256). reproduced: below 1 % in all; partly: below 1 % for the largest model at "
    "every N; contradicted: else.",
    parts=("control",),
    decide=_control,
)
STRAGGLER = Claim(
    id="B11",
    statement="(A limit that the paper does not state.) One worker that is always 100 times slower stops DSGD-AAU, as "
    "every epoch needs it, but not AD-PSGD.",
    kind="number",
    expected="DSGD-AAU below 0.1, AD-PSGD above 0.9 gradients per worker and gradient time",
    tolerance="the bounds",
    rule="16 workers, a model takes 0.1 of a gradient. reproduced: both bounds hold; partly: one; contradicted: none.",
    parts=("persistent-straggler",),
    decide=_straggler,
)
