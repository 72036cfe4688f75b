"""A set of small files that is published as one archive: read from the .tar.gz itself, or from its extracted folder.

Its size is the sum of the files' sizes and its hash is taken over names and contents in sorted order, so it does not
depend on how the archive was packed.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.data.files import GZIP, DataError, TooLarge, gunzip, slurp

# What an archive may unpack to, as a multiple of its files' sizes and in bytes per file: headers, padding and other
# files are in it, too.
LIMIT, LIMIT_PER_FILE = 4, 4096


def members_sha256(members: Mapping[str, bytes]) -> str:
    """sha256 over name, length and content of every member, in the order of their names."""
    sha = hashlib.sha256()
    for name in sorted(members):
        sha.update(f"{name}\0{len(members[name])}\0".encode())
        sha.update(members[name])
    return sha.hexdigest()


@dataclass(frozen=True, kw_only=True)
class DataArchive:
    """The files of one folder of a published archive.

    Attributes:
        name: the folder's name in the archive, at its top or one level down.
        count: files in it.
        size: bytes of all of them.
        digests: one "sha256:HEX", of `members_sha256`.
    """

    name: str
    count: int
    size: int
    digests: tuple[str, ...]

    @property
    def expected(self) -> str:
        """Count, size and hash, for messages."""
        return f"{self.count} files of together {self.size} bytes, sha256 {self.digests[0].partition(':')[2]}"

    @property
    def _limit(self) -> int:
        return LIMIT * self.size + LIMIT_PER_FILE * (16 + self.count)

    def locate(self, folders: Iterable[Path]) -> Path | None:
        """The extracted folder, else the archive, in the first of the folders that has either."""
        for folder in folders:
            for found in (folder / self.name, *sorted(folder.glob(f"*/{self.name}"))):
                if os.path.isdir(found):
                    return found
            for found in sorted((*folder.glob("*.tar.gz"), *folder.glob("*.tgz"), *folder.glob("*.tar"))):
                if os.path.isfile(found):
                    return found
        return None

    def read(self, path: Path) -> dict[str, bytes]:
        """Content by name of the extracted folder or of the archive at `path`, verified.

        Raises:
            DataError: it cannot be read, torn, damaged, a name twice, or other files than published.
        """
        return self.verified(self._members(path), str(path))

    def verified(self, members: dict[str, bytes], where: str) -> dict[str, bytes]:
        """The same members.

        Raises:
            DataError: other files than published.
        """
        size = sum(map(len, members.values()))
        if (len(members), size) != (self.count, self.size):
            raise DataError(
                f"{where}: corrupt: got {len(members)} files of together {size} bytes, expected {self.expected}"
            )
        got = members_sha256(members)
        if f"sha256:{got}" not in self.digests:
            raise DataError(f"{where}: corrupt: got sha256 {got}, expected {self.expected}")
        return members

    def sha256(self, path: Path) -> str:
        """`members_sha256` of the verified files.

        Raises:
            DataError: as `read`.
        """
        return members_sha256(self.read(path))

    def weigh(self, path: Path) -> int:
        """Bytes of all files together.

        Raises:
            DataError: it cannot be read, or the archive is torn.
        """
        return sum(map(len, self._members(path).values()))

    def _members(self, path: Path) -> dict[str, bytes]:
        if not path.is_dir():
            return self.members(slurp(path), str(path))
        try:
            files = sorted(p for p in path.iterdir() if not p.name.startswith("."))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        return {file.name: slurp(file) for file in files}

    def members(self, content: bytes, where: str) -> dict[str, bytes]:
        """Content by name, of an archive; not yet verified.

        Args:
            content: the archive, .tar or .tar.gz.
            where: its name, for messages.

        Raises:
            DataError: torn, damaged, a name twice, or a member of the folder that is no plain file.
        """
        try:
            if content.startswith(GZIP):
                content = gunzip(content, self._limit)
            members: dict[str, bytes] = {}
            # "r:" takes an unpacked archive only: nothing else is guessed.
            with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
                for member in archive:
                    name = PurePosixPath(member.name)
                    if name.parent.name != self.name or len(name.parts) > 3 or name.name.startswith("."):
                        continue
                    file = archive.extractfile(member) if member.isfile() else None
                    if file is None:
                        raise ValueError(f"{member.name} is no plain file")
                    if name.name in members:
                        raise ValueError(f"{name.name} is in the archive twice")
                    members[name.name] = file.read()
            return members
        except TooLarge:
            raise DataError(
                f"{where}: corrupt: it unpacks to more than {self._limit} bytes, expected {self.expected}"
            ) from None
        except (tarfile.TarError, ValueError, OSError, EOFError, OverflowError) as error:
            raise DataError(f"{where}: corrupt: {error}; expected {self.expected}") from error
