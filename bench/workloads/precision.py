"""Lower precision of computing: TF32, bfloat16 and float16. Parameters, gradients and messages stay float32.

    float32    float32 throughout; on a GPU TF32 is switched off too, which torch has on for convolutions
    tf32       GPUs round the factors of matrix products and convolutions to 10 bits; nothing changes on a CPU
    bfloat16   torch's autocast: matrix products and convolutions in bfloat16, sums, norms and losses in float32
    float16    the same in float16, with the loss scaled so that small gradients do not vanish (`Precision.backward`)

Source: mixed precision and loss scaling, Micikevicius et al. 2018 (arXiv:1710.03740).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

AUTOCAST = {"bfloat16": torch.bfloat16, "float16": torch.float16}
FIRST_SCALE, SMALLEST_SCALE, LARGEST_SCALE = 2.0**16, 1.0, 2.0**24
GROW_AFTER = 1000  # gradients in a row that were finite


class Precision:
    """In which precision a workload computes.

    Args:
        name: "float32", "tf32", "bfloat16" or "float16".
        device: where; TF32 is a matter of GPUs alone.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in ("float32", "tf32", *AUTOCAST):
            raise ValueError(f"precision must be float32, tf32, bfloat16 or float16: got {name!r} (default 'float32')")
        self.name, self._device_type = name, device.type
        self.scales = name == "float16"
        self.scaler = LossScaler()

    def forward(self) -> AbstractContextManager[Any]:
        """Around the forward pass and the loss, in training and evaluation; a backward pass does not belong in it."""
        if self.name not in AUTOCAST:
            return self.products()
        return self._in_half()

    def backward(self, loss_of: Callable[[], Tensor], out: Tensor) -> Tensor:
        """Run loss_of() (a forward pass, within `forward`) and its backward pass; return the loss, detached.

        Leaves accumulate their gradients in `out`, which must be zero. With float16 the pass is repeated with smaller
        scales while the gradient overflows; what is left in `out` is never scaled.
        """
        with self.products():
            if not self.scales:
                loss = loss_of()
                loss.backward()  # type: ignore[no-untyped-call]
                return loss.detach()
            return self.scaler.backward(loss_of, out)

    def products(self) -> AbstractContextManager[Any]:
        """Around forward and backward passes: float32 products of a GPU in full or TF32 precision."""
        if self._device_type != "cuda":
            return contextlib.nullcontext()
        return full_or_tf32("tf32" if self.name == "tf32" else "ieee")

    @contextlib.contextmanager
    def _in_half(self) -> Iterator[None]:
        with self.products(), torch.autocast(self._device_type, dtype=AUTOCAST[self.name]):
            yield


@contextlib.contextmanager
def full_or_tf32(wanted: str) -> Iterator[None]:
    """ "ieee" or "tf32" in matrix products, convolutions and recurrent networks on GPUs, for the duration.

    torch has these switches for a whole process.
    Calls of several threads may overlap only if they want the same.
    """
    cudnn: Any = torch.backends.cudnn
    switches: tuple[Any, ...] = (torch.backends.cuda.matmul, cudnn.conv, cudnn.rnn)
    before = [switch.fp32_precision for switch in switches]
    try:
        for switch in switches:
            switch.fp32_precision = wanted
        yield
    finally:
        for switch, value in zip(switches, before, strict=True):
            switch.fp32_precision = value


class LossScaler:
    """The factor on the loss of float16 training: as large as the gradients allow, found by trying.

    A power of two, so that scaling and unscaling change nothing but what would underflow or overflow. A gradient that
    overflows is computed again with half the scale, so that none is lost and a step stays a step; after 1000 good ones
    the scale is doubled. A run that is repeated scales the same.
    """

    def __init__(self) -> None:
        self.scale = FIRST_SCALE
        self.good = 0  # finite gradients since the scale last changed

    def backward(self, loss_of: Callable[[], Tensor], out: Tensor) -> Tensor:
        """See `Precision.backward`. A loss that is not finite, and a gradient that no scale helps, are left as such."""
        while True:
            loss = loss_of()
            (loss * self.scale).backward()  # type: ignore[no-untyped-call]
            finite = bool(torch.isfinite(out).all())
            if finite or self.scale == SMALLEST_SCALE or not bool(torch.isfinite(loss.detach())):
                break
            self.scale, self.good = self.scale / 2, 0
            out.zero_()
        out.div_(self.scale)
        self.good = self.good + 1 if finite else 0
        if self.good == GROW_AFTER:
            self.scale, self.good = min(2 * self.scale, LARGEST_SCALE), 0
        return loss.detach()
