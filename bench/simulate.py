"""All ranks of one run in this process, on a virtual clock: the simulator's driver, and the oracle tests' bench."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench.budget import Budget
from bench.checkpoint import restore, save
from bench.clock import VirtualClock
from bench.cluster import Compute, Network
from bench.events import EventLog, Recorder
from bench.kernel import Kernel, Task
from bench.transports.cut import JOURNAL, Picture, Replay
from bench.transports.hosted import world_of
from bench.transports.lazy import LazyGradients
from bench.transports.simulated import SimulatedWorld
from bench.worker import InitialPoint, RankHandle
from bench.workloads.base import Workload, seed_sequence
from bench.workloads.cost_only import CostOnly
from bench.workloads.shapes import RememberedShapes

Gradients = Literal["auto", "batched", "single", "none"]
"""How a simulation comes by its gradients: many in one call, one by one, as the workload says ("auto"), or not at all,
so that only time and bytes are simulated."""

BATCHED = 16
"""Gradients in one call where a study asks for it, though the workload would rather have them one by one."""


def together(workload: Workload, gradients: Gradients) -> int:
    """How many gradients one call computes.

    Raises:
        ValueError: there is no such way.
    """
    if gradients not in get_args(Gradients):
        raise ValueError(f"gradients must be one of {', '.join(get_args(Gradients))}: got {gradients!r}")
    return {"auto": workload.together, "batched": max(workload.together, BATCHED), "single": 1, "none": 1}[gradients]


class Simulation:
    """One simulated run; `run` may be called again to go on where it stopped.

    Args:
        workers: n; a server, if the algorithm needs one, is one more rank.
        gradients: see `Gradients`.
        accelerated: the same workload on a GPU, where gradients that go together are then computed.
        shuffle: if not None, seed by which simultaneous events are put in random order.
        spill_to: see `RankHandle`.
        wish: whether the run is wished to stop; then `run` returns before its end, and the run is `interrupted`.
        event_capacity: rows that are kept in memory; None for a bounded number that is spilled, or, without `spill_to`,
            for any number.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        workload: Workload,
        *,
        workers: int,
        seed: int,
        optimizer: OptimizerSettings | None = None,
        network: Network | None = None,
        compute: Compute | None = None,
        gradients: Gradients = "auto",
        accelerated: Workload | None = None,
        bucket_nbytes: int = 25 << 20,
        shuffle: int | None = None,
        run_id: str = "",
        spill_to: Path | None = None,
        on_step: Callable[[int, float, Tensor], None] | None = None,
        wish: Callable[[], bool] | None = None,
        event_capacity: int | None = None,
    ) -> None:
        algorithm.validate(workers)
        if gradients == "none":
            workload = CostOnly(workload)
        ranks = workers + algorithm.server_ranks(workers)
        ties = None if shuffle is None else np.random.default_rng(seed_sequence(shuffle, -1, "ties"))
        self.algorithm, self.workload = algorithm, workload  # without gradients, the size of the one that was given
        # Kept over segments, since it remembers.
        self._shapes: AbstractContextManager[object] = (
            RememberedShapes() if workload.device.type == "meta" else nullcontext()
        )
        self._clock = VirtualClock()
        self.kernel = Kernel(self._clock, ties=ties)
        network, compute = network or Network(), compute or Compute()
        self.world = world_of(network, compute)(
            self.kernel,
            LazyGradients(accelerated or workload, together(accelerated or workload, gradients)),
            size=workers,
            ranks=ranks,
            network=network,
            compute=compute,
            seed=seed,
        )
        default = optimizer or OptimizerSettings(**workload.optimizer)
        if event_capacity is None:
            event_capacity = sys.maxsize if spill_to is None else 1 << 18
        self.log = EventLog(run_id, 0, capacity=event_capacity)
        self._wish, self._wished, self._given_up = wish, False, False
        self._picture: Picture | None = None
        self._replay: Replay | None = None
        if wish is not None:
            on_step = self._looking(on_step)
        initial = InitialPoint(workload, seed)
        self.handles = [
            RankHandle(
                transport,
                workload,
                Recorder(run_id, transport.rank, self.kernel.now, log=self.log),
                algorithm=algorithm,
                seed=seed,
                optimizer=default,
                initial=initial,
                bucket_nbytes=bucket_nbytes,
                spill_to=spill_to,
                on_step=on_step if transport.rank == 0 else None,
            )
            for transport in self.world.transports
        ]

    @property
    def workers(self) -> list[RankHandle]:
        """The workers' handles, by rank."""
        return self.handles[: self.world.size]

    @property
    def server(self) -> RankHandle:
        """The first server's handle."""
        return self.handles[self.world.size]

    @property
    def servers(self) -> list[RankHandle]:
        """The servers' handles."""
        return self.handles[self.world.size :]

    @property
    def interrupted(self) -> bool:
        """Whether `run` returned before the end, as wished."""
        stopped = self._left == 0 and any(handle.interrupted for handle in self.workers)
        return self._given_up or self._is_pictured or stopped

    @property
    def _is_pictured(self) -> bool:
        return self._picture is not None and self._picture.is_complete()

    @property
    def can_be_interrupted(self) -> bool:
        """Whether a run can be saved before its end; else it just stops. The work of hosts cannot be saved."""
        return type(self.world) is SimulatedWorld and not self.kernel.shuffles

    def save(self) -> list[dict[str, Tensor]]:
        """Everything that `restore` needs, by rank; after `run`."""
        if self._picture is not None and self._is_pictured:
            return self._picture.states()
        now = torch.tensor(self.kernel.now(), dtype=torch.float64)
        return [
            save(handle) | {"clock": now, "compute-times": torch.tensor(transport.times.drawn)}
            for handle, transport in zip(self.handles, self.world.transports, strict=True)
        ]

    def restore(self, saved: Sequence[Mapping[str, Tensor]]) -> Simulation:
        """Put a fresh simulation of the same run where `save` found the old one."""
        for handle, state in zip(self.handles, saved, strict=True):
            restore(handle, state)
        if JOURNAL in saved[0]:
            self._replay = Replay(self.world, self.handles, saved)
            self._clock.jump(self._replay.now_s)
            return self
        self._clock.jump(float(saved[0]["clock"]))
        for transport, state in zip(self.world.transports, saved, strict=True):
            transport.times.seek(int(state["compute-times"]))
        return self

    def run(self, budget: Budget) -> Simulation:
        """Run to the end of `budget`, counted from the start of the first segment.

        Raises:
            TaskFailed: a rank raised.
            Stuck: deadlock.
        """
        self.world.next_segment()
        self._left = len(self.handles)

        def start(handle: RankHandle) -> None:
            segment = handle.begin_segment(self.algorithm, budget)
            self.kernel.start(segment, rank=handle.rank, name="main").then(self._one_less)

        if self._replay is not None and not self._replay.is_over:
            self._replay.begin(start)
        else:
            # The server first: workers may have finished their first step before it is entered otherwise.
            for handle in reversed(self.handles):
                start(handle)
        with seldom_collected(), self._shapes:
            self.kernel.run(self._is_over)
        self.kernel.cancel_all()
        return self

    def give_up(self) -> None:
        """Have `run` return at once, as nothing more of this run is wanted: it cannot go on, nor be saved."""
        self._given_up = True

    def _one_less(self) -> None:
        self._left -= 1

    def _is_over(self) -> bool:
        if self._wished and self._left:
            self._wished = False
            if not self.can_be_interrupted:
                self.give_up()
            elif not self.algorithm.kept_between_steps:
                for handle in self.workers:
                    handle.stop()
            elif self._may_begin_picture():
                self._picture = Picture(self.world, self.handles, self.log)
        return self._left == 0 or self._given_up or self._is_pictured

    def _may_begin_picture(self) -> bool:
        replayed = self._replay is None or self._replay.is_over
        return self._picture is None and replayed and not self.world.any_returned and self.kernel.between_instants

    def _looking(self, on_step: Callable[[int, float, Tensor], None] | None) -> Callable[[int, float, Tensor], None]:
        """Have worker 0 look, after each of its steps, whether the run is wished to stop."""

        def look(step: int, now_s: float, loss: Tensor) -> None:
            assert self._wish is not None
            self._wished = self._wish()
            if on_step is not None:
                on_step(step, now_s, loss)

        return look


class Countdown:
    """Whether all of some tasks are done, in a time that does not grow with their number."""

    def __init__(self, tasks: Sequence[Task[None]]) -> None:
        self._left = len(tasks)
        for task in tasks:
            task.then(self._one_less)

    def _one_less(self) -> None:
        self._left -= 1

    def is_over(self) -> bool:
        """Whether they are."""
        return self._left == 0


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Have Python look for garbage in cycles a hundred times less often.

    A simulation makes hardly any, but millions of rows and small objects that live long; with 4096 workers, looking
    through them takes a quarter of its time.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(100 * thresholds[0], *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
