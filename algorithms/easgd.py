"""EASGD (elastic averaging SGD), asynchronous: workers are tied to a center by an elastic force.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, Algorithm 1.
Symbols: x_i = replica, x~ = center (server's replica), tau = `period`, alpha = `moving_rate`, p = size, beta = p alpha.
Update of worker i, each on its own clock t_i from 0:
    x = x_i                                            the gradient is taken at this pre-elastic point
    if tau divides t_i:   d = alpha (x - x~);   x_i <- x_i - d;   x~ <- x~ + d
    x_i <- optimizer(x_i, g_i(x))
Differences from the paper: the server computes d when x_i reaches it, so x~ does not change between the reading of x~
and the adding of d (the paper's worker computes d and sends it back: one more message, and x~ may have moved
meanwhile).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from algorithms.interface import SERVER, Algorithm, Message, Need, Server, Worker

ELASTIC = "elastic"
DEFAULT_BETA = 0.9


@dataclass(frozen=True, kw_only=True)
class EASGD(Algorithm):
    """Asynchronous elastic averaging with a central variable."""

    name: ClassVar[str] = "easgd"
    summary: ClassVar[str] = "asynchronous elastic averaging with a center on one extra rank"
    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "server"})
    evaluated_model: ClassVar[str] = "center"

    period: int = 10  # tau [steps]
    # One of the two, or neither: then beta = 0.9 as in the paper. Larger: workers are held closer to the center.
    beta: float | None = None  # p alpha
    moving_rate: float | None = None  # alpha; stable up to (4 - 2 eta h) / (4 - eta h)

    def __post_init__(self) -> None:
        if self.period < 1:
            raise ValueError(f"period must be at least 1 step: got {self.period}")
        if self.beta is not None and self.moving_rate is not None:
            raise ValueError(
                f"beta and moving_rate say the same (beta = workers x moving_rate): got both, {self.beta} and "
                f"{self.moving_rate} (leave one out)"
            )
        if self.moving_rate is not None and not 0 <= self.moving_rate <= 1:
            raise ValueError(f"moving_rate (alpha) must lie in [0, 1]: got {self.moving_rate}")
        if self.beta is not None and not self.beta >= 0:
            raise ValueError(f"beta (workers x moving rate) must not be negative: got {self.beta}")

    def validate(self, size: int) -> None:
        """alpha = beta / p must not exceed 1."""
        if self.alpha(size) > 1:
            raise ValueError(
                f"beta / workers must not exceed 1: got {self.beta} / {size} = {self.alpha(size):g} (try beta = 0.9)"
            )

    def alpha(self, size: int) -> float:
        """The moving rate for `size` workers."""
        if self.moving_rate is not None:
            return self.moving_rate
        return (DEFAULT_BETA if self.beta is None else self.beta) / size

    async def worker(self, w: Worker) -> None:
        """One worker."""
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for t in w.steps():
            g = w.start(w.gradient(x))
            if (t - 1) % self.period == 0:
                x.add_(-(await w.request(SERVER, ELASTIC, x.data)))  # the same vector moves worker and center
            x.apply_(await g, opt)

    async def server(self, s: Server) -> None:
        """The center."""
        center, alpha = s.replica(), self.alpha(s.size)

        def elastic(message: Message) -> Tensor:
            d = alpha * (message.data - center.data)
            center.add_(d)
            return d

        s.serve(ELASTIC, elastic)
        await s.finished()

    def payload_nbytes(self, steps: Sequence[int], nbytes: int) -> int:
        """Every `period` steps from the first: one model to the server and one elastic difference back."""
        return sum(2 * -(-t // self.period) for t in steps) * nbytes

    def conserved(self) -> bool:
        """x~ + sum_i x_i changes by gradients only."""
        return True
