"""Recordings as RIFF/WAVE files of 16-bit mono PCM, and the set of spoken digits made of them.

Read here, not by the standard library's `wave`, which accepts a header that announces more samples than follow.

Source: IBM and Microsoft, "Multimedia Programming Interface and Data Specifications 1.0", 1991, chapters 2 and 3;
Jackson et al., Free Spoken Digit Dataset.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.data.files import DataError

PCM, BYTES = 1, 2  # format code; bytes per sample
RATE = 8000  # samples per second
NAME = re.compile(r"([0-9])_([a-z]+)_(0|[1-9][0-9]*)\.wav")


def samples(raw: bytes, where: str, rate: int = RATE) -> NDArray[np.int16]:
    """The samples [n] of one recording, read-only.

    Chunks other than "fmt " and "data" are passed over.

    Args:
        raw: the file.
        where: its name, for messages.
        rate: expected samples per second.

    Raises:
        DataError: no RIFF/WAVE file, another format, or sizes in its headers that do not fit its length.
    """
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        raise DataError(f"{where}: not a RIFF/WAVE file: it starts with {raw[:12]!r}")
    announced = 8 + struct.unpack_from("<I", raw, 4)[0]
    if announced != len(raw):
        raise DataError(f"{where}: got {len(raw)} bytes, but its header announces {announced}")
    form: bytes | None = None
    data: bytes | None = None
    at = 12
    while at < len(raw):
        if len(raw) < at + 8:
            raise DataError(f"{where}: {len(raw) - at} bytes follow the last chunk")
        name, size = struct.unpack_from("<4sI", raw, at)
        end = at + 8 + size
        if not (name.isascii() and name.decode("ascii").isprintable()) or end + size % 2 > len(raw):
            raise DataError(
                f"{where}: a bad chunk at byte {at}: {name!r} of {size} bytes, {len(raw) - at - 8} are left"
            )
        if name in (b"fmt ", b"data") and (form if name == b"fmt " else data) is not None:
            raise DataError(f"{where}: two chunks {name.decode()!r}")
        if name == b"fmt ":
            form = raw[at + 8 : end]
        elif name == b"data":
            if form is None:
                raise DataError(f"{where}: its samples come before their format")
            data = raw[at + 8 : end]
        at = end + size % 2
    if form is None or data is None:
        raise DataError(f"{where}: no chunk {'fmt ' if form is None else 'data'!r}")
    expected = struct.pack("<HHIIHH", PCM, 1, rate, rate * BYTES, BYTES, 8 * BYTES)
    if form != expected:
        got = struct.unpack("<HHIIHH", form) if len(form) == len(expected) else f"{len(form)} bytes"
        raise DataError(
            f"{where}: expected PCM, 1 channel, {rate} Hz, 16 bits {struct.unpack('<HHIIHH', expected)}, got {got}"
        )
    if not data or len(data) % BYTES:
        raise DataError(f"{where}: {len(data)} bytes of samples, expected a positive multiple of {BYTES}")
    return np.frombuffer(data, "<i2").astype(np.int16, copy=False)


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording: the digit 0 to 9, who says it, the how manieth of this speaker and digit it is, samples [n]."""

    digit: int
    speaker: str
    index: int
    samples: NDArray[np.int16]


def recordings(members: Mapping[str, bytes], where: str) -> list[Recording]:
    """All recordings of the spoken digits, sorted by (index, digit, speaker).

    Args:
        members: files by name, DIGIT_SPEAKER_INDEX.wav.
        where: name of their folder or archive, for messages.

    Raises:
        DataError: a wrong name, a damaged file, or a digit, speaker or index that is missing.
    """
    found = []
    for name, raw in members.items():
        match = NAME.fullmatch(name)
        if match is None:
            raise DataError(f"{where}: a file {name!r}, expected names such as 7_jackson_32.wav")
        found.append(Recording(int(match[1]), match[2], int(match[3]), samples(raw, f"{where}: {name}")))
    if not found:
        raise DataError(f"{where}: no recordings, expected files such as 7_jackson_32.wav")
    there = {(r.speaker, r.digit, r.index) for r in found}
    for speaker in sorted({r.speaker for r in found}):
        for digit in range(10):
            for index in range(1 + max(r.index for r in found)):
                if (speaker, digit, index) not in there:
                    raise DataError(f"{where}: {digit}_{speaker}_{index}.wav is missing")
    return sorted(found, key=lambda r: (r.index, r.digit, r.speaker))
