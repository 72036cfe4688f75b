"""VGG-13 for images of 32x32.

Source: Simonyan and Zisserman 2015, Very Deep Convolutional Networks (arXiv:1409.1556), table 1, configuration B: ten
convolutions 3x3 and three linear layers. Five halvings leave one pixel of a 32x32 image, and as is usual on CIFAR-10
one linear layer takes the place of the three.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bench.workloads.models.standardise import Standardise
from bench.workloads.norm import NormKind, norm

MULTIPLES = (1, 2, 4, 8, 8)  # of the width: channels of the five stages, each two convolutions and a maximum over 2x2
CONVOLUTIONS_PER_STAGE = 2


class Vgg13(nn.Module):
    """Images [B, 3, 32, 32] uint8 -> logits [B, C].

    Args:
        width: channels of the first stage; 64 is VGG-13.
        kind: the normalisation after each convolution; "none" is the paper's network.
        classes: C.
        mean, std: of each colour, of the training set's pixels as fractions of 255.
    """

    def __init__(
        self,
        *,
        width: int,
        kind: NormKind,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.blocks = nn.ModuleList()
        channels = 3
        for multiple in MULTIPLES:
            for k in range(CONVOLUTIONS_PER_STAGE):
                halve = k == CONVOLUTIONS_PER_STAGE - 1
                self.blocks.append(Block(channels, multiple * width, kind, halve))
                channels = multiple * width
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.standardise(images)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.flatten(1))
        return logits


class Block(nn.Module):
    """Convolution 3x3, norm, ReLU, and where `halve` a maximum over 2x2: [B, channels, H, W] -> [B, out_channels, ...].

    The convolution has a bias only where no norm follows, which has its own.
    """

    def __init__(self, channels: int, out_channels: int, kind: NormKind, halve: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1, bias=kind == "none")
        self.norm = norm(kind, out_channels)
        self._halve = halve

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if self._halve:
            x = functional.max_pool2d(x, 2)  # before ReLU: the same values and gradients, on a quarter of the numbers
        return functional.relu(x)
