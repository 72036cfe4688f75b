"""Synchronous EASGD with noisy gradients on a quadratic: mean and variance of the center, at every step and in the end.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, supplement,
    Lemmas 7.1 and 7.2.
Symbols: p = workers, eta = learning rate, alpha = moving rate of the workers, beta = that of the center (p alpha in the
    paper), h = `curvature`, sigma = `noise`, the standard deviation of a worker's gradient; x* = minimiser, y = mean of
    the workers - x*, c = center - x*, both in units of x.

In lock-step with period 1 (y, c) is an autoregression with the matrix A and noise in y:
    y' = (1 - eta h - alpha) y + alpha c + eta xi,   c' = beta y + (1 - beta) c,   Var xi = sigma^2 / p
    s_0 = 0, s_1 = 1, s_{k+1} = tr A s_k - det A s_{k-1};   A^t = s_t A - det A s_{t-1} I
The lemma writes s_k = (gamma^k - phi^k) / (gamma - phi) with the eigenvalues of A. The recursion says the same and
remains right where they are equal, or complex (a negative alpha).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from analysis.theory.linear import Array, check_workers


@dataclass(frozen=True, kw_only=True)
class SynchronousEASGD:
    """The autoregression of the center.

    Attributes:
        eta: learning rate.
        beta: the center's rate.
        workers: p.
        alpha: the workers' rate; None: beta / p, as in the paper.
        curvature: h, above 0.
        noise: sigma.

    Raises:
        ValueError: no worker, or curvature not above 0.

    Example:
        >>> round(SynchronousEASGD(eta=0.1, beta=0.9, workers=4).workers_times_mse, 4)
        0.0418
    """

    eta: float
    beta: float
    workers: int
    alpha: float | None = None
    curvature: float = 1.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        check_workers(self.workers)
        if not self.curvature > 0:
            raise ValueError(f"curvature must be above 0: got {self.curvature} (1 for x^2 / 2)")

    @property
    def moving_rate(self) -> float:
        """alpha."""
        return self.beta / self.workers if self.alpha is None else self.alpha

    @property
    def matrix(self) -> Array:
        """A [2, 2], on (y, c)."""
        keep = 1 - self.eta * self.curvature - self.moving_rate
        return np.array([[keep, self.moving_rate], [self.beta, 1 - self.beta]])

    def instability(self) -> str:
        """The condition that is broken, in words; "" where the center forgets its start and its noise.

        The three conditions say that both eigenvalues of A lie inside the unit circle.

        Example:
            >>> SynchronousEASGD(eta=1, beta=0.9, workers=1).instability()
            '(2 - eta h) (2 - beta) > 2 alpha is broken: 1.1 against 1.8'
        """
        step, beta, alpha = self.eta * self.curvature, self.beta, self.moving_rate
        if not step * beta > 0:
            return f"eta h beta > 0 is broken: {step * beta:.6g}"
        if not step + alpha + beta > step * beta:
            return f"eta h + alpha + beta > eta h beta is broken: {step + alpha + beta:.6g} against {step * beta:.6g}"
        if not (2 - step) * (2 - beta) > 2 * alpha:
            return f"(2 - eta h) (2 - beta) > 2 alpha is broken: {(2 - step) * (2 - beta):.6g} against {2 * alpha:.6g}"
        return ""

    def response(self, steps: int) -> Array:
        """s_0, ..., s_steps [steps + 1]; no unit.

        Example:
            >>> SynchronousEASGD(eta=0.5, beta=0.5, workers=1).response(3).tolist()   # A = [[0, .5], [.5, .5]]
            [0.0, 1.0, 0.5, 0.5]
        """
        impulse = np.zeros(steps + 1)
        impulse[1:2] = 1.0
        a = self.matrix
        return np.asarray(lfilter([1.0], [1.0, -np.trace(a), a[0, 0] * a[1, 1] - a[0, 1] * a[1, 0]], impulse))

    def center_mean(self, steps: int, *, workers_at: float, center_at: float) -> Array:
        """E c at t = 0, ..., steps [steps + 1], in units of x.

        Args:
            workers_at: mean over the workers of x_i - x* at t = 0.
            center_at: center - x* at t = 0.

        Source: arXiv 1412.6651, supplement, Lemma 7.1.

        Example:
            >>> SynchronousEASGD(eta=0.5, beta=0.5, workers=1).center_mean(2, workers_at=1.0, center_at=1.0).tolist()
            [1.0, 1.0, 0.75]
        """
        s, a = self.response(steps + 1), self.matrix
        from_center = s[1:] - a[0, 0] * s[:-1]  # the lower right entry of A^t
        return np.asarray(a[1, 0] * s[:-1] * workers_at + from_center * center_at)

    def center_variance(self, steps: int) -> Array:
        """Var c at t = 0, ..., steps [steps + 1], in units of x^2, from a known start.

        Source: arXiv 1412.6651, supplement, Lemma 7.1.

        Example:
            >>> four = SynchronousEASGD(eta=0.1, beta=0.9, workers=4)
            >>> four.center_variance(7)[[2, 7]].round(8).tolist()
            [0.002025, 0.00670861]
        """
        s = self.response(steps)
        # What enters at step m reaches c at step t as s_{t - m - 1}; s_0 = 0.
        return self._unit_variance * np.concatenate([[0.0], np.cumsum(s[:-1] ** 2)])

    def double_average_variance(self, steps: int) -> Array:
        """Variance of the mean of c_1, ..., c_t at t = 1, ..., steps [steps], in units of x^2, from a known start.

        p t times it tends to `double_average_limit`, whatever eta and alpha are.

        Source: arXiv 1412.6651, supplement, Lemma 7.2.

        Example:
            >>> z = SynchronousEASGD(eta=0.1, beta=0.9, workers=4).double_average_variance(10**5)
            >>> round(4 * 10**5 * float(z[-1]), 3)
            1.0
        """
        sums = np.cumsum(self.response(steps)[:-1])
        return self._unit_variance * np.cumsum(sums**2) / np.arange(1, steps + 1) ** 2

    @property
    def double_average_limit(self) -> float:
        """sigma^2 / h^2, to which p t times the variance of the mean of c_1, ..., c_t tends, in units of x^2.

        No estimate from as many gradients has less, and it depends on neither eta nor alpha.

        Source: arXiv 1412.6651, supplement, Lemma 7.2.

        Example:
            >>> SynchronousEASGD(eta=0.1, beta=0.9, workers=4, curvature=2, noise=3).double_average_limit
            2.25
        """
        return (self.noise / self.curvature) ** 2

    @property
    def workers_times_mse(self) -> float:
        """p E c^2 in the end, in units of x^2; NaN where it has no end (see `instability`).

        The sum of all s_k^2 is (1 + d) / ((1 - d) ((1 + d)^2 - T^2)), T = tr A, d = det A.

        Source: arXiv 1412.6651, supplement, Lemma 7.1, t to infinity.

        Example:
            >>> SynchronousEASGD(eta=1, beta=0.9, workers=1).workers_times_mse   # unstable
            nan
        """
        if self.instability():
            return math.nan
        step, beta, alpha = self.eta * self.curvature, self.beta, self.moving_rate
        # 1 - d, 1 + d - T and 1 + d + T, multiplied out: nothing cancels at small rates.
        away = step + alpha + beta - step * beta
        total = (2 - away) / (away * (step * beta) * ((2 - step) * (2 - beta) - 2 * alpha))
        return self.workers * self._unit_variance * total

    @property
    def limit(self) -> float:
        """`workers_times_mse` for many workers at the same beta, in units of x^2; NaN where that is unstable.

        Source: arXiv 1412.6651, supplement, corollary to Lemma 7.1.

        Example:
            >>> round(SynchronousEASGD(eta=0.1, beta=0.9, workers=4).limit, 5)
            0.05158
        """
        many = SynchronousEASGD(
            eta=self.eta, beta=self.beta, workers=self.workers, alpha=0.0, curvature=self.curvature, noise=self.noise
        )
        return many.workers_times_mse

    @property
    def minibatch_sgd(self) -> float:
        """p times the mean square error of SGD on the mean of p gradients, for comparison, in units of x^2.

        NaN from eta h = 2 on, where it is unstable.

        Source: the stationary variance of an autoregression of order one with the coefficient 1 - eta h.

        Example:
            >>> round(SynchronousEASGD(eta=0.1, beta=0.9, workers=4).minibatch_sgd, 5)
            0.05263
        """
        step = self.eta * self.curvature
        return step / (2 - step) * (self.noise / self.curvature) ** 2 if 0 < step < 2 else math.nan

    @property
    def _unit_variance(self) -> float:
        """(beta eta sigma)^2 / p: the variance of what a step's noise makes of c two steps later, while s = 1."""
        return (self.beta * self.eta * self.noise) ** 2 / self.workers
