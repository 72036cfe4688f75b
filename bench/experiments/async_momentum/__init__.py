"""Experiments of asynchrony as momentum: staleness, mean paths, edges of stability, sensors."""

from __future__ import annotations

from bench.experiments.async_momentum.edges import exact_compensation, turns
from bench.experiments.async_momentum.ensembles import memoryless, other_laws, trajectories
from bench.experiments.async_momentum.staleness import histogram
from bench.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "staleness": histogram,
    "mean-path": memoryless,
    "other-laws": other_laws,
    "trajectories": trajectories,
    "edges": turns,
    "compensation": exact_compensation,
}
