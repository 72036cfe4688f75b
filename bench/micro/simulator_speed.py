"""How fast the simulator is: `python -m bench.micro.simulator_speed`.

Worker-steps per second of processor time on one core:

- event heap, kernel and wire alone, at 16, 256 and 4096 workers: in a step a worker waits for a random compute time and
  sends an empty message to its right neighbour, and takes what has come from the left;
- `ad-psgd` without gradients, on a model without parameters: that, and handles, rows of the events table, replicas and
  optimisers;
- `ad-psgd` on `digits-mlp` with mini-batches of 16 and 256 workers, gradients computed together and one by one, in
  turns.

The first steps, which import, trace and fill caches, are run before and reported apart. `--profile` shows where time
goes; `--memory` runs 4096 workers in a process of its own and divides what it grew by.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from algorithms.ad_psgd import ADPSGD
from algorithms.interface import Message
from bench.budget import Budget
from bench.clock import VirtualClock
from bench.cluster import Compute, Network
from bench.kernel import Kernel
from bench.mailbox import Mailbox
from bench.simulate import Countdown, Gradients, Simulation, seldom_collected
from bench.transports.base import MESSAGE, Envelope
from bench.transports.lazy import LazyGradients
from bench.transports.simulated import COMPUTING, SimulatedTransport, SimulatedWorld
from bench.workloads.base import Batches, Heldout, LayerSpan, OnReady, Workload
from bench.workloads.cost_only import NoBatches
from bench.workloads.partition import Share
from bench.workloads.registry import settings_class

GRADIENT_S = 0.01
EXPONENTIAL = Compute(gradient_s=GRADIENT_S, distribution="exponential")
STEADY = Compute(gradient_s=GRADIENT_S, distribution="lognormal", sigma=0.05)
FIRST_STEPS = 3


class Nothing:
    """A workload without parameters and data."""

    name, metric, target_loss = "nothing", "none", float("nan")
    parameters, batch_size, together = 0, 1, 1
    dtype, device = torch.float32, torch.device("cpu")
    spans: Sequence[tuple[int, int]] = [(0, 0)]
    layers: Sequence[LayerSpan] = [LayerSpan("nothing", 0, 0, False)]
    facts: Mapping[str, str] = {}
    flops_per_sample = 0.0

    def __init__(self) -> None:
        self.optimizer: dict[str, Any] = {"name": "sgd", "lr": 0.1}
        self._loss = torch.tensor(0.0)

    def initial(self, seed: int) -> Tensor:
        return torch.empty(0)

    def shares(self, seed: int, size: int) -> Sequence[Share]:
        return ()

    def batches(self, seed: int, rank: int, size: int) -> Batches:
        return NoBatches()

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        return self._loss

    def gradients(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        return torch.empty_like(xs), torch.zeros(len(xs))

    def heldout(self, x: Tensor) -> Heldout:
        return Heldout(0.0, 0.0)

    def objective(self) -> Any:
        raise AssertionError("nothing to probe")


def digits() -> Workload:
    """`digits-mlp`, mini-batches of 16."""
    settings: Any = settings_class("digits-mlp")
    built: Workload = settings(batch_size=16).build(torch.device("cpu"), 1)
    return built


class Timed:
    """A simulation of `ad-psgd`, whose first steps are done when it is made."""

    def __init__(self, workload: Workload, workers: int, gradients: Gradients, compute: Compute = EXPONENTIAL) -> None:
        start_s = time.process_time()
        self._simulation = Simulation(
            ADPSGD(), workload, workers=workers, seed=0, compute=compute, network=Network(), gradients=gradients
        )
        self._go_on(FIRST_STEPS)
        self.first_s = time.process_time() - start_s

    def _go_on(self, steps: int) -> int:
        """About so many more steps of each worker; how many all have made by now."""
        self._until_s = self._simulation.kernel.now() + steps * GRADIENT_S
        self._simulation.run(Budget(seconds=self._until_s, snapshots=1))
        self._simulation.log.rows.clear()
        for handle in self._simulation.handles:
            handle.snapshots.clear()
        return sum(handle.state.step for handle in self._simulation.workers)

    def rate(self, steps: int) -> float:
        """Worker-steps per second of processor time, over about so many steps of each worker."""
        before = sum(handle.state.step for handle in self._simulation.workers)
        start_s = time.process_time()
        after = self._go_on(steps)
        return (after - before) / (time.process_time() - start_s)


class Bare:
    """Workers that are nothing but coroutines on the kernel, around a ring on the simulated wire."""

    def __init__(self, workers: int) -> None:
        self._kernel = Kernel(VirtualClock())
        nothing = LazyGradients(Nothing(), 1)
        self._world = SimulatedWorld(
            self._kernel, nothing, size=workers, ranks=workers, network=Network(), compute=EXPONENTIAL, seed=0
        )
        self._mail = [Mailbox() for _ in range(workers)]
        self._until_s = 0.0
        self.steps = 0
        for transport, mail in zip(self._world.transports, self._mail, strict=True):
            transport.attach(lambda e, mail=mail: mail.put(Message(e.data, e.src, e.tag)), lambda: False)  # type: ignore[misc]

    async def _worker(self, transport: SimulatedTransport, mail: Mailbox) -> None:
        kernel, rank, empty = self._kernel, transport.rank, torch.empty(0)
        right = (rank + 1) % transport.size
        while kernel.now() < self._until_s:
            await kernel.sleep(transport.times.next(), COMPUTING)
            transport.post(right, Envelope(MESSAGE, "ring", 0, empty, rank, kernel.now()), lambda left_s: None)
            while mail.holds("ring"):
                mail.take("ring", None)
            self.steps += 1

    def rate(self, steps: int) -> float:
        """Worker-steps per second of processor time, over about so many steps of each worker."""
        before, start_s = self.steps, time.process_time()
        self._until_s = self._kernel.now() + steps * GRADIENT_S
        tasks = [
            self._kernel.start(self._worker(transport, mail), rank=transport.rank, name="main")
            for transport, mail in zip(self._world.transports, self._mail, strict=True)
        ]
        last = Countdown(tasks)
        with seldom_collected():
            self._kernel.run(last.is_over)
        return (self.steps - before) / (time.process_time() - start_s)


def without_gradients(title: str, runs: Mapping[int, Bare | Timed], worker_steps: int, repeats: int) -> None:
    """Print the rate at several sizes, measured in turns."""
    rates: dict[int, list[float]] = {workers: [] for workers in runs}
    for _ in range(repeats):
        for workers, run in runs.items():
            rates[workers].append(run.rate(worker_steps // workers))
    print(title)
    for workers, of_size in rates.items():
        print(f"  {workers:5d} workers  {_spread(of_size)} worker-steps/s")
    few, many = min(runs), max(runs)
    growth = sorted(a / b for a, b in zip(rates[few], rates[many], strict=True))[repeats // 2]
    print(f"  a worker-step at {many} workers takes {growth:.2f} x as long as at {few}")


def with_gradients(workers: int, steps: int, repeats: int) -> None:
    """Print the rate with gradients, together and one by one, in turns."""
    for title, compute in (("that vary by 5 %", STEADY), ("that are exponential", EXPONENTIAL)):
        ways: tuple[Gradients, ...] = ("batched", "single")
        runs = {way: Timed(digits(), workers, way, compute) for way in ways}
        rates: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(repeats):
            for way in ways:
                rates[way].append(runs[way].rate(steps if way == "batched" else max(1, steps // 3)))
        print(f"ad-psgd on digits-mlp, batch 16, {workers} workers, compute times {title}")
        for way in ways:
            print(f"  {way:8s} {_spread(rates[way])} worker-steps/s  (first steps {runs[way].first_s:.2f} s)")
        ratio = sorted(a / b for a, b in zip(rates["batched"], rates["single"], strict=True))[repeats // 2]
        print(f"  together is {ratio:.2f} x as fast as one by one")


def memory(workers: int, steps: int) -> None:
    """Print what a worker needs, in vectors of the model's size; in this process."""
    few, many = 64, workers
    workload = digits()
    Timed(workload, few, "auto", STEADY)
    before = _resident_nbytes()
    run = Timed(workload, many, "auto", STEADY)
    rate = run.rate(steps)
    grown = _resident_nbytes() - before
    vector = workload.parameters * workload.dtype.itemsize
    print(
        f"digits-mlp, batch 16, {many} workers, ad-psgd: {rate:.0f} worker-steps/s, first steps {run.first_s:.1f} s, "
        f"{grown / many / 1e3:.0f} kB a worker: {grown / many / vector:.1f} vectors of {vector / 1e3:.1f} kB"
    )


