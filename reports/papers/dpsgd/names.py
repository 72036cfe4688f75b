"""The algorithms' names in the figures of this paper, and how each is drawn."""

from __future__ import annotations

from reports.style import looks

NAMES = {
    "ssgd": "SSGD",
    "dpsgd-own": "DPSGD",
    "dpsgd": "DPSGD, one start",
    "ssgd-star": "SSGD*",
    "ad-psgd": "AD-PSGD",
    "lamb": "LAMB",
    "adamw": "AdamW",
}
"""Label in the studies -> name, in the order of the key; what stands inside a figure is English everywhere."""

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
