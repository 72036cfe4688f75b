"""Optimisers on a flat vector: SGD, momentum, Nesterov and AdamW, equal to `torch.optim` to rounding.

Why not torch.optim itself: it walks a list of parameters and keeps its state keyed by tensor identity. A replica here
is one vector, so a step is a few in-place passes over it (one for plain SGD), and the state is a handful of named
tensors that a checkpoint can hold.

Symbols: x = parameters [P], g = gradient [P] (after clipping), m = buffer [P], mu = momentum, lam = weight decay,
t = step, counted from 1, lr = rate of step t.

    sgd        x -= lr (g + lam x)
    momentum   m = mu m + g + lam x;  x -= lr m
    nesterov   m = mu m + g + lam x;  x -= lr (g + lam x + mu m)
    adamw      m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  x -= lr (lam x + m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps))
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

ScheduleName = Literal["constant", "step", "cosine", "inverse-sqrt"]
OptimizerName = Literal["sgd", "momentum", "nesterov", "adamw"]

DEFAULT_FACTOR = 0.1
DEFAULT_FINAL_FRACTION = 0.0
DEFAULT_MOMENTUM = 0.9
DEFAULT_BETAS = (0.9, 0.999)
DEFAULT_EPS = 1e-8

# torch.nn.utils.clip_grad_norm_ adds this to the norm; kept so that the two agree.
CLIP_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate's multiplier as a function of the step.

    Settings left at None take their default where the schedule uses them; given where they have no effect, they are an
    error.

    Attributes:
        name: "constant"; "step" (times `factor` once each milestone's number of steps is done); "cosine" (half a cosine
            from 1 to `final_fraction` over the steps after the warm-up, then constant); "inverse-sqrt"
            (sqrt(max(warmup_steps, 1) / t)).
        warmup_steps: the multiplier rises linearly 1/warmup_steps, 2/warmup_steps, ... 1 over the first steps.
        milestones: numbers of finished steps, increasing; for "step".
        factor: for "step"; default 0.1.
        total_steps: the step count at which "cosine" ends, warm-up included.
        final_fraction: the multiplier at the end of "cosine"; default 0.

    Raises:
        ValueError: a setting is out of range, missing, or has no effect for this name.
    """

    name: ScheduleName = "constant"
    warmup_steps: int = 0
    milestones: tuple[int, ...] = ()
    factor: float | None = None
    total_steps: int | None = None
    final_fraction: float | None = None

    def __post_init__(self) -> None:
        _one_of("schedule.name", self.name, get_args(ScheduleName))
        if self.warmup_steps < 0:
            raise ValueError(f"schedule.warmup_steps must be >= 0: got {self.warmup_steps} (use 0 for no warm-up)")
        for setting, given, user in (
            ("milestones", bool(self.milestones), "step"),
            ("factor", self.factor is not None, "step"),
            ("total_steps", self.total_steps is not None, "cosine"),
            ("final_fraction", self.final_fraction is not None, "cosine"),
        ):
            if given and self.name != user:
                raise ValueError(
                    f"schedule.{setting} has no effect: got {getattr(self, setting)!r} with name={self.name!r}; "
                    f"only {user!r} uses it (leave it out, or set name={user!r})"
                )
        if self.name == "step":
            self._check_step()
        if self.name == "cosine":
            self._check_cosine()

    def _check_step(self) -> None:
        increasing = all(a < b for a, b in itertools.pairwise(self.milestones))
        if not self.milestones or self.milestones[0] < 1 or not increasing:
            raise ValueError(
                f"schedule.milestones must be increasing step counts >= 1: got {list(self.milestones)} "
                "(for example [1000, 2000])"
            )
        if self.factor is not None and not 0 < self.factor < math.inf:
            raise ValueError(f"schedule.factor must be > 0 and finite: got {self.factor} (default {DEFAULT_FACTOR})")

    def _check_cosine(self) -> None:
        if self.total_steps is None or self.total_steps <= self.warmup_steps:
            raise ValueError(
                f"schedule.total_steps must be above warmup_steps for 'cosine': got total_steps={self.total_steps}, "
                f"warmup_steps={self.warmup_steps} (set it to the number of steps of the run)"
            )
        if self.final_fraction is not None and not 0 <= self.final_fraction <= 1:
            raise ValueError(
                f"schedule.final_fraction must be in [0, 1]: got {self.final_fraction} "
                f"(default {DEFAULT_FINAL_FRACTION})"
            )

    def multiplier(self, t: int) -> float:
        """The factor on the base rate for step t, counted from 1."""
        rise = t / self.warmup_steps if t < self.warmup_steps else 1.0
        if self.name == "constant":
            return rise
        if self.name == "step":
            factor = DEFAULT_FACTOR if self.factor is None else self.factor
            return float(rise * factor ** sum(t - 1 >= milestone for milestone in self.milestones))
        if self.name == "inverse-sqrt":
            start = max(self.warmup_steps, 1)
            return rise if t <= start else math.sqrt(start / t)
        assert self.total_steps is not None  # __post_init__ refuses a cosine without it
        final = DEFAULT_FINAL_FRACTION if self.final_fraction is None else self.final_fraction
        progress = (t - 1 - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        return rise * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0))))


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Which optimiser, with which constants.

    Settings left at None take their default where the optimiser uses them; given where they have no effect, they are an
    error.

    Attributes:
        name: "sgd", "momentum", "nesterov" or "adamw".
        lr: base learning rate, >= 0; the schedule multiplies it.
        momentum: for "momentum" and "nesterov", in [0, 1); default 0.9.
        weight_decay: L2 term added to the gradient; for "adamw" decoupled from it.
        betas: for "adamw": decay of the first and second moment; default (0.9, 0.999).
        eps: for "adamw": added to the root of the second moment; default 1e-8.
        clip_norm: the gradient is scaled down to this Euclidean norm if it is longer; None never clips.
        schedule: the rate over the steps.

    Raises:
        ValueError: a setting is out of range or has no effect for this name.
    """

    name: OptimizerName = "sgd"
    lr: float
    momentum: float | None = None
    weight_decay: float = 0.0
    betas: tuple[float, float] | None = None
    eps: float | None = None
    clip_norm: float | None = None
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        _one_of("optimizer.name", self.name, get_args(OptimizerName))
        for setting, users in (
            ("momentum", ("momentum", "nesterov")),
            ("betas", ("adamw",)),
            ("eps", ("adamw",)),
        ):
            if getattr(self, setting) is not None and self.name not in users:
                raise ValueError(
                    f"optimizer.{setting} has no effect: got {getattr(self, setting)!r} with name={self.name!r}; "
                    f"only {' and '.join(users)} use it (leave it out, or set name={users[0]!r})"
                )
        _in_range("lr", self.lr, 0 <= self.lr < math.inf, ">= 0 and finite", "for example 0.1")
        _in_range(
            "weight_decay",
            self.weight_decay,
            0 <= self.weight_decay < math.inf,
            ">= 0 and finite",
            "use 0 for no decay",
        )
        mu = self.resolved_momentum
        _in_range("momentum", mu, 0 <= mu < 1, "in [0, 1)", f"default {DEFAULT_MOMENTUM}")
        betas = self.resolved_betas
        _in_range(
            "betas",
            betas,
            len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            "two numbers in [0, 1)",
            f"default {list(DEFAULT_BETAS)}",
        )
        _in_range("eps", self.resolved_eps, 0 < self.resolved_eps < math.inf, "> 0", f"default {DEFAULT_EPS}")
        if self.clip_norm is not None:
            _in_range("clip_norm", self.clip_norm, 0 < self.clip_norm < math.inf, "> 0", "leave it out for no clipping")

    @property
    def resolved_momentum(self) -> float:
        """The momentum in use; meaningful for "momentum" and "nesterov"."""
        return DEFAULT_MOMENTUM if self.momentum is None else self.momentum

    @property
    def resolved_betas(self) -> tuple[float, float]:
        """The moments' decays in use; meaningful for "adamw"."""
        return DEFAULT_BETAS if self.betas is None else self.betas

    @property
    def resolved_eps(self) -> float:
        """The eps in use; meaningful for "adamw"."""
        return DEFAULT_EPS if self.eps is None else self.eps


