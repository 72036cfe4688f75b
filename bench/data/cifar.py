"""The "binary version" of CIFAR-10: records of one label byte and 3072 pixel bytes, channels first.

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, and the data set's page.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.files import DataError

CLASSES, SHAPE = 10, (3, 32, 32)
RECORD = 1 + 3 * 32 * 32


def batch(raw: bytes, where: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images [N, 3, 32, 32] (red, green, blue; 0 to 255) and labels [N], 0 to 9.

    Args:
        raw: the unpacked file.
        where: its name, for messages.

    Raises:
        DataError: no whole number of records, or a label above 9.
    """
    if not raw or len(raw) % RECORD:
        raise DataError(
            f"{where}: got {len(raw)} bytes, expected one or more whole records of {RECORD} (a label, 3x32x32 pixels)"
        )
    records = np.frombuffer(raw, np.uint8).reshape(-1, RECORD)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        bad = int(np.argmax(labels >= CLASSES))
        raise DataError(f"{where}: the label of record {bad} is {labels[bad]}, allowed are 0 to {CLASSES - 1}")
    return np.ascontiguousarray(records[:, 1:]).reshape(-1, *SHAPE), labels.astype(np.int64)
