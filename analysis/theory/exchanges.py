"""What data-parallel training, DiLoCo and Streaming DiLoCo exchange after which step, as graphs of work.

Source: Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512, section 3.1. The paper
describes its simulator in words: per layer a forward node, two backward nodes and a reduction; bandwidth between data
centres only. What that leaves open is filled in by one consistent reading, found by comparing with the paper's table 4;
it is not the authors' code:

- Nodes cost the same: a step of T seconds on L layers has 3 L - 1 compute nodes (the first layer has no backward with
  respect to activations). Backward goes layer by layer: activations, parameters, release of the reduction.
- A reduction carries the model's parameters, spread evenly over the layers, times the bits of one (16: bfloat16,
  4: E3M0), times 2 (M - 1) / M for a ring of M workers: 1 for the paper's two. Embeddings are not counted apart.
- Fragment p is exchanged after steps k with k mod H = p floor(H / (P + 1)), p = 0 .. P - 1: P fragments, and one place
  in the period left for the embedding, as in the paper's "every 11, 5, 2 steps" for 24, 48, 108 layers and H = 100.
  With so many fragments that this distance is 0: at floor(p H / (P + 1)), several at a time.
- What was exchanged with delay 0 is needed by the next step, with delay 1 by the one after it, and so on.
- Two periods are simulated, and the last transfer counts. Fragment 0 is sent after the very last step, where nothing
  can hide it: with a delay this costs some utilisation that a longer training would not notice.

One schedule covers all: data-parallel training is DiLoCo with period 1, and DiLoCo is streaming with one fragment.

Axes: L layers, P fragments.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from analysis.theory.dag import Exchange, Layer, TrainingDag

if TYPE_CHECKING:  # the closed forms of the command line need no tables
    import pandas as pd

METHODS = ("data-parallel", "diloco", "streaming")
PATTERNS = ("strided", "sequential")
ROUNDS = 2  # periods simulated


def equal_layers(
    *, parameters: float, layers: int, step_time_s: float, bits: float = 16, workers: int = 2
) -> list[Layer]:
    """A model of L equal layers: seconds of its nodes, bits of its reductions [L].

    Args:
        parameters: of the whole model.
        layers: L.
        step_time_s: T, of one step without communication [s].
        bits: of one parameter on the link.
        workers: M; a ring all-reduce sends 2 (M - 1) / M of the vector.

    Raises:
        ValueError: one of them is out of range.

    Example:
        A step of five nodes:

        >>> first, second = equal_layers(parameters=100, layers=2, step_time_s=5)
        >>> first
        Layer(forward_s=1.0, backward_activations_s=0.0, backward_parameters_s=1.0, bits=800.0)
        >>> second.backward_activations_s
        1.0
    """
    if layers < 1:
        raise ValueError(f"layers must be at least 1: got {layers}")
    if workers < 2:
        raise ValueError(f"workers must be at least 2: got {workers} (one has nobody to exchange with)")
    for name, value in (("parameters", parameters), ("step_time_s", step_time_s), ("bits", bits)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be finite and above 0: got {value}")
    node_s = step_time_s / (3 * layers - 1)
    sent = parameters * bits * 2 * (workers - 1) / workers / layers
    return [
        Layer(
            forward_s=node_s,
            backward_activations_s=node_s if index else 0.0,
            backward_parameters_s=node_s,
            bits=sent,
        )
        for index in range(layers)
    ]


def layers_of(costs: pd.DataFrame) -> list[Layer]:
    """Layers whose costs are given in a table, seconds and bits: the general mode, for any model [L].

    Args:
        costs: one row per layer, first layer first, with the columns `forward_s`, `backward_activations_s`,
            `backward_parameters_s`, `bits` and, if you like, `layer` (its name, for the reader).

    Raises:
        ValueError: other columns, or a cost that is negative or no number.

    Example:
        >>> import pandas as pd
        >>> columns = ["layer", "forward_s", "backward_activations_s", "backward_parameters_s", "bits"]
        >>> layers_of(pd.DataFrame([["block", 0.1, 0, 0.2, 1.6e9]], columns=columns))
        [Layer(forward_s=0.1, backward_activations_s=0.0, backward_parameters_s=0.2, bits=1600000000.0)]
    """
    names = [field.name for field in dataclasses.fields(Layer)]
    if sorted(set(costs.columns) - {"layer"}) != sorted(names):
        raise ValueError(
            f"costs must have the columns {', '.join(names)}, and if you like layer: "
            f"got {', '.join(map(str, costs.columns))}"
        )
    layers = []
    for number, row in enumerate(costs[names].itertuples(index=False)):
        try:
            layers.append(Layer(**dict(zip(names, map(float, row), strict=True))))
        except ValueError as error:
            raise ValueError(f"layer {number}: {error}") from None
    return layers


def fragments(layers: int, *, fragment_size: int = 3, pattern: str = "strided") -> list[tuple[int, ...]]:
    """The layers of each fragment, numbered from 0, [P]; P = ceil(L / fragment_size).

    If the size does not divide L, the fragments differ by at most one layer, as `algorithms.fragments` cuts a model.

    Args:
        layers: L.
        fragment_size: layers in a fragment, at most.
        pattern: "strided": layer l belongs to fragment l mod P; "sequential": neighbours belong together.

    Raises:
        ValueError: a size outside 1 .. L, or an unknown pattern.

    Example:
        >>> fragments(7), fragments(6, pattern="sequential")
        ([(0, 3, 6), (1, 4), (2, 5)], [(0, 1, 2), (3, 4, 5)])
    """
    _known("pattern", pattern, PATTERNS)
    if not 1 <= fragment_size <= layers:
        raise ValueError(f"fragment_size must be from 1 to the number of layers, {layers}: got {fragment_size}")
    count = -(-layers // fragment_size)
    if pattern == "strided":
        return [tuple(range(p, layers, count)) for p in range(count)]
    return [tuple(range(layers * p // count, layers * (p + 1) // count)) for p in range(count)]


def schedule(parts: Sequence[tuple[int, ...]], *, period: int, delay: int = 0, rounds: int = ROUNDS) -> list[Exchange]:
    """The exchanges of fragments, each once a period, over some periods.

    Args:
        parts: layers of each fragment [P].
        period: H, steps between two exchanges of a fragment.
        delay: steps that begin between an exchange and the one that needs it; below the period, so that a fragment is
            on its way once at a time.
        rounds: periods.

    Raises:
        ValueError: the period is below 1, or the delay is negative or not below it.

    Example:
        >>> [(e.step, e.layers) for e in schedule([(0, 2), (1, 3)], period=6, rounds=1)]
        [(2, (1, 3)), (6, (0, 2))]
    """
    if period < 1:
        raise ValueError(f"period must be at least 1 step: got {period}")
    if not 0 <= delay < period:
        raise ValueError(f"delay must be at least 0 and below the period: got {delay} with period {period}")
    places = len(parts) + 1  # one is the embedding's
    apart = period // places
    offsets = [p * apart if apart else p * period // places for p in range(len(parts))]
    when = sorted(
        (number * period + (offset or period), p) for number in range(rounds) for p, offset in enumerate(offsets)
    )
    return [Exchange(step=step, layers=parts[p], delay=delay) for step, p in when]


def training(
    layers: Sequence[Layer],
    *,
    method: str,
    period: int = 100,
    fragment_size: int = 3,
    pattern: str = "strided",
    delay: int = 0,
) -> TrainingDag:
    """Two periods of a method on a model with any costs per layer.

    For any other schedule make a `TrainingDag` of your own exchanges.

    Args:
        layers: costs [L], first layer first.
        method: "data-parallel" (every layer at every step), "diloco" (every layer once a period) or "streaming".
        period: H [steps]; data-parallel has 1 and takes no notice of it.
        fragment_size, pattern: see `fragments`; of "streaming" only.
        delay: see `schedule`.

    Raises:
        ValueError: a name or number that is not allowed.

    Example:
        A head that is hardly computed but has nine tenths of the bits. At 9 Gbit/s its reduction just fits into the
        body's backward pass, so that 1/9 s of each step is waited for:

        >>> body = Layer(forward_s=1, backward_activations_s=0, backward_parameters_s=1, bits=1e9)
        >>> head = Layer(forward_s=0, backward_activations_s=0, backward_parameters_s=0, bits=9e9)
        >>> training([body, head], method="data-parallel").utilization([1, 9]).round(4)
        array([0.1818, 0.9474])
    """
    _known("method", method, METHODS)
    _known("pattern", pattern, PATTERNS)
    if method == "data-parallel":
        period = 1
    parts = [tuple(range(len(layers)))]
    if method == "streaming":
        parts = fragments(len(layers), fragment_size=fragment_size, pattern=pattern)
    exchanges = schedule(parts, period=period, delay=delay)
    return TrainingDag(layers=layers, exchanges=exchanges, steps=ROUNDS * period)


def _known(what: str, name: str, allowed: Sequence[str]) -> None:
    if name not in allowed:
        raise ValueError(f"{what} must be one of {', '.join(allowed)}: got {name!r}")
