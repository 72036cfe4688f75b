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
    return {"noise": _noise, "landscape": _landscape, "hessian": _hessian}[probe](rows)


HESSIAN_LEGEND = (
    "largest eigenvalues, the smallest, and the trace with its standard error [nat per squared unit of a parameter]; "
    "residual: the largest |Hv - lv|, with * if not converged; lr 2/l: the largest learning rate at which gradient "
    "descent is stable"
)


def _hessian(rows: Sequence[Row]) -> list[str]:
    table = pd.DataFrame([row for row in rows if row["table"] == "probe-curvature"])
    lines = []
    for (run_id, snapshot, model), group in table.groupby(["run_id", "snapshot", "model"], sort=False):
        of = {str(name): part.sort_values("number") for name, part in group.groupby("quantity")}
        largest, trace = of["eigenvalue"], of["trace"].iloc[0]
        smallest = of.get("smallest eigenvalue")
        top = float(largest["value"].iloc[0])
        lines.append(
            {
                "run": run_id,
                "snapshot": snapshot,
                "model": model,
                "matrix": group["kind"].iloc[0],
                "largest": " ".join(f"{value:.4g}" for value in largest["value"]),
                "smallest": "-" if smallest is None else f"{smallest['value'].iloc[0]:.4g}",
                "residual": f"{largest['error'].max():.1e}" + "*" * ("not converged" in largest["method"].iloc[0]),
                "trace": f"{trace['value']:.4g} +- {trace['error']:.2g}",
                "lr 2/l": f"{2 / top:.3g}" if top > 0 else "-",
                "loss": f"{of['loss']['value'].iloc[0]:.4g}",
                "|gradient|": f"{of['gradient_norm']['value'].iloc[0]:.3g}",
                "products": group["products"].iloc[0],
            }
        )
    return [*_lines(pd.DataFrame(lines)), HESSIAN_LEGEND]


LANDSCAPE_LEGEND = (
    "sharpness: how much worse the loss gets within the ball (a lower bound); adaptive: in the model's own scale; "
    "index: curvature [1 / learning rate]; averaging: mean loss of the workers minus that of their mean; barrier: the "
    "highest between two workers; plane: lowest and highest loss on it"
)


def _landscape(rows: Sequence[Row]) -> list[str]:
    table = pd.DataFrame(rows)
    lines = []
    for (run_id, snapshot), group in table.groupby(["run_id", "snapshot"], sort=False):
        of = {name: part for name, part in group.groupby("table")}
        line = {"run": run_id, "snapshot": snapshot, "t [s]": f"{group['t_s'].iloc[0]:.3g}"}
        numbers = of.get("probe-curvature")
        values = {} if numbers is None else dict(zip(numbers["quantity"], numbers["value"], strict=True))
        for name, title in SHARPNESS.items():
            line[title] = f"{values[name]:.3g}" if name in values else "-"
        workers = of.get("probe-workers")
        if workers is not None:
            mean = workers[workers["b"] == "mean"]
            line["averaging"] = f"{(mean['loss_a'] - mean['loss_b']).mean():.3g}"
            line["barrier"] = f"{workers[workers['b'] != 'mean']['barrier'].max():.3g}"
        places = of.get("probe-landscape")
        if places is not None and len(plane := places[places["curve"] == "plane"]):
            line["plane"] = f"{plane['loss'].min():.3g} .. {plane['loss'].max():.3g}"
        lines.append(line)
    return [*_lines(pd.DataFrame(lines).fillna("-")), LANDSCAPE_LEGEND]


SHARPNESS = {
    "loss": "loss",
    "sharpness": "sharpness",
    "adaptive_sharpness": "adaptive",
    "expected_sharpness": "expected",
    "landscape_index": "index",
}
"""Quantity -> title of its column."""


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
