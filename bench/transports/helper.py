"""One thread that computes gradients while the main thread drives MPI."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

from bench.clock import WallClock
from bench.kernel import Future, Kernel
from bench.transports.base import Computed


class Helper:
    """One thread that computes gradients while the main thread drives MPI."""

    def __init__(self, kernel: Kernel, clock: WallClock) -> None:
        self._kernel, self._clock = kernel, clock
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Tensor], Future[Computed]] | None] = queue.SimpleQueue()
        self._done: deque[tuple[Future[Computed], Computed | BaseException]] = deque()
        self._thread = threading.Thread(target=self._work, name="gradient", daemon=True)
        self._thread.start()

    def submit(self, evaluate: Callable[[], Tensor], future: Future[Computed]) -> None:
        self._jobs.put((evaluate, future))

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            evaluate, future = job
            try:
                t0 = self._kernel.now()
                loss = evaluate()
                synchronise(loss)
                self._done.append((future, Computed(loss, t0, self._kernel.now())))
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


def synchronise(loss: Tensor) -> None:
    """Wait until the device has computed what `loss` depends on, so that clocks mean something."""
    if loss.is_cuda:
        torch.cuda.current_stream(loss.device).synchronize()
