"""The real data sets as arrays: sizes, classes and first values as published; damage to a real file is seen."""

from __future__ import annotations

import gzip
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data import load
from bench.data.catalogue import SETS, dataset
from bench.data.files import DataError
from tests.data.samples import idx_images, idx_labels
from tests.support.datasets import needs_data


def has(name: str, *files: str) -> bool:
    each = dataset(name)
    return all(each.locate(each.file(file)) is not None for file in files or [file.name for file in each.files])


@pytest.fixture
def only(data_folder: Path) -> Callable[..., None]:
    """Skips a test where the folder lacks what it reads."""

    def check(name: str, *files: str) -> None:
        if not has(name, *files):
            pytest.skip(f"{name} is not complete in {data_folder}")

    return check


@needs_data
def test_mnist(only: Callable[..., None]) -> None:
    only("mnist")
    images, labels = load.mnist("test")
    assert images.shape == (10_000, 28, 28) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    images, labels = load.mnist("train")
    assert images.shape == (60_000, 28, 28) and labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert np.bincount(labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    # LeCun's page: the digits are centred in a 28x28 field; the mean and deviation are the well-known 0.1307, 0.3081.
    shares = np.bincount(images.reshape(-1), minlength=256) / images.size
    values = np.arange(256) / 255
    mean = float(shares @ values)
    assert mean == pytest.approx(0.1307, abs=5e-5)
    assert float(shares @ (values - mean) ** 2) ** 0.5 == pytest.approx(0.3081, abs=5e-5)
    assert load.mnist("train")[0] is images
    for array in (images, labels):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.thorough
@needs_data
def test_fashion_mnist(only: Callable[..., None]) -> None:
    only("fashion-mnist")
    for split, each in (("train", 6000), ("test", 1000)):
        images, labels = load.fashion_mnist(split)  # type: ignore[arg-type]
        assert images.shape == (10 * each, 28, 28) and np.bincount(labels).tolist() == [each] * 10
    assert load.fashion_mnist("test")[1][:5].tolist() == [9, 2, 1, 1, 6]


@pytest.mark.thorough
@needs_data
def test_cifar10(only: Callable[..., None]) -> None:
    only("cifar10", "data_batch_1.bin", "test_batch.bin")
    images, labels = load.cifar10("test")
    assert images.shape == (10_000, 3, 32, 32) and np.bincount(labels).tolist() == [1000] * 10
    images, labels = load.cifar10("train", batches=1)
    assert np.bincount(labels).tolist() == [1005, 974, 1032, 1016, 999, 937, 1030, 1001, 1025, 981]
    assert images[0, :, 0, 0].tolist() == [59, 62, 63] and labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images.flags.c_contiguous and not images.flags.writeable and not labels.flags.writeable


@needs_data
def test_wikitext2(only: Callable[..., None]) -> None:
    only("wikitext2")
    vocabulary, ids = load.wikitext2()
    assert {split: len(text) for split, text in ids.items()} == {"train": 2_088_628, "valid": 217_646, "test": 245_569}
    assert len(vocabulary) == len(set(vocabulary)) == 33_278
    train = ids["train"]
    assert train.dtype == np.int32 and not train.flags.writeable
    # In the order of first appearance: each new word is the next number.
    firsts = np.unique(train, return_index=True)[1]
    assert (np.diff(firsts) > 0).all()
    assert [vocabulary[i] for i in ids["valid"][:5]] == ["<eos>", "=", "Homarus", "gammarus", "="]
    assert sum(vocabulary[i] == "<eos>" for i in ids["test"]) == 4358


@needs_data
def test_spoken_digits(only: Callable[..., None]) -> None:
    only("fsdd")
    found = load.spoken_digits()
    assert len(found) == 3000 and not any(r.samples.flags.writeable for r in found)
    assert Counter(r.speaker for r in found) == dict.fromkeys(
        ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"), 500
    )
    assert Counter(r.digit for r in found) == dict.fromkeys(range(10), 300)
    assert sum(len(r.samples) for r in found) * 2 + 44 * 3000 == dataset("fsdd").file("recordings").size
    assert [(r.index, r.digit, r.speaker) for r in found[:7:6]] == [(0, 0, "george"), (0, 1, "george")]


@needs_data
def test_a9a(only: Callable[..., None]) -> None:
    only("a9a")
    features, labels = load.a9a("train")
    assert features.shape == (32_561, 123) and features.dtype == np.uint8 and set(np.unique(features)) == {0, 1}
    assert not features.flags.writeable and not labels.flags.writeable
    assert features.sum() == 451_592 and labels.sum() == 7841
    assert np.flatnonzero(features[0]).tolist() == [2, 10, 13, 18, 38, 41, 54, 63, 66, 72, 74, 75, 79, 82]
    features, labels = load.a9a("test")
    assert features.shape == (16_281, 123) and labels.sum() == 3846


@needs_data
def test_sources_name_the_hash_of_what_lies_here(only: Callable[..., None]) -> None:
    only("mnist", "t10k-labels-idx1-ubyte")
    assert load.sources("mnist", "t10k-labels-idx1-ubyte") == "mnist: t10k-labels-idx1-ubyte sha256 ff7bcfd416de3373"


@needs_data
@pytest.mark.parametrize("how", ["flip", "cut", "torn gzip", "other set"])
def test_damage_to_a_real_file_is_seen(
    how: str, only: Callable[..., None], data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only("mnist", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    mnist = dataset("mnist")
    names = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    (tmp_path / "mnist").mkdir()
    for name in names:
        path = mnist.locate(mnist.file(name))
        assert path is not None
        shutil.copyfile(path, tmp_path / "mnist" / path.name)
    raw, _ = mnist.read(names[1])
    damaged = tmp_path / "mnist" / f"{names[1]}.gz"
    damaged.write_bytes(
        {
            "flip": gzip.compress(raw[:5000] + bytes([(raw[5000] + 1) % 10]) + raw[5001:]),
            "cut": gzip.compress(raw[:-1]),
            "torn gzip": gzip.compress(raw)[:2000],
            "other set": gzip.compress(idx_labels(np.zeros(10_000))),
        }[how]
    )
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path))
    with pytest.raises(DataError) as caught:
        load.mnist("test")
    message = str(caught.value)
    assert message.startswith(f"mnist: {damaged}: corrupt: ") and "paceline data fetch mnist" in message
    assert "expected 10008 bytes, sha256 ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2" in message


def test_an_empty_folder_is_one_line_for_every_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path))
    readers: dict[str, Callable[[], object]] = {
        "mnist": lambda: load.mnist("train"), "fashion-mnist": lambda: load.fashion_mnist("test"),
        "cifar10": lambda: load.cifar10("train"), "wikitext2": load.wikitext2, "fsdd": load.spoken_digits,
        "a9a": lambda: load.a9a("test"),
    }  # fmt: skip
    assert set(readers) == set(SETS)
    for name, read in readers.items():
        with pytest.raises(DataError, match=rf"^{name}: .* is missing: .* `paceline data fetch {name}`"):
            read()


