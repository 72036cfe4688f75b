"""Short windows of a run: its pieces tile the time, its messages and collectives are the ones that were made."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.throughput import Gbit, throughput, wire_over_time
from analysis.timeline import AT, collectives, messages, pieces, windows
from analysis.timing import PARTS, time_split
from bench.records import Results, load
from tests.support.synthetic import SCHEDULES, events_of, write_run


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("timeline")
    for schedule in SCHEDULES:
        write_run(folder, schedule, "mpi", 0, steps=30)
    return load(folder)


def run_of(results: Results, label: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The row of a run, and its events."""
    run = results.runs[results.runs["label"] == label]
    return run, results.events[results.events["run_id"] == run["run_id"].iloc[0]]


def test_a_ranks_pieces_tile_its_run(results: Results) -> None:
    made = pieces(results.events, results.runs)
    duration = results.runs.set_index("run_id")["duration_s"]
    for (run_id, _), own in made.groupby(["run_id", "rank"]):
        assert own["t0_s"].iloc[0] == 0 and own["t1_s"].iloc[-1] == duration[run_id]
        assert (own["t0_s"].to_numpy()[1:] == own["t1_s"].to_numpy()[:-1]).all()
        assert (own["t1_s"] > own["t0_s"]).all()


def test_the_pieces_add_up_to_the_split_of_the_time(results: Results) -> None:
    made = pieces(results.events, results.runs)
    lengths = (made["t1_s"] - made["t0_s"]).groupby([made["run_id"], made["rank"], made["part"]]).sum().unstack("part")
    split = time_split(results.events, results.runs).set_index(["run_id", "rank"])
    for part in PARTS:
        found = lengths[part].fillna(0) if part in lengths else 0 * split[part]
        np.testing.assert_allclose(found.reindex(split.index).to_numpy(), split[part].to_numpy(), atol=1e-9)


def test_a_window_cuts_the_same_pieces(results: Results) -> None:
    cut = windows(results.events, results.runs)
    whole, inside = pieces(results.events, results.runs), pieces(results.events, results.runs, cut)
    whole = whole.merge(cut, on="run_id", suffixes=("", "_of_window"))
    whole["t0_s"] = np.maximum(whole["t0_s"], whole["t0_s_of_window"])
    whole["t1_s"] = np.minimum(whole["t1_s"], whole["t1_s_of_window"])
    whole = whole[whole["t1_s"] - whole["t0_s"] > 1e-9].reset_index(drop=True)
    assert whole["part"].tolist() == inside["part"].tolist()
    np.testing.assert_allclose(whole[["t0_s", "t1_s"]], inside[["t0_s", "t1_s"]], atol=1e-9)


def test_windows_have_one_length_and_begin_before_the_first_communication_after_the_golden_section(
    results: Results,
) -> None:
    cut = windows(results.events, results.runs, steps=4)
    runs = results.runs
    expected = 4 * float((runs["duration_s"] * runs["workers"] / runs["steps"]).median())
    np.testing.assert_allclose(cut["t1_s"] - cut["t0_s"], expected)
    for run, window in zip(runs.to_dict("records"), cut.to_dict("records"), strict=True):
        events = results.events[(results.events["run_id"] == run["run_id"]).to_numpy()]
        leaves = events.loc[events["kind"].isin(["send", "allreduce"]), "t0_s"]
        first = leaves[leaves >= AT * run["duration_s"]].min()
        assert window["t0_s"] == pytest.approx(min(first - expected / 4, run["duration_s"] - expected))


def test_a_silent_run_has_a_window_too() -> None:
    runs = pd.DataFrame({"run_id": ["a"], "duration_s": [10.0], "workers": [1], "steps": [10]})
    events = pd.DataFrame({"run_id": ["a"], "kind": ["gradient"], "t0_s": [0.0]})
    assert windows(events, runs, steps=2).iloc[0, 1:].tolist() == [10 * AT, 10 * AT + 2]
    assert windows(events, runs, steps=100).iloc[0, 1] == 0  # longer than the run: from its start


