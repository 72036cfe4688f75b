"""Workers that wait in line for a parameter server: its utilisation, their throughput, and what becomes of staleness.

Source: the closed network of one queue and a "machine repairman" is textbook: Kleinrock, Queueing Systems, volume 1,
    section 3.8; product form: Baskett, Chandy, Muntz, Palacios, J. ACM 22 (1975); mean-value analysis: Reiser,
    Lavenberg, J. ACM 27 (1980). The law of staleness in it is derived here.
Symbols: M workers, Z_k = mean time of worker k between an answer of the server and its next message's arrival
    (computing and the network, both ways), S = mean time the server takes for a message, X_k = writes per second,
    A = the workers at the server.

The server takes messages in the order of their arrival, for a memoryless time with the same mean for all. Then

    P(A are at the server) ~ |A|! S^|A| prod_{k not in A} Z_k,

so that X_k is a quotient of sums of elementary symmetric polynomials of the 1 / Z. It holds for any law of the times
between (they enter by their means only). Limits: with constant serving times lines are shorter, so take these as upper
bounds of the waiting (for S = 0 and for a saturated server nothing changes); several NICs or switches are not modelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln

from analysis.asynchrony.server import Array


@dataclass(frozen=True)
class Throughput:
    """Steady state of a server and its workers.

    Attributes:
        writes_per_s: X_k [M].
        utilisation: share of the time in which the server is busy.
        at_server: mean number of workers that wait or are served.
    """

    writes_per_s: Array
    utilisation: float
    at_server: float


def throughput(between_s: ArrayLike, serve_s: float) -> Throughput:
    """Writes per second of workers that share a server, exactly.

    Args:
        between_s: Z_k [M] in seconds, at least one worker.
        serve_s: S in seconds.

    Raises:
        ValueError: a Z_k is not positive, S is negative, or there is no worker.

    Source: Baskett, Chandy, Muntz, Palacios, J. ACM 22 (1975); see the module.

    Example:
        One worker never waits; two equal ones with Z = S are busy on the server 4/5 of the time:

        >>> throughput([3.0], 1.0).writes_per_s.tolist()
        [0.25]
        >>> round(throughput([1.0, 1.0], 1.0).utilisation, 12)
        0.8
    """
    z = _positive(between_s)
    if not serve_s >= 0:
        raise ValueError(f"serve_s must be at least 0 seconds: got {serve_s}")
    workers = len(z)
    # Row i: sums over the sets of m workers without one of the i-th time; the last row: with all. Scaled as they grow.
    _, left_out, like = np.unique(z, return_index=True, return_inverse=True)
    sums = np.zeros((len(left_out) + 1, workers + 1))
    sums[:, 0] = 1.0
    size = np.arange(1, workers + 1)
    for j in range(workers):
        added = size * (serve_s / z[j]) * sums[:, :-1]
        added[:-1][left_out == j] = 0.0
        sums[:, 1:] += added
        sums /= sums.max()
    writes_per_s = (sums[:-1].sum(1) / sums[-1].sum())[like] / z
    return Throughput(writes_per_s, float(writes_per_s.sum() * serve_s), float((1 - writes_per_s * z).sum()))


def queueing_law(*, workers: int, between_s: float, serve_s: float, longest: int) -> Array:
    """Probabilities of staleness 0 .. longest of equal workers that wait in line for the server [longest + 1].

    The mean is M - 1 as ever. Without serving time the law is geometric; the longer the line, the narrower it is, as a
    line is served in turn: with a saturated server staleness is M - 1 nearly always.

    How: when a worker reads, the others are as in a network without it (the arrival theorem). While it computes, writes
    are counted along the chain of how many others are at the server; when its message arrives, those ahead of it write.

    Args:
        workers: M.
        between_s: Z, memoryless here.
        serve_s: S.
        longest: the last staleness [writes].

    Raises:
        ValueError: no worker, a Z that is not positive, or a negative S.

    Source: derived; arrival theorem: Sevcik, Mitrani, J. ACM 28 (1981).

    Example:
        >>> queueing_law(workers=2, between_s=1.0, serve_s=0.0, longest=2).tolist()
        [0.5, 0.25, 0.125]
        >>> queueing_law(workers=3, between_s=1.0, serve_s=1e6, longest=2).round(5).tolist()
        [0.0, 0.0, 1.0]
    """
    z = float(_positive([between_s] * workers)[0])
    if not serve_s >= 0:
        raise ValueError(f"serve_s must be at least 0 seconds: got {serve_s}")
    if serve_s == 0:
        return np.asarray((1 - 1 / workers) ** np.arange(longest + 1) / workers)
    others = workers - 1
    at_server = np.arange(others + 1)
    log_weight = at_server * np.log(serve_s / z) - gammaln(others - at_server + 1)
    start = np.exp(log_weight - log_weight.max())
    # What comes next: another message, a write, or the worker's own message.
    arrival, write, own = (others - at_server) / z, (at_server > 0) / serve_s, np.full(others + 1, 1 / z)
    total = arrival + write + own
    one = np.eye(others + 1)
    visits = np.linalg.inv(one - np.diag((arrival / total)[:-1], 1))  # before the next write or own message
    after_write = np.diag((write / total)[1:], -1) @ visits
    law = np.zeros(longest + workers)
    now = start / start.sum() @ visits
    for writes in range(longest + 1):
        law[writes : writes + workers] += now * own / total
        now = now @ after_write
    return law[: longest + 1]


def _positive(between_s: ArrayLike) -> Array:
    z = np.asarray(between_s, dtype=np.float64)
    if z.ndim != 1 or not len(z) or not ((z > 0) & np.isfinite(z)).all():
        raise ValueError(f"between_s must be positive and finite, one per worker: got {z.tolist()}")
    return z
