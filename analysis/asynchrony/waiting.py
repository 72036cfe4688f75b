"""How stale gradients will be, for workers of given speeds, before anything is run.

Source: for equal memoryless workers Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774,
    theorem 5; for unequal ones derived here.
Symbols: r_k = writes per second of worker k, R = their sum, p_k = r_k / R, tau_k = staleness of k's gradients [writes].

Worker k reads when it writes. So tau_k is the number of writes by others between two writes of k, and

    E tau_k = (R - r_k) / r_k,    over all gradients   sum_k p_k E tau_k = M - 1,

by counting alone: for any compute times, independent or not, with or without a network, if r_k are the rates of writes
that came out of it. If compute times are memoryless and messages and server cost no time, each write is by k with
probability p_k, whatever was before, and tau_k is geometric: P(tau_k = l) = p_k (1 - p_k)^l.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from analysis.asynchrony.server import Array


def expected_staleness(rates: ArrayLike) -> pd.DataFrame:
    """Staleness to be expected of each worker's gradients.

    Args:
        rates: r_k, writes per second or in any other unit of time [M]; 1 / mean compute time, if that is all that
            takes time, or `closed_network.throughput(...).writes_per_s`.

    Returns:
        One row per worker: `worker`, `share` (of all writes, p_k), `staleness_mean` [writes] (for any law of compute
        times), and for memoryless ones `staleness_variance` [writes^2] and `zero_share` (of gradients not stale).

    Raises:
        ValueError: no rate, or one that is not positive and finite.

    Source: derived; see the module.

    Example:
        A worker three times as fast as the other one:

        >>> expected_staleness([3.0, 1.0])[["share", "staleness_mean", "zero_share"]].round(3).to_numpy().tolist()
        [[0.75, 0.333, 0.75], [0.25, 3.0, 0.25]]
    """
    p = _shares(rates)
    return pd.DataFrame(
        {
            "worker": np.arange(len(p)),
            "share": p,
            "staleness_mean": (1 - p) / p,
            "staleness_variance": (1 - p) / p**2,
            "zero_share": p,
        }
    )


class Moments(NamedTuple):
    """Mean [writes] and variance [writes^2]."""

    mean: float
    variance: float


def overall_staleness(rates: ArrayLike) -> Moments:
    """Mean and variance of the staleness over all gradients, for memoryless workers.

    The mean is M - 1 for any speeds and any law. The variance grows with differences in speed: from M (M - 1) for equal
    workers, as the slow ones' few gradients are very stale.

    Args:
        rates: r_k [M].

    Raises:
        ValueError: no rate, or one that is not positive and finite.

    Source: derived: E tau_k^2 = (1 - p_k) (2 - p_k) / p_k^2, weighted with p_k.

    Example:
        >>> overall_staleness([1.0, 1.0, 1.0, 1.0])
        Moments(mean=3.0, variance=12.0)
        >>> overall_staleness([3.0, 1.0]).mean
        1.0
    """
    p = _shares(rates)
    mean = len(p) - 1.0
    return Moments(mean, float(((1 - p) * (2 - p) / p).sum()) - mean**2)


def memoryless_law(rates: ArrayLike, longest: int) -> Array:
    """Probabilities of staleness 0 .. longest of each worker's gradients [M, longest + 1].

    Over all gradients it is the mean of the rows, weighted with the shares; geometric only for equal speeds.

    Args:
        rates: r_k of memoryless workers [M].
        longest: the last staleness [writes].

    Raises:
        ValueError: no rate, or one that is not positive and finite.

    Source: derived; see the module.

    Example:
        >>> memoryless_law([3.0, 1.0], 1).tolist()
        [[0.75, 0.1875], [0.25, 0.1875]]
    """
    p = _shares(rates)[:, None]
    return np.asarray(p * (1 - p) ** np.arange(longest + 1))


def _shares(rates: ArrayLike) -> Array:
    r = np.asarray(rates, dtype=np.float64)
    if r.ndim != 1 or not len(r) or not ((r > 0) & np.isfinite(r)).all():
        raise ValueError(f"rates must be positive and finite, one per worker: got {r.tolist()}")
    return np.asarray(r / r.sum())
