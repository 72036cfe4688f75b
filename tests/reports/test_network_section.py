"""The section on other networks: its data are the tables', its sentences follow from them, and names stay text."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from typing import Any

import pandas as pd
import pytest

from analysis.network_grid import network_grid
from analysis.summary import per_run
from bench.records import Results, join
from reports.build import build
from reports.environment import environment
from reports.language import language
from reports.network_texts import CRITERIA, gbit_text, latency_text, ranked
from reports.sections.base import Material, Section
from reports.sections.network import section
from reports.style import looks
from tests.support.networks import TARGET, Seconds, over_networks
from tests.support.page import Page as Read
from tests.support.synthetic import EVIL

LAWS = {"allreduce-sgd": (4.0, -1.0), "ad-psgd": (2.0, -0.5), "local-sgd": (3.0, -0.05)}
BANDWIDTHS, LATENCIES = (0.1, 1.0, 10.0), (1e-5, 1e-3)


def law(label: str, gbit: float, latency_s: float, seed: int) -> float:
    level, power = LAWS.get(label, (5.0, 0.0))
    return level * gbit**power * (1 + 0.005 * seed) + 1e3 * latency_s * (label == "allreduce-sgd")


def several(seconds: Seconds = law, **changes: Any) -> Results:
    return over_networks(seconds, LAWS, BANDWIDTHS, LATENCIES, **changes)


def section_of(results: Results, lang: str = "en") -> Section | None:
    with language(lang):
        look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
        table, nothing = per_run(results), pd.DataFrame()
        return section(Material(results, table, nothing, nothing, look_of, (), environment(look_of)))


def html_of(results: Results, lang: str = "en") -> str:
    made = section_of(results, lang)
    assert made is not None
    return str(made.html)


def data_of(html: str) -> dict[str, Any]:
    """What the script reads; the section has one grid."""
    (text,) = re.findall(r'<script type="application/json" class="network-data">(.*?)</script>', html, flags=re.S)
    found: dict[str, Any] = json.loads(text)
    return found


def words_of(html: str) -> str:
    """The text of a section, spaces being spaces."""
    return " ".join("".join(Read(html).texts).split())


@pytest.fixture(scope="module")
def results() -> Results:
    return several()


@pytest.fixture(scope="module")
def made(results: Results) -> Section:
    found = section_of(results)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def grid(results: Results) -> pd.DataFrame:
    return network_grid(results.runs, per_run(results))


def test_the_embedded_numbers_are_those_of_the_tables(made: Section, grid: pd.DataFrame) -> None:
    data = data_of(str(made.html))
    names = [label["name"] for label in data["labels"]]
    assert names == sorted(LAWS) and data["target"] == TARGET
    assert (data["bandwidths"], data["latencies"]) == (list(BANDWIDTHS), list(LATENCIES))
    rows = {(row["latency_s"], row["bandwidth_Gbit_per_s"], row["label"]): row for row in grid.to_dict("records")}
    seen = 0
    for point in data["points"]:
        for row in point["rows"]:
            expected = rows.pop((point["latency"], point["bandwidth"], names[row["label"]]))
            assert (row["reached"], row["runs"]) == (2, 2)
            for name, (mean, low, high) in row["values"].items():
                assert (mean, low, high) == (expected[name], expected[f"{name}_low"], expected[f"{name}_high"])
                seen += 1
            assert row["loss"][0] == 2.0 and row["loss"][-1] == TARGET and len(row["loss"]) == len(row["t_s"]) == 10
    assert not rows and seen == 3 * 3 * 3 * 2
    (table,) = [one for one in made.tables if one.name == "network-0"]
    shown = Read(str(made.html)).tables["network-0"]
    for name in ("time_to_target_s", "final_heldout_loss", "wire_nbytes_to_target", "samples_per_s"):
        expected = grid.sort_values(["latency_s", "bandwidth_Gbit_per_s", "label"])[name].tolist()
        assert table.frame[name].tolist() == expected
        at = shown.columns.index(name)
        assert [row.cells[at].values["data-value"] for row in shown.rows] == [repr(value) for value in expected]


def test_the_ranking_of_each_network_is_that_of_pandas(grid: pd.DataFrame) -> None:
    for _, at in grid.groupby(["latency_s", "bandwidth_Gbit_per_s"]):
        for name, criterion in CRITERIA.items():
            order = [row["label"] for row in ranked(at, criterion)]
            expected = at.sort_values([name, "label"], ascending=[criterion.lower, True])["label"].tolist()
            assert order == expected


def test_sentences_tell_who_leads_where_and_how_sure_that_is(made: Section) -> None:
    text = words_of(str(made.html))
    # Without latency's share: 2 b^-0.5 = 3 b^-0.05 at 0.406 Gbit/s.
    assert "Latency 10 µs: local-sgd leads at 0.1 Gbit/s; ad-psgd overtakes local-sgd at about 0.406 Gbit/s" in text
    assert "Latency 1 ms: local-sgd leads at 0.1 Gbit/s; ad-psgd overtakes local-sgd at about 0.406 Gbit/s" in text
    assert text.count("; allreduce-sgd overtakes ad-psgd at about ") == 1  # not on the slow latency
    assert "the error is " in text and "nobody" not in text and "Not simulated" not in text
    assert "simulated, not measured" in text


def test_one_network_or_measured_runs_make_no_section() -> None:
    single = over_networks(law, LAWS, (1.0,))
    assert section_of(single) is None
    measured = single.runs.assign(simulated=False, transport="mpi", network="{}", study="nets")
    assert section_of(dataclasses.replace(single, runs=measured)) is None


def test_who_never_gets_there_has_no_number_and_is_said_so() -> None:
    def seconds(label: str, gbit: float, latency_s: float, seed: int) -> float | None:
        late = gbit < 1 or (label == "ad-psgd" and seed == 1)
        return None if late else law(label, gbit, latency_s, seed)

    html = html_of(several(seconds))
    data = data_of(html)
    assert "from 0.1\u00a0Gbit/s on nobody reaches the target" in html
    by_place = {(point["latency"], point["bandwidth"]): point["rows"] for point in data["points"]}
    for row in by_place[1e-5, 0.1]:
        assert row["values"]["time_to_target_s"] == [None, None, None] and row["reached"] == 0
    gossip = next(row for row in by_place[1e-5, 1.0] if data["labels"][row["label"]]["name"] == "ad-psgd")
    assert gossip["values"]["time_to_target_s"][0] is None and (gossip["reached"], gossip["runs"]) == (1, 2)


def test_without_a_target_the_loss_ranks_and_without_gradients_the_throughput() -> None:
    no_target = html_of(several(target_loss=math.nan))
    assert "No target loss was set" in no_target
    assert [one["name"] for one in data_of(no_target)["criteria"]] == ["final_heldout_loss"]
    costs = several(gradients="none")
    costs = dataclasses.replace(costs, heldout=costs.heldout.assign(heldout_loss=math.nan))
    html = html_of(costs)
    data = data_of(html)
    assert "These runs have no gradients" in html
    assert [one["name"] for one in data["criteria"]] == ["samples_per_s"] and data["criteria"][0]["lower"] is False
    assert all(row["loss"] == [None] * 10 for point in data["points"] for row in point["rows"])


def test_what_was_simulated_on_some_networks_only_is_named() -> None:
    whole = several()
    some = whole.runs[(whole.runs["label"] != "ad-psgd") | whole.runs["study"].str.contains("@1Gbit")]
    html = html_of(dataclasses.replace(whole, runs=some))
    assert "Not simulated on all 6 networks: " in html
    data = data_of(html)
    assert sum(len(point["rows"]) for point in data["points"]) == 3 * 6 - 4


@pytest.mark.thorough
def test_runs_that_went_wrong_have_no_numbers() -> None:
    whole = several()
    wrong = (whole.runs["label"] == "ad-psgd") & whole.runs["study"].str.contains("@1Gbit")
    for status, runs in (("crashed", 0), ("failed", 0), ("diverged", 2)):
        data = data_of(html_of(dataclasses.replace(whole, runs=whole.runs.assign(
            status=["completed" if fine else status for fine in ~wrong])
        )))  # fmt: skip
        for point in data["points"]:
            (row,) = [row for row in point["rows"] if data["labels"][row["label"]]["name"] == "ad-psgd"]
            bad = point["bandwidth"] == 1.0
            assert (row["runs"], row["reached"], len(row["loss"])) == ((runs, 0, 0) if bad else (2, 2, 10))
            assert all((mean is None) == bad for mean, *_ in row["values"].values())


def test_one_bandwidth_has_a_slider_for_the_latency_alone() -> None:
    html = html_of(over_networks(law, LAWS, (1.0,), LATENCIES))
    inputs = [values for tag, values in Read(html).elements if tag == "input" and values.get("type") == "range"]
    assert [values["id"] for values in inputs] == ["network-0-latency"]
    assert words_of(html).count("ad-psgd leads at 1 Gbit/s.") == 2 and "by bandwidth" not in html


def test_names_with_html_are_text_and_end_no_script() -> None:
    evil = f"</script>{EVIL}"
    results = over_networks(law, (evil, "ad-psgd"), BANDWIDTHS, LATENCIES)
    html = html_of(dataclasses.replace(results, runs=results.runs.assign(workload=EVIL)))
    data = data_of(html)
    assert evil in [label["name"] for label in data["labels"]]
    read = Read(html)
    assert [tag for tag, _ in read.elements].count("script") == 2  # the data and the program
    assert "b" not in {tag for tag, _ in read.elements}
    assert EVIL in "".join(read.texts)


def test_the_same_results_give_the_same_bytes(made: Section) -> None:
    assert html_of(several()) == str(made.html)


def test_the_section_speaks_japanese(results: Results) -> None:
    html = html_of(results, "ja")
    assert "ネットワークを変えてみる" in html and "約 0.406 Gbit/s で ad-psgd が local-sgd を抜く" in words_of(html)
    data = data_of(html)
    assert data["criteria"][0]["heading"] == "目標到達時間" and data["texts"]["not_reached"] == "未到達"


def test_networks_in_words() -> None:
    assert [gbit_text(value).split() for value in (0.1, 0.40612, 1.0, 2500.0)] == [
        [text, "Gbit/s"] for text in ("0.1", "0.406", "1", "2500")
    ]
    assert latency_text(0.0009999) == "1\u00a0ms"


@pytest.mark.thorough
def test_what_ifs_are_told_together_and_do_not_bury_what_was_asked(results: Results) -> None:
    """Their settings keep their tables, folded, and have no figures; the answer has one line for all of them."""
    asked = over_networks(law, LAWS, BANDWIDTHS[:1], LATENCIES[:1], study="nets", simulated=False, transport="mpi")
    asked = dataclasses.replace(
        asked,
        runs=asked.runs.assign(run_id="m" + asked.runs["run_id"]),
        heldout=asked.heldout.assign(run_id="m" + asked.heldout["run_id"]),
    )
    page = build(join([results, asked])).html
    networks = len(BANDWIDTHS) * len(LATENCIES)
    assert len(re.findall(r'<details id="s\d+">', page)) == networks
    assert page.count('href="#network">') >= 1 and f"What other networks would change ({networks})" in page
    assert page.count('class="answer"') == 1, "what was measured has the answer for itself"
    assert page.index('id="network"') < page.index('id="s1-compare"')
    alone = build(results).html
    assert "What other networks would change" not in alone and 'id="network"' in alone
    assert alone.count('<tr><th scope="row"><a href="#s') == networks, "nothing else was asked: a line each"
