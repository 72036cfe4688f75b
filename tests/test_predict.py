"""`paceline predict`: a study becomes its prediction, runs in the simulator, and says what it left out."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import paceline
from bench import session
from bench.cluster import Compute, Network
from bench.cluster.file import Cluster, Measured, write
from bench.predict import as_predicted, parts
from bench.records import load
from bench.settings import StudyError
from bench.study import Study, read, resolve
from tests.support.lanes import one_lane

STUDY = """\
name = "small"
seeds = [0]
workers = [2]
transports = ["mpi", "horovod", "simulated"]
budget = { seconds = 0.06, snapshots = 3 }
network = { latency_s = 1e-4, bandwidth_Gbit_per_s = 2.0 }
compute = { gradient_s = 0.003, distribution = "lognormal", sigma = 0.4 }

[[workload]]
name = "quadratic"
dimension = 6

[[workload]]
name = "quadratic"
label = "wide"
dimension = 40
budget = { steps = 4 }
compute = { gradient_s = 0.5 }
network = { latency_s = 1.0 }

[[algorithm]]
name = "allreduce-sgd"
transports = ["mpi", "simulated"]

[[algorithm]]
name = "ad-psgd"
topology = "ring"
workloads = ["quadratic"]
transports = ["simulated"]
"""
WIRE = Network(latency_s=1e-4, bandwidth_Gbit_per_s=2.0)
TIMES = {"quadratic": Compute(gradient_s=0.003, distribution="lognormal", sigma=0.4), "wide": Compute(gradient_s=0.5)}


def raw(**changes: Any) -> dict[str, Any]:
    return {**tomllib.loads(STUDY), **changes}


def cluster(network: Network = WIRE, **measured: Any) -> Cluster:
    return Cluster(network=network, compute=TIMES, measured=Measured(**measured))


def predicted(*, of: dict[str, Any] | None = None, on: Cluster | None = None, **asked: Any) -> Study:
    return resolve(as_predicted(of or raw(), on or cluster(), **{"workers": [2, 4], **asked}))


# -- the table ---------------------------------------------------------------------------------------------------------


def test_a_prediction_is_simulated_on_the_cluster_whatever_the_study_says() -> None:
    on = cluster(Network(latency_s=2e-5, bandwidth_Gbit_per_s=25.0, collective="tree"))
    study = predicted(on=on)
    cells = list(study.cells())
    assert {cell.transport for cell in cells} == {"simulated"}
    assert {cell.workers for cell in cells} == {2, 4}
    assert {cell.network for cell in cells} == {on.network}
    assert {cell.workload.name: cell.workload.compute for cell in cells} == TIMES
    assert {cell.workload.name: cell.workload.budget.steps for cell in cells} == {"quadratic": None, "wide": 4}
    assert {(c.entry.label, c.workload.name) for c in cells} == {
        ("allreduce-sgd", "quadratic"),
        ("allreduce-sgd", "wide"),
        ("ad-psgd", "quadratic"),
    }
    assert study.table.name == "small"


def test_a_prediction_tells_which_transport_was_measured() -> None:
    (horovod,) = {cell.network.measured_with for cell in predicted(on=cluster(transport="horovod", utc="now")).cells()}
    (by_hand,) = {cell.network.measured_with for cell in predicted(on=cluster(transport="horovod")).cells()}
    assert (horovod, by_hand) == ("horovod", "")


def test_the_study_is_not_changed() -> None:
    given = raw()
    predicted(of=given, preset="10G", seconds=1.0)
    assert given == raw()


def test_the_transport_that_was_calibrated_says_the_bucket_unless_the_study_does() -> None:
    assert predicted(on=cluster(transport="mpi")).table.bucket_MiB == 25.0
    assert predicted(on=cluster(transport="horovod")).table.bucket_MiB == 4.0
    assert predicted(of=raw(bucket_MiB=1.0), on=cluster(transport="horovod")).table.bucket_MiB == 1.0


@pytest.mark.parametrize(
    ("asked", "name", "network"),
    [
        ({}, "small", WIRE),
        ({"bandwidth_Gbit_per_s": 2.0}, "small", WIRE),  # asks for what is there
        ({"bandwidth_Gbit_per_s": 0.1}, "small@0.1Gbit", Network(latency_s=1e-4, bandwidth_Gbit_per_s=0.1)),
        ({"latency_s": 0.05}, "small@50ms", Network(latency_s=0.05, bandwidth_Gbit_per_s=2.0)),
        ({"preset": "10G"}, "small@10G", Network(preset="10G")),
        (
            {"preset": "WAN-50ms", "bandwidth_Gbit_per_s": 0.5},
            "small@WAN-50ms,0.5Gbit",
            Network(latency_s=50e-3, bandwidth_Gbit_per_s=0.5),
        ),
        (
            {"preset": "10G", "ranks_per_node": 2},
            "small@10G,2-a-node",
            Network(preset="10G", ranks_per_node=2, inside=WIRE.outer),
        ),
    ],
)
def test_what_if_changes_the_network_between_nodes_and_the_name(asked: Any, name: str, network: Network) -> None:
    study = predicted(**asked)
    assert (study.table.name, study.table.network) == (name, network)


def test_a_limited_rate_becomes_a_token_bucket_until_another_bandwidth_is_asked_for() -> None:
    limited = raw(rate_Gbit_per_s=0.1, transports=["mpi", "simulated"])
    study = predicted(of=limited)
    assert study.table.name == "small" and study.table.rate_Gbit_per_s is None
    assert study.table.network.limit is not None and study.table.network.limit.rate_Gbit_per_s == 0.1
    free = predicted(of=limited, bandwidth_Gbit_per_s=1.0)
    assert free.table.name == "small@1Gbit" and free.table.network.limit is None


def test_seconds_replace_every_budget_and_snapshots_stay() -> None:
    budgets = {w.name: w.budget for w in predicted(seconds=0.5).workloads}
    assert {name: (b.seconds, b.steps) for name, b in budgets.items()} == {
        "quadratic": (0.5, None),
        "wide": (0.5, None),
    }
    assert budgets["quadratic"].snapshots == 3
    without = {key: value for key, value in raw().items() if key != "budget"}
    assert predicted(of=without, seconds=0.5).table.budget.seconds == 0.5


def test_a_model_that_is_only_a_size_needs_no_calibration() -> None:
    study = raw(
        workload=[{"name": "sized-model", "preset": "gpt-1B"}], algorithm=[{"name": "allreduce-sgd"}],
        transports=["simulated"], gradients="none",
    )  # fmt: skip
    assert predicted(of=study).workloads[0].compute.gradient_s == 0.003  # the study's own
    del study["compute"]
    study["workload"][0] |= {"accelerators": 8, "flops_per_s": 1e15, "mfu": 0.5, "sequence": 2048}
    assert predicted(of=study).workloads[0].compute == resolve(study).workloads[0].compute


@pytest.mark.parametrize(
    ("of", "asked", "complaint"),
    [
        ({"workload": [{"name": "digits-mlp"}]}, {}, "no compute times of workload 'digits-mlp'"),
        ({}, {"preset": "10GG"}, "no such preset: got '10GG'"),
        ({}, {"bandwidth_Gbit_per_s": -1.0}, "bandwidth_Gbit_per_s must be > 0"),
        ({}, {"ranks_per_node": 4}, "say what joins the nodes"),
        ({"workload": "quadratic"}, {}, "workload must be a list of tables"),
        ({"workload": [{"name": "quadratik"}]}, {}, "did you mean 'quadratic'"),
    ],
)
def test_what_cannot_be_predicted_is_one_line(of: Any, asked: Any, complaint: str) -> None:
    with pytest.raises(StudyError, match=complaint) as caught:
        predicted(of=raw(**of), **asked)
    assert "\n" not in str(caught.value)


# -- the parts ---------------------------------------------------------------------------------------------------------


def test_one_network_is_one_study_and_what_if_stands_below_it() -> None:
    tables = [as_predicted(raw(), cluster(), workers=[2, 4], bandwidth_Gbit_per_s=b) for b in (0.1, 2.0, 0.1)]
    found, left_out = parts(tables, "small")
    assert [(str(p.folder), p.study.table.name) for p in found] == [("0.1Gbit", "small@0.1Gbit"), (".", "small")]
    assert left_out == []


def test_an_algorithm_is_left_out_only_where_it_cannot_run() -> None:
    found, left_out = parts([as_predicted(raw(), cluster(), workers=[2, 5, 4, 7])], "small")
    cells = {(str(p.folder), c.workers, c.entry.label) for p in found for c in p.study.cells()}
    assert cells == {
        *((".", n, label) for n in (2, 4) for label in ("allreduce-sgd", "ad-psgd")),
        *(("n5-n7", n, "allreduce-sgd") for n in (5, 7)),
    }
    assert len(left_out) == 2 and all("ad-psgd on simulated with" in line and "odd cycle" in line for line in left_out)


def test_nothing_left_is_an_error() -> None:
    only = raw(algorithm=[{"name": "ad-psgd", "topology": "ring"}])
    with pytest.raises(StudyError, match="odd cycle"):
        parts([as_predicted(only, cluster(), workers=[5])], "small")


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def one_after_the_other() -> Iterator[None]:
    with one_lane():
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("study")
    study, file = folder / "small.toml", folder / "cluster.toml"
    study.write_text(STUDY)
    write(cluster(ranks=2), file)
    return study, file


def predict(files: tuple[Path, Path], *options: str) -> int:
    return paceline.main(["predict", str(files[0]), "--cluster", str(files[1]), *options])


OPTIONS = ["-n", "2,4", "--bandwidth", "0.1,2", "--seconds", "0.03"]


@pytest.fixture(scope="module")
def out(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predicted")
    assert predict(files, *OPTIONS, "--out", str(folder)) == 0
    return folder


@pytest.fixture(scope="module")
def cheap(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cheap")
    assert predict(files, "-n", "4", "--seconds", "0.03", "--cost-only", "--out", str(folder)) == 0
    return folder


def tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables without what tells of this machine and hour."""
    found = load(folder)
    runs = found.runs.drop(columns=["wall_s", "provenance", "started_utc"])
    return {"runs": runs, "events": found.events, "snapshots": found.snapshots.drop(columns="copy_s"),
            "heldout": found.heldout, "shares": found.shares}  # fmt: skip


