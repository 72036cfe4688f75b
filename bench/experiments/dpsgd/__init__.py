"""Experiments of the paper on self-adjusting learning rates in decentralised SGD (Zhang et al., arXiv 2112.01433)."""

from __future__ import annotations

from bench.experiments.base import Experiment
from bench.experiments.dpsgd.diversity import diversity
from bench.experiments.dpsgd.mean_step import mean_step
from bench.experiments.dpsgd.smoothing import smoothing

EXPERIMENTS: dict[str, Experiment] = {"mean-step": mean_step, "diversity": diversity, "smoothing": smoothing}
