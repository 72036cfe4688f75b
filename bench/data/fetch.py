"""Fetching published data sets: by pooch, with the published hash checked, into the data folder.

Everything arrives in a temporary folder beside its place and is verified there, so that what stands in its place is
whole and as published, or absent. pooch is imported when something is fetched, not before.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
import tempfile
import urllib.parse
import zlib
from collections.abc import Callable
from pathlib import Path

from bench.data.dataset import DataSet, Download, Part
from bench.data.files import DataError, data_dir

TIMEOUT_S = 30.0  # to connect, and between two pieces that arrive


def fetch(dataset: DataSet, say: Callable[[str], None]) -> list[Path]:
    """Get every file of a data set that is missing or corrupt; returns the new files.

    A corrupt file is not deleted: it is renamed to NAME.corrupt.

    Args:
        say: told of each step, one line.

    Raises:
        DataError: no network, an address that does not answer as it should, or what came is not as published.
    """
    new: list[Path] = []
    for download in dataset.downloads:
        states = {name: dataset.state(dataset.file(name), thorough=True) for name in download.gives}
        wanted = [name for name, state in states.items() if state.kind != "present"]
        if not wanted:
            continue
        folder = dataset.folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".fetch-", dir=folder))
        except OSError as error:
            raise DataError(
                f"{dataset.name}: cannot write to {folder}: {error.strerror} (name a folder of yours with --data-dir)"
            ) from error
        try:
            fresh = _published(dataset, download, wanted, temporary, say)
            for name in wanted:
                if (bad := states[name].path) is not None:
                    os.replace(bad, bad.with_name(f"{bad.name}.corrupt"))
                    say(f"{dataset.name}: {name}: the corrupt one is now {bad}.corrupt")
            for path in dict.fromkeys(fresh.values()):
                os.replace(path, folder / path.name)
                new.append(folder / path.name)
        except OSError as error:
            raise DataError(f"{dataset.name}: cannot write to {folder}: {error.strerror or error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return new


def _published(
    dataset: DataSet, download: Download, wanted: list[str], temporary: Path, say: Callable[[str], None]
) -> dict[str, Path]:
    """The wanted files by name, verified, in the temporary folder, from the first address that gives them."""
    complaints = []
    for n, url in enumerate(download.urls):
        say(f"{dataset.name}: getting {url}")
        try:
            got = _download(url, download, temporary / str(n))
            fresh = _unpacked(got, wanted) if download.unpack else dict.fromkeys(wanted, got)
            for name in wanted:
                _verify(dataset.file(name), fresh[name])
            return fresh
        except DataError as error:
            complaints.append(f"{urllib.parse.urlsplit(url).netloc}: {error}")
    raise DataError(
        f"{dataset.name}: {download.saved_as} could not be fetched ({'; '.join(complaints)}); nothing was kept; get it "
        f"in another way (from {dataset.homepage}) and put it into {dataset.folder()}, or name a folder that has it "
        f"(--data-dir, PACELINE_DATA; now {data_dir()})"
    )


def _download(url: str, download: Download, folder: Path) -> Path:
    """The file at `url`, whose published hash holds."""
    import pooch  # type: ignore[import-untyped]
    import requests

    pooch.get_logger().setLevel("ERROR")  # it speaks of temporary files
    # A server must send the file as it is: one that packs it for the way would change the bytes that are hashed.
    downloader = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(), timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}
    )
    try:
        return Path(
            pooch.retrieve(url, download.digest or None, fname=download.saved_as, path=folder, downloader=downloader)
        )
    except requests.HTTPError as error:
        answer = error.response
        raise DataError(str(error) if answer is None else f"HTTP {answer.status_code} {answer.reason}") from error
    except requests.Timeout as error:
        raise DataError(f"no answer within {TIMEOUT_S:.0f} s") from error
    except requests.exceptions.ChunkedEncodingError as error:
        raise DataError("the transfer broke off") from error
    except requests.ConnectionError as error:
        raise DataError("no connection") from error
    except (requests.RequestException, ValueError) as error:
        if "hash" in str(error):
            raise DataError(f"what came has another hash than published ({download.digest})") from error
        raise DataError(str(error)) from error


def _unpacked(archive: Path, wanted: list[str]) -> dict[str, Path]:
    """The wanted files of a .tar.gz, written beside it, by name."""
    fresh: dict[str, Path] = {}
    try:
        with tarfile.open(archive, "r:gz") as opened:
            for member in opened:
                name = member.name.rpartition("/")[2]
                if name in wanted and (source := opened.extractfile(member)) is not None:
                    fresh[name] = archive.with_name(name)
                    with source, fresh[name].open("wb") as target:
                        shutil.copyfileobj(source, target)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise DataError(f"the archive is damaged: {error}") from error
    if missing := [name for name in wanted if name not in fresh]:
        raise DataError(f"the archive does not hold {', '.join(missing)}")
    return fresh


def _verify(file: Part, path: Path) -> None:
    try:
        file.read(path)
    except DataError as error:
        reason = str(error).removeprefix(f"{path}: ").removeprefix("corrupt: ")
        raise DataError(f"what came is not the published {file.name}: {reason}") from error
