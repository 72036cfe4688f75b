"""A recurrent language model: ids -> what comes next.

Axes: B sequences, T steps, V ids, E width of the embedding, H width of the layers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bench.workloads.models.lstm import LstmStack

TABLE_STD = 0.1  # of a tied table: it is the output's weights too, which should start small
FREE_TABLE_STD = 1.0


class LstmLanguageModel(nn.Module):
    """Ids [B, T] -> logits of the next id [B, T, V].

    Args:
        ids: V.
        embedding: E.
        width, depth: H and number of LSTM layers.
        tied: the output's weights are the embedding's table (Press and Wolf 2017, arXiv:1608.05859), after a product
            from H to E, so that a large vocabulary costs V E and not V (E + H) weights. Otherwise they are its own.
    """

    def __init__(self, *, ids: int, embedding: int, width: int, depth: int, tied: bool) -> None:
        super().__init__()
        self.tied = tied
        self.embedding = nn.Parameter(torch.empty(ids, embedding))
        self.lstm = LstmStack(embedding, width, depth)
        if tied:
            self.projection = nn.Linear(width, embedding, bias=False)
            self.bias = nn.Parameter(torch.empty(ids))
        else:
            self.head = nn.Linear(width, ids)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.lstm(functional.embedding(ids, self.embedding))
        logits: Tensor = functional.linear(self.projection(h), self.embedding, self.bias) if self.tied else self.head(h)
        return logits

    def initialise(self, generator: torch.Generator) -> None:
        """The table N(0, 1), if tied N(0, 0.1^2); matrices N(0, 1 / fan-in), biases 0 but for the forget gates' 1."""
        nn.init.normal_(self.embedding, std=TABLE_STD if self.tied else FREE_TABLE_STD, generator=generator)
        self.lstm.initialise(generator)
        last = self.projection if self.tied else self.head
        nn.init.normal_(last.weight, std=1 / math.sqrt(last.in_features), generator=generator)
        nn.init.zeros_(self.bias if self.tied else self.head.bias)

    def gradient_flops(self, steps: int) -> float:
        """Operations of one sequence's gradient: two for each weight of a product and step, and backward twice that.

        The table that is looked up costs nothing; the gates' and the softmax's own operations are left out.
        """
        output = self.projection.weight.numel() + self.embedding.numel() if self.tied else self.head.weight.numel()
        return 3 * (self.lstm.flops(steps) + 2.0 * steps * output)
