"""`paceline advise` on a workload whose answer can be worked out by hand, and what it refuses."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import paceline
from bench import lanes, pace
from bench.until import Search, Seen

GRADIENT_S, LATENCY_S, WORKERS, PERIOD, DIMENSION = 1e-3, 50e-6, 4, 8, 20_000
NBYTES = 8 * DIMENSION

CLUSTER = f"""
[network]
latency_s = {LATENCY_S}
bandwidth_Gbit_per_s = 1.0
[compute.quadratic]
gradient_s = {GRADIENT_S}
[residuals]
network = 0.05
"""

# The mean of the replicas moves as one worker would with the mean gradient, so both would need as many steps; with a
# smaller rate local-sgd needs more, and wins only where messages are dear.
STUDY = f"""
name = "two"
[[workload]]
name = "quadratic"
dimension = {DIMENSION}
noise = 0.0
target_loss = 300.0
[[algorithm]]
name = "allreduce-sgd"
[[algorithm]]
name = "local-sgd"
period = {PERIOD}
optimizer = {{ name = "sgd", lr = 0.025 }}
"""


def allreduce_s(Gbit_per_s: float) -> float:
    """Ring."""
    return 2 * (WORKERS - 1) * (LATENCY_S + NBYTES * 8e-9 / (WORKERS * Gbit_per_s))


def seconds(label: str, steps: int, Gbit_per_s: float) -> float:
    exchanges = steps if label == "allreduce-sgd" else steps // PERIOD
    return steps * GRADIENT_S + exchanges * allreduce_s(Gbit_per_s)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("advise")
    (folder / "cluster.toml").write_text(CLUSTER)
    (folder / "two.toml").write_text(STUDY)
    return folder


def advise(folder: Path, *more: str) -> int:
    common = ["--cluster", str(folder / "cluster.toml"), "--workload", "quadratic", "-n", str(WORKERS)]
    return paceline.main(["advise", *common, "--jobs", "1", "--trials", "0", "--seeds", "2", *more])


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    page = folder / "advice.html"
    given = ["--study", str(folder / "two.toml"), "--out", str(folder / "out"), "-o", str(page), "--price", "3.6"]
    assert advise(folder, *given) == 0
    answer: dict[str, Any] = json.loads((folder / "out" / "advice.json").read_text())
    return answer


def steps_of(row: Mapping[str, Any]) -> int:
    """The steps that a predicted time stands for; it must be a whole number of them."""
    for steps in range(1, 2000):
        if seconds(row["label"], steps, 1.0) == pytest.approx(row["time_s"], rel=1e-9):
            return steps
    raise AssertionError(f"{row['time_s']} s is no number of steps of {row['label']}")


def test_times_follow_the_closed_form(found: Mapping[str, Any]) -> None:
    """Over the whole range of bandwidths, from a single network on which learning was simulated."""
    for row in found["rows"]:
        steps = steps_of(row)
        for x, predicted in found["curve"][row["label"]]:
            assert predicted == pytest.approx(seconds(row["label"], steps, x), rel=1e-9), (row["label"], x)


def test_the_flip_is_where_the_closed_forms_meet(found: Mapping[str, Any]) -> None:
    steps = {row["label"]: steps_of(row) for row in found["rows"]}
    fewer, more = steps["allreduce-sgd"], steps["local-sgd"]
    assert more > fewer
    exchange_s = (more - fewer) * GRADIENT_S / (fewer - more // PERIOD)  # at which both take as long
    expected = NBYTES * 8e-9 / WORKERS / (exchange_s / (2 * (WORKERS - 1)) - LATENCY_S)
    (flip,) = found["flips"]
    assert (flip["below"], flip["above"]) == ("local-sgd", "allreduce-sgd")
    assert flip["x"] == pytest.approx(expected, rel=0.02)
    assert flip["low"] <= flip["x"] <= flip["high"]


def test_the_bandwidth_that_is_needed(found: Mapping[str, Any]) -> None:
    """Where a step costs 5 % more than with an infinite one."""
    for row in found["rows"]:
        share = 1 if row["label"] == "allreduce-sgd" else (steps_of(row) // PERIOD) / steps_of(row)
        ideal_s = GRADIENT_S + share * 2 * (WORKERS - 1) * LATENCY_S
        wire_s = share * 2 * (WORKERS - 1) * NBYTES * 8e-9 / WORKERS
        assert row["needs_Gbit_per_s"] == pytest.approx(wire_s / (0.05 * ideal_s), rel=0.02)


def test_bytes_and_cost(found: Mapping[str, Any]) -> None:
    for row in found["rows"]:
        exchanges = steps_of(row) // (PERIOD if row["label"] == "local-sgd" else 1)
        assert row["sent_nbytes"] == pytest.approx(exchanges * 2 * (WORKERS - 1) * NBYTES, rel=0.01)
        assert row["cost"] == pytest.approx(row["time_s"] / 3600 * WORKERS * 3.6)


def test_two_seeds_without_chance_are_certain(found: Mapping[str, Any]) -> None:
    """No noise: the seeds agree, and what is left is the time between two snapshots."""
    first, second = found["rows"]
    assert first["low_s"] < first["time_s"] == pytest.approx(first["high_s"])
    assert second["ratio_low"] > 1
    assert found["chance"] == 1.0


def test_a_slower_worker_slows_both_by_its_factor(found: Mapping[str, Any]) -> None:
    world = {what: (who, time_s) for what, who, time_s, _ in found["worlds"]}
    steps = {row["label"]: steps_of(row) for row in found["rows"]}
    times = {k: seconds(k, n, 1.0) + n * GRADIENT_S for k, n in steps.items()}
    who = min(times, key=times.__getitem__)
    assert world["One worker half as fast"] == (who, pytest.approx(times[who], rel=1e-9))


def test_a_second_call_simulates_nothing_again(
    folder: Path, found: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the run was there")

    monkeypatch.setattr("bench.run.run_cell", refuse)
    assert advise(folder, "--study", str(folder / "two.toml"), "--out", str(folder / "out"), "--price", "3.6") == 0
    assert json.loads((folder / "out" / "advice.json").read_text()) == found
    said = capsys.readouterr().out
    assert (
        max(len(line.replace(str(folder), "DIR")) for line in said.splitlines()) <= 100
    )  # a folder's name is the user's
    assert found["headline"] in " ".join(said.split())


def test_the_page_needs_nothing_else_and_says_the_answer(folder: Path, found: Mapping[str, Any]) -> None:
    page = (folder / "advice.html").read_text()
    assert found["headline"] in page and "<svg viewBox" in page
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page


def test_what_does_not_get_there_has_no_time(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--study", str(folder / "two.toml"), "--only", "local-sgd", "--target", "1e-300", "--max-time", "0.1"]
    assert advise(folder, *given, "--out", str(folder / "never"), "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    (row,) = answer["rows"]
    assert row["time_s"] is None and row["within_s"] >= 0.1 and row["reached"] == 0
    assert answer["grade"] == "none reached" and answer["flips"] == [] and "extrapolated" in answer["how_sure"]


@pytest.mark.thorough
def test_where_a_message_costs_as_much_as_a_gradient_the_answer_is_less_sure(
    folder: Path, found: Mapping[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coarse = CLUSTER.replace("[residuals]", f"exchange_s = {0.8 * GRADIENT_S}\n[residuals]")
    (tmp_path / "cluster.toml").write_text(coarse)
    given = ["--study", str(folder / "two.toml"), "--out", str(tmp_path / "out"), "--json"]
    assert advise(tmp_path, *given) == 0
    answer = json.loads(capsys.readouterr().out)
    assert found["model_error"] == 0.05 and not found["notes"]
    assert answer["model_error"] == pytest.approx(0.4)
    assert answer["notes"][0].startswith("A message costs a step of quadratic 80 % of its gradient's time")


def test_algorithms_that_cannot_run_are_left_out_with_a_reason(folder: Path) -> None:
    from analysis.advice.candidates import candidates
    from bench.cluster.file import read
    from bench.question import ask

    question = ask(read(folder / "cluster.toml"), "quadratic", 5, candidates, seeds=1)
    (reason,) = (why for why in question.left_out if why.startswith("ad-psgd"))
    assert "even" in reason and "ad-psgd" not in question.labels and "allreduce-sgd" in question.labels


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--workload", "quadratc"], "did you mean 'quadratic'"),
        (["--workload", "digits-mlp"], "no compute times of workload 'digits-mlp'"),
        (["-n", "0"], "--workers must be at least 1"),
        (["--only", "allreduce-sdg"], "no algorithm 'allreduce-sdg'"),
        (["--only", "ad-psgd", "-n", "5"], "no algorithm is left"),
        (["--target", "nan"], "--target must be finite"),
        (["--study", "nowhere"], "no such study"),
        (["--cluster", "nowhere.toml"], "cannot read nowhere.toml"),
        (["-o", "nowhere/advice.html"], "-o: cannot write"),
    ],
)
def test_errors_are_one_line(folder: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert advise(folder, "--out", str(folder / "refused"), *given) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and said in lines[0]
    assert not (folder / "refused").exists()


# -- the parts ---------------------------------------------------------------------------------------------------------


def table(algorithm: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    compute = {"gradient_s": GRADIENT_S, "distribution": "exponential"}
    return {
        "name": "s", "workers": [4], "transports": ["simulated"], "compute": compute,
        "workload": {"name": "quadratic"}, "algorithm": dict(algorithm), "budget": {"steps": 60}, **more,
    }  # fmt: skip


def test_a_pace_is_what_the_run_with_gradients_takes(tmp_path: Path) -> None:
    from bench.records import load

    asked = table({"name": "local-sgd", "period": 4})
    assert lanes.run((asked, tmp_path)) > 0
    (run,) = load(tmp_path).runs.to_dict("records")
    found = pace.pace(lanes.only_cell(asked), 60)
    assert (found.seconds, found.samples, found.nbytes, found.wire_nbytes) == (
        run["duration_s"],
        run["samples"],
        run["nbytes"],
        run["wire_nbytes"],
    )


def test_the_pace_of_an_asynchronous_algorithm_does_not_depend_on_how_long_it_is_watched() -> None:
    """One pair, each with memoryless gradients: the mean time of a step is that of a gradient, messages being free."""
    network = {"latency_s": 0.0, "bandwidth_Gbit_per_s": 1e6}
    cell = lanes.only_cell(table({"name": "ad-psgd"}, network=network, budget={"seconds": 1.0}))
    found = pace.pace(cell, 400)
    assert found.worker_steps >= 1600
    assert found.s_per_step(4) == pytest.approx(GRADIENT_S, rel=4 / math.sqrt(1600))


class Nothing(lanes.Lanes):
    """Takes note of what it is asked for, and does none of it."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[tuple[int, float]] = []

    def work_off(self, function: object, arguments: Any) -> Iterator[tuple[Any, Any]]:
        for asked, out in arguments:
            self.asked.append((asked["seeds"][0], asked["budget"]["seconds"]))
            yield (asked, out), 0.0


