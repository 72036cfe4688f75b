"""Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, Allerton 2016, arXiv 1605.09774."""

from __future__ import annotations

from analysis.papers.async_momentum import mean_path, rates, sensors, servers, staleness, tuning
from analysis.papers.claim import Paper, Part

_CLAIMS = [claim for own in (staleness, mean_path, rates, sensors, tuning, servers) for claim in own.CLAIMS]

PAPER = Paper(
    name="async-momentum",
    title="Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, Allerton 2016, arXiv 1605.09774",
    url="https://arxiv.org/abs/1605.09774",
    parts=(
        Part(name="staleness", kind="experiment", what="the staleness of 100 000 gradients and more"),
        Part(name="mean-path", kind="experiment", what="the center's moments over runs with memoryless workers"),
        Part(name="other-laws", kind="experiment", what="the same with nearly or exactly equal compute times"),
        Part(name="trajectories", kind="experiment", what="whole paths of the center, with and without noise"),
        Part(name="edges", kind="experiment", what="rates at which servers begin to grow at a constant staleness"),
        Part(name="compensation", kind="experiment", what="delay compensation with the exact Hessian"),
        *(
            Part(name=part, kind="study", what=f"momenta and learning rates, M = {part.partition('-')[2]}")
            for part in tuning.PARTS
        ),
        Part(name="groups", kind="study", what="eight workers in 1, 2, 4, 8 compute groups"),
        Part(name="mitigation", kind="study", what="servers that correct stale gradients, 16 workers"),
        Part(name="mpi-staleness", kind="study", what="staleness on real MPI ranks"),
    ),
    claims=tuple(sorted(_CLAIMS, key=lambda claim: (claim.id[0], int(claim.id[1:])))),
)
