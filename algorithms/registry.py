"""Algorithms by name. Third parties add theirs through the entry-point group "paceline.algorithms"."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from algorithms.interface import Algorithm

# name -> "module:class"; imported only when asked for.
_BUILT_IN = {
    "sgd": "algorithms.sequential:SGD",
    "msgd": "algorithms.sequential:MSGD",
    "asgd": "algorithms.sequential:ASGD",
    "mvasgd": "algorithms.sequential:MVASGD",
    "allreduce-sgd": "algorithms.allreduce_sgd:AllreduceSGD",
    "noisy-allreduce-sgd": "algorithms.noisy_allreduce_sgd:NoisyAllreduceSGD",
    "local-sgd": "algorithms.local_sgd:LocalSGD",
    "post-local-sgd": "algorithms.local_sgd:PostLocalSGD",
    "slowmo": "algorithms.slowmo:SlowMo",
    "d-psgd": "algorithms.d_psgd:DPSGD",
    "gossip-pga": "algorithms.gossip_pga:GossipPGA",
    "d2": "algorithms.d2:D2",
    "exact-diffusion": "algorithms.d2:ExactDiffusion",
    "gradient-tracking": "algorithms.gradient_tracking:GradientTracking",
    "choco-sgd": "algorithms.choco_sgd:ChocoSGD",
    "power-gossip": "algorithms.power_gossip:PowerGossip",
    "sgp": "algorithms.sgp:SGP",
    "overlap-sgp": "algorithms.overlap_sgp:OverlapSGP",
    "ad-psgd": "algorithms.ad_psgd:ADPSGD",
    "agp": "algorithms.agp:AGP",
    "prague": "algorithms.prague:Prague",
    "dsgd-aau": "algorithms.dsgd_aau:DSGDAAU",
    "cb-dybw": "algorithms.dsgd_aau:CbDyBW",
    "easgd": "algorithms.easgd:EASGD",
    "easgd-sync": "algorithms.easgd_sync:EASGDSync",
    "eamsgd": "algorithms.eamsgd:EAMSGD",
    "easgd-tree": "algorithms.easgd_tree:EASGDTree",
    "downpour": "algorithms.downpour:Downpour",
    "mdownpour": "algorithms.mdownpour:MDownpour",
    "adownpour": "algorithms.averaged_downpour:ADownpour",
    "mvadownpour": "algorithms.averaged_downpour:MVADownpour",
    "admm": "algorithms.admm:ADMM",
    "async-sgd": "algorithms.async_sgd:AsyncSGD",
    "sa-asgd": "algorithms.staleness_aware:SAASGD",
    "dc-asgd": "algorithms.staleness_aware:DCASGD",
    "gap-aware": "algorithms.gap_aware:GapAware",
    "closed-loop-async-sgd": "algorithms.closed_loop:ClosedLoopAsyncSGD",
    "diloco": "algorithms.diloco:DiLoCo",
    "streaming-diloco": "algorithms.streaming_diloco:StreamingDiLoCo",
    "eager-diloco": "algorithms.eager_diloco:EagerDiLoCo",
    "async-diloco": "algorithms.async_diloco:AsyncDiLoCo",
    "noloco": "algorithms.noloco:NoLoCo",
}


@cache
def _others() -> dict[str, EntryPoint]:
    """Algorithms of other packages; kept, as a look through all that is installed takes milliseconds."""
    found = {point.name: point for point in entry_points(group="paceline.algorithms")}
    return {name: found[name] for name in sorted(found) if name not in _BUILT_IN}


def names() -> list[str]:
    """All registered names: the built-in ones in their order, then those of other packages."""
    return [*_BUILT_IN, *_others()]


def algorithm_class(name: str) -> type[Algorithm]:
    """The class registered under `name`.

    Raises:
        KeyError: no such algorithm.
        ImportError: another package registers it, but it cannot be loaded or is no algorithm.
    """
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return cast("type[Algorithm]", getattr(import_module(module), attribute))
    return _loaded(_others()[name])


def _loaded(point: EntryPoint) -> type[Algorithm]:
    try:
        found = point.load()
    except Exception as error:  # whatever another package's code raises
        raise ImportError(f"{point.value} cannot be loaded: {type(error).__name__}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Algorithm)):
        raise ImportError(f"{point.value} is no subclass of algorithms.interface.Algorithm: {found!r}")
    return found
