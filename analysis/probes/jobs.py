"""What `paceline probe` does to one snapshot of one run: the rows of its tables."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import pandas as pd
import torch
from torch import Tensor

from analysis.probes.curvature import spectrum
from analysis.probes.directions import random_directions
from analysis.probes.eigenvalues import Eigenpairs, smallest_eigenvalues
from analysis.probes.index import LandscapeIndex
from analysis.probes.interpolation import barriers, interpolation, workers_against_mean
from analysis.probes.landscape import landscape_2d
from analysis.probes.loss import ProbedLoss, mean_loss_and_gradient
from analysis.probes.noise import noise, overall_halves
from analysis.probes.probe_set import ProbeSet, Sum
from analysis.probes.products import Curvature
from analysis.probes.sharpness import sharpness
from analysis.probes.smoothing import smoothed_loss
from analysis.probes.subject import Subject
from analysis.probes.tables import DENSITY, LANDSCAPE, NOISE, NUMBERS, WORKERS
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
    """

    name: ClassVar[str]

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


@dataclass(frozen=True, kw_only=True)
class HessianJob(Job):
    """Eigenvalues, trace and spectral density of the Hessian or the Gauss-Newton matrix.

    Attributes:
        kind: which matrix.
        eigenvalues, smallest: how many of the largest and of the smallest.
        probes: random vectors for trace and density.
        steps: Lanczos steps for each.
        tolerance: of an eigenvalue's residual, relative; None for the default of the precision.
        replicas: look at every worker's replica too, where they are kept.
        seed: of the vectors.
    """

    name: ClassVar[str] = "hessian"

    kind: Literal["hessian", "ggn"] = "hessian"
    eigenvalues: int = 5
    smallest: int = 1
    probes: int = 10
    steps: int = 30
    tolerance: float | None = None
    replicas: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("eigenvalues", 1), ("smallest", 0), ("probes", 2), ("steps", 1)):
            if getattr(self, name) < least:
                default = type(self).__dataclass_fields__[name].default
                raise ValueError(f"{name} must be at least {least}: got {getattr(self, name)} (default {default})")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1: got {self.tolerance} (for example 1e-3)")

    def snapshots(self, subject: Subject) -> Sequence[int]:
        """Those whose evaluated model is kept."""
        return subject.evaluated

    def lacking(self, subject: Subject) -> str:
        """No models."""
        return NO_MODELS

    def settings(self) -> Mapping[str, Any]:
        """The attributes."""
        return asdict(self)

    def look(self, subject: Subject, snapshot: int, chosen: ProbeSet, ranks: Ranks) -> Rows:
        """Numbers, and nodes of the density, of each model."""
        models = {"evaluated": subject.model(snapshot)}
        if self.replicas and snapshot in subject.complete:
            models |= {f"replica {j}": subject.replica(snapshot, j) for j in range(subject.workers)}
        base = {**common(self, subject, snapshot, chosen), "kind": self.kind}
        numbers: list[Mapping[str, Any]] = []
        density: list[Mapping[str, Any]] = []
        for name, x in models.items():
            here = {**base, "model": name}
            with Curvature(
                subject.objective, x, chosen.batches, samples=chosen.samples, kind=self.kind, total=ranks.total
            ) as matrix:
                # A matrix of few parameters has no more eigenvalues than that.
                most, fewest = (min(k, matrix.parameters) for k in (self.eigenvalues, self.smallest))
                found = spectrum(
                    matrix, most, probes=self.probes, steps=min(self.steps, matrix.parameters), tol=self.tolerance,
                    seed=self.seed,
                )  # fmt: skip
                below = smallest_eigenvalues(matrix, fewest, tol=self.tolerance, seed=self.seed) if fewest else None
                facts = {"loss": matrix.loss, "gradient_norm": float(matrix.gradient.double().norm())}
                products = matrix.products
            values = [("eigenvalue", *pair, "Lanczos") for pair in _pairs(found.eigenpairs)]
            if below is not None:
                values += [("smallest eigenvalue", *pair, "Lanczos") for pair in _pairs(below)]
            trace = found.trace
            values.append(("trace", 0, trace.estimate, trace.standard_error, trace.method))
            values += [(quantity, 0, value, float("nan"), "exact") for quantity, value in facts.items()]
            numbers += [
                {
                    **here, "quantity": quantity, "number": number, "value": value, "error": error, "method": method,
                    "products": products,
                }
                for quantity, number, value, error, method in values
            ]  # fmt: skip
            density += [
                {**here, "vector": vector, "node": float(node), "weight": float(weight)}
                for vector, (nodes, weights) in enumerate(
                    zip(found.quadrature.nodes, found.quadrature.weights, strict=True)
                )
                for node, weight in zip(nodes, weights, strict=True)
            ]
        return {NUMBERS: numbers, DENSITY: density}


def _pairs(found: Eigenpairs) -> list[tuple[int, float, float]]:
    """Number, value, residual."""
    each = zip(found.values, found.residuals, strict=True)
    return [(k, float(value), float(residual)) for k, (value, residual) in enumerate(each)]


PARTS = ("plane", "line", "workers", "sharpness")
INDEX_USES = 5  # of the landscape index, one after the other: as it would be followed in training