class Optimizer:
    """One optimiser and its state for one vector of P parameters.

    Args:
        settings: which optimiser.
        size: P.
        dtype, device: of the vectors it will be given.
    """

    def __init__(
        self, settings: OptimizerSettings, size: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.settings = settings
        self.size = size
        self.steps = 0  # updates done
        names = {"sgd": (), "momentum": ("momentum",), "nesterov": ("momentum",), "adamw": ("first", "second")}
        self._buffers = {name: torch.zeros(size, dtype=dtype, device=device) for name in names[settings.name]}

    @property
    def lr(self) -> float:
        """The rate of the next step."""
        return self.settings.lr * self.settings.schedule.multiplier(self.steps + 1)

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        """Update x [P] in place. `gradient` [P] is only read."""
        self._add_change_(x, gradient, x)

    def update(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The change [P] of this step, to be added to x [P]. Neither argument is modified; the state advances."""
        change = torch.zeros_like(x)
        self._add_change_(change, gradient, x)
        return change

    def state(self) -> dict[str, Tensor]:
        """Copies of everything that must survive a restart: the step count (int64, 0-d) and the buffers [P]."""
        return {"steps": torch.tensor(self.steps), **{name: b.clone() for name, b in self._buffers.items()}}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over a `state()` of an optimiser of the same kind and size.

        Raises:
            ValueError: the names or shapes are another optimiser's.
        """
        want = {"steps": torch.Size(()), **{name: b.shape for name, b in self._buffers.items()}}
        got = {name: tensor.shape for name, tensor in state.items()}
        if got != want:
            raise ValueError(
                f"optimizer state does not fit {self.settings.name!r} with {self.size} parameters: "
                f"got {_shapes(got)}, expected {_shapes(want)} (resume with the settings the run was started with)"
            )
        self.steps = int(state["steps"])
        for name, buffer in self._buffers.items():
            buffer.copy_(state[name])

    def _add_change_(self, target: Tensor, gradient: Tensor, x: Tensor) -> None:
        # target is x itself (step_) or zeros (update). As they may be one vector, x is read before target is written.
        if gradient.shape != x.shape or x.numel() != self.size:
            raise ValueError(
                f"vectors must have this optimizer's size: size={self.size}, got x {list(x.shape)}, "
                f"gradient {list(gradient.shape)} (build one optimizer per vector)"
            )
        lr, scale = self.lr, self._clip_scale(gradient)
        self.steps += 1
        settings = self.settings
        decay = settings.weight_decay
        if settings.name == "adamw":
            self._add_adamw_(target, gradient, x, lr, scale)
        elif settings.name == "sgd":
            if decay:
                target.add_(x, alpha=-lr * decay)
            target.add_(gradient, alpha=-lr * scale)
        else:
            mu, buffer = settings.resolved_momentum, self._buffers["momentum"]
            buffer.mul_(mu).add_(gradient, alpha=scale)
            if decay:
                buffer.add_(x, alpha=decay)
            if settings.name == "momentum":
                target.add_(buffer, alpha=-lr)
            else:
                if decay:
                    target.add_(x, alpha=-lr * decay)
                target.add_(gradient, alpha=-lr * scale).add_(buffer, alpha=-lr * mu)

    def _add_adamw_(self, target: Tensor, gradient: Tensor, x: Tensor, lr: float, scale: float) -> None:
        settings = self.settings
        (beta1, beta2), first, second = settings.resolved_betas, self._buffers["first"], self._buffers["second"]
        if settings.weight_decay:
            target.add_(x, alpha=-lr * settings.weight_decay)
        first.mul_(beta1).add_(gradient, alpha=(1 - beta1) * scale)
        second.mul_(beta2).addcmul_(gradient, gradient, value=(1 - beta2) * scale * scale)
        root = second.sqrt().div_(math.sqrt(1 - beta2**self.steps)).add_(settings.resolved_eps)
        target.addcdiv_(first, root, value=-lr / (1 - beta1**self.steps))

    def _clip_scale(self, gradient: Tensor) -> float:
        if self.settings.clip_norm is None:
            return 1.0
        # .item() waits for a GPU; the reductions around it do so anyway.
        norm = float(torch.linalg.vector_norm(gradient).item())
        return min(1.0, self.settings.clip_norm / (norm + CLIP_EPS))


def _one_of(what: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}: got {got!r} (choose one of these)")


def _in_range(setting: str, got: object, valid: bool, allowed: str, remedy: str) -> None:
    if not valid:
        raise ValueError(f"optimizer.{setting} must be {allowed}: got {got!r} ({remedy})")


def _shapes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
