"""Study files become cells: which, in what order, under what id; what the command line changes; what a dry run does."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import paceline
from bench.cluster import Compute, Network
from bench.records import RUNS, write_rows
from bench.run import blank_row, write_crashed
from bench.settings import StudyError, plain
from bench.study import STUDIES, Cell, Study, find, read, resolve

STUDY = """\
name = "grid"
seeds = [0, 1]
workers = [2, 4]
transports = ["simulated", "mpi"]
budget = {seconds = 3, snapshots = 5}
compute = {gradient_s = 0.02}

[[workload]]
name = "quadratic"
dimension = 6

[[workload]]
name = "digits-mlp"
budget = {seconds = 7}
optimizer = {name = "adamw", lr = 0.001}
compute = {gradient_s = 0.5}
target_loss = 0.25

[[algorithm]]
name = "allreduce-sgd"

[[algorithm]]
name = "easgd"
label = "easgd-slow"
period = 20
transports = ["simulated"]

[[algorithm]]
name = "easgd"
label = "easgd-fast"
period = 2
workloads = ["digits-mlp"]
"""


def table() -> dict[str, Any]:
    return tomllib.loads(STUDY)


def ids(study: Study) -> list[str]:
    return [cell.run_id for cell in study.cells()]


def where(cell: Cell) -> tuple[int, str, int, str, str]:
    return (cell.seed, cell.workload.name, cell.workers, cell.transport, cell.entry.label)


# -- expansion ---------------------------------------------------------------------------------------------------------


def test_a_study_is_the_product_of_its_lists_less_what_entries_exclude() -> None:
    expected = [
        (seed, workload, workers, transport, label)
        for seed in (0, 1)  # slowest, so that an interrupted study has whole comparisons
        for workload in ("quadratic", "digits-mlp")
        for workers in (2, 4)
        for transport in ("simulated", "mpi")
        for label in ("allreduce-sgd", "easgd-slow", "easgd-fast")
        if not (label == "easgd-slow" and transport == "mpi")
        if not (label == "easgd-fast" and workload == "quadratic")
    ]
    cells = list(resolve(table()).cells())
    assert [where(cell) for cell in cells] == expected
    assert len({cell.run_id for cell in cells}) == len(cells)


def test_a_server_is_one_more_rank() -> None:
    assert {(c.algorithm.name, c.ranks - c.workers) for c in resolve(table()).cells()} == {
        ("allreduce-sgd", 0),
        ("easgd", 1),
    }


def test_a_workload_may_override_budget_optimizer_compute_and_target() -> None:
    by_name = {cell.workload.name: cell.workload for cell in resolve(table()).cells()}
    plain, special = by_name["quadratic"], by_name["digits-mlp"]
    assert (plain.budget.seconds, plain.budget.snapshots) == (3.0, 5)
    assert (special.budget.seconds, special.budget.snapshots) == (
        7.0,
        10,
    )  # a table of its own: defaults, not a mixture
    assert (plain.optimizer, plain.target_loss) == (None, None)
    assert special.optimizer is not None and (special.optimizer.name, special.optimizer.lr) == ("adamw", 0.001)
    assert special.target_loss == 0.25
    assert (plain.compute.gradient_s, special.compute.gradient_s) == (0.02, 0.5)


def test_single_values_and_single_tables_stand_for_lists_of_one() -> None:
    short = {
        "name": "one",
        "workers": 2,
        "seeds": 3,
        "transports": ["simulated"],
        "workload": {"name": "quadratic"},
        "algorithm": {"name": "local-sgd"},
    }
    long = short | {"workers": [2], "seeds": [3]} | {k: [short[k]] for k in ("workload", "algorithm")}
    assert ids(resolve(short)) == ids(resolve(long)) and len(ids(resolve(short))) == 1


# -- run ids -----------------------------------------------------------------------------------------------------------


def test_a_run_id_is_readable() -> None:
    shape = r"(allreduce-sgd|easgd-slow|easgd-fast)\.(mpi|simulated)\.n[24]\.s[01]\.(quadratic|digits-mlp)-[0-9a-f]{8}"
    for run_id in ids(resolve(table())):
        assert re.fullmatch(shape, run_id)


def test_a_run_id_does_not_depend_on_spelling_or_order() -> None:
    spelt = table()
    spelt = {key: spelt[key] for key in reversed(spelt)}
    spelt["budget"] = {"snapshots": 5, "seconds": 3.0}
    spelt["timeout_s"] = 120.0  # the default, said
    spelt["workload"] = [dict(reversed(w.items())) for w in spelt["workload"]]
    spelt["compute"] = {"gradient_s": 0.02, "distribution": "constant"}
    assert ids(resolve(spelt)) == ids(resolve(table()))


def test_the_stored_study_gives_the_same_cells_again() -> None:
    # The session that runs the cells reads study.json; it must find every id that the supervisor gave it. What is
    # stored is the whole study, also after `--only`.
    raw = table() | {"network": {"bandwidth_Gbit_per_s": float("inf")}}
    for study in (resolve(raw), resolve(raw, only=("easgd-fast",)), resolve(raw, only=("easgd", "allreduce-sgd"))):
        stored = ids(resolve(json.loads(json.dumps(study.raw))))
        assert stored == ids(resolve(raw))
        assert set(ids(study)) <= set(stored)


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of the table at "key.0.key"."""
    *steps, last = path.split(".")

    def change(raw: dict[str, Any]) -> None:
        place: Any = raw
        for step in steps:
            place = place[int(step)] if step.isdigit() else place.setdefault(step, {})
        place[last] = value

    return change


