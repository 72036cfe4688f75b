"""Small files of each format, made by hand, with what their readers must find in them."""

from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.data import cifar, idx, svmlight, wav, words
from bench.data.files import DataFile

RNG = np.random.default_rng(20)


def idx_images(pixels: np.ndarray) -> bytes:
    return struct.pack(">I3I", 0x0803, *pixels.shape) + pixels.tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    return struct.pack(">2I", 0x0801, len(labels)) + labels.astype(np.uint8).tobytes()


def cifar_batch(pixels: np.ndarray, labels: np.ndarray) -> bytes:
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(pixels, labels, strict=True))


def wave(samples: np.ndarray, rate: int = 8000, extra: bytes = b"") -> bytes:
    data = samples.astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    body = b"WAVEfmt " + struct.pack("<I", len(form)) + form + extra + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tar(members: Mapping[str, bytes] | list[tuple[str, bytes]], mtime: int = 0) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), mtime
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def data_file(name: str, raw: bytes) -> DataFile:
    """The catalogue's entry of a file with this content."""
    return DataFile(name=name, size=len(raw), digests=(f"sha256:{hashlib.sha256(raw).hexdigest()}",))


PIXELS = RNG.integers(0, 256, (6, 5, 4), np.uint8)
LABELS = RNG.integers(0, 10, 37)
COLOURS, CLASSES = RNG.integers(0, 256, (3, 3, 32, 32), np.uint8), np.array([0, 9, 4])
TEXT = " \n = Valkyria = \n \n The naïve <unk> , 3 @.@ 5 \xa0 x ! \n = Valkyria = \n"
TONE = RNG.integers(-(2**15), 2**15, 50).astype(np.int16)
SVM = b"-1 3:1 11:1 14:0.5 \n+1 1:1 2:-2e-1 20:1 \n-1 \n+1 20:3\n"


@dataclass(frozen=True)
class Sample:
    """A file, the function that reads it, and what it must return as a list of arrays."""

    name: str
    raw: bytes
    read: Callable[[bytes, str], list[Any]]
    arrays: list[Any]
    header: int  # bytes at its start that are not data

    def equals(self, got: list[Any]) -> bool:
        return all(
            np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype
            for a, b in zip(got, self.arrays, strict=True)
        )


SVM_DENSE = np.zeros((4, 20), np.float32)
SVM_DENSE[0, [2, 10, 13]], SVM_DENSE[1, [0, 1, 19]], SVM_DENSE[3, 19] = (1, 1, 0.5), (1, -0.2, 1), 3

SAMPLES = {
    sample.name: sample
    for sample in (
        Sample("idx-images", idx_images(PIXELS), lambda raw, at: [idx.images(raw, at)], [PIXELS], 16),
        Sample("idx-labels", idx_labels(LABELS), lambda raw, at: [idx.labels(raw, at)], [LABELS], 8),
        Sample("cifar", cifar_batch(COLOURS, CLASSES), lambda raw, at: [*cifar.batch(raw, at)], [COLOURS, CLASSES], 1),
        Sample(
            "words",
            TEXT.encode(),
            lambda raw, at: [words.words(raw, at)],
            [[w.encode() for line in TEXT.split("\n")[:-1] for w in (*filter(None, line.split(" ")), "<eos>")]],
            4,
        ),
        Sample("wav", wave(TONE), lambda raw, at: [wav.samples(raw, at)], [TONE], 44),
        Sample(
            "svmlight", SVM, lambda raw, at: [*svmlight.rows(raw, at, 20)],
            [SVM_DENSE, np.array([-1.0, 1.0, -1.0, 1.0])], 4,
        ),
    )
}  # fmt: skip
