"""Checks that come before any number: a run that fails one keeps its rows and is shown as failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from algorithms.interface import Algorithm, Layer, Traffic


@dataclass(frozen=True, kw_only=True)
class RankFacts:
    """What one rank brings to the checks and to the run's row."""

    rank: int
    is_server: bool
    steps: int
    samples: int
    nbytes: int
    wire_nbytes: int
    dropped: int
    mailbox_depth_max: int
    initial_hash: str
    first_bad_loss_s: float  # NaN if all losses were finite
    ended_s: float
    drift: float | None  # change of the sum of all elements by exchanges; None if not tracked
    exchanges: int
    rms: float  # root mean square of the elements at the end
    total: float  # sum of the elements at the end
    counters: Mapping[str, int]  # its kept whole numbers


@dataclass(frozen=True)
class Verdict:
    """`status` as in `bench.records.STATUSES`, and each check with its outcome in words."""

    status: str
    text: str
    diverged_at_s: float


def judge(
    algorithm: Algorithm,
    ranks: Sequence[RankFacts],
    layers: Sequence[Layer],
    itemsize: int,
    seed: int,
    heldout: Sequence[tuple[float, float]],
    *,
    values: bool = True,
    sent_nbytes: int | None = None,
) -> Verdict:
    """All checks of one run.

    Args:
        layers, itemsize: of the model; see `Traffic`.
        seed: the study's.
        heldout: (time [s], held-out loss) of each snapshot.
        values: whether gradients were computed; without them there is no loss, and nothing to compare or to sum.
        sent_nbytes: what the kernel counted on the wire, where every rank is a host of its own; None elsewhere.
    """
    workers = [r for r in ranks if not r.is_server]
    checks: list[tuple[str, bool, str]] = []
    hashes = {r.initial_hash for r in ranks}
    if values:
        checks.append(("equal initial parameters", len(hashes) == 1, f"{len(hashes)} different"))
    dropped = sum(r.dropped for r in ranks)
    checks.append(("no event row dropped", dropped == 0, f"{dropped} dropped"))
    if algorithm.lockstep:
        counts = {r.steps for r in workers}
        checks.append(("equal step counts", len(counts) == 1, f"steps {sorted(counts)}"))
    counters: Counter[str] = Counter()
    for r in ranks:
        counters.update(r.counters)
    traffic = Traffic(steps=[r.steps for r in workers], layers=layers, itemsize=itemsize, counters=counters, seed=seed)
    expected = algorithm.payload_nbytes(traffic)
    if expected is not None:
        counted = sum(r.nbytes for r in ranks)
        checks.append(
            ("bytes equal to the closed form", counted == expected, f"counted {counted}, expected {expected}")
        )

    if sent_nbytes is not None:
        claimed = sum(r.wire_nbytes for r in ranks)
        why = f"claimed {claimed}, the interfaces sent {sent_nbytes}: the ranks shared memory or another network"
        checks.append(("the kernel counted no less on the wire", sent_nbytes >= claimed, why))

    bad = [r.first_bad_loss_s for r in ranks if not math.isnan(r.first_bad_loss_s)]
    bad += [t for t, loss in heldout if not math.isfinite(loss)]
    if algorithm.conserved() and not bad and all(r.drift is not None for r in ranks):
        total, tolerance = (
            abs(sum(r.drift or 0.0 for r in ranks)),
            conservation_tolerance(ranks, traffic.nbytes, itemsize),
        )
        checks.append(
            ("exchanges conserve the sum of all models", total <= tolerance, f"{total:.3g} > {tolerance:.3g}")
        )

    text = "; ".join(f"{name}: {'yes' if ok else f'NO ({why})'}" for name, ok, why in checks)
    if not all(ok for _, ok, _ in checks):
        return Verdict("failed", text, math.nan)
    if bad:
        return Verdict("diverged", f"{text}; finite loss: NO (first at {min(bad):.3f} s)", min(bad))
    end = "finite loss: yes" if values else "no gradients were computed: time and bytes only"
    return Verdict("completed", f"{text}; {end}", math.nan)


def conservation_tolerance(ranks: Sequence[RankFacts], vector_nbytes: int, itemsize: int) -> float:
    """What rounding may do to the sum of all elements: a random walk of one rounding per element and exchange, times
    100; and a drift, since mixing weights such as 1/3 do not add up to 1 exactly: one rounding of the whole sum per
    exchange.

    An exchange that is lost, doubled or torn shifts the sum by about the distance between two models, which is larger
    unless the models agree to about 4 digits.
    """
    eps = torch.finfo(torch.float64 if itemsize == 8 else torch.float32).eps
    exchanges = sum(r.exchanges for r in ranks)
    rms = max((r.rms for r in ranks), default=0.0)
    drift = exchanges * max((abs(r.total) for r in ranks), default=0.0)
    return eps * (100 * math.sqrt(max(exchanges, 1) * vector_nbytes / itemsize) * max(rms, 1e-30) + drift)
