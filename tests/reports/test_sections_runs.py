"""The sections on what goes on in a run, and on several workloads: what they show, and what they leave out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from analysis.efficiency import speed_up
from analysis.pareto import pareto_front
from analysis.summary import per_run, summarise
from analysis.throughput import throughput
from analysis.timing import time_split
from bench.records import Results, load
from reports.chosen import first_runs
from reports.environment import environment
from reports.language import language
from reports.sections import ages, consensus, pareto, profiles, scaling, timeline, traffic
from reports.sections.base import Material, Section, Setting
from reports.style import looks
from tests.support.synthetic import EVIL, SCHEDULES, WORKERS, write_run

PER_SETTING = {"timeline": timeline, "traffic": traffic, "ages": ages, "consensus": consensus, "pareto": pareto}


def material_of(results: Results, workload: str | None = "digits-mlp") -> Material:
    """The material of one workload with its setting, or of all."""
    runs = results.runs if workload is None else results.runs[results.runs["workload"] == workload]
    own = replace(results, runs=runs)
    split = time_split(own.events, runs)
    table = per_run(own)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    setting = None if workload is None else Setting("s1", "synthetic", workload, WORKERS, f"{workload}, 4 workers")
    split = split.merge(table[["run_id", "label"]], on="run_id")
    return Material(results, table, summarise(table), split, look_of, (), environment(look_of), setting)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("sections")
    for schedule in SCHEDULES:
        for transport in ("mpi", "simulated"):
            for seed in (0, 1):
                write_run(folder, schedule, transport, seed, steps=20)
    write_run(folder, SCHEDULES[4], "mpi", 0, label="broken", status="failed", steps=20)
    return load(folder)


@pytest.fixture(scope="module")
def material(results: Results) -> Material:
    return material_of(results)


@pytest.fixture(scope="module")
def made(material: Material) -> Mapping[str, Section]:
    found = {name: module.section(material) for name, module in PER_SETTING.items()}
    return {name: section for name, section in found.items() if section is not None}


def panels(section: Section) -> list[str]:
    return re.split(r'<div class="panel', str(section.html))[1:]


def described(html: str) -> str:
    """The figures' texts for those who cannot see them."""
    return " ".join(re.findall(r"<desc[^>]*>(.*?)</desc>", html))


def test_every_section_is_made_with_unique_anchors_and_files(made: Mapping[str, Section]) -> None:
    assert set(made) == set(PER_SETTING)
    assert len({section.anchor for section in made.values()}) == len(made)
    names = [table.name for section in made.values() for table in section.tables]
    assert len(names) == len(set(names)) and all(re.fullmatch(r"[a-z0-9-]+", name) for name in names)


@pytest.mark.parametrize("name", PER_SETTING)
def test_measured_and_simulated_never_share_a_panel(name: str, made: Mapping[str, Section]) -> None:
    found = panels(made[name])
    assert len(found) == 2
    assert "simulated" not in found[0].split("<figure>")[0] and "MPI" in described(found[0])
    assert found[1].startswith(" simulated") and "simulator" in described(found[1])


@pytest.mark.thorough
@pytest.mark.parametrize("name", PER_SETTING)
def test_the_same_tables_give_the_same_bytes_and_small_figures(
    name: str, material: Material, made: Mapping[str, Section]
) -> None:
    again = PER_SETTING[name].section(material)
    assert again is not None and str(again.html) == str(made[name].html)
    figures = re.findall(r"<svg viewBox.*?</svg>", str(made[name].html), flags=re.S)
    assert figures and max(map(len, figures)) < 60_000


@pytest.mark.parametrize("name", PER_SETTING)
def test_a_failed_run_has_no_part_in_it(name: str, made: Mapping[str, Section]) -> None:
    assert "broken" not in str(made[name].html)


@pytest.mark.parametrize("name", PER_SETTING)
def test_there_is_no_section_without_runs(name: str, material: Material) -> None:
    failed = material.table.assign(status="crashed")
    assert PER_SETTING[name].section(replace(material, table=failed, summary=summarise(failed))) is None


