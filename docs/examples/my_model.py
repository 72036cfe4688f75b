"""A network of one's own as a workload: paceline workloads check docs/examples/my_model.py:my_net"""

import torch
from torch import Tensor, nn

from bench.data.load import mnist
from bench.workloads.define import workload
from bench.workloads.problem import Problem, Samples, as_tensor


class Net(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 5, stride=2)
        self.head = nn.Linear(channels * 144, 10)

    def forward(self, images: Tensor) -> Tensor:  # uint8 [B, 28, 28] as in the file -> logits [B, 10]
        x = images.unsqueeze(1).to(self.head.weight.dtype) / 255
        return self.head(self.conv(x).relu().flatten(1))


def initialise(net: nn.Module, generator: torch.Generator) -> None:
    for p in net.parameters():
        nn.init.normal_(p, std=0.05, generator=generator)


@workload("my-net", optimizer={"name": "momentum", "lr": 0.05}, labelled=True, data=("mnist",))
def my_net(*, channels: int = 8, batch_size: int = 32) -> Problem:
    """One convolution and one linear layer on MNIST. Settings: channels of the convolution; samples per step."""
    (images, labels), (test_images, test_labels) = mnist("train"), mnist("test")
    return Problem(
        module=Net(channels),
        initialise=initialise,
        train=Samples(inputs=as_tensor(images), targets=as_tensor(labels), labels=labels),
        heldout=(as_tensor(test_images), as_tensor(test_labels)),
        facts={"data": "MNIST, 60 000 images; its 10 000 test images held out", "normalisation": "brightness / 255"},
    )
