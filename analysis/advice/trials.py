"""Which learning rates to try."""

from __future__ import annotations

import math
from collections.abc import Mapping

FACTOR = 3.0
"""Between learning rates that are tried."""


def following(at_s: Mapping[tuple[str, int], float], trials: int) -> list[tuple[str, int]]:
    """What to try next: beyond an end of what was tried, where that end is the best.

    Args:
        at_s: (label, k) -> time to the target with the learning rate times FACTOR^k; infinite if not reached.
        trials: most tries of a label.

    Source: pattern search.

    Example:
        >>> following({("a", -1): 3.0, ("a", 0): 2.0, ("a", 1): 1.0, ("b", -1): 2.0, ("b", 0): 1.0, ("b", 1): 2.0}, 4)
        [('a', 2)]
    """
    found = []
    for name in dict.fromkeys(name for name, _ in at_s):
        tried = {k: seconds for (of, k), seconds in at_s.items() if of == name}
        best = min(tried, key=lambda k: (tried[k], abs(k)))
        if len(tried) < trials and math.isfinite(tried[best]) and best in (min(tried), max(tried)):
            found.append((name, best + (1 if best == max(tried) else -1)))
    return found