def every(cell: Cell) -> bool:
    return True


def simulated(cell: Cell) -> bool:
    return cell.transport == "simulated"


def quadratic(cell: Cell) -> bool:
    return simulated(cell) and cell.workload.name == "quadratic"


@pytest.mark.parametrize(
    ("path", "value", "concerns"),
    [
        ("device", "cpu", every),
        ("bucket_MiB", 1.0, every),
        ("poll", "spin", every),
        ("save", "none", every),
        ("budget.seconds", 4, lambda cell: cell.workload.name == "quadratic"),
        ("budget.snapshots", 6, lambda cell: cell.workload.name == "quadratic"),
        ("workload.1.budget.seconds", 8, lambda cell: cell.workload.name == "digits-mlp"),
        ("network.latency_s", 0.5, simulated),
        ("network.bandwidth_Gbit_per_s", 1.5, simulated),
        ("network.link", [{"src": 0, "dst": 1, "latency_s": 0.5}], simulated),
        ("network.collective", "tree", simulated),
        ("network.change", [{"at_s": 1.0, "factor": 0.5}], simulated),
        ("network.preset", "1G", simulated),
        ("network.preset", "10G", simulated),
        ("compute.stragglers", {"probability": 0.1, "factor": 10}, quadratic),
        ("compute.pause", [{"worker": 0, "at_s": 1, "for_s": 1}], quadratic),
        ("compute.gradient_s", 0.03, quadratic),
        ("workload.1.compute.slow", {"1": 6.0}, lambda cell: simulated(cell) and cell.workload.name == "digits-mlp"),
        ("workload.0.dimension", 7, lambda cell: cell.workload.name == "quadratic"),
        ("workload.0.optimizer", {"lr": 0.1}, lambda cell: cell.workload.name == "quadratic"),
        ("workload.1.optimizer.lr", 0.002, lambda cell: cell.workload.name == "digits-mlp"),
        ("workload.1.optimizer.clip_norm", 1.0, lambda cell: cell.workload.name == "digits-mlp"),
        ("algorithm.1.period", 21, lambda cell: cell.entry.label == "easgd-slow"),
        ("algorithm.1.moving_rate", 0.1, lambda cell: cell.entry.label == "easgd-slow"),
        ("algorithm.0.optimizer", {"lr": 0.3}, lambda cell: cell.entry.label == "allreduce-sgd"),
        # These cannot change a result, so what has been computed stays valid.
        ("description", "words", lambda cell: False),
        ("timeout_s", 60, lambda cell: False),
        ("workload.1.target_loss", 0.5, lambda cell: False),
    ],
)  # fmt: skip
def test_a_run_id_changes_with_what_can_change_the_result(
    path: str, value: Any, concerns: Callable[[Cell], bool]
) -> None:
    raw = table()
    at(path, value)(raw)
    before, after = list(resolve(table()).cells()), list(resolve(raw).cells())
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert (old.run_id != new.run_id) == concerns(old), old.run_id


