"""What the input pipeline costs: gradient steps on the real stream of mini-batches against steps on one cached batch.

    python -m bench.micro.input_pipeline [NAME ...] [--seconds 20] [--set train_batches=1] [--device cuda]

A step takes the next mini-batch, computes its gradient and makes the update of the workload's own optimiser; the rival
takes one cached mini-batch every time. The rate is zero, so that both stay at the same point. Machines are shared and
noisy: both are timed in one run, in short blocks that take turns, and what counts is the ratio of the two, with an
interval at 95 % by resampling the pairs of blocks. Means, not medians: a stream that gathers many mini-batches at once
has its cost in few of the steps. On a CPU the clock is the process's own CPU time, which stands still while others have
the core; with one thread, and data in memory, it is what a stopwatch shows on an idle machine. Beside it stands what
taking mini-batches costs alone, with nothing in between.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from algorithms.optim import Optimizer, OptimizerSettings
from bench.launch import environment_for_ranks
from bench.settings import StudyError, build, parse_set
from bench.workloads.base import Workload
from bench.workloads.registry import NAMES, settings_class

ALLOWED = 1.05  # steps with real data may take this much longer
BLOCK_S = 0.02  # about; long against a clock's reading, short against a machine's moods
FEWEST_PAIRS = 12
RESAMPLES = 2000
WARM_UP = 3  # steps


@dataclass(frozen=True)
class Cost:
    """Figures of one workload.

    Attributes:
        batch_size, batch_nbytes: of one mini-batch.
        step_s: with a cached mini-batch, mean.
        next_s: of taking a mini-batch, alone, mean.
        pairs: of blocks.
        ratio: of the mean step with real data to the mean one with a cached mini-batch.
        low, high: 95 % interval of the ratio.
    """

    name: str
    batch_size: int
    batch_nbytes: int
    step_s: float
    next_s: float
    pairs: int
    ratio: float
    low: float
    high: float


def main(argv: list[str]) -> int:
    """Measure and print; exit code 0 if no workload's interval lies wholly above what is allowed, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.input_pipeline", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="workloads (default: all whose data is there)")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each workload")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, for those workloads that have it"
    )
    parser.add_argument("--workers", type=int, default=4, help="among whom the training data is dealt")
    parser.add_argument("--json", type=Path, help="write every figure here too")
    arguments = parser.parse_args(argv)
    try:
        table = parse_set(arguments.set, "train_batches=1")
    except StudyError as error:
        parser.error(str(error))
    torch.set_num_threads(1)
    costs = []
    print(f"{'workload':26s}{'B':>5s}{'KiB':>8s}{'step ms':>9s}{'next us':>10s}{'share %':>9s}"
          f"{'ratio':>9s}{'95 % interval':>17s}{'pairs':>7s}")  # fmt: skip
    for name in arguments.names or sorted(NAMES):
        try:
            workload = load(name, table, torch.device(arguments.device), arguments.workers)
            shares = workload.shares(0, arguments.workers)
        except ValueError as error:
            print(f"{name:26s}  left out: {error}", flush=True)
            continue
        if not shares:
            print(f"{name:26s}  left out: it reads no data", flush=True)
            continue
        costs.append(measure(workload, arguments.seconds, arguments.workers))
        print(row(costs[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=1))
    return int(any(cost.low > ALLOWED for cost in costs))


def load(name: str, table: dict[str, Any], device: torch.device, workers: int) -> Workload:
    """The workload `name` with those settings of a study's table that it has.

    Raises:
        StudyError: its data is not there, or a setting's value is not for it.
    """
    cls = settings_class(name)
    own = {field.name for field in fields(cast(Any, cls))}
    return build(cls, {key: value for key, value in table.items() if key in own}, name).build(device, workers)


def row(cost: Cost) -> str:
    """One line of the table."""
    verdict = "  slow" if cost.low > ALLOWED else ""
    return (
        f"{cost.name:26s}{cost.batch_size:5d}{cost.batch_nbytes / 1024:8.1f}{cost.step_s * 1e3:9.3f}"
        f"{cost.next_s * 1e6:10.1f}{100 * cost.next_s / cost.step_s:9.2f}"
        f"{cost.ratio:9.4f}   {cost.low:6.4f}..{cost.high:6.4f}{cost.pairs:7d}{verdict}"
    )


def measure(workload: Workload, seconds: float, workers: int) -> Cost:
    """The cost for worker 0, from pairs of blocks that take turns for so many seconds."""
    # Two streams: one that is drawn from in turns could have all its gathers in the turns of one of them.
    x, stream, alone = workload.initial(0), workload.batches(0, 0, workers), workload.batches(0, 0, workers)
    out, cached = torch.empty_like(x), stream.next()
    on_cpu = workload.device.type == "cpu"
    clock = time.process_time if on_cpu else time.perf_counter
    finish: Callable[[], object] = (lambda: None) if on_cpu else torch.cuda.synchronize

    settings = replace(build(OptimizerSettings, workload.optimizer, workload.name), lr=0.0)
    optimizer = Optimizer(settings, workload.parameters, workload.dtype, workload.device, spans=workload.spans)

    def train(batch: tuple[torch.Tensor, ...]) -> None:
        workload.gradient(x, batch, out)
        optimizer.step_(x, out)

    def real() -> None:
        train(stream.next())

    def idle() -> None:
        train(cached)

    def block_s(step: Callable[[], object], steps: int) -> float:
        """Seconds per step."""
        finish()
        start = clock()
        for _ in range(steps):
            step()
        finish()
        return (clock() - start) / steps

    block_s(real, WARM_UP)
    steps = max(1, math.ceil(BLOCK_S / block_s(idle, WARM_UP)))
    with_real: list[float] = []
    with_cached: list[float] = []
    taking: list[float] = []
    until = time.perf_counter() + seconds
    while len(with_real) < FEWEST_PAIRS or time.perf_counter() < until:
        # Now one first, then the other: a machine that gets slower or faster favours nobody.
        turns = [(real, with_real), (idle, with_cached)]
        for step, seconds_of in turns if len(taking) % 2 else reversed(turns):
            seconds_of.append(block_s(step, steps))
        taking.append(block_s(alone.next, steps))
    low, high = interval_of_ratio(with_real, with_cached)
    return Cost(
        name=workload.name,
        batch_size=workload.batch_size,
        batch_nbytes=sum(part.numel() * part.element_size() for part in cached),
        step_s=statistics.fmean(with_cached),
        next_s=statistics.fmean(taking),
        pairs=len(taking),
        ratio=statistics.fmean(with_real) / statistics.fmean(with_cached),
        low=low,
        high=high,
    )


def interval_of_ratio(above: list[float], below: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval of mean(above) / mean(below) by resampling the pairs (percentile bootstrap, fixed seed)."""
    pairs = np.stack([above, below], axis=1)
    drawn = np.random.default_rng(0).integers(len(pairs), size=(RESAMPLES, len(pairs)))
    sums = pairs[drawn].sum(axis=1)
    low, high = np.quantile(sums[:, 0] / sums[:, 1], [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def as_a_rank() -> None:
    """Start again in the environment of a run's ranks, unless this is it: the gathered data then stay on the heap."""
    wanted = environment_for_ranks(1)
    if any(os.environ.get(name) != wanted[name] for name in ("OMP_NUM_THREADS", "MALLOC_MMAP_THRESHOLD_")):
        os.execve(sys.executable, sys.orig_argv, wanted)


if __name__ == "__main__":
    as_a_rank()
    sys.exit(main(sys.argv[1:]))
