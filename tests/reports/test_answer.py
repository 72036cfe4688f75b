"""The first screen: who won, how surely, what it saves, what would change it; in English and in Japanese."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.answers import answers
from analysis.comparison import winner
from analysis.leads import leads
from analysis.network_grid import network_grid
from analysis.summary import per_run, summarise
from analysis.targets import time_to_target
from bench.records import Results, load
from reports import answer_changes, answer_where, answer_words
from reports.answer import answer
from reports.build import build
from reports.definitions import DEFINITIONS, NOTES
from reports.environment import environment
from reports.language import language
from reports.style import looks
from tests.support.synthetic import EVIL, TARGET, write_results

STEPS = 20
MPI_S = 21 * STEPS / 1000  # duration of all-reduce: 21 ms a step, see SCHEDULES


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return load(write_results(tmp_path_factory.mktemp("results") / "demo", steps=STEPS))


@pytest.fixture(scope="module")
def table(results: Results) -> pd.DataFrame:
    return per_run(results)


@pytest.fixture(scope="module")
def summary(table: pd.DataFrame) -> pd.DataFrame:
    return summarise(table)


def rows_of(summary: pd.DataFrame, transport: str = "mpi") -> dict[str, dict[str, Any]]:
    own = summary[summary["transport"] == transport]
    return {str(row["label"]): {str(k): v for k, v in row.items()} for row in own.to_dict("records")}


# -- the answer as a row -----------------------------------------------------------------------------------------------


def test_the_row_has_the_closed_forms(summary: pd.DataFrame, table: pd.DataFrame) -> None:
    found = answers(summary, table).set_index("transport")
    assert set(found.index) == {"mpi", "horovod", "simulated"}
    row = found.loc["mpi"]
    assert (row["best"], row["rival"], row["baseline"], row["sure"]) == ("ad-psgd", "ad-psgd", "allreduce-sgd", "tied")
    # AD-PSGD's slowest worker needs 17 ms a step and is there at snapshots 5 and 6 of 20, all-reduce at 14 and 15.
    slow, fast = MPI_S * 14.5 / 20, row["time_to_target_s"]
    assert row["time_saved"] == pytest.approx(1 - fast / slow)
    assert row["time_saved_low"] == pytest.approx(1 - row["time_to_target_s_high"] / (MPI_S * 14 / 20))
    assert row["time_saved_high"] == pytest.approx(1 - row["time_to_target_s_low"] / (MPI_S * 15 / 20))
    assert row["time_shown"] and row["wire_measure"] == "to target"
    assert row["loss_difference_low"] <= row["loss_difference"] <= row["loss_difference_high"]


def test_bytes_a_sample_stand_in_where_the_target_was_not_reached(summary: pd.DataFrame, table: pd.DataFrame) -> None:
    never = table.assign(**{name: math.nan for name in ("time_to_target_s", "wire_nbytes_to_target")})
    row = answers(summarise(never), never).set_index("transport").loc["simulated"]
    assert row["wire_measure"] == "per sample" and row["criterion"] == "final_heldout_loss"
    done = never[(never["transport"] == "simulated") & (never["status"] == "completed")]
    sent = (done["wire_Gbit_per_s"] / done["samples_per_s"]).groupby(done["label"]).mean()
    assert row["wire_saved"] == pytest.approx(1 - sent[row["rival"]] / sent[row["baseline"]])


def test_one_run_each_shows_nothing(results: Results) -> None:
    runs = results.runs[results.runs["seed"] == 0]
    table = per_run(replace(results, runs=runs))
    found = answers(summarise(table), table)
    assert set(found["sure"]) == {"one run"} and found["time_saved_low"].isna().all()
    assert answer_words.tiles(found.iloc[0].to_dict())[0]["value"] == "no difference shown"


def test_without_a_baseline_there_is_nothing_saved(table: pd.DataFrame) -> None:
    others = table[table["label"] != "allreduce-sgd"]
    found = answers(summarise(others), others)
    assert set(found["rival"]) == {""} and found["time_saved"].isna().all()
    assert answer_words.tiles(found.iloc[0].to_dict()) == []


# -- in words ----------------------------------------------------------------------------------------------------------

NONE = dict.fromkeys(
    [f"{name}{end}" for name in ("time_saved", "loss_difference", "wire_saved") for end in ("", "_low", "_high")],
    math.nan,
)


@pytest.mark.parametrize(
    ("given", "place", "value", "note"),
    [
        (dict(time_saved=0.5, time_saved_low=0.4, time_saved_high=0.6), 0, "50 % less", "between 40 % and 60 % less"),
        (dict(time_saved=-0.5, time_saved_low=-0.6, time_saved_high=-0.4), 0, "50 % more",
         "between 40 % and 60 % more"),
        (dict(time_saved=0.3, time_saved_low=-0.1, time_saved_high=0.5), 0, "30 % less",
         "between 10 % more and 50 % less"),
        (dict(time_saved=0.5), 0, "50 % less", "no interval: one run"),
        (dict(time_saved_beyond=0.25), 0, "over 25 % less", "base did not get there in the time given"),
        ({}, 0, "not known", "not both reached the target in all runs"),
        (dict(time_saved=0.5, time_shown=False), 0, "no difference shown",
         "on average 50 % less; no interval: one run"),
        (dict(loss_difference=-0.2, loss_difference_low=-0.3, loss_difference_high=-0.1), 1, "0.200 nat lower",
         "between 0.100 and 0.300 lower"),
        (dict(loss_difference=0.2, loss_difference_low=0.1, loss_difference_high=0.3), 1, "0.200 nat higher",
         "between 0.100 and 0.300 higher"),
        (dict(loss_difference=0.2, loss_difference_low=-0.1, loss_difference_high=0.3), 1, "no difference shown",
         "between 0.100 lower and 0.300 higher"),
        (dict(wire_saved=0.881, wire_saved_low=0.880, wire_saved_high=0.882), 2, "88 % less",
         "the runs hardly differ in this"),
        ({}, 2, "not known", "nothing was sent, or no run was completed"),
    ],
)  # fmt: skip
def test_tiles_say_each_case(given: dict[str, Any], place: int, value: str, note: str) -> None:
    row = {
        "rival": "r",
        "baseline": "base",
        "time_shown": True,
        "time_saved_beyond": math.nan,
        "wire_measure": "",
        **NONE,
    }
    tile = answer_words.tiles(row | given)[place]
    assert (tile["value"].replace("\u00a0", " "), tile["note"].replace("\u00a0", " ")) == (value, note)


def test_the_headline_is_whole_sentences_in_both_languages(summary: pd.DataFrame) -> None:
    verdict = winner(summary, "digits-mlp", "mpi")
    rows = rows_of(summary)
    english = answer_words.headline(verdict, rows).replace("\u00a0", " ")
    assert english.startswith("ad-psgd was first on average, after 0.0") and english.endswith(
        "allreduce-sgd took 0.304 s."
    )
    with language("ja"):
        japanese = answer_words.headline(verdict, rows)
    assert japanese.startswith("平均で最も早かったのは ad-psgd の ") and "。allreduce-sgd は 0.304" in japanese


# -- what would change it ----------------------------------------------------------------------------------------------


def test_leads_agree_with_the_time_to_each_target(results: Results) -> None:
    runs = results.runs[results.runs["transport"] == "mpi"]
    found = leads(results.heldout, runs, "ad-psgd")
    assert len(found) > 20 and found["target_loss"].is_monotonic_decreasing
    for row in found.iloc[::7].to_dict("records"):
        # Of runs that are results, and labels of which each one got there.
        tried = runs[runs["status"].isin(["completed", "diverged"])].assign(target_loss=row["target_loss"])
        times = time_to_target(results.heldout, tried).merge(tried[["run_id", "label"]], on="run_id")
        means = times.groupby("label")["time_to_target_s"].agg(lambda own: own.mean(skipna=False))
        assert row["time_to_target_s"] == pytest.approx(means.min()) == pytest.approx(means[row["label"]])
        if row["shown"]:
            bounds = times.groupby("label")
            assert bounds["target_latest_s"].max()[row["label"]] <= bounds["target_earliest_s"].min()["ad-psgd"]


def two(first: tuple[float, ...], second: tuple[float, ...]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Curves of two algorithms, two equal runs each, a snapshot a second."""
    runs, heldout = [], []
    for label, losses in (("sprinter", first), ("stayer", second)):
        for seed in (0, 1):
            runs.append(dict(run_id=f"{label}{seed}", label=label, status="completed", target_loss=2.0))
            heldout += [dict(run_id=f"{label}{seed}", t_s=float(t), heldout_loss=loss) for t, loss in enumerate(losses)]
    return pd.DataFrame(runs), pd.DataFrame(heldout)


