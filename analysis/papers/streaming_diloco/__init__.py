"""Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512, and the papers around it.

Its claims are numbered as one list with those of DiLoCo (arXiv 2311.08105), asynchronous Local-SGD (2401.09135), eager
updates (2502.12996) and the scaling laws (2503.09799): D1 to D7 utilisation, D8 to D11 counted, the others learnt.
"""

from __future__ import annotations

from analysis.papers.claim import Claim, Paper, Part
from analysis.papers.streaming_diloco import counted, methods, overlap, rounds, speed, utilization

PARTS = (
    Part(
        name="tuning", kind="study", what="inner learning rates at three sizes; no claim reads it, so it is run by hand"
    ),
    Part(name="traffic", kind="experiment", what="bytes of every step of a period, four methods on two models"),
    Part(name="memory", kind="experiment", what="the arrays that a worker keeps between steps, model of 108 layers"),
    Part(name="identities", kind="experiment", what="pairs of algorithms that must be the same, in double precision"),
    Part(name="methods", kind="study", what="the methods on equal tokens, H = 30 and 100, and the wire formats"),
    Part(name="sizes", kind="study", what="data-parallel training and DiLoCo at two more sizes"),
    Part(name="replicas-1", kind="study", what="DiLoCo and data-parallel training with one worker"),
    Part(name="replicas-4", kind="study", what="DiLoCo with four workers on the same tokens"),
    Part(name="replicas-8", kind="study", what="DiLoCo with eight workers on the same tokens"),
    Part(name="delays", kind="study", what="overlap of 2 to 20 steps, and one that differs between workers"),
    Part(name="dropped-values", kind="experiment", what="few values in place of few bits, at equal bytes"),
    Part(name="models", kind="experiment", what="loss of the outer model, the replicas' mean and a replica"),
    Part(name="eager", kind="study", what="outer gradients a whole round late, naive and eager"),
    Part(name="asynchronous", kind="study", what="DiLoCo without rounds on equal and unequal speeds"),
    Part(name="drops", kind="study", what="rounds that workers miss, shares by role; and random shares"),
    Part(name="pools", kind="experiment", what="pools of workers that grow or shrink"),
    Part(name="outer", kind="study", what="other outer optimisers, two rates each"),
    Part(name="periods", kind="study", what="H from 1 to 100"),
    Part(name="cosines", kind="experiment", what="angles between replicas' outer gradients, by layer and round"),
    Part(name="frozen", kind="experiment", what="only the fragment that is exchanged next is trained"),
    Part(name="networks", kind="study", what="loss against seconds on three networks"),
)

CLAIMS: tuple[Claim, ...] = (
    *utilization.CLAIMS,
    *counted.CLAIMS,
    *methods.CLAIMS,
    *overlap.CLAIMS,
    *rounds.CLAIMS,
    methods.PERIOD_CLAIM,
    *rounds.LIKENESS_CLAIMS,
    overlap.FREEZING_CLAIM,
    *speed.CLAIMS,
)

PAPER = Paper(
    name="streaming-diloco",
    title="Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512",
    url="https://arxiv.org/abs/2501.18512",
    parts=PARTS,
    claims=CLAIMS,
)
