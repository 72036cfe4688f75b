"""Calibration of a simulated cluster gives that cluster back: the same programs and fits as on real ranks."""

from __future__ import annotations

import doctest
import importlib
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench.calibrate import fit, links
from bench.calibrate.machine import Row, Rows, SimulatedMachine, Subject
from bench.calibrate.measure import (
    Measurements,
    after_requests_s,
    exchanges_s,
    measure,
    reductions_s,
    round_s,
    sharing,
    waits_s,
    without_reductions_s,
)
from bench.calibrate.programs import Asking, Neighbours
from bench.cluster import Compute, Handling, Network
from bench.settings import StudyError
from bench.workloads.quadratic import Quadratic

LATENCY_S, GBIT = 50e-6, 10.0
PLAIN = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT)
LABEL = "quadratic"


def subject(dimension: int = 4000) -> Subject:
    workload = Quadratic(dimension=dimension).build(torch.device("cpu"), 4)
    return Subject(LABEL, workload, OptimizerSettings(name="sgd", lr=0.1))


def calibrated(
    network: Network, compute: Compute, *, ranks: int = 2, seconds: float = 0.05
) -> tuple[Network, Compute, dict[str, float], Measurements]:
    """What calibration finds of a cluster."""
    subjects = [subject()]
    machine = SimulatedMachine(ranks, network, {LABEL: compute})
    found = measure(machine, subjects, cores=ranks, seconds=seconds, rounds=1, largest_nbytes=1 << 20)
    fitted, residuals = fit.network(found, ranks=ranks, hosts=ranks)
    computes = {LABEL: fit.compute(found.steps[LABEL], cores=0)}
    fitted, computes = fit.refine(fitted, computes, found, subjects, ranks)
    return fitted, computes[LABEL], residuals, found


@pytest.mark.parametrize("module", ["fit", "measure", "machine"])
def test_doctests(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"bench.calibrate.{module}")).failed == 0


@pytest.mark.parametrize(("ranks", "kind"), [(2, "ring"), (4, "ring"), (4, "tree"), (3, "recursive-halving")])
def test_a_network_is_found_as_it_is(ranks: int, kind: str) -> None:
    network = replace(PLAIN, collective=kind)
    fitted, compute, residuals, _ = calibrated(network, Compute(gradient_s=1e-3), ranks=ranks)
    assert fitted.latency_s == pytest.approx(LATENCY_S, rel=1e-6)
    assert fitted.bandwidth_Gbit_per_s == pytest.approx(GBIT, rel=1e-6)
    assert fitted.handling == Handling()
    assert (fitted.collective, fitted.collective_latency_s, fitted.collective_bandwidth_Gbit_per_s) == (
        kind,
        None,
        None,
    )
    assert all(residual < 1e-6 for residual in residuals.values())
    assert set(compute.times_s) == {1e-3}
    assert replace(compute, times_s=(), trace_sha256="", distribution="constant") == Compute()


def test_all_reduces_of_their_own_speed_are_found() -> None:
    network = replace(PLAIN, collective_latency_s=10e-6, collective_bandwidth_Gbit_per_s=40.0)
    fitted = calibrated(network, Compute(gradient_s=1e-3), ranks=4)[0]
    assert fitted.collective == "ring"
    assert fitted.collective_latency_s == pytest.approx(10e-6, rel=1e-5)
    assert fitted.collective_bandwidth_Gbit_per_s == pytest.approx(40.0, rel=1e-5)
    assert fitted.latency_s == pytest.approx(LATENCY_S, rel=1e-6)


def test_what_a_step_costs_beside_its_gradient_is_found() -> None:
    costs = {
        "step_s": 2e-4,
        "exchange_s": 7e-5,
        "aside_s": 1e-4,
        "cold_s": 8e-5,
        "cold_long_s": 5e-4,
        "cold_lasts": 0.5,
        "cold_reduce_s": 6e-5,
    }
    compute = calibrated(PLAIN, Compute(gradient_s=1e-3, **costs))[1]  # type: ignore[arg-type]
    for name, value in costs.items():
        assert getattr(compute, name) == pytest.approx(value, rel=1e-3), name
    assert compute.busy_s == compute.taken_s == 0


@pytest.mark.thorough
def test_what_a_message_costs_one_who_computes_is_found() -> None:
    truth = Compute(gradient_s=1e-3, aside_s=1e-4, taken_s=4e-4)
    compute = calibrated(PLAIN, truth, seconds=0.3)[1]
    assert compute.taken_s == pytest.approx(4e-4, rel=0.05) and compute.busy_s == 0