def test_curves_that_cross_change_who_leads() -> None:
    runs, heldout = two((4, 1.9, 1.8, 1.8, 1.8, 1.8), (4, 3.9, 3.8, 1.7, 0.5, 0.5))
    found = leads(heldout, runs, "sprinter")
    assert not found[found["target_loss"] > 1.8]["shown"].any()
    harder = found[found["target_loss"] < 1.75]
    assert len(harder) and set(harder["label"]) == {"stayer"} and harder["than_time_to_target_s"].isna().all()
    # A run that was not there after its last snapshot, 5 s, can only have been later than 4 s.
    assert harder["shown"].all()


def change_texts(summary: pd.DataFrame, results: Results, grid: pd.DataFrame, transport: str = "mpi") -> list[str]:
    verdict = winner(summary, "digits-mlp", transport)
    runs = results.runs[results.runs["transport"] == transport]
    found = answer_changes.changes(verdict, rows_of(summary, transport), runs, results.heldout, grid)
    return [" ".join([change.text, *change.commands]).replace("\u00a0", " ") for change in found]


def test_bounds_without_any_waiting_are_told(results: Results, table: pd.DataFrame, summary: pd.DataFrame) -> None:
    said = " ".join(change_texts(summary, results, network_grid(results.runs, table)))
    # All-reduce waits for 7 of 21 ms; two thirds of 14.5/20 of its 0.42 s are more than AD-PSGD took.
    assert "A faster network alone would not make allreduce-sgd win: it stood still for 33 % of its time" in said
    assert "it would still take about 0.203 s" in said
    assert (
        "paceline predict synthetic.toml --cluster cluster.toml -n 4 --bandwidth" in said
    )  # nothing else was simulated


