"""New rows of probes as lines of text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

Row = Mapping[str, Any]

NOISE_LEGEND = (
    "alpha_e / lr: part of the learning rate that goes down the overall slope; control: the same for synchronous SGD "
    "at the mean model, 1 up to sampling noise; Delta: squared length of what goes across it"
)


def sheet(probe: str, rows: Sequence[Row]) -> list[str]:
    """What a probe found, one line per snapshot and model."""
    return {"noise": _noise}[probe](rows)


def _noise(rows: Sequence[Row]) -> list[str]:
    table = pd.DataFrame(
        {
            "run": [row["run_id"] for row in rows],
            "t [s]": [f"{row['t_s']:.3g}" for row in rows],
            "step": [f"{row['step']:.0f}" for row in rows],
            "lr": [f"{row['lr']:.4g}" for row in rows],
            "alpha_e / lr": [_ratio(row["alpha_e"], row["lr"]) for row in rows],
            "control": [_ratio(row["alpha_e_control"], row["lr"]) for row in rows],
            "Delta": [f"{row['noise']:.3g}" for row in rows],
            "Delta_S": [f"{row['noise_sampling']:.3g}" for row in rows],
            "Delta^(2)": [f"{row['noise_diversity']:.3g}" for row in rows],
            "sigma_w^2": [f"{row['replica_variance']:.3g}" for row in rows],
            "noise scale": [f"{row['noise_scale']:.3g}" for row in rows],
        }
    )
    return [*_lines(table), NOISE_LEGEND]


def _ratio(a: float, b: float) -> str:
    return f"{a / b:.3f}" if b else "-"


def _lines(table: pd.DataFrame) -> list[str]:
    text: str = table.to_string(index=False)
    return text.splitlines()
