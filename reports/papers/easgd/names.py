"""The algorithms' names in the figures of this paper, and how each is drawn."""

from __future__ import annotations

from reports.style import LOOKS as ALL
from reports.style import looks

ORDER = (
    "easgd", "eamsgd", "downpour", "mdownpour", "adownpour", "mvadownpour", "sgd", "msgd", "asgd", "mvasgd",
)  # fmt: skip
"""In the order of the key."""

LOOKS = looks([(name, name) for name in ORDER if "sgd" not in name or name in ("easgd", "eamsgd")]) | {
    # One worker each: they are never drawn beside the others.
    "sgd": ALL[0],
    "msgd": ALL[1],
    "asgd": ALL[2],
    "mvasgd": ALL[5],
}


def name(algorithm: str) -> str:
    """As the paper writes it."""
    return algorithm.upper()
