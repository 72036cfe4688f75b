"""The experiments of each paper, by name."""

from __future__ import annotations

from collections.abc import Mapping

from bench.experiments.base import Experiment


def experiments(paper: str) -> Mapping[str, Experiment]:
    """A paper's experiments by the name of their part; none if it has none."""
    if paper == "dpsgd":
        from bench.experiments.dpsgd import EXPERIMENTS
    elif paper == "easgd":
        from bench.experiments.easgd import EXPERIMENTS
    elif paper == "dsgd-aau":
        from bench.experiments.dsgd_aau import EXPERIMENTS
    elif paper == "async-momentum":
        from bench.experiments.async_momentum import EXPERIMENTS
    elif paper == "streaming-diloco":
        from bench.experiments.streaming_diloco import EXPERIMENTS
    else:
        return {}
    return EXPERIMENTS
