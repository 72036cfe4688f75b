"""What every algorithm must do, whoever wrote it: run by `paceline algorithms check NAME` and by the tests.

Everything runs in the simulator on a quadratic in float64, where the right answers are known.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from algorithms.formula import evaluate
from algorithms.interface import Algorithm, Traffic
from algorithms.optim import Optimizer, OptimizerSettings
from algorithms.registry import algorithm_class
from bench.budget import Budget
from bench.cluster import HEADER_NBYTES, Compute, Network
from bench.simulate import Simulation
from bench.workloads.base import Workload
from bench.workloads.quadratic import Quadratic

SCHEDULES = 300
"""How many random orders of simultaneous events a law must survive."""

ITEMSIZE = 8  # the quadratic's float64
ADAMW = OptimizerSettings(name="adamw", lr=0.01)
FREE = Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"))


class Violation(Exception):
    """An algorithm does not do what every algorithm must."""


class NotApplicable(Exception):
    """A check that says nothing about these settings."""


@dataclass(frozen=True)
class Row:
    """One line of the table of algorithms: settings with which the checks are tried.

    Attributes:
        workers: how many; a number that the settings allow.
        lr: of plain SGD on the quadratic.
        bound: distance to the minimiser of a noiseless quadratic that the evaluated model must reach.
        seconds: of virtual time to reach it in; a gradient takes 1.
        spied: whether every gradient is applied by a worker's first optimiser, and all of it by plain SGD, so that
            what was applied can be added up.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    workers: int = 4
    lr: float = 0.1
    bound: float = 1e-9
    seconds: float = 400.0
    spied: bool = True

    def __str__(self) -> str:
        return "-".join([self.name, *map(_brief, self.settings.values()), f"n{self.workers}"])

    def make(self) -> Algorithm:
        """The algorithm."""
        return algorithm_class(self.name)(**self.settings)

    def optimizer(self, other: OptimizerSettings = ADAMW) -> OptimizerSettings:
        """`other`, or plain SGD where the algorithm takes nothing else."""
        return OptimizerSettings(name="sgd", lr=self.lr) if self.make().plain_sgd else other


def _brief(value: Any) -> str:
    """A setting in a name: of an optimiser only its kind and rate."""
    return f"{value.name}{value.lr:g}" if isinstance(value, OptimizerSettings) else str(value).replace(" ", "")


def quadratic(workers: int, **settings: Any) -> Workload:
    """P = 12, float64, noisy and different on every worker unless told otherwise.

    Its four layers are matrices as square as can be, for algorithms that treat matrices in a way of their own.
    """
    settings = {"dimension": 12, "noise": 0.3, "heterogeneity": 1.0, **settings}
    workload = Quadratic(**settings).build(torch.device("cpu"), workers)
    workload.layers = [layer._replace(shapes=(squarest(layer.hi - layer.lo),)) for layer in workload.layers]
    return workload


def squarest(size: int) -> tuple[int, int]:
    """Rows and columns of the most nearly square matrix of that many numbers."""
    rows = next(a for a in range(math.isqrt(size), 0, -1) if size % a == 0)
    return rows, size // rows


def simulate(
    algorithm: Algorithm,
    workload: Workload,
    *,
    workers: int,
    budget: Budget,
    seed: int = 0,
    lr: float = 0.1,
    optimizer: OptimizerSettings | None = None,
    shuffle: int | None = None,
    compute: Compute | None = None,
    network: Network | None = None,
    start: Sequence[Tensor] | None = None,
    spy: bool = False,
    event_capacity: int = 1 << 16,
) -> Simulation:
    """Run to the end of the budget.

    Args:
        start: where each rank begins, instead of the common initial point.
        spy: use `SpyOptimizer`s; `applied` tells their sum afterwards.
    """
    simulation = Simulation(
        algorithm,
        workload,
        workers=workers,
        seed=seed,
        optimizer=optimizer or OptimizerSettings(name="sgd", lr=lr),
        # Whole units of time and a free network: many events fall together, so that shuffling has something to shuffle.
        compute=compute or Compute(gradient_s=1.0),
        network=network or FREE,
        shuffle=shuffle,
        event_capacity=event_capacity,
    )
    if start is not None:
        for handle, x in zip(simulation.handles, start, strict=True):
            handle.replica().data.copy_(x[handle.span])
    if spy:
        for handle in simulation.workers:
            handle.state.optimizers.append(SpyOptimizer(lr, handle.replica().data))
    return simulation.run(budget)