def test_other_networks_that_were_simulated_are_told(results: Results) -> None:
    """Two networks: on the slow one all-reduce takes ten times as long, on the fast one a tenth."""
    parts, heldout = [], []
    for study, gbit, slower in (("synthetic@0.1Gbit", 0.1, 10.0), ("synthetic", 10.0, 0.1)):
        own = results.runs[(results.runs["transport"] == "simulated") & (results.runs["status"] == "completed")]
        own = own[own["label"].isin(["allreduce-sgd", "easgd"])]
        network = json.dumps({"network": {"latency_s": 5e-5, "bandwidth_Gbit_per_s": gbit}})
        names = own["run_id"] + study
        factor = (own["label"] == "allreduce-sgd").map({True: slower, False: 1.0})
        curves = results.heldout[results.heldout["run_id"].isin(own["run_id"])]
        curves = curves.assign(t_s=curves["t_s"] * curves["run_id"].map(dict(zip(own["run_id"], factor, strict=True))))
        heldout.append(curves.assign(run_id=curves["run_id"] + study))
        parts.append(own.assign(run_id=names, study=study, network=network))
    changed = replace(
        results, runs=pd.concat(parts, ignore_index=True), heldout=pd.concat(heldout, ignore_index=True),
        events=results.events[:0],
    )  # fmt: skip
    table = per_run(changed)
    here = changed.runs[changed.runs["study"] == "synthetic"]
    summary = summarise(table[table["run_id"].isin(here["run_id"])])
    said = change_texts(summary, replace(changed, runs=here), network_grid(changed.runs, table), "simulated")
    crossing = next(text for text in said if text.startswith("Simulated, latency 50.0 us"))
    assert re.search(r"below about \d[\d.]* Gbit/s easgd is first, above it allreduce-sgd\.", crossing)
    assert crossing.endswith("Shown at 0.100 Gbit/s and below, and at 10.0 Gbit/s and above.")
    assert not any("These commands would tell" in text for text in said)