def search(folder: Path, needed: Mapping[int, float], **more: Any) -> tuple[Search, Nothing]:
    """One algorithm that needs so many seconds with each seed."""
    busy = Nothing()

    def ask(label: str, seed: int, seconds_: float) -> dict[str, Any]:
        return table({"name": "local-sgd"}, seeds=[seed], budget={"seconds": seconds_})

    def look(run_id: str, seconds_: float) -> tuple[Seen, float]:
        need = needed[int(run_id.split(".s", 2)[-1].split(".")[0])]
        return ("there", need) if need <= seconds_ else ("not yet", math.inf)

    given = {"deadline": time.monotonic() + 60} | more
    return Search(ask, look, {"a": 1.0}, folder, busy, say=lambda line: None, **given), busy


def test_budgets_double_until_the_target_and_other_seeds_begin_there(tmp_path: Path) -> None:
    found, busy = search(tmp_path, {0: 5.0, 1: 3.0, 2: 9.0})
    assert found.go(["a"], [0, 1, 2]) == {"a": "there"}
    assert busy.asked == [(0, 1.0), (0, 2.0), (0, 4.0), (0, 8.0), (1, 8.0), (2, 8.0), (2, 16.0)]


def test_nobody_is_waited_for_beyond_the_limit(tmp_path: Path) -> None:
    found, busy = search(tmp_path, {0: 1e9, 1: 1.0}, most_s=4.0)
    assert found.go(["a"], [0, 1]) == {"a": "not within"}
    assert busy.asked[-1] == (0, 4.0)


