"""`paceline watch`: what it says of a folder at every stage of a study. No study is run: its files are written."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import bench.watch
import paceline
from bench import launch
from bench.progress import Progress, Run, Watcher, left_s
from bench.progress_table import table
from bench.records import EVENTS, HELDOUT, RUNS, unknown_row, write_rows
from bench.run import blank_row, write_crashed
from bench.study import Cell, resolve

STUDY: dict[str, Any] = {
    "name": "small",
    "seeds": [0, 1],
    "workers": [2],
    "transports": ["mpi"],
    "budget": {"seconds": 10},
    "workload": [{"name": "digits-mlp"}],
    "algorithm": [{"name": "allreduce-sgd"}, {"name": "local-sgd"}],
}
CELLS = list(resolve(STUDY).cells())
NOW_S = 1.8e9


def begin(out: Path, cell: Cell, ago_s: float = 0.0) -> Path:
    """The folder of a run that began so many seconds before NOW_S."""
    folder = out / "runs" / cell.run_id
    folder.mkdir(parents=True, exist_ok=True)
    os.utime(folder, (NOW_S - ago_s, NOW_S - ago_s))
    return folder


def end(out: Path, cell: Cell, *, status: str = "completed", wall_s: float = 12.0, loss: float = 0.25) -> None:
    """The files of a run that has ended."""
    folder = begin(out, cell)
    rows = [{**unknown_row(HELDOUT), "run_id": cell.run_id, "snapshot": s, "heldout_loss": loss + s} for s in (2, 0)]
    write_rows(HELDOUT, [{**row, "heldout_loss": loss} if row["snapshot"] else row for row in rows],
               folder / "heldout.parquet")  # fmt: skip
    known = {"status": status, "verdict": "loss is not finite\nmore", "duration_s": 10.0, "samples": 5000}
    write_rows(RUNS, [blank_row(cell) | known | {"wall_s": wall_s}], folder / "run.parquet")


def write_plan(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.json").write_text(json.dumps(STUDY))


def look(out: Path) -> Progress:
    found = Watcher(out).look(NOW_S)
    assert found is not None
    return found


def states(out: Path) -> list[str]:
    return [run.state for run in look(out).runs]


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    assert Watcher(tmp_path / "none").look(NOW_S) is None
    assert Watcher(tmp_path).look(NOW_S) is None


def test_every_state_a_run_goes_through(tmp_path: Path) -> None:
    write_plan(tmp_path)
    assert states(tmp_path) == ["waiting"] * 4
    begin(tmp_path, CELLS[0])
    assert states(tmp_path) == ["running", "waiting", "waiting", "waiting"]
    end(tmp_path, CELLS[0])
    end(tmp_path, CELLS[1], status="diverged")
    write_crashed(CELLS[2], tmp_path, "rank 1: ValueError: x", "Traceback")
    begin(tmp_path, CELLS[3], ago_s=901 + 3 * 10)
    progress = look(tmp_path)
    assert [run.state for run in progress.runs] == ["completed", "diverged", "crashed", "silent"]
    assert not progress.ended
    end(tmp_path, CELLS[3], status="failed")
    assert look(tmp_path).ended


def test_numbers_of_a_run_that_has_ended(tmp_path: Path) -> None:
    write_plan(tmp_path)
    end(tmp_path, CELLS[0], loss=0.25)
    end(tmp_path, CELLS[1], status="diverged")
    good, bad = look(tmp_path).runs[:2]
    assert (good.samples_per_s, good.heldout_loss, good.wall_s, good.verdict) == (500.0, 0.25, 12.0, "")
    assert bad.samples_per_s != bad.samples_per_s and bad.verdict == "loss is not finite"


def test_events_on_disk_tell_how_far_a_run_is(tmp_path: Path) -> None:
    write_plan(tmp_path)
    folder = begin(tmp_path, CELLS[0])
    for part, t1_s in ((0, 3.0), (1, 6.5)):
        row = {**unknown_row(EVENTS), "run_id": CELLS[0].run_id, "t1_s": t1_s}
        write_rows(EVENTS, [row], folder / f"events-r0-p{part}.parquet")
        os.utime(folder / f"events-r0-p{part}.parquet", (NOW_S - 9 + part, NOW_S - 9 + part))
    begin(tmp_path, CELLS[0], ago_s=9)
    run = look(tmp_path).runs[0]
    assert (run.state, run.reached_s, run.since_s) == ("running", 6.5, 8.0)


def test_torn_files_are_runs_that_go_on(tmp_path: Path) -> None:
    write_plan(tmp_path)
    folder = begin(tmp_path, CELLS[0])
    (folder / "run.parquet").write_bytes(b"PAR1 torn")
    (folder / "events-r0-p0.parquet").write_bytes(b"")
    begin(tmp_path, CELLS[0])
    assert states(tmp_path)[0] == "running"
    end(tmp_path, CELLS[0])
    (folder / "heldout.parquet").write_bytes(b"torn")
    run = look(tmp_path).runs[0]
    assert run.state == "completed" and run.heldout_loss != run.heldout_loss


@pytest.mark.parametrize("plan", ["{", '{"name": "small"}', "[]", '{"name": "x", "algorithm": [{"name": "nope"}]}'])
def test_without_a_plan_the_runs_that_began_are_shown(tmp_path: Path, plan: str) -> None:
    (tmp_path / "study.json").write_text(plan)
    end(tmp_path, CELLS[0])
    (tmp_path / "runs" / "something else").mkdir()
    progress = look(tmp_path)
    assert not progress.planned and not progress.ended
    assert [(r.label, r.transport, r.workers, r.workload, r.state) for r in progress.runs] == [
        ("allreduce-sgd", "mpi", 2, "digits-mlp", "completed")
    ]
    assert "study.json cannot be used" in progress.notes[0]


def test_runs_of_another_plan_are_told_apart(tmp_path: Path) -> None:
    write_plan(tmp_path)
    (tmp_path / "runs" / "old.mpi.n2.s0.digits-mlp-00000000").mkdir(parents=True)
    progress = look(tmp_path)
    assert len(progress.runs) == 4 and progress.notes == ("1 other run in the folder",)


def test_the_plan_is_cut_down_as_the_run_was(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps({**STUDY, "transports": ["mpi", "simulated"]}))
    for only, without, expected in (
        ((), (), 8),
        (("local-sgd",), (), 4),
        ((), ("simulated",), 4),
        (("local-sgd",), ("mpi",), 2),
    ):
        progress = Watcher(tmp_path, only, without).look(NOW_S)
        assert progress is not None and len(progress.runs) == expected
    progress = Watcher(tmp_path, ("nope",)).look(NOW_S)
    assert progress is not None and "no algorithm 'nope'" in progress.notes[0]


def test_a_watcher_reads_what_has_ended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(tmp_path)
    end(tmp_path, CELLS[0])
    watcher = Watcher(tmp_path)
    assert watcher.look(NOW_S) is not None
    monkeypatch.setattr("bench.progress.pq.read_table", None)
    again = watcher.look(NOW_S)
    assert again is not None and again.runs[0].state == "completed"


# -- how long it will take ---------------------------------------------------------------------------------------------


def run(label: str, state: Any = "waiting", transport: str = "mpi", **known: Any) -> Run:
    return Run(f"{label}-{state}", label, transport, "w", 4, state=state, **known)


def test_a_measured_run_is_expected_to_take_what_its_like_took() -> None:
    done = [run("a", "completed", wall_s=10.0), run("a", "completed", wall_s=14.0), run("b", "completed", wall_s=30.0)]
    assert left_s([*done, run("a")]) == (12.0, True)
    assert left_s([*done, run("c")]) == (18.0, True)  # no c has ended: the mean of all on this workload
    assert left_s([*done, run("a", "running", since_s=5.0)]) == (7.0, True)
    assert left_s([*done, run("a", "running", since_s=2.0, reached_s=4.0)]) == (6.0, True)
    assert left_s([*done, run("a", "running", since_s=50.0), run("b")]) == (30.0, True)
    assert left_s(done) == (0.0, True)


def test_before_anything_has_ended_the_budget_is_the_guess() -> None:
    assert left_s([run("a", budget_s=10.0), run("b", budget_s=10.0)]) == (22.0, True)
    assert left_s([run("a", budget_s=10.0), run("b", transport="simulated")]) == (11.0, False)


def test_measured_runs_of_several_jobs_go_on_side_by_side() -> None:
    done, two = run("a", "completed", wall_s=12.0), [run("a", "running", since_s=12.0)] * 2
    assert left_s([done, *two, run("a"), run("a")]) == (12.0, True)


def test_simulated_runs_go_on_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.progress.cores", lambda: 4)
    done = run("a", "completed", "simulated", wall_s=8.0)
    waiting = [run("a", transport="simulated")] * 4
    assert left_s([done, *waiting]) == (8.0, True)
    assert left_s([done, *waiting, run("a", "running", "simulated", since_s=8.0)]) == (32.0, True)


# -- the command -------------------------------------------------------------------------------------------------------


def watch(*arguments: Any) -> int:
    return paceline.main(["watch", *map(str, arguments)])


def test_piped_it_prints_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_plan(tmp_path)
    end(tmp_path, CELLS[0], loss=0.25)
    end(tmp_path, CELLS[1], status="diverged")
    assert watch(tmp_path, "--without", "simulated") == 0
    text = capsys.readouterr().out
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("  ")}
    # The diverged run is no number, but took its time: 12 s each for two more runs.
    assert rows["allreduce-sgd"] == ["allreduce-sgd", "1/2", "-", "-", "0.25", "500", "12", "s", "12", "s"]
    assert rows["local-sgd"][1:6] == ["1/2", "-", "1", "-", "-"]
    assert f"diverged  {CELLS[1].run_id}  loss is not finite"[:90] in text
    assert text.splitlines()[-1] == "2 of 4 runs ended, 1 diverged, about 24 s to go"
    assert "\x1b" not in text and max(map(len, text.splitlines())) <= 100


def test_what_cannot_be_watched_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for arguments, says in (
        ((tmp_path / "none", "--once"), "no study in"),
        ((tmp_path / "file",), "not a folder"),
        ((tmp_path, "--every", "0"), "--every must lie in 0.1..3600"),
        ((tmp_path, "--every", "nan"), "--every must lie in 0.1..3600"),
    ):
        assert watch(*arguments) == 2
        said = capsys.readouterr()
        assert says in said.err and said.err.count("\n") == 1 and not said.out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_it_waits_draws_in_place_and_ends_with_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, screen = tmp_path / "later", Terminal()
    stages = iter([lambda: write_plan(out), *(lambda cell=cell: end(out, cell) for cell in CELLS)])  # type: ignore[misc]
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        next(stages)()

    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(bench.watch.time, "sleep", sleep)
    assert watch(out, "--every", "2") == 0
    screens = screen.getvalue().split(bench.watch.CLEAR)[1:]
    assert slept == [2.0] * 5 and len(screens) == 6
    assert screens[0].startswith("waiting for a study in")
    assert [text.splitlines()[-1].split(" runs ended")[0] for text in screens[1:]] == [f"{n} of 4" for n in range(5)]


def test_ctrl_c_is_how_one_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(bench.watch.time, "sleep", interrupted)
    assert watch(tmp_path) == 0
    assert "waiting for a study" in screen.getvalue()


def test_a_small_terminal_keeps_the_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_plan(tmp_path)
    screen = Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(bench.watch.shutil, "get_terminal_size", lambda: os.terminal_size((40, 6)))
    assert bench.watch._draw(Watcher(tmp_path), tmp_path) is False
    lines = screen.getvalue().removeprefix(bench.watch.CLEAR).splitlines()
    assert len(lines) == 5 and max(map(len, lines)) <= 39
    assert lines[-1].startswith("0 of 4 runs ended") and "more lines" in lines[-2]


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    evil = run("\x1b[31mred", "crashed", verdict="\x1b]0;title\x07 boom")
    lines = table(Progress("small\x1b[2J", (evil,), True))
    assert "\x1b" not in "".join(lines) and "\x07" not in "".join(lines)
    assert launch.clock(3725) == "1 h 02 min"
