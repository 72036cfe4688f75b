"""What a workload costs on this machine: run in a process of its own, on one core, so that its memory is its own.

    python -m bench.workloads.measure '{"name": "mnist-mlp"}'

prints one line of JSON (see `Cost`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from bench.workloads.base import Workload

REPLICAS = 16
SECONDS = 1.0  # each figure is taken over about this long
FEW = 3  # at least so many repetitions
HEAVY = 2e11  # operations of a gradient above which smaller mini-batches are taken for the vectorised comparison


@dataclass(frozen=True)
class Cost:
    """Figures of one rank on one core.

    Attributes:
        samples_per_s: of plain gradients with the workload's mini-batches.
        memory_nbytes: largest resident memory of the process, interpreter, data and model included.
        together: how many gradients the workload asks to be evaluated at once.
        vectorised_batch: samples per replica of the vectorised evaluations; fewer than the workload's own where that
            would take minutes.
        speed_up: time of 16 gradients one by one over that of 16 at once; paired, median.
        speed_up_together: the same for `together`; NaN where that is 1.
    """

    name: str
    parameters: int
    nbytes: int
    flops_per_sample: float
    metric: str
    target_loss: float
    samples_per_s: float
    memory_nbytes: int
    together: int
    vectorised_batch: int
    speed_up: float
    speed_up_together: float


def measure(table: dict[str, Any]) -> Cost:
    """The cost of the workload that a study's table names."""
    import torch

    from bench.settings import build
    from bench.workloads.registry import settings_class

    torch.set_num_threads(1)
    cls = settings_class(table.pop("name"))
    settings = build(cls, table, cls.title)
    workload = settings.build(torch.device("cpu"), REPLICAS)
    x, stream = workload.initial(0), workload.batches(0, 0, REPLICAS)
    out = torch.empty_like(x)
    gradient_s = _median_s(lambda: workload.gradient(x, stream.next(), out))
    memory = peak_nbytes()

    together = workload.together
    per_gradient = workload.flops_per_sample * workload.batch_size
    few = max(1, min(workload.batch_size, int(HEAVY / REPLICAS / workload.flops_per_sample)))
    if per_gradient * REPLICAS > HEAVY:
        workload = dataclasses.replace(settings, batch_size=few).build(torch.device("cpu"), REPLICAS)  # type: ignore[type-var]
    return Cost(
        name=workload.name,
        parameters=workload.parameters,
        nbytes=workload.parameters * workload.dtype.itemsize,
        flops_per_sample=workload.flops_per_sample,
        metric=workload.metric,
        target_loss=workload.target_loss,
        samples_per_s=getattr(settings, "batch_size", 1) / gradient_s,
        memory_nbytes=memory,
        together=together,
        vectorised_batch=workload.batch_size,
        speed_up=_speed_up(workload, x, REPLICAS),
        speed_up_together=math.nan if together == 1 else _speed_up(workload, x, together),
    )


def _speed_up(workload: Workload, x: Tensor, replicas: int) -> float:
    """Time of as many gradients one by one over that of as many at once; paired, median."""
    import torch

    streams = [workload.batches(0, rank, REPLICAS) for rank in range(REPLICAS)]
    batches = [streams[k % REPLICAS].next() for k in range(replicas)]
    xs = torch.stack([x] * replicas)
    outs = torch.empty_like(xs)

    def one_by_one() -> None:
        for k in range(replicas):
            workload.gradient(xs[k], batches[k], outs[k])

    one_by_one()
    workload.gradients(xs, batches)
    ratios: list[float] = []
    until = time.perf_counter() + 2 * SECONDS
    while len(ratios) < FEW or time.perf_counter() < until:
        loop_s = _seconds(one_by_one)
        ratios.append(loop_s / _seconds(lambda: workload.gradients(xs, batches)))
    return statistics.median(ratios)


def peak_nbytes() -> int:
    """Largest resident memory of this process so far [byte].

    Linux's own count of this program; what getrusage says begins with the memory of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _median_s(work: Callable[[], object]) -> float:
    """Median time of one call [s], after a first one that does not count."""
    work()
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(times) < FEW or time.perf_counter() < until:
        times.append(_seconds(work))
    return statistics.median(times)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(measure(json.loads(sys.argv[1])))))
