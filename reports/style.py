"""One look for an algorithm, the same in every figure and table of every report: colour, line, marker."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from reports.language import noted


@dataclass(frozen=True)
class Look:
    """How an algorithm is drawn.

    Attributes:
        number: names the CSS variable `--aN` that holds the colour.
        light: colour on white; contrast at least 4.5, so that text may wear it too.
        dark: colour on the dark background.
        dash: matplotlib line style; differs, so that colour is never the only channel.
        svg_dash: the same for the key in HTML.
        marker: matplotlib marker at the end of the line.
    """

    number: int
    light: str
    dark: str
    dash: Any
    svg_dash: str
    marker: str


LOOKS = (
    Look(0, "#5a5f66", "#aab1bb", (0, (4, 2)), "8 4", "s"),
    Look(1, "#0063b8", "#62aef5", "-", "", "o"),
    Look(2, "#c24a00", "#ff9355", "-", "", "^"),
    Look(3, "#007a55", "#3ccb9f", (0, (7, 1.5)), "14 3", "D"),
    Look(4, "#9c3587", "#ea97d6", (0, (6, 1.5, 1.5, 1.5)), "12 3 3 3", "v"),
    Look(5, "#866000", "#e2b647", (0, (2, 1)), "4 2", "P"),
    Look(6, "#007b90", "#50cbe0", "-", "", "X"),
    Look(7, "#b0103c", "#ff7f9c", (0, (1, 1)), "2 2", "*"),
    Look(8, "#473bb3", "#aaa1ff", (0, (7, 1.5)), "14 3", "<"),
    Look(9, "#586800", "#b9cb4d", (0, (6, 1.5, 1.5, 1.5)), "12 3 3 3", ">"),
)

# Fixed, so that last month's report and today's can be laid side by side. The baseline is neutral.
OWN = {
    "allreduce-sgd": 0,
    "d-psgd": 1,
    "ad-psgd": 2,
    "easgd": 3,
    "local-sgd": 4,
    "diloco": 5,
    "streaming-diloco": 6,
    "downpour": 7,
    "async-sgd": 8,
    "dsgd-aau": 9,
}


def looks(algorithms: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """Label -> look. An algorithm's plainest label gets the algorithm's own look, all others the next free one.

    When all colours are taken they come again with another line and marker.

    Args:
        algorithms: (label, algorithm) pairs.

    Example:
        >>> given = looks([("easgd", "easgd"), ("easgd tau=4", "easgd"), ("allreduce-sgd", "allreduce-sgd")])
        >>> {label: look.number for label, look in given.items()}
        {'allreduce-sgd': 0, 'easgd': 3, 'easgd tau=4': 1}
    """
    pairs = sorted(set(algorithms), key=lambda pair: (pair[0] != pair[1], pair))
    taken: dict[str, int] = {}
    for label, algorithm in pairs:
        number = OWN.get(algorithm)
        if number is not None and number not in taken.values():
            taken[label] = number
    given = {label: LOOKS[number] for label, number in taken.items()}
    free = [look for look in LOOKS[1:] if look.number not in taken.values()]  # the neutral one is the baseline's alone
    others = [label for label, _ in pairs if label not in taken]
    for i, label in enumerate(others):
        again = i - len(free)
        if again < 0:
            given[label] = free[i]
        else:
            colour, line = LOOKS[1 + again % 9], LOOKS[(4 + again + again // 9) % 10]
            given[label] = replace(colour, dash=line.dash, svg_dash=line.svg_dash, marker=line.marker)
    return dict(sorted(given.items()))


# Where the time went: (column of analysis.timing.time_split, words, fill, hatch, colour of numbers on it).
# Computing is dark and calm, waiting is warm and hatched, so that it shows in grey print too.
PARTS = (
    ("gradient_s", noted("computing gradients"), "#2f6690", "", "#ffffff"),
    ("exposed_straggler_s", noted("waiting for slower workers"), "#f2a541", "//", "#101014"),
    ("exposed_transfer_s", noted("waiting for data or an answer"), "#e4572e", "\\\\", "#101014"),
    ("serve_s", noted("answering others"), "#7fb7a3", "--", "#101014"),
    ("apply_s", noted("applying updates"), "#17a398", "", "#101014"),
    ("idle_s", noted("idle (server)"), "#ccd2da", "", "#101014"),
    ("finished_s", noted("done, others still at work"), "#e6e9ee", "", "#101014"),
    ("other_s", noted("other (data, harness, sharing cores)"), "#99a3b0", "", "#101014"),
)