def test_every_message_is_found_with_its_times(results: Results) -> None:
    _, events = run_of(results, "ad-psgd")
    found = messages(events)
    assert len(found) == int((events["kind"] == "send").sum()) == int((events["kind"] == "recv").sum())
    np.testing.assert_allclose(found["arrived_s"] - found["sent_s"], 1e-3)  # of the schedule
    rows = [row for row in events_of(SCHEDULES[3], 30)[0] if row["kind"] == "send"]
    expected = sorted((row["t0_s"], row["rank"], row["peer"]) for row in rows)
    assert sorted(zip(found["sent_s"], found["source"], found["destination"], strict=True)) == expected


def test_messages_of_one_source_do_not_overtake_and_those_under_way_are_left_out() -> None:
    events = pd.DataFrame(
        {
            "run_id": "a", "rank": [0, 0, 1, 0], "kind": ["send", "send", "recv", "send"], "peer": [1, 1, 0, 2],
            "t0_s": [1.0, 2.0, 1.0, 5.0], "t1_s": [1.0, 2.0, 4.0, 5.0], "label": "gossip",
        }
    )  # fmt: skip
    found = messages(events)
    assert found[["source", "destination", "sent_s", "arrived_s"]].to_numpy().tolist() == [[0, 1, 1.0, 4.0]]


def test_collectives_have_all_workers_and_the_rule_of_the_last_one(results: Results) -> None:
    run, events = run_of(results, "allreduce-sgd")
    found = collectives(events, run)
    assert len(found) == 30
    # Worker r computes for 10 + 2 r ms; the transfer takes 4 ms after the last one.
    np.testing.assert_allclose(found["last_s"] - found["first_s"], 6e-3)
    np.testing.assert_allclose(found["done_s"] - found["last_s"], 4e-3)
    without = events[~((events["rank"] == 2) & (events["kind"] == "allreduce") & (events["step"] == 30)).to_numpy()]
    assert len(collectives(without, run)) == 29


def test_the_windows_of_the_wire_have_the_runs_bytes_and_its_peak(results: Results) -> None:
    rates = throughput(results.runs, results.events, 0.05).set_index("run_id")
    course = wire_over_time(results.runs, results.events, 0.05)
    for run in results.runs.to_dict("records"):
        own = course[course["run_id"] == run["run_id"]]
        assert (own["t1_s"] <= run["duration_s"] + 1e-9).all()
        assert own["t0_s"].iloc[0] == 0 and np.allclose(np.diff(own["t0_s"]), 0.05)
        assert own["wire_Gbit_per_s"].max() <= rates.loc[run["run_id"], "peak_wire_Gbit_per_s"] * (1 + 1e-12)
    # In windows that fill the run exactly nothing is lost.
    for run in results.runs.to_dict("records"):
        row = results.runs[results.runs["run_id"] == run["run_id"]]
        width = run["duration_s"] / 8
        own = wire_over_time(row, results.events[(results.events["run_id"] == run["run_id"]).to_numpy()], width)
        assert len(own) == 8
        assert own["wire_Gbit_per_s"].sum() * width == pytest.approx(Gbit(float(run["wire_nbytes"])), rel=1e-6)


def test_a_run_that_sends_nothing_is_flat(results: Results) -> None:
    run, events = run_of(results, "easgd")
    own = wire_over_time(run, events[(events["kind"] == "gradient").to_numpy()])
    assert len(own) >= 1 and (own["wire_Gbit_per_s"] == 0).all()


def test_without_events_there_are_no_rows() -> None:
    nothing = pd.DataFrame({"run_id": [], "rank": [], "kind": [], "label": [], "peer": [], "t0_s": [], "t1_s": []})
    assert messages(nothing).empty
    assert collectives(nothing, pd.DataFrame({"run_id": [], "workers": []})).empty
