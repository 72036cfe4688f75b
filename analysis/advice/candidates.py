"""The algorithms that are compared where the user names none, with what their papers recommend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

MOST_MOMENTUM = 0.99


def candidates(optimizer: Mapping[str, Any], workers: int) -> list[dict[str, Any]]:
    """Entries of a study's [[algorithm]], one way of training each.

    All take the workload's own optimiser on the workers, so that they differ in how they communicate and in nothing
    else. Only a parameter server cannot: asynchrony brings a momentum of 1 - 1/n of its own, so the explicit one is
    what is left of the workload's. It applies n gradients where the others apply their mean: as large a step in the
    long run has the learning rate r / (1 - m) / n, and r / (1 - m) is what one worker alone would bear; it begins
    half way, on a logarithm.

    Args:
        optimizer: the workload's, as in a study file.
        workers: n.

    Source: periods and rates from the papers of the algorithms (Douillard et al. 2023 and 2025, arXiv 2311.08105 and
        2501.18512; Zhang, Choromanska, LeCun 2015, arXiv 1412.6651; Lian et al. 2017 and 2018, arXiv 1705.09056 and
        1710.06952; Assran et al. 2019, arXiv 1811.10792; Lin et al. 2020, arXiv 1808.07217); DiLoCo's period shortened
        to its default here, for runs of some thousand steps. Momentum of a parameter server: Mitliagkas et al. 2016,
        arXiv 1605.09774.

    Example:
        >>> server = candidates({"name": "momentum", "lr": 0.03, "momentum": 0.9}, workers=4)[-1]
        >>> server["name"], round(server["momentum"], 9), round(server["optimizer"]["lr"], 9)
        ('async-sgd', 0.15, 0.15)
    """
    found: list[dict[str, Any]] = [
        {"name": "allreduce-sgd"},
        {"name": "local-sgd", "period": 8},
        {"name": "diloco"},
        {"name": "streaming-diloco"},
        {"name": "d-psgd", "topology": "ring"},
        {"name": "sgp"},
        {"name": "ad-psgd", "topology": "ring", "overlap": True},
        {"name": "dsgd-aau"},
        {"name": "easgd"},
    ]
    if optimizer["name"] in ("sgd", "momentum", "nesterov"):
        momentum = 0.0 if optimizer["name"] == "sgd" else min(optimizer.get("momentum", 0.9), MOST_MOMENTUM)
        own = {key: value for key, value in optimizer.items() if key not in ("name", "momentum", "lr")}
        found.append(
            {
                "name": "async-sgd",
                "momentum": max(0.0, momentum - (1 - 1 / workers)),
                "optimizer": {"name": "sgd", "lr": optimizer["lr"] / (1 - momentum) / math.sqrt(workers), **own},
            }
        )
    return found
