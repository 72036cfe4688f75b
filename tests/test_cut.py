"""A simulated run that is interrupted goes on event for event: for every algorithm, wherever it is interrupted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
import safetensors.torch
from torch import Tensor

from bench.budget import Budget
from bench.check import Row, quadratic
from bench.cluster import Compute, Network, Stragglers
from bench.simulate import Simulation
from tests.algorithms.support import make
from tests.algorithms.test_common import FIRST
from tests.support.mpi_cases import WishAt

COMPUTES = {
    "constant": Compute(gradient_s=1.0),  # much happens at the same time
    "lognormal": Compute(gradient_s=1.0, distribution="lognormal", sigma=0.4),
    "stragglers": Compute(
        gradient_s=1.0, distribution="lognormal", sigma=0.1, stragglers=Stragglers(probability=0.2, factor=4.0)
    ),
}
NETWORKS = {
    "fast": Network(),
    "slow": Network(latency_s=0.4, bandwidth_Gbit_per_s=1e-5),  # messages are under way at any moment
    "nodes": Network(latency_s=0.1, bandwidth_Gbit_per_s=1e-5, ranks_per_node=2, inside="shared-memory"),
}
PAIRED = [("constant", "fast"), ("lognormal", "slow"), ("stragglers", "nodes")]
KEPT = {name: row for name, row in sorted(FIRST.items()) if row.make().kept_between_steps}
FAST = {(name, *PAIRED[number % 3]) for number, name in enumerate(KEPT)}
ALL = [
    pytest.param(*case, marks=[] if case in FAST else [pytest.mark.slow])
    for case in itertools.product(KEPT, COMPUTES, NETWORKS)
]

Files = list[bytes]


def simulation(row: Row, compute: str, network: str, asked: int = 0) -> Simulation:
    """Of a row of the table of algorithms; interrupted after worker 0's step number `asked` of this process."""
    return Simulation(
        row.make(), quadratic(row.workers), workers=row.workers, seed=5, optimizer=row.optimizer(),
        compute=COMPUTES[compute], network=NETWORKS[network], wish=WishAt(asked) if asked else None,
    )  # fmt: skip


def files_of(run: Simulation) -> Files:
    """What a fresh process would read."""
    return [safetensors.torch.save({k: v.contiguous() for k, v in saved.items()}) for saved in run.save()]


def read(files: Files) -> list[dict[str, Tensor]]:
    """What `files_of` wrote."""
    return [safetensors.torch.load(file) for file in files]


def facts(run: Simulation) -> list[Any]:
    """Where all ranks ended, bit by bit, snapshots with their times included."""
    return [
        (
            [(s.number, s.t_s, s.step, s.samples, s.nbytes, s.wire_nbytes, s.x.tolist()) for s in handle.snapshots],
            handle.replica().data.tolist(),
            {name: v.tolist() for name, v in handle.state.kept.items()},
            (handle.state.step, handle.state.samples, handle.ended_s, handle.recorder.mailbox_depth_max),
        )
        for handle in run.handles
    ]


def events(rows: Sequence[tuple[Any, ...]]) -> list[str]:
    """The rows without their order among ranks."""
    return sorted(map(repr, rows))


def check(row: Row, compute: str, network: str, budget: Budget, asked: Sequence[int]) -> None:
    """Interrupted after so many steps each time, a run has the uninterrupted one's states, snapshots and events."""
    whole = simulation(row, compute, network).run(budget)
    files: Files = []
    rows: list[tuple[Any, ...]] = []
    for number in (*asked, 0):
        run = simulation(row, compute, network, number)
        if files:
            run.restore(read(files))
        run.run(budget)
        if run.interrupted:
            files = files_of(run)
        rows += run.log.rows
        if not run.interrupted:  # another worker had already ended
            break
    assert files, "never interrupted"
    assert facts(run) == facts(whole)
    assert events(rows) == events(whole.log.rows)


def budgets(row: Row) -> list[Budget]:
    """In seconds, and for algorithms in lock-step in steps too."""
    found = [Budget(seconds=26.5, snapshots=6)]
    return [*found, Budget(steps=24, snapshots=6)] if row.make().lockstep else found


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "compute", "network"), ALL)
def test_three_interruptions_change_nothing(name: str, compute: str, network: str) -> None:
    row = KEPT[name]
    for budget in budgets(row):
        check(row, compute, network, budget, (3, 2, 3))


@pytest.mark.parametrize("asked", range(1, 20, 3))
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("streaming-diloco", {"period": 8, "delay": 6, "fragments": 2}),
        ("eager-diloco", {"period": 4}),
        ("overlap-sgp", {"delay": 3, "period": 1}),
        ("easgd", {"period": 2}),
    ],
)
def test_wherever_it_is_interrupted(name: str, settings: dict[str, Any], asked: int) -> None:
    row = Row(name, settings)
    # Long enough for worker 0 to be asked that late, a straggler or not.
    budget = Budget(steps=24, snapshots=6) if row.make().lockstep else Budget(seconds=60.0, snapshots=6)
    for compute, network in PAIRED[1:]:
        check(row, compute, network, budget, (asked, 1))


def test_a_run_without_gradients() -> None:
    def run(asked: int = 0) -> Simulation:
        return Simulation(
            make("d-psgd"), quadratic(4), workers=4, seed=5, gradients="none",
            compute=COMPUTES["lognormal"], network=NETWORKS["slow"], wish=WishAt(asked) if asked else None,
        )  # fmt: skip

    whole, first = run().run(Budget(steps=20)), run(7).run(Budget(steps=20))
    assert first.interrupted
    again = run().restore(first.save()).run(Budget(steps=20))
    assert [h.ended_s for h in again.handles] == [h.ended_s for h in whole.handles]
    assert [s.t_s for s in again.handles[1].snapshots] == [s.t_s for s in whole.handles[1].snapshots]


def test_hosts_at_work_are_not_saved() -> None:
    run = Simulation(
        make("d-psgd"), quadratic(4), workers=4, seed=5, compute=Compute(gradient_s=1.0, step_s=0.1), wish=WishAt(3)
    ).run(Budget(steps=20))
    assert run.interrupted and not run.can_be_interrupted


@pytest.mark.parametrize("name", sorted(FIRST.keys() - KEPT.keys()))
def test_a_protocol_comes_to_its_end_before_the_run_is_saved(name: str) -> None:
    """Then not the same events follow, but nothing is lost: the sum of all models is that of what was applied."""
    row = FIRST[name]
    first = simulation(row, "lognormal", "slow", 4).run(Budget(seconds=40.5))
    assert first.interrupted and max(handle.state.step for handle in first.workers) < 25
    second = simulation(row, "lognormal", "slow", 3).restore(read(files_of(first))).run(Budget(seconds=40.5))
    assert second.interrupted
    third = simulation(row, "lognormal", "slow").restore(read(files_of(second))).run(Budget(seconds=40.5))
    assert not third.interrupted
    assert abs(sum(handle.replica().drift or 0.0 for handle in third.handles)) < 1e-10
    for handle in third.workers:
        assert handle.state.samples == handle.state.step * quadratic(row.workers).batch_size
        assert handle.ended_s >= 40.5
        assert [s.number for s in handle.snapshots] == list(range(11))
