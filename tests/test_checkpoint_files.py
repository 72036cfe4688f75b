"""Checkpoints on disk: whole or not at all, whenever the writer is killed; what does not fit is named and not used."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.checkpoint_files import CHECKPOINT, PAST, WRITING, Past, find, forget, newest, read, tidy, write

PAST_ONE = Past(run_id="run-1", ranks=2, parameters=3, parts={"0": 2, "1": 1}, elapsed_s=1.5, joules={"a": 2.0})


def state(number: int, rank: int) -> dict[str, torch.Tensor]:
    """That of one rank at an interruption."""
    return {"x": torch.full((3,), float(number)), "empty/y": torch.empty(2, device="meta"), "rank": torch.tensor(rank)}


def save(run: Path, number: int, meet: object = lambda: None) -> None:
    """The checkpoint of that interruption, by one process."""
    states = {rank: state(number, rank) for rank in range(2)}
    write(run, states, replace(PAST_ONE, interruptions=number), first=True, meet=meet)  # type: ignore[arg-type]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert find(tmp_path, "run-1", 2, 3) == (None, "")
    for number in (1, 2):
        save(tmp_path, number)
        past, why = find(tmp_path, "run-1", 2, 3)
        assert past == replace(PAST_ONE, interruptions=number) and not why
        for rank in range(2):
            got = read(tmp_path, rank)
            assert got["x"].tolist() == [number] * 3 and int(got["rank"]) == rank
            assert got["empty/y"].is_meta and got["empty/y"].shape == (2,)
    assert [path.name for path in (tmp_path / CHECKPOINT).iterdir()] == ["0002"]
    forget(tmp_path)
    assert find(tmp_path, "run-1", 2, 3) == (None, "")


class Killed(Exception):
    """In place of a signal."""


@pytest.mark.parametrize("at", [0, 1])
def test_a_writer_that_dies_leaves_the_checkpoint_before(tmp_path: Path, at: int) -> None:
    meetings = iter(range(3))

    def meet() -> None:
        if next(meetings) == at:
            raise Killed

    save(tmp_path, 1)
    with pytest.raises(Killed):
        save(tmp_path, 2, meet)
    past, why = find(tmp_path, "run-1", 2, 3)
    assert past is not None and past.interruptions == 1 and not why
    save(tmp_path, 2)  # over what was left
    assert newest(tmp_path) == tmp_path / CHECKPOINT / "0002"


WRITER = """
import sys
from pathlib import Path
import tests.test_checkpoint_files as t
for number in range(1, 10**6):
    t.save(Path(sys.argv[1]), number)
    print(number, flush=True)
"""


@pytest.mark.thorough
def test_killed_at_any_moment(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = 0
        for line in process.stdout:
            said = int(line)
            if said == 20:
                time.sleep(0.013)
                process.send_signal(signal.SIGKILL)
                break
        said = max([said, *map(int, process.stdout.read().split())])
    past, why = find(tmp_path, "run-1", 2, 3)
    assert past is not None and not why
    assert past.interruptions in (said, said + 1)
    for rank in range(2):
        assert read(tmp_path, rank)["x"].tolist() == [past.interruptions] * 3


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (("run-2", 2, 3), "its run is run-1, expected run-2"),
        (("run-1", 4, 3), "its number of ranks is 2, expected 4"),
        (("run-1", 2, 5), "its number of parameters is 3, expected 5"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, found: tuple[str, int, int], why: str) -> None:
    save(tmp_path, 1)
    assert find(tmp_path, *found) == (None, why)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    save(tmp_path, 1)
    folder = newest(tmp_path)
    assert folder is not None
    raw = json.loads((folder / PAST).read_text())
    (folder / PAST).write_text(json.dumps(raw | {"format": 99}))
    assert find(tmp_path, "run-1", 2, 3) == (None, "its format is 99, expected 1")
    (folder / PAST).write_text(json.dumps(raw))
    (folder / "rank-0001.safetensors").write_bytes(b"torn")
    past, why = find(tmp_path, "run-1", 2, 3)
    assert past is None and "SafetensorError" in why


def test_what_is_younger_than_the_checkpoint_goes(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / CHECKPOINT / WRITING).mkdir()
    (tmp_path / "snapshots").mkdir()
    names = ["events-r0-p0.parquet", "events-r0-p1.parquet", "events-r1-p0.parquet"]
    younger = ["events-r0-p2.parquet", "events-r1-p1.parquet", "run.parquet", "failure.json", "heldout.parquet"]
    for name in names + younger:
        (tmp_path / name).touch()
    tidy(tmp_path, PAST_ONE)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, CHECKPOINT])
    assert [path.name for path in (tmp_path / CHECKPOINT).iterdir()] == ["0001"]
