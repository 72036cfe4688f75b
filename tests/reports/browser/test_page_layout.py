"""The page as a browser lays it out, on a desktop, on a phone, on paper: everything fits, nothing is fetched."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.browser import A4, DESKTOP, PHONE, TABLET, Open, nothing, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

LETTERS = 6.0  # px, the smallest in figures on a phone
PAGE_HEIGHT = 1031  # px: 297 mm less two margins of 12 mm
CONTRAST = 4.5


@pytest.mark.parametrize("width", [DESKTOP, TABLET, PHONE])
def test_everything_fits(visit: Open, lang: str, width: int) -> None:
    with visit(lang, width=width) as page:
        for _ in ("as it opens", "with everything unfolded"):
            nothing(page.measured("overflow", width))
            assert page.page.evaluate("document.scrollingElement.scrollWidth") <= width
            nothing(page.measured("cut"))
            page.open_everything()
        nothing(page.measured("labelsCutOff"))


def test_figures_can_be_read_on_a_phone(visit: Open) -> None:
    with visit(width=PHONE) as page:
        page.open_everything()
        nothing(page.measured("smallLabels", LETTERS))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_labels_in_figures_stand_out(visit: Open, scheme: str) -> None:
    with visit(color_scheme=scheme) as page:
        page.open_everything()
        assert page.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") == (scheme == "dark")
        nothing(page.measured("faintLabels", CONTRAST))


def test_nothing_is_fetched_and_nothing_complains(visit: Open, lang: str) -> None:
    with visit(lang) as page:
        page.open_everything()
        page.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.page.wait_for_load_state("networkidle")
    nothing(page.requests)
    nothing(page.complaints)


def test_a_page_that_fetches_complains_or_overflows_is_noticed(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><title>bad</title><img src='https://example.org/x.png'><script>alert(1); null.x</script>"
        "<figure><svg role='img' viewBox='0 0 400 100' width='400'><rect width='400' height='100' fill='#eee'/>"
        "<text x='380' y='50' style='font-size:4px' fill='#ccc'>a label that is long</text></svg></figure>"
        "<div style='width:2000px;height:9px'></div><p style='width:40px;overflow:hidden;white-space:nowrap'>too long"
    )
    with opened(browser, bad, width=PHONE) as page:
        page.page.wait_for_load_state("networkidle")
        assert [one.split(" ")[0] for one in page.measured("overflow", PHONE)] == ["svg", "rect", "text", "div"]
        assert len(page.measured("cut")) == 1
        for one in ("labelsCutOff", ("smallLabels", LETTERS), ("faintLabels", CONTRAST)):
            assert len(page.measured(*((one,) if isinstance(one, str) else one))) == 1
    assert page.requests == ["https://example.org/x.png"]
    assert len(page.complaints) == 3  # the dialog, the exception, the image that did not come


def test_it_can_be_printed(visit: Open, lang: str) -> None:
    with visit(lang, width=A4) as page:
        page.open_everything()
        page.page.emulate_media(media="print")
        nothing(page.measured("overflow", A4))
        nothing(page.measured("cut"))
        nothing(page.measured("tall", PAGE_HEIGHT))
        hidden = page.page.locator("nav").evaluate_all("all => all.filter((one) => one.checkVisibility()).length")
        assert hidden == 0
        height = page.page.evaluate("document.body.getBoundingClientRect().height")
        sheets = len(re.findall(rb"/Type\s*/Page\b", page.page.pdf(format="A4", print_background=True)))
    # Headings and figures that stay together leave some of a sheet empty, but not half of all.
    assert height / PAGE_HEIGHT <= sheets <= 2 * height / PAGE_HEIGHT + 2


def test_without_scripts_the_page_says_the_same(visit: Open) -> None:
    texts = []
    for scripts in (True, False):
        with visit(java_script_enabled=scripts) as page:
            main = page.page.locator("main")
            texts.append(re.sub(r"\s+", " ", main.text_content() or ""))
            assert page.page.locator("section.answers").is_visible()
    assert texts[0][:2000] == texts[1][:2000]
