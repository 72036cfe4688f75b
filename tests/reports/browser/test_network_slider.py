"""The sliders for the network: what they show is what was simulated, or interpolated and said so."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import reports
from analysis.crossover import log_log
from analysis.network_grid import network_grid
from analysis.summary import per_run
from bench.records import Results
from reports.environment import environment
from reports.network_texts import CRITERIA, gbit_text, latency_text, ranked
from reports.sections.base import Material
from reports.sections.network import section
from reports.style import looks
from reports.words import number
from tests.support.browser import AXE, Visit, no_axe, no_browser, nothing, opened
from tests.support.networks import over_networks
from tests.support.synthetic import EVIL

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

TEMPLATES = Path(reports.__file__).parent / "templates"

EVIL_LABEL = f"</script>{EVIL}"
LAWS = {"allreduce-sgd": (4.0, -1.0), "ad-psgd": (2.0, -0.5), EVIL_LABEL: (3.0, -0.05)}
BANDWIDTHS, LATENCIES = (0.1, 1.0, 10.0), (1e-5, 1e-3)
STEPS = 8  # positions of the slider between two simulated bandwidths


def seconds(label: str, gbit: float, latency_s: float, seed: int) -> float | None:
    level, power = LAWS[label]
    never = label == "allreduce-sgd" and gbit < 1
    return None if never else level * gbit**power * (1 + 0.005 * seed) + 1e3 * latency_s * (label == "allreduce-sgd")


@pytest.fixture(scope="module")
def results() -> Results:
    return over_networks(seconds, LAWS, BANDWIDTHS, LATENCIES)


@pytest.fixture(scope="module")
def grid(results: Results) -> pd.DataFrame:
    return network_grid(results.runs, per_run(results))


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with this section alone, under the report's style sheet and policy."""
    if why := no_browser():
        pytest.skip(why)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    nothing_else = pd.DataFrame()
    made = section(Material(results, per_run(results), nothing_else, nothing_else, look_of, (), environment(look_of)))
    assert made is not None
    light, dark = (
        "".join(f"--a{one.number}: {getattr(one, name)};" for one in look_of.values()) for name in ("light", "dark")
    )
    policy = re.findall("<meta http-equiv=.*>", (TEMPLATES / "report.html.j2").read_text(encoding="utf-8"))
    style = (TEMPLATES / "report.css").read_text(encoding="utf-8")
    file = tmp_path_factory.mktemp("network") / "report.html"
    own = f":root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    file.write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8">{"".join(policy)}<title>Networks</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{style} {own}</style></head><body><main><h1>Networks</h1>"
        f'<section id="{made.anchor}" class="part"><h2>{made.title}</h2>{made.html}</section></main></body></html>',
        encoding="utf-8",
    )
    return file


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Visit]:
    with opened(browser, report) as visit:
        yield visit
    nothing(visit.requests + visit.complaints)


def put(visit: Visit, position: int, latency: int = 0, criterion: str = "time_to_target_s") -> None:
    """Move the sliders as a reader's hand does."""
    visit.page.evaluate(
        """([position, latency, criterion]) => {
            document.querySelector(`input[value="${criterion}"]`).checked = true;
            for (const [name, value] of [["bandwidth", position], ["latency", latency]]) {
                const slider = document.getElementById(`network-0-${name}`);
                slider.value = value;
                slider.dispatchEvent(new Event("input", { bubbles: true }));
            }
        }""",
        [position, latency, criterion],
    )


def rows(visit: Visit) -> list[list[str]]:
    """The ranking: name and numbers, without intervals."""
    found: Any = visit.page.locator(".network-ranking tbody tr").evaluate_all(
        """(rows) => rows.map((row) => [...row.cells].map((cell) =>
            cell.querySelector(".name, .no-result")?.textContent ?? cell.firstChild.textContent))"""
    )
    return list(found)


def test_at_every_simulated_network_the_ranking_is_that_of_pandas(page: Visit, grid: pd.DataFrame) -> None:
    for i, gbit in enumerate(BANDWIDTHS):
        for j, latency_s in enumerate(LATENCIES):
            at = grid[(grid["bandwidth_Gbit_per_s"] == gbit) & (grid["latency_s"] == latency_s)]
            for name in ("time_to_target_s", "final_heldout_loss", "wire_nbytes_to_target"):
                put(page, STEPS * i, j, name)
                shown = rows(page)
                order = [str(row["label"]) for row in ranked(at, CRITERIA[name])]
                assert [row[0] for row in shown] == order
                times = {str(row["label"]): float(row["time_to_target_s"]) for row in at.to_dict("records")}
                expected = ["not reached" if times[label] != times[label] else number(times[label]) for label in order]
                assert [row[1] for row in shown] == expected
                state = page.page.locator(".network-state").text_content()
                assert state == f"Simulated at {gbit_text(gbit)} and {latency_text(latency_s)}."


