"""A workload made of a torch module whose parameters are views of a flat vector.

Axes: P parameters, B batch, C classes, n replicas.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.workloads.base import Batches, Heldout, LayerSpan, OnReady, digest, torch_generator
from bench.workloads.norm import BATCH_NORM_POLICY, CALIBRATION_CHUNK, BatchNorm, calibrated
from bench.workloads.objective import ModuleObjective
from bench.workloads.partition import Share
from bench.workloads.precision import Precision
from bench.workloads.prefetch import Prefetched
from bench.workloads.problem import Problem, count_flops
from bench.workloads.shares import TrainingSet
from bench.workloads.vectorised import SMALL, Vectorised, evaluation_nbytes, largest_part


def layers_of(names: Sequence[str], shapes: Sequence[Sequence[int]]) -> list[LayerSpan]:
    """Parameter tensors by layer of the model: "blocks.3.norm.weight" belongs to the block "blocks.3", "head.weight" to
    "head"; a layer that follows another of the same name is joined to it.

    Example:
        >>> [layer.name for layer in layers_of(["table", "blocks.0.w", "blocks.0.b", "blocks.1.w", "head.weight"],
        ...                                    [(2, 2), (1, 2), (1,), (2, 1), (4,)])]
        ['table', 'blocks.0', 'blocks.1', 'head']
    """
    layers: list[LayerSpan] = []
    lo = 0
    for name, shape in zip(names, shapes, strict=True):
        hi = lo + math.prod(shape)
        parts = name.split(".")
        numbered = next((k for k, part in enumerate(parts) if part.isdigit()), None)
        layer = parts[0] if numbered is None else ".".join(parts[: numbered + 1])
        if layers and layers[-1].name == layer:
            layers[-1] = layers[-1]._replace(hi=hi, shapes=(*layers[-1].shapes, tuple(shape)))
        else:
            layers.append(LayerSpan(layer, lo, hi, numbered is not None, (tuple(shape),)))
        lo = hi
    return layers


class ModuleWorkload:
    """A problem on a flat vector, as a `bench.workloads.base.Workload`.

    The module's parameters are views of the vector x of the latest call and their gradients are views of its `out`, so
    nothing is flattened or copied. One module serves any number of vectors, one call at a time.

    Args:
        problem: model, data and loss.
        name: with its size, for tables.
        training: the training set, dealt and drawn from.
        batch_size, optimizer: see `Workload`.
        device: of x, out, the module and the batches that it gets; the training set stays in host memory.
        dtype: of x, out and the module.
        precision: of computing, see `bench.workloads.precision`.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        name: str,
        training: TrainingSet,
        batch_size: int,
        optimizer: dict[str, Any],
        device: torch.device,
        dtype: torch.dtype,
        precision: str,
    ) -> None:
        module = problem.module
        # Running statistics would be state outside x: different for each replica, and averaged by no algorithm.
        assert next(module.buffers(), None) is None, "a workload's module must have no buffers"
        has_batch_norm = any(isinstance(layer, BatchNorm) for layer in module.modules())
        assert has_batch_norm == (problem.calibration is not None), "batch norm needs inputs to calibrate it"
        self.name, self.device, self.dtype = name, device, dtype
        self.batch_size, self.optimizer = batch_size, optimizer
        self.target_loss, self.metric = problem.target_loss, problem.metric
        self._module = module.to(device=device, dtype=self.dtype).train()
        self._problem, self._precision, self._training = problem, Precision(precision, device), training
        self._heldout = tuple(self._fit(part).to(device) for part in problem.heldout)

        self._names = [name for name, _ in module.named_parameters()]
        self._parameters = list(module.parameters())  # a tied parameter is listed once
        self._sizes = [p.numel() for p in self._parameters]
        self._shapes = [p.shape for p in self._parameters]
        self.parameters = sum(self._sizes)
        ends = torch.tensor(self._sizes).cumsum(0).tolist()
        self.spans: Sequence[tuple[int, int]] = [(e - n, e) for e, n in zip(ends, self._sizes, strict=True)]
        self.layers: Sequence[LayerSpan] = layers_of(self._names, self._shapes)
        self.facts: Mapping[str, str] = {
            **problem.facts,
            **({"batch norm": BATCH_NORM_POLICY} if problem.calibration is not None else {}),
            **({"target": f"loss {problem.target_loss:g}: {problem.reached_in}"} if problem.reached_in else {}),
            "precision": precision if dtype == torch.float32 else str(dtype).removeprefix("torch."),
            "partition": training.policy,
            "held-out set": f"{len(self._heldout[0])} samples, sha256 {digest(*problem.heldout)}",
        }

        # Bound addresses. A freed vector's address cannot come back under another vector: the views keep it alive.
        self._bound_x = self._bound_out = 0
        self._on_ready: OnReady | None = None
        self._pending: set[int] = set()
        self._hooked = False

    @functools.cached_property
    def flops_per_sample(self) -> float:
        """Operations of one sample's gradient: as stated, or counted when somebody asks."""
        given = self._problem.flops_per_sample
        # Two samples, for batch norm.
        return count_flops(self._module, self._heldout[0][:2]) if given is None else given

    def _fit(self, data: Tensor) -> Tensor:
        """Data of floating type in the parameters' own; whole numbers stay as they are, and compact."""
        return data.to(self.dtype) if data.is_floating_point() else data

    def initial(self, seed: int) -> Tensor:
        """Initial parameters [P], a function of the seed alone."""
        x = torch.empty(self.parameters, dtype=self.dtype)
        # Drawn on the CPU, so that a GPU starts from the same point.
        for p, view in zip(self._parameters, self._views(x), strict=True):
            p.grad = None
            p.data = view
        with torch.no_grad():
            self._problem.initialise(self._module, torch_generator(seed, -1, "initial"))
        self._bound_x = self._bound_out = 0
        return x.to(self.device)

    def shares(self, seed: int, size: int) -> Sequence[Share]:
        """What each of `size` workers trains on."""
        return self._training.describe(seed, size)

    def batches(self, seed: int, rank: int, size: int) -> Batches:
        """The stream of mini-batches (inputs, targets, and noise if any) of worker `rank` of `size`."""
        stream = self._training.stream(seed, rank, size)
        return stream if self.device.type == "cpu" else Prefetched(stream, self.device)

    def gradient(self, x: Tensor, batch: tuple[Tensor, ...], out: Tensor, on_ready: OnReady | None = None) -> Tensor:
        """Write the gradient of the mean loss at x [P] into out [P]; return the loss (0-d, detached).

        On a GPU `on_ready` is called by autograd's own thread, when the work is enqueued on the current stream.
        """
        self._bind(x, out)
        out.zero_()
        if on_ready is not None and not self._precision.scales:
            self._install_hooks()
            self._on_ready, self._pending = on_ready, set(range(len(self._parameters)))
        try:
            with torch.enable_grad():  # grad mode belongs to the thread; the caller may be a helper thread
                loss = self._precision.backward(lambda: self._loss(batch), out)
            if on_ready is not None:
                # A parameter that the loss does not reach never fires; its gradient is the zero written above. Scaled
                # gradients are known to be finite only now.
                rest = range(len(self._parameters)) if self._precision.scales else self._pending
                for k in sorted(rest, reverse=True):
                    on_ready(k)
        finally:
            self._on_ready = None
        return loss

    def _loss(self, batch: tuple[Tensor, ...]) -> Tensor:
        inputs, targets, *noise = batch
        with self._precision.forward():
            return self._problem.loss(self._module(inputs, *noise), targets)

    def gradients(self, xs: Tensor, batches: Sequence[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """The gradients [k, P] and losses [k] of k replicas xs [k, P], each on its own mini-batch, newly allocated.

        One vectorised evaluation: the same as k calls of `gradient` to rounding. In float16 it is k calls, since each
        gradient has its own loss scale to find.
        """
        if self._precision.scales:
            outs = torch.empty_like(xs)
            each = [self.gradient(x, batch, out) for x, batch, out in zip(xs, batches, outs, strict=True)]
            return outs, torch.stack(each)

        with self._precision.products():
            return self._vectorised(xs, batches)

    def _loss_at(self, x: Tensor, *batch: Tensor) -> Tensor:
        """The loss as a function of x [P] alone, for torch.func."""
        inputs, targets, *noise = batch
        parts = torch.split(x, self._sizes)
        shaped = {name: part.view(shape) for name, part, shape in zip(self._names, parts, self._shapes, strict=True)}
        with self._precision.forward():
            logits = torch.func.functional_call(self._module, shaped, (inputs, *noise))
            return self._problem.loss(logits, targets)

    @functools.cached_property
    def together(self) -> int:
        """How many gradients to give one call of `gradients` at most; 1 where one by one is faster.

        On a CPU that is a matter of a gradient's operations; see `bench.workloads.vectorised` for where and why.
        """
        few = self.device.type != "cpu" or self.flops_per_sample * self.batch_size <= SMALL
        return self._largest if few and not self._precision.scales else 1

    @functools.cached_property
    def _largest(self) -> int:
        """How many gradients there is memory for at once."""
        inputs, targets = (part[:1].expand(self.batch_size, *part.shape[1:]) for part in self._heldout)
        draw, generator = self._problem.noise, torch.Generator().manual_seed(0)
        noise = () if draw is None else draw(self.batch_size, generator)
        x = torch.zeros(self.parameters, dtype=self.dtype, device=self.device)
        batch = (inputs, targets, *(part.to(self.device) for part in noise))
        try:
            return largest_part(evaluation_nbytes(self._loss_at, x, *batch))
        except RuntimeError as error:  # what torch.func raises for what it cannot do, and what means no memory for one
            what = f"{self.name} cannot be evaluated for many replicas at once, so that simulating it is slow"
            warnings.warn(f"{what}: {' '.join(str(error).split())[:200]}", stacklevel=3)
            return 1

    @functools.cached_property
    def _vectorised(self) -> Vectorised:
        return Vectorised(self._loss_at, self.gradient, self._largest)

    def heldout(self, x: Tensor) -> Heldout:
        """Mean loss and metric of x [P] on the fixed held-out set, in evaluation mode.

        Batch-norm statistics are estimated anew for x first.
        """
        self._bind(x, None)
        inputs, targets = self._heldout
        loss = metric = torch.zeros((), dtype=torch.float64, device=self.device)
        try:
            self._module.eval()
            with torch.no_grad(), self._precision.forward(), calibrated(self._module, self._see_calibration_set):
                for lo in range(0, len(inputs), self._problem.heldout_chunk):
                    part = slice(lo, lo + self._problem.heldout_chunk)
                    logits, share = self._module(inputs[part]), len(inputs[part]) / len(inputs)
                    loss = loss + share * self._problem.loss(logits, targets[part]).double()
                    metric = metric + share * self._problem.measure(logits, targets[part]).double()
        finally:
            self._module.train()
        return Heldout(loss=loss.item(), metric=metric.item())

    def objective(self) -> ModuleObjective:
        """The loss as a function of the parameters, for probes; it has a copy of the model."""
        return ModuleObjective(self._problem, self._module, self.spans, self.layers)

    def _see_calibration_set(self) -> None:
        assert self._problem.calibration is not None
        for chunk in torch.split(self._problem.calibration, CALIBRATION_CHUNK):
            self._module(self._fit(chunk).to(self.device))

    def _bind(self, x: Tensor, out: Tensor | None) -> None:
        for what, vector in (("x", x), ("out", out)):
            if vector is not None and (vector.numel() != self.parameters or vector.dtype != self.dtype):
                raise ValueError(
                    f"{what} must be a flat {self.dtype} vector of {self.name}'s parameters [{self.parameters}]: "
                    f"got {vector.dtype} {list(vector.shape)} (start from initial())"
                )
        if x.data_ptr() != self._bound_x:
            for p, view in zip(self._parameters, self._views(x), strict=True):
                p.data = view
            self._bound_x = x.data_ptr()
        if out is not None and out.data_ptr() != self._bound_out:
            for p, view in zip(self._parameters, self._views(out), strict=True):
                p.grad = view
            self._bound_out = out.data_ptr()

    def _views(self, vector: Tensor) -> list[Tensor]:
        # detach: a view made of a detached vector carries no history, whatever the caller's grad mode.
        parts = torch.split(vector.detach(), self._sizes)
        return [part.view(shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _install_hooks(self) -> None:
        """Once, and only if somebody asks: each hook is a call into Python in the middle of the backward pass."""
        if not self._hooked:
            for k, p in enumerate(self._parameters):
                p.register_post_accumulate_grad_hook(self._hook(k))  # type: ignore[no-untyped-call]
            self._hooked = True

    def _hook(self, k: int) -> Callable[[Tensor], None]:
        def fire(_: Tensor) -> None:
            if self._on_ready is not None:
                self._pending.discard(k)
                self._on_ready(k)

        return fire