def _resident_nbytes() -> int:
    """Largest size that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _spread(rates: list[float]) -> str:
    ordered = sorted(rates)
    return f"{ordered[len(ordered) // 2]:8.0f} ({ordered[0]:.0f} to {ordered[-1]:.0f})"


def main(argv: list[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.simulator_speed")
    parser.add_argument("--workers", type=int, default=256, help="with gradients (%(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="of each worker, a measurement (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each, in turns (%(default)s)")
    parser.add_argument("--memory", type=int, metavar="WORKERS", help="only: what a worker needs, with so many")
    parser.add_argument("--profile", choices=("kernel", "batched", "single"), help="only: where the time goes")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.memory:
        memory(arguments.memory, arguments.steps)
        return 0
    if arguments.profile:
        kernel = arguments.profile == "kernel"
        way: Gradients = "single" if kernel else arguments.profile
        run = Timed(Nothing() if kernel else digits(), arguments.workers, way, EXPONENTIAL if kernel else STEADY)
        with cProfile.Profile() as profile:
            run.rate(arguments.steps)
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return 0
    sizes = (16, 256, 4096)
    bare = {workers: Bare(workers) for workers in sizes}
    without_gradients("event heap, kernel and wire alone, empty messages", bare, 200_000, arguments.repeats)
    nothing = {workers: Timed(Nothing(), workers, "single") for workers in sizes}
    without_gradients("ad-psgd without gradients, empty messages", nothing, 100_000, arguments.repeats)
    with_gradients(arguments.workers, arguments.steps, arguments.repeats)
    return subprocess.call([sys.executable, "-m", "bench.micro.simulator_speed", "--memory", "4096", "--steps", "5"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
