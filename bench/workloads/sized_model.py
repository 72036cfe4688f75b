"""A model by its size alone: P parameters in an embedding, equal blocks and a head, of which nothing is ever computed.

It runs in the simulator with `gradients = "none"`: the algorithms' vectors have its size and no values
(`bench.workloads.cost_only`). What a gradient costs is said by, the first that is given:

1. the study's [compute], gradient_s or a trace;
2. `accelerators`, `flops_per_s`, `mfu`, `sequence` and `batch_size`:
   6 x active parameters x tokens / (accelerators x flops_per_s x mfu) seconds, where 6 operations per parameter and
   token are 2 of the forward and 4 of the backward pass (Kaplan et al., Scaling laws for neural language models,
   arXiv 2001.08361, section 2.1; attention's own products are left out);
3. the preset's published step time, which holds for its authors' batch and accelerators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NoReturn

import torch

from bench.workloads.base import LayerSpan
from bench.workloads.cost_only import CostOnly, Size


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published model.

    Attributes:
        parameters: P.
        active: parameters that one token meets; fewer than P in a mixture of experts.
        layers: transformer blocks.
        step_s: of one replica's step without communication [s], as the source simulates it.
        source: of these figures.
    """

    parameters: float
    active: float
    layers: int
    step_s: float
    source: str


_STREAMING = "Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512"

