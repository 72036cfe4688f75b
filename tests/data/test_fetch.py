"""Fetching from a real HTTP server on this machine: what comes is kept only if it is whole and as published."""

from __future__ import annotations

import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.data.archive import DataArchive, members_sha256
from bench.data.dataset import DataSet, Download, Part
from bench.data.fetch import fetch
from bench.data.files import DataError
from tests.data.samples import LABELS, PIXELS, TONE, data_file, idx_images, idx_labels, tar, wave

IMAGES, MARKS = idx_images(PIXELS), idx_labels(LABELS)


@dataclass
class Server:
    """Answers GET /NAME with `pages[NAME]`; sends only `torn[NAME]` bytes of it where that is given."""

    url: str
    pages: dict[str, bytes] = field(default_factory=dict)
    torn: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path[1:]
            state.asked.append(name)
            if name not in state.pages:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(state.pages[name])))
            self.end_headers()
            self.wfile.write(state.pages[name][: state.torn.get(name)])

        def log_message(self, format: str, *args: object) -> None:
            """Silent."""

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_port}")
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path / "new" / "data"))
    return tmp_path / "new" / "data"


def dataset(files: tuple[Part, ...], *downloads: Download) -> DataSet:
    return DataSet(
        name="toy", title="Toy", what="-", licence="none", homepage="https://example.org/toy",
        folders=("toy", "Toy/raw"), files=files, downloads=downloads,
    )  # fmt: skip


def packed_file(urls: tuple[str, ...], content: bytes) -> Download:
    md5 = hashlib.md5(content).hexdigest()
    return Download(urls=urls, digest=f"md5:{md5}", saved_as="images.gz", gives=("images",))


PACKED = gzip.compress(IMAGES, mtime=0)
FILES = (data_file("images", IMAGES),)


def quiet(line: str) -> None:
    assert "\n" not in line


