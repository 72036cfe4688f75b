"""A cheap landscape index that can be followed during training: the curvature that a mini-batch shows, for one gradient
more than the step has anyway.

    H v ~ (g(x + e v) - g(x)) / e,   index = |H v|,   next v = H v / |H v|

which is power iteration, one product per use, carried on while the model trains: the top direction of the Hessian
turns slowly enough to be followed. The first v is the gradient. The index is in units of 1 / learning rate: plain
gradient descent is at the edge of stability where lr times the index is 2, with momentum mu at 2 (1 + mu).

It is the largest curvature, up to sign, of the mini-batch's Hessian as far as the directions that earlier mini-batches
have chosen show it. Its median over some uses follows the largest eigenvalue of the whole set's Hessian.
docs/landscape-index.md has the measured correlation with the real eigenvalue, trace and sharpness, beside those of
other indices of the same cost; |H v| says more than v^T H v, which vanishes where a mini-batch without hard samples
bends in other directions than the last one.

Symbols: P parameters, g gradient of one mini-batch, H its Hessian, the same samples at both points; e length of the
step.

Source: edge of stability: Cohen et al., Gradient Descent on Neural Networks Typically Occurs at the Edge of Stability,
arXiv 2103.00065. Largest eigenvalue by finite differences during training: LeCun, Simard and Pearlmutter, Automatic
Learning Rate Maximization by On-Line Estimation of the Hessian's Eigenvectors, NIPS 1992.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.probes.loss import at_least

Gradient = Callable[[Tensor], Tensor]
"""A model [P] -> the gradient [P] of one mini-batch's loss there; it may use one buffer for all answers."""


@dataclass(frozen=True, eq=False)
class Index:
    """What one use says.

    Attributes:
        value: |H v| [1 / learning rate].
        curvature: v^T H v [1 / learning rate], of either sign; value or -value where v is an eigenvector.
        product: H v [P].
    """

    value: float
    curvature: float
    product: Tensor


def landscape_index(
    gradient: Gradient, x: Tensor, direction: Tensor | None = None, *, here: Tensor | None = None
) -> Index:
    """Curvature [1 / learning rate] that a mini-batch's loss shows at x, by a difference of two gradients.

    The step has sqrt(machine epsilon) times the length of x: short against the model, long against rounding.

    Args:
        gradient: of one mini-batch; called once, or twice without `here`.
        x: [P]; left as it is.
        direction: v [P], of any length; None takes the gradient.
        here: g(x), if it is known already.

    Raises:
        ValueError: the direction has no length, or is no number.

    Example:
        >>> eigenvalues = torch.tensor([4.0, 1.0]).double()
        >>> found = landscape_index(lambda x: eigenvalues * x, torch.ones(2).double(), torch.tensor([2.0, 0.0]))
        >>> round(found.value, 6), round(found.curvature, 6)
        (4.0, 4.0)
    """
    g = (gradient(x) if here is None else here).clone()  # the second answer may come in the same memory
    v = (g if direction is None else direction).to(x)
    length = float(v.norm())
    if not 0 < length < float("inf"):
        raise ValueError(f"the direction must have a length: got {length} (at a stationary point give another one)")
    v = v / length
    step = torch.finfo(x.dtype).eps ** 0.5 * max(1.0, float(x.norm()))
    product = (gradient(x + step * v) - g) / step
    return Index(float(product.norm()), float(product @ v), product)


class LandscapeIndex:
    """The index followed through a training run, smoothed by a running median.

    Use it every few steps of one's own training loop, before the step:

        index = LandscapeIndex()
        for t, batch in enumerate(batches):
            g = gradient_of(batch)(x)
            if t % 10 == 0:
                index.use(gradient_of(batch), x, here=g)
                if lr * index.median > 2: ...
            x -= lr * g

    It keeps one vector [P].

    Args:
        window: uses that the median is taken over.

    Attributes:
        values: of the uses in the window, the latest last.

    Raises:
        ValueError: the window is empty.

    Example:
        >>> eigenvalues, follow = torch.tensor([4.0, 1.0]).double(), LandscapeIndex(window=3)
        >>> for _ in range(12):
        ...     latest = follow.use(lambda x: eigenvalues * x, torch.tensor([0.1, 1.0]).double())
        >>> round(latest.value, 5), round(follow.median, 5)
        (4.0, 4.0)
    """

    def __init__(self, window: int = 9) -> None:
        at_least("window", window, 1, "15 is usual")
        self.values: deque[float] = deque(maxlen=window)
        self._direction: Tensor | None = None

    def use(self, gradient: Gradient, x: Tensor, *, here: Tensor | None = None) -> Index:
        """The index now; arguments as of `landscape_index`."""
        found = landscape_index(gradient, x, self._direction, here=here)
        # Where nothing bends (or all overflows) there is no direction to go on with: start again at the next gradient.
        self._direction = found.product if 0 < found.value < float("inf") else None
        self.values.append(found.value)
        return found

    @property
    def median(self) -> float:
        """Median [1 / learning rate] of the uses in the window; NaN before the first."""
        return statistics.median(self.values) if self.values else float("nan")