def test_where_an_answer_holds(results: Results) -> None:
    by_transport = dict(iter(results.runs.groupby("transport")))
    assert answer_where.where(by_transport["mpi"]) == "on 2 hosts, bytes through host memory"
    network = json.dumps({"network": {"latency_s": 5e-5, "bandwidth_Gbit_per_s": 10.0}})
    assert answer_where.where(by_transport["simulated"].assign(network=network)) == "10.0 Gbit/s, latency 50.0 us"
    assert answer_where.where(by_transport["mpi"].assign(provenance="not json", network="[]")) == ""
    bed = json.dumps({"testbed": {"title": "testbed 1 Gbit/s, 5 ms"}})
    assert answer_where.where(by_transport["mpi"].assign(network=bed)).endswith(", links of the testbed 1 Gbit/s, 5 ms")


def test_runs_on_several_testbeds_under_one_name_are_owned_up_to(results: Results) -> None:
    own = results.runs[results.runs["transport"] == "mpi"]
    beds = [json.dumps({"testbed": {"title": f"testbed {rate} Gbit/s"}}) for rate in (1, 10)]
    assert answer_where.cautions(own.assign(network=beds[0])) == []
    (caution,) = answer_where.cautions(own.assign(network=[beds[i % 2] for i in range(len(own))]))
    assert "several testbeds" in caution


@pytest.mark.thorough
def test_runs_on_several_networks_under_one_name_are_owned_up_to(results: Results) -> None:
    own = results.runs[results.runs["transport"] == "simulated"]
    wires = [
        json.dumps({"network": {"latency_s": 5e-5, "bandwidth_Gbit_per_s": float(seed + 1)}}) for seed in own["seed"]
    ]
    assert answer_where.cautions(own.assign(network=wires[0])) == []
    (caution,) = answer_where.cautions(own.assign(network=wires))
    assert "simulated on several networks under one name" in caution
    others = results.runs[results.runs["transport"] != "simulated"]
    changed = replace(results, runs=pd.concat([others, own.assign(network=wires)]))
    assert caution in first_screen(changed, "en", asked="simulated")
    assert caution not in first_screen(changed, "en", asked="mpi")


# -- on the page -------------------------------------------------------------------------------------------------------


class Text(HTMLParser):
    """The text nodes of some HTML, without those of figures, commands and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._inside: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("svg", "code", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and tag == self._inside[-1]:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside and data.strip():
            self.texts.append(data.strip())


def first_screen(results: Results, lang: str, brief: bool = False, asked: str | None = "mpi") -> str:
    """The answer's HTML for all transports of the results, as the page shows it."""
    table = per_run(results)
    summary = summarise(table)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    with language(lang):
        settings = []
        for number, (key, rows) in enumerate(summary.groupby(["study", "workload", "workers"], sort=True), start=1):
            verdicts = {on: winner(rows, key[1], on) for on in ("mpi", "horovod", "simulated")}
            own = table[table["workload"] == key[1]]
            runs = results.runs[results.runs["run_id"].isin(own["run_id"])]
            grid = network_grid(results.runs, table)
            found = answer(
                f"s{number}", asked, verdicts, rows, own, look_of, "4 workers", runs=runs, heldout=results.heldout,
                grid=grid,
            )  # fmt: skip
            settings.append(
                dict(
                    name=f"s{number}",
                    study=key[0],
                    described=key[1],
                    target=TARGET,
                    brief=brief,
                    told=True,
                    answer=found,
                )
            )
        return environment(look_of).get_template("answer.html.j2").render(settings=settings, several_studies=False)


@pytest.mark.thorough
def test_one_setting_has_its_answer_and_several_have_a_line_each(results: Results, tmp_path: Path) -> None:
    one = first_screen(results, "en")
    assert one.count("<article") == 1 and "What would change the answer?" in one and "How sure is that?" in one
    assert "not shown: others may be as good" in one and "Training time to the target" in one
    several = first_screen(load(write_results(tmp_path / "two", steps=5, workloads=("a-mlp", "b-mlp"))), "en")
    assert several.count("<article") == 3
    overview = several[several.index("<table") : several.index("</table>")]
    assert overview.count("<tr") == 3 and "#s1-answer" in overview and "#s2-answer" in overview
    assert 'id="s1-answer"' in several and 'id="s2-answer"' in several