def test_settings_that_came_later_change_no_id_while_they_are_not_used() -> None:
    assert plain(Network()) == {"latency_s": 50e-6, "bandwidth_Gbit_per_s": 10.0, "link": []}
    assert plain(Compute()) == {"gradient_s": 0.01, "distribution": "constant", "sigma": 0.0, "slow": {}}


def test_a_trace_lies_beside_the_study_and_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    def ids_in(folder: str, times: str) -> list[str]:
        place = tmp_path / folder
        place.mkdir()
        (place / "times.txt").write_text(times)
        (place / "s.toml").write_text(
            'name = "s"\ntransports = ["simulated"]\ncompute = { distribution = "trace", trace = "times.txt" }\n'
            '[[workload]]\nname = "quadratic"\n[[algorithm]]\nname = "ad-psgd"\n'
        )
        return ids(read(place / "s.toml"))

    assert ids_in("a", "0.1\n0.2\n") == ids_in("b", "# moved\n0.10\n0.2\n") != ids_in("c", "0.1\n0.3\n")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pause", [{"worker": 4, "at_s": 1, "for_s": 1}]),
        ("absent", [{"worker": 4, "from_s": 1, "to_s": 2}]),
    ],
)
def test_an_outage_of_a_worker_that_no_run_has_is_refused(key: str, value: Any) -> None:
    raw = table()
    raw["compute"] = {key: value}
    with pytest.raises(StudyError, match=rf"compute: {key} names worker 4: allowed are 0\.\.\d"):
        resolve(raw)


def test_the_same_settings_under_two_names_are_two_runs() -> None:
    raw = table()
    raw["algorithm"] = [{"name": "easgd", "label": "a"}, {"name": "easgd", "label": "b"}, {"name": "local-sgd"}]
    assert len(set(ids(resolve(raw)))) == len(ids(resolve(raw)))


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def study_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    return path


def test_workers_of_the_command_line_replace_the_files(study_file: Path) -> None:
    study = read(study_file, workers=(3, 5))
    assert [c.workers for c in study.cells() if c.seed == 0 and c.entry.label == "easgd-slow"] == [3, 5, 3, 5]
    assert study.raw["workers"] == [3, 5]


@pytest.mark.parametrize(
    ("only", "labels"),
    [
        (("easgd-fast",), {"easgd-fast"}),
        (("easgd",), {"easgd-slow", "easgd-fast"}),
        (("allreduce-sgd", "easgd-slow"), {"allreduce-sgd", "easgd-slow"}),
        ((), {"allreduce-sgd", "easgd-slow", "easgd-fast"}),
    ],
)
def test_only_keeps_labels_and_names(study_file: Path, only: tuple[str, ...], labels: set[str]) -> None:
    whole, part = ids(read(study_file)), read(study_file, only=only)
    assert ids(part) == [run_id for run_id in whole if run_id.split(".")[0] in labels]


def test_resolving_leaves_the_given_table_alone() -> None:
    raw = table()
    before = copy.deepcopy(raw)
    resolve(raw, only=("easgd",))
    assert raw == before


