"""Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651."""

from __future__ import annotations

from analysis.papers.claim import Paper, Part
from analysis.papers.easgd import costs, identities, noise, periods, stability, workers

_CLAIMS = [
    claim for own in (stability, noise, identities, periods, workers, costs) for claim in own.CLAIMS
]  # fmt: skip

PAPER = Paper(
    name="easgd",
    title="Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651",
    url="https://arxiv.org/abs/1412.6651",
    parts=(
        Part(
            name="stability-map",
            kind="experiment",
            what="growth of round-robin EASGD over learning rate, moving rate and workers",
        ),
        Part(name="admm", kind="experiment", what="10 000 rounds of ADMM at the paper's example"),
        Part(
            name="center-moments",
            kind="experiment",
            what="mean and variance of the center at single steps, 100 000 replicas",
        ),
        Part(name="center-error", kind="experiment", what="mean square of the center in the long run"),
        Part(name="double-average", kind="experiment", what="variance of the mean of the center over time"),
        Part(name="downpour-periods", kind="experiment", what="growth of DOWNPOUR at the periods around its limit"),
        Part(name="heavy-ball", kind="experiment", what="EASGD with a negative moving rate beside heavy ball"),
        Part(name="tree", kind="experiment", what="trees of centers: what they move at the root"),
        Part(
            name="exploration", kind="experiment", what="distance of the workers from the center at five moving rates"
        ),
        Part(name="periods", kind="study", what="periods 1, 4, 16, 64 on mnist-mlp, a grid of learning rates for each"),
        Part(name="workers", kind="study", what="4, 8, 16 workers on mnist-mlp, messages free"),
        Part(
            name="workers-paying", kind="study", what="4 and 16 workers where an exchange takes half a gradient's time"
        ),
        Part(name="sequential", kind="study", what="the four sequential comparators"),
        Part(name="cifar", kind="study", what="the paper's network on CIFAR-10 at short and long periods"),
        Part(name="breakdown", kind="study", what="real MPI ranks at periods 1 and 10"),
    ),
    claims=tuple(sorted(_CLAIMS, key=lambda claim: (int(claim.id.strip("Ab")), claim.id))),
)
