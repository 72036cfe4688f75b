"""`paceline probe DIR noise`: the workers' next mini-batches, seen from where they stood and from their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import torch

from analysis.probes.job import NO_REPLICAS, Job, Ranks, Rows, common
from analysis.probes.loss import mean_loss_and_gradient
from analysis.probes.noise import noise, overall_halves
from analysis.probes.probe_set import ProbeSet
from analysis.probes.subject import Subject
from analysis.probes.tables import NOISE


@dataclass(frozen=True, kw_only=True)
class NoiseJob(Job):
    """Effective learning rate and gradient noise.

    Attributes:
        gradient: "full": the overall gradient is that of the probe set, without augmentation and dropout, and the probe
            set should be all of the training set; "split": two halves of fresh mini-batches, as training sees them.
        halves: mini-batches per worker in each half, for "split".
    """

    name: ClassVar[str] = "noise"
    lacking: ClassVar[str] = NO_REPLICAS

    gradient: Literal["full", "split"] = "full"
    halves: int = 8

    def __post_init__(self) -> None:
        if self.halves < 1:
            raise ValueError(f"halves must be at least 1: got {self.halves} (default 8)")

    def snapshots(self, subject: Subject) -> Sequence[int]:
        """Those with every worker's replica."""
        return subject.complete

    def look(self, subject: Subject, snapshot: int, chosen: ProbeSet, ranks: Ranks) -> Rows:
        """One row."""
        workload, mine = subject.workload, range(ranks.rank, subject.workers, ranks.size)
        replicas = {j: subject.replica(snapshot, j) for j in mine}
        streams = {j: subject.stream(snapshot, j) for j in mine}
        batches = {j: stream.next() for j, stream in streams.items()}
        first = subject.replica(snapshot, 0)
        total = torch.zeros(workload.parameters, dtype=torch.float64)
        apart = torch.zeros(1, dtype=torch.float64)
        for x in replicas.values():
            total += x.cpu().double()
            apart += float(not torch.equal(x, first))
        # Where all stand at one point, that point is the mean, without rounding.
        together = not float(ranks.total(apart))
        mean = (ranks.total(total) / subject.workers).to(first)
        mean = first if together else mean
        if self.gradient == "full":
            _, g = mean_loss_and_gradient(subject.objective, mean, chosen.batches, chosen.samples, ranks.total)
            overall = [g]
        else:
            overall = [*overall_halves(workload, mean, streams, subject.workers, self.halves, ranks.total)]
        step = subject.when(snapshot)[1]
        lr = subject.lr(1 if step != step else int(step) + 1)
        found = noise(workload, replicas, batches, mean, overall, workers=subject.workers, lr=lr, total=ranks.total)
        rate = asdict(found.rate)
        row = {
            **common(self, subject, snapshot, chosen),
            "workers": subject.workers,
            "lr": lr,
            **rate,
            "replica_variance": found.replica_variance,
            "mean_gradient": found.mean_gradient,
            "noise_scale": found.noise_scale,
            "diversity": found.diversity,
        }
        return {NOISE: [row]}
