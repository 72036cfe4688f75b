"""A question about a calibrated cluster: algorithms on one workload, and the simulated runs that may be asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from bench.cluster.file import Cluster
from bench.lanes import only_cell
from bench.predict import as_predicted
from bench.settings import StudyError, nearest
from bench.study import Cell, algorithm_label, find, read, resolve, workload_label

if TYPE_CHECKING:
    from bench.workloads.base import Workload

KEPT = ("bucket_MiB", "timeout_s")
"""Of a study's keys those that a question takes over, beside workload, algorithms and seeds."""

SNAPSHOTS, FEWEST_SNAPSHOTS, MOST_VALUES = 40, 10, 5e7
"""A run's snapshots hold every replica: many of small models, fewer of large ones."""

UNCHANGED: Mapping[str, float] = {}

Propose = Callable[[Mapping[str, Any], int], list[dict[str, Any]]]
"""(the workload's optimiser, workers) -> entries of [[algorithm]]."""


@dataclass
class Question:
    """One workload, several algorithms, a number of workers, on a cluster.

    Attributes:
        raw: the study that asks it, with one workload.
        latency_s, bandwidth_Gbit_per_s: between nodes, instead of the cluster's; None leaves it.
        ranks_per_node: instead of the cluster's.
        optimizer: the workload's own.
        left_out: algorithms that cannot run like this, and why.
    """

    raw: dict[str, Any]
    cluster: Cluster
    workers: int
    bandwidth_Gbit_per_s: float | None
    latency_s: float | None
    optimizer: Mapping[str, Any]
    left_out: list[str]
    ranks_per_node: int | None = None

    @property
    def labels(self) -> list[str]:
        """The algorithms that are compared."""
        return [algorithm_label(entry) for entry in self.raw["algorithm"]]

    @property
    def seeds(self) -> list[int]:
        """The same for all algorithms."""
        return list(self.raw["seeds"])

    @cached_property
    def workload(self) -> Workload:
        """The workload, built."""
        import torch

        return self.cell(self.labels[0]).workload.settings.build(torch.device("cpu"), self.workers)

    def table(
        self, name: str, seed: int | None = None, seconds: float = 1.0, change: Mapping[str, float] = UNCHANGED
    ) -> dict[str, Any]:
        """The study of one run.

        Args:
            name: label of the algorithm.
            seed: None: the first one.
            seconds: budget, virtual.
            change: what differs: `bandwidth_Gbit_per_s` and `latency_s` between nodes; `slow`, the factor by which the
                last worker is slower; `rate`, a factor of the learning rate.
        """
        assert set(change) <= {"bandwidth_Gbit_per_s", "latency_s", "slow", "rate"}
        (entry,) = (e for e in self.raw["algorithm"] if algorithm_label(e) == name)
        (workload,) = self.raw["workload"]
        raw = {
            **self.raw,
            "seeds": [self.seeds[0] if seed is None else seed],
            "algorithm": [self.scaled(entry, change["rate"]) if "rate" in change else entry],
            "workload": [{**workload, "budget": {"seconds": seconds, "snapshots": self.raw["snapshots"]}}],
        }
        raw.pop("snapshots")
        found = as_predicted(
            raw,
            self.cluster,
            workers=[self.workers],
            bandwidth_Gbit_per_s=change.get("bandwidth_Gbit_per_s", self.bandwidth_Gbit_per_s),
            latency_s=change.get("latency_s", self.latency_s),
            ranks_per_node=self.ranks_per_node,
        )
        found["name"] = self.raw["name"]
        if "slow" in change:
            last = str(self.workers - 1)
            compute = found["workload"][0]["compute"]
            slow = compute.get("slow", {})
            own = {**slow, last: change["slow"] * slow.get(last, 1.0)}
            found["workload"][0]["compute"] = {**compute, "slow": own}
        return found

    def scaled(self, entry: Mapping[str, Any], factor: float) -> dict[str, Any]:
        """An algorithm's entry with its learning rate, or the workload's, times a factor."""
        optimizer = entry.get("optimizer") or self.raw["workload"][0].get("optimizer") or self.optimizer
        return {**entry, "optimizer": {**optimizer, "lr": float(f"{optimizer['lr'] * factor:.3g}")}}

    def take(self, name: str, factor: float, trials: int, searched: str) -> None:
        """From now on an algorithm's learning rate is this many times what it was."""
        tuning = {"trials": trials, "searched": searched}
        self.raw["algorithm"] = [
            {**self.scaled(entry, factor), "tuning": tuning} if algorithm_label(entry) == name else entry
            for entry in self.raw["algorithm"]
        ]

    def cell(self, name: str) -> Cell:
        """The run of an algorithm on the question's own network."""
        return only_cell(self.table(name))

    def study(self) -> dict[str, Any]:
        """All runs on the question's own network, whose budgets are found on the way."""
        return {
            **self.table(self.labels[0]),
            "description": "Simulated for paceline advise. Each algorithm's budget was doubled until the target was "
            "reached; it stands with the run.",
            "seeds": self.seeds,
            "algorithm": self.raw["algorithm"],
        }

    def leave_out_what_cannot_run(self) -> None:
        """Keep the algorithms that can run with this many workers on this workload.

        Raises:
            StudyError: none is left.
        """
        kept = []
        for entry in self.raw["algorithm"]:
            try:
                self.cell(algorithm_label(entry))
                kept.append(entry)
            except StudyError as error:
                self.left_out.append(
                    f"{algorithm_label(entry)}: {str(error).split(' workers: ', 1)[-1].removeprefix('run: ')}"
                )
        if not kept:
            raise StudyError(f"no algorithm is left: {'; '.join(self.left_out)}")
        self.raw["algorithm"] = kept


