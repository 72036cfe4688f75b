"""Experiments of Elastic Averaging SGD: stability, noise, identities, exploration."""

from __future__ import annotations

from bench.experiments.base import Experiment
from bench.experiments.easgd.exploration import distances
from bench.experiments.easgd.identities import heavy_ball, tree
from bench.experiments.easgd.noise import double_average, moments, stationary
from bench.experiments.easgd.stability import admm_rounds, downpour_periods, easgd_map

EXPERIMENTS: dict[str, Experiment] = {
    "stability-map": easgd_map,
    "admm": admm_rounds,
    "center-moments": moments,
    "center-error": stationary,
    "double-average": double_average,
    "downpour-periods": downpour_periods,
    "heavy-ball": heavy_ball,
    "tree": tree,
    "exploration": distances,
}
