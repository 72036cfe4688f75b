"""`paceline export`: what other tools read back from made-up results whose numbers are known."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import paceline
from bench.records import load
from reports.adapters.pytest_benchmark import stats
from tests.support.synthetic import BATCH, SCHEDULES, TARGET, WORKERS, write_run

ALLREDUCE, LOCAL = SCHEDULES[:2]
STEPS, STEP_S = 10, 0.021  # of all-reduce SGD: 10 + 2 * 3 ms for the slowest gradient, 4 on the wire, 1 to apply
DURATION_S = STEPS * STEP_S
RATE = WORKERS * BATCH / STEP_S
REACHED = 14  # snapshot of 20 at which it reaches the target over MPI
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(schedule: Any = ALLREDUCE, seeds: Sequence[int] = (0, 1), transport: str = "mpi", **known: Any) -> Path:
        for number, seed in enumerate(seeds):
            own = {k: v[number] if isinstance(v, list | tuple) else v for k, v in known.items()}
            write_run(tmp_path / "runs-of-it", schedule, transport, seed, steps=STEPS, **own)
        return tmp_path / "runs-of-it"

    return write


def rewrite(folder: Path, **columns: Any) -> None:
    for path in folder.glob("runs/*/run.parquet"):
        table = pq.read_table(path)
        for name, value in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array([value], table.schema.field(at).type))
        pq.write_table(table, path)


def export(folder: Path, form: str, *more: Any) -> int:
    return paceline.main(["export", str(folder), "--as", form, *map(str, more)])


# -- ReFrame -----------------------------------------------------------------------------------------------------------


def test_reframes_own_check_reads_the_lines(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(seeds=(0, 1, 2))
    rewrite(folder, device="1 x NVIDIA H100")
    assert export(folder, "reframe") == 0
    text = capsys.readouterr().out
    # The expressions of hpctestlib.ml.pytorch.horovod, with model, batch size and number of tasks filled in.
    assert re.search(r"Model: digits-mlp", text) and re.search(rf"Batch size: {BATCH}", text)
    (each,) = re.findall(r"Img/sec per GPU: (\S+) \S+", text)
    total = re.search(rf"Total img/sec on {WORKERS} GPU\(s\): (\S+) \S+", text)
    assert total is not None
    assert float(total[1]) == pytest.approx(RATE, abs=0.05) and float(each) == pytest.approx(RATE / WORKERS, abs=0.05)


def test_the_spread_is_that_of_the_runs(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(seeds=(0,))
    assert export(folder, "reframe") == 0
    assert capsys.readouterr().out.count("+-nan") == 2  # one run has none
    write(seeds=(1,))
    for path, samples in zip(sorted(folder.glob("runs/*/run.parquet")), (3000, 5000), strict=True):
        table = pq.read_table(path)
        at = table.schema.get_field_index("samples")
        pq.write_table(table.set_column(at, table.schema.field(at), pa.array([samples], pa.int64())), path)
    assert export(folder, "reframe") == 0
    half = 1.96 * 2000 / DURATION_S / 2**0.5
    text = capsys.readouterr().out
    assert f"Total img/sec on 4 CPU(s): {4000 / DURATION_S:.1f} +-{half:.1f}" in text


def test_a_processor_is_called_one_unless_it_is_asked_otherwise(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write()
    assert export(folder, "reframe") == 0
    assert "Img/sec per CPU: " in capsys.readouterr().out
    assert export(folder, "reframe", "--call-ranks", "GPU") == 0
    assert "Img/sec per GPU: " in capsys.readouterr().out


def test_several_cells_are_not_mixed(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write()
    write(LOCAL)
    assert export(folder, "reframe") == 2
    said = capsys.readouterr()
    assert "takes one cell" in said.err and said.err.count("\n") == 1 and not said.out
    assert export(folder, "reframe", "--label", "local-sgd") == 0


# -- MLPerf ------------------------------------------------------------------------------------------------------------


def events(text: str) -> list[dict[str, Any]]:
    lines = text.splitlines()
    assert lines and all(line.startswith(":::MLLOG ") for line in lines)
    found = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
    for event in found:
        assert list(event) == ["namespace", "time_ms", "event_type", "key", "value", "metadata"]
        assert event["event_type"] in ("INTERVAL_START", "INTERVAL_END", "POINT_IN_TIME")
        assert isinstance(event["time_ms"], int) and isinstance(event["metadata"], dict)
    return found


def test_a_run_that_reached_the_target_stops_there_with_success(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(seeds=(3,))
    assert export(folder, "mlperf") == 0
    found = events(capsys.readouterr().out)
    one = {event["key"]: event for event in found}
    assert one["submission_benchmark"]["value"] == "digits-mlp" and one["seed"]["value"] == 3
    assert one["global_batch_size"]["value"] == WORKERS * BATCH
    assert one["run_stop"]["metadata"]["status"] == "success"
    took_ms = one["run_stop"]["time_ms"] - one["run_start"]["time_ms"]
    assert took_ms == round(1000 * DURATION_S * REACHED / 20)
    assert one["run_start"]["time_ms"] == 1_795_168_800_000  # 2026-11-20T10:00:00Z
    curve = [event for event in found if event["key"] == "eval_accuracy"]
    assert len(curve) == REACHED + 1 and [e["time_ms"] for e in curve] == sorted(e["time_ms"] for e in curve)
    assert curve[-1]["metadata"]["heldout_loss"] == pytest.approx(TARGET) and found[-1]["key"] == "run_stop"
    assert curve[-1]["value"] == pytest.approx(1 - TARGET / 4) and curve[-1]["metadata"]["metric"] == "accuracy"


@pytest.mark.parametrize("known", [{"late": 30}, {"status": "diverged"}])
def test_a_run_that_did_not_was_aborted(write: Write, known: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(write(seeds=(0,), **known), "mlperf") == 0
    found = events(capsys.readouterr().out)
    assert found[-1]["metadata"]["status"] == "aborted"
    assert found[-1]["time_ms"] - 1_795_168_800_000 == round(1000 * DURATION_S)


def test_another_metric_than_accuracy_is_not_called_one(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(seeds=(0,))
    rewrite(folder, metric="distance")
    assert export(folder, "mlperf") == 0
    curve = [event for event in events(capsys.readouterr().out) if event["key"] == "eval_accuracy"]
    assert curve[-1]["value"] == pytest.approx(TARGET) and curve[-1]["metadata"]["metric"] == "heldout_loss"


def test_each_run_has_a_file_inside_the_folder(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write(label="../../evil"), tmp_path / "logs"
    assert export(folder, "mlperf") == 2
    assert "give a folder" in capsys.readouterr().err
    assert export(folder, "mlperf", "-o", out) == 0
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [f"synthetic-digits-mlp-4-mpi-.._.._evil/result_{k}.txt" for k in (0, 1)]
    assert all(events((out / file).read_text()) for file in files)


def test_mlcommons_own_parser_reads_the_lines(write: Write, tmp_path: Path) -> None:
    mlp_parser = pytest.importorskip("mlperf_logging.compliance_checker.mlp_parser")
    assert export(write(seeds=(0,)), "mlperf", "-o", tmp_path / "result_0.txt") == 0
    lines, errors = mlp_parser.parse_file(str(tmp_path / "result_0.txt"), ruleset="5.1.0")
    assert not errors and [line.key for line in lines][-1] == "run_stop"


# -- pytest-benchmark --------------------------------------------------------------------------------------------------


def test_pytest_benchmark_compares_the_file(write: Write, tmp_path: Path) -> None:
    folder = write(late=(0, 2))
    write(LOCAL)
    assert export(folder, "pytest-benchmark", "-o", tmp_path / "b.json") == 0
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare", str(tmp_path / "b.json"), "--csv", str(tmp_path / "b")],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "time_to_target[allreduce-sgd]" in done.stdout and "seconds_per_sample[local-sgd]" in done.stdout
    rows = [line.split(",") for line in (tmp_path / "b.csv").read_text().splitlines()]
    table = {row[rows[0].index("name")].split("::")[-1]: dict(zip(rows[0], row, strict=True)) for row in rows[1:]}
    reached = table["time_to_target[allreduce-sgd]"]
    assert float(reached["min"]) == pytest.approx(DURATION_S * REACHED / 20)
    assert float(reached["max"]) == pytest.approx(DURATION_S * (REACHED + 2) / 20)
    assert float(table["seconds_per_sample[allreduce-sgd]"]["ops"]) == pytest.approx(RATE)


def test_statistics_are_pytest_benchmarks_own() -> None:
    from pytest_benchmark.stats import Stats

    values = random.Random(7)
    for n in range(1, 14):
        data = [values.lognormvariate(0, 1) for _ in range(n)]
        theirs = Stats()
        for value in data:
            theirs.update(value)
        ours = stats(data)
        assert ours["data"] == data and ours["outliers"] == theirs.outliers
        for name in Stats.fields:
            if name != "outliers":
                assert ours[name] == pytest.approx(getattr(theirs, name), rel=1e-12), (n, name)


def test_a_time_that_not_all_runs_have_is_left_out(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(late=(0, 30))
    assert export(folder, "pytest-benchmark") == 0
    said = capsys.readouterr()
    assert [b["name"] for b in json.loads(said.out)["benchmarks"]] == ["seconds_per_sample[allreduce-sgd]"]
    assert "time to target: 1 of 2 runs have one" in said.err


# -- all of them -------------------------------------------------------------------------------------------------------


def test_bad_and_simulated_runs_are_named_and_left_out(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write(seeds=(0, 1, 2), status=("completed", "failed", "crashed"))
    write(transport="simulated")
    assert export(folder, "pytest-benchmark") == 0
    said = capsys.readouterr()
    (document,) = [json.loads(said.out)]
    assert {b["stats"]["rounds"] for b in document["benchmarks"]} == {1}
    assert not any(b["extra_info"]["simulated"] for b in document["benchmarks"])
    for left_out in (": failed", ": crashed", "2 simulated runs (ask for them with --transport simulated)"):
        assert f"{left_out}\n" in said.err
    assert export(folder, "pytest-benchmark", "--transport", "simulated") == 0
    assert all(b["extra_info"]["simulated"] for b in json.loads(capsys.readouterr().out)["benchmarks"])
    assert export(folder, "mlperf", "--transport", "simulated", "-o", folder / "logs") == 0
    logs = [events(path.read_text()) for path in (folder / "logs").rglob("*.txt")]
    assert len(logs) == 2 and all(event["metadata"]["simulated"] for log in logs for event in log)


def test_what_cannot_be_exported_is_refused_in_one_line(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write()
    for arguments, says in (
        ((tmp_path, "reframe"), "not a results folder"),
        ((folder, "reframe", "--label", "allreduce-sdg"), "did you mean 'allreduce-sgd'?"),
        ((folder, "reframe", "--workers", 5), "there is no workers '5'"),
        ((folder, "mlperf", "--call-ranks", "GPU"), "--call-ranks is for --as reframe"),
        ((folder, "mlperf", "-o", tmp_path / "no" / "such"), "there is no folder"),
        ((folder, "pytest-benchmark", "-o", tmp_path), "is a folder"),
    ):
        assert export(*arguments) == 2
        said = capsys.readouterr()
        assert says in said.err and said.err.count("\n") == 1 and not said.out
    for path in folder.glob("runs/*/run.parquet"):
        path.unlink()
    write(seeds=(5,), status="crashed")
    assert export(folder, "mlperf") == 2
    assert "no run with a result to export: left out:" in capsys.readouterr().err


def test_tables_by_another_hand_stop_nothing(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write()
    rewrite(folder, started_utc="yesterday", provenance='{"ranks": 4, "versions": [], "commit": 7}', settings="{")
    assert export(folder, "pytest-benchmark") == 0
    assert json.loads(capsys.readouterr().out)["machine_info"]["node"] == ""
    assert export(folder, "reframe") == 0
    capsys.readouterr()
    assert export(folder, "mlperf") == 2
    assert "Invalid isoformat string: 'yesterday'" in capsys.readouterr().err


def test_the_same_results_give_the_same_bytes(write: Write, tmp_path: Path) -> None:
    folder = write()
    for form, name in (("reframe", "r.txt"), ("pytest-benchmark", "b.json")):
        texts = []
        for _ in range(2):
            assert export(folder, form, "-o", tmp_path / name) == 0
            texts.append((tmp_path / name).read_bytes())
        assert texts[0] == texts[1]


def test_rates_are_those_of_the_report(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    from analysis.summary import summary

    folder = write()
    assert export(folder, "pytest-benchmark") == 0
    found = {b["name"]: b["stats"] for b in json.loads(capsys.readouterr().out)["benchmarks"]}
    row = summary(load(folder)).iloc[0]
    assert found["seconds_per_sample[allreduce-sgd]"]["ops"] == pytest.approx(row["samples_per_s"], rel=1e-12)
    assert found["time_to_target[allreduce-sgd]"]["mean"] == pytest.approx(row["time_to_target_s"], rel=1e-12)