@dataclass(frozen=True, kw_only=True)
class LandscapeJob(Job):
    """The loss around the evaluated model, on the way to it, and between the workers.

    Attributes:
        parts: "plane": along two random filter-normalised directions; "line": from the first snapshot's model to this
            one; "workers": barriers between replicas, and replicas against their mean, where replicas are kept;
            "sharpness": worst and mean loss nearby, plain and adaptive, and the landscape index.
        points: along each direction of the plane, and between two models; odd.
        span: half the plane's side, in lengths of the model's filters.
        epsilon: radius of the ball for sharpness, as a fraction of the model's length.
        seed: of the directions.
    """

    name: ClassVar[str] = "landscape"

    parts: tuple[str, ...] = PARTS
    points: int = 15
    span: float = 1.0
    epsilon: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise ValueError(f"parts must be among {', '.join(PARTS)}: got {part!r} (leave it out for all)")
        if self.points < 3 or self.points % 2 == 0:
            raise ValueError(f"points must be odd and at least 3: got {self.points} (default 15)")
        for name, value in (("span", self.span), ("epsilon", self.epsilon)):
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} must be > 0 and finite: got {value}")

    def snapshots(self, subject: Subject) -> Sequence[int]:
        """Those whose evaluated model is kept."""
        return subject.evaluated

    def lacking(self, subject: Subject) -> str:
        """No models."""
        return NO_MODELS

    def settings(self) -> Mapping[str, Any]:
        """The attributes."""
        return asdict(self)

    def look(self, subject: Subject, snapshot: int, chosen: ProbeSet, ranks: Ranks) -> Rows:
        """Rows of each part."""
        loss = ProbedLoss(subject.objective, chosen, ranks.total)
        base = common(self, subject, snapshot, chosen)
        x = subject.model(snapshot)
        rows: dict[Table, list[Mapping[str, Any]]] = {LANDSCAPE: [], WORKERS: [], NUMBERS: []}
        if "plane" in self.parts:
            axes = random_directions(x, subject.objective.spans, subject.objective.shapes, seed=self.seed)
            plane = landscape_2d(loss, x, axes, span=self.span, points=self.points)
            rows[LANDSCAPE] += [
                {**base, "curve": "plane", "a": "evaluated", "b": "", **place} for place in _dicts(plane)
            ]
        if "line" in self.parts and subject.evaluated[0] < snapshot:
            start = f"snapshot {subject.evaluated[0]}"
            line = interpolation(loss, subject.model(subject.evaluated[0]), x, points=self.points)
            rows[LANDSCAPE] += [
                {**base, "curve": "interpolation", "a": start, "b": "evaluated", "beta": 0.0, **place}
                for place in _dicts(line[["alpha", "loss"]])
            ]
        if "workers" in self.parts and snapshot in subject.complete:
            models = torch.stack([subject.replica(snapshot, j) for j in range(subject.workers)])
            rows[WORKERS] += [{**base, **row} for row in _between_workers(loss, models, self.points)]
        if "sharpness" in self.parts:
            rows[NUMBERS] += [{**base, **row} for row in self._sharpness(loss, x)]
        return {table: found for table, found in rows.items() if found}

    def _sharpness(self, loss: ProbedLoss, x: Tensor) -> list[dict[str, Any]]:
        radius, share = self.epsilon * float(x.double().norm()), f"{self.epsilon:g} |x|"
        plain = sharpness(loss, x, radius=radius, seed=self.seed)
        # |T u| <= |u| max |x|: a ball of sqrt(P) epsilon in the model's own scale moves it as far on the whole.
        adaptive = sharpness(loss, x, radius=self.epsilon * len(x) ** 0.5, adaptive=True, seed=self.seed)
        around = smoothed_loss(loss, x, sigma=radius / len(x) ** 0.5, pairs=8, seed=self.seed)
        index = LandscapeIndex(window=1)
        for _ in range(INDEX_USES):
            index.use(lambda at: loss.value_and_gradient(at)[1].to(at), x)
        nan = float("nan")
        found: list[tuple[str, float, float, str]] = [
            ("loss", plain.loss, nan, "mean over the probe set"),
            ("sharpness", plain.sharpness, nan, f"projected ascent, ball of {share}, a lower bound"),
            (
                "adaptive_sharpness",
                adaptive.sharpness,
                nan,
                f"projected ascent, ball of {self.epsilon:g} sqrt(P) in units of |x_k|, a lower bound",
            ),
            (
                "expected_sharpness",
                around.excess.value,
                around.excess.standard_error,
                f"mean over Gaussian noise of length {share}, 8 antithetic pairs",
            ),
            ("landscape_index", index.median, nan, f"v.Hv by a difference of gradients, use {INDEX_USES}"),
        ]
        return [
            {
                "model": "evaluated", "kind": "loss", "quantity": quantity, "number": 0, "value": value,
                "error": error, "method": method, "products": 0,
            }
            for quantity, value, error, method in found
        ]  # fmt: skip


def _between_workers(loss: ProbedLoss, models: Tensor, points: int) -> list[dict[str, Any]]:
    against = workers_against_mean(loss, models, points=points)
    own = against["loss"].tolist()
    rows = [
        {
            "a": f"replica {row['worker']:.0f}", "b": "mean", "loss_a": row["loss"], "loss_b": row["mean_loss"],
            "distance": row["distance"], "barrier": row["barrier"], "barrier_at": row["alpha"],
        }
        for row in _dicts(against)
    ]  # fmt: skip
    if len(models) < 2:
        return rows
    for row in _dicts(barriers(loss, models, points=points)):
        i, j = int(row["first"]), int(row["second"])
        rows.append(
            {
                "a": f"replica {i}", "b": f"replica {j}", "loss_a": own[i], "loss_b": own[j],
                "distance": row["distance"], "barrier": row["barrier"], "barrier_at": row["alpha"],
            }
        )  # fmt: skip
    return rows


def _dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