PRESETS: dict[str, Preset] = {
    # The table prints 0.1, 0.8 and 4.9 s; with these, which are rounded to that, its figures come out.
    "gpt-1B": Preset(parameters=1e9, active=1e9, layers=24, step_s=0.099, source=f"{_STREAMING}, table 4"),
    "gpt-10B": Preset(parameters=1e10, active=1e10, layers=48, step_s=0.79, source=f"{_STREAMING}, table 4"),
    "gpt-100B": Preset(parameters=1e11, active=1e11, layers=108, step_s=4.925, source=f"{_STREAMING}, table 4"),
    "llama3-405B": Preset(
        parameters=405e9, active=405e9, layers=126, step_s=26.9,
        source=f"{_STREAMING}, figure 16; layers: Grattafiori et al., The Llama 3 herd of models, arXiv 2407.21783",
    ),
    "deepseek-v3-671B": Preset(
        parameters=671e9, active=37e9, layers=61, step_s=20.1,
        source=f"{_STREAMING}, figure 16; layers, active: DeepSeek-V3 technical report, arXiv 2412.19437",
    ),
}  # fmt: skip
"""name -> size and step time."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class SizedModel:
    """Settings of a model by its size: a preset, or parameters and layers."""

    title: ClassVar[str] = "sized-model"
    data: ClassVar[tuple[str, ...]] = ()
    cost_only: ClassVar[bool] = True  # no gradient of it can be computed
    default_optimizer: ClassVar[dict[str, Any]] = {"name": "sgd", "lr": 0.1}  # no value depends on it

    preset: str | None = None  # gpt-1B, gpt-10B, gpt-100B, llama3-405B or deepseek-v3-671B
    parameters: float | None = None  # P, a whole number, such as 671e9; instead of a preset
    layers: int | None = None  # blocks, equally large; instead of a preset
    active: float | None = None  # parameters that one token meets; not set: all, or the preset's
    embedding: float = 0  # parameters of the embedding, and as many of the head, out of P
    dtype: Literal["float32", "bfloat16"] = "float32"  # of parameters and messages
    batch_size: int = 1  # sequences per replica and step
    sequence: int | None = None  # tokens in a sequence
    accelerators: int | None = None  # that compute one replica's gradient
    flops_per_s: float | None = None  # of one accelerator at its peak, such as 989e12
    mfu: float | None = None  # share of the peak that is reached, in (0, 1]

    def __post_init__(self) -> None:
        if (self.preset is None) == (self.parameters is None or self.layers is None):
            raise ValueError(
                f"give a preset, or parameters and layers: got preset={self.preset!r}, parameters={self.parameters}, "
                f"layers={self.layers} (presets: {', '.join(PRESETS)})"
            )
        if self.preset is not None:
            if self.preset not in PRESETS:
                raise ValueError(f"no such preset: got {self.preset!r}, allowed: {', '.join(PRESETS)}")
            if not self.parameters is self.layers is None:
                raise ValueError(f"preset {self.preset!r} says parameters and layers: got them, too (omit those)")
        for name, least, most in (
            ("parameters", 1, 2**53), ("layers", 1, None), ("active", 1, self.size), ("embedding", 0, None),
            ("batch_size", 1, 2**31 - 1), ("sequence", 1, None), ("accelerators", 1, None),
        ):  # fmt: skip
            got = getattr(self, name)
            if got is not None and not (got >= least and got == int(got) and (most is None or got <= most)):
                allowed = f"of at least {least}" if most is None else f"in {least}..{most}"
                raise ValueError(f"{name} must be a whole number {allowed}: got {got}")
        if 2 * self.embedding + self.blocks > self.size:
            raise ValueError(
                f"embedding and head leave less than one parameter per block: got embedding={self.embedding:g} of "
                f"{self.size} parameters with {self.blocks} layers (a smaller embedding)"
            )
        speed = {"accelerators": self.accelerators, "flops_per_s": self.flops_per_s, "mfu": self.mfu}
        missing = [name for name, got in {**speed, "sequence": self.sequence}.items() if got is None]
        if missing and any(got is not None for got in speed.values()):
            raise ValueError(f"accelerators, flops_per_s, mfu and sequence go together: {', '.join(missing)} not given")
        if self.flops_per_s is not None and not 0 < self.flops_per_s < float("inf"):
            raise ValueError(f"flops_per_s must be finite and > 0: got {self.flops_per_s} (such as 989e12)")
        if self.mfu is not None and not 0 < self.mfu <= 1:
            raise ValueError(f"mfu must lie in (0, 1]: got {self.mfu} (such as 0.4)")

    @property
    def size(self) -> int:
        """P."""
        return int(PRESETS[self.preset].parameters if self.preset else self.parameters or 0)

    @property
    def blocks(self) -> int:
        """Transformer blocks."""
        return PRESETS[self.preset].layers if self.preset else self.layers or 0

    @property
    def met(self) -> float:
        """Parameters that one token meets."""
        return self.active or (PRESETS[self.preset].active if self.preset else self.size)

    @property
    def flops_per_sample(self) -> float:
        """Operations of a gradient on one sequence; NaN if its length is not given.

        Example:
            >>> SizedModel(parameters=1e9, layers=24, sequence=1000).flops_per_sample
            6000000000000.0
        """
        return float("nan") if self.sequence is None else 6.0 * self.met * self.sequence

    def gradient_time(self) -> tuple[float, str]:
        """How long a gradient takes by these settings [s], and where that comes from, in words.

        Raises:
            ValueError: nothing says how long a gradient takes.

        Example:
            512 sequences of 1000 tokens on 32 accelerators of 400 TFLOP/s, of which 40 % are reached:

            >>> model = SizedModel(parameters=1e9, layers=24, sequence=1000, batch_size=512, accelerators=32,
            ...                    flops_per_s=400e12, mfu=0.4)
            >>> model.gradient_time()[0]
            0.6
        """
        if self.accelerators is not None and self.flops_per_s is not None and self.mfu is not None:
            rate = self.accelerators * self.flops_per_s * self.mfu
            words = (
                f"6 x {self.met:g} parameters x {self.batch_size} x {self.sequence} tokens on {self.accelerators} "
                f"accelerators of {self.flops_per_s:g} FLOP/s at {self.mfu:g} of the peak"
            )
            return self.flops_per_sample * self.batch_size / rate, words
        if self.preset is not None:
            known = PRESETS[self.preset]
            return known.step_s, f"as published: {known.source}"
        raise ValueError(
            "nothing says how long a gradient takes (give compute.gradient_s, or accelerators, flops_per_s, mfu and "
            "sequence)"
        )

    def optimizer_table(self) -> dict[str, Any]:
        """What a study would give; no value depends on it."""
        return dict(self.default_optimizer)

    def build(self, device: torch.device, workers: int) -> CostOnly:
        """The size, without values."""
        facts = {"model": f"{self.size:.4g} parameters, {self.met:.4g} of them active, in {self.blocks} blocks"}
        if self.preset is not None:
            facts["source"] = PRESETS[self.preset].source
        layers = self._layers()
        size = Size(
            name=f"{self.title}-{self.preset or f'{self.size / 1e9:g}B'}",
            dtype=DTYPES[self.dtype],
            batch_size=self.batch_size,
            optimizer=self.optimizer_table(),
            layers=layers,
            spans=[(layer.lo, layer.hi) for layer in layers],
            flops_per_sample=self.flops_per_sample,
            facts=facts,
        )
        return CostOnly(size)

    def _layers(self) -> list[LayerSpan]:
        first, blocks, end = int(self.embedding), self.blocks, self.size - int(self.embedding)
        cuts = [first + (end - first) * k // blocks for k in range(blocks + 1)]
        body = [LayerSpan(f"blocks.{k}", cuts[k], cuts[k + 1], True) for k in range(blocks)]
        ends = [LayerSpan("embedding", 0, first, False)], [LayerSpan("head", end, self.size, False)]
        return [*ends[0], *body, *ends[1]] if first else body

    def double(self) -> NoReturn:
        """There is nothing to differentiate.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.title} is a size without values: no gradient of it can be computed")
