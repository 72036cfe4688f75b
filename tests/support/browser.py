"""A browser for tests: the installed Chromium, driven by Playwright, that reaches nothing but one page on disk."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reports.picture import find_chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parents[1] / "reports" / "browser"
AXE = FOLDER / "node_modules" / "axe-core" / "axe.min.js"
MEASURE = FOLDER / "measure.js"

DESKTOP, TABLET, PHONE, A4 = 1280, 600, 400, 703  # widths [px]; A4: 210 mm less two margins of 12 mm, at 96 px an inch


def no_browser() -> str:
    """Why no page can be opened here, with the remedy; "" if it can."""
    if importlib.util.find_spec("playwright") is None:
        return "no playwright (pip install -c constraints.txt playwright)"
    if find_chromium() is None:
        return "no Chromium (apt-get install chromium, or CHROMIUM=/path/to/chrome)"
    return ""


def no_axe() -> str:
    """Why accessibility cannot be checked here, with the remedy; "" if it can."""
    return "" if AXE.is_file() else "no axe-core (npm ci --prefix tests/reports/browser)"


def nothing(found: list[str]) -> None:
    """Fail if something was found, and say what."""
    assert not found, "\n".join([f"{len(found)} found", *found[:12]])


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield browser
        browser.close()


@dataclass
class Visit:
    """A page that is open, and what it did that a page from disk must not do.

    Attributes:
        requests: addresses it asked for, other than its own and `data:`.
        complaints: errors and warnings in the console, uncaught exceptions, dialogs.
    """

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def measured(self, name: str, *arguments: Any) -> Any:
        """What a function of measure.js returns."""
        return self.page.evaluate("([name, given]) => window.measure[name](...given)", [name, list(arguments)])

    def open_everything(self) -> None:
        """Unfold all details: what a reader may open has to fit as well. Of the many runs, some of each kind."""
        self.page.evaluate(
            """() => {
                const kinds = new Map();
                for (const one of document.querySelectorAll("details")) {
                    const within = one.parentElement.closest("details, section")?.id;
                    const kind = [within, one.className, Boolean(one.querySelector("pre"))].join();
                    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
                    one.open = kinds.get(kind) <= 4;
                }
            }"""
        )


Open = Callable[..., AbstractContextManager[Visit]]  # a report, in a language, opened as `opened` says


@contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = DESKTOP, fragment: str = "", **context: Any
) -> Iterator[Visit]:
    """Open a page from disk.

    Args:
        browser: of `chromium()`.
        file: the page.
        width: of the window [px].
        fragment: what follows # in the address.
        context: of Playwright's `new_context`, such as `color_scheme="dark"`.
    """
    with browser.new_context(viewport={"width": width, "height": 900}, offline=True, **context) as session:
        session.set_default_timeout(10_000)
        visit = Visit(session.new_page())
        visit.page.on("request", lambda request: visit.requests.append(request.url))
        visit.page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        visit.page.on("console", lambda said: visit.complaints.append(f"{said.type}: {said.text}"))
        visit.page.on("dialog", lambda dialog: (visit.complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        address = file.as_uri() + (f"#{fragment}" if fragment else "")
        visit.page.goto(address)
        visit.page.evaluate(MEASURE.read_text(encoding="utf-8"))
        yield visit
        visit.requests[:] = [url for url in visit.requests if url != address and not url.startswith("data:")]