def test_nothing_is_begun_after_the_deadline(tmp_path: Path) -> None:
    found, busy = search(tmp_path, {0: 1.0}, deadline=time.monotonic() - 1)
    assert found.go(["a"], [0]) == {"a": "stopped"} and busy.asked == []


def test_a_crashed_run_leaves_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("bench.run.run_cell", fail)
    asked = table({"name": "local-sgd"})
    lanes.run((asked, tmp_path))
    from bench.records import load

    (run,) = load(tmp_path).runs.to_dict("records")
    assert run["status"] == "crashed" and "out of luck" in run["verdict"]


@pytest.mark.slow
def test_two_lanes_do_what_one_does() -> None:
    asked = [(table({"name": name}), 20) for name in ("local-sgd", "allreduce-sgd")]
    with lanes.Lanes(1) as one:
        alone = {a[0]["algorithm"]["name"]: found for a, found in one.work_off(lanes.time_it, asked)}
    with lanes.Lanes(2) as two:
        together = {a[0]["algorithm"]["name"]: found for a, found in two.work_off(lanes.time_it, asked)}
    assert alone == together and replace(alone["local-sgd"]).samples == 4 * 20


def test_an_answer_without_time_to_learn_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--study", str(folder / "two.toml"), "--budget-s", "1e-6", "--out", str(folder / "hurried"), "--json"]
    assert advise(folder, *given) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["rows"] == [] and "were spent" in " ".join(answer["notes"])


def test_a_model_of_ones_own_is_known_by_its_name(tmp_path: Path) -> None:
    """A cluster file knows it by the name under @workload, a question names its file."""
    from analysis.advice.candidates import candidates
    from bench.cluster.file import read
    from bench.question import ask
    from tests.workloads.test_own_models import OWN

    (tmp_path / "mine.py").write_text(OWN)
    (tmp_path / "cluster.toml").write_text(CLUSTER.replace("compute.quadratic", "compute.my-line"))
    cluster = read(tmp_path / "cluster.toml")
    question = ask(cluster, f"{tmp_path}/mine.py:my_line", 4, candidates, seeds=1, target=0.1)
    assert question.cell("allreduce-sgd").workload.name == "my-line"
    assert question.cell("allreduce-sgd").workload.compute.gradient_s == GRADIENT_S
