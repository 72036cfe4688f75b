"""`paceline probe DIR hessian`: curvature of every kept model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from analysis.probes.curvature import spectrum
from analysis.probes.eigenvalues import Eigenpairs
from analysis.probes.job import Job, Ranks, Rows, common
from analysis.probes.probe_set import ProbeSet
from analysis.probes.products import Curvature
from analysis.probes.subject import Subject
from analysis.probes.tables import DENSITY, NUMBERS


@dataclass(frozen=True, kw_only=True)
class HessianJob(Job):
    """Eigenvalues, trace and spectral density of the Hessian or the Gauss-Newton matrix.

    Attributes:
        kind: which matrix.
        eigenvalues, smallest: how many of the largest and of the smallest; None: one of a Hessian, none of a GGN, whose
            smallest are zero, and take for ever to tell from it.
        probes: random vectors for trace and density.
        steps: Lanczos steps for each.
        tolerance: of an eigenvalue's residual, relative; None for the default of the precision.
        replicas: look at every worker's replica too, where they are kept.
        seed: of the vectors.
    """

    name: ClassVar[str] = "hessian"

    kind: Literal["hessian", "ggn"] = "hessian"
    eigenvalues: int = 5
    smallest: int | None = None
    probes: int = 10
    steps: int = 30
    tolerance: float | None = None
    replicas: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("eigenvalues", 1), ("smallest", 0), ("probes", 3), ("steps", 1)):
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}: got {value} (default {default or 'by the kind'})")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1: got {self.tolerance} (for example 1e-3)")

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
                smallest = int(self.kind == "hessian") if self.smallest is None else self.smallest
                most, fewest = (min(k, matrix.parameters) for k in (self.eigenvalues, smallest))
                found = spectrum(
                    matrix, most, smallest=fewest, probes=self.probes, steps=min(self.steps, matrix.parameters),
                    tol=self.tolerance, seed=self.seed,
                )  # fmt: skip
                facts = {"loss": matrix.loss, "gradient_norm": float(matrix.gradient.double().norm())}
                products = matrix.products
            values = _numbers("eigenvalue", found.eigenpairs)
            if found.smallest is not None:
                values += _numbers("smallest eigenvalue", found.smallest)
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


def _numbers(quantity: str, found: Eigenpairs) -> list[tuple[str, int, float, float, str]]:
    """Quantity, number, value, residual, method."""
    method = "Lanczos" if found.converged else "Lanczos, not converged"
    each = enumerate(zip(found.values, found.residuals, strict=True))
    return [(quantity, k, float(value), float(residual), method) for k, (value, residual) in each]
