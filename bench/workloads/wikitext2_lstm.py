"""A word-level LSTM on WikiText-2 (Merity et al. 2016, arXiv:1609.07843): a vocabulary of 33 278 words.

The softmax over the words is nearly all of the work and the table of words nearly all of the parameters, of which a
mini-batch touches few rows strongly: what makes messages large and gradients sparse at heart. One table serves input
and output, and is narrower than the LSTM. Loss in nat per word; its exponential is the perplexity of the windows.

Training text: the publisher's, dealt by article if wanted. Held-out set: windows evenly spaced over the publisher's
validation text: 7000 of its 217 646 words, as all of them take half a minute on one core. A window starts from a state
of zeros, so the loss is higher than that of an evaluation that carries the state through the text.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from bench.data import load
from bench.data.files import data_dir
from bench.workloads.models.language import LstmLanguageModel
from bench.workloads.problem import Problem, Text, as_tensor
from bench.workloads.roles import Segments, articles
from bench.workloads.settings import ModuleSettings
from bench.workloads.texts import spread_windows

HELDOUT_WINDOWS = 200
HELDOUT_WORDS_AT_A_TIME = 350  # their logits are 47 MB
LONGEST_CONTEXT = 1024

# One worker, seeds 0 to 2, steps of 190 ms on one core, evaluated every 50: first at or below the target after 350, 400
# and 350 steps, 6 % of a pass over the text; seed 0 is at 6.16 after 500. Word frequencies alone give 6.9. In a loop by
# hand, one seed, nesterov lr 1.0 is level with lr 3.0 after 107 steps (6.75 and 6.74).
OPTIMIZER: dict[str, Any] = {"name": "nesterov", "lr": 3.0, "momentum": 0.9, "clip_norm": 1.0}
TARGET_LOSS = 6.3
REACHED_IN = "68, 77, 68 s of one core (seeds 0-2), 350 to 400 steps of one worker"


@dataclass(frozen=True, kw_only=True)
class Wikitext2Lstm(ModuleSettings):
    """Settings of the word-level LSTM."""

    title: ClassVar[str] = "wikitext2-lstm"
    grouping: ClassVar[str] = "article"
    data: ClassVar[tuple[str, ...]] = ("wikitext2",)
    default_optimizer: ClassVar[dict[str, Any]] = OPTIMIZER

    width: int = 128  # of each layer
    depth: int = 1  # layers
    embedding: int = 64  # numbers that stand for a word, on both sides
    context: int = 35  # T words; each window starts from a state of zeros
    batch_size: int = 10  # sequences per worker and step

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "width", "depth", "embedding", "context")
        if self.context > LONGEST_CONTEXT:
            raise ValueError(f"context must be at most {LONGEST_CONTEXT}: got {self.context} (default 35)")

    @property
    def name(self) -> str:
        """ "wikitext2-lstm", or with the shape spelt out if it is not the usual one."""
        shape = self.width, self.depth, self.embedding, self.context
        usual = shape == (128, 1, 64, 35)
        return self.title if usual else "{}-{}d-{}l-{}e-{}t".format(self.title, *shape)

    def problem(self) -> Problem:
        """Module, data and loss; reads the data."""
        vocabulary, ids = load.wikitext2()
        parts = _articles(data_dir())
        module = LstmLanguageModel(
            ids=len(vocabulary), embedding=self.embedding, width=self.width, depth=self.depth, tied=True
        )
        return Problem(
            module=module,
            initialise=lambda _, generator: module.initialise(generator),
            train=Text(
                ids=as_tensor(ids["train"]),
                context=self.context,
                segments=parts.bounds,
                groups=parts.groups,
                group_names=parts.names,
            ),
            heldout=spread_windows(as_tensor(ids["valid"]), self.context, HELDOUT_WINDOWS),
            heldout_chunk=max(1, HELDOUT_WORDS_AT_A_TIME // self.context),
            flops_per_sample=module.gradient_flops(self.context),
            target_loss=TARGET_LOSS,
            reached_in=REACHED_IN,
            facts={
                "data": f"{load.sources('wikitext2', 'train.txt', 'valid.txt')}; held out: {HELDOUT_WINDOWS} windows "
                "evenly spaced over valid.txt",
                "normalisation": "none",
                "augmentation": "none",
            },
        )


@functools.cache
def _articles(folder: object) -> Segments:
    """The articles of the training text in this data folder, which is that of `load.wikitext2`."""
    vocabulary, ids = load.wikitext2()
    return articles(ids["train"], vocabulary)