def left(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_a_file_is_fetched_once(server: Server, root: Path) -> None:
    server.pages["images.gz"] = PACKED
    toy = dataset(FILES, packed_file((f"{server.url}/images.gz",), PACKED))
    assert fetch(toy, quiet) == [root / "toy" / "images.gz"]
    assert toy.read("images")[0] == IMAGES
    assert fetch(toy, quiet) == []
    assert server.asked == ["images.gz"] and left(root) == ["toy/images.gz"]


def test_the_next_address_is_tried(server: Server, root: Path) -> None:
    server.pages["b"], server.pages["c"] = PACKED[:-1] + b"?", PACKED
    fetch(dataset(FILES, packed_file(tuple(f"{server.url}/{name}" for name in "abc"), PACKED)), quiet)
    assert server.asked == ["a", "b", "c"] and left(root) == ["toy/images.gz"]


@pytest.mark.parametrize(
    ("page", "torn", "says"),
    [
        (None, None, "HTTP 404 Not Found"),
        (
            PACKED[:-1] + b"?",
            None,
            f"what came has another hash than published (md5:{hashlib.md5(PACKED).hexdigest()})",
        ),
        (PACKED, len(PACKED) // 2, "the transfer broke off"),
        (PACKED, 0, "the transfer broke off"),
    ],
)
def test_what_does_not_come_as_published_is_not_kept(
    server: Server, root: Path, page: bytes | None, torn: int | None, says: str
) -> None:
    if page is not None:
        server.pages["images.gz"] = page
    if torn is not None:
        server.torn["images.gz"] = torn
    toy = dataset(FILES, packed_file((f"{server.url}/images.gz",), PACKED))
    with pytest.raises(DataError) as caught:
        fetch(toy, quiet)
    message = str(caught.value)
    assert message.startswith(f"toy: images.gz could not be fetched (127.0.0.1:{server.url.rpartition(':')[2]}: {says}")
    assert "\n" not in message and f"put it into {root}/toy" in message and len(message) < 500
    assert left(root) == [] and toy.state(toy.files[0], thorough=False).kind == "missing"


def test_no_network_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/images.gz"
        with pytest.raises(
            DataError, match=r"could not be fetched \(127.*: no connection\); nothing was kept; get it in"
        ):
            fetch(dataset(FILES, packed_file((url,), PACKED)), quiet)
    assert left(root) == []


def test_without_a_published_hash_the_content_decides(server: Server, root: Path) -> None:
    server.pages["images"] = IMAGES
    plain = Download(urls=(f"{server.url}/images",), digest="", saved_as="images", gives=("images",))
    assert fetch(dataset(FILES, plain), quiet) == [root / "toy" / "images"]
    (root / "toy" / "images").unlink()
    server.pages["images"] = IMAGES[:-1] + bytes([IMAGES[-1] ^ 1])
    with pytest.raises(DataError) as caught:
        fetch(dataset(FILES, plain), quiet)
    assert "what came is not the published images: got sha256" in str(caught.value)
    assert FILES[0].expected in str(caught.value) and left(root) == []


@pytest.mark.parametrize("place", ["toy/images", "toy/images.gz", "Toy/raw/images.gz"])
def test_a_corrupt_file_gives_way_and_is_not_deleted(server: Server, root: Path, place: str) -> None:
    """Also where it would be found before the new one."""
    server.pages["images.gz"] = PACKED
    (root / place).parent.mkdir(parents=True)
    (root / place).write_bytes(PACKED[:50])
    toy = dataset(FILES, packed_file((f"{server.url}/images.gz",), PACKED))
    said: list[str] = []
    fetch(toy, said.append)
    assert toy.read("images")[0] == IMAGES
    assert left(root) == sorted([f"{place}.corrupt", "toy/images.gz"]) and any(".corrupt" in line for line in said)


def test_a_failed_fetch_leaves_the_corrupt_file(server: Server, root: Path) -> None:
    (root / "toy").mkdir(parents=True)
    (root / "toy" / "images").write_bytes(b"old")
    with pytest.raises(DataError, match="HTTP 404"):
        fetch(dataset(FILES, packed_file((f"{server.url}/images.gz",), PACKED)), quiet)
    assert left(root) == ["toy/images"]


WHOLE = gzip.compress(tar({"all/images": IMAGES, "all/marks": MARKS}), mtime=0)
BOTH = (data_file("images", IMAGES), data_file("marks", MARKS))


def bundle(server: Server, content: bytes) -> DataSet:
    server.pages["all.tar.gz"] = content
    return dataset(
        BOTH,
        Download(
            urls=(f"{server.url}/all.tar.gz",), digest="", saved_as="all.tar.gz", gives=("images", "marks"), unpack=True
        ),
    )


def test_an_archive_is_unpacked_as_far_as_it_is_wanted(server: Server, root: Path) -> None:
    toy = bundle(server, gzip.compress(tar({"all/readme.html": b"-", "all/images": IMAGES, "all/marks": MARKS})))
    (root / "toy").mkdir(parents=True)
    (root / "toy" / "images.gz").write_bytes(PACKED)
    assert fetch(toy, quiet) == [root / "toy" / "marks"]
    assert left(root) == ["toy/images.gz", "toy/marks"] and toy.read("marks")[0] == MARKS


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(tar({"all/images": IMAGES})), "the archive does not hold marks"),
        (gzip.compress(tar({"all/images": IMAGES, "all/marks": MARKS[:-1]})), "not the published marks: got 44 bytes"),
        (WHOLE[: len(WHOLE) // 2], "the archive is damaged"),
        (WHOLE[:200] + bytes([WHOLE[200] ^ 255]) + WHOLE[201:], "the archive is damaged"),
        (b"<html>please log in</html>", "the archive is damaged"),
    ],
)
def test_of_a_bad_archive_nothing_is_kept(server: Server, root: Path, content: bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        fetch(bundle(server, content), quiet)
    assert says in str(caught.value) and "\n" not in str(caught.value)
    assert left(root) == []


def test_an_archive_of_recordings_is_kept_as_it_is(server: Server, root: Path) -> None:
    members = {f"{d}_ann_0.wav": wave(TONE[d:]) for d in range(10)}
    part = DataArchive(
        name="recordings", count=10, size=sum(map(len, members.values())),
        digests=(f"sha256:{members_sha256(members)}",),
    )  # fmt: skip
    server.pages["v1.tar.gz"] = gzip.compress(tar({f"digits-1/recordings/{n}": c for n, c in members.items()}))
    toy = dataset(
        (part,),
        Download(urls=(f"{server.url}/v1.tar.gz",), digest="", saved_as="digits.tar.gz", gives=("recordings",)),
    )
    assert fetch(toy, quiet) == [root / "toy" / "digits.tar.gz"]
    assert toy.members("recordings")[0] == members and left(root) == ["toy/digits.tar.gz"]


def test_the_next_address_is_tried_also_where_only_the_content_decides(server: Server, root: Path) -> None:
    server.pages["login"], server.pages["images"] = b"<html>please log in</html>", IMAGES
    toy = dataset(
        FILES,
        Download(urls=(f"{server.url}/login", f"{server.url}/images"), digest="", saved_as="images", gives=("images",)),
    )
    fetch(toy, quiet)
    assert server.asked == ["login", "images"] and toy.read("images")[0] == IMAGES


def test_a_full_disk_is_one_line(server: Server, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.pages["images.gz"] = PACKED

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match=r"toy: cannot write to .*/toy: No space left on device"):
        fetch(dataset(FILES, packed_file((f"{server.url}/images.gz",), PACKED)), quiet)
    assert left(root) == []


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"toy: cannot write to .*/file/toy: Not a directory \(name a folder of yours"):
        fetch(dataset(FILES, packed_file(("http://127.0.0.1:9/x",), PACKED)), quiet)
