"""`python -m reports.picture`: a picture of a page, the same every time."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from reports import picture
from tests.support.browser import no_browser

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><title>p</title>
<style>body, p { margin: 0 } div { height: 900px } p { height: 40px } #low { background: #00f }</style>
<body><main><div>high</div><details id="low"><summary>low</summary><p>inside</p></details></main>
</body></html>"""


@pytest.fixture
def page(tmp_path: Path) -> Path:
    if why := no_browser():
        pytest.skip(why)
    file = tmp_path / "page.html"
    file.write_text(PAGE)
    return file


def size(png: Path) -> tuple[int, int]:
    content = png.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    return struct.unpack(">II", content[16:24])


def test_the_window_and_the_scale_are_as_asked_and_the_bytes_the_same(page: Path, tmp_path: Path) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    for output in (first, again):
        given = ["--width", "600", "--height", "300", "--scale", "2"]
        assert picture.main([str(page), "-o", str(output), *given]) == 0
    assert size(first) == (1200, 600)
    assert first.read_bytes() == again.read_bytes()


def test_a_part_is_shown_alone_open_and_as_high_as_it_is(page: Path, tmp_path: Path) -> None:
    output = tmp_path / "part.png"
    assert picture.main([str(page), "-o", str(output), "--width", "400", "--select", "#low"]) == 0
    width, height = size(output)
    assert width == 400 and 40 + 2 * 16 < height < 150


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda given: [*given, "--select", "#no-such"], "nothing in the page matches '#no-such'"),
        (lambda given: ["no-such.html", *given[1:]], "no such file: no-such.html"),
        (lambda given: [*given, "-o", "no/such/folder.png"], "a folder that exists"),
        (lambda given: [*given, "--scale", "0"], "the scale above 0"),
    ],
)
def test_what_cannot_be_is_one_line(
    change: object, said: str, page: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(page), "-o", str(tmp_path / "x.png")]
    assert picture.main(change(given)) == 2  # type: ignore[operator]
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_without_a_browser_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHROMIUM", str(tmp_path / "none"))
    file = tmp_path / "page.html"
    file.write_text(PAGE)
    assert picture.main([str(file), "-o", str(tmp_path / "x.png")]) == 2
    error = capsys.readouterr().err
    assert "apt-get install chromium" in error and error.count("\n") == 1
