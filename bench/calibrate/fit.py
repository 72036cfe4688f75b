"""From measurements to the settings of the simulator.

Source: Hockney, The communication challenge for MPP: Intel Paragon and Meiko CS-2 (Parallel Computing 1994): a message
of b bytes takes latency + b / bandwidth; all-reduces as in `bench.cluster.collectives`. Least squares on relative
errors, so that small messages count as much as large ones; no parameter below 0.

Symbols: S = sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from bench.calibrate.machine import Rows, SimulatedMachine, Subject
from bench.calibrate.measure import Measurements, StepTimes, steps_s, trimmed_mean, waits_s
from bench.calibrate.programs import Asking
from bench.cluster import HEADER_NBYTES, Compute, Fabric, Handling, Network, Wire
from bench.cluster.collectives import Collective
from bench.cluster.compute import LONG_WAIT_S
from bench.cluster.file import ONE_HOST

QUANTILES = 500
"""Gradient times that are kept, evenly spaced in probability."""

SIMULATED_ANSWERS = 300
"""Steps that are simulated for a mean time of answers."""

NOTHING = 1e-3
"""Share of a step below which a step's later cost is none."""

HALVINGS = 8
"""Of the range in which a wait for an answer is matched; naps make it a staircase."""

OWN_WEIGHT = 30.0
"""Of the workloads' own sizes, against 1 of the others."""

