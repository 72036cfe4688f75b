"""The algorithms' names in the figures of this paper, and how each is drawn."""

from __future__ import annotations

from reports.language import noted
from reports.style import looks

NAMES = {
    "ssgd": "SSGD",
    "dpsgd-own": "DPSGD",
    "dpsgd": noted("DPSGD, one start"),
    "ssgd-star": "SSGD*",
    "ad-psgd": "AD-PSGD",
    "lamb": "LAMB",
    "adamw": "AdamW",
}
"""Label in the studies -> name; in the order of the key."""

LOOKS = looks(
    [
        ("ssgd", "allreduce-sgd"),
        ("dpsgd-own", "d-psgd"),
        ("ad-psgd", "ad-psgd"),
        ("dpsgd", "other"),
        ("ssgd-star", "other"),
        ("lamb", "other"),
        ("adamw", "other"),
    ]
)
