"""Experiments of the paper: costs counted, identities, and variants of the algorithm that are no algorithms of the
suite."""

from __future__ import annotations

from bench.experiments.base import Experiment
from bench.experiments.streaming_diloco.cosines import cosines
from bench.experiments.streaming_diloco.costs import memory, traffic
from bench.experiments.streaming_diloco.frozen import frozen
from bench.experiments.streaming_diloco.identities import identities
from bench.experiments.streaming_diloco.models import models
from bench.experiments.streaming_diloco.pools import pools
from bench.experiments.streaming_diloco.values import dropped_values

EXPERIMENTS: dict[str, Experiment] = {
    "traffic": traffic,
    "memory": memory,
    "identities": identities,
    "dropped-values": dropped_values,
    "frozen": frozen,
    "pools": pools,
    "models": models,
    "cosines": cosines,
}
