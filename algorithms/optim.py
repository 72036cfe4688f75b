"""Optimisers on a flat vector: SGD, momentum, Nesterov and AdamW, equal to `torch.optim` to rounding; LAMB and LARS.

Why not torch.optim itself: it walks a list of parameters and keeps its state keyed by tensor identity. A replica here
is one vector, so a step is a few in-place passes over it (one for plain SGD), and the state is a handful of named
tensors that a checkpoint can hold.

Sources: LAMB, You et al., Large Batch Optimization for Deep Learning (arXiv 1904.00962); LARS, You, Gitman and
Ginsburg, Large Batch Training of Convolutional Networks (arXiv 1708.03888).

Symbols: x = parameters [P], g = gradient [P] (after clipping), m, v = buffers [P], mu = momentum, lam = weight decay,
t = step, counted from 1, lr = rate of step t, |.| = Euclidean norm.

    sgd        x -= lr (g + lam x)
    momentum   m = mu m + g + lam x;  x -= lr m
    nesterov   m = mu m + g + lam x;  x -= lr (g + lam x + mu m)
    adamw      m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;  x -= lr (lam x + m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps))

LAMB and LARS are layer-wise: the x, g, m, r of the lines below are those of one span, that is of one parameter tensor.

    lamb       m, v as adamw;  r = m/(1-b1^t) / (sqrt(v/(1-b2^t)) + eps) + lam x;  x -= lr min(|x|, trust_clip)/|r| r
    lars       a = trust |x| / (|g| + lam |x|);  m = mu m + lr a (g + lam x);  x -= m

Where a norm is zero (|x| or |r| in LAMB, |x| or |g| in LARS) the quotient, or a, is 1, as in the published codes: a
tensor that starts at zero could not move otherwise.

Differences from the papers: every span is scaled and decayed alike, while published codes leave biases and
normalisation layers out. LAMB's paper leaves the bound on |x| open; 10 is what the common codes use. It decays by 0.01;
here the default is 0, as for the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from algorithms.schedule import Schedule

__all__ = ["LAYERWISE", "Optimizer", "OptimizerName", "OptimizerSettings", "Schedule"]

OptimizerName = Literal["sgd", "momentum", "nesterov", "adamw", "lamb", "lars"]

LAYERWISE = frozenset({"lamb", "lars"})
"""Optimisers that need to know the parameter tensors."""

DEFAULT_MOMENTUM = 0.9
DEFAULT_BETAS = (0.9, 0.999)
DEFAULT_EPS = 1e-8
DEFAULT_LAMB_EPS = 1e-6
DEFAULT_TRUST = 1e-3
DEFAULT_TRUST_CLIP = 10.0

# LARS's buffer has the rate in it and momentum's has not; other names, so that a state is not taken for the other's.
BUFFERS: dict[OptimizerName, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("momentum",),
    "nesterov": ("momentum",),
    "adamw": ("first", "second"),
    "lamb": ("first", "second"),
    "lars": ("velocity",),
}

# torch.nn.utils.clip_grad_norm_ adds this to the norm; kept so that the two agree.
CLIP_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class OptimizerSettings:
    """Which optimiser, with which constants.

    Settings left at None take their default where the optimiser uses them; given where they have no effect, they are an
    error.

    Attributes:
        name: "sgd", "momentum", "nesterov", "adamw", "lamb" or "lars".
        lr: base learning rate, >= 0; the schedule multiplies it.
        momentum: for "nesterov" and "lars" in [0, 1); for "momentum" in (-1, 1), where a negative one makes up for the
            momentum that asynchrony brings; default 0.9.
        weight_decay: L2 term added to the gradient; for "adamw" and "lamb" decoupled from it.
        betas: for "adamw" and "lamb": decay of the first and second moment; default (0.9, 0.999).
        eps: for "adamw" and "lamb": added to the root of the second moment; default 1e-8, for "lamb" 1e-6.
        trust: for "lars": the length of a span's step as a fraction of the span's norm, before `lr`; default 0.001.
        trust_clip: for "lamb": bound on a span's norm in its step's length; default 10; inf for no bound.
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
    trust: float | None = None
    trust_clip: float | None = None
    clip_norm: float | None = None
    schedule: Schedule = field(default_factory=Schedule)

    def __post_init__(self) -> None:
        _one_of("optimizer.name", self.name, get_args(OptimizerName))
        for setting, users in (
            ("momentum", ("momentum", "nesterov", "lars")),
            ("betas", ("adamw", "lamb")),
            ("eps", ("adamw", "lamb")),
            ("trust", ("lars",)),
            ("trust_clip", ("lamb",)),
        ):
            if getattr(self, setting) is not None and self.name not in users:
                raise ValueError(
                    f"optimizer.{setting} has no effect: got {getattr(self, setting)!r} with name={self.name!r}; "
                    f"it is for {', '.join(users)} only (leave it out, or set name={users[0]!r})"
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
        if self.name == "momentum":
            _in_range("momentum", mu, -1 < mu < 1, "in (-1, 1)", f"default {DEFAULT_MOMENTUM}")
        else:
            _in_range("momentum", mu, 0 <= mu < 1, "in [0, 1)", f"default {DEFAULT_MOMENTUM}")
        betas = self.resolved_betas
        _in_range(
            "betas",
            betas,
            len(betas) == 2 and all(0 <= beta < 1 for beta in betas),
            "two numbers in [0, 1)",
            f"default {list(DEFAULT_BETAS)}",
        )
        eps, trust, trust_clip = self.resolved_eps, self.resolved_trust, self.resolved_trust_clip
        _in_range("eps", eps, 0 < eps < math.inf, "> 0 and finite", f"default {self._default_eps}")
        _in_range("trust", trust, 0 < trust < math.inf, "> 0 and finite", f"default {DEFAULT_TRUST}")
        _in_range("trust_clip", trust_clip, trust_clip > 0, "> 0", f"default {DEFAULT_TRUST_CLIP}, inf for no bound")
        if self.clip_norm is not None:
            _in_range("clip_norm", self.clip_norm, 0 < self.clip_norm < math.inf, "> 0", "leave it out for no clipping")

    @property
    def resolved_momentum(self) -> float:
        """The momentum in use; meaningful for "momentum", "nesterov" and "lars"."""
        return DEFAULT_MOMENTUM if self.momentum is None else self.momentum

    @property
    def resolved_betas(self) -> tuple[float, float]:
        """The moments' decays in use; meaningful for "adamw" and "lamb"."""
        return DEFAULT_BETAS if self.betas is None else self.betas

    @property
    def resolved_eps(self) -> float:
        """The eps in use; meaningful for "adamw" and "lamb"."""
        return self._default_eps if self.eps is None else self.eps

    @property
    def _default_eps(self) -> float:
        return DEFAULT_LAMB_EPS if self.name == "lamb" else DEFAULT_EPS

    @property
    def resolved_trust(self) -> float:
        """The trust in use; meaningful for "lars"."""
        return DEFAULT_TRUST if self.trust is None else self.trust

    @property
    def resolved_trust_clip(self) -> float:
        """The bound on a span's norm in use; meaningful for "lamb"."""
        return DEFAULT_TRUST_CLIP if self.trust_clip is None else self.trust_clip


class Optimizer:
    """One optimiser and its state for one vector of P parameters.

    Args:
        settings: which optimiser.
        size: P.
        dtype, device: of the vectors it will be given.
        spans: [lo, hi) of each parameter tensor in the vector, in order, covering [0, P): the layers of "lamb" and
            "lars"; the others do not look at them. None means one span.

    Raises:
        ValueError: the spans are not in order, or do not cover [0, P).
    """

    def __init__(
        self,
        settings: OptimizerSettings,
        size: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        spans: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        self.settings = settings
        self.size = size
        self.steps = 0  # updates done
        # x -= lr g, and nothing else: the short way, since a simulation makes millions of such steps.
        plain = OptimizerSettings(name="sgd", lr=settings.lr)
        self._is_plain, self._shape = settings == plain, torch.Size((size,))
        heavy = settings.name in ("momentum", "nesterov") and settings.resolved_momentum != 0
        self._is_fused = heavy and settings.clip_norm is None
        self._lengths = _lengths([(0, size)] if spans is None else spans, size)
        self._buffers = {name: torch.zeros(size, dtype=dtype, device=device) for name in BUFFERS[settings.name]}

    @property
    def lr(self) -> float:
        """The rate of the next step."""
        return self.settings.lr * self.settings.schedule.multiplier(self.steps + 1)

    @property
    def state_nbytes(self) -> int:
        """Size of the buffers [byte]; the step count is left out."""
        return sum(buffer.nbytes for buffer in self._buffers.values())

    def step_(self, x: Tensor, gradient: Tensor) -> None:
        """Update x [P] in place. `gradient` [P] is only read."""
        if self._is_plain and x.shape == gradient.shape == self._shape:
            self.steps += 1
            x.add_(gradient, alpha=-self.settings.lr)
        elif self._is_fused and x.shape == gradient.shape == self._shape and not x.is_meta:
            self._fused_step_(x, gradient)
        else:
            self._add_change_(x, gradient, x)

    def _fused_step_(self, x: Tensor, gradient: Tensor) -> None:
        # One pass over the three vectors where `_add_momentum_` makes up to three: what `torch.optim.SGD(fused=True)`
        # calls. Twice as fast or more where the vectors come from memory.
        lr = self.lr
        self.steps += 1
        torch._fused_sgd_(
            [x], [gradient], [self._buffers["momentum"]],
            lr=lr, momentum=self.settings.resolved_momentum, weight_decay=self.settings.weight_decay,
            dampening=0.0, nesterov=self.settings.name == "nesterov", maximize=False, is_first_step=False,
        )  # fmt: skip

    def update(self, gradient: Tensor, x: Tensor) -> Tensor:
        """The change [P] of this step, to be added to x [P]. Neither argument is modified; the state advances."""
        change = torch.zeros_like(x)
        self._add_change_(change, gradient, x)
        return change

    def lookahead(self, x: Tensor) -> Tensor:
        """The point [P] where momentum alone would carry x [P]: x + mu v, v = -lr m the velocity, lr the next step's.

        With the gradient taken there, `step_` of "momentum" is Nesterov's method in its look-ahead form,
        v = mu v - lr g(x + mu v); x += v. Weight decay is still that of x. Nothing is modified.

        Raises:
            ValueError: the optimiser is not "momentum", or x has another size.
        """
        if self.settings.name != "momentum":
            raise ValueError(
                f"optimizer.name must be 'momentum' for a look-ahead: got {self.settings.name!r} "
                "(set name='momentum'; momentum=0 makes it plain SGD)"
            )
        if x.shape != (self.size,):
            raise ValueError(
                f"vectors must have this optimizer's size: size={self.size}, got x {list(x.shape)} "
                "(build one optimizer per vector)"
            )
        return x.add(self._buffers["momentum"], alpha=-self.lr * self.settings.resolved_momentum)

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
        if self.settings.name == "sgd":
            if self.settings.weight_decay:
                target.add_(x, alpha=-lr * self.settings.weight_decay)
            target.add_(gradient, alpha=-lr * scale)
        elif self.settings.name == "adamw":
            self._add_adamw_(target, gradient, x, lr, scale)
        elif self.settings.name == "lamb":
            self._add_lamb_(target, gradient, x, lr, scale)
        elif self.settings.name == "lars":
            self._add_lars_(target, gradient, x, lr, scale)
        else:
            self._add_momentum_(target, gradient, x, lr, scale)

    def _add_momentum_(self, target: Tensor, gradient: Tensor, x: Tensor, lr: float, scale: float) -> None:
        decay, mu, buffer = self.settings.weight_decay, self.settings.resolved_momentum, self._buffers["momentum"]
        if scale == 1.0:
            torch.add(gradient, buffer, alpha=mu, out=buffer)  # one pass over memory instead of two
        else:
            buffer.mul_(mu).add_(gradient, alpha=scale)
        if decay:
            buffer.add_(x, alpha=decay)
        if self.settings.name == "momentum":
            target.add_(buffer, alpha=-lr)
        else:
            if decay:
                target.add_(x, alpha=-lr * decay)
            target.add_(gradient, alpha=-lr * scale).add_(buffer, alpha=-lr * mu)

    def _add_adamw_(self, target: Tensor, gradient: Tensor, x: Tensor, lr: float, scale: float) -> None:
        first, root, correction = self._moments(gradient, scale)
        if self.settings.weight_decay:
            target.add_(x, alpha=-lr * self.settings.weight_decay)
        target.addcdiv_(first, root, value=-lr / correction)

    def _add_lamb_(self, target: Tensor, gradient: Tensor, x: Tensor, lr: float, scale: float) -> None:
        first, root, correction = self._moments(gradient, scale)
        r = torch.div(first, root, out=root).div_(correction)
        if self.settings.weight_decay:
            r.add_(x, alpha=self.settings.weight_decay)
        x_norms, r_norms = self._norms(x), self._norms(r)
        ratios = _or_one(x_norms, r_norms, x_norms.clamp(max=self.settings.resolved_trust_clip) / r_norms)
        for part, change, ratio in zip(self._parts(target), self._parts(r), ratios, strict=True):
            part.addcmul_(change, ratio, value=-lr)

    def _add_lars_(self, target: Tensor, gradient: Tensor, x: Tensor, lr: float, scale: float) -> None:
        decay, buffer = self.settings.weight_decay, self._buffers["velocity"]
        x_norms, g_norms = self._norms(x), self._norms(gradient) * scale
        local = self.settings.resolved_trust * x_norms / (g_norms + decay * x_norms)
        rates = _or_one(x_norms, g_norms, local)
        buffer.mul_(self.settings.resolved_momentum)
        parts = zip(self._parts(buffer), self._parts(gradient), self._parts(x), rates, strict=True)
        for part, g, w, rate in parts:
            part.addcmul_(g, rate, value=lr * scale)
            if decay:
                part.addcmul_(w, rate, value=lr * decay)
        target.sub_(buffer)

    def _moments(self, gradient: Tensor, scale: float) -> tuple[Tensor, Tensor, float]:
        # Adam's moments, advanced: m [P], sqrt(v/(1-b2^t)) + eps [P], which is the caller's, and 1 - b1^t.
        (beta1, beta2), first, second = self.settings.resolved_betas, self._buffers["first"], self._buffers["second"]
        first.mul_(beta1).add_(gradient, alpha=(1 - beta1) * scale)
        second.mul_(beta2).addcmul_(gradient, gradient, value=(1 - beta2) * scale * scale)
        root = second.sqrt().div_(math.sqrt(1 - beta2**self.steps)).add_(self.settings.resolved_eps)
        return first, root, 1 - beta1**self.steps

    def _parts(self, v: Tensor) -> tuple[Tensor, ...]:
        # Views of v [P], one a span.
        return tuple(v.split_with_sizes(self._lengths))

    def _norms(self, v: Tensor) -> Tensor:
        # Euclidean norms [spans]; they stay on the device, so that a step does not wait for a GPU.
        return torch.stack(torch._foreach_norm(self._parts(v)))

    def _clip_scale(self, gradient: Tensor) -> float:
        if self.settings.clip_norm is None or gradient.is_meta:  # without values nothing is too large
            return 1.0
        # .item() waits for a GPU; the reductions around it do so anyway.
        norm = float(torch.linalg.vector_norm(gradient).item())
        return min(1.0, self.settings.clip_norm / (norm + CLIP_EPS))


def _lengths(spans: Sequence[tuple[int, int]], size: int) -> list[int]:
    ends = [0, *(hi for _, hi in spans)]
    if ends[-1] != size or any(lo != end or hi < lo for (lo, hi), end in zip(spans, ends, strict=False)):
        raise ValueError(
            f"spans must follow each other and cover [0, {size}): got {list(spans)} "
            "(give [lo, hi) of each parameter tensor in order, or None for one span)"
        )
    return [hi - lo for lo, hi in spans] or [0]  # no tensor at all, as in a server's empty part, is one empty span


def _or_one(a: Tensor, b: Tensor, quotient: Tensor) -> Tensor:
    # The quotient [spans], but 1 where either norm, a or b, is zero. NaN is no zero: it stays.
    return torch.where((a == 0) | (b == 0), 1.0, quotient)


def _one_of(what: str, got: str, allowed: tuple[str, ...]) -> None:
    if got not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}: got {got!r} (choose one of these)")


def _in_range(setting: str, got: object, valid: bool, allowed: str, remedy: str) -> None:
    if not valid:
        raise ValueError(f"optimizer.{setting} must be {allowed}: got {got!r} ({remedy})")


def _shapes(shapes: Mapping[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items()))
