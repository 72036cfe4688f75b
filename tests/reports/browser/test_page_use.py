"""What a reader does with the page: sort, filter, follow a link, by mouse and by keyboard."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from tests.support.browser import Open, Visit, nothing

pytestmark = pytest.mark.browser

# What each heading says and how the rows stand after a first and a second click on it.
SORTED = """() => [...document.querySelectorAll("table.sortable")].flatMap((table, number) =>
  [...table.tHead.rows[0].cells].map((head, column) => {
    const values = () => [...table.tBodies[0].rows].map((row) => {
      const cell = row.cells[column];
      if (!cell || cell.colSpan > 1) return null;
      return head.classList.contains("num") ? cell.dataset.value ?? cell.dataset.sort ?? "" : cell.textContent.trim();
    });
    const clicked = () => {
      head.querySelector("button").click();
      return [head.getAttribute("aria-sort"), table.querySelectorAll("[aria-sort]").length, values()];
    };
    return [`${number}: ${head.textContent.trim()}`, head.classList.contains("num"), clicked(), clicked()];
  }))"""


def test_every_heading_sorts_both_ways(visit: Open) -> None:
    with visit() as page:
        headings: list[Any] = page.page.evaluate(SORTED)
    assert len(headings) > 20
    orders = 0
    for name, numeric, *clicks in headings:
        for direction, (said, marked, values) in zip(("ascending", "descending"), clicks, strict=True):
            assert (said, marked) == (direction, 1), name
            known = [value for value in values if value]
            assert values[: len(known)] == known, f"{name}: what has no value does not stand last"
            if numeric:
                numbers = [float(value) for value in known]
                assert not any(math.isnan(number) for number in numbers)
                assert numbers == sorted(numbers, reverse=direction == "descending"), name
                orders += len(set(numbers)) > 2
        assert sorted(map(str, clicks[0][2])) == sorted(map(str, clicks[1][2])), f"{name}: rows were lost"
    assert orders > 20


def test_the_keyboard_sorts_as_well(visit: Open) -> None:
    with visit() as page:
        head = page.page.locator("table.sortable thead th.num").first
        head.locator("button").focus()
        page.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        page.page.keyboard.press("Space")
        assert head.get_attribute("aria-sort") == "descending"


def _shown(page: Visit, table: str) -> list[str]:
    rows = page.page.locator(f'table[data-table="{table}"] tbody tr')
    return [str(name) for name in rows.evaluate_all(
        "all => all.filter((row) => row.checkVisibility()).map((row) => row.cells[0].dataset.value)"
    )]  # fmt: skip


def test_what_is_typed_filters_the_rows(visit: Open, lang: str) -> None:
    with visit(lang) as page:
        form = page.page.locator("form.filters").first
        table = str(form.get_attribute("data-for"))
        every = _shown(page, table)
        assert {"easgd", "ad-psgd"} <= set(every)
        form.get_by_role("searchbox").fill("AD-P")
        kept = _shown(page, table)
        assert kept == [name for name in every if "ad-p" in name] and 0 < len(kept) < len(every)
        said = re.findall(r"\d+", form.locator("output").inner_text())  # in Japanese, of how many comes first
        assert sorted(map(int, said)) == [len(kept), len(every)]
        form.get_by_role("searchbox").fill("no such algorithm")
        assert _shown(page, table) == []
        form.get_by_role("searchbox").fill("")
        assert _shown(page, table) == every
        assert form.locator("output").inner_text() == ""


def test_a_box_that_is_not_ticked_hides_its_rows(visit: Open) -> None:
    with visit() as page:
        form = page.page.locator("form.filters").filter(has=page.page.locator('input[value="simulated"]')).first
        table = str(form.get_attribute("data-for"))
        every = _shown(page, table)
        form.locator('input[value="simulated"]').uncheck()
        simulated = page.page.locator(f'table[data-table="{table}"] tbody tr.simulated')
        assert simulated.count() > 0 and not any(row.is_visible() for row in simulated.all())
        assert len(_shown(page, table)) == len(every) - simulated.count()
        form.locator('input[value="simulated"]').check()
        assert _shown(page, table) == every


def test_a_link_to_a_run_opens_it(visit: Open) -> None:
    with visit() as page:
        link = page.page.locator('main a[href^="#run-"]').first
        run = page.page.locator(f"[id='{str(link.get_attribute('href'))[1:]}']")
        assert run.evaluate("run => run.open") is False
        link.click()
        page.page.wait_for_function("run => run.open", arg=run.element_handle())
        assert run.locator("dl").first.is_visible()
        name = str(run.get_attribute("id"))
    with visit(fragment=name) as page:
        run = page.page.locator(f"[id='{name}']")
        assert run.evaluate("run => run.open") is True
        page.page.wait_for_function(
            "run => Math.abs(run.getBoundingClientRect().top) < innerHeight", arg=run.element_handle()
        )


def test_every_link_leads_somewhere(visit: Open, lang: str) -> None:
    lost = """() => [...document.querySelectorAll("a[href^='#']")].map((link) => link.getAttribute("href"))
        .filter((href) => !document.getElementById(decodeURIComponent(href.slice(1))))"""
    with visit(lang) as page:
        nothing(page.page.evaluate(lost))


def test_names_from_outside_make_no_elements(visit: Open, lang: str) -> None:
    with visit(lang) as page:
        page.open_everything()
        foreign = page.page.locator("main :is(b, i, u, img, iframe, object, embed, link, form:not(.filters))")
        nothing([one.evaluate("one => one.outerHTML") for one in foreign.all()])
        assert page.page.locator("script:not([type='application/json'])").count() <= 3
        assert page.page.get_by_text("<script>alert('x')</script>").count() > 0
    nothing(page.complaints)  # nor a dialog