def ask(
    cluster: Cluster,
    workload: str,
    workers: int,
    propose: Propose,
    *,
    seeds: int,
    study: str | None = None,
    only: Sequence[str] = (),
    target: float | None = None,
    bandwidth_Gbit_per_s: float | None = None,
    latency_s: float | None = None,
    ranks_per_node: int | None = None,
) -> Question:
    """A question, after all that could be wrong with it was looked at.

    Args:
        cluster: what `paceline calibrate` wrote.
        workload: label of the workload, in the study and in the cluster file.
        propose: says which algorithms to compare where no study does.
        seeds: how many.
        study: a study file, or the name of one that ships, whose algorithms and settings of the workload are taken.
        only: labels or names of algorithms.
        target: held-out loss; None: that of the study, or the workload's own.
        bandwidth_Gbit_per_s, latency_s: between nodes, instead of the cluster's.
        ranks_per_node: instead of the cluster's.

    Raises:
        StudyError: it cannot be asked; the message is one line.
    """
    raw: dict[str, Any] = {"workload": [{"name": workload}], "algorithm": []} if study is None else _of(study, workload)
    known = list(raw.get("seeds", []))
    raw |= {
        "name": "advise",
        "seeds": known[:seeds] if len(known) >= seeds else list(range(seeds)),
        "workers": [workers],
        "transports": ["simulated"],
    }
    (entry,) = raw["workload"]
    if target is not None:
        entry["target_loss"] = target
    # The workload's own errors come first, and its optimiser is what the proposals are made from.
    settings = resolve({**raw, "algorithm": [{"name": "allreduce-sgd"}]}, where="--workload").workloads[0].settings
    cluster.compute_of(workload_label(entry))
    if study is None:
        raw["algorithm"] = propose(settings.optimizer_table(), workers)
    raw["algorithm"] = _only(raw["algorithm"], only)
    raw["snapshots"] = SNAPSHOTS
    asked = Question(
        raw, cluster, workers, bandwidth_Gbit_per_s, latency_s, settings.optimizer_table(), [], ranks_per_node
    )
    asked.leave_out_what_cannot_run()
    raw["snapshots"] = int(min(max(MOST_VALUES // (asked.workload.parameters * workers), FEWEST_SNAPSHOTS), SNAPSHOTS))
    entry.setdefault("target_loss", float(asked.workload.target_loss))
    if entry["target_loss"] != entry["target_loss"]:
        raise StudyError(f"--target is missing: workload {workload} has no target of its own")
    return asked


def _of(study: str, workload: str) -> dict[str, Any]:
    """What a question takes over from a study."""
    raw = read(find(study)).raw
    labels = [workload_label(entry) for entry in raw["workload"]]
    if workload not in labels:
        raise StudyError(f"--workload: the study has no workload {workload!r}{nearest(workload, labels)}")
    algorithms = [entry for entry in raw["algorithm"] if workload in entry.get("workloads", [workload])]
    return {key: raw[key] for key in KEPT if key in raw} | {
        "seeds": raw.get("seeds", []),
        "workload": [dict(raw["workload"][labels.index(workload)])],
        "algorithm": [{k: v for k, v in e.items() if k not in ("transports", "workloads")} for e in algorithms],
    }


def _only(entries: Sequence[dict[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    known = sorted({algorithm_label(entry) for entry in entries} | {entry["name"] for entry in entries})
    for name in names:
        if name not in known:
            raise StudyError(f"--only: there is no algorithm {name!r}{nearest(name, known)}")
    return [entry for entry in entries if not names or {algorithm_label(entry), entry["name"]} & set(names)]
