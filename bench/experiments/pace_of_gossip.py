"""How many gradients a second an algorithm makes in virtual time: stragglers, slow links, overlap, latency.

A gradient takes 1 s of virtual time, a model so much of it on a free link as `transfer_s` says; which model is of no
account, so it is a quadratic. Every node has one queue out and one in (`bench.cluster.Network`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from algorithms.ad_psgd import ADPSGD
from algorithms.allreduce_sgd import AllreduceSGD
from algorithms.d_psgd import DPSGD
from algorithms.dsgd_aau import DSGDAAU
from algorithms.interface import Algorithm
from algorithms.overlap_sgp import OverlapSGP
from algorithms.prague import Prague
from algorithms.sgp import SGP
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.cluster.network import Link
from bench.experiments.base import Rows, Scale
from bench.simulate import Simulation
from bench.workloads.quadratic import Quadratic

DIMENSION = 10_000
NBYTES = 8 * DIMENSION
SPREAD = 0.06  # of compute times: that of a uniform law on 0.9 to 1.1


def network(transfer_s: float, latency_s: float = 0.0, slow: dict[int, float] | None = None, ranks: int = 0) -> Network:
    """A network on which one model takes `latency_s` + `transfer_s`; links of the nodes in `slow` are slower."""
    gbit = NBYTES * 8 / 1e9 / transfer_s
    pairs = {(i, j): factor for i, factor in (slow or {}).items() for j in range(ranks) if j != i}
    links = {pair: gbit / factor for (i, j), factor in pairs.items() for pair in ((i, j), (j, i))}
    return Network(
        latency_s=latency_s,
        bandwidth_Gbit_per_s=gbit,
        link=tuple(Link(src=i, dst=j, bandwidth_Gbit_per_s=speed) for (i, j), speed in sorted(links.items())),
    )


@dataclass(frozen=True)
class Pace:
    """What a run made: gradients per worker and second, and bytes per gradient on the wire."""

    gradients_per_s: float
    wire_nbytes: float


def pace(algorithm: Algorithm, workers: int, seconds: float, compute: Compute, net: Network, seed: int = 0) -> Pace:
    """Of a run of that many seconds."""
    workload = Quadratic(dimension=DIMENSION, noise=0.0).build(torch.device("cpu"), workers)
    simulation = Simulation(algorithm, workload, workers=workers, seed=seed, compute=compute, network=net)
    simulation.run(Budget(seconds=seconds, snapshots=1))
    steps = sum(handle.state.step for handle in simulation.workers)
    wire = sum(handle.recorder.wire_nbytes for handle in simulation.handles)
    return Pace(steps / workers / simulation.kernel.now(), wire / steps)


def uneven(slow: dict[str, float] | None = None) -> Compute:
    """Gradients of about 1 s; some workers always slower."""
    return Compute(gradient_s=1.0, distribution="lognormal", sigma=SPREAD, slow=slow or {})


ASYNCHRONOUS: dict[str, Algorithm] = {
    "allreduce-sgd": AllreduceSGD(),
    "d-psgd": DPSGD(order="atc"),
    "ad-psgd": ADPSGD(topology="complete-bipartite", overlap=True),
    "prague": Prague(),
    "dsgd-aau S": DSGDAAU(rule="S"),
    "dsgd-aau R": DSGDAAU(rule="R"),
}


def persistent_straggler(scale: Scale) -> Rows:
    """Gradients per worker and second of 16 workers of which one is always slower; a model takes 0.1 s."""
    rows = []
    for factor in (1.0, 2.0, 10.0, 100.0):
        seconds = 1000.0 if factor == 100 else 300.0 if scale == "full" else 150.0
        for name, algorithm in ASYNCHRONOUS.items():
            found = pace(algorithm, 16, seconds, uneven({"1": factor}), network(0.1))
            rows.append({"algorithm": name, "workers": 16, "slow": factor, "gradients_per_s": found.gradients_per_s})
    return rows


def prague(scale: Scale) -> Rows:
    """Gradients per worker and second of 16 workers, all equal or one five times slower; a model takes 0.1 s.

    AD-PSGD averages after its gradient, so that the exchange costs time, as in the comparison that is quoted.
    """
    algorithms = {"allreduce-sgd": AllreduceSGD(), "ad-psgd": ADPSGD(topology="complete-bipartite"), "prague": Prague()}
    return [
        {
            "algorithm": name,
            "slow": factor,
            "seed": seed,
            "gradients_per_s": pace(
                algorithm, 16, 120.0, uneven({"1": factor} if factor > 1 else None), network(0.1), seed
            ).gradients_per_s,
        }
        for factor in (1.0, 5.0)
        for seed in range(5 if scale == "full" else 3)
        for name, algorithm in algorithms.items()
    ]


def shared_network(scale: Scale) -> Rows:
    """Gradients per worker and second of 16 workers; a model takes 0.25 s, ten times as much to and from two nodes."""
    algorithms = {
        "allreduce-sgd": AllreduceSGD(),
        "d-psgd": DPSGD(order="atc"),
        "ad-psgd": ADPSGD(topology="complete-bipartite", overlap=True),
    }
    rows = []
    for shared in (False, True):
        net = network(0.25, slow={1: 10.0, 6: 10.0} if shared else None, ranks=16)
        for seed in range(5 if scale == "full" else 3):
            for name, algorithm in algorithms.items():
                found = pace(algorithm, 16, 120.0, uneven(), net, seed)
                rows.append(
                    {"algorithm": name, "shared": shared, "seed": seed, "gradients_per_s": found.gradients_per_s}
                )
    return rows


def overlap(scale: Scale) -> Rows:
    """Seconds per step of SGP, and of SGP whose messages overlap one gradient, by the time that a message takes."""
    rows = []
    for transfer_s in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0) if scale == "full" else (0.5, 1.0, 2.0):
        for workers in (4, 8, 16) if scale == "full" else (4, 8):
            for name, algorithm in (("sgp", SGP()), ("overlap-sgp", OverlapSGP(delay=1))):
                found = pace(algorithm, workers, 100.0, Compute(gradient_s=1.0), network(transfer_s))
                rows.append(
                    {
                        "algorithm": name,
                        "workers": workers,
                        "transfer_s": transfer_s,
                        "step_s": 1 / found.gradients_per_s,
                    }
                )
    return rows


def crossover(scale: Scale) -> Rows:
    """Seconds of communication per step of ring all-reduce and of D-PSGD on a ring, over latency and bandwidth.

    A gradient is made to take next to nothing, so that a step is its communication.
    """
    rows = []
    for workers in (4, 8, 16, 32) if scale == "full" else (4, 16):
        for latency_s in (0.0, 0.01, 0.1, 1.0):
            for transfer_s in (0.001, 0.1, 1.0):
                net, nothing = network(transfer_s, latency_s), Compute(gradient_s=1e-9)
                step = {}
                for name, algorithm in (("allreduce", AllreduceSGD()), ("gossip", DPSGD(order="atc"))):
                    workload = Quadratic(dimension=DIMENSION, noise=0.0).build(torch.device("cpu"), workers)
                    simulation = Simulation(
                        algorithm, workload, workers=workers, seed=0, compute=nothing, network=net, bucket_nbytes=0
                    ).run(Budget(steps=20, snapshots=1))
                    step[f"{name}_s"] = simulation.kernel.now() / 20
                rows.append({"workers": workers, "latency_s": latency_s, "transfer_s": transfer_s, **step})
    return rows