def test_what_is_asked_for_is_checked() -> None:
    with pytest.raises(ValueError, match="split must be 'train' or 'test': got 'valid'"):
        load.mnist("valid")  # type: ignore[arg-type]
    for batches in (0, 6):
        with pytest.raises(ValueError, match=f"batches must be 1 to 5: got {batches}"):
            load.cifar10("train", batches=batches)


def test_every_file_has_one_download_and_a_hash() -> None:
    for each in SETS.values():
        given = [name for download in each.downloads for name in download.gives]
        assert sorted(given) == sorted(file.name for file in each.files), each.name
        for file in each.files:
            for digest in file.digests:
                kind, _, value = digest.partition(":")
                assert len(value) == {"sha256": 64, "lines": 64, "sha1": 40}[kind] and int(value, 16)
        for download in each.downloads:
            assert all(url.startswith(("https://", "http://")) for url in download.urls) and download.urls


def test_a_folder_of_ones_own_is_another_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is cached belongs to its folder: here two folders of two small sets."""
    from bench.data.catalogue import MNIST
    from bench.data.dataset import DataSet
    from tests.data.samples import data_file

    for n in (1, 2):
        raw = {
            "t10k-images-idx3-ubyte": idx_images(np.full((n, 2, 2), n, np.uint8)),
            "t10k-labels-idx1-ubyte": idx_labels(np.full(n, n)),
        }
        small = DataSet(
            name="mnist", title=MNIST.title, what=MNIST.what, licence=MNIST.licence, homepage=MNIST.homepage,
            folders=MNIST.folders, files=tuple(data_file(name, content) for name, content in raw.items()), downloads=(),
        )  # fmt: skip
        monkeypatch.setitem(SETS, "mnist", small)
        (tmp_path / str(n) / "mnist").mkdir(parents=True)
        for name, content in raw.items():
            (tmp_path / str(n) / "mnist" / name).write_bytes(content)
        monkeypatch.setenv("PACELINE_DATA", str(tmp_path / str(n)))
        assert load.mnist("test")[1].tolist() == [n] * n
