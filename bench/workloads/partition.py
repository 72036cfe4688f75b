"""Which training data each worker sees: everything, or its own share, cut in one of the ways that the field uses.

A share is a set of items: samples, or segments of a text (then `weights` are their lengths). All shares of a run derive
from one generator, so every rank computes the same ones and asks nobody.

Sources: "label", k classes per worker, McMahan et al. 2017 (arXiv:1602.05629); "dirichlet", for each class proportions
over the workers, Yurochkin et al. 2019 (arXiv:1905.12022), drawn anew while a share is too small; Hsu et al. 2019
(arXiv:1909.06335) draw for each worker proportions over the classes instead. "role" is the partition of Shakespeare's
plays in McMahan et al., with several roles per worker.

Axes: N items, S workers, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
PartitionName = Literal["whole", "iid", "label", "dirichlet", "power-law", "role", "speaker", "article"]

ANY_DATA: tuple[PartitionName, ...] = ("whole", "iid", "power-law")
LABELLED: tuple[PartitionName, ...] = ("label", "dirichlet")
GROUPINGS: tuple[PartitionName, ...] = ("role", "speaker", "article")

DEFAULT_CLASSES = 2
DEFAULT_ALPHA = 0.5
DEFAULT_EXPONENT = 1.0

DRAWS = 1000  # of Dirichlet proportions, before it is said that they will not do
MOST_GROUPS_NAMED = 12


@dataclass(frozen=True, kw_only=True)
class Partition:
    """How training data is shared out: a study file's `partition = { by = "label", classes = 2 }`.

    Settings left at None take their default where they are used; given where they have no effect, they are an error.

    Attributes:
        by: "whole": every worker passes over the whole training set in its own order. "iid": random shares whose sizes
            differ by at most one. "label": every worker holds `classes` classes. "dirichlet": each class is dealt in
            proportions drawn from Dir(alpha). "power-law": random shares of very different sizes. "role", "speaker",
            "article": whole groups are dealt, the largest first, each to the smallest share.
        classes: for "label": classes per worker; default 2.
        alpha: for "dirichlet": concentration, > 0; small is uneven; default 0.5.
        exponent: for "power-law": the k-th largest share is proportional to k^-exponent, >= 0; default 1.0.

    Raises:
        ValueError: a setting is out of range or has no effect for this `by`.
    """

    by: PartitionName = "whole"
    classes: int | None = None
    alpha: float | None = None
    exponent: float | None = None

    def __post_init__(self) -> None:
        if self.by not in get_args(PartitionName):
            raise ValueError(
                f"partition.by must be one of {', '.join(get_args(PartitionName))}: got {self.by!r} (default 'whole')"
            )
        for setting, user in (("classes", "label"), ("alpha", "dirichlet"), ("exponent", "power-law")):
            if getattr(self, setting) is not None and self.by != user:
                raise ValueError(
                    f"partition.{setting} has no effect: got {getattr(self, setting)!r} with by={self.by!r}; "
                    f"it is for {user!r} only (leave it out, or set by={user!r})"
                )
        if self.resolved_classes < 1:
            raise ValueError(
                f"partition.classes must be at least 1: got {self.resolved_classes} (default {DEFAULT_CLASSES})"
            )
        if not 0 < self.resolved_alpha < math.inf:
            raise ValueError(
                f"partition.alpha must be > 0 and finite: got {self.resolved_alpha} (default {DEFAULT_ALPHA})"
            )
        if not 0 <= self.resolved_exponent < math.inf:
            raise ValueError(
                f"partition.exponent must be >= 0 and finite: got {self.resolved_exponent} (default {DEFAULT_EXPONENT})"
            )

    @property
    def resolved_classes(self) -> int:
        """Classes per worker in use; meaningful for "label"."""
        return DEFAULT_CLASSES if self.classes is None else self.classes

    @property
    def resolved_alpha(self) -> float:
        """The concentration in use; meaningful for "dirichlet"."""
        return DEFAULT_ALPHA if self.alpha is None else self.alpha

    @property
    def resolved_exponent(self) -> float:
        """The exponent in use; meaningful for "power-law"."""
        return DEFAULT_EXPONENT if self.exponent is None else self.exponent

    def __str__(self) -> str:
        """For tables: "whole", "label, classes=2", "dirichlet, alpha=0.5"."""
        setting = {
            "label": f", classes={self.resolved_classes}",
            "dirichlet": f", alpha={self.resolved_alpha:g}",
            "power-law": f", exponent={self.resolved_exponent:g}",
        }
        return self.by + setting.get(self.by, "")


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one worker holds, for a table of results.

    Attributes:
        rank: the worker.
        items: samples, or segments of a text.
        samples: samples, or the total length of the segments (characters or words).
        labels: how many samples of each class, by the class's name; empty without classes.
        groups: names of the groups it holds, the largest of its share first, at most `MOST_GROUPS_NAMED`.
        group_count: how many groups it holds.
    """

    rank: int
    items: int
    samples: int
    labels: dict[str, int]
    groups: tuple[str, ...]
    group_count: int


