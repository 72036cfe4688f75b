"""The lines that ReFrame's Horovod check looks for (hpctestlib.ml.pytorch.horovod), as Horovod's own benchmark prints.

    Model: digits-mlp
    Batch size: 32
    Number of GPUs: 4
    Img/sec per GPU: 24035.1 +-812.3
    Total img/sec on 4 GPU(s): 96140.5 +-3249.2

An "Img" is a sample of whatever kind. Horovod's +- is 1.96 standard deviations over iterations; here it is over runs
with different seeds, and nan for a single run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd


def lines(cell: Mapping[str, Any], runs: pd.DataFrame, word: str | None = None) -> list[str]:
    """The lines of one cell.

    Args:
        runs: the cell's completed runs, with `samples_per_s`.
        word: what a rank is called, GPU or CPU; None: what it computed on.
    """
    workers = int(cell["workers"])
    total = float(runs["samples_per_s"].mean())
    spread = 1.96 * float(runs["samples_per_s"].std())  # of one run there is none
    word = word or ("CPU" if str(runs["device"].iloc[0]).startswith("cpu") else "GPU")
    return [
        f"Model: {cell['workload']}",
        f"Batch size: {int(runs['batch_size'].iloc[0])}",
        f"Number of {word}s: {workers}",
        f"Img/sec per {word}: {_number(total / workers)} +-{_number(spread / workers)}",
        f"Total img/sec on {workers} {word}(s): {_number(total)} +-{_number(spread)}",
    ]


def _number(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.4f}"
