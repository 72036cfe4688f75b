"""The data folder, and one published file in it: found, unpacked, and held to its published size and hash.

Sizes and hashes are those of the raw (unpacked) content, so that the same data packed by another gzip is accepted.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.settings import StudyError

VARIABLE = "PACELINE_DATA"
GZIP = b"\x1f\x8b"


class DataError(StudyError):
    """A data set is missing, damaged or not what it should be; the message is one line with the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class TooLarge(Exception):
    """Unpacked content goes on beyond its limit."""


def data_dir() -> Path:
    """The folder with the data sets: PACELINE_DATA (`--data-dir`), else `paceline/data` in the user's cache folder.

    It need not exist.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "paceline" / "data"


def use_folder(folder: Path | str, *, create: bool = False) -> Path:
    """Take data sets from `folder`, in this process and in those that it starts; returns its absolute path.

    Args:
        create: make the folder if it is not there.

    Raises:
        DataError: there is no such folder, or it cannot be made or read.
    """
    path = Path(folder).expanduser().absolute()
    if create and not path.exists():
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise DataError(f"--data-dir: cannot make the folder {path}: {error.strerror}") from error
    if not path.is_dir():
        what = "a file" if path.exists() else "nothing there"
        raise DataError(
            f"--data-dir: got {path} ({what}), expected a folder with data sets "
            f"(`paceline data fetch --data-dir {path}` makes and fills one)"
        )
    if not os.access(path, os.R_OK | os.X_OK):
        raise DataError(f"--data-dir: got {path}, which this user may not read (allow it, or name another folder)")
    os.environ[VARIABLE] = str(path)
    return path


def digest(kind: str, content: bytes) -> str:
    """The hexadecimal digest of raw content.

    Args:
        kind: a hash of hashlib, or "lines": sha256 of the sorted lines, for a text whose lines may come in any order.
    """
    if kind == "lines":
        return hashlib.sha256(b"".join(sorted(content.splitlines(keepends=True)))).hexdigest()
    return hashlib.new(kind, content).hexdigest()


def gunzip(packed: bytes, limit: int) -> bytes:
    """The content of a gzip file, whose checksums must hold and after which nothing may follow.

    Raises:
        TooLarge: it goes on beyond `limit` bytes; the rest is not unpacked.
        ValueError: it is torn or damaged; the message says how.
    """
    parts: list[bytes] = []
    room = limit
    while packed:
        if not packed.startswith(GZIP):
            raise ValueError(f"{len(packed)} bytes follow the end of the gzip data")
        unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
        try:
            # One byte more than there is room for, so that a full member's end and checksum are still read.
            parts.append(unpacker.decompress(packed, room + 1))
        except zlib.error as error:
            raise ValueError(f"damaged gzip data ({error})") from error
        room -= len(parts[-1])
        if room < 0:
            raise TooLarge
        if not unpacker.eof:
            raise ValueError(f"torn gzip data: it ends after {limit - room} unpacked bytes")
        packed = unpacker.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def slurp(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One published file.

    Attributes:
        name: the publisher's name of the raw file, without ".gz".
        size: bytes of the raw content.
        digests: "KIND:HEX" of the raw content (see `digest`), the publisher's first; one of them must hold.
        aliases: other names under which the file goes round.
    """

    name: str
    size: int
    digests: tuple[str, ...]
    aliases: tuple[str, ...] = ()

    @property
    def expected(self) -> str:
        """Size and hash, for messages."""
        kind, _, value = self.digests[0].partition(":")
        return f"{self.size} bytes, {kind} {value}"

    def locate(self, folders: Iterable[Path]) -> Path | None:
        """Where the file is, plain or with ".gz", in the first of the folders that has it."""
        for folder in folders:
            for name in (self.name, *self.aliases):
                for path in (folder / name, folder / f"{name}.gz"):
                    if os.path.isfile(path):
                        return path
        return None

    def read(self, path: Path) -> bytes:
        """The raw content of the file at `path`, verified.

        Raises:
            DataError: it cannot be read, or as `verified`.
        """
        return self.verified(slurp(path), str(path))

    def verified(self, content: bytes, where: str) -> bytes:
        """The raw content. Whether `content` is packed is judged by itself, not by a name.

        Args:
            content: of the file as it lies there, plain or gzip.
            where: its name, for messages.

        Raises:
            DataError: torn, damaged, or of another size or hash than published.
        """
        if content.startswith(GZIP):
            try:
                content = gunzip(content, self.size)
            except TooLarge:
                raise DataError(
                    f"{where}: corrupt: got more than {self.size} bytes, expected {self.expected}"
                ) from None
            except ValueError as error:
                raise DataError(f"{where}: corrupt: {error}; expected {self.expected}") from error
        if len(content) != self.size:
            raise DataError(f"{where}: corrupt: got {len(content)} bytes, expected {self.expected}")
        if not any(digest(kind, content) == value for kind, _, value in (d.partition(":") for d in self.digests)):
            kind = self.digests[0].partition(":")[0]
            raise DataError(f"{where}: corrupt: got {kind} {digest(kind, content)}, expected {self.expected}")
        return content

    def sha256(self, path: Path) -> str:
        """sha256 of the verified raw content.

        Raises:
            DataError: as `read`.
        """
        return digest("sha256", self.read(path))

    def weigh(self, path: Path) -> int:
        """Bytes of the raw content, without unpacking it: a gzip file states them at its end.

        Raises:
            DataError: it cannot be read.
        """
        try:
            with path.open("rb") as file:
                packed = file.read(len(GZIP)) == GZIP
                size = file.seek(0, os.SEEK_END)
                if not packed or size < 18:  # header and trailer of an empty gzip file
                    return size
                file.seek(-4, os.SEEK_END)
                return int.from_bytes(file.read(4), "little")
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
