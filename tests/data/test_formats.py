"""Each format's reader on files made by hand: what it finds, and what it says of what is wrong."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from bench.data import cifar, idx, svmlight, wav, words
from bench.data.files import DataError
from tests.data.samples import COLOURS, LABELS, PIXELS, TONE, cifar_batch, idx_images, idx_labels, wave


def test_idx_axes_are_in_the_order_of_the_header() -> None:
    assert idx.images(idx_images(PIXELS), "f")[5, 4, 3] == PIXELS[5, 4, 3]
    assert idx.labels(idx_labels(LABELS), "f").tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "magic number none"),
        (idx_labels(LABELS), "got magic number 00000801, expected 00000803"),
        (idx_images(PIXELS)[:9], "torn in its header: got 9 bytes, expected at least 16"),
        (idx_images(PIXELS)[:-1], "got 135 bytes, but the shape (6, 5, 4) in its header needs 136"),
        (idx_images(PIXELS) + b"\0", "got 137 bytes"),
        (struct.pack(">4I", 0x0803, 0, 28, 28), "an axis of length 0"),
        (struct.pack(">4I", 0x0803, 2**32 - 1, 2**32 - 1, 2**32 - 1), "needs 79228162458924105385300197391"),
        (struct.pack(">4I", 0x0B03, 6, 5, 4) + bytes(120), "got magic number 00000b03"),
    ],
)
def test_idx_images_refused(raw: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        idx.images(raw, "f.gz")
    assert str(caught.value).startswith("f.gz: ") and says in str(caught.value)


def test_idx_label_out_of_range() -> None:
    with pytest.raises(DataError, match="f: label 1 is 10, allowed are 0 to 9"):
        idx.labels(idx_labels(np.array([3, 10])), "f")


def test_cifar_is_channels_first() -> None:
    record = bytes([7]) + bytes(1024 * [10]) + bytes(1024 * [20]) + bytes(1023 * [30]) + b"\x1f"
    images, labels = cifar.batch(record, "f")
    assert images.shape == (1, 3, 32, 32) and labels.tolist() == [7]
    assert [int(images[0, c, 0, 0]) for c in range(3)] == [10, 20, 30] and images[0, 2, 31, 31] == 31


def test_cifar_refused() -> None:
    with pytest.raises(DataError, match="the label of record 2 is 10, allowed are 0 to 9"):
        cifar.batch(cifar_batch(COLOURS, np.array([0, 9, 10])), "f")
    for raw in (b"", bytes(3072), bytes(3074)):
        with pytest.raises(DataError, match=f"f: got {len(raw)} bytes, expected one or more whole records of 3073"):
            cifar.batch(raw, "f")


def test_words_end_each_line() -> None:
    assert words.words(b" a  b \n\nc\n", "f") == [b"a", b"b", b"<eos>", b"<eos>", b"c", b"<eos>"]


def test_only_spaces_and_ends_of_lines_part_words() -> None:
    assert words.words("a\u3000b\xa0c\u2028d e\n".encode(), "f") == ["a\u3000b\xa0c\u2028d".encode(), b"e", b"<eos>"]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "f: empty"),
        (b"a b", "f: torn: its last line has no end"),
        (b"a \xff b\n", "f: not UTF-8 at byte 2"),
        (b"a\tb\n", "f: control character 0x09 at byte 1"),
        (b"a\r\n", "f: control character 0x0d at byte 1"),
        (b"a <eos> b\n", "f: holds the word <eos>"),
    ],
)
def test_words_refused(raw: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        words.words(raw, "f")
    assert says in str(caught.value)


def test_wav_passes_over_other_chunks() -> None:
    odd = b"LIST" + struct.pack("<I", 5) + b"title\0"  # a chunk of odd length is padded
    assert wav.samples(wave(TONE, extra=odd), "f").tolist() == TONE.tolist()


def change(at: int, form: str, value: int) -> bytes:
    raw = bytearray(wave(TONE))
    struct.pack_into(form, raw, at, value)
    return bytes(raw)


def odd_data() -> bytes:
    raw = wave(TONE[:2])
    return raw[:40] + struct.pack("<I", 3) + raw[44:]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not a RIFF/WAVE file"),
        (b"RIFF\4\0\0\0WAVE", "no chunk 'fmt '"),
        (wave(TONE)[:36].replace(wave(TONE)[4:8], struct.pack("<I", 28)), "no chunk 'data'"),
        (wave(TONE)[:-2], "got 142 bytes, but its header announces 144"),
        (wave(TONE) + b"\0\0", "got 146 bytes, but its header announces 144"),
        (change(40, "<I", 102), "a bad chunk at byte 36: b'data' of 102 bytes, 100 are left"),
        (change(40, "<I", 96), "4 bytes follow the last chunk"),
        (change(20, "<H", 3), "expected PCM, 1 channel, 8000 Hz, 16 bits"),
        (wave(TONE, rate=16000), "got (1, 1, 16000, 32000, 2, 16)"),
        (change(22, "<H", 2), "got (1, 2, 8000"),
        (wave(TONE[:0]), "0 bytes of samples"),
        (odd_data(), "3 bytes of samples, expected a positive multiple"),
        (wave(TONE, extra=b"data" + struct.pack("<I", 2) + b"ab"), "two chunks 'data'"),
    ],
)
def test_wav_refused(raw: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        wav.samples(raw, "f.wav")
    assert str(caught.value).startswith("f.wav: ") and says in str(caught.value)


def digits(*names: str) -> dict[str, bytes]:
    return {name: wave(TONE) for name in names}


ALL = [f"{d}_{s}_{i}.wav" for d in range(10) for s in ("zoe", "ann") for i in range(12)]


def test_recordings_are_sorted_by_index_digit_and_speaker() -> None:
    found = wav.recordings(digits(*ALL), "f")
    keys = [(r.index, r.digit, r.speaker) for r in found]
    assert len(keys) == 240 and keys == sorted(keys)
    assert keys[:2] == [(0, 0, "ann"), (0, 0, "zoe")] and keys[-1] == (11, 9, "zoe")


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({}, "no recordings"),
        (digits(*ALL, "10_ann_0.wav"), "a file '10_ann_0.wav', expected names such as"),
        (digits(*ALL, "1_ann_00.wav"), "a file '1_ann_00.wav'"),
        (digits(*ALL, "1_ann_0.wav\n"), "a file '1_ann_0.wav\\n'"),
        (digits(*(n for n in ALL if n != "4_ann_7.wav")), "f: 4_ann_7.wav is missing"),
        (digits(*ALL, "4_ann_999999999.wav"), "f: 0_ann_12.wav is missing"),
        ({**digits(*ALL), "3_zoe_4.wav": wave(TONE)[:-1]}, "f: 3_zoe_4.wav: got 143 bytes"),
    ],
)
def test_recordings_refused(members: dict[str, bytes], says: str) -> None:
    with pytest.raises(DataError) as caught:
        wav.recordings(members, "f")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_svmlight_is_dense_with_indices_from_1() -> None:
    dense, labels = svmlight.rows(b"+1 1:1 4:0.25 \n-1\n3 2:-1e2\n", "f", 4)
    assert dense.tolist() == [[1, 0, 0, 0.25], [0, 0, 0, 0], [0, -100, 0, 0]] and labels.tolist() == [1, -1, 3]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "f: empty"),
        (b"+1 1:1", "f: torn"),
        (b"+1 1:1\n\n", "f: line 2: got the label b''"),
        (b"+1 1:1\n+1 5:1\n", "f: line 2: got b'5:1', expected index:value with an index of 1 to 4"),
        (b"+1 0:1\n", "line 1: got b'0:1'"),
        (b"+1 1:1 1:1\n", "line 1: index 1 follows 1, indices must ascend"),
        (b"+1 3:1 2:1\n", "line 1: index 2 follows 3"),
        (b"+1 3:nan\n", "got the value b'nan'"),
        (b"+1 3:inf\n", "got the value b'inf'"),
        (b"+1 3:1e999\n", "got the value b'1e999'"),
        (b"+1 3:1e39\n", "expected a number that float32 can hold"),
        (b"+1 3:1_0\n", "got the value b'1_0'"),
        (b"+1 3:\n", "got the value b''"),
        (b"+1  3:1\n", "got b''"),
        (b"+1 qid:1 3:1\n", "got b'qid:1'"),
        (b"+1 3:1 # a comment\n", "got b'#'"),
        (b"+1 3:1\r\n", "got the value b'1\\r'"),
        (b"yes 3:1\n", "got the label b'yes'"),
    ],
)
def test_svmlight_refused(raw: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        svmlight.rows(raw, "f", 4)
    assert says in str(caught.value)
