"""ResNet-18 for images of 32x32, without batch norm's running statistics.

Source: He, Zhang, Ren, Sun 2016, Deep Residual Learning (arXiv:1512.03385), table 1, with the stem that CIFAR-10 asks
for: one convolution 3x3 of stride 1 instead of 7x7 of stride 2 and a maximum. Shortcuts that change shape are
convolutions 1x1 (their option B).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.workloads.init import he_normal
from bench.workloads.models.standardise import Standardise
from bench.workloads.norm import NormKind, norm

BLOCKS_PER_STAGE = 2
STAGES = 4  # each after the first halves the side and doubles the channels


class ResNet18(nn.Module):
    """Images [B, 3, 32, 32] uint8 -> logits [B, C].

    Args:
        width: channels of the first stage; 64 is ResNet-18.
        kind: the normalisation after each convolution.
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
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.norm = norm(kind, width)
        self.blocks = nn.ModuleList()
        channels = width
        for stage in range(STAGES):
            for k in range(BLOCKS_PER_STAGE):
                stride = 2 if stage > 0 and k == 0 else 1
                self.blocks.append(Block(channels, width * 2**stage, stride, kind))
                channels = width * 2**stage
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.stem(self.standardise(images))))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Block(nn.Module):
    """Two convolutions 3x3 added to the shortcut: [B, channels, H, W] -> [B, out_channels, H / stride, W / stride]."""

    def __init__(self, channels: int, out_channels: int, stride: int, kind: NormKind) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.norm1 = norm(kind, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = norm(kind, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False), norm(kind, out_channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = functional.relu(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return functional.relu(branch + self.shortcut(x))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """He's rule; the last gain of every block is 0, so that each block starts as its shortcut.

    Source of the zeros: Goyal et al. 2017, Accurate, Large Minibatch SGD (arXiv:1706.02677), section 5.1.
    """
    he_normal(module, generator)
    for block in module.modules():
        if isinstance(block, Block):
            nn.init.zeros_(block.norm2.get_parameter("weight"))
