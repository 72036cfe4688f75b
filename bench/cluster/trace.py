"""A file of measured gradient times."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np


def read_trace(path: str) -> np.ndarray:
    """The times in the file, in its order [s], float64 [T].

    One time a line; empty lines and what follows a # are skipped.

    Raises:
        ValueError: the file cannot be read, has no time, or has a line that is none.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file"
        raise ValueError(f"cannot read trace {path}: {reason} (a time in seconds a line is wanted)") from error
    times = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            time_s = float(text)
        except ValueError:
            time_s = math.nan
        if not 0 < time_s < math.inf:
            raise ValueError(f"trace {path}, line {number}: expected a time > 0 in seconds, got {text[:40]!r}")
        times.append(time_s)
    if not times:
        raise ValueError(f"trace {path} has no times: got {len(lines)} lines (a time in seconds a line is wanted)")
    return np.array(times)


def digest_of(times_s: np.ndarray) -> str:
    """sha256 of times [T], 16 hexadecimal digits; over the numbers, so that spelling is free."""
    return hashlib.sha256(times_s.tobytes()).hexdigest()[:16]
