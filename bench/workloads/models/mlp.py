"""A ReLU network on grey images."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from bench.workloads.models.standardise import Standardise


class ImageMlp(nn.Module):
    """Grey images [B, H, W] uint8 -> logits [B, C] through hidden layers of ReLU units.

    Args:
        pixels: H times W.
        widths: units of each hidden layer.
        classes: C.
        mean, std: of the training set's pixels, as fractions of 255.
    """

    def __init__(self, *, pixels: int, widths: Sequence[int], classes: int, mean: float, std: float) -> None:
        super().__init__()
        self.standardise = Standardise([mean], [std])
        layers: list[nn.Module] = []
        for fan_in, fan_out in itertools.pairwise([pixels, *widths]):
            layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, images: Tensor) -> Tensor:
        pixels = self.standardise(images.unsqueeze(1)).flatten(1)
        logits: Tensor = self.head(self.hidden(pixels))
        return logits
