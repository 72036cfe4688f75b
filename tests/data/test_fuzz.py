"""Damaged files: always one clear error, never another exception, never a wrong array."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Callable

import pytest

from bench.data import wav
from bench.data.archive import DataArchive, members_sha256
from bench.data.files import DataError
from tests.data.samples import SAMPLES, TONE, Sample, data_file, tar, wave

CASES = 200
FOREIGN = (
    b"\x1f\x8b\x08\x00",
    b"\x89PNG",
    b"PK\x03\x04",
    b"\x7fELF",
    b"RIFX",
    b"\xff\xfe\x00\x00",
    b"<!DO",
    b"\0\0\x08\x02",
)


def truncated(sample: Sample, dice: random.Random) -> bytes:
    return sample.raw[: dice.randrange(len(sample.raw))]


def wrong_magic(sample: Sample, dice: random.Random) -> bytes:
    magic = dice.choice(FOREIGN) if dice.random() < 0.5 else dice.randbytes(4)
    return magic + sample.raw[4:]


def wrong_counts(sample: Sample, dice: random.Random) -> bytes:
    """Another number where the format has one; for a format without numbers, more or less content."""
    raw = bytearray(sample.raw)
    value = dice.choice((0, 1, dice.randrange(64), dice.randrange(2**16), dice.randrange(2**32), 2**31, 2**32 - 1))
    if sample.name.startswith("idx"):
        axes = 3 if sample.name == "idx-images" else 1
        struct.pack_into(">I", raw, 4 + 4 * dice.randrange(axes), value)
    elif sample.name == "wav":
        at, size = dice.choice(((4, 4), (16, 4), (20, 2), (22, 2), (24, 4), (28, 4), (32, 2), (34, 2), (40, 4)))
        raw[at : at + size] = value.to_bytes(4, "little")[:size]
    elif sample.name == "cifar":
        return bytes(raw) + dice.randbytes(1 + dice.randrange(5000))
    else:
        lines = sample.raw.splitlines(keepends=True)
        k = dice.randrange(len(lines))
        if dice.random() < 0.5 or sample.name == "words":
            return b"".join(lines[:k] + [lines[k]] * dice.choice((0, 2, 3)) + lines[k + 1 :])
        return b"".join([*lines[:k], lines[k].replace(b"1", str(value).encode()), *lines[k + 1 :]])
    return bytes(raw)


def garbage_header(sample: Sample, dice: random.Random) -> bytes:
    return dice.randbytes(sample.header) + sample.raw[sample.header :]


def flipped(sample: Sample, dice: random.Random) -> bytes:
    raw = bytearray(sample.raw)
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return bytes(raw)


Damage = Callable[[Sample, random.Random], bytes]
DAMAGES: list[Damage] = [truncated, wrong_magic, wrong_counts, garbage_header, flipped]

# Where the format itself cannot tell: a text cut at a line's end, another pixel, the same number of pixels in another
# shape. There the published size and hash must; see `test_size_and_hash_see_all_damage`.
UNSEEN = {
    ("idx-images", flipped), ("idx-images", wrong_counts), ("idx-labels", flipped), ("wav", flipped),
    *((name, damage) for name in ("cifar", "words", "svmlight") for damage in DAMAGES),
}  # fmt: skip

every_damage = pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
every_sample = pytest.mark.parametrize("sample", SAMPLES.values(), ids=lambda sample: sample.name)


def is_clear(error: DataError, name: str) -> bool:
    return name in str(error) and "\n" not in str(error) and str(error).isprintable() and len(str(error)) < 500


@every_sample
def test_a_whole_file_is_read(sample: Sample) -> None:
    assert sample.equals(sample.read(sample.raw, "whole"))


@every_damage
@every_sample
def test_readers_raise_one_clear_error(sample: Sample, damage: Damage) -> None:
    for case in range(CASES):
        raw = damage(sample, random.Random(f"{sample.name} {damage.__name__} {case}"))
        try:
            got = sample.read(raw, "FILE.7")
        except DataError as error:
            assert raw != sample.raw
            assert is_clear(error, "FILE.7"), str(error)
        else:
            assert (sample.name, damage) in UNSEEN or sample.equals(got), raw


def test_where_a_format_sees_damage_it_is_refused() -> None:
    """The counterpart of `UNSEEN`: what of it the formats do see."""
    for name in ("words", "svmlight"):
        sample = SAMPLES[name]
        for end in range(len(sample.raw)):
            if end == 0 or sample.raw[end - 1 : end] != b"\n":
                with pytest.raises(DataError, match=r"torn|empty"):
                    sample.read(sample.raw[:end], name)
    sample = SAMPLES["cifar"]
    for end in range(0, len(sample.raw), 7):
        if end % 3073 or end == 0:
            with pytest.raises(DataError, match="whole records"):
                sample.read(sample.raw[:end], "cifar")


def pack_then_damage(sample: Sample, damage: Damage, dice: random.Random) -> bytes:
    packed = gzip.compress(sample.raw, mtime=0)
    if damage is wrong_counts:  # gzip's own: the checksum and the length at its end
        at = len(packed) - 1 - dice.randrange(8)
        return packed[:at] + bytes([packed[at] ^ (1 + dice.randrange(255))]) + packed[at + 1 :]
    return damage(Sample(sample.name, packed, sample.read, sample.arrays, 10), dice)


Stored = Callable[[Sample, Damage, random.Random], bytes]
STORED: dict[str, Stored] = {
    "plain": lambda sample, damage, dice: damage(sample, dice),
    "damaged, then packed": lambda sample, damage, dice: gzip.compress(damage(sample, dice), mtime=0),
    "packed, then damaged": pack_then_damage,
}


@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
@every_damage
@every_sample
def test_size_and_hash_see_all_damage(sample: Sample, damage: Damage, stored: Stored) -> None:
    file = data_file(sample.name, sample.raw)
    accepted = 0
    for case in range(CASES):
        content = stored(sample, damage, random.Random(f"{sample.name} {damage.__name__} {case}"))
        try:
            raw = file.verified(content, sample.name)
        except DataError as error:
            assert is_clear(error, sample.name), str(error)
            assert file.digests[0].removeprefix("sha256:") in str(error) and f"{file.size} bytes" in str(error)
            continue
        accepted += 1
        assert raw == sample.raw
    # What is accepted is undamaged: the dice threw what was there, or hit a field of gzip's header that means nothing.
    assert accepted < CASES / 2


MEMBERS = {f"recordings/{d}_{s}_0.wav": wave(TONE[d:]) for d in range(10) for s in ("ann", "bob")}
RECORDINGS = {name.removeprefix("recordings/"): content for name, content in MEMBERS.items()}
ARCHIVE = DataArchive(
    name="recordings",
    count=len(MEMBERS),
    size=sum(map(len, MEMBERS.values())),
    digests=(f"sha256:{members_sha256(RECORDINGS)}",),
)


def tar_header(sample: Sample, dice: random.Random) -> bytes:
    """Garbage in the header of one member: where the format has a checksum."""
    raw = bytearray(sample.raw)
    at = 1024 * dice.randrange(1 + len(MEMBERS)) + dice.randrange(500)  # each is a header and one block of content
    raw[at : at + 12] = dice.randbytes(12)
    return bytes(raw)


@pytest.mark.parametrize(
    "damage", [truncated, wrong_magic, tar_header, garbage_header, flipped], ids=lambda damage: damage.__name__
)
@pytest.mark.parametrize("stored", STORED.values(), ids=STORED)
def test_damaged_archives(damage: Damage, stored: Stored) -> None:
    sample = Sample("digits.tgz", tar({"README.md": b"no recording", **MEMBERS}), lambda raw, at: [], [], 512)
    for case in range(CASES):
        content = stored(sample, damage, random.Random(f"archive {damage.__name__} {case}"))
        try:
            members = ARCHIVE.verified(ARCHIVE.members(content, "digits.tgz"), "digits.tgz")
        except DataError as error:
            assert is_clear(error, "digits.tgz"), str(error)
            assert ARCHIVE.digests[0].removeprefix("sha256:") in str(error)
        else:
            assert members == RECORDINGS


def test_the_archive_is_read_where_it_is_whole() -> None:
    content = gzip.compress(tar(MEMBERS))
    members = ARCHIVE.verified(ARCHIVE.members(content, "digits.tgz"), "digits.tgz")
    assert members == RECORDINGS
    assert [(r.index, r.digit, r.speaker) for r in wav.recordings(members, "digits")][:3] == [
        (0, 0, "ann"), (0, 0, "bob"), (0, 1, "ann"),
    ]  # fmt: skip
