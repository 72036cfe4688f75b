"""A published data set: its files, where they may lie, and where they are published."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from bench.data.archive import DataArchive
from bench.data.files import DataError, DataFile, data_dir
from bench.settings import nearest

Part = DataFile | DataArchive
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Download:
    """One published file to fetch.

    Attributes:
        urls: addresses of the same file, tried in this order.
        digest: "KIND:HEX" of the file as it is published, or "" if none is: then the content's own hash decides.
        saved_as: the name it gets in the data folder.
        gives: names of the set's files that come with it.
        unpack: it is a .tar.gz of these files, which are kept; else it is kept as it is.
    """

    urls: tuple[str, ...]
    digest: str
    saved_as: str
    gives: tuple[str, ...]
    unpack: bool = False


@dataclass(frozen=True)
class State:
    """What is there of one file: `detail` says its size, or what is wrong."""

    kind: Literal["present", "missing", "corrupt"]
    path: Path | None
    detail: str


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set.

    Attributes:
        name: in commands and messages.
        title, what, licence, homepage: for people.
        folders: names of its folder inside the data folder; the first is where `paceline data fetch` puts it.
        files: what it consists of.
        downloads: where it is published.
    """

    name: str
    title: str
    what: str
    licence: str
    homepage: str
    folders: tuple[str, ...]
    files: tuple[Part, ...]
    downloads: tuple[Download, ...]

    def folder(self) -> Path:
        """Where fetched files go."""
        return data_dir() / self.folders[0]

    def file(self, name: str) -> Part:
        """The file of this name.

        Raises:
            DataError: the set has no such file.
        """
        for file in self.files:
            if file.name == name:
                return file
        raise DataError(f"{self.name}: no file {name!r}{nearest(name, (file.name for file in self.files))}")

    def locate(self, file: Part) -> Path | None:
        """Where this file is, or None if it is missing."""
        return file.locate(data_dir() / folder for folder in self.folders)

    def require(self, file: Part) -> Path:
        """Where this file is.

        Raises:
            DataError: it is missing; the message says what is expected and how to get it.
        """
        path = self.locate(file)
        if path is None:
            places = " or ".join(str(data_dir() / folder) for folder in self.folders)
            raise DataError(
                f"{self.name}: {file.name} is missing: not in {places}; expected {file.expected}; "
                f"get it with `paceline data fetch {self.name}`, or put it there by hand (from {self.homepage})"
            )
        return path

    def read(self, name: str) -> tuple[bytes, str]:
        """The verified content of a file, and where it was found.

        Raises:
            DataError: missing, or not as published; the message says how to get it.
        """
        file = self.file(name)
        assert isinstance(file, DataFile), f"{name} of {self.name} is an archive"
        return self._verified(file, file.read)

    def members(self, name: str) -> tuple[dict[str, bytes], str]:
        """The verified files of an archive by name, and where it was found.

        Raises:
            DataError: missing, or not as published; the message says how to get it.
        """
        file = self.file(name)
        assert isinstance(file, DataArchive), f"{name} of {self.name} is no archive"
        return self._verified(file, file.read)

    def _verified(self, file: Part, read: Callable[[Path], T]) -> tuple[T, str]:
        path = self.require(file)
        try:
            return read(path), str(path)
        except DataError as error:
            raise self.with_remedy(error) from error

    def sha256(self, name: str) -> str:
        """sha256 of the verified content of a file or archive.

        Raises:
            DataError: missing, or not as published; the message says how to get it.
        """
        file = self.file(name)
        return self._verified(file, file.sha256)[0]

    def with_remedy(self, error: DataError) -> DataError:
        """The same complaint, with the set's name and what to do."""
        return DataError(f"{self.name}: {error} (`paceline data fetch {self.name}` gets it anew)")

    def state(self, file: Part, *, thorough: bool) -> State:
        """What is there of a file.

        Args:
            thorough: read it and compute its hash; else only its size is looked at.
        """
        path = self.locate(file)
        if path is None:
            return State("missing", None, f"expected {file.expected}")
        try:
            if thorough:
                return State("present", path, f"{file.size} bytes, sha256 {file.sha256(path)}")
            size = file.weigh(path)
        except DataError as error:
            return State("corrupt", path, str(error).removeprefix(f"{path}: ").removeprefix("corrupt: "))
        if size != file.size:
            return State("corrupt", path, f"got {size} bytes, expected {file.expected}")
        return State("present", path, f"{size} bytes")
