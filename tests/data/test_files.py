"""The data folder, and a published file in it: found under its names, plain or packed, or refused with the remedy."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.data.archive import DataArchive, members_sha256
from bench.data.dataset import DataSet
from bench.data.files import DataError, DataFile, TooLarge, data_dir, digest, gunzip, use_folder
from bench.settings import StudyError
from tests.data.samples import TONE, data_file, tar, wave

RAW = bytes(range(256)) * 40


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path))
    return tmp_path


def dataset(*files: DataFile | DataArchive) -> DataSet:
    return DataSet(
        name="toy", title="Toy", what="-", licence="none", homepage="https://example.org/toy",
        folders=("toy", "Toy/raw"), files=files, downloads=(),
    )  # fmt: skip


TOY = dataset(data_file("values.bin", RAW))


def test_the_folder_is_the_variable_or_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.setenv("PACELINE_DATA", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert data_dir() == tmp_path / "c" / "paceline" / "data"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_dir() == Path.home() / ".cache" / "paceline" / "data"


def test_use_folder_holds_for_children_wherever_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACELINE_DATA", "elsewhere")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    assert use_folder("sets") == tmp_path / "sets" == Path(os.environ["PACELINE_DATA"])


def test_use_folder_refuses_what_is_no_folder(root: Path) -> None:
    (root / "file").touch()
    for name, what in (("file", "a file"), ("absent", "nothing there")):
        with pytest.raises(StudyError) as caught:
            use_folder(root / name)
        assert f"--data-dir: got {root / name} ({what}), expected a folder" in str(caught.value)
        assert os.environ["PACELINE_DATA"] == str(root)
    assert use_folder(root / "absent", create=True).is_dir()
    with pytest.raises(DataError, match="cannot make the folder"):
        use_folder(root / "file" / "below", create=True)


@pytest.mark.parametrize("folder", ["toy", "Toy/raw"])
@pytest.mark.parametrize("name", ["values.bin", "values.bin.gz"])
@pytest.mark.parametrize("level", [None, 1, 9])
def test_packing_folder_and_suffix_do_not_matter(root: Path, folder: str, name: str, level: int | None) -> None:
    path = root / folder / name
    path.parent.mkdir(parents=True)
    path.write_bytes(RAW if level is None else gzip.compress(RAW, level))
    assert TOY.read("values.bin") == (RAW, str(path))
    assert TOY.state(TOY.files[0], thorough=False).kind == "present"
    assert TOY.state(TOY.files[0], thorough=True).detail == f"10240 bytes, sha256 {digest('sha256', RAW)}"


def test_missing_says_where_what_and_how(root: Path) -> None:
    with pytest.raises(DataError) as caught:
        TOY.read("values.bin")
    message = str(caught.value)
    assert message.startswith(f"toy: values.bin is missing: not in {root}/toy or {root}/Toy/raw; expected 10240 bytes")
    assert digest("sha256", RAW) in message and "`paceline data fetch toy`" in message and "example.org" in message
    assert TOY.state(TOY.files[0], thorough=False).kind == "missing"


@pytest.mark.parametrize(
    ("content", "says", "seen_by_size"),
    [
        (RAW[:-1], "got 10239 bytes", True),
        (RAW + b"\0", "got 10241 bytes", True),
        (b"", "got 0 bytes", True),
        (b"\1" + RAW[1:], "got sha256", False),
        (gzip.compress(RAW)[:-20], "torn gzip data: it ends after", True),
        (gzip.compress(RAW + b"\0"), "got more than 10240 bytes", True),
        (gzip.compress(RAW[:-1]), "got 10239 bytes", True),
        (gzip.compress(b"\1" + RAW[1:]), "got sha256", False),
        (gzip.compress(RAW) + b"junk", "4 bytes follow the end of the gzip data", True),
        (gzip.compress(RAW)[:-8] + b"\0\0\0\0" + gzip.compress(RAW)[-4:], "damaged gzip data", False),
        (b"\x1f\x8b", "torn gzip data", True),
    ],
)
def test_corrupt_says_got_expected_and_remedy(root: Path, content: bytes, says: str, seen_by_size: bool) -> None:
    path = root / "toy" / "values.bin.gz"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        TOY.read("values.bin")
    message = str(caught.value)
    assert message.startswith(f"toy: {path}: corrupt: ") and says in message and "\n" not in message
    assert f"expected 10240 bytes, sha256 {digest('sha256', RAW)}" in message and "paceline data fetch toy" in message
    assert TOY.state(TOY.files[0], thorough=True).kind == "corrupt"
    assert (TOY.state(TOY.files[0], thorough=False).kind == "corrupt") == seen_by_size


def test_a_file_that_cannot_be_read_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "toy").mkdir()
    (root / "toy" / "values.bin").write_bytes(RAW)

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"toy: .*values.bin: cannot be read: Permission denied"):
        TOY.read("values.bin")


def test_any_of_the_digests_and_any_alias_will_do(root: Path) -> None:
    digests = ("sha1:" + "0" * 40, f"lines:{digest('sha256', LINES)}")
    text = dataset(DataFile(name="t.txt", size=6, digests=digests, aliases=("t.tokens",)))
    path = root / "toy" / "t.tokens"
    path.parent.mkdir()
    for content in (LINES, b"c\na\nb\n"):
        path.write_bytes(content)
        assert text.read("t.txt") == (content, str(path))
    path.write_bytes(b"c\na\na\n")
    with pytest.raises(DataError, match=r"t\.tokens: corrupt: got sha1 .*, expected 6 bytes, sha1 0000"):
        text.read("t.txt")


LINES = b"a\nb\nc\n"


def test_gunzip_takes_several_members_and_stops_at_the_limit() -> None:
    packed = gzip.compress(RAW[:100]) + gzip.compress(RAW[100:])
    assert gunzip(packed, len(RAW)) == RAW
    for limit in (0, 99, 100, len(RAW) - 1):
        with pytest.raises(TooLarge):
            gunzip(packed, limit)
    bomb = gzip.compress(bytes(50_000_000))
    with pytest.raises(TooLarge):
        gunzip(bomb, 1000)


MEMBERS = {f"{d}_ann_0.wav": wave(TONE[d:]) for d in range(10)}
ARCHIVE = DataArchive(
    name="recordings", count=10, size=sum(map(len, MEMBERS.values())), digests=(f"sha256:{members_sha256(MEMBERS)}",)
)


def below(prefix: str) -> list[tuple[str, bytes]]:
    return [(f"{prefix}{name}", content) for name, content in MEMBERS.items()]


DEEPER = ("digits/examples/recordings/1_ann_1.wav", b"a folder of the same name, deeper down")


@pytest.mark.parametrize("prefix", ["recordings/", "free-spoken-digit-dataset-1.0.10/recordings/", "./recordings/"])
@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_does_not_depend_on_its_packing(root: Path, prefix: str, packed: bool) -> None:
    content = tar([("README.md", b"x"), *reversed(below(prefix)), ("other/1_ann_0.wav", b"no"), DEEPER], mtime=7)
    (root / "toy").mkdir()
    (root / "toy" / "any-name.tar.gz").write_bytes(gzip.compress(content) if packed else content)
    assert dataset(ARCHIVE).members("recordings")[0] == MEMBERS
    assert dataset(ARCHIVE).sha256("recordings") == members_sha256(MEMBERS)
    assert dataset(ARCHIVE).state(ARCHIVE, thorough=False).kind == "present"


@pytest.mark.parametrize("folder", ["toy/recordings", "toy/free-spoken-digit-dataset-master/recordings"])
def test_an_archive_may_be_extracted(root: Path, folder: str) -> None:
    (root / folder).mkdir(parents=True)
    for name, content in {**MEMBERS, ".DS_Store": b"a folder's view"}.items():
        (root / folder / name).write_bytes(content)
    assert dataset(ARCHIVE).members("recordings") == (MEMBERS, str(root / folder))
    (root / folder / "3_ann_0.wav").unlink()
    with pytest.raises(DataError, match=r"corrupt: got 9 files of together 12[0-9]{2} bytes, expected 10 files"):
        dataset(ARCHIVE).members("recordings")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (tar(below("recordings/")[1:]), "got 9 files"),
        (tar([*below("recordings/"), below("recordings/")[3]]), "3_ann_0.wav is in the archive twice"),
        (tar([*below("recordings/")[:-1], ("recordings/9_ann_1.wav", MEMBERS["9_ann_0.wav"])]), "got sha256"),
        (tar([]), "got 0 files"),
        (b"PK\3\4" + bytes(600), "corrupt: "),
        (b"", "corrupt: "),
    ],
)
def test_other_archives_are_refused(root: Path, content: bytes, says: str) -> None:
    (root / "toy").mkdir()
    path = root / "toy" / "digits.tar.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError) as caught:
        dataset(ARCHIVE).members("recordings")
    assert str(caught.value).startswith(f"toy: {path}: corrupt: ") and says in str(caught.value)
    assert members_sha256(MEMBERS) in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys, bench.data.load, bench.data.cli, bench.data.fetch; "
        "sys.exit(' '.join({'torch', 'pooch', 'requests', 'pandas'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