@pytest.mark.thorough
def test_what_handing_over_costs_beside_an_idle_core_is_found() -> None:
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, ranks_per_node=2, inside="NVLink")
    truth = Compute(gradient_s=1e-3, aside_s=1e-4, aside_idle_s=4e-4, cores_per_node=2)
    machine = SimulatedMachine(2, network, {LABEL: truth})
    found = measure(machine, [subject()], cores=2, seconds=0.05, rounds=1, largest_nbytes=1 << 20).steps[LABEL]
    compute = fit.compute(found, cores=2)
    assert compute.aside_s == pytest.approx(1e-4, rel=1e-3) and compute.aside_idle_s == pytest.approx(4e-4, rel=1e-3)
    assert fit.compute(found, cores=1).aside_idle_s == 0  # with one core none is idle


@pytest.mark.parametrize("own", [Handling(message_s=2e-4), Handling(message_s=1e-4, byte_s=2e-9)])
def test_what_a_message_costs_its_receiver_is_found(own: Handling) -> None:
    fitted, compute, _, _ = calibrated(replace(PLAIN, handling=own), Compute(gradient_s=1e-3))
    assert fitted.handling.message_s == pytest.approx(own.message_s, rel=1e-3)
    assert fitted.handling.byte_s == pytest.approx(own.byte_s, rel=1e-3)
    assert fitted.latency_s == pytest.approx(LATENCY_S, rel=1e-3)
    assert fitted.bandwidth_Gbit_per_s == pytest.approx(GBIT, rel=1e-3)
    assert compute.busy_s == 0


@pytest.mark.thorough
def test_waits_for_answers_are_found_again() -> None:
    handling = Handling(message_s=1e-5, wake_s=9e-5, look_s=5e-5, nap_s=1e-3)
    costs = {"step_s": 1e-4, "aside_s": 1e-4, "busy_s": 4e-4}
    truth = Compute(gradient_s=1e-3, distribution="lognormal", sigma=0.2, **costs)  # type: ignore[arg-type]
    network = replace(PLAIN, handling=handling)
    fitted, compute, _, _ = calibrated(network, truth, seconds=0.3)
    # The asking rank naps too, some 0.2 ms by then, so answers come in a staircase of looks: the two are known to about
    # a nap, and together give the waits.
    assert fitted.handling.wake_s == pytest.approx(9e-5, abs=1e-4)
    assert compute.busy_s == pytest.approx(4e-4, abs=2e-4)
    for busy in (False, True):
        waits = [
            np.mean(waits_s(SimulatedMachine(2, n, {LABEL: c}).run(Asking(busy=busy), subject(), 1.0)[0]))
            for n, c in ((network, truth), (fitted, compute))
        ]
        assert waits[1] == pytest.approx(waits[0], rel=0.05)


def test_a_distribution_is_found() -> None:
    machine = SimulatedMachine(1, PLAIN, {LABEL: Compute(gradient_s=1e-3, distribution="lognormal", sigma=0.3)})
    found = measure(machine, [subject()], cores=1, seconds=2.0, rounds=1)
    compute = fit.compute(found.steps[LABEL], cores=0)
    logs = np.log(np.array(compute.times_s) / 1e-3)
    assert len(logs) == fit.QUANTILES
    assert logs.mean() == pytest.approx(0.0, abs=5 * 0.3 / math.sqrt(2000))
    assert logs.std() == pytest.approx(0.3, rel=0.1)
    assert compute.step_s < 1e-6


def test_a_step_without_its_all_reduce() -> None:
    rows = [
        *(Row("gradient", 0.0, 1.0), Row("allreduce", 1.0, 3.0), Row("apply", 3.0, 3.5)),
        *(Row("gradient", 4.0, 5.0), Row("allreduce", 5.0, 9.0), Row("apply", 9.0, 9.5)),
    ]
    assert without_reductions_s(rows).tolist() == [2.0]  # 6 from apply to apply, 4 of them in the all-reduce


def test_an_all_reduce_is_counted_from_when_the_last_has_joined() -> None:
    early = [Row("allreduce", 1.0, 5.0)]
    late = [Row("allreduce", 3.0, 4.0)]
    assert reductions_s([early, late]) == [1.5]


def test_gradients_after_a_request_and_what_it_costs() -> None:
    # Gradients of 1.5, 1.2, 1.1 s ... with 0.2 s from one to the next; a request after the first and fourth, for which
    # it takes 0.3 s more, and 1 s of waiting.
    rows, now = [], 0.0
    for step, took in enumerate((1.0, 1.5, 1.2, 1.1, 1.5, 1.2, 1.1, 1.0)):
        rows.append(Row("gradient", now, now + took))
        now += took
        if step in (0, 3):
            rows.append(Row("wait", now + 0.1, now + 1.1))
            now += 1.3
        now += 0.2
    assert after_requests_s(rows, 3) == [[pytest.approx(t)] * 2 for t in (1.5, 1.2, 1.1)]
    assert exchanges_s(rows) == [pytest.approx(0.3)] * 2