class SpyOptimizer(Optimizer):
    """Plain SGD that adds up what it applied."""

    def __init__(self, lr: float, x: Tensor) -> None:
        super().__init__(OptimizerSettings(name="sgd", lr=lr), x.numel(), x.dtype, x.device)
        self.total = torch.zeros_like(x)

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        super().step_(x, gradient)
        self.total -= self.settings.lr * gradient


def applied(simulation: Simulation) -> Tensor:
    """Sum over all workers of the updates -lr g that were applied [P]."""
    spies = [handle.state.optimizers[0] for handle in simulation.workers]
    return torch.stack([spy.total for spy in spies if isinstance(spy, SpyOptimizer)]).sum(0)


def replicas(simulation: Simulation) -> Tensor:
    """The workers' parameters [n, P]."""
    return torch.stack([handle.replica().data for handle in simulation.workers])


def evaluated(simulation: Simulation) -> Tensor:
    """The evaluated model [P] at the end."""
    if simulation.algorithm.evaluated_model.partition(":")[0] != "center":
        return torch.stack([handle.evaluated() for handle in simulation.workers]).mean(0)
    center = torch.zeros_like(simulation.workers[0].replica().data)
    for handle in simulation.servers:
        if handle.owns == handle.span:
            center[handle.span] = handle.evaluated()
    return center


def sequential(workload: Workload, rank: int, workers: int, settings: OptimizerSettings, steps: int) -> Tensor:
    """A plain training loop on one worker's batches."""
    x = workload.initial(0)
    optimizer = Optimizer(settings, workload.parameters, workload.dtype, workload.device, spans=workload.spans)
    batches = workload.batches(0, rank, workers)
    for _ in range(steps):
        gradient = torch.empty_like(x)
        workload.gradient(x, batches.next(), gradient)
        optimizer.step_(x, gradient)
    return x


def traffic(simulation: Simulation) -> Traffic:
    """What the closed form of the payload is computed from."""
    counters: Counter[str] = Counter()
    for handle in simulation.handles:
        whole = {name: v for name, v in handle.state.kept.items() if v.dtype == torch.int64 and v.dim() == 0}
        counters.update({name: int(v) for name, v in whole.items()})
    steps = [handle.state.step for handle in simulation.workers]
    return Traffic(steps=steps, layers=simulation.handles[0].layers, itemsize=ITEMSIZE, counters=counters, seed=0)


# -- the checks --------------------------------------------------------------------------------------------------------


def one_worker_is_its_sequential_optimizer(row: Row) -> None:
    """A single worker does, to rounding, what its optimiser does in a plain loop."""
    algorithm = row.make()
    try:
        algorithm.validate(1)
    except ValueError as error:
        raise NotApplicable("refuses a single worker") from error
    if not algorithm.sequential:
        raise NotApplicable("says that a single worker is more than its optimiser")
    workload, settings = quadratic(1), row.optimizer()
    budget = Budget(steps=30) if algorithm.lockstep else Budget(seconds=29.5)
    simulation = simulate(algorithm, workload, workers=1, budget=budget, optimizer=settings)
    steps = simulation.workers[0].state.step
    _equal("steps", steps, 30)
    _close("the model", evaluated(simulation), sequential(workload, 0, 1, settings, steps), 1e-12)


