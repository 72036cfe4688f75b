"""The first layer of every image model: bytes -> numbers of mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

BRIGHTEST = 255


class Standardise(nn.Module):
    """Images of bytes [B, C, H, W] -> (image / 255 - mean) / std, in the type of the model's parameters.

    Mini-batches keep the files' bytes: a quarter of what float32 would move through memory and to a GPU.

    Args:
        mean, std: of each colour [C], of the training set's pixels as fractions of 255.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        # Plain attributes, not buffers: constants are no state of the model, and a workload's module may have none.
        columns = torch.tensor([mean, std], dtype=torch.float64)[:, :, None, None]
        self._scale = (1 / (BRIGHTEST * columns[1])).to(torch.get_default_dtype())
        self._shift = (-columns[0] / columns[1]).to(torch.get_default_dtype())

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self._shift, images.to(self._scale.dtype), self._scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Standardise:
        # What `module.to(...)` does to parameters and buffers.
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._scale, self._shift = fn(self._scale), fn(self._shift)
        return self
