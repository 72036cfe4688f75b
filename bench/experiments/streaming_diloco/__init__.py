"""Experiments of the paper: costs counted, identities, and variants of the algorithm that are no algorithms of the
suite."""

from __future__ import annotations

from bench.experiments.base import Experiment
from bench.experiments.streaming_diloco import cosines, costs, frozen, identities, models, pools, values

EXPERIMENTS: dict[str, Experiment] = {
    "traffic": costs.traffic,
    "memory": costs.memory,
    "identities": identities.identities,
    "dropped-values": values.dropped_values,
    "frozen": frozen.frozen,
    "pools": pools.pools,
    "models": models.models,
    "cosines": cosines.cosines,
}
