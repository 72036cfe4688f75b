"""By what the section on other networks ranks algorithms, its numbers as text, and what its script writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports import words
from reports.language import noted, t


@dataclass(frozen=True)
class Criterion:
    """A number by which algorithms are ranked.

    Attributes:
        name: column of `analysis.network_grid.network_grid`.
        lower: whether less is better.
        first: sentence about the best one, with {name} and {value}.
    """

    name: str
    heading: str
    unit: str
    lower: bool
    first: str
    text: Callable[[float], str] | None = None


CRITERIA = {
    one.name: one
    for one in (
        Criterion("time_to_target_s", noted("Time to the target"), "s", True,
                  noted("{name} reaches the target first, after {value}.")),
        Criterion("final_heldout_loss", noted("Held-out loss at the end"), "nat", True,
                  noted("{name} ends with the lowest held-out loss, {value}."), lambda v: words.number(v, 4)),
        Criterion("wire_nbytes_to_target", noted("On the wire to the target"), "B", True,
                  noted("{name} reaches the target with the fewest bytes, {value}."), words.nbytes),
        Criterion("samples_per_s", noted("Throughput"), "samples/s", False,
                  noted("{name} works through the most samples, {value}.")),
    )
}  # fmt: skip


def places(frame: pd.DataFrame, axis: str) -> list[float]:
    """Bandwidths or latencies that were simulated, ascending."""
    return sorted({float(value) for value in frame[axis]})


def ranked(rows: pd.DataFrame, criterion: Criterion) -> list[dict[str, Any]]:
    """Rows of one network from the best to the worst; those without a number, by name, at the end."""
    order = rows.sort_values(
        [criterion.name, "label"], ascending=[criterion.lower, True], na_position="last", kind="stable"
    )
    return [{str(name): value for name, value in row.items()} for row in order.to_dict("records")]


def gbit_text(gbit: float) -> str:
    """A bandwidth as text.

    Example:
        >>> gbit_text(0.1).split()
        ['0.1', 'Gbit/s']
    """
    return f"{float(words.number(gbit).replace(',', '')):g}\u00a0Gbit/s"


def latency_text(seconds: float) -> str:
    """A latency as text.

    Example:
        >>> [latency_text(value).split() for value in (0.0, 1e-5, 0.002, 1.5)]
        [['0', 's'], ['10', 'µs'], ['2', 'ms'], ['1.5', 's']]
    """
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= 0.9995 * scale:
            return f"{seconds / scale:.3g}\u00a0{unit}"
    return f"{seconds / 1e-6:.3g}\u00a0µs" if seconds else "0\u00a0s"


def script_texts() -> dict[str, str]:
    """What the script writes, with its placeholders."""
    return {
        "valuetext": t("{bandwidth}, {latency}"),
        "simulated": t("Simulated at {bandwidth} and {latency}."),
        "interpolated": t("Interpolated at {bandwidth} and {latency}, between what was simulated at {low} and {high}."),
        "next": t("{name} is next with {value}."),
        "none": t("No algorithm reaches the target here."),
        "not_reached": t("not reached"),
        "some_reached": t("reached in {n} of {runs} runs"),
        "neighbour": t("not reached at {bandwidth}"),
        "not_simulated": t("not simulated here"),
        "no_result": t("no result"),
        "to": t("{low} to {high}"),
        "algorithm": t("Algorithm"),
        "curves": t("Held-out loss [nat] against seconds, simulated at {bandwidth} and {latency}"),
        "curve": t("{name}: {loss} after {seconds} s"),
        "target": t("target"),
        "announce": t("{first} {state}"),
    }
