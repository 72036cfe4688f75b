"""Computing gradients: where, on which stream of a GPU, how long it took; and one thread that does it while the main
thread drives MPI."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from bench.clock import WallClock
from bench.kernel import Future, Kernel
from bench.transports.base import Computed

Mark: TypeAlias = "torch.cuda.Event | None"
"""A point in a GPU's work; None on a CPU, where work is done when the call returns."""


class Evaluator:
    """Computes one gradient at a time on a device, and measures it.

    On a GPU gradients have a stream of their own, so that the main thread can copy messages and write to replicas, on
    the current stream, without waiting for them. What they read must have been enqueued before a mark; what they wrote
    is there when `run` returns, since that waits for the device. It waits asleep and without Python's lock.
    """

    def __init__(self, kernel: Kernel, device: torch.device) -> None:
        self._kernel, self._device = kernel, device
        self._on_gpu = device.type == "cuda"
        if self._on_gpu:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
            self._begin, self._end = _timer(), _timer()

    def adopt_thread(self) -> None:
        """Make the device the calling thread's own, which would otherwise set up the first GPU for itself."""
        if self._on_gpu:
            torch.cuda.set_device(self._device)

    def mark(self) -> Mark:
        """What has been enqueued on the calling thread's current stream so far."""
        return torch.cuda.current_stream(self._device).record_event() if self._on_gpu else None

    def run(self, evaluate: Callable[[], Tensor], after: Mark) -> Computed:
        """Evaluate once the device has got to the mark, and wait for the result."""
        t0 = self._kernel.now()
        if not self._on_gpu:
            loss = evaluate()
            return Computed(loss, t0, self._kernel.now())
        with torch.cuda.stream(self._stream):
            if after is not None:
                self._stream.wait_event(after)
            self._begin.record()
            loss = evaluate()
            self._end.record()
            self._end.synchronize()
        t1 = self._kernel.now()
        # The loss's memory belongs to our stream, but the algorithm will use it on the current one.
        loss.record_stream(torch.cuda.current_stream(self._device))
        return Computed(loss, t0, t1, self._begin.elapsed_time(self._end) * 1e-3)


def _timer() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True, blocking=True)  # type: ignore[no-untyped-call]


class Helper:
    """One thread that computes gradients while the main thread drives MPI."""

    def __init__(self, evaluator: Evaluator, clock: WallClock) -> None:
        self._evaluator, self._clock = evaluator, clock
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Tensor], Mark, Future[Computed]] | None] = queue.SimpleQueue()
        self._done: deque[tuple[Future[Computed], Computed | BaseException]] = deque()
        self._thread = threading.Thread(target=self._work, name="gradient", daemon=True)
        self._thread.start()

    def submit(self, evaluate: Callable[[], Tensor], future: Future[Computed]) -> None:
        """Evaluate what has been enqueued by now; `deliver` sets the future."""
        self._jobs.put((evaluate, self._evaluator.mark(), future))

    def _work(self) -> None:
        self._evaluator.adopt_thread()
        while (job := self._jobs.get()) is not None:
            evaluate, after, future = job
            try:
                self._done.append((future, self._evaluator.run(evaluate, after)))
            except BaseException as error:  # handed to the main thread, which raises it in the algorithm
                self._done.append((future, error))
            self._clock.wake()

    def deliver(self) -> bool:
        """Set the futures of finished evaluations (in the main thread)."""
        delivered = False
        while self._done:
            future, outcome = self._done.popleft()
            if isinstance(outcome, Computed):
                future.set(outcome)
            else:
                future.fail(outcome)
            delivered = True
        return delivered

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()
