"""What the papers print: numbers that rules compare with."""

from __future__ import annotations

from typing import Any

from bench.workloads.sized_model import PRESETS

MODELS: dict[str, dict[str, float]] = {
    name.removeprefix("gpt-"): {"parameters": p.parameters, "layers": p.layers, "step_time_s": p.step_s}
    for name, p in PRESETS.items()
    if name.startswith("gpt-")
}
"""The paper's models of equal layers; step times are within the rounding of what its table 4 prints."""

PRINTED_STEP_S = {"1B": 0.1, "10B": 0.8, "100B": 4.9}
"""Step times as table 4 prints them [s]."""

METHODS: dict[str, dict[str, Any]] = {
    "data-parallel": {"method": "data-parallel"},
    "diloco": {"method": "diloco"},
    "streaming": {"method": "streaming"},
    "overlapped": {"method": "streaming", "delay": 1},
    "overlapped FP4": {"method": "streaming", "delay": 1, "bits": 4},
}
"""Methods at H = 100, each meant to need less bandwidth than the one before."""

# arXiv 2501.18512, table 4: Gbit/s for a compute utilisation of 50, 80, 90, 95 and 99 %. Its rows for 10B were not at
# hand.
TABLE_4: dict[tuple[str, str], tuple[float, ...]] = {
    ("1B", "data-parallel"): (86.8, 152.6, 184.2, 222.3, 569.0),
    ("1B", "diloco"): (1.4, 6.2, 13.3, 23.3, 86.8),
    ("1B", "streaming"): (1.4, 5.2, 9.1, 16.0, 28.1),
    ("1B", "overlapped"): (1.4, 4.3, 6.2, 9.1, 11.0),
    ("1B", "overlapped FP4"): (0.4, 0.9, 1.7, 2.0, 3.0),
    ("100B", "data-parallel"): (184.2, 323.8, 390.7, 390.7, 471.5),
    ("100B", "diloco"): (3.0, 11.0, 23.3, 49.4, 184.2),
    ("100B", "streaming"): (2.4, 6.2, 9.1, 11.0, 19.3),
    ("100B", "overlapped"): (1.7, 3.6, 4.3, 5.2, 5.2),
    ("100B", "overlapped FP4"): (0.5, 0.9, 1.1, 1.1, 1.4),
}

# arXiv 2503.09799, table 4: loss of DiLoCo over that of data-parallel training [%], by replicas, H = 30, 35M parameters
GAP_BY_REPLICAS = {1: -0.1, 2: 0.7, 4: 2.0, 8: 3.9}