def test_a_dry_run_shows_every_cell_and_writes_nothing(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = list(read(study_file).cells())
    out = study_file.parent / "out"
    done, crashed, torn = cells[:3]
    write_crashed(crashed, out, "a reason", "a traceback")
    for cell in (done, torn):
        (out / "runs" / cell.run_id).mkdir(parents=True)
    write_rows(RUNS, [blank_row(done) | {"status": "diverged"}], out / "runs" / done.run_id / "run.parquet")
    (out / "runs" / torn.run_id / "run.parquet").write_bytes(b"PAR1")
    before = {path: path.read_bytes() for path in study_file.parent.rglob("*") if path.is_file()}

    assert paceline.main(["run", "study.toml", "--out", "out", "--dry-run"]) == 0

    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines] == [cell.run_id for cell in cells]
    states = {line.split()[-1]: line.startswith("complete") for line in lines}
    assert [run_id for run_id, complete in states.items() if complete] == [done.run_id]  # a crashed run is run again
    assert last.startswith(f"{len(cells)} runs") and "out" in last
    assert {path: path.read_bytes() for path in study_file.parent.rglob("*") if path.is_file()} == before
    assert not (study_file.parent / "runs").exists()


def test_a_dry_run_obeys_workers_and_only(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main(["run", "study.toml", "--dry-run", "-n", "8", "--only", "easgd-slow"]) == 0
    *lines, _ = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert line.split()[-1].startswith("easgd-slow.simulated.n8.") and "  9 ranks" in line


# -- what is shipped ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_shipped_study_is_valid_and_found_by_name(path: Path) -> None:
    assert find(path.stem) == path
    study = read(path)
    assert study.table.name == path.stem and ids(study)


def test_a_file_goes_before_a_shipped_study(study_file: Path) -> None:
    study_file.rename(study_file.parent / "demo")
    assert find("demo") == Path("demo")
    with pytest.raises(StudyError, match="no such study"):
        find("study.toml")


def test_a_transport_can_be_left_out() -> None:
    study = resolve(table(), without=("simulated",))
    assert "simulated" not in {cell.transport for cell in study.cells()}
    assert set(ids(study)) == {i for i in ids(resolve(table())) if ".simulated." not in i}


def test_the_same_label_on_another_workload_is_another_run() -> None:
    """Else a results folder would hand out the old workload's runs as the new one's."""
    same = {"label": "mine", "context": 35, "batch_size": 10}  # and so all settings of the two are the same
    algorithms = [{"name": "allreduce-sgd"}]
    runs = [
        set(ids(resolve({**table(), "workload": [{"name": name, **same}], "algorithm": algorithms})))
        for name in ("shakespeare-lstm", "wikitext2-lstm")
    ]
    assert not runs[0] & runs[1]
    assert all(".mine-" in run for run in runs[0] | runs[1])


# -- what was spent on tuning ------------------------------------------------------------------------------------------


def tuned(**tuning: Any) -> Study:
    return resolve(changed(table(), algorithm=[{"name": "easgd", "tuning": tuning}]))


def changed(raw: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {**raw, **changes}


def test_tuning_stands_in_the_runs_row_and_changes_no_id() -> None:
    stated, silent = (
        tuned(trials=12, searched="lr in 0.01..1"),
        resolve(changed(table(), algorithm=[{"name": "easgd"}])),
    )
    assert ids(stated) == ids(silent)
    for study, expected in ((stated, (12, "lr in 0.01..1")), (silent, (-1, ""))):
        row = blank_row(next(study.cells()))
        assert (row["tuning_trials"], row["tuning_searched"]) == expected


@pytest.mark.parametrize(
    ("tuning", "said"),
    [
        ({}, "missing key 'trials'"),
        ({"trials": -1}, "trials must lie in 0"),
        ({"trials": 1.5}, "expected a whole number"),
        ({"trials": 0, "searched": "lr"}, "trials is 0"),
        ({"trials": 2, "searched": "two\nlines"}, "one line"),
        ({"trails": 2}, "did you mean 'trials'"),
    ],
)
def test_tuning_that_cannot_be_is_refused_in_one_line(tuning: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said) as error:
        tuned(**tuning)
    assert "algorithm[0].tuning" in str(error.value) and "\n" not in str(error.value)