def check(partition: Partition, *, grouping: str, labelled: bool) -> None:
    """Whether training data can be cut so.

    Args:
        grouping: what its groups are, "role", "speaker" or "article"; "" if it has none.
        labelled: whether it has classes.

    Raises:
        ValueError: it has no such groups, or no classes.
    """
    allowed = ANY_DATA + (LABELLED if labelled else ()) + tuple(name for name in GROUPINGS if name == grouping)
    if partition.by not in allowed:
        lacks = "classes" if partition.by in LABELLED else f"{partition.by}s"
        raise ValueError(
            f"partition.by must be one of {', '.join(allowed)} for this workload, its training data has no {lacks}: "
            f"got {partition.by!r} (choose one of these)"
        )


def shares(
    partition: Partition,
    size: int,
    rng: np.random.Generator,
    *,
    count: int,
    labels: Indices | None = None,
    groups: Indices | None = None,
    weights: Indices | None = None,
    least: int = 1,
) -> list[Indices]:
    """The items of each of `size` workers, each sorted; all but "whole" are disjoint and together hold every item.

    Args:
        size: S.
        rng: the same on all ranks.
        count: N.
        labels: class of each item [N], for "label" and "dirichlet".
        groups: group of each item [N], for "role", "speaker" and "article".
        weights: samples that each item stands for [N]; one each if None.
        least: samples that every worker needs.

    Raises:
        ValueError: some worker would get fewer than `least` samples, or there are too few classes or groups.
    """
    assert size >= 1 and least >= 0
    lengths = np.ones(count, dtype=np.int64) if weights is None else weights
    unit = "samples" if weights is None else "ids of text"
    by = partition.by
    total, needed = int(lengths.sum()), least * (1 if by == "whole" else size)
    if total < needed:
        raise ValueError(
            f"partition.by={by!r} must give every one of {size} workers at least {least} {unit}: got a training set of "
            f"{total}, not {needed} (use fewer workers, or a smaller batch_size)"
        )
    if by == "whole":
        parts = [np.arange(count)] * size
    elif by == "iid":
        parts = _cut(rng.permutation(count), _even(count, size))
    elif by == "power-law":
        parts = _cut(rng.permutation(count), _power_law(count, size, partition.resolved_exponent, rng))
    elif by == "label":
        assert labels is not None and weights is None
        parts = _by_label(labels, size, partition.resolved_classes, rng)
    elif by == "dirichlet":
        assert labels is not None and weights is None
        parts = _dirichlet(labels, size, partition.resolved_alpha, least, rng)
    else:
        assert groups is not None
        parts = _by_group(groups, lengths, size, by, rng)
    held = [total] if by == "whole" else [int(lengths[part].sum()) for part in parts]
    poorest = int(np.argmin(held))
    if held[poorest] < least:
        remedy = "use fewer workers" + (", or a smaller exponent" if by == "power-law" else "")
        raise ValueError(
            f"partition.by={by!r} must give every worker at least {least} {unit}: got {held[poorest]} for rank "
            f"{poorest} of {size}, of {total} in all ({remedy})"
        )
    return parts


def describe_shares(
    parts: Sequence[Indices],
    *,
    labels: Indices | None = None,
    label_names: Sequence[str] = (),
    groups: Indices | None = None,
    group_names: Sequence[str] = (),
    weights: Indices | None = None,
) -> list[Share]:
    """What every worker holds; the arguments are those of `shares`.

    Args:
        label_names: of class 0, 1, ...; their numbers if empty.
        group_names: of group 0, 1, ...
    """
    rows: list[Share] = []
    for rank, part in enumerate(parts):
        if rank > 0 and part is parts[rank - 1]:  # "whole": not counted anew for thousands of workers
            rows.append(replace(rows[-1], rank=rank))
            continue
        names: list[str] = []
        if groups is not None:
            held = np.bincount(groups[part], weights=None if weights is None else weights[part])
            names = [group_names[g] for g in np.argsort(-held, kind="stable").tolist() if held[g] > 0]
        rows.append(
            Share(
                rank=rank,
                items=len(part),
                samples=len(part) if weights is None else int(weights[part].sum()),
                labels={} if labels is None else _label_counts(labels[part], label_names),
                groups=tuple(names[:MOST_GROUPS_NAMED]),
                group_count=len(names),
            )
        )
    return rows


def _label_counts(labels: Indices, names: Sequence[str]) -> dict[str, int]:
    counts = np.bincount(labels)
    return {names[c] if names else str(c): int(counts[c]) for c in np.flatnonzero(counts).tolist()}


