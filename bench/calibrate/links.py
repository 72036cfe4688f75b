"""Links when all of them are busy, and what messages then take from those who compute: found by running the simulator.

A message alone on a network is faster than what training sees: TCP divides a link unevenly among those that share it
(on four hosts in a ring, sending both ways, plain sockets had 0.85 of it). And where hosts share a machine's cores, the
kernel's part in a message takes time from the gradients beside it.
"""

from __future__ import annotations

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
    """The same with the bandwidth between nodes and exchange_s such that simulated rounds of messages are as long as
    the measured ones, without gradients and beside them; never faster than before.

    The bandwidth is that of the largest workload's rounds. exchange_s is found where nodes share a machine's cores:
    elsewhere it is what a single request showed.
    """
    measured = [subject for subject in subjects if found.steps[subject.label].neighbours_s]
    if not measured:
        return network, dict(computes)
    largest = max(measured, key=lambda subject: found.steps[subject.label].nbytes)
    network = _slower(network, computes[largest.label], found, largest, ranks)
    own = {
        subject.label: _costlier(network, computes[subject.label], found, subject, ranks)
        for subject in measured
        if computes[subject.label].nodes_per_machine > 1
    }
    return network, {**computes, **own}


def _slower(network: Network, compute: Compute, found: Measurements, subject: Subject, ranks: int) -> Network:
    """The network with the bandwidth of rounds without gradients."""
    times, gbit = found.steps[subject.label], network.outer.figures[1]
    measured_s = float(np.median(times.neighbours_s))

    def with_more(more_s: float) -> Network:
        """Each of the workload's vectors takes so much longer."""
        return replace(network, bandwidth_Gbit_per_s=rounded(1 / (1 / gbit + more_s / (8e-9 * times.nbytes))))

    def taken(more_s: float) -> float:
        return _round_s(Neighbours(), with_more(more_s), compute, subject, ranks, measured_s) / measured_s

    return with_more(least(taken, 1.0, measured_s))


def _costlier(network: Network, compute: Compute, found: Measurements, subject: Subject, ranks: int) -> Compute:
    """The compute times with the exchange_s of rounds beside gradients."""
    measured_s = float(np.median(found.steps[subject.label].overlapped_s))

    def with_more(more_s: float) -> Compute:
        return replace(compute, exchange_s=rounded(compute.exchange_s + more_s))

    def taken(more_s: float) -> float:
        program = Neighbours(computing=True)
        return _round_s(program, network, with_more(more_s), subject, ranks, measured_s) / measured_s

    return with_more(least(taken, 1.0, measured_s))


def _round_s(
    program: Neighbours, network: Network, compute: Compute, subject: Subject, ranks: int, about_s: float
) -> float:
    machine = SimulatedMachine(ranks, network, {subject.label: compute})
    return round_s(machine.run(program, subject, SIMULATED_ROUNDS * about_s))
