"""Mini-batches that are on the GPU before they are asked for.

A thread draws them from the host's stream, copies them into page-locked memory and enqueues the copy to the GPU on a
stream of its own. Who takes one has his current stream wait for the copy, not himself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.workloads.base import Batches


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A mini-batch, where the stream stood before it, and the copy to the GPU."""

    before: dict[str, Tensor]
    batch: tuple[Tensor, ...]
    copied: torch.cuda.Event | None


class Prefetched:
    """A stream of mini-batches on `device`, `depth` of them drawn in advance; see `Batches`.

    The batches, their order and `state()` are those of `stream`, as if nothing had been drawn in advance.

    Args:
        stream: in host memory; nobody else may use it from now on.
        device: a GPU. On a CPU batches are drawn in advance just the same, and not copied.
    """

    def __init__(self, stream: Batches, device: torch.device, depth: int = 2) -> None:
        assert depth >= 1, "with nothing in advance there is nothing to do here"
        self._stream, self._device, self._depth = stream, device, depth
        self._pending: deque[Future[_Drawn]] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def next(self) -> tuple[Tensor, ...]:
        while len(self._pending) <= self._depth:
            self._pending.append(self._thread.submit(self._draw))
        drawn = self._pending.popleft().result()
        if drawn.copied is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(drawn.copied)
            for part in drawn.batch:
                part.record_stream(current)  # its memory is the side stream's: not to be given out before we are done
        return drawn.batch

    def state(self) -> dict[str, Tensor]:
        # Only the thread touches the stream, and it is idle if nothing is pending.
        return dict(self._pending[0].result().before) if self._pending else self._stream.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for future in self._pending:
            if not future.cancel():
                future.exception()  # wait for the one under way; what it drew, or why it failed, no longer matters
        self._pending.clear()
        self._stream.load_state(state)

    def _draw(self) -> _Drawn:
        before, batch = self._stream.state(), self._stream.next()
        if self._side is None:
            return _Drawn(before, batch, None)
        torch.cuda.set_device(self._device)  # of this thread, which would otherwise set up the first GPU for itself
        with torch.cuda.stream(self._side):
            moved = tuple(part.pin_memory().to(self._device, non_blocking=True) for part in batch)
            return _Drawn(before, moved, self._side.record_event())
