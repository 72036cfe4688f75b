"""What `paceline probe` does to one snapshot of one run: the rows of its tables."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import torch

from analysis.probes.noise import mean_gradient, noise, overall_halves
from analysis.probes.probe_set import ProbeSet, Sum
from analysis.probes.subject import Subject
from analysis.probes.tables import NOISE
from bench.records import Table

Rows = Mapping[Table, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True)
class Ranks:
    """The processes that share a probe.

    Attributes:
        rank, size: this one, and how many.
        total: sums over them.
    """

    rank: int
    size: int
    total: Sum


class Job(ABC):
    """A probe with its options: base of the frozen dataclasses below.

    Attributes:
        name: of the probe.
        tables: that it writes.
    """

    name: ClassVar[str]
    tables: ClassVar[tuple[Table, ...]]

    @abstractmethod
    def snapshots(self, subject: Subject) -> Sequence[int]:
        """Those that it can look at."""

    @abstractmethod
    def lacking(self, subject: Subject) -> str:
        """Why there may be none, and the remedy."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """Its own options and seeds, for the records."""

    @abstractmethod
    def look(self, subject: Subject, snapshot: int, chosen: ProbeSet, ranks: Ranks) -> Rows:
        """The new rows; every rank calls this, and rank 0 writes them."""


def common(job: Job, subject: Subject, snapshot: int, chosen: ProbeSet) -> dict[str, Any]:
    """The columns that every row has."""
    t_s, step = subject.when(snapshot)
    return {
        "run_id": subject.run_id,
        "snapshot": snapshot,
        "t_s": t_s,
        "step": step,
        "samples": chosen.samples,
        "of": chosen.of,
        "probe_set": chosen.digest,
        "settings": settings_text(job, chosen),
    }


def settings_text(job: Job, chosen: ProbeSet) -> str:
    """The options of a call as JSON."""
    return json.dumps({"probe": job.name, "seed": chosen.seed, **job.settings()}, sort_keys=True)


NO_REPLICAS = 'it needs every worker\'s replica: add save = "replicas" to the study and run it again'
NO_MODELS = 'no models are kept: leave out save = "none" in the study, or set save = "replicas", and run it again'


@dataclass(frozen=True, kw_only=True)
class NoiseJob(Job):
    """Effective learning rate and gradient noise.

    Attributes:
        gradient: "full": the overall gradient is that of the probe set, without augmentation and dropout, and the probe
            set should be all of the training set; "split": two halves of fresh mini-batches, as training sees them.
        halves: mini-batches per worker in each half, for "split".
    """

    name: ClassVar[str] = "noise"
    tables: ClassVar[tuple[Table, ...]] = (NOISE,)

    gradient: Literal["full", "split"] = "full"
    halves: int = 8

    def __post_init__(self) -> None:
        if self.halves < 1:
            raise ValueError(f"halves must be at least 1: got {self.halves} (default 8)")

    def snapshots(self, subject: Subject) -> Sequence[int]:
        """Those with every worker's replica."""
        return subject.complete

    def lacking(self, subject: Subject) -> str:
        """No replicas."""
        return NO_REPLICAS

    def settings(self) -> Mapping[str, Any]:
        """The attributes."""
        return asdict(self)

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
            overall = [mean_gradient(subject.objective, mean, chosen.batches, chosen.samples, ranks.total)]
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