@pytest.mark.thorough
def test_a_cluster_that_says_what_the_study_says_gives_its_simulated_runs_bit_for_bit(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(STUDY.replace("network = { latency_s = 1.0 }\n", ""))
    cells = list(read(own, without=("mpi", "horovod")).cells())
    assert session.simulated(cells, tmp_path / "run", say=lambda **_: None)
    assert predict((own, files[1]), "--out", str(tmp_path / "predicted")) == 0
    expected, got = tables(tmp_path / "run"), tables(tmp_path / "predicted")
    assert len(expected["runs"]) == 3 and len(expected["events"]) > 100
    for name, table in expected.items():
        pd.testing.assert_frame_equal(got[name], table, check_exact=True)


def test_what_is_complete_is_not_predicted_again(files: tuple[Path, Path], out: Path) -> None:
    assert sorted(str(p.parent.relative_to(out)) for p in out.glob("**/study.json")) == [".", "0.1Gbit"]
    whole = {path: path.stat().st_mtime_ns for path in out.glob("**/run.parquet")}
    assert len(whole) == 2 * 2 * 3  # networks, workers, algorithms on workloads
    assert predict(files, *OPTIONS, "--out", str(out)) == 0
    assert {path: path.stat().st_mtime_ns for path in out.glob("**/run.parquet")} == whole


@pytest.mark.thorough
def test_cost_only_predictions_have_the_same_time_and_bytes_and_no_loss(cheap: Path, out: Path) -> None:
    found, full = load(cheap), load(out)
    assert set(found.runs["gradients"]) == {"none"} and found.heldout["heldout_loss"].notna().sum() == 0
    keys = ["label", "workload", "seed"]
    columns = [*keys, "samples", "nbytes", "wire_nbytes", "duration_s"]
    expected = full.runs[full.runs["workers"] == 4].sort_values(keys)[columns].to_numpy().tolist()
    assert found.runs.sort_values(keys)[columns].to_numpy().tolist() == expected


@pytest.mark.thorough
def test_a_report_takes_the_folder_with_all_networks_and_runs_without_a_loss(
    out: Path, cheap: Path, tmp_path: Path
) -> None:
    html = tmp_path / "report.html"
    assert paceline.main(["report", str(out), str(cheap), "-o", str(html)]) == 0
    page = html.read_text()
    assert "15 runs" in page and "Predicted at other sizes" in page and "quadratic, study small" in page
    assert "Throughput against bandwidth, 4 workers" in page and "Predicted against measured" not in page


def test_a_dry_run_shows_all_parts_and_writes_nothing(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new"
    assert predict(files, "-n", "4,5", "--preset", "10G,100M", "--out", str(folder), "--dry-run") == 0
    said = capsys.readouterr()
    assert said.out.count("small@10G:") == said.out.count("small@100M:") == 2
    assert said.out.count("to run ") == 2 * (3 + 2)
    assert said.err.count("left out: small: ad-psgd on simulated with 5 workers") == 1 and "note:" not in said.err
    assert not folder.exists()


def test_several_bandwidths_and_latencies_are_a_grid(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--bandwidth", "0.1,1", "--latency", "1e-3,0.05"]
    assert predict(files, "-n", "2", *asked, "--dry-run") == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.startswith("small")]
    assert shown == [f"small@{gbit}Gbit,{latency}ms:" for gbit in ("0.1", "1") for latency in (1, 50)]


def test_sizes_beyond_the_calibrated_host_are_owned_up_to(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(files, "-n", "2,4", "--dry-run") == 0
    assert "measured with 2 ranks on one host; 4 workers are predicted as if" in capsys.readouterr().err
    assert predict(files, "-n", "2", "--dry-run") == 0
    assert "note:" not in capsys.readouterr().err


def test_short_steps_are_owned_up_to(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster_file = tmp_path / "cluster.toml"
    short = Compute(distribution="trace", times_s=(1e-4, 2e-4, 9e-4), step_s=2e-5, aside_s=1e-4, cold_s=6e-5)
    times = {"quadratic": short, "wide": Compute(gradient_s=0.5, exchange_s=1e-3)}
    write(Cluster(network=WIRE, compute=times, measured=Measured(ranks=2)), cluster_file)
    assert predict((files[0], cluster_file), "-n", "2", "--dry-run") == 0
    said = capsys.readouterr().err
    assert "note: a message costs a step of quadratic 90 % of its gradient's time" in said and "wide" not in said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cluster", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--only", "easgd"], "the study has no algorithm 'easgd'"),
        (["--seconds", "0"], "seconds must be > 0"),
        (["-n", "0"], "workers must be at least 1"),
        (["--preset", "12G"], "no such preset"),
    ],
)
def test_a_bad_call_is_one_line_and_code_2(
    files: tuple[Path, Path], options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(files, *options) == 2
    said = capsys.readouterr().err
    assert complaint in said and said.count("\n") == 1 and said.startswith("paceline predict: ")


def test_results_of_another_study_are_not_mixed_in(files: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps({"name": "other"}))
    assert predict(files, "--seconds", "0.01", "--out", str(tmp_path)) == 2
