"""The claim about time: which method is first at a loss, on three networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from analysis.papers.claim import LEAST_SEEDS, Claim, Decision, Verdict
from analysis.papers.evidence import Evidence, Missing
from analysis.papers.streaming_diloco.compare import rows_of, together
from analysis.statistics import Mean, mean_over_runs

METHODS = ("data-parallel", "diloco", "overlapped", "overlapped-fp4")
NETWORKS = ("fast", "medium", "slow")


Seconds = dict[str, dict[str, dict[int, float]]]
"""Network -> method -> seed -> seconds."""


def seconds_to_loss(evidence: Evidence) -> Seconds:
    """When each method is at the loss that the worst of them ends at, with the same seed and network [s].

    That is the first snapshot from which on the loss stays there.

    Raises:
        Missing: the study is not whole, or a run did not complete.
    """
    results = evidence.results("networks")
    if not (results.runs["status"] == "completed").all():
        raise Missing("networks: a run did not complete")
    runs = results.runs[["run_id", "workload", "seed", "label"]].astype(str)
    curves = results.heldout.assign(run_id=results.heldout["run_id"].astype(str)).merge(runs, on="run_id")
    found: Seconds = {network: {method: {} for method in METHODS} for network in NETWORKS}
    for network in NETWORKS:
        own = curves[curves["workload"] == network].sort_values("snapshot")
        for seed in sorted(own["seed"].unique()):
            of = {method: own[(own["seed"] == seed) & (own["label"] == method)] for method in METHODS}
            if any(curve.empty for curve in of.values()):
                raise Missing(f"networks: a method is missing on {network} with seed {seed}")
            target = max(float(curve["heldout_loss"].iloc[-1]) for curve in of.values())
            for method, curve in of.items():
                above = (curve["heldout_loss"].to_numpy(dtype="float64") > target).nonzero()[0]
                found[network][method][int(seed)] = float(curve["t_s"].iloc[int(above[-1]) + 1 if len(above) else 0])
    return found


def gain(seconds: Mapping[str, Mapping[int, float]], method: str) -> Mean:
    """Logarithm of data-parallel's time over the method's: mean over seeds."""
    return mean_over_runs([math.log(slow / seconds[method][seed]) for seed, slow in seconds["data-parallel"].items()])


def order_of_methods(evidence: Evidence) -> Decision:
    """D30."""
    seconds = seconds_to_loss(evidence)
    gains = {network: {method: gain(seconds[network], method) for method in METHODS[1:]} for network in NETWORKS}
    slow = seconds["slow"]
    n = len(slow["data-parallel"])
    verdicts: list[Verdict] = ["not shown"]
    if n >= LEAST_SEEDS:
        ordered = all(
            slow[worse][seed] >= slow[better][seed] for worse, better in pairwise(METHODS) for seed in slow[worse]
        )
        faster = all(slow["data-parallel"][seed] > slow["diloco"][seed] for seed in slow["diloco"])
        grows = all(gains[a][m].mean < gains[b][m].mean for a, b in pairwise(NETWORKS) for m in METHODS[1:])
        verdicts = ["reproduced" if holds else "contradicted" for holds in (ordered and faster, grows)]
    most = gains["slow"]["overlapped-fp4"]
    return Decision(
        verdict=together(verdicts),
        found="data-parallel's time to the same loss over that of "
        + "; ".join(
            f"{network}: " + ", ".join(f"{method} {math.exp(found.mean):.2f}" for method, found in of.items())
            for network, of in gains.items()
        ),
        n=n,
        measured=math.exp(most.mean),
        low=math.exp(most.low),
        high=math.exp(most.high),
        unit="times faster",
        rows=rows_of(evidence, "networks"),
    )


CLAIMS = (
    Claim(
        id="D30",
        statement="The slower the network, the more the methods gain in time to a loss: overlapped FP4 before "
        "overlapped before DiLoCo before data-parallel.",
        kind="shape",
        expected="figure 6 of 2503.09799: the order on 10 Gbit/s",
        rule="Time to the loss at which the worst of the four ends, with the same seed and network. Two parts: on the "
        "slow network that order holds with every seed (equal times allowed but for data-parallel); every method's "
        "gain over data-parallel grows from the fast over the medium to the slow network. Reproduced if both; partly "
        "if one; contradicted if neither; not shown below 3 seeds.",
        parts=("networks",),
        decide=order_of_methods,
    ),
)
