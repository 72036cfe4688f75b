"""The formulas by which an algorithm states its traffic and its memory, as text that users read and tests evaluate."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from algorithms.interface import Algorithm, Layer

FUNCTIONS = {"ceil": math.ceil, "log2": math.log2, "min": min, "max": max}


def evaluate(
    formula: str,
    algorithm: Algorithm,
    size: int,
    nbytes: float,
    optimizer_nbytes: float = 0.0,
    itemsize: int = 4,
    layers: Sequence[Layer] | None = None,
) -> float:
    """The value of `Algorithm.bytes_per_step` or `Algorithm.state` [byte].

    Args:
        size: workers n.
        nbytes: M, the size of one parameter vector [byte].
        optimizer_nbytes: `opt`, the size of the optimiser's state [byte].
        itemsize: of one parameter [byte].
        layers: of the model; None: square matrices with at most 1024 rows.

    Example:
        >>> from algorithms.local_sgd import LocalSGD
        >>> evaluate("2 * M / period", LocalSGD(period=4), size=8, nbytes=100.0)
        50.0
    """
    settings = {
        f.name: value
        for f in dataclasses.fields(algorithm)
        if isinstance(value := getattr(algorithm, f.name), int | float)  # switches count as 0 and 1
    }
    names = {**settings, "n": size, "M": nbytes, "opt": optimizer_nbytes, "itemsize": itemsize}
    if layers is None:
        values = int(nbytes) // itemsize
        side = min(math.isqrt(values), 1024)
        layers = [Layer("matrices", slice(0, values), shapes=((side, side),) * (values // side**2 if side else 0))]
    names |= algorithm.symbols(size) | algorithm.model_symbols(layers)
    return float(eval(formula, {"__builtins__": {}, **FUNCTIONS}, names))