GOOD_ENOUGH = 0.01
"""Residual up to which all-reduces need no speed of their own."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Line:
    """time = base_s + byte_s b, and how far it is off: root mean square of the relative errors, weighted."""

    base_s: float
    byte_s: float
    residual: float


def line(
    nbytes: Sequence[float],
    times_s: Sequence[float],
    *,
    weights: Sequence[float] | None = None,
    base: float = 1.0,
    byte: float = 1.0,
) -> Line:
    """The line through measured times that has the least relative errors.

    Args:
        nbytes, times_s: [S].
        weights: of the sizes [S]; None: all alike.
        base, byte: what the two parameters are multiplied by: `base` base_s + `byte` byte_s b.

    Example:
        >>> found = line([0, 1000, 10000], [1e-3, 2e-3, 11e-3])
        >>> round(found.base_s, 9), round(found.byte_s, 12), round(found.residual, 9)
        (0.001, 1e-06, 0.0)
    """
    sizes, times = np.asarray(nbytes, dtype=np.float64), np.asarray(times_s, dtype=np.float64)
    columns = np.stack([np.full_like(times, base), byte * sizes], axis=1) / times[:, None]
    scale = columns.max(axis=0)
    counts = np.ones_like(times) if weights is None else np.asarray(weights, dtype=np.float64)
    root = np.sqrt(counts)
    solution, _ = nnls(root[:, None] * columns / scale, root)
    found = solution / scale
    return Line(float(found[0]), float(found[1]), rms(columns @ found, counts))


def rms(ratios: Array, weights: Sequence[float] | Array) -> float:
    """Root mean square of (ratio - 1) over the sizes [S], as much as each counts."""
    return float(np.sqrt(np.average((ratios - 1) ** 2, weights=weights)))


def weights_of(nbytes: Sequence[int], found: Measurements) -> list[float]:
    """How much each size counts: the workloads' own vectors are what will be sent, so no line may miss them."""
    own = {4 * max(1, times.nbytes // 4) for times in found.steps.values()}
    return [OWN_WEIGHT if size in own else 1.0 for size in nbytes]


def medians(times_s: Mapping[int, Sequence[float]]) -> tuple[list[int], list[float]]:
    """(sizes, median times)."""
    known = {nbytes: float(np.median(times)) for nbytes, times in times_s.items() if len(times)}
    return list(known), list(known.values())


def messages(found: Measurements, known_Gbit_per_s: float | None = None) -> tuple[Wire, Handling, dict[str, float]]:
    """(what a message feels on its way, what it costs its receiver, residuals).

    A rank that is asked for more than it can answer shows what limits it: the time between its answers. That grows as
    message_s + byte_s b if it is the rank itself, and is the larger of message_s and b / bandwidth if it is the wire;
    whichever fits better is believed. The rest of a single message's time is the wire's.

    Args:
        known_Gbit_per_s: what the wire passes, where somebody has set it; the rest of a message's time is the rank's.
    """
    asked, trips_s = medians(found.trips)
    trip = line([nbytes + HEADER_NBYTES for nbytes in asked], trips_s, weights=weights_of(asked, found))
    sizes, answers_s = medians(found.answers)
    weights = weights_of(sizes, found)
    own = line(sizes, answers_s, weights=weights)
    wire_s = np.array([nbytes + HEADER_NBYTES for nbytes in sizes]) * trip.byte_s
    limited = np.maximum(wire_s, min(answers_s))
    limited_residual = rms(limited / np.array(answers_s), weights)
    is_wire = known_Gbit_per_s is not None or limited_residual <= own.residual + 1e-9
    least_s = min(answers_s) if min(answers_s) > 1.001 * wire_s[0] else 0.0
    message_s, byte_s = (least_s, 0.0) if is_wire else (own.base_s, min(own.byte_s, trip.byte_s))
    if known_Gbit_per_s is not None:
        byte_s = max(0.0, trip.byte_s - 8e-9 / known_Gbit_per_s)
    message_s = min(message_s, trip.base_s)
    per_byte_s = trip.byte_s - byte_s
    wire = Wire(
        latency_s=trip.base_s + HEADER_NBYTES * byte_s - message_s,  # the header costs the wire, not the receiver
        bandwidth_Gbit_per_s=8e-9 / per_byte_s if per_byte_s > 1e-3 * trip.byte_s else math.inf,
    )
    handling = Handling(message_s=message_s, byte_s=byte_s, look_s=found.look_s, nap_s=found.nap_s)
    residuals = {"messages": trip.residual, "answers": limited_residual if is_wire else own.residual}
    return wire, handling, residuals


def reductions(found: Measurements, wire: Wire, ranks: int) -> tuple[Collective, Wire, float]:
    """(the algorithm that fits best, the wire with its all-reduces' own speed if they have one, residual)."""
    sizes, times_s = medians(found.reductions)
    weights = weights_of(sizes, found)
    kinds: tuple[Collective, ...] = get_args(Collective)
    tried = []
    for kind in kinds:
        network = _flat(wire, kind)
        model = np.array([_allreduce_s(network, ranks, nbytes) for nbytes in sizes])
        tried.append((rms(model / np.array(times_s), weights), kind, wire))
    best = min(tried, key=lambda entry: entry[0])
    if best[0] > GOOD_ENOUGH:
        tried = []
        for kind in kinds:
            rounds = _allreduce_s(_flat(Wire(latency_s=1.0, bandwidth_Gbit_per_s=math.inf), kind), ranks, 1)
            parts = _allreduce_s(_flat(Wire(latency_s=0.0, bandwidth_Gbit_per_s=8e-9), kind), ranks, 1)
            fitted = line(sizes, times_s, weights=weights, base=rounds, byte=parts)
            gbit = 8e-9 / fitted.byte_s if fitted.byte_s > 0 else math.inf
            own = _with(wire, collective_latency_s=fitted.base_s, collective_bandwidth_Gbit_per_s=gbit)
            tried.append((fitted.residual, kind, own))
        best = min(tried, key=lambda entry: round(entry[0], 6))
    return best[1], best[2], best[0]


def _with(wire: Wire, **changes: Any) -> Wire:
    latency_s, gbit = wire.figures
    return Wire(latency_s=latency_s, bandwidth_Gbit_per_s=gbit, **changes)


def _flat(wire: Wire, kind: Collective) -> Network:
    latency_s, gbit = wire.figures
    return Network(latency_s=latency_s, bandwidth_Gbit_per_s=gbit, collective=kind)


def _allreduce_s(network: Network, ranks: int, nbytes: int) -> float:
    return Fabric(network, workers=ranks, ranks=ranks).allreduce_end_s(0.0, nbytes)


def network(
    found: Measurements, *, ranks: int, hosts: int, known_Gbit_per_s: float | None = None
) -> tuple[Network, dict[str, float]]:
    """(the network, residuals by fit). On one host all ranks are on one node; of the wire between nodes nothing is
    known then, and it is taken for the same.

    Args:
        known_Gbit_per_s: what the wire between hosts passes, where somebody has set it.
    """
    if ranks == 1:
        return Network(), {}
    wire, handling, residuals = messages(found, known_Gbit_per_s)
    kind, wire, residual = reductions(found, wire, ranks)
    settings = {f: getattr(wire, f) for f in ("latency_s", "bandwidth_Gbit_per_s")}
    own = {f: getattr(wire, f) for f in ("collective_latency_s", "collective_bandwidth_Gbit_per_s")}
    inside = {"ranks_per_node": ONE_HOST, "inside": wire} if hosts == 1 else own
    return (
        Network(**settings, **inside, collective=kind, handling=handling),
        residuals | {"all-reduces": residual},
    )


def compute(times: StepTimes, *, cores: int, nodes_per_machine: int = 1, sharing: float = 1.0) -> Compute:
    """A workload's compute times: quantiles of its gradients, and what a step costs beside them."""
    gradients = np.asarray(times.together_s)
    plain_s = trimmed_mean(times.plain_s)
    count = min(QUANTILES, len(gradients))
    shares = (np.arange(count) + 0.5) / count
    exchange_s = float(np.median(times.exchanges_s)) if times.exchanges_s else 0.0
    together_s = trimmed_mean(times.together_s)
    cold_s, short_lasts = cooling([trimmed_mean(t) - together_s for t in times.later_s if t])
    cold_long_s, long_lasts = cooling([trimmed_mean(t) - together_s for t in times.after_waits_s if t])
    # What was measured after a short wait has its share of what a long one costs.
    share = min(float(np.median(times.idle_answers_s)) / LONG_WAIT_S, 0.5) if times.idle_answers_s else 0.0
    cold_s = max(0.0, (cold_s - share * cold_long_s) / (1 - share)) if cold_long_s > cold_s else cold_s
    cold_lasts = long_lasts if cold_long_s > cold_s else short_lasts
    if max(cold_s, cold_long_s) < NOTHING * plain_s:
        cold_s = cold_long_s = cold_lasts = 0.0
    return Compute(
        distribution="trace",
        times_s=tuple(rounded(float(time_s)) for time_s in np.quantile(gradients, shares)),
        step_s=rounded(plain_s - together_s),
        exchange_s=rounded(exchange_s) if exchange_s > NOTHING * plain_s else 0.0,
        aside_s=rounded(float(np.median(times.aside_s))) if times.aside_s else 0.0,
        aside_idle_s=rounded(float(np.median(times.aside_idle_s))) if times.aside_idle_s and cores > 1 else 0.0,
        cold_s=rounded(cold_s),
        cold_long_s=rounded(cold_long_s),
        cold_lasts=round(cold_lasts, 3),
        cold_reduce_s=rounded(float(np.median(times.reducing_s))) if times.reducing_s else 0.0,
        cores_per_node=cores,
        nodes_per_machine=nodes_per_machine,
        sharing=round(sharing, 3),
    )


def cooling(later_s: Sequence[float]) -> tuple[float, float]:
    """(c, r) such that the k-th step after a disturbance, from 0, takes nearly c r^k longer; least squares, r < 1.

    Example:
        >>> cooling([0.4, 0.2, 0.1, 0.05])
        (0.4, 0.5)
    """
    extra = np.maximum(np.asarray(later_s, dtype=np.float64), 0.0)
    if not len(extra) or not extra.any():
        return 0.0, 0.0
    best = (math.inf, 0.0, 0.0)
    for lasts in np.linspace(0.0, 0.95, 96):
        shape = lasts ** np.arange(len(extra))
        first = float(shape @ extra / (shape @ shape))
        best = min(best, (float(((first * shape - extra) ** 2).sum()), first, float(lasts)))
    return round(best[1], 12), round(best[2], 12)


def refine(
    network: Network, computes: dict[str, Compute], found: Measurements, subjects: Sequence[Subject], ranks: int
) -> tuple[Network, dict[str, Compute]]:
    """wake_s and busy_s, so that the simulator's waits for answers are as long as the measured ones, and taken_s, so
    that the steps of those who answer are.

    All come on top of what spinning ranks feel: a rank that naps also wakes up, and one that computes beside shares
    Python's lock with that.
    """
    asked = [s for s in subjects if found.steps[s.label].idle_answers_s and found.steps[s.label].busy_answers_s]
    # Means with their tails: a rank that computes beside now and then keeps Python's lock for milliseconds.
    idle_s = {s.label: float(np.mean(found.steps[s.label].idle_answers_s)) for s in asked}
    busy_s = {s.label: float(np.mean(found.steps[s.label].busy_answers_s)) for s in asked}

    def simulated(program: Asking, subject: Subject, handling: Handling, compute: Compute) -> Rows:
        machine = SimulatedMachine(ranks, replace(network, handling=handling), {subject.label: compute})
        seconds = SIMULATED_ANSWERS * trimmed_mean(found.steps[subject.label].plain_s)
        return machine.run(program, subject, seconds)

    def simulated_s(program: Asking, subject: Subject, handling: Handling, compute: Compute) -> float:
        return float(np.mean(waits_s(simulated(program, subject, handling, compute)[0])))

    def idle(wake_s: float) -> float:
        """Mean of simulated / measured waits for a rank that sleeps."""
        handling = replace(network.handling, wake_s=wake_s)
        label = [simulated_s(Asking(), s, handling, computes[s.label]) / idle_s[s.label] for s in asked]
        return float(np.mean(label))

    if asked and network.handling.nap_s:
        wake_s = least(idle, 1.0, max(idle_s.values()))
        network = replace(network, handling=replace(network.handling, wake_s=rounded(wake_s)))
    for subject in asked:
        before = computes[subject.label]

        def busy(more_s: float, subject: Subject = subject, before: Compute = before) -> float:
            later = replace(before, busy_s=more_s)
            return simulated_s(Asking(busy=True), subject, network.handling, later) / busy_s[subject.label]

        before = replace(before, busy_s=rounded(least(busy, 1.0, busy_s[subject.label])))
        answering_s = trimmed_mean(found.steps[subject.label].asked_s)

        def answering(
            more_s: float, subject: Subject = subject, before: Compute = before, s: float = answering_s
        ) -> float:
            rows = simulated(Asking(busy=True), subject, network.handling, replace(before, taken_s=more_s))
            return trimmed_mean(steps_s(rows[1]).tolist()) / s

        computes = computes | {subject.label: replace(before, taken_s=rounded(least(answering, 1.0, answering_s)))}
    return network, computes


def least(rises: Callable[[float], float], to: float, most: float) -> float:
    """The least value in 0..most at which what rises with it has come within 1 % of `to` or beyond; by bisection.

    Example:
        >>> round(least(lambda x: x * x, 0.25, 1.0), 2), least(lambda x: x + 1.0, 1.0, 1.0)
        (0.5, 0.0)
    """
    if rises(0.0) >= to * (1 - GOOD_ENOUGH):
        return 0.0
    low, high = 0.0, most
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if rises(middle) >= to else (middle, high)
    return high


def rounded(seconds: float) -> float:
    """Six digits, not below 0: what is written to the file."""
    return float(f"{max(seconds, 0.0):.6g}")
