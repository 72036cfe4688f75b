"""Zhang et al., Loss landscape dependent self-adjusting learning rates in decentralized SGD, arXiv 2112.01433."""

from __future__ import annotations

from analysis.papers.claim import Paper, Part
from analysis.papers.dpsgd import inside, landscape, rates, scaling

_LAST = ("--snapshot", "last", "--micro-batch", "500")

PAPER = Paper(
    name="dpsgd",
    title="Zhang et al., Loss landscape dependent self-adjusting learning rates in decentralized SGD, arXiv 2112.01433",
    url="https://arxiv.org/abs/2112.01433",
    parts=(
        Part(
            name="mean-step",
            kind="experiment",
            what="one step of DPSGD on each of the paper's graphs, taken and foretold",
        ),
        Part(
            name="diversity",
            kind="experiment",
            what="the noise of the learners' spread against curvature times spread, on MNIST and on quadratics",
        ),
        Part(
            name="smoothing",
            kind="experiment",
            what="largest eigenvalue of the loss smoothed by noise of the size of the learners' spread",
        ),
        Part(name="sweep", kind="study", what="SSGD, SSGD* and DPSGD on MNIST, n = 16, over learning rates"),
        Part(name="five", kind="study", what="the same with n = 5"),
        Part(
            name="noise",
            kind="study",
            what="DPSGD on MNIST, n = 16, every learner's model kept; effective learning rate and noise of each",
            probes=(("noise", "--micro-batch", "2000"),),
        ),
        Part(
            name="minima",
            kind="study",
            what="SSGD and DPSGD where both train; Hessian and loss landscape around where they end",
            probes=(
                ("hessian", *_LAST, "--samples", "2000", "--eigenvalues", "1", "--probes", "3"),
                ("landscape", *_LAST, "--samples", "1000", "--parts", "plane,sharpness", "--points", "11"),
            ),
        ),
        Part(name="slow", kind="study", what="one slow learner of 16, time only"),
        Part(name="optimizers", kind="study", what="LAMB and AdamW with all-reduce against SGD, six rates each"),
        Part(name="batches", kind="study", what="steps of 1024 to 2048 samples, learning rate in proportion"),
        Part(name="speech", kind="study", what="an LSTM on spoken digits over learning rates"),
        Part(name="wikitext", kind="study", what="an LSTM on words over learning rates"),
    ),
    claims=sorted(
        (*rates.CLAIMS, *inside.CLAIMS, *landscape.CLAIMS, *scaling.CLAIMS),
        key=lambda claim: (claim.id[0], int("".join(c for c in claim.id if c.isdigit())), claim.id),
    ),
)
