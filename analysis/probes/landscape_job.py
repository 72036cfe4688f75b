"""`paceline probe DIR landscape`: the loss around every kept model, on the way to it, and between the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from analysis.probes.directions import coordinates, principal_directions, random_directions
from analysis.probes.index import LandscapeIndex
from analysis.probes.interpolation import barriers, interpolation, workers_against_mean
from analysis.probes.job import Job, Ranks, Rows, common, dicts
from analysis.probes.landscape import landscape_1d, landscape_2d
from analysis.probes.loss import ProbedLoss
from analysis.probes.probe_set import ProbeSet
from analysis.probes.sharpness import sharpness
from analysis.probes.smoothing import smoothed_loss
from analysis.probes.subject import Subject
from analysis.probes.tables import LANDSCAPE, NUMBERS, WORKERS
from bench.records import Table

PARTS = ("plane", "line", "workers", "sharpness", "positions")
ROOM = 2.0  # half the side of the plane through the workers, in distances of the farthest one from their mean
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
                {**base, "curve": "plane", "a": "evaluated", "b": "", **place} for place in dicts(plane)
            ]
        if "line" in self.parts and subject.evaluated[0] < snapshot:
            start = f"snapshot {subject.evaluated[0]}"
            line = interpolation(loss, subject.model(subject.evaluated[0]), x, points=self.points)
            rows[LANDSCAPE] += [
                {**base, "curve": "interpolation", "a": start, "b": "evaluated", "beta": 0.0, **place}
                for place in dicts(line[["alpha", "loss"]])
            ]
        if "workers" in self.parts and snapshot in subject.complete:
            models = torch.stack([subject.replica(snapshot, j) for j in range(subject.workers)])
            rows[WORKERS] += [{**base, **row} for row in _between_workers(loss, models, self.points)]
        if "positions" in self.parts and snapshot in subject.complete:
            models = torch.stack([subject.replica(snapshot, j) for j in range(subject.workers)])
            rows[LANDSCAPE] += [{**base, "b": "", **row} for row in _positions(loss, models, x, self.points)]
        if "sharpness" in self.parts:
            rows[NUMBERS] += [{**base, **row} for row in self._sharpness(loss, x)]
        return {table: found for table, found in rows.items() if found}

    def _sharpness(self, loss: ProbedLoss, x: Tensor) -> list[dict[str, Any]]:
        radius, share = self.epsilon * float(x.double().norm()), f"{self.epsilon:g} |x|"
        plain = sharpness(loss, x, radius=radius, seed=self.seed)
        # |T u| <= |u| max |x|: a ball of sqrt(P) epsilon in the model's own scale moves it as far on the whole.
        adaptive = sharpness(loss, x, radius=self.epsilon * len(x) ** 0.5, adaptive=True, seed=self.seed)
        around = smoothed_loss(loss, x, sigma=radius / len(x) ** 0.5, pairs=8, seed=self.seed)
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
        ]
        # With batch norm, gradients at two points have statistics of their own, and their difference is no product.
        if not loss.has_statistics:
            index = LandscapeIndex(window=1)
            for _ in range(INDEX_USES):
                index.use(lambda at: loss.value_and_gradient(at)[1].to(at), x)
            method = f"|Hv| by a difference of gradients, use {INDEX_USES} from the gradient on"
            found.append(("landscape_index", index.median, nan, method))
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
        for row in dicts(against)
    ]  # fmt: skip
    if len(models) < 2:
        return rows
    for row in dicts(barriers(loss, models, points=points)):
        i, j = int(row["first"]), int(row["second"])
        rows.append(
            {
                "a": f"replica {i}", "b": f"replica {j}", "loss_a": own[i], "loss_b": own[j],
                "distance": row["distance"], "barrier": row["barrier"], "barrier_at": row["alpha"],
            }
        )  # fmt: skip
    return rows


def _positions(loss: ProbedLoss, models: Tensor, evaluated: Tensor, points: int) -> list[dict[str, Any]]:
    """The plane around the workers' mean, and the nearest points on it of the workers and the evaluated model.

    alpha and beta are Euclidean lengths. Two workers have a line only. Equal workers have neither.
    """
    if bool((models == models[0]).all()):
        return []
    mean = models.double().mean(0).to(models.dtype)
    try:
        axes = principal_directions(models, mean)
    except ValueError:  # they lie on one line
        axes = principal_directions(models, mean, count=1)
    everybody = torch.cat([models, evaluated[None]])
    places = coordinates(everybody, mean, axes).reindex(columns=["alpha", "beta"], fill_value=0.0)
    span = ROOM * float(coordinates(models, mean, axes)["alpha"].abs().max())
    look = landscape_2d if len(axes.vectors) == 2 else landscape_1d
    around = look(loss, mean, axes, span=span, points=points).reindex(columns=["alpha", "beta", "loss"], fill_value=0.0)
    names = [*(f"replica {j}" for j in range(len(models))), "evaluated"]
    return [
        *({"curve": "workers", "a": "mean", **row} for row in dicts(around)),
        *(
            {"curve": "position", "a": name, "loss": float(own), **row}
            for name, own, row in zip(names, loss.values(everybody), dicts(places), strict=True)
        ),
    ]