def test_of_many_simulated_settings_each_has_a_line_only(results: Results) -> None:
    simulated = results.runs[results.runs["transport"] == "simulated"].assign(label=lambda runs: runs["label"])
    few = replace(results, runs=simulated)
    brief = first_screen(few, "en", brief=True, asked="simulated")
    assert brief.count("<article") == 1 and 'href="#s1"' in brief and 'id="s1-answer"' not in brief
    costs = first_screen(replace(few, heldout=few.heldout[:0]), "en", brief=True, asked=None)
    rates = simulated["samples"] / simulated["duration_s"]
    assert f"by throughput, {rates.max():,.0f} samples/s; no held-out loss was recorded" in costs


def test_a_figure_of_many_algorithms_shows_the_first_and_the_baseline(results: Results) -> None:
    """Twelve copies of EASGD are all before all-reduce, which is shown nevertheless."""
    mpi = results.runs[(results.runs["transport"] == "mpi") & (results.runs["status"] == "completed")]
    copies = [mpi[mpi["label"] == "easgd"].assign(label=f"e{i:02d}") for i in range(12)]
    copies = [own.assign(run_id=own["run_id"] + own["label"]) for own in copies]
    curves = [
        results.heldout[results.heldout["run_id"] == run_id.removesuffix(label)].assign(run_id=run_id)
        for own in copies
        for run_id, label in zip(own["run_id"], own["label"], strict=True)
    ]
    runs = pd.concat([mpi[mpi["label"] == "allreduce-sgd"], *copies], ignore_index=True)
    heldout = pd.concat([results.heldout, *curves], ignore_index=True)
    html = first_screen(replace(results, runs=runs, heldout=heldout), "en")
    figure = html[html.index("<figure>") : html.index("</figure>")]
    assert all(f">{name}<" in figure for name in ("e00", "e08", "allreduce-sgd")) and ">e09<" not in figure
    assert "3 more are in the comparison below." in figure


def test_a_japanese_first_screen_has_no_english_sentence(results: Results) -> None:
    names = sorted(set(results.runs["label"]) | {"digits-mlp", "nat"}, key=len, reverse=True)
    texts = Text(first_screen(results, "ja")).texts
    assert any("検証損失" in text for text in texts) and any("何が変われば" in text for text in texts)
    for text in texts:
        plain = re.sub("|".join(map(re.escape, names)), "", text)
        assert not re.search(r"(?:[A-Za-z][A-Za-z'-]*[ ,.:;]+){3}[A-Za-z]+", plain), text


@pytest.mark.thorough
def test_what_comes_from_outside_stays_text_in_every_column(results: Results) -> None:
    """A script in any text of the table of runs comes out as text, wherever it is shown."""
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)> {t} {{ 7*7 }} %s"
    text = [c for c in results.runs.columns if pd.api.types.is_string_dtype(results.runs[c]) and c != "status"]
    assert {"study", "label", "workload", "error", "verdict", "settings", "provenance", "device"} <= set(text)
    few = results.runs[results.runs["transport"].isin(["mpi", "simulated"])]
    keep = {"run_id", "transport", "label", "started_utc"}  # joined below, or told apart by
    wild = few.assign(**{name: evil + few[name].astype(str) for name in text if name not in keep})
    wild = wild.assign(label="<b>" + few["label"] + "</b>", algorithm=few["algorithm"])
    asjson = json.dumps({evil: evil, "versions": {evil: evil}, "hosts": [evil], "command": evil, "paths": {evil: evil}})
    half = wild["seed"] == 0
    wild.loc[half, ["provenance", "settings", "workload_facts", "network"]] = asjson
    for lang in ("en", "ja"):
        page = build(
            replace(results, runs=wild), problems=[evil], studies={evil: {evil: evil}}, sources=[evil], lang=lang
        ).html
        assert evil not in page and "&lt;script&gt;alert(1)" in page and "&lt;b&gt;ad-psgd" in page
        assert "<script>alert" not in page and "<img" not in page and "<b>" not in page and EVIL not in page
        assert "{{ 7*7 }}" in page and "49 %s" not in page


def test_definitions_and_notes_are_there_in_the_language_asked_for(results: Results) -> None:
    page = build(replace(results, runs=results.runs[results.runs["transport"] == "horovod"]), lang="ja").html
    assert '<html lang="ja">' in page
    part = page[page.index('id="definitions"') : page.index("<details", page.index('id="definitions"'))]
    for definition in DEFINITIONS:
        assert definition.plain not in part and definition.name in part
    assert not any(text in part for _, text in NOTES)
