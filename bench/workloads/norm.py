"""Normalisation layers for convolutional networks, by name; batch norm without running statistics.

Axes: B images, C channels, H, W.

group   over the channels of a group and the image's pixels: Wu and He 2018, Group Normalization (arXiv:1803.08494)
layer   over all channels and pixels: the same with one group, as that paper has it; gains and biases by channel
batch   over the mini-batch and the pixels: Ioffe and Szegedy 2015, Batch Normalization (arXiv:1502.03167)
none    nothing
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

NormKind = Literal["group", "layer", "batch", "none"]

GROUPS = 32  # Wu and He's default
LEAST_PER_GROUP = 2
EPS = 1e-5
CALIBRATION_CHUNK = 256  # samples; the statistics to evaluate with are the mean over chunks of this size

BATCH_NORM_POLICY = (
    "batch norm: a gradient uses its own mini-batch's statistics, so that it depends on nothing but the model and the "
    "mini-batch; no running statistics exist, and none are communicated or averaged. Each evaluated model, averaged or "
    "not, is recalibrated first: over fixed batches of training images it collects every layer's mean and unbiased "
    "variance, averaged over the batches with equal weight, and is evaluated with these"
)

IN_WORDS: dict[NormKind, str] = {
    "group": f"group norm (Wu and He 2018), {GROUPS} groups or as many as leave {LEAST_PER_GROUP} channels to each",
    "layer": "layer norm over channels and pixels, gains and biases by channel",
    "batch": "batch norm of each mini-batch; recalibrated for each evaluated model",
    "none": "none",
}


def norm(kind: NormKind, channels: int) -> nn.Module:
    """The layer `kind` for `channels` channels: [B, C, H, W] -> the same; gains start at 1, biases at 0.

    "group" takes 32 groups, or the largest number below that divides the channels and leaves two to a group.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "group":
        most = max(1, min(GROUPS, channels // LEAST_PER_GROUP))
        groups = next(g for g in range(most, 0, -1) if channels % g == 0)
        return nn.GroupNorm(groups, channels, eps=EPS)
    if kind == "layer":
        return nn.GroupNorm(1, channels, eps=EPS)
    if kind == "batch":
        return BatchNorm(channels)
    if kind == "none":
        return nn.Identity()
    raise ValueError(f"norm must be one of {', '.join(get_args(NormKind))}: got {kind!r} (choose one of these)")


class BatchNorm(nn.Module):
    """Batch norm whose only state is its parameters; see BATCH_NORM_POLICY.

    torch's own keeps running statistics: state outside the parameters, different on each worker and averaged by no
    algorithm; and those of an averaged model are not the average of statistics (Izmailov et al. 2018, Averaging Weights
    Leads to Wider Optima, arXiv:1803.05407, section 3.2).

    In evaluation mode it works within `calibrated` only.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self._collected: list[tuple[Tensor, Tensor]] | None = None  # mean, variance [C] of each calibration batch
        self._statistics: tuple[Tensor, Tensor] | None = None  # mean, variance [C] to evaluate with

    def forward(self, x: Tensor) -> Tensor:
        if self._collected is not None:
            values = x.detach().to(self.weight.dtype)  # under autocast x is of half precision
            variance, mean = torch.var_mean(values, dim=(0, 2, 3), correction=1)
            self._collected.append((mean, variance))
        if self.training or self._collected is not None:
            return functional.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=EPS)
        assert self._statistics is not None, "batch norm is evaluated without calibration: use norm.calibrated()"
        mean, variance = self._statistics
        return functional.batch_norm(x, mean, variance, self.weight, self.bias, training=False, eps=EPS)

    def start_calibration(self) -> None:
        """From here on each forward pass is one batch of the calibration."""
        self._collected, self._statistics = [], None

    def end_calibration(self) -> None:
        """Evaluate with the mean of the batches' means and unbiased variances (with nothing, if there were none)."""
        if self._collected:
            means, variances = zip(*self._collected, strict=True)
            self._statistics = torch.stack(means).mean(0), torch.stack(variances).mean(0)
        self._collected = None

    def forget_calibration(self) -> None:
        """The statistics belong to one vector of parameters; another needs its own."""
        self._collected = self._statistics = None


@contextmanager
def calibrated(module: nn.Module, run: Callable[[], None]) -> Iterator[None]:
    """Evaluate `module` within; batch norm then uses statistics of its present parameters.

    `run` makes one forward pass over each batch of the calibration set. All layers collect in the same passes, each fed
    by layers that normalise with the batch's own statistics, as torch.optim.swa_utils.update_bn does with
    momentum=None. Without batch norm in the module `run` is not called and nothing is spent. Afterwards the statistics
    are forgotten, so that none can outlive its parameters.

    Not for use under torch.func.vmap: the statistics are those of one model.
    """
    layers = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
    try:
        if layers:
            for layer in layers:
                layer.start_calibration()
            with torch.no_grad():
                run()
            for layer in layers:
                layer.end_calibration()
        yield
    finally:
        for layer in layers:
            layer.forget_calibration()
