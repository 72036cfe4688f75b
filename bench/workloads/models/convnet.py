"""A small convolutional network for grey images of 28x28, made for one core."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bench.workloads.models.standardise import Standardise

SIDE, DEEPEST_SIDE = 28, 7


class SmallConvNet(nn.Module):
    """Grey images [B, 28, 28] uint8 -> logits [B, C].

    Convolution 5x5 with stride 2 (w, 14, 14), convolution 3x3 (2w, 14, 14), maximum over 2x2 (2w, 7, 7), linear (4w),
    linear (C), with ReLU after the first three layers. The stride makes the first convolution, whose one input channel
    uses a core badly, cheap.

    Args:
        width: w, channels of the first convolution.
        classes: C.
        mean, std: of the training set's pixels, as fractions of 255.
    """

    def __init__(self, *, width: int, classes: int, mean: float, std: float) -> None:
        super().__init__()
        self.standardise = Standardise([mean], [std])
        self.conv1 = nn.Conv2d(1, width, 5, stride=2, padding=2)
        self.conv2 = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.hidden = nn.Linear(2 * width * DEEPEST_SIDE**2, 4 * width)
        self.head = nn.Linear(4 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.standardise(images.unsqueeze(1))
        x = functional.relu(self.conv1(x))
        x = functional.max_pool2d(functional.relu(self.conv2(x)), 2)
        x = functional.relu(self.hidden(x.flatten(1)))
        logits: Tensor = self.head(x)
        return logits
