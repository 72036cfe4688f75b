"""The IDX format of MNIST and Fashion-MNIST: two zero bytes, a type, the number of axes, their lengths, the values.

Source: LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (the page's section on file formats).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from bench.data.files import DataError

UBYTE = 8  # the type code of unsigned bytes
CLASSES = 10


def _ubytes(raw: bytes, axes: int, where: str) -> NDArray[np.uint8]:
    magic = bytes((0, 0, UBYTE, axes))
    if raw[:4] != magic:
        raise DataError(
            f"{where}: not an IDX file of unsigned bytes with {axes} axes: got magic number {raw[:4].hex() or 'none'}, "
            f"expected {magic.hex()}"
        )
    start = 4 + 4 * axes
    if len(raw) < start:
        raise DataError(f"{where}: torn in its header: got {len(raw)} bytes, expected at least {start}")
    shape = tuple(int(n) for n in np.frombuffer(raw, ">u4", axes, 4))
    if 0 in shape:
        raise DataError(f"{where}: an axis of length 0: got the shape {shape}")
    if len(raw) != start + math.prod(shape):
        raise DataError(
            f"{where}: got {len(raw)} bytes, but the shape {shape} in its header needs {start + math.prod(shape)}"
        )
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def images(raw: bytes, where: str) -> NDArray[np.uint8]:
    """Images [N, rows, columns], 0 to 255, read-only.

    Args:
        raw: the unpacked file.
        where: its name, for messages.

    Raises:
        DataError: another magic number, or a length that does not fit the header.
    """
    return _ubytes(raw, 3, where)


def labels(raw: bytes, where: str) -> NDArray[np.int64]:
    """Labels [N], 0 to 9.

    Args:
        raw: the unpacked file.
        where: its name, for messages.

    Raises:
        DataError: another magic number, a length that does not fit the header, or a label above 9.
    """
    found = _ubytes(raw, 1, where)
    if found.max() >= CLASSES:
        bad = int(np.argmax(found >= CLASSES))
        raise DataError(f"{where}: label {bad} is {found[bad]}, allowed are 0 to {CLASSES - 1}")
    return found.astype(np.int64)
