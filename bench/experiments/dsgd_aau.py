"""Experiments of DSGD-AAU and of the gossip algorithms beside it.

Source: Xiong, Yan, Wang, Li, Straggler-Resilient Decentralized Learning via Adaptive Asynchronous Updates, ACM MobiHoc
2024, arXiv 2306.06559; those of gossip are named in docs/papers/dsgd-aau.md.
"""

from __future__ import annotations

from bench.experiments import gossip_rounds, linear_speedup, pace_of_gossip, pathsearch, push_bias
from bench.experiments.base import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    "epochs": pathsearch.epochs,
    "mixing": pathsearch.mixing,
    "control": pathsearch.control,
    "pace": pathsearch.pace,
    "linear-speedup": linear_speedup.linear_speedup,
    "persistent-straggler": pace_of_gossip.persistent_straggler,
    "consensus": gossip_rounds.consensus,
    "one-peer-rounds": gossip_rounds.one_peer,
    "exponential-gap": gossip_rounds.exponential_gap,
    "bias": gossip_rounds.bias,
    "d2-stability": gossip_rounds.d2_stability,
    "directed": gossip_rounds.directed,
    "compression": gossip_rounds.compression,
    "low-rank": gossip_rounds.low_rank,
    "push-bias": push_bias.push_bias,
    "overlap": pace_of_gossip.overlap,
    "prague": pace_of_gossip.prague,
    "shared-network": pace_of_gossip.shared_network,
    "crossover": pace_of_gossip.crossover,
}
