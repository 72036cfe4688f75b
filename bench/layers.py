"""A workload's layers as algorithms see them."""

from __future__ import annotations

from collections.abc import Iterable

from algorithms.interface import Layer
from bench.workloads.base import LayerSpan


def layers_of(spans: Iterable[LayerSpan]) -> list[Layer]:
    """The layers of a model, in order.

    Args:
        spans: `Workload.layers`.
    """
    return [Layer(span.name, slice(span.lo, span.hi), span.is_block, span.shapes) for span in spans]