def test_between_them_numbers_are_interpolated_and_it_says_so(page: Visit, grid: pd.DataFrame) -> None:
    position = STEPS + 3
    gbit = 1.0 * 10 ** (3 / STEPS)
    put(page, position)
    here = grid[grid["latency_s"] == LATENCIES[0]].set_index(["label", "bandwidth_Gbit_per_s"])["time_to_target_s"]
    expected = {label: log_log(gbit, (1.0, here[label, 1.0]), (10.0, here[label, 10.0])) for label in LAWS}
    assert [(row[0], row[1]) for row in rows(page)] == [
        (label, number(expected[label])) for label in sorted(LAWS, key=lambda label: expected[label])
    ]
    assert "Interpolated at 2.37\u00a0Gbit/s" in (page.page.locator(".network-state").text_content() or "")
    put(page, 3)  # not reached at 0.1 Gbit/s: nothing to interpolate from
    last = rows(page)[-1]
    assert last[:2] == ["allreduce-sgd", "not reached at 0.1\u00a0Gbit/s"]


def test_the_keyboard_moves_the_slider_and_what_is_said_follows(page: Visit) -> None:
    slider = page.page.get_by_role("slider", name="Bandwidth")
    live = page.page.locator(".network-live")
    assert slider.get_attribute("aria-valuetext") == "1\u00a0Gbit/s, 10\u00a0µs"
    assert "ad-psgd reaches the target first" in (page.page.locator(".network-first").text_content() or "")
    assert live.text_content() == ""  # nothing has changed yet
    slider.focus()
    page.page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "10\u00a0Gbit/s, 10\u00a0µs"
    assert "allreduce-sgd reaches the target first" in (live.text_content() or "")
    page.page.keyboard.press("Home")
    assert EVIL_LABEL in (live.text_content() or "")  # as text
    page.page.get_by_role("slider", name="Latency").focus()
    page.page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.1\u00a0Gbit/s, 1\u00a0ms"


def test_the_curves_are_drawn_in_the_looks_of_the_algorithms(page: Visit, grid: pd.DataFrame) -> None:
    lines: Any = page.page.locator(".network-curves svg path[stroke-width='2']").evaluate_all(
        "(paths) => paths.map((path) => [path.getAttribute('stroke'), path.getAttribute('stroke-dasharray')])"
    )
    assert len(lines) == 3 and len({tuple(line) for line in lines}) == 3
    assert ["var(--a0)", "8 4"] in lines  # all-reduce is the neutral one everywhere
    names: Any = page.page.locator(".network-curves text.name").all_text_contents()
    assert {"allreduce-sgd", "ad-psgd"} < set(names)
    told = page.page.locator(".network-curves svg").get_attribute("aria-label") or ""
    assert "allreduce-sgd: 0.500 after 100 s" in told


def test_an_address_leads_to_a_network(browser: Browser, report: Path) -> None:
    with opened(browser, report, fragment="network-0=9.5,0.0009") as visit:
        slider = visit.page.locator("#network-0-bandwidth")
        assert slider.get_attribute("aria-valuetext") == "10\u00a0Gbit/s, 1\u00a0ms"


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_is_wider_than_its_place(browser: Browser, report: Path, width: int) -> None:
    with opened(browser, report, width=width) as visit:
        for position in (0, 5, 2 * STEPS):
            put(visit, position, 1)
            wide: Any = visit.page.evaluate(
                """() => [...document.querySelectorAll(".network-controls, .network-controls *")]
                    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
                    .map((one) => `${one.tagName}.${one.getAttribute("class")}`)"""
            )
            nothing(wide)
            assert visit.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_an_accessibility_checker_finds_nothing(browser: Browser, report: Path, width: int, scheme: str) -> None:
    if why := no_axe():
        pytest.skip(why)
    with opened(browser, report, width=width, color_scheme=scheme) as visit:
        visit.open_everything()
        put(visit, 3, 1)
        visit.page.evaluate(AXE.read_text(encoding="utf-8"))
        found: Any = visit.page.evaluate("async () => (await axe.run(document.querySelector('.network'))).violations")
        nothing([f"{one['id']}: {one['help']}: {node['html']:.120}" for one in found for node in one["nodes"]])


def test_paper_and_pages_without_scripts_have_the_figure_and_no_controls(browser: Browser, report: Path) -> None:
    with opened(browser, report) as visit:
        visit.page.emulate_media(media="print")
        assert not visit.page.locator(".network-controls").is_visible()
        assert visit.page.locator(".network-figures svg").first.is_visible()
    with browser.new_context(java_script_enabled=False, offline=True) as session:
        plain = session.new_page()
        plain.goto(report.as_uri())
        assert not plain.locator(".network-controls").is_visible()
        assert plain.locator(".network-figures svg").first.is_visible()