@pytest.mark.parametrize("name", ["timeline", "traffic", "ages"])
def test_there_is_no_section_without_events(name: str, material: Material) -> None:
    results = replace(material.results, events=material.results.events.iloc[:0])
    assert PER_SETTING[name].section(replace(material, results=results)) is None


@pytest.mark.thorough
@pytest.mark.parametrize("name", PER_SETTING)
def test_names_with_html_come_out_as_text(name: str, results: Results) -> None:
    runs = results.runs.assign(label=results.runs["label"].replace({"easgd": EVIL, "ad-psgd": f"{EVIL} 2"}))
    section = PER_SETTING[name].section(material_of(replace(results, runs=runs)))
    assert section is not None
    assert "<script" not in str(section.html) and "<b>" not in str(section.html)
    assert "&lt;script" in str(section.html)


@pytest.mark.thorough
@pytest.mark.parametrize("name", PER_SETTING)
def test_a_section_speaks_japanese(name: str, material: Material, made: Mapping[str, Section]) -> None:
    with language("ja"):
        section = PER_SETTING[name].section(material)
    assert section is not None and section.title != made[name].title
    hint = re.search(r'<p class="hint">(.*?)</p>', str(section.html))
    assert hint and re.search(r"[ぁ-ん]", hint[1])


# -- what they say -----------------------------------------------------------------------------------------------------


def test_the_timeline_says_who_runs_in_lock_step_and_who_waits(made: Mapping[str, Section]) -> None:
    measured, _ = panels(made["timeline"])
    for label, way in {"allreduce-sgd": "in lock-step", "ad-psgd": "asynchronously", "easgd": "asynchronously"}.items():
        assert f"{label}: the workers ran {way}" in described(measured)
    # 17 ms a step, of which worker 0 computes 10, 1 and 2 and 3 compute 12, 14 and 16: 13 of 21 ms on average.
    share = re.search(r"allreduce-sgd: .*? computed gradients (\d+)", described(measured))
    assert share is not None and abs(int(share[1]) / 100 - 13 / 21) < 0.06


def test_the_timeline_shows_the_messages_of_the_window(made: Mapping[str, Section]) -> None:
    measured, _ = panels(made["timeline"])
    counted = re.search(r"ad-psgd: [^:]* had (\d+) messages", described(measured))
    assert counted is not None and int(counted[1]) > 4


def test_of_many_algorithms_half_are_in_lock_step(material: Material) -> None:
    def many(frame: pd.DataFrame) -> pd.DataFrame:
        copies = [frame.assign(run_id=frame["run_id"] + f"-{i}", label=frame["label"] + f" {i}") for i in range(6)]
        return pd.concat([frame, *copies], ignore_index=True)

    runs, table = many(material.results.runs), many(material.table)
    look_of = looks(zip(runs["label"], runs["algorithm"], strict=True))
    wide = replace(material, results=replace(material.results, runs=runs), table=table, look_of=look_of)
    first = timeline._labels(wide, summarise(table), first_runs(table, "mpi"))
    way = runs.drop_duplicates("label").set_index("label")["lockstep"]
    assert len(first) == timeline.ALGORITHMS and "allreduce-sgd" in first
    assert sum(bool(way[label]) for label in first) == timeline.ALGORITHMS // 2


def test_the_traffic_is_that_of_the_tables(material: Material, made: Mapping[str, Section]) -> None:
    table = made["traffic"].tables[0]
    runs = first_runs(material.table, "mpi")
    known = throughput(material.results.runs, material.results.events).set_index("run_id")
    for row in table.frame[table.frame["transport"] == "MPI"].to_dict("records"):
        expected = known.loc[runs[row["label"]]]
        assert row["mean_Gbit_per_s"] == pytest.approx(expected["wire_Gbit_per_s"], rel=1e-9)
        assert row["peak_Gbit_per_s"] >= row["mean_Gbit_per_s"] * (1 - 1e-9)


def test_ages_are_in_writes_and_seconds(made: Mapping[str, Section]) -> None:
    frame = made["ages"].tables[0].frame.set_index(["transport", "label"])
    assert frame.loc[("MPI", "ad-psgd"), "updates_mean"] == 1.5 and frame.loc[("MPI", "ad-psgd"), "updates_max"] == 3
    assert frame.loc[("MPI", "allreduce-sgd"), "updates_max"] == 0
    assert (frame["s_mean"] > 0).all()


