"""Algorithms by name. Third parties add theirs through the entry-point group "paceline.algorithms"."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points
from typing import cast

from algorithms.interface import Algorithm

# name -> "module:class"; imported only when asked for.
_BUILT_IN = {
    "allreduce-sgd": "algorithms.allreduce_sgd:AllreduceSGD",
    "local-sgd": "algorithms.local_sgd:LocalSGD",
    "d-psgd": "algorithms.d_psgd:DPSGD",
    "ad-psgd": "algorithms.ad_psgd:ADPSGD",
    "easgd": "algorithms.easgd:EASGD",
}


def names() -> list[str]:
    """All registered names: the built-in ones in their order, then those of other packages."""
    others = sorted(point.name for point in entry_points(group="paceline.algorithms"))
    return [*_BUILT_IN, *(name for name in others if name not in _BUILT_IN)]


def algorithm_class(name: str) -> type[Algorithm]:
    """The class registered under `name`.

    Raises:
        KeyError: no such algorithm.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return cast("type[Algorithm]", getattr(import_module(module), attribute))
    for point in entry_points(group="paceline.algorithms"):
        if point.name == name:
            return cast("type[Algorithm]", point.load())
    raise KeyError(name)
