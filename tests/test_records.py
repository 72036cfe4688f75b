"""The tables: what is written is what is read, with units; what is torn is named; nothing is ever half there."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import records
from bench.events import EventLog, Recorder
from bench.records import (
    EVENTS,
    HELDOUT,
    KINDS,
    RUNS,
    SNAPSHOTS,
    TABLES,
    Table,
    join,
    load,
    unknown_row,
    write_atomic,
    write_rows,
    write_table,
)

EXAMPLES: dict[str, Any] = {"int32": 7, "int64": 1 << 40, "double": 0.1, "string": "grün \n'x'", "bool": True}


def example_row(table: Table, **changes: Any) -> dict[str, Any]:
    return {c.name: EXAMPLES[str(c.type)] for c in table.columns} | changes


def write_run(root: Path, run_id: str, *, status: str = "completed") -> Path:
    folder = root / "runs" / run_id
    folder.mkdir(parents=True)
    write_rows(EVENTS, [example_row(EVENTS, run_id=run_id, rank=0)], folder / "events-r0-p0.parquet")
    write_rows(EVENTS, [example_row(EVENTS, run_id=run_id, rank=1)], folder / "events-r1-p0.parquet")
    write_rows(SNAPSHOTS, [example_row(SNAPSHOTS, run_id=run_id)], folder / "snapshots-r0.parquet")
    write_rows(HELDOUT, [example_row(HELDOUT, run_id=run_id)], folder / "heldout.parquet")
    write_rows(RUNS, [example_row(RUNS, run_id=run_id, status=status)], folder / "run.parquet")
    return folder


# -- schemas -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_a_table_comes_back_as_it_was_written(table: Table, tmp_path: Path) -> None:
    rows = [example_row(table), example_row(table)]
    write_rows(table, rows, tmp_path / "t.parquet")
    back = pq.read_table(tmp_path / "t.parquet")
    assert back.to_pylist() == rows
    assert back.schema.equals(table.schema, check_metadata=True)


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_every_column_has_a_meaning_and_its_unit_is_in_the_file(table: Table, tmp_path: Path) -> None:
    write_rows(table, [], tmp_path / "t.parquet")
    schema = pq.read_schema(tmp_path / "t.parquet")
    assert schema.metadata[b"paceline_table"].decode() == table.name
    for column in table.columns:
        metadata = schema.field(column.name).metadata
        assert metadata[b"unit"].decode() == column.unit == table.units()[column.name]
        assert len(metadata[b"meaning"].decode()) >= 1
    assert len({c.name for c in table.columns}) == len(table.columns)


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_a_name_that_tells_a_unit_tells_the_truth(table: Table) -> None:
    for column in table.columns:
        if column.name.endswith("_s"):
            assert column.unit == "s"
        if column.name.endswith("nbytes"):
            assert column.unit == "byte"
        if column.unit == "s":
            assert column.type == pa.float64()


def test_a_wrong_set_of_columns_is_refused(tmp_path: Path) -> None:
    row = example_row(HELDOUT)
    del row["t_s"]
    columns = {name: [value] for name, value in row.items()} | {"time": [0.0]}
    with pytest.raises(ValueError, match=r"heldout: missing columns \['t_s'\], unknown columns \['time'\]"):
        write_table(HELDOUT, columns, tmp_path / "t.parquet")
    with pytest.raises(ValueError):
        write_rows(HELDOUT, [example_row(HELDOUT, snapshot="first")], tmp_path / "t.parquet")
    assert not list(tmp_path.iterdir())


def test_an_arrow_table_is_written_with_the_tables_schema(tmp_path: Path) -> None:
    plain = pa.Table.from_pylist([example_row(HELDOUT)])  # int64 where the schema says int32, and no units
    write_table(HELDOUT, plain, tmp_path / "t.parquet")
    assert pq.read_schema(tmp_path / "t.parquet").equals(HELDOUT.schema, check_metadata=True)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_load_gives_all_tables_of_all_folders_with_units(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "a", "two", status="diverged")
    write_run(tmp_path / "b", "three", status="crashed")
    results = load(tmp_path / "a", str(tmp_path / "b"))
    assert sorted(results.runs["run_id"]) == ["one", "three", "two"]
    assert len(results.events) == 6 and len(results.snapshots) == 3 and len(results.heldout) == 3
    assert results.skipped == []
    for name, frame in (("runs", results.runs), ("events", results.events), ("heldout", results.heldout)):
        assert list(frame.columns) == [c.name for c in TABLES[name].columns]
        assert frame.attrs["units"] == TABLES[name].units() == results.units[name]


def test_empty_tables_keep_their_columns_and_types(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    results = load(tmp_path)
    assert (
        results.events.empty and results.events["t0_s"].dtype == "float64" and results.events["rank"].dtype == "int32"
    )


def test_a_run_without_its_row_is_not_loaded(tmp_path: Path) -> None:
    write_run(tmp_path, "whole")
    (write_run(tmp_path, "killed") / "run.parquet").unlink()
    results = load(tmp_path)
    for frame in (results.runs, results.events, results.snapshots, results.heldout):
        assert set(frame["run_id"]) == {"whole"}
    assert results.skipped == []


@pytest.mark.parametrize(
    ("torn", "lost"), [("events-r1-p0.parquet", "events"), ("heldout.parquet", "heldout"), ("run.parquet", "runs")]
)
@pytest.mark.parametrize("keep", [0, 5, 200, -1], ids=["empty", "magic", "head", "all but a byte"])
def test_a_torn_file_is_named_and_skipped_and_the_rest_loads(tmp_path: Path, torn: str, lost: str, keep: int) -> None:
    folder = write_run(tmp_path, "hurt")
    write_run(tmp_path, "whole")
    data = (folder / torn).read_bytes()
    (folder / torn).write_bytes(data[:keep])
    results = load(tmp_path)
    (reason,) = results.skipped
    assert reason.startswith(f"{folder / torn}: Arrow") and "\n" not in reason
    assert set(results.runs["run_id"]) == ({"whole"} if lost == "runs" else {"hurt", "whole"})
    rows = (
        {"events": 4, "snapshots": 2, "heldout": 2} if lost != "runs" else {"events": 2, "snapshots": 1, "heldout": 1}
    )
    if lost != "runs":
        rows[lost] -= 1
    assert {name: len(getattr(results, name)) for name in rows} == rows


def test_a_file_of_another_schema_is_named_and_skipped(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one")
    pq.write_table(pa.table({"x": [1]}), folder / "events-r7-p0.parquet")
    write_rows(HELDOUT, [example_row(HELDOUT)], folder / "snapshots-r7.parquet")
    results = load(tmp_path)
    assert sorted(line.split(":")[0] for line in results.skipped) == sorted(
        str(folder / name) for name in ("events-r7-p0.parquet", "snapshots-r7.parquet")
    )
    assert len(results.events) == 2 and len(results.snapshots) == 1


def test_a_folder_from_before_a_column_was_added_still_loads(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "old")
    newer = {c.name for c in RUNS.columns if c.newer}
    assert newer >= {"energy_J", "tuning_trials", "tuning_searched"}
    before = pq.read_table(folder / "run.parquet").drop_columns(sorted(newer))
    pq.write_table(before, folder / "run.parquet")
    write_run(tmp_path, "today")
    results = load(tmp_path)
    assert results.skipped == [] and len(results.events) == 4
    old, today = (results.runs.set_index("run_id").loc[name] for name in ("old", "today"))
    assert math.isnan(old["energy_J"]) and (old["tuning_trials"], old["tuning_searched"]) == (-1, "")
    assert (today["energy_J"], today["tuning_trials"]) == (EXAMPLES["double"], EXAMPLES["int32"])
    pq.write_table(before.drop_columns(["seed"]), folder / "run.parquet")  # never was a folder without a seed
    (reason,) = load(tmp_path).skipped
    assert "seed" in reason


@pytest.mark.parametrize("table", TABLES.values(), ids=list(TABLES))
def test_a_row_of_which_nothing_is_known_can_be_written(table: Table, tmp_path: Path) -> None:
    write_rows(table, [unknown_row(table)], tmp_path / "t.parquet")
    (row,) = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert {name: value for name, value in row.items() if value == value} == {
        name: value for name, value in unknown_row(table).items() if value == value
    }


def test_parts_come_in_the_order_in_which_they_were_written(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "long")
    for part in range(1, 12):
        write_rows(
            EVENTS, [example_row(EVENTS, run_id="long", rank=0, step=part)], folder / f"events-r0-p{part}.parquet"
        )
    events = load(tmp_path).events
    assert events["rank"].tolist() == [0] * 12 + [1]
    assert events["step"].tolist()[1:12] == list(range(1, 12))


def test_text_of_events_is_kept_as_codes_and_frames_can_be_written_to(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    events = load(tmp_path).events
    assert {name for name in events if events[name].dtype == "category"} == set(EVENTS.repeated)
    events.loc[0, "loss"] = 3.0
    events["step"] += 1
    assert events["loss"].tolist() == [3.0, EXAMPLES["double"]]


def test_joined_results_are_what_one_load_gives(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "one")
    write_run(tmp_path / "b", "two")
    (tmp_path / "b" / "runs" / "two" / "heldout.parquet").write_bytes(b"torn")
    together, joined = load(tmp_path / "a", tmp_path / "b"), join([load(tmp_path / "a"), load(tmp_path / "b")])
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(joined, name), getattr(together, name))
    assert joined.skipped == together.skipped and len(joined.skipped) == 1


def test_results_joined_with_nothing_are_not_copied(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "one")
    alone = load(tmp_path / "a")
    joined = join([alone])
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(joined, name), getattr(alone, name))
    assert np.shares_memory(joined.events["t0_s"].to_numpy(), alone.events["t0_s"].to_numpy())


def test_leavings_of_a_killed_writer_are_not_read(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one")
    (folder / ".events-r0-p1.parquet.123.tmp").write_bytes(b"half")
    (tmp_path / "runs" / "stray.txt").write_text("")
    assert load(tmp_path).skipped == [] and len(load(tmp_path).events) == 2


@pytest.mark.parametrize("name", ["nowhere", "file", "empty"])
def test_what_is_no_results_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=f"not a results folder.*{name}.*paceline run"):
        load(tmp_path / name)


def test_records_is_free_of_pickle() -> None:
    assert "pickle" not in Path(records.__file__).read_text(encoding="utf-8").replace("unpickled", "")


# -- writing -----------------------------------------------------------------------------------------------------------


def test_write_atomic_replaces_whole_files_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")
    write_atomic(path, b"new and longer")
    assert path.read_bytes() == b"new and longer" and [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    write_atomic(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x"]


WRITER = """
import sys
from pathlib import Path
from bench.records import write_atomic
folder, n = Path(sys.argv[1]), 0
while True:
    n += 1
    write_atomic(folder / "same", bytes([n % 256]) * 300_000)
    write_atomic(folder / f"new-{n % 5}", bytes([n % 256]) * 300_000)
    print(n, flush=True)
