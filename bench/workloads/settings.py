"""What the settings of every workload made of a module have in common: the base class of their settings classes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import torch

from bench.workloads.module import ModuleWorkload
from bench.workloads.partition import Partition, check
from bench.workloads.problem import Problem, Samples
from bench.workloads.shares import TrainingSet

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, kw_only=True)
class ModuleSettings(ABC):
    """Base of the settings of a workload: a study file's `[[workload]]`.

    A subclass adds its own settings, checks them in `__post_init__` (after calling this one's) and states the problem.
    """

    title: ClassVar[str] = ""  # the name it is registered under
    default_optimizer: ClassVar[dict[str, Any]]  # tuned for it, as a study file would give it
    grouping: ClassVar[str] = ""  # what groups of training data may be dealt to workers: "role", "speaker", "article"
    labelled: ClassVar[bool] = False  # whether training data may be dealt by label
    data: ClassVar[tuple[str, ...]] = ()  # data sets that must be in the data folder, by name

    batch_size: int = 32  # samples per worker and step
    dtype: Literal["float32", "float64"] = "float32"  # of parameters, gradients and messages
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"  # of matrix products; the rest is in dtype
    partition: Partition = field(default_factory=Partition)  # which training data each worker sees

    def __post_init__(self) -> None:
        self.at_least(1, "batch_size")
        for name, allowed in (("dtype", ("float32", "float64")), ("precision", PRECISIONS)):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}: got {getattr(self, name)!r} (default 'float32')"
                )
        if self.dtype == "float64" and self.precision != "float32":
            raise ValueError(
                f"precision must be left at float32 with dtype='float64': got {self.precision!r} (choose one of both)"
            )
        check(self.partition, grouping=self.grouping, labelled=self.labelled)

    def at_least(self, least: int, *names: str) -> None:
        """Refuse settings below `least`; those that may be left out may be None.

        Raises:
            ValueError: one is.
        """
        for name in names:
            got = getattr(self, name)
            if got is not None and got < least:
                default = type(self).__dataclass_fields__[name].default
                remedy = "leave it out" if default is None else f"default {default}"
                raise ValueError(f"{name} must be at least {least}: got {got} ({remedy})")

    @property
    def name(self) -> str:
        """For tables: the registered name, with what changes the model."""
        return self.title

    def optimizer_table(self) -> dict[str, Any]:
        """The workload's own tuned optimiser for these settings, as a study file would give it."""
        return dict(self.default_optimizer)

    @abstractmethod
    def problem(self) -> Problem:
        """Module, data and loss; reads the data."""

    def build(self, device: torch.device, workers: int) -> ModuleWorkload:
        """The workload; `workers` plays no part until batches are asked for."""
        problem, dtype = self.problem(), DTYPES[self.dtype]
        if isinstance(problem.train, Samples):
            assert self.labelled == (problem.train.labels is not None), "labelled says whether samples have labels"
            if problem.train.inputs.is_floating_point():  # whole numbers stay as they are, and compact
                problem = replace(problem, train=replace(problem.train, inputs=problem.train.inputs.to(dtype)))
        return ModuleWorkload(
            problem,
            name=self.name,
            training=TrainingSet(
                problem.train,
                self.partition,
                grouping=self.grouping,
                batch_size=self.batch_size,
                augment=problem.augment,
                noise=problem.noise,
            ),
            batch_size=self.batch_size,
            optimizer=self.optimizer_table(),
            device=device,
            dtype=dtype,
            precision=self.precision,
        )

    def double(self) -> ModuleSettings:
        """The same in double precision, for finite differences."""
        return replace(self, dtype="float64", precision="float32")


PRECISIONS = ("float32", "tf32", "bfloat16", "float16")
