"""Layers of long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    i, f, g, o = W x_t + U h_{t-1} + b          four pieces of H, in this order (torch's)
    c_t = sigmoid(f) c_{t-1} + sigmoid(i) tanh(g)
    h_t = sigmoid(o) tanh(c_t)

Two ways to the same numbers (to rounding):

- `torch.lstm`, the library's own kernel: oneDNN on a CPU, cuDNN on a GPU.
- `recurrence`, the lines above in torch operations: one matrix product for all W x_t, then a loop over time. It works
  under every transformation of torch.func and can be differentiated any number of times on any device.

A layer takes the kernel, except under a transformation of torch.func: there the kernel on a CPU falls back to a loop
over replicas with a warning, and on a GPU it has no second derivative. One gradient on one core [ms], B sequences of
T steps from d to H:

    B   T    d    H     kernel   recurrence   recurrence, vmap of 16   kernel, vmap of 16
    16  64  128  128       6.9         12.6                     14.9                 25.6
    10  35  128  128       2.8          5.7                      6.7                 11.6
    32  64   40   64       3.7          9.1                      9.1                 12.7

A hand-written backward pass, with one product for all steps' share in U's gradient, takes 4 to 18 % off autograd's time
through `recurrence` on these rows and is up to 28 % slower for more sequences of H = 128: not worth its lines. torch's
layer keeps two biases that are only ever added; here there is one, so that the model has no direction along which
nothing changes.

Axes: B sequences, T steps, d inputs, H width.
"""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional

# cuDNN wants its weights in one piece of its own layout and warns that it copies them into one. Ours are views of the
# flat vector; the copy is small beside the products.
warnings.filterwarnings("ignore", message="RNN module weights are not part of single contiguous chunk")

FORGET_BIAS = 1.0  # at the start the memory keeps; Jozefowicz et al. 2015


class Lstm(nn.Module):
    """Inputs [B, T, d] -> outputs h [B, T, H], from a state of zeros.

    Attributes:
        fused: False has it take `recurrence` always: for second derivatives by autograd on a GPU, and to count
            operations, as the counter does not see the kernel's.
    """

    fused = True

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight_input = nn.Parameter(torch.empty(4 * width, inputs))
        self.weight_recurrent = nn.Parameter(torch.empty(4 * width, width))
        self.bias = nn.Parameter(torch.empty(4 * width))

    def forward(self, x: Tensor) -> Tensor:
        # The private name is what torch.autograd.Function.apply itself asks.
        if not self.fused or torch._C._are_functorch_transforms_active():
            return recurrence(x, self.weight_input, self.weight_recurrent, self.bias)
        start = x.new_zeros(1, len(x), self.width)
        weights = [self.weight_input, self.weight_recurrent, self.bias, torch.zeros_like(self.bias)]
        outputs: Tensor = torch.lstm(x, [start, start], weights, True, 1, 0.0, self.training, False, True)[0]
        return outputs

    def initialise(self, generator: torch.Generator) -> None:
        """Matrices N(0, 1 / fan-in), biases 0, those of the forget gate 1."""
        for weight in (self.weight_input, self.weight_recurrent):
            nn.init.normal_(weight, std=1 / math.sqrt(weight.shape[1]), generator=generator)
        nn.init.zeros_(self.bias)
        nn.init.constant_(self.bias[self.width : 2 * self.width], FORGET_BIAS)

    def flops(self, steps: int) -> float:
        """Operations of one sequence's forward pass: two for each weight and step; the gates' own are left out."""
        return 2.0 * steps * (self.weight_input.numel() + self.weight_recurrent.numel())


class LstmStack(nn.Module):
    """Layers one on top of the other: inputs [B, T, d] -> outputs of the last [B, T, H]."""

    def __init__(self, inputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Lstm(inputs if k == 0 else width, width) for k in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def initialise(self, generator: torch.Generator) -> None:
        """Each layer from the generator, from the first to the last."""
        for layer in self.layers:
            assert isinstance(layer, Lstm)
            layer.initialise(generator)

    def flops(self, steps: int) -> float:
        """Operations of one sequence's forward pass."""
        return sum(layer.flops(steps) for layer in self.layers if isinstance(layer, Lstm))


def recurrence(x: Tensor, weight_input: Tensor, weight_recurrent: Tensor, bias: Tensor) -> Tensor:
    """The outputs h [B, T, H] of inputs x [B, T, d]; weights [4 H, d] and [4 H, H], bias [4 H]."""
    into_gates = functional.linear(x.transpose(0, 1), weight_input, bias)  # [T, B, 4 H]
    across = weight_recurrent.t()
    # In the inputs' type: under autocast the products are in half precision, the memory is not.
    h = c = x.new_zeros(x.shape[0], weight_recurrent.shape[1])
    outputs = []
    for gates in into_gates.unbind(0):
        i, f, g, o = torch.addmm(gates, h, across).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1)
