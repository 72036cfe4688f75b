"""A probe as `paceline probe` runs it: its options, and what it does to one snapshot of one run.

The probes themselves are functions in files of their own; jobs turn what they find into rows of the tables.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import pandas as pd

from analysis.probes.probe_set import ProbeSet, Sum
from analysis.probes.subject import Subject
from bench.records import Table

Rows = Mapping[Table, Sequence[Mapping[str, Any]]]

NO_REPLICAS = 'it needs every worker\'s replica: add save = "replicas" to the study and run it again'
NO_MODELS = 'no models are kept: leave out save = "none" in the study, or set save = "replicas", and run it again'


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


@dataclass(frozen=True, kw_only=True)
class Job(ABC):
    """A probe with its options: base of the frozen dataclasses below.

    Attributes:
        name: of the probe. Its options and seeds, for the records, are the fields.
    """

    name: ClassVar[str]
    lacking: ClassVar[str] = NO_MODELS  # why a run may have no snapshot to look at, and the remedy

    def snapshots(self, subject: Subject) -> Sequence[int]:
        """Those that it can look at: with their evaluated model."""
        return subject.evaluated

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
        "settings": settings_text(job, subject, chosen),
    }


def settings_text(job: Job, subject: Subject, chosen: ProbeSet) -> str:
    """The options of a call, and all else that changes what it finds, as JSON."""
    how = {"probe": job.name, "dtype": str(subject.objective.dtype).removeprefix("torch."), "samples_seed": chosen.seed}
    return json.dumps({**how, **asdict(job)}, sort_keys=True)


def dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