def _even(count: int, size: int) -> Indices:
    """Sizes [S] that add up to `count` and differ by at most one, the larger first."""
    return np.full(size, count // size) + (np.arange(size) < count % size)


def _cut(order: Indices, sizes: Indices) -> list[Indices]:
    """Consecutive pieces of these sizes, each sorted."""
    return [np.sort(piece) for piece in np.split(order, np.cumsum(sizes)[:-1])]


def _power_law(count: int, size: int, exponent: float, rng: np.random.Generator) -> Indices:
    """Sizes proportional to (k+1)^-exponent, by largest remainders, in a random order of ranks."""
    ideal = np.arange(1, size + 1, dtype=np.float64) ** -exponent
    ideal *= count / ideal.sum()
    sizes = np.floor(ideal).astype(np.int64)
    sizes[np.argsort(sizes - ideal, kind="stable")[: count - sizes.sum()]] += 1
    return rng.permutation(sizes)


def _by_label(labels: Indices, size: int, classes: int, rng: np.random.Generator) -> list[Indices]:
    known = np.unique(labels)
    if classes > len(known):
        raise ValueError(
            f"partition.classes must be at most {len(known)}, as there are no more classes: got {classes} "
            f"(default {DEFAULT_CLASSES})"
        )
    if size * classes < len(known):
        enough = math.ceil(len(known) / size)
        raise ValueError(
            f"partition.classes must be at least {enough} with {size} workers, so that each of {len(known)} classes is "
            f"held by somebody: got {classes} (set classes = {enough}, or use at least "
            f"{math.ceil(len(known) / classes)} workers)"
        )
    # Every class is held by as many workers as any other, or one more. A worker takes the classes that have most
    # holders left to find: so none is left with a class that it holds already.
    open_places = rng.permutation(_even(size * classes, len(known)))
    holders: list[list[int]] = [[] for _ in known]
    for rank in rng.permutation(size):
        taken = np.lexsort((rng.random(len(known)), -open_places))[:classes]
        open_places[taken] -= 1
        for c in taken:
            holders[c].append(int(rank))
    pieces: list[list[Indices]] = [[] for _ in range(size)]
    for c, ranks in zip(known, holders, strict=True):
        members = rng.permutation(np.flatnonzero(labels == c))
        for rank, piece in zip(ranks, _cut(members, _even(len(members), len(ranks))), strict=True):
            pieces[rank].append(piece)
    return [np.sort(np.concatenate(own)) for own in pieces]


def _dirichlet(labels: Indices, size: int, alpha: float, least: int, rng: np.random.Generator) -> list[Indices]:
    known, counts = np.unique(labels, return_counts=True)
    best = 0
    for _ in range(DRAWS):
        proportions = rng.dirichlet(np.full(size, alpha), size=len(known))
        edges = np.rint(np.cumsum(proportions, axis=1) * counts[:, None]).astype(np.int64)
        sizes = np.diff(edges, axis=1, prepend=0)  # [C, S]
        best = max(best, int(sizes.sum(axis=0).min()))
        if sizes.sum(axis=0).min() >= least:
            break
    else:
        raise ValueError(
            f"partition.alpha must be larger, for every one of {size} workers to get {least} samples of {len(labels)}: "
            f"got {alpha:g}, at best {best} samples in {DRAWS} draws (try alpha = {max(2 * alpha, 0.1):g}, fewer "
            "workers or a smaller batch_size)"
        )
    pieces: list[list[Indices]] = [[] for _ in range(size)]
    for c, own in zip(known, sizes, strict=True):
        for rank, piece in enumerate(_cut(rng.permutation(np.flatnonzero(labels == c)), own)):
            pieces[rank].append(piece)
    return [np.sort(np.concatenate(own)) for own in pieces]


def _by_group(groups: Indices, lengths: Indices, size: int, by: str, rng: np.random.Generator) -> list[Indices]:
    held = np.bincount(groups, weights=lengths).astype(np.int64)
    known = np.flatnonzero(np.bincount(groups))
    if len(known) < size:
        raise ValueError(
            f"partition.by={by!r} deals whole groups: got {size} workers, but the training data has only {len(known)} "
            f"{by}s (use at most {len(known)} workers, or by='iid')"
        )
    order = rng.permutation(known)  # decides between groups of the same size
    order = order[np.argsort(-held[order], kind="stable")]
    totals, owner = np.zeros(size, dtype=np.int64), np.zeros(len(held), dtype=np.int64)
    ranks = rng.permutation(size)  # decides between shares of the same size
    for group in order:
        smallest = int(np.argmin(totals))
        owner[group] = ranks[smallest]
        totals[smallest] += held[group]
    owners = owner[groups]
    return [np.flatnonzero(owners == rank) for rank in range(size)]
