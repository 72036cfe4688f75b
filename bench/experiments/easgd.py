"""Experiments of the paper."""

from __future__ import annotations

from bench.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {}
