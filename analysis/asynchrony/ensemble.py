"""Implicit momentum from many seeds, by least squares on the mean trajectory, with an interval.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774, theorems 3 and 6: what they say is
    about means over the randomness of staleness, so a fit to one run (as in Zhang, Mitliagkas, arXiv 1706.03471) does
    not give it. The unbiased products of means are derived here.
Symbols: w_t = center after t writes, D_t = w_t - w_{t-1}, g_t = grad f(w_t), a = learning rate, mu_L = explicit and
    mu_S = implicit momentum, c = what is left of the rate (1 - mu_S; 1/M with M memoryless workers), S seeds, T
    writes, P parameters; E = mean over the seeds.

    explicit known:    E U_{t+1} = mu_S E U_t - c a E g_t,   U_t = D_t - mu_L D_{t-1}
    explicit unknown:  E D_{t+1} = (mu_L + mu_S) E D_t - mu_L mu_S E D_{t-1} - c a E g_t

for t = 1 .. T - 1, over all elements. The normal equations need only products <E X, E Y> of mean vectors. The products
of the observed means carry the seeds' noise, <mean X, mean Y> = <E X, E Y> + covariance / S: the regressors then err,
and the momentum is drawn towards 0, the more the noisier and the fewer seeds. Products of different seeds,

    mean over s != s' of <X_s, Y_s'>,

are free of that. Everything is made from the S x S products of seeds, so T and P may be large.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import norm

from analysis.asynchrony.server import Array

CONFIDENCE = 0.95
RESAMPLES = 1999
SEED = 20160531  # any fixed number: the same runs must give the same interval

Moments = Literal["across-seeds", "of-means"]


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, and how many seeds it is made of; NaN where there is none."""

    value: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class MomentumFit:
    """Momentum fitted to the mean trajectory; no units.

    Attributes:
        implicit: mu_S.
        rate: c, which is 1 - mu_S if the staleness is geometric.
        explicit: mu_L, fitted; None if it was given.
        moments: "across-seeds" (free of the bias of noise) or "of-means".
    """

    implicit: Estimate
    rate: Estimate
    explicit: Estimate | None
    moments: Moments


def fit_momentum(
    paths: Array,
    gradients: Array,
    *,
    lr: float,
    explicit: float | None = 0.0,
    moments: Moments = "across-seeds",
    resamples: int = RESAMPLES,
) -> MomentumFit:
    """Implicit momentum and effective rate of asynchronous runs of several seeds from the same point; no unit.

    Needs the center after every write, and gradients of the loss there: of the whole training set, or of mini-batches
    drawn for this purpose; the mini-batch gradients that were applied are late and do not serve. The intervals, 95 %,
    are of a bootstrap over seeds with a fixed seed, brought to the variance of products of different seeds.

    With the explicit momentum unknown, the fit gives the sum and the product of the two momenta. Which is which is told
    by c = 1 - mu_S; when the two are near each other, both are badly known and their sum well.

    Args:
        paths: w_0 .. w_T of each seed [S, T + 1, P], all from one start, before which nothing was pending.
        gradients: grad f at w_0 .. w_{T-1} [S, T, P]; one at w_T may follow and is not used.
        lr: a.
        explicit: mu_L; None: fitted too.
        moments: how products of means are made: see the module.
        resamples: of the bootstrap. "of-means" has no interval: its error is bias, which resampling doubles, not shows.

    Raises:
        ValueError: the shapes do not fit, fewer than 3 writes, or fewer than 3 seeds.

    Source: arXiv 1605.09774, theorems 3 and 6; Hoeffding, A Class of Statistics with Asymptotically Normal
    Distribution, Annals of Mathematical Statistics 19 (1948).

    Example:
        Three runs of heavy ball with momentum 0.5 and half the rate, which two memoryless workers are in the mean:

        >>> w = np.empty((3, 6, 2)); w[:, 0] = [[1.0, 2.0], [2.0, 1.0], [3.0, 1.0]]; w[:, 1] = 0.9 * w[:, 0]
        >>> for t in range(1, 5):
        ...     w[:, t + 1] = w[:, t] + 0.5 * (w[:, t] - w[:, t - 1]) - 0.1 / 2 * w[:, t]
        >>> found = fit_momentum(w, w, lr=0.1)   # of |w|^2 / 2
        >>> round(found.implicit.value, 9), round(found.rate.value, 9), found.implicit.seeds
        (0.5, 0.5, 3)
    """
    fits = paths.ndim == gradients.ndim == 3 and paths.shape[::2] == gradients.shape[::2]
    if not fits or gradients.shape[1] not in (paths.shape[1] - 1, paths.shape[1]):
        raise ValueError(f"paths must be [S, T + 1, P], gradients [S, T, P]: got {paths.shape} and {gradients.shape}")
    seeds, points, _ = paths.shape
    if seeds < 3 or points < 4:
        raise ValueError(f"at least 3 seeds and 3 writes are needed: got {seeds} and {points - 1}")
    steps = np.diff(paths, axis=1)  # steps[:, t] = D_{t+1}
    pull = -lr * gradients[:, 1 : points - 1]  # with D_2 .. D_T
    if explicit is None:
        before = np.zeros_like(steps[:, :-1])
        before[:, 1:] = steps[:, :-2]
        columns = [steps[:, :-1], before, pull, steps[:, 1:]]
    else:
        changes = steps.copy()  # U_{t+1}
        changes[:, 1:] -= explicit * steps[:, :-1]
        columns = [changes[:, :-1], pull, changes[:, 1:]]
    products = _products([column.reshape(seeds, -1) for column in columns], moments)

    def estimate(weights: Array) -> Array:
        """(mu_S, c, mu_L) [B, 3] for weights of the seeds [B, S]."""
        fitted = _solve(products, weights)
        if explicit is not None:
            return np.column_stack([fitted, np.full(len(fitted), explicit)])
        return _split(fitted)

    whole = estimate(np.ones((1, seeds)))[0]
    if moments == "of-means":
        ends = [(np.nan, np.nan)] * len(whole)
    else:
        draws = np.random.default_rng(SEED).multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
        draws = draws[(draws > 0).sum(1) > 1]  # of one seed alone there are no products of different seeds
        ends = _intervals(whole, estimate(1.0 - np.eye(seeds)), estimate(draws.astype(np.float64)))
    found = [Estimate(float(value), *interval, seeds) for value, interval in zip(whole, ends, strict=True)]
    return MomentumFit(found[0], found[1], found[2] if explicit is None else None, moments)


