"""Push-sum: averages on directed graphs, where what a worker sends and what it receives need not balance.

Source: Kempe, Dobra, Gehrke, Gossip-based computation of aggregate information, FOCS 2003.
Symbols: (x, w) = numerator [P] and push weight of a worker; z = x / w [P]; d = number of receivers.
Every transfer moves a part of x and the same part of w in one message, so neither sum over all workers changes, and z
tends to the mean of all models although x does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from algorithms.interface import Handle, Traffic
from algorithms.replica import Replica

PUSH = "push"


def unit_weight(w: Handle) -> Tensor:
    """This worker's push weight, 1 at first: 0-d float64, kept where the model lies."""
    return w.keep("weight", w.replica().data.new_ones((), dtype=torch.float64))


def push_(x: Replica, weight: Tensor, receivers: int) -> Tensor:
    """Take d = `receivers` parts of 1 / (1 + d) out of (x, w); one such part [P + 1], the weight last, to be sent.

    What stays is what the parts leave over, not (x, w) / (1 + d) rounded once more: no rounding is lost on the way.
    """
    part = torch.cat([x.data, weight.to(x.data).reshape(1)]).div_(1 + receivers)
    x.add_(part[:-1] * -receivers)
    weight.sub_(part[-1].double() * receivers)
    return part


def take_(x: Replica, weight: Tensor, part: Tensor) -> None:
    """Add a part [P + 1] that was received to (x, w)."""
    x.add_(part[:-1])
    weight.add_(part[-1])


def debias_(z: Tensor, x: Replica, weight: Tensor) -> None:
    """z <- x / w."""
    torch.div(x.data, weight, out=z)


def part_nbytes(traffic: Traffic) -> int:
    """Size of a part: P + 1 numbers [byte]."""
    return traffic.nbytes + traffic.itemsize
