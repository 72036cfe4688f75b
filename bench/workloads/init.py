"""Where training starts: the initial weights of the image models, drawn in the order of the parameters.

fan-in = inputs that one output sums over: columns of a matrix, channels times window of a convolution.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def fan_in(weight: Tensor) -> int:
    """Inputs of one output, for a weight [outputs, inputs, ...]."""
    return weight[0].numel()


def uniform_by_fan_in(module: nn.Module, generator: torch.Generator) -> None:
    """Weights and biases of linear and convolution layers ~ U(-1, 1) / sqrt(fan-in), as PyTorch does by itself.

    Source: LeCun, Bottou, Orr, Muller, Efficient BackProp (1998), with a third of its variance.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1 / math.sqrt(fan_in(layer.weight))
            nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
            if layer.bias is not None:
                nn.init.uniform_(layer.bias, -bound, bound, generator=generator)


def he_normal(module: nn.Module, generator: torch.Generator, *, head: str = "head") -> None:
    """Weights ~ N(0, 2 / fan-in), those of the layer `head` ~ N(0, 1 / (3 fan-in)); biases 0, gains of norms 1.

    Twice the variance makes up for the half that a ReLU cuts off (He et al. 2015, arXiv:1502.01852). No ReLU follows
    the head, and small logits start training near the uniform distribution.
    """
    for name, p in module.named_parameters():
        if p.dim() > 1:
            variance = 1 / 3 if name == f"{head}.weight" else 2.0
            nn.init.normal_(p, std=math.sqrt(variance / fan_in(p)), generator=generator)
        else:
            nn.init.constant_(p, float(name.endswith("weight")))
