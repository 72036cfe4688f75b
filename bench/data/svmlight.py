"""The sparse text format of SVMlight and LIBSVM: a label, then index:value with ascending indices from 1, a row a line.

Source: Joachims, "Making large-scale SVM learning practical", 1999 (SVMlight's file format); Chang and Lin, LIBSVM.
"""

from __future__ import annotations

import math
import re

import numpy as np
from numpy.typing import NDArray

from bench.data.files import DataError

NUMBER = re.compile(rb"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,4})?")
LARGEST = float(np.finfo(np.float32).max)
INDEX = re.compile(rb"[1-9][0-9]{0,8}")


def rows(raw: bytes, where: str, features: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Dense features [N, features] and labels [N] as they stand in the file.

    Comments and query ids are not part of what is read here.

    Args:
        raw: the unpacked file.
        where: its name, for messages.
        features: the largest index allowed.

    Raises:
        DataError: empty, torn within a line, or a line that is not of this format (the message has its number).
    """
    if not raw:
        raise DataError(f"{where}: empty, expected lines such as '+1 3:1 11:1'")
    if not raw.endswith(b"\n"):
        raise DataError(f"{where}: torn: its last line has no end (the last bytes are {raw[-12:]!r})")
    lines = raw[:-1].split(b"\n")
    dense = np.zeros((len(lines), features), np.float32)
    labels = np.empty(len(lines))
    entries: dict[bytes, tuple[int, float]] = {}  # few different ones: each is parsed once
    at: list[int] = []
    values: list[float] = []
    for n, line in enumerate(lines):
        label, *fields = line.removesuffix(b" ").split(b" ")
        labels[n] = _number(label, "label", where, n)
        last = 0
        for field in fields:
            entry = entries.get(field)
            if entry is None:
                entry = entries[field] = _entry(field, features, where, n)
            index, value = entry
            if index <= last:
                raise DataError(f"{where}: line {n + 1}: index {index} follows {last}, indices must ascend")
            at.append(n * features + index - 1)
            values.append(value)
            last = index
    dense.reshape(-1)[at] = values
    return dense, labels


def _entry(field: bytes, features: int, where: str, n: int) -> tuple[int, float]:
    index, colon, value = field.partition(b":")
    if not colon or not INDEX.fullmatch(index) or int(index) > features:
        raise DataError(f"{where}: line {n + 1}: got {field!r}, expected index:value with an index of 1 to {features}")
    return int(index), _number(value, "value", where, n)


def _number(text: bytes, what: str, where: str, n: int) -> float:
    number = float(text) if NUMBER.fullmatch(text) else math.nan
    if not abs(number) <= LARGEST:  # false for what is no number, too
        raise DataError(f"{where}: line {n + 1}: got the {what} {text!r}, expected a number that float32 can hold")
    return number