def exchanges_conserve_the_sum_in_any_order(row: Row, schedules: int = SCHEDULES) -> None:
    """Exchanges move models but not their sum, and nobody waits for ever, in 300 orders of simultaneous events: finds
    lost, doubled, torn and reordered updates. (Without the law, only that the runs end.)"""
    algorithm = row.make()
    workload = quadratic(row.workers)
    ranks, lawful = row.workers + algorithm.server_ranks(row.workers), algorithm.conserved()
    for shuffle in range(schedules):
        generator = torch.Generator().manual_seed(shuffle)
        start = torch.randn(ranks, workload.parameters, generator=generator, dtype=torch.float64)
        simulation = simulate(
            algorithm,
            workload,
            workers=row.workers,
            budget=Budget(seconds=3.5 + shuffle % 4 / 2, snapshots=1),
            shuffle=shuffle,
            lr=row.lr,
            start=list(start),
            spy=lawful and row.spied,
            compute=Compute(gradient_s=1.0, slow={"1": 0.5}) if row.workers > 1 else None,
            event_capacity=1 << 10,  # nobody reads them here, and large buffers cost time
        )
        if lawful:
            drift = sum(h.replica().drift or 0.0 for h in simulation.handles)
            _small(f"what exchanges changed of the sum of all models, order {shuffle}", drift, 1e-10)
        if lawful and row.spied:
            begin = sum(float(start[h.rank][h.span].sum()) for h in simulation.handles)
            end = sum(float(h.replica().data.sum()) for h in simulation.handles)
            lost = end - begin - float(applied(simulation).sum())
            _small(f"sum at the end - (start + all updates), order {shuffle}", lost, 1e-10)


def the_minimiser_of_a_quadratic_is_reached(row: Row) -> None:
    """Without noise the evaluated model ends at the minimiser."""
    workload = quadratic(row.workers, noise=0.0, heterogeneity=0.0, condition=1.5)
    budget = Budget(seconds=row.seconds, snapshots=1)
    simulation = simulate(row.make(), workload, workers=row.workers, budget=budget, lr=row.lr)
    _small("distance to the minimiser", workload.heldout(evaluated(simulation)).metric, row.bound)


def the_same_seed_gives_the_same_events(row: Row) -> None:
    """Two runs with one seed write the same table of events."""

    def events() -> str:
        workload, budget = quadratic(row.workers), Budget(seconds=9.5)
        simulation = simulate(row.make(), workload, workers=row.workers, budget=budget, shuffle=7, lr=row.lr)
        return repr([handle.recorder.rows() for handle in simulation.handles])

    _equal("the events of two runs", events() == events(), True)


