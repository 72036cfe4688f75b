"""Published data sets as arrays, verified, each read once per process. The arrays are read-only: copy to change.

Every function raises DataError, one line with the remedy, where a file is missing or not as published.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.data import cifar, idx, svmlight, wav, words
from bench.data.archive import members_sha256
from bench.data.catalogue import dataset
from bench.data.files import DataError, data_dir, digest
from bench.data.wav import Recording

Split = Literal["train", "test"]
Array = TypeVar("Array", bound=NDArray[Any])
Images = tuple[NDArray[np.uint8], NDArray[np.int64]]

CIFAR10_BATCHES = 5
A9A_FEATURES = 123


def mnist(split: Split) -> Images:
    """MNIST: images [N, 28, 28] (0 background to 255 ink) and labels [N]; N = 60 000 of "train", 10 000 of "test"."""
    return _idx(data_dir(), "mnist", _known(split))


def fashion_mnist(split: Split) -> Images:
    """Fashion-MNIST: images [N, 28, 28] and labels [N]; N = 60 000 of "train", 10 000 of "test"."""
    return _idx(data_dir(), "fashion-mnist", _known(split))


def cifar10(split: Split, batches: int = CIFAR10_BATCHES) -> Images:
    """CIFAR-10: images [N, 3, 32, 32] (red, green, blue) and labels [N]; N = 10 000 of "test".

    Args:
        batches: "train" is data_batch_1 to this one, 10 000 images each; "test" does not look at it.
    """
    if not 1 <= batches <= CIFAR10_BATCHES:
        raise ValueError(f"batches must be 1 to {CIFAR10_BATCHES}: got {batches} (5 is the whole set)")
    return _cifar10(data_dir(), batches if _known(split) == "train" else 0)


def wikitext2() -> tuple[tuple[str, ...], Mapping[str, NDArray[np.int32]]]:
    """WikiText-2: the vocabulary [33 278] in the order of first appearance in the training text, and the ids [N] of
    "train" (N = 2 088 628), "valid" and "test"; "<eos>" ends each line."""
    return _wikitext2(data_dir())


def spoken_digits() -> tuple[Recording, ...]:
    """The 3 000 recordings of the Free Spoken Digit Dataset, sorted by (index, digit, speaker); 8000 samples a second.

    The publisher's test set is index 0 to 4.
    """
    return _spoken_digits(data_dir())


def a9a(split: Split) -> Images:
    """a9a: features [N, 123] (0 or 1) and labels [N] (1: the publisher's +1, 0: its -1); N = 32 561 or 16 281."""
    return _a9a(data_dir(), _known(split))


def sources(name: str, *files: str) -> str:
    """Which data these are, for a run's records: "mnist: train-images-idx3-ubyte sha256 ba891046e6505d7a, ...".

    The hashes are of the files' raw content as they lie here (first 16 hexadecimal digits).

    Args:
        name: of the data set.
        files: names of its files; none: all.
    """
    chosen = files or tuple(file.name for file in dataset(name).files)
    return f"{name}: " + ", ".join(f"{file} sha256 {_sha256(data_dir(), name, file)[:16]}" for file in chosen)


def forget() -> None:
    """Give back the memory of what was read; arrays that somebody holds stay."""
    for cached in (_idx, _cifar10, _wikitext2, _spoken_digits, _a9a):
        cached.cache_clear()


def _known(split: str) -> str:
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test': got {split!r}")
    return split


_HASHES: dict[tuple[Path, str, str], str] = {}  # sha256 of the content of what was read: folder, data set, file

# The folder is an argument of what is cached, so that another PACELINE_DATA is another data set.


@functools.cache
def _idx(root: Path, name: str, split: str) -> Images:
    stem = {"train": "train", "test": "t10k"}[split]
    images = idx.images(*_read(root, name, f"{stem}-images-idx3-ubyte"))
    labels = idx.labels(*_read(root, name, f"{stem}-labels-idx1-ubyte"))
    return _frozen(images), _frozen(labels)


@functools.cache
def _cifar10(root: Path, batches: int) -> Images:
    files = [f"data_batch_{n}.bin" for n in range(1, batches + 1)] or ["test_batch.bin"]
    parts = [cifar.batch(*_read(root, "cifar10", file)) for file in files]
    if len(parts) == 1:
        images, labels = parts[0]
    else:
        images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return _frozen(images), _frozen(labels)


@functools.cache
def _wikitext2(root: Path) -> tuple[tuple[str, ...], Mapping[str, NDArray[np.int32]]]:
    train, where = _read(root, "wikitext2", "train.txt")
    text = words.words(train, where)
    table = {word: n for n, word in enumerate(dict.fromkeys(text))}
    ids = {"train": np.fromiter(map(table.__getitem__, text), np.int32, len(text))}
    for split in ("valid", "test"):
        raw, where = _read(root, "wikitext2", f"{split}.txt")
        text = words.words(raw, where)
        try:
            ids[split] = np.fromiter(map(table.__getitem__, text), np.int32, len(text))
        except KeyError as error:
            raise DataError(
                f"wikitext2: {where}: the word {error.args[0].decode()!r} is not in the training text"
            ) from None
    return tuple(word.decode() for word in table), MappingProxyType({k: _frozen(v) for k, v in ids.items()})


@functools.cache
def _spoken_digits(root: Path) -> tuple[Recording, ...]:
    assert root == data_dir()
    members, where = dataset("fsdd").members("recordings")
    _HASHES[root, "fsdd", "recordings"] = members_sha256(members)
    found = wav.recordings(members, where)
    for recording in found:
        recording.samples.setflags(write=False)
    return tuple(found)


@functools.cache
def _a9a(root: Path, split: str) -> Images:
    raw, where = _read(root, "a9a", {"train": "a9a", "test": "a9a.t"}[split])
    values, signs = svmlight.rows(raw, where, A9A_FEATURES)
    if not np.isin(values, (0, 1)).all() or not np.isin(signs, (-1, 1)).all():
        raise DataError(f"a9a: {where}: expected features that are 0 or 1 and labels that are -1 or +1, got others")
    return _frozen(values.astype(np.uint8)), _frozen((signs > 0).astype(np.int64))


def _read(root: Path, name: str, file: str) -> tuple[bytes, str]:
    assert root == data_dir()
    content, where = dataset(name).read(file)
    _HASHES[root, name, file] = digest("sha256", content)
    return content, where


def _sha256(root: Path, name: str, file: str) -> str:
    if (root, name, file) not in _HASHES:
        _HASHES[root, name, file] = dataset(name).sha256(file)
    return _HASHES[root, name, file]


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array
