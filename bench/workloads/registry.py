"""The table of workloads: name -> where its settings class lives. Imports no torch until a workload is asked for.

A package of one's own adds workloads through the entry point group "paceline.workloads"; a study may also name a file
and what is in it: "my_model.py:my_net".
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

from bench.settings import StudyError, nearest

if TYPE_CHECKING:
    import torch

    from bench.workloads.base import Workload

GROUP = "paceline.workloads"


class WorkloadSettings(Protocol):
    """What every workload's settings class is: a frozen, keyword-only dataclass that can build the workload."""

    title: ClassVar[str]  # the name it is registered under
    data: ClassVar[tuple[str, ...]]  # data sets it reads from the data folder

    def __init__(self, **settings: Any) -> None: ...

    def __hash__(self) -> int: ...

    def optimizer_table(self) -> dict[str, Any]:
        """The workload's own tuned optimiser, as a study file would give it."""
        ...

    def build(self, device: torch.device, workers: int) -> Workload:
        """The workload on this device, for a run of this many workers."""
        ...

    def double(self) -> WorkloadSettings:
        """The same in double precision, for finite differences."""
        ...


@dataclass(frozen=True)
class Entry:
    """One row of the table, and what `paceline workloads` says of it before anything is loaded.

    Attributes:
        module, settings: where the settings class is.
        summary: one line.
        parameters, flops_per_sample: P, and operations of one sample's gradient, with the default settings.
        metric: held-out metric.
        target: held-out loss or metric that counts as reached, and how long one core takes.
    """

    module: str
    settings: str
    summary: str
    parameters: int
    flops_per_sample: float
    metric: str
    target: str
    data: tuple[str, ...] = ()


def _entry(module: str, settings: str, *facts: Any, **more: Any) -> Entry:
    return Entry(f"bench.workloads.{module}", settings, *facts, **more)


NAMES: dict[str, Entry] = {
    "a9a-logistic": _entry(
        "a9a_logistic",
        "A9aLogistic",
        "logistic regression on a9a (UCI Adult); convex, with known minimum",
        124,
        738,
        "accuracy",
        "loss 0.328 in 0.2 s on one core",
        data=("a9a",),
    ),
    "cifar10-easgd7": _entry(
        "cifar10",
        "Cifar10Easgd7",
        "EASGD's 7-layer network on random 28x28 windows of CIFAR-10, with dropout",
        351_946,
        97_410_048,
        "accuracy",
        "loss 1.18 in 100 to 120 s on one core (10 000 images)",
        data=("cifar10",),
    ),
    "cifar10-resnet18": _entry(
        "cifar10",
        "Cifar10Resnet18",
        "ResNet-18 on CIFAR-10; norm by group, layer or batch",
        11_173_962,
        3_332_536_320,
        "accuracy",
        "loss 2 in 20 s on one core at width 16; not measured at width 64",
        data=("cifar10",),
    ),
    "cifar10-vgg13": _entry(
        "cifar10",
        "Cifar10Vgg13",
        "VGG-13 on CIFAR-10; norm by group, layer, batch or none",
        9_413_066,
        1_369_602_048,
        "accuracy",
        "loss 1.95 in 139 s on one core (10 000 images, one seed)",
        data=("cifar10",),
    ),
    "digits-mlp": _entry(
        "digits_mlp",
        "DigitsMlp",
        "ReLU network on 1797 handwritten digits of 8x8 pixels; a gradient in under 1 ms",
        8_970,
        52_992,
        "accuracy",
        "loss 0.38 in 140 to 230 steps of 4 workers, under 1 s",
    ),
    "fashion-convnet": _entry(
        "fashion_convnet",
        "FashionConvnet",
        "small convolutional network on Fashion-MNIST",
        106_122,
        6_495_360,
        "accuracy",
        "loss 0.3 in 15 to 18 s on one core",
        data=("fashion-mnist",),
    ),
    "mnist-mlp": _entry(
        "mnist_mlp",
        "MnistMlp",
        "784-50-50-10 ReLU network on MNIST",
        42_310,
        253_200,
        "accuracy",
        "loss 0.1 in 1.5 to 2.5 s on one core",
        data=("mnist",),
    ),
    "quadratic": _entry(
        "quadratic",
        "Quadratic",
        "noisy quadratic with known minimiser, one shifted copy per worker; checks theory in milliseconds",
        20,
        80,
        "distance",
        "loss 0.02 in 111 to 142 steps",
    ),
    "shakespeare-gpt": _entry(
        "shakespeare_gpt",
        "ShakespeareGpt",
        "character-level transformer on Shakespeare's plays; 0.2M, 1M, 5M or 25M parameters",
        209_600,
        89_677_824,
        "accuracy",
        "loss 2.1 in 16 to 20 s on one core (0.2M), 1.9 in 71 to 80 s (1M)",
    ),
    "shakespeare-lstm": _entry(
        "shakespeare_lstm",
        "ShakespeareLstm",
        "character-level LSTM on Shakespeare's plays",
        111_361,
        40_943_616,
        "accuracy",
        "loss 1.7 in 13 to 19 s on one core",
    ),
    "speech-lstm": _entry(
        "speech_lstm",
        "SpeechLstm",
        "LSTM on filter-bank features of spoken digits",
        27_530,
        10_227_456,
        "accuracy",
        "loss 0.16 in 4 to 9 s on one core",
        data=("fsdd",),
    ),
    "wikitext2-lstm": _entry(
        "wikitext2_lstm",
        "Wikitext2Lstm",
        "word-level LSTM on WikiText-2, 33 278 words",
        2_270_078,
        469_620_480,
        "accuracy",
        "loss 6.3 in 68 to 77 s on one core",
        data=("wikitext2",),
    ),
}