def bytes_equal_the_closed_form(row: Row) -> None:
    """Counted payload and wire bytes are `payload_nbytes` and what rings and headers make of it."""
    algorithm = row.make()
    for seconds in (0.5, 23.5):
        simulation = simulate(
            algorithm,
            quadratic(row.workers),
            workers=row.workers,
            budget=Budget(seconds=seconds),
            compute=Compute(gradient_s=1.0, distribution="lognormal", sigma=0.4),
            shuffle=1,
            lr=row.lr,
            network=Network(latency_s=0.3, bandwidth_Gbit_per_s=1e-3),
        )
        moved = sum(handle.recorder.nbytes for handle in simulation.handles)
        stated = algorithm.payload_nbytes(traffic(simulation))
        if stated is None:
            raise NotApplicable("states no closed form")
        _equal(f"payload of {seconds} s [byte]", moved, stated)
        n, rows = row.workers, [r for handle in simulation.handles for r in handle.recorder.rows()]
        reduced = sum(r[4] for r in rows if r[0] == "allreduce")
        sent = sum(r[4] for r in rows if r[0] == "send")
        messages = sum(handle.recorder.messages for handle in simulation.handles)
        wire = sum(handle.recorder.wire_nbytes for handle in simulation.handles)
        # Of every all-reduce a ring sends 2 (n - 1) / n of the vector on each rank; every message has a header.
        _equal("rows of the events [byte]", reduced + sent, moved)
        _equal("wire [byte]", wire, reduced * 2 * (n - 1) // n + sent + HEADER_NBYTES * messages)


def the_formulas_say_what_is_moved_and_kept(row: Row) -> None:
    """`bytes_per_step` and `state` are what a run moves (within 8 %, for what chance decides) and keeps."""
    algorithm = row.make()
    if not (algorithm.bytes_per_step and algorithm.state):
        raise NotApplicable("states no formulas")
    workload, settings = quadratic(row.workers, dimension=240), row.optimizer()
    budget = Budget(seconds=240.5, snapshots=1)
    simulation = simulate(algorithm, workload, workers=row.workers, budget=budget, optimizer=settings)
    vector = workload.parameters * ITEMSIZE
    opt = Optimizer(settings, workload.parameters, workload.dtype).state_nbytes
    steps = sum(handle.state.step for handle in simulation.workers)
    moved = sum(handle.recorder.nbytes for handle in simulation.handles) / steps
    layers = simulation.workers[0].layers
    stated = evaluate(algorithm.bytes_per_step, algorithm, row.workers, vector, itemsize=ITEMSIZE, layers=layers)
    _small(f"bytes per step - {algorithm.bytes_per_step}", moved - stated, max(0.08 * stated, 1.0))
    kept = sum(
        handle.replica().data.nbytes
        + sum(optimizer.state_nbytes for optimizer in handle.state.optimizers)
        + sum(v.nbytes for v in handle.state.kept.values() if v.dim())
        for handle in simulation.workers
    )
    stated = evaluate(algorithm.state, algorithm, row.workers, vector, opt, ITEMSIZE, layers)
    _small(f"state per worker - ({algorithm.state}) [byte]", kept / row.workers - stated, max(0.03 * stated, 1.0))


def a_run_goes_on_from_the_kept_state_alone(row: Row) -> None:
    """A run is ended half way, everything is rebuilt from what `keep` and its like hold, and goes on; lock-step
    algorithms end bit for bit where the uninterrupted run ends."""
    algorithm = row.make()
    workload, settings = quadratic(row.workers), row.optimizer()

    def fresh() -> Simulation:
        return Simulation(
            algorithm,
            workload,
            workers=row.workers,
            seed=0,
            optimizer=settings,
            compute=Compute(gradient_s=1.0, distribution="lognormal", sigma=0.2),
            network=Network(latency_s=0.4, bandwidth_Gbit_per_s=1e-3),
        )

    def budget(steps: int) -> Budget:
        return Budget(steps=steps) if algorithm.lockstep else Budget(seconds=steps + 0.5)

    for half in (7, 10):
        saved = fresh().run(budget(half)).save()
        resumed = fresh().restore(saved).run(budget(21))
        moved = sum(handle.recorder.nbytes for handle in resumed.handles)
        stated = algorithm.payload_nbytes(traffic(resumed))
        _equal("payload of both halves [byte]", moved, moved if stated is None else stated)
        for handle, before in zip(resumed.workers, saved, strict=False):
            if not handle.state.step > int(before["counts"][0]):
                raise Violation(f"rank {handle.rank} did not go on after step {handle.state.step}")
        if algorithm.conserved():
            drift = sum(h.replica().drift or 0.0 for h in resumed.handles)
            _small("what exchanges changed of the sum of all models", drift, 1e-10)
        if not algorithm.lockstep:
            continue
        whole = fresh().run(budget(21))
        for ours, theirs in zip(resumed.handles, whole.handles, strict=True):
            states = {"x": theirs.replica().data, **theirs.state.kept}
            for name, expected in states.items():
                found = ours.replica().data if name == "x" else ours.state.kept[name]
                if not torch.equal(found, expected):
                    away = float((found - expected).abs().max())
                    raise Violation(
                        f"{name} of rank {ours.rank}, restarted after step {half}, is not where the uninterrupted run "
                        f"ends: largest difference {away:.3g}"
                    )


CHECKS: list[Callable[[Row], None]] = [
    one_worker_is_its_sequential_optimizer,
    exchanges_conserve_the_sum_in_any_order,
    the_minimiser_of_a_quadratic_is_reached,
    the_same_seed_gives_the_same_events,
    bytes_equal_the_closed_form,
    the_formulas_say_what_is_moved_and_kept,
    a_run_goes_on_from_the_kept_state_alone,
]


def _equal(what: str, got: object, expected: object) -> None:
    if got != expected:
        raise Violation(f"{what}: got {got}, expected {expected}")


def _small(what: str, value: float, bound: float) -> None:
    if not abs(value) <= bound:
        raise Violation(f"{what}: {value:.3g}, allowed {bound:.3g}")


def _close(what: str, got: Tensor, expected: Tensor, tolerance: float) -> None:
    _small(f"{what}: largest relative difference", float(((got - expected) / expected).abs().max()), tolerance)
