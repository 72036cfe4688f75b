"""What the image workloads share: arrays of a data set as the tensors of a problem."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.workloads.problem import Samples, as_tensor

CLASSES = 10  # of MNIST, Fashion-MNIST and CIFAR-10


def labelled_samples(inputs: NDArray[np.uint8], labels: NDArray[np.int64]) -> Samples:
    """A training set of inputs [N, ...] with classes [N]."""
    return Samples(inputs=as_tensor(inputs), targets=as_tensor(labels), labels=labels)


def bytes_in_words(mean: float | tuple[float, ...], std: float | tuple[float, ...]) -> str:
    """The normalisation of images, for the reports: "(pixel / 255 - 0.1307) / 0.3081"."""
    return f"(pixel / 255 - {_text(mean)}) / {_text(std)}"


def _text(value: float | tuple[float, ...]) -> str:
    return f"{value:g}" if isinstance(value, float) else "[" + ", ".join(f"{v:g}" for v in value) + "]"
