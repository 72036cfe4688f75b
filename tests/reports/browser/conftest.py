"""A browser, and reports to open in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from filelock import FileLock

import paceline
from tests.support.browser import Open, Visit, chromium, no_browser, opened
from tests.support.synthetic import EVIL, SCHEDULES, write_results, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LANGUAGES = ("en", "ja")

# Runs of the simulator, so that the page has what only these give.
STUDY = """
name = "small"
seeds = [0]
workers = [4]
transports = ["simulated"]
budget = { seconds = 0.25, snapshots = 6 }

[[workload]]
name = "digits-mlp"
width = 8
target_loss = 2.2
"""


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a process; each page has a session of its own in it."""
    if why := no_browser():
        pytest.skip(why)
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Language -> a report of made up and of simulated runs; built once, also when several processes run tests."""
    if why := no_browser():
        pytest.skip(why)
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if own.name.startswith("popen-") else own) / "browser"
    folder.mkdir(exist_ok=True)
    pages = {lang: folder / f"{lang}.html" for lang in LANGUAGES}
    with FileLock(folder / "lock"):
        if not all(page.is_file() for page in pages.values()):
            _build(folder, pages)
    return pages


def _build(folder: Path, pages: dict[str, Path]) -> None:
    """Write the results and their reports."""
    made_up = write_results(folder / "synthetic", steps=20)
    write_run(made_up, SCHEDULES[0], "mpi", 0, label=EVIL, study="<b>evil</b>", status="crashed", text=EVIL)
    (made_up / "runs" / "<i>killed").mkdir()
    study = folder / "study.toml"
    names = ("allreduce-sgd", "local-sgd", "ad-psgd")
    study.write_text(STUDY + "".join(f'\n[[algorithm]]\nname = "{name}"\n' for name in names))
    simulated = folder / "simulated"
    assert paceline.main(["run", str(study), "--out", str(simulated)]) == 0
    for lang, page in pages.items():
        assert paceline.main(["report", str(made_up), str(simulated), "-o", str(page), "--lang", lang]) == 0


@pytest.fixture(params=LANGUAGES)
def lang(request: pytest.FixtureRequest) -> str:
    """Each language in turn."""
    return str(request.param)


@pytest.fixture
def visit(browser: Browser, reports: dict[str, Path]) -> Open:
    """Opens the English report, or that of `lang`."""

    def go(lang: str = "en", **how: Any) -> AbstractContextManager[Visit]:
        return opened(browser, reports[lang], **how)

    return go
