"""Gradients of many replicas, each at its own parameters and on its own mini-batch, in a few vectorised evaluations.

What is saved is torch's own work around each operation, which does not grow with the operation: a gradient of a small
network is little else. What is lost, on a CPU, are matrix products with weights in the caches and the library's kernels
for convolutions and LSTMs. So it is the number of operations that decides. Microseconds a gradient on one core, B
samples; `vmap` and `replayed` are 16 replicas at once, by torch.func.vmap and as here (see `bench.workloads.replay`):

                                                 B    MFLOP   one by one     vmap   replayed    gain
    a9a-logistic                                64     0.05          129       59         27     4.8
    shakespeare-lstm, width 12, 10 characters    4     1.1           669      305        166     4.0
    digits-mlp                                  32     1.7           265      116         57     4.7
    fashion-convnet, width 4                     4     2.0           983      309        259     3.8
    mnist-mlp                                    8     2.0           313      133         83     3.8
    shakespeare-gpt, width 16, 12 characters     4     2.3          1155      468        364     3.2
    speech-lstm, width 8                         4     2.4           807     1100        529     1.5
    mnist-mlp                                   32     8.1           445      225        163     2.7
    fashion-convnet                              4    26            3047     1822       1406     2.2
    mnist-mlp                                  128    32             721      512        434     1.7
    shakespeare-gpt, width 32, 32 characters     8    47            2173     1756       1492     1.5
    shakespeare-lstm, width 64, 32 characters    8    57            3131     5184       3645     0.9
    digits-mlp, width 512                       64   115            1871     1941       1416     1.3
    mnist-mlp                                  512   130            1869     3361       3116     0.6
    speech-lstm                                 32   327            4502     9624       7886     0.6
    fashion-convnet                             64   416            7540    12170      11731     0.6
    shakespeare-lstm                            16   655            7350    17229      14114     0.5

On a GPU one replica of such a model leaves most of the device idle, and memory alone decides.

Axes: k replicas, P parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bench.workloads.replay import NotReplayable, Replay, recorded, tensors_in

# Replicas in one evaluation. Each size is recorded once, so they are few; more than the largest gain nothing.
PARTS = (128, 64, 32, 16, 8, 4, 2)
NBYTES = 2**30  # of what one evaluation takes and makes, were nothing freed before its end

SMALL = 4e7  # operations of a gradient above which one by one may be faster on a CPU

# Attention has no batching rule on a CPU, so that vmap loops over replicas and says so. A user cannot change that.
warnings.filterwarnings(
    "ignore", message="There is a performance drop because we have not yet implemented the batching"
)


def evaluation_nbytes(loss: Callable[..., Tensor], x: Tensor, *batch: Tensor) -> int:
    """What one replica's gradient at x [P] takes and makes, intermediate results and all, were nothing freed [byte].

    Raises:
        RuntimeError: torch.func cannot vectorise the loss, as where what it computes depends on the data.
    """
    made = _Made()  # type: ignore[no-untyped-call]
    with made, torch.enable_grad():
        torch.func.vmap(torch.func.grad_and_value(loss))(x[None], *(tensor[None] for tensor in batch))
    return made.nbytes + sum(tensor.nbytes for tensor in (x, *batch))


class _Made(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make within it."""

    nbytes: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors_in((args, kwargs or {}))}
        new = (tensor for tensor in tensors_in((out,)) if tensor.untyped_storage().data_ptr() not in known)
        self.nbytes += sum(tensor.untyped_storage().nbytes() for tensor in new)
        return out


def largest_part(nbytes: int) -> int:
    """How many replicas may be evaluated at once, if one takes so many bytes.

    Example:
        >>> largest_part(2**23), largest_part(2**23 + 1), largest_part(2**40)
        (128, 64, 1)
    """
    return next((size for size in PARTS if size * nbytes <= NBYTES), 1)


def parts_of(count: int, largest: int) -> list[int]:
    """Sizes of the evaluations of `count` replicas: the last may be larger than what is left, by a third at most.

    None is 1, unless all are: torch's product of single matrices rounds otherwise than that of several, and a gradient
    must not depend on how many others are evaluated with it, or a run that is resumed would part from one that is not.

    Example:
        >>> parts_of(300, 128), parts_of(7, 128), parts_of(5, 128), parts_of(5, 2), parts_of(2, 1)
        ([128, 128, 32, 16], [8], [4, 2], [2, 2, 2], [1, 1])
    """
    if largest == 1:
        return [1] * count
    sizes = [size for size in PARTS if size <= largest]
    parts: list[int] = []
    while count > 0:
        up = next((size for size in reversed(sizes) if count <= size), 0)
        down = next((size for size in sizes if size <= count), sizes[-1])
        parts.append(up if up and 3 * up <= 4 * count else down)
        count -= parts[-1]
    return parts


class Vectorised:
    """The gradients of a loss at many points.

    A part is evaluated by torch.func.vmap at first, then by replaying what that came to. Where no list of operations
    says it, vmap it stays.

    Args:
        loss: (x [P], *batch) -> the mean loss; what torch.func can differentiate and vectorise.
        one: (x [P], batch, out [P]) -> the loss, with the gradient in out; for parts of one.
        largest: replicas in a part at most.
    """

    def __init__(
        self,
        loss: Callable[..., Tensor],
        one: Callable[[Tensor, tuple[Tensor, ...], Tensor], Tensor],
        largest: int,
    ) -> None:
        self._one, self._largest = one, largest
        self._together = torch.func.vmap(torch.func.grad_and_value(loss))
        self._replays: dict[object, Replay] = {}

    def __call__(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """Gradients [k, P] and losses [k] at xs [k, P], newly allocated."""
        count, xs = len(xs), xs.detach().contiguous()
        assert len(batches) == count > 0
        parts, losses, at = parts_of(count, self._largest), [], 0
        gradients = xs.new_empty(sum(parts), xs.shape[1])
        for part in parts:
            rows, some, out = xs[at : at + part], batches[at : at + part], gradients[at : at + part]
            missing = part - len(rows)
            if missing:  # the last replica once more is the cheapest thing to fill up with
                rows, some = torch.cat([rows, rows[-1:].expand(missing, -1)]), [*some, *[some[-1]] * missing]
            losses.append(self._one(rows[0], some[0], out[0])[None] if part == 1 else self._evaluate(rows, some, out))
            at += part
        return gradients[:count], torch.cat(losses)[:count]

    def _evaluate(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]], out: Tensor) -> Tensor:
        stacked = [torch.stack(tensors) for tensors in zip(*batches, strict=True)]
        key = tuple((tensor.shape, tensor.dtype) for tensor in (xs, *stacked))
        if key not in self._replays:
            self._replays[key] = self._recorded(xs, stacked)
        return self._replays[key](out, xs, *stacked)[1]

    def _recorded(self, xs: Tensor, batches: list[Tensor]) -> Replay:
        with torch.enable_grad():
            try:
                return recorded(self._together, (xs, *batches))
            except NotReplayable:
                return self._again

    def _again(self, out: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            gradients, losses = self._together(*inputs)
        return out.copy_(gradients.detach()), losses.detach()