SIZES: dict[str, tuple[str, str, str]] = {
    "sized-model": (
        "bench.workloads.sized_model",
        "SizedModel",
        "a model by its size alone, 1e9 to 671e9 parameters: time and bytes in the simulator, no gradients",
    )
}
"""Workloads of which no gradient can be computed: name -> module, settings class, summary. Studies may name them."""


def workloads() -> dict[str, str]:
    """Each built-in workload's name and its one-line summary, by name."""
    return {name: entry.summary for name, entry in sorted(NAMES.items())}


@cache
def _others() -> dict[str, EntryPoint]:
    """Workloads of other packages."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in NAMES}


def known() -> list[str]:
    """The names of all that can be trained, apart from files."""
    return sorted([*NAMES, *_others()])


def settings_class(name: str) -> type[WorkloadSettings]:
    """The settings class of the workload `name`, or of "FILE.py:FUNCTION"; imports its module, and so torch.

    Raises:
        StudyError: there is no such workload, or it cannot be loaded.
    """
    if name in NAMES:
        entry = NAMES[name]
        found = getattr(importlib.import_module(entry.module), entry.settings)
    elif name in SIZES:
        module, settings, _ = SIZES[name]
        found = getattr(importlib.import_module(module), settings)
    elif name in _others():
        try:
            found = _others()[name].load()
        except Exception as error:
            raise StudyError(f"workload {name!r}: {type(error).__name__}: {error}") from error
    elif ".py:" in name:
        found = _from_file(name)
    else:
        raise StudyError(
            f"unknown workload {name!r}{nearest(name, [*known(), *SIZES])}; one of your own is named FILE.py:FUNCTION"
        )
    if not hasattr(found, "build"):
        raise StudyError(
            f"workload {name!r}: expected a function under @workload, got {type(found).__name__} "
            "(see docs/adding-a-workload.md)"
        )
    return cast("type[WorkloadSettings]", found)


@cache
def _from_file(name: str) -> Any:
    text, _, function = name.rpartition(":")
    path = Path(text).expanduser().resolve()
    if not path.is_file():
        raise StudyError(f"workload {name!r}: there is no file {path} (give the path of your own file)")
    spec = importlib.util.spec_from_file_location(f"paceline_own_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise StudyError(f"workload {name!r}: {type(error).__name__} in {path.name}: {error}") from error
    if not hasattr(module, function):
        raise StudyError(f"workload {name!r}: {path.name} has no {function!r} (name what stands under @workload)")
    return getattr(module, function)