"""


def test_kill_9_never_leaves_a_half_file(tmp_path: Path) -> None:
    for generation in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        ) as writer:
            try:
                assert writer.stdout is not None
                # Some writes pass; then the end comes at whatever point the writer has reached. What is visible must be
                # whole at every moment, while it is alive and after its death.
                for n in range(1, 8 * (generation + 1)):
                    assert writer.stdout.readline() == b"%d\n" % n
                    assert whole(tmp_path)
            finally:
                writer.send_signal(signal.SIGKILL)
        assert whole(tmp_path)
    assert (tmp_path / "same").exists()


def whole(folder: Path) -> bool:
    for path in folder.iterdir():
        if not path.name.startswith("."):
            data = path.read_bytes()
            if len(data) != 300_000 or data.count(data[:1]) != len(data):
                return False
    return True


# -- the recorder ------------------------------------------------------------------------------------------------------

counts = st.integers(min_value=-1, max_value=(1 << 63) - 1)
row = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(KINDS),
        "step": st.integers(min_value=0, max_value=1 << 40),
        "t0_s": st.floats(allow_nan=False),
        "t1_s": st.floats(allow_nan=False),
        "nbytes": st.integers(min_value=0, max_value=1 << 40),
        "wire_nbytes": st.integers(min_value=0, max_value=1 << 40),
        "peer": st.integers(min_value=-1, max_value=4096),
        "label": st.text(max_size=20).filter(lambda text: text.isprintable()),
        "version_read": counts,
        "version_applied": counts,
        "staleness_updates": counts,
        "loss": st.floats(),
        "device_s": st.floats(),
        "mailbox_depth": st.integers(min_value=-1, max_value=1 << 20),
    }
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(row, max_size=20), spill_after=st.sets(st.integers(min_value=0, max_value=19)))
def test_events_come_back_through_any_parts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], spill_after: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("events")
    log = EventLog("the run", 3, capacity=20)
    names = [c.name for c in EVENTS.columns][1:]
    for i, values in enumerate(rows):
        log.add(tuple(({"rank": i} | values)[name] for name in names))  # type: ignore[arg-type]
        if i in spill_after:
            log.spill(folder)
    log.spill(folder)
    parts = [folder / f"events-r3-p{i}.parquet" for i in range(len(list(folder.iterdir())))]
    back = pa.concat_tables([pq.read_table(part) for part in parts]).to_pylist()
    assert len(back) == len(rows) and log.dropped == 0
    for i, (got, values) in enumerate(zip(back, rows, strict=True)):
        expected = {"run_id": "the run", "rank": i, **values}
        assert list(got) == [c.name for c in EVENTS.columns]
        for name in ("loss", "device_s"):
            if math.isnan(expected[name]):
                assert math.isnan(got.pop(name)) and math.isnan(expected.pop(name))
        assert got == expected


def test_each_row_says_what_happened_and_minus_one_what_does_not_apply(tmp_path: Path) -> None:
    recorder = Recorder("r", 5, lambda: 0.0)
    recorder.gradient(1, 0.0, 1.0, 7, 0.5, math.nan)
    recorder.apply(1, 1.0, 1.5, 7, 9)
    recorder.send(1, 1.5, 2.0, 100, 164, 3, "tag")
    recorder.recv(1, 1.5, 2.5, 40, 4, "tag", 2)
    recorder.add("allreduce", 1, 2.0, 3.0, nbytes=8, wire_nbytes=12, label="x")
    recorder.add("wait", 1, 2.0, 3.0, peer=4, label="y")
    recorder.log.spill(tmp_path)
    got = pq.read_table(tmp_path / "events-r5-p0.parquet").to_pylist()
    default = {
        "run_id": "r", "rank": 5, "step": 1, "nbytes": 0, "wire_nbytes": 0, "peer": -1, "label": "",
        "version_read": -1, "version_applied": -1, "staleness_updates": -1, "mailbox_depth": -1,
    }  # fmt: skip
    expected: list[dict[str, Any]] = [
        {"kind": "gradient", "t0_s": 0.0, "t1_s": 1.0, "version_read": 7, "loss": 0.5},
        {
            "kind": "apply", "t0_s": 1.0, "t1_s": 1.5, "version_read": 7, "version_applied": 9, "staleness_updates": 2,
        },
        {"kind": "send", "t0_s": 1.5, "t1_s": 2.0, "nbytes": 100, "wire_nbytes": 164, "peer": 3, "label": "tag"},
        {"kind": "recv", "t0_s": 1.5, "t1_s": 2.5, "nbytes": 40, "peer": 4, "label": "tag", "mailbox_depth": 2},
        {"kind": "allreduce", "t0_s": 2.0, "t1_s": 3.0, "nbytes": 8, "wire_nbytes": 12, "label": "x"},
        {"kind": "wait", "t0_s": 2.0, "t1_s": 3.0, "peer": 4, "label": "y"},
    ]  # fmt: skip
    for found, wanted in zip(got, expected, strict=True):
        known = {name: v for name, v in found.items() if not (isinstance(v, float) and math.isnan(v))}
        assert known == default | wanted
    assert (recorder.nbytes, recorder.wire_nbytes) == (108, 176)  # a message's sender counts it
    assert recorder.mailbox_depth_max == 2


def test_ranks_that_share_a_log_share_its_files_and_not_their_counts(tmp_path: Path) -> None:
    log = EventLog("r", 0, capacity=3)
    recorders = [Recorder("r", rank, lambda: 0.0, log=log) for rank in (0, 1)]
    for step in (1, 2):
        for recorder in recorders:
            recorder.send(step, 0.0, 0.0, 10, 12, 1 - recorder.rank, "t")
    assert [[row[1] for row in recorder.rows()] for recorder in recorders] == [[1, 2], [1]]
    assert [recorder.nbytes for recorder in recorders] == [20, 20]
    assert sum(recorder.dropped for recorder in recorders) == 1
    log.spill(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["events-r0-p0.parquet"]
    assert pq.read_table(tmp_path / "events-r0-p0.parquet")["rank"].to_pylist() == [0, 1, 0]


def test_rows_that_do_not_fit_are_counted_and_their_bytes_too(tmp_path: Path) -> None:
    recorder = Recorder("r", 0, lambda: 0.0, capacity=8)
    full_at = []
    for i in range(11):
        recorder.add("send", i, 0.0, 0.0, nbytes=10, wire_nbytes=12)
        full_at.append(recorder.log.nearly_full)
    assert recorder.dropped == 3 and len(recorder.rows()) == 8
    assert full_at == [False] * 6 + [True] * 5  # beyond three quarters
    assert (recorder.nbytes, recorder.wire_nbytes) == (110, 132)  # the count of bytes does not depend on the buffer
    recorder.log.spill(tmp_path)
    recorder.add("send", 99, 0.0, 0.0)
    assert recorder.dropped == 3 and [r[1] for r in recorder.rows()] == [99]


def test_spilling_numbers_parts_and_the_first_is_always_there(tmp_path: Path) -> None:
    log = EventLog("r", 2, capacity=8)
    log.spill(tmp_path)  # a rank without events has a table too
    log.spill(tmp_path)  # nothing new: no new part
    Recorder("r", 2, lambda: 0.0, log=log).add("apply", 1, 0.0, 0.0)
    log.spill(tmp_path)
    log.spill(tmp_path)
    lengths = {p.name: pq.read_metadata(p).num_rows for p in tmp_path.iterdir()}
    assert lengths == {"events-r2-p0.parquet": 0, "events-r2-p1.parquet": 1}


def test_the_frames_of_load_are_plain_columns(tmp_path: Path) -> None:
    write_run(tmp_path, "one")
    frame = load(tmp_path).events
    assert isinstance(frame, pd.DataFrame) and frame["rank"].tolist() == [0, 1]
    assert frame["label"].tolist() == [EXAMPLES["string"]] * 2