def _products(columns: list[Array], moments: Moments) -> list[tuple[int, int, Array]]:
    """(i, j, <X_s, Y_s'> for all seeds s, s' [S, S]) for each two columns X, Y, i <= j."""
    found = []
    for i, x in enumerate(columns):
        for j, y in enumerate(columns[i:], start=i):
            product = x @ y.T
            if moments == "across-seeds":
                np.fill_diagonal(product, 0.0)
            found.append((i, j, product))
    return found


def _solve(products: list[tuple[int, int, Array]], weights: Array) -> Array:
    """Coefficients of the last of the k columns on the others [B, k - 1], for each weighting of the seeds [B, S]."""
    last = products[-1][0]
    sums = np.empty((len(weights), last + 1, last + 1))  # the factor that makes them means would cancel
    for i, j, product in products:
        sums[:, i, j] = sums[:, j, i] = ((weights @ product) * weights).sum(1)
    return np.asarray(np.linalg.solve(sums[:, :-1, :-1], sums[:, :-1, -1:])[..., 0])


def _split(fitted: Array) -> Array:
    """(mu_S, c, mu_L) from (sum, -product, c) [B, 3]: mu_S is the root nearer to 1 - c.

    Where noise makes the roots complex, both are given their real part.
    """
    total, product, rate = fitted[:, 0], -fitted[:, 1], fitted[:, 2]
    apart = np.sqrt(np.maximum(total**2 / 4 - product, 0.0))
    roots = np.stack([total / 2 + apart, total / 2 - apart], axis=1)
    nearest = np.abs(roots - (1 - rate)[:, None]).argmin(1)
    every = np.arange(len(roots))
    return np.column_stack([roots[every, nearest], rate, roots[every, 1 - nearest]])


def _intervals(value: Array, left_out: Array, drawn: Array) -> list[tuple[float, float]]:
    """Percentile intervals of each element of value [k] from jackknife [S, k] and bootstrap [B, k] replicates.

    Products of different seeds have a variance V1 + V2 of which V2 belongs to pairs. Leaving a seed out sees V1 + 2 V2
    and drawing with replacement V1 + 3 V2 (Hoeffding's decomposition), so V1 + V2 = 2 jackknife - bootstrap. The
    replicates are drawn towards the estimate by the root of its share, which lies between 1/3 and 1.
    """
    jackknife = (len(left_out) - 1) * left_out.var(0)
    quantiles = np.quantile(drawn, norm.cdf([-1.0, 1.0]), axis=0)
    bootstrap = ((quantiles[1] - quantiles[0]) / 2) ** 2  # so, because of the few wild ones among few seeds
    share = np.divide(2 * jackknife - bootstrap, bootstrap, out=np.ones_like(bootstrap), where=bootstrap > 0)
    replicates = value + np.sqrt(np.clip(share, 1 / 3, 1)) * (drawn - value)
    low, high = np.quantile(replicates, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))
