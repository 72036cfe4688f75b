"""Links when all of them are busy, and what messages then take from those who compute: found by running the simulator.

A message alone on a network is faster than what training sees: TCP divides a link unevenly among those that share it
(on four hosts in a ring, sending both ways, plain sockets had 0.85 of it). And where hosts share a machine's cores, the
kernel's part in a message takes time from the gradients beside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.calibrate.fit import least, rounded
from bench.calibrate.machine import SimulatedMachine, Subject
from bench.calibrate.measure import Measurements, round_s
from bench.calibrate.programs import Neighbours
from bench.cluster import Compute, Network

SIMULATED_ROUNDS = 60
"""Rounds of messages that are simulated for a mean duration."""


def busy(
    network: Network, computes: Mapping[str, Compute], found: Measurements, subjects: Sequence[Subject], ranks: int
) -> tuple[Network, dict[str, Compute]]:
    """The same with the bandwidth between nodes such that simulated rounds of messages are as long as the measured
    ones, without gradients and beside them; never faster than before.

    The bandwidth is that of the largest workload's rounds. Where nodes share a machine's cores, exchange_s is what
    gradients beside messages were longer by; elsewhere it stays what a single request showed.
    """
    measured = [subject for subject in subjects if found.steps[subject.label].neighbours_s]
    if not measured:
        return network, dict(computes)
    costly = {
        subject.label: _costlier(computes[subject.label], found, subject, ranks)
        for subject in measured
        if computes[subject.label].nodes_per_machine > 1
    }
    computes = {**computes, **costly}
    largest = max(measured, key=lambda subject: found.steps[subject.label].nbytes)
    times = found.steps[largest.label]
    for program, rounds_s in ((Neighbours(), times.neighbours_s), (Neighbours(computing=True), times.overlapped_s)):
        measured_s = float(np.median(rounds_s))
        network = _slower(network, computes[largest.label], largest, ranks, program, measured_s, times.nbytes)
    return network, computes


def _slower(
    network: Network,
    compute: Compute,
    subject: Subject,
    ranks: int,
    program: Neighbours,
    measured_s: float,
    nbytes: int,
) -> Network:
    """The network with the bandwidth at which the program's rounds are as long as the measured ones."""
    gbit = network.outer.figures[1]

    def with_more(more_s: float) -> Network:
        """Each vector takes so much longer."""
        byte_s = 8e-9 / gbit + more_s / nbytes  # 0: no end to the bandwidth
        return replace(network, bandwidth_Gbit_per_s=rounded(8e-9 / byte_s) if byte_s else math.inf)

    def taken(more_s: float) -> float:
        machine = SimulatedMachine(ranks, with_more(more_s), {subject.label: compute})
        return round_s(machine.run(program, subject, SIMULATED_ROUNDS * measured_s)) / measured_s

    return with_more(least(taken, 1.0, measured_s))


def _costlier(compute: Compute, found: Measurements, subject: Subject, ranks: int) -> Compute:
    """The compute times with what a message takes from the gradients beside it, as work: on shared cores all ranks'
    gradients together are longer by all ranks' messages."""
    share = min(1.0, compute.cores_per_node / ranks)
    longer_s = float(np.median(found.steps[subject.label].disturbed_s))
    return replace(compute, exchange_s=max(compute.exchange_s, rounded(longer_s * share / min(2, ranks - 1))))
