"""A training set dealt to workers and drawn from in mini-batches: where problem, partition and streams meet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.workloads.base import Batches, seed_sequence
from bench.workloads.partition import Indices, Partition, Share, describe_shares, shares
from bench.workloads.problem import Augment, Noise, Samples, Text
from bench.workloads.roles import chunks
from bench.workloads.streams import SampleBatches, WindowBatches, joined


class TrainingSet:
    """The training set of a problem, for any number of workers.

    Args:
        data: the whole of it.
        partition: how it is dealt.
        grouping: what its groups are called, if it has any.
        batch_size: samples of a mini-batch.
        augment, noise: see `bench.workloads.problem`.

    Attributes:
        policy: how it is dealt, in words.
    """

    def __init__(
        self,
        data: Samples | Text,
        partition: Partition,
        *,
        grouping: str,
        batch_size: int,
        augment: Augment | None,
        noise: Noise | None,
    ) -> None:
        self._data, self._partition, self._batch_size = data, partition, batch_size
        self._augment, self._noise = augment, noise
        self._by_group = partition.by == grouping
        whole = partition.by == "whole"
        self.policy = f"{partition}" + (": every worker passes over all of it in its own order" if whole else "")
        self._dealt: dict[tuple[int, int], list[Indices]] = {}

    def describe(self, seed: int, size: int) -> Sequence[Share]:
        """What each of `size` workers has."""
        data = self._data
        if isinstance(data, Samples):
            groups = data.groups if self._by_group else None
            return describe_shares(
                self._deal(seed, size), labels=data.labels, groups=groups, group_names=data.group_names
            )
        segments = self._segments(size)
        return describe_shares(
            self._deal(seed, size),
            weights=segments[:, 1] - segments[:, 0],
            groups=data.groups if self._by_group else None,
            group_names=data.group_names,
        )

    def stream(self, seed: int, rank: int, size: int) -> Batches:
        """The mini-batches of worker `rank` of `size`."""
        data, batch_size = self._data, self._batch_size
        whole = self._partition.by == "whole"
        mine = self._deal(seed, size)[rank]
        if isinstance(data, Samples):
            return SampleBatches(
                data.inputs, data.targets, batch_size, seed=seed, rank=rank,
                share=None if whole else mine, augment=self._augment, noise=self._noise,
            )  # fmt: skip
        text = data.ids if whole else joined(data.ids, self._segments(size), mine)
        return WindowBatches(text, data.context, batch_size, seed=seed, rank=rank, noise=self._noise)

    def _segments(self, size: int) -> Indices:
        """Start and end [S, 2] of the pieces of the text that are dealt to workers."""
        assert isinstance(self._data, Text)
        if self._by_group:
            assert self._data.segments is not None, "a text that is dealt by groups must have segments"
            return self._data.segments
        return chunks(len(self._data.ids), size, least=self._data.context + 1)

    def _deal(self, seed: int, size: int) -> list[Indices]:
        key = seed, size
        if key not in self._dealt:
            data, rng = self._data, np.random.default_rng(seed_sequence(seed, -1, "partition"))
            partition = self._partition
            if isinstance(data, Samples):
                # Enough for a mini-batch without repetitions; a batch larger than the whole set is the user's affair.
                least = 1 if partition.by == "whole" else self._batch_size
                self._dealt[key] = shares(
                    partition, size, rng, count=len(data.targets), labels=data.labels, groups=data.groups, least=least
                )
            else:
                segments = self._segments(size)
                lengths, groups = segments[:, 1] - segments[:, 0], data.groups if self._by_group else None
                self._dealt[key] = shares(
                    partition, size, rng,
                    count=len(segments), groups=groups, weights=lengths, least=data.context + 1,
                )  # fmt: skip
        return self._dealt[key]
