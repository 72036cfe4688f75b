"""How large a step may be when gradients are late, on a quadratic; and what staleness does to a rate that it scales.

Source: derived here; the queueing model is that of Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, Allerton
    2016, arXiv 1605.09774: M workers with memoryless compute times, so that staleness is geometric with mean M - 1.
Symbols: w = parameters, v = w_t - w_{t-1}, r_k = what worker k read last, a = learning rate x curvature, mu = the
    server's momentum, tau = staleness [writes], D = a constant one. At each write one worker k, any with probability
    1 / M:
    w <- w - a r_k + mu v;   r_k <- w

A step is stable in the mean if E w dies out, in mean square if E w^2 does. With memoryless workers the mean says
little: without momentum it is that of heavy ball with momentum 1 - 1/M and step a / M, stable up to a = 4 M - 2.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from analysis.theory.linear import Array, check_range, check_workers, spectral_radius

LEAST = 1e-3  # a step that is stable for any momentum, as a share of (1 - |mu|) / M


def constant_limit(staleness: int) -> float:
    """The largest stable learning rate x curvature at a constant staleness D, without momentum; no unit.

    w_{t+1} = w_t - a w_{t-D}: the first pair of roots leaves the unit circle at a = 2 sin(pi / (2 (2 D + 1))).

    Raises:
        ValueError: a negative staleness.

    Source: derived: z^{D+1} - z^D + a = 0 at z = exp(i theta).

    Example:
        >>> [round(constant_limit(d), 3) for d in (0, 1, 3, 7)]
        [2.0, 1.0, 0.445, 0.209]
    """
    if staleness < 0:
        raise ValueError(f"staleness must be at least 0 writes: got {staleness}")
    return 2 * math.sin(math.pi / (2 * (2 * staleness + 1)))


def scaled_limit(staleness: int) -> float:
    """`constant_limit` for a server that divides the rate by the staleness, max(D, 1); no unit.

    Raises:
        ValueError: a negative staleness.

    Source: the rule: Zhang, Gupta, Lian, Liu, Staleness-aware Async-SGD, IJCAI 2016, arXiv 1511.05950; the limit is
    derived.

    Example:
        >>> [round(scaled_limit(d), 3) for d in (1, 3, 7, 15)]
        [1.0, 1.335, 1.463, 1.519]
    """
    return max(staleness, 1) * constant_limit(staleness)


def mean_limit(workers: int) -> float:
    """The learning rate x curvature up to which the mean of memoryless workers is stable, without momentum; no unit.

    Raises:
        ValueError: no worker.

    Source: arXiv 1605.09774, theorem 5, and heavy ball's limit 2 (1 + mu) / step.

    Example:
        >>> mean_limit(1), mean_limit(16)
        (2.0, 62.0)
    """
    check_workers(workers)
    return 4.0 * workers - 2


def moment_map(step: float, *, workers: int, momentum: float = 0.0) -> Array:
    """How the second moments of memoryless workers move at a write; no unit.

    Workers are alike, so seven moments suffice: E w^2, E w r_i, E r_i^2, E r_i r_j (i != j), and with momentum
    E v^2, E w v, E v r_i. One worker has no E r_i r_j.

    Args:
        step: a, learning rate x curvature.
        workers: M.
        momentum: mu.

    Returns:
        [4, 4] without momentum, else [7, 7], in this order; for one worker [3, 3] or [6, 6].

    Raises:
        ValueError: no worker.

    Source: derived from the update; see the module.

    Example:
        >>> moment_map(0.5, workers=1).tolist()   # w r = r^2 = w^2 after a write, (1 - a)^2 of what they were
        [[1.0, -1.0, 0.25], [1.0, -1.0, 0.25], [1.0, -1.0, 0.25]]
    """
    check_workers(workers)
    # Each moment as a row over the moments before the write: ww, wr, rr, rirj, vv, wv, vr.
    ww, wr, rr, apart, vv, wv, vr = np.eye(7)
    other = 1 - 1 / workers  # the probability that a given worker does not write
    vv_ = momentum**2 * vv - 2 * momentum * step * vr + step**2 * rr
    w_moved = momentum * wv - step * wr  # E w v', v' = mu v - a r_k
    ww_ = ww + 2 * w_moved + vv_
    wv_ = w_moved + vv_
    v_other = momentum * vr - step * apart  # E v' r_i for a worker i that does not write
    w_other = wr + v_other
    rows = {
        "ww": ww_,
        "wr": ww_ / workers + other * w_other,  # the writer reads what it wrote
        "rr": ww_ / workers + other * rr,
        "apart": 2 / workers * w_other + (1 - 2 / workers) * apart,
        "vv": vv_,
        "wv": wv_,
        "vr": wv_ / workers + other * v_other,
    }
    kept = [k for k in range(7) if (k != 3 or workers > 1) and (k < 4 or momentum)]
    return np.stack(list(rows.values()))[np.ix_(kept, kept)]


def memoryless_limit(workers: int, momentum: float = 0.0) -> float:
    """The largest learning rate x curvature at which memoryless workers are stable in mean square; no unit.

    Without momentum it is (1 + sqrt(1 + 8 M)) / (2 M), about sqrt(2 / M). There E w^2 keeps its value: from the map,
    E r_i^2 = E w^2, 2 E w r_i = a E w^2 and E r_i r_j = E w r_i / (1 + a), which leaves M a^2 - a - 2 = 0.

    Args:
        workers: M.
        momentum: mu of the server, in (-1, 1).

    Raises:
        ValueError: no worker, or a momentum outside of (-1, 1).

    Source: derived; see the module.

    Example:
        >>> [round(memoryless_limit(m), 3) for m in (1, 2, 4, 8, 16, 32)]
        [2.0, 1.281, 0.843, 0.566, 0.386, 0.266]
        >>> round(memoryless_limit(1, momentum=0.5), 6)   # heavy ball: 2 (1 + mu)
        3.0
    """
    check_workers(workers)
    check_range("momentum", momentum, -1, 1)
    if not momentum:
        return (1 + math.sqrt(1 + 8 * workers)) / (2 * workers)

    def excess(step: float) -> float:
        return float(spectral_radius(moment_map(step, workers=workers, momentum=momentum))) - 1

    low = LEAST * (1 - abs(momentum)) / workers
    high = 2 * low
    while excess(high) < 0:
        low, high = high, 2 * high
    return float(brentq(excess, low, high, xtol=1e-13))


def mean_inverse_staleness(workers: int, *, plus_one: bool = False) -> float:
    """The mean of the factor that staleness puts on the rate of servers that divide by it, memoryless workers; no unit.

    Args:
        workers: M; tau is geometric with mean M - 1.
        plus_one: E 1 / (tau + 1) = ln M / (M - 1) instead of E 1 / max(tau, 1) = (1 + ln M) / M.

    Raises:
        ValueError: no worker.

    Source: derived from arXiv 1605.09774, theorem 5. (1 / M would forget Jensen's inequality.)

    Example:
        >>> round(mean_inverse_staleness(8), 4), round(mean_inverse_staleness(8, plus_one=True), 4)
        (0.3849, 0.2971)
    """
    check_workers(workers)
    if not plus_one:
        return (1 + math.log(workers)) / workers
    return math.log(workers) / (workers - 1) if workers > 1 else 1.0