def test_a_mean_of_nothing_says_that_the_measurement_was_too_short() -> None:
    with pytest.raises(StudyError, match="too short for two steps"):
        fit.trimmed_mean([])


def test_a_line_has_no_part_below_zero() -> None:
    assert fit.line([1.0, 1000.0], [1.0, 0.9]).byte_s == 0.0
    assert fit.line([10.0, 1000.0], [1e-3, 0.2]).base_s == 0.0


@pytest.mark.parametrize("share", [1.0, 0.85])
def test_what_shared_cores_lose_is_found(share: float) -> None:
    network = replace(PLAIN, ranks_per_node=4, inside="shared-memory")
    compute = Compute(gradient_s=1e-3, cores_per_node=2, sharing=share)
    found = sharing(SimulatedMachine(4, network, {LABEL: compute}), [subject()], cores=2, seconds=0.05, rounds=1)
    assert found == {LABEL: pytest.approx(share, rel=1e-6)}


@dataclass
class Crowded(SimulatedMachine):
    """Links that pass only a share of their bandwidth when all are busy, and hosts that share a machine's cores."""

    share: float = 1.0

    def run(self, program: Algorithm, subject: Subject, seconds: float, *, spin: bool = False) -> Rows:
        """See `Machine`."""
        network = self.network
        if isinstance(program, Neighbours):
            gbit = network.outer.figures[1] * self.share
            network = replace(network, bandwidth_Gbit_per_s=gbit)
        return SimulatedMachine(self.ranks, network, self.compute).run(program, subject, seconds, spin=spin)


@pytest.mark.thorough
@pytest.mark.parametrize("share", [1.0, 0.8])
def test_links_that_all_use_at_once_are_found_as_they_are_then(share: float) -> None:
    compute = Compute(gradient_s=1e-3, cores_per_node=2, nodes_per_machine=4, exchange_s=2e-4)
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=1.0, handling=Handling(byte_s=1e-9))
    machine, subjects = Crowded(4, network, {LABEL: compute}, share), [subject(100_000)]
    found = measure(machine, subjects, cores=2, seconds=0.05, rounds=1, largest_nbytes=1 << 20, between=True)
    fitted, _ = fit.network(found, ranks=4, hosts=4, known_Gbit_per_s=1.0)
    assert fitted.bandwidth_Gbit_per_s == pytest.approx(1.0, rel=1e-3)
    assert fitted.handling.byte_s == pytest.approx(1e-9, rel=0.02)
    computes = {LABEL: fit.compute(found.steps[LABEL], cores=2, nodes_per_machine=4)}
    alone = computes[LABEL].exchange_s
    fitted, computes = links.busy(fitted, computes, found, subjects, 4)
    assert fitted.bandwidth_Gbit_per_s == pytest.approx(share, rel=0.02)
    assert alone <= computes[LABEL].exchange_s
    simulated = SimulatedMachine(4, fitted, computes)
    for computing, measured_s in ((False, found.steps[LABEL].neighbours_s), (True, found.steps[LABEL].overlapped_s)):
        again_s = round_s(simulated.run(Neighbours(computing=computing), subjects[0], 0.5))
        assert again_s == pytest.approx(measured_s[0], rel=0.03)


def test_links_without_an_end_to_their_bandwidth_stay_so() -> None:
    compute = Compute(gradient_s=1e-3)
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=math.inf)
    machine, subjects = SimulatedMachine(2, network, {LABEL: compute}), [subject()]
    found = measure(machine, subjects, cores=2, seconds=0.05, rounds=1, largest_nbytes=1 << 14, between=True)
    fitted, _ = links.busy(network, {LABEL: compute}, found, subjects, 2)
    assert fitted == network


@pytest.mark.thorough
def test_ranks_that_crowd_the_cores_are_not_taken_for_cold_ones() -> None:
    network = Network(latency_s=LATENCY_S, bandwidth_Gbit_per_s=GBIT, ranks_per_node=4, inside="NVLink")
    machine = SimulatedMachine(4, network, {LABEL: Compute(gradient_s=1e-3, cores_per_node=2)})
    found = measure(machine, [subject()], cores=2, seconds=0.05, rounds=1, largest_nbytes=1 << 14).steps[LABEL]
    assert min(map(len, found.after_waits_s)) > 0
    compute = fit.compute(found, cores=2)
    assert compute.cold_long_s == compute.cold_lasts == 0


@pytest.mark.thorough
def test_long_gradients_are_measured_for_longer() -> None:
    truth = Compute(gradient_s=0.5, aside_s=0.1)
    compute = calibrated(PLAIN, truth)[1]
    assert compute.aside_s == pytest.approx(0.1, rel=1e-3) and compute.step_s == 0
    assert fit.trimmed_mean(compute.times_s) == pytest.approx(0.5, rel=1e-3)
