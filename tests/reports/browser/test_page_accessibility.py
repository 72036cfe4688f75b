"""The page for people who do not see it, or not well, or who use no mouse: axe-core finds nothing serious."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.browser import AXE, DESKTOP, PHONE, Open, Visit, no_axe, nothing, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

GRAVE = ("serious", "critical")


def violations(visit: Visit) -> list[str]:
    """What axe-core finds, one line an element."""
    visit.page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[dict[str, Any]] = visit.page.evaluate(
        "async () => (await axe.run(document, { resultTypes: ['violations'] })).violations"
    )
    return [
        f"{rule['impact']} {rule['id']}: {rule['help']}: {node['target']} {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


@pytest.mark.skipif(bool(no_axe()), reason=no_axe())
@pytest.mark.parametrize(
    ("lang", "width", "scheme"),
    [
        ("en", DESKTOP, "light"),
        ("en", DESKTOP, "dark"),
        ("en", PHONE, "light"),
        ("en", PHONE, "dark"),
        ("ja", PHONE, "light"),
    ],
)
def test_axe_finds_nothing_serious(visit: Open, lang: str, width: int, scheme: str) -> None:
    with visit(lang, width=width, color_scheme=scheme, reduced_motion="reduce") as page:
        page.open_everything()
        nothing(violations(page))


@pytest.mark.skipif(bool(no_axe()), reason=no_axe())
def test_axe_sees_what_is_wrong(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><title>bad</title><p style='color: #bbb'>faint<p><input type='range'>")
    with opened(browser, bad) as page:
        assert {line.split(":")[0] for line in violations(page)} == {
            "serious html-has-lang", "serious color-contrast", "critical label",
        }  # fmt: skip


def test_the_page_says_its_language(visit: Open, lang: str) -> None:
    with visit(lang) as page:
        assert page.page.locator("html").get_attribute("lang") == lang


def test_whoever_uses_the_keyboard_sees_where_they_are(visit: Open) -> None:
    with visit() as page:
        places = []
        for _ in range(60):
            page.page.keyboard.press("Tab")
            places.append(
                page.page.evaluate(
                    """() => {
                        const one = document.activeElement, style = getComputedStyle(one);
                        const rim = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
                        return [one.tagName + "." + one.className, rim || style.boxShadow !== "none"];
                    }"""
                )
            )
        nothing([name for name, marked in places if not marked])
        assert {name.split(".")[0] for name, _ in places} >= {"A", "BUTTON"}
