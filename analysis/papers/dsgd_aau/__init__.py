"""Straggler-resilient decentralized learning via adaptive asynchronous updates, MobiHoc 2024, arXiv 2306.06559.

With it the gossip algorithms that it is compared with or rests on, whose claims are C1 to C16: each names its paper.
"""

from __future__ import annotations

from analysis.papers.claim import Claim, Paper, Part
from analysis.papers.dsgd_aau import (
    gossip_learning,
    gossip_limits,
    gossip_rounds,
    gossip_time,
    growth,
    pathsearch,
    rivals,
)

PARTS = (
    Part(name="linear-speedup", kind="experiment", what="noisy quadratics over workers and iterations"),
    Part(name="epochs", kind="experiment", what="every epoch of Pathsearch, read off its messages"),
    Part(name="mixing", kind="experiment", what="the product of all P(k), and what moves the mean model"),
    Part(name="control", kind="experiment", what="bytes of control messages beside those of models"),
    Part(name="pace", kind="experiment", what="iterations that DSGD-AAU closes in the study of its rivals"),
    Part(name="persistent-straggler", kind="experiment", what="gradients per second with one worker always slower"),
    Part(name="stragglers", kind="study", what="DSGD-AAU and five rivals, 10 % of gradients ten times slower"),
    Part(name="stragglers-six", kind="study", what="the same, six times slower"),
    Part(
        name="slowdown", kind="study", what="synchronous DSGD and DSGD-AAU as stragglers get slower and more frequent"
    ),
    Part(name="workers", kind="study", what="DSGD-AAU with 32 to 256 workers"),
    Part(name="ranks", kind="study", what="eight real MPI ranks"),
    Part(name="consensus", kind="experiment", what="how fast gossip agrees on fixed graphs"),
    Part(name="one-peer-rounds", kind="experiment", what="log2 n rounds on the one-peer exponential graph"),
    Part(name="exponential-gap", kind="experiment", what="spectral gaps of the static exponential graph"),
    Part(name="bias", kind="experiment", what="unlike quadratics: D-PSGD and three methods without its bias"),
    Part(name="d2-stability", kind="experiment", what="D2 on graphs with and without eigenvalues below -1/3"),
    Part(name="directed", kind="experiment", what="push-sum on an irregular digraph"),
    Part(name="compression", kind="experiment", what="CHOCO over compression and gamma"),
    Part(name="low-rank", kind="experiment", what="PowerGossip over rank and rounds"),
    Part(name="push-bias", kind="experiment", what="asynchronous gradient push at equal and unequal speeds"),
    Part(name="overlap", kind="experiment", what="SGP with and without overlap over the time of a message"),
    Part(name="prague", kind="experiment", what="gradients per second of Prague, AD-PSGD and all-reduce"),
    Part(name="shared-network", kind="experiment", what="gradients per second where some links are slow"),
    Part(name="crossover", kind="experiment", what="a step of all-reduce and of gossip over latency and bandwidth"),
    Part(name="one-peer", kind="study", what="one peer per step against log2 n of them on MNIST"),
    Part(name="unlike-data", kind="study", what="two classes per worker: D-PSGD, D2, exact diffusion, tracking"),
    Part(name="matchings", kind="study", what="MATCHA with half of its budget and with all of it"),
    Part(name="slow-momentum", kind="study", what="local SGD with and without slow momentum"),
)

CLAIMS: tuple[Claim, ...] = (
    pathsearch.RATE,
    pathsearch.EPOCHS,
    pathsearch.MIXING,
    rivals.TRAINED,
    rivals.TRAINED_SIX,
    rivals.COMPARED,
    rivals.COMPARED_SIX,
    rivals.ITERATIONS,
    *growth.CLAIMS,
    rivals.SENT,
    pathsearch.CONTROL,
    pathsearch.STRAGGLER,
    gossip_rounds.CONSENSUS,
    gossip_rounds.ONE_PEER,
    gossip_rounds.GAP,
    gossip_learning.ONE_PEER,
    gossip_learning.UNLIKE,
    gossip_rounds.STABILITY,
    gossip_rounds.DIRECTED,
    gossip_time.OVERLAP,
    gossip_limits.COMPRESSION,
    gossip_limits.LOW_RANK,
    gossip_time.PRAGUE,
    gossip_time.SHARED,
    gossip_learning.MATCHINGS,
    gossip_learning.SLOW_MOMENTUM,
    gossip_limits.PUSH_BIAS,
    gossip_time.CROSSOVER,
)

PAPER = Paper(
    name="dsgd-aau",
    title="Straggler-resilient decentralized learning via adaptive asynchronous updates, MobiHoc 2024, "
    "arXiv 2306.06559",
    url="https://arxiv.org/abs/2306.06559",
    parts=PARTS,
    claims=CLAIMS,
)
