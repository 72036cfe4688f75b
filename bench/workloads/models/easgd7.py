"""The 7-layer convolutional network of EASGD's CIFAR-10 experiments.

Source: Zhang, Choromanska, LeCun 2015, Deep learning with Elastic Averaging SGD (arXiv:1412.6651), section 5:
(3,28)C(64,24)P(64,12)C(128,8)P(128,4)C(64,2)D(256,1)S(10,1). C convolution, P maximum, D linear with dropout,
S linear with softmax; (channels, side) of what comes out.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bench.workloads.models.standardise import Standardise

SIDE = 28
HIDDEN = 256
KEPT = 0.5  # of the hidden units, by dropout


class Easgd7(nn.Module):
    """Images [B, 3, 28, 28] uint8 and, in training, dropout's mask [B, 256] uint8 (1: kept) -> logits [B, 10].

    ReLU follows each convolution and D. Kept units are doubled ("inverted" dropout), so that without a mask, in
    evaluation, the network is used as it is.

    Args:
        mean, std: of each colour, of the training set's pixels as fractions of 255.
    """

    def __init__(self, *, mean: tuple[float, float, float], std: tuple[float, float, float], classes: int = 10) -> None:
        super().__init__()
        self.standardise = Standardise(mean, std)
        self.conv1 = nn.Conv2d(3, 64, 5)
        self.conv2 = nn.Conv2d(64, 128, 5)
        self.conv3 = nn.Conv2d(128, 64, 3)
        self.hidden = nn.Linear(64 * 2 * 2, HIDDEN)
        self.head = nn.Linear(HIDDEN, classes)

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        x = self.standardise(images)
        # Maximum before ReLU: the same values and gradients as after it, on a quarter of the numbers.
        x = functional.relu(functional.max_pool2d(self.conv1(x), 2))
        x = functional.relu(functional.max_pool2d(self.conv2(x), 2))
        x = functional.relu(self.conv3(x))
        x = functional.relu(self.hidden(x.flatten(1)))
        if kept is not None:
            x = x * (kept.to(x.dtype) / KEPT)
        logits: Tensor = self.head(x)
        return logits