def test_who_is_always_equal_is_said_and_not_drawn(made: Mapping[str, Section]) -> None:
    for panel in panels(made["consensus"]):
        assert "All workers equal at every snapshot" in panel
        assert "allreduce-sgd:" not in described(panel) and "easgd:" in described(panel)


def test_the_front_is_that_of_the_analysis(material: Material, made: Mapping[str, Section]) -> None:
    frame = made["pareto"].tables[0].frame
    expected = pareto_front(material.summary)
    measured = expected[expected["transport"] == "mpi"].set_index("label")["on_front"]
    shown = frame[frame["transport"] == "MPI"].set_index("label")["place"]
    assert {label for label in shown.index if shown[label] == "on the front"} == set(measured.index[measured])


# -- several numbers of workers, several workloads ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(results: Results) -> Material:
    return material_of(results, None)


def at_sizes(material: Material, per_worker: Mapping[int, float]) -> Material:
    """The same runs at other numbers of workers, the throughput per worker times a factor."""
    tables = [
        material.table.assign(workers=n, samples_per_s=material.table["samples_per_s"] * n / WORKERS * factor)
        for n, factor in per_worker.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return replace(material, table=table, summary=summarise(table))


def test_scaling_needs_several_numbers_of_workers(everything: Material) -> None:
    assert scaling.section(everything) is None


def test_efficiency_is_that_of_the_analysis(everything: Material) -> None:
    several = at_sizes(everything, {2: 1.0, 4: 0.9, 8: 0.6})
    section = scaling.section(several)
    assert section is not None and len(panels(section)) == 2
    frame = section.tables[0].frame
    assert set(frame["workers"]) == {2, 4, 8}
    for workers, efficiency in ((2, 1.0), (4, 0.9), (8, 0.6)):
        own = frame.loc[frame["workers"] == workers, "throughput_efficiency"]
        assert own.to_numpy() == pytest.approx(efficiency)
    expected = speed_up(several.summary)
    keys = ["transport", "label", "workers"]
    joined = frame.merge(expected, on=keys, suffixes=("", "_expected"))
    known = joined[joined["seeds"] > 0] if "seeds" in joined else joined
    assert (known["throughput_speed_up"] == known["throughput_speed_up_expected"]).all()


def test_profiles_need_two_settings_and_common_algorithms(results: Results, everything: Material) -> None:
    assert profiles.section(everything) is None
    other = everything.table.assign(workload="other", time_to_target_s=2 * everything.table["time_to_target_s"])
    lacking = other[other["label"] != "easgd"]
    table = pd.concat([everything.table, lacking], ignore_index=True)
    section = profiles.section(replace(everything, table=table, summary=summarise(table)))
    assert section is not None
    frame = section.tables[0].frame
    assert "easgd" not in set(frame["label"]) and "Left out" in str(section.html)
    best = frame[frame["transport"] == "MPI"].set_index("label")["best"]
    assert best["ad-psgd"] == 1.0 and best.sum() == 1.0  # twice the time everywhere: the same one is the fastest


def test_ranks_need_five_settings(everything: Material) -> None:
    tables = [everything.table.assign(workload=f"w{i}") for i in range(5)]
    for count, expected in ((4, False), (5, True)):
        table = pd.concat(tables[:count], ignore_index=True)
        section = profiles.section(replace(everything, table=table, summary=summarise(table)))
        assert section is not None and ("Mean ranks</title>" in str(section.html)) == expected


def test_one_run_stands_for_an_algorithm_by_its_seed_alone(tmp_path: Path) -> None:
    for seed, status in ((0, "failed"), (3, "completed"), (2, "completed")):
        write_run(tmp_path, SCHEDULES[0], "mpi", seed, status=status, steps=10)
    table = per_run(load(tmp_path))
    assert [run_id.split(".")[4] for run_id in first_runs(table, "mpi").values()] == ["s2"]
