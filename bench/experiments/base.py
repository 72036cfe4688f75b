"""What an experiment is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.scales import Scale

__all__ = ["Experiment", "Rows", "Scale"]

Rows = list[dict[str, Any]]
Experiment = Callable[[Scale], Rows]
"""Makes a table, one mapping a row; deterministic."""
