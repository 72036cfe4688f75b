"""How long a simulated run will take is guessed from how far its algorithm gets on its network."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from bench import pilot
from bench.cli import durations
from bench.pilot import Pilot
from bench.records import load
from bench.run import run_cell
from bench.study import Cell, resolve


def cell(name: str, gbit: float, **more: object) -> Cell:
    study = resolve(
        {
            "name": "s",
            "workload": {"name": "digits-mlp"},
            "algorithm": {"name": name},
            "workers": 4,
            "transports": ["simulated"],
            "gradients": "none",
            "network": {"latency_s": 1e-5, "bandwidth_Gbit_per_s": gbit},
            "compute": {"gradient_s": 1e-3},
            "budget": {"seconds": 2.0, "snapshots": 2},
            **more,
        }
    )
    return next(study.cells())


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["allreduce-sgd", "d-psgd", "easgd"])
def test_a_slow_network_leaves_fewer_steps_and_so_less_to_compute(monkeypatch, tmp_path, name):
    """A worker-step costs 1 ms here by decree, so that the guess is a number of steps."""
    found = Pilot()
    real = pilot.pace
    monkeypatch.setattr(pilot, "pace", lambda c, steps: with_cost(real(c, steps), 1e-3))
    fast, slow = (found.wall_s(cell(name, gbit)) / 1e-3 for gbit in (100.0, 0.1))
    for gbit in (100.0, 0.1):
        run_cell(cell(name, gbit), tmp_path / f"{gbit}", world=None)
    steps = {gbit: int(load(tmp_path / f"{gbit}").runs["steps"].sum()) for gbit in (100.0, 0.1)}
    assert fast == pytest.approx(steps[100.0], rel=0.05)
    assert slow == pytest.approx(steps[0.1], rel=0.15)
    assert slow < 0.8 * fast


def test_a_partition_that_only_the_studys_workers_can_have_is_no_hindrance():
    """Two of ten classes each leave classes that nobody holds with the four workers of a pilot."""
    workload = {"name": "digits-mlp", "partition": {"by": "label", "classes": 2}}
    dealt = cell("d-psgd", 1.0, workers=16, gradients="auto", workload=workload)
    assert 0 < Pilot(seconds=0.0).wall_s(dealt) < math.inf


def test_what_runs_share_is_tried_once_and_all_trying_has_an_end(monkeypatch):
    found = Pilot()
    tried: list[str] = []
    real = pilot.pace
    monkeypatch.setattr(pilot, "pace", lambda c, steps: tried.append(c.run_id) or real(c, steps))
    first = found.wall_s(cell("d-psgd", 1.0))
    assert len(tried) == 2  # the first run of all prepares the others
    assert found.wall_s(cell("d-psgd", 1.0, seeds=[7])) == first and len(tried) == 2
    found._left_s = 0.0
    assert found.wall_s(cell("d-psgd", 10.0)) > 0 and len(tried) == 2


def with_cost(found, step_s):
    return replace(found, real_s=step_s * found.worker_steps)


def test_a_simulated_runs_budget_of_virtual_seconds_is_not_how_long_it_takes(monkeypatch):
    """An hour of 1 ms gradients on 4 workers, each 0.1 ms here by decree: 24 minutes, told without a pilot."""
    monkeypatch.setattr(pilot, "worker_step_s", lambda settings, gradients: 1e-4)
    monkeypatch.setattr(pilot, "pace", lambda c, steps: pytest.fail("a pilot was run"))
    hour = {"budget": {"seconds": 3600.0, "snapshots": 2}}
    guess = durations()
    assert guess(cell("d-psgd", 1.0, **hour)) == pytest.approx(4 * 3_600_000 * 1e-4)
    assert guess(cell("d-psgd", 1.0, **hour, transports=["mpi"], gradients="auto", network={})) == 3600.0


def test_what_cannot_be_tried_is_guessed_all_the_same(monkeypatch):
    """What is wrong with a run is recorded as its end; guessing how long it takes may not end the study before."""

    def raises(settings, gradients):
        raise RuntimeError("no loss today")

    monkeypatch.setattr(pilot, "worker_step_s", raises)
    assert durations()(cell("d-psgd", 1.0, gradients="auto", budget={"seconds": 3.0, "snapshots": 2})) == 3.0
