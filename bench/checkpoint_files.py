"""The folder of a checkpoint: every rank's state of an interrupted run, on disk whole or not at all.

    RUN/checkpoint/0002/rank-0000.safetensors   what `bench.checkpoint.save` gives, one file per rank
    RUN/checkpoint/0002/past.json               what belongs to the run as a whole (see `Past`)
    RUN/checkpoint/.writing/                    one that is being written, or was when its job was killed

The number is that of the interruption. A folder gets its name when everything in it is on disk, and only then is the
one before removed; so whenever a job is killed, the newest folder with a number is whole.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from bench.records import write_atomic

FORMAT = 1
"""Of what is in the files; another one's are not read."""

CHECKPOINT, WRITING, PAST = "checkpoint", ".writing", "past.json"
WITHOUT_VALUES = "without values"
"""Where a file names the tensors of a run without gradients: only their types and shapes."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """What an interrupted run has behind it.

    Attributes:
        ranks, parameters: of the run and its model.
        parts: rank after which a process's event files are named -> how many of them belong to the run.
        interruptions: so far.
        elapsed_s: on the run's own clock.
        wall_s: real seconds spent on it, those between two jobs left out.
        started_utc: when it was first started, ISO 8601.
        clock_offset_s, clock_error_s: the largest so far.
        joules, unknown, left_out: see `bench.energy.Reading`.
        places: the ranks' hosts, a list for each interruption.
        codes: what code ran (`bench.provenance.code`), one for each interruption.
    """

    run_id: str
    ranks: int
    parameters: int
    parts: Mapping[str, int]
    interruptions: int = 1
    elapsed_s: float = 0.0
    wall_s: float = 0.0
    started_utc: str = ""
    clock_offset_s: float = 0.0
    clock_error_s: float = 0.0
    joules: Mapping[str, float] = field(default_factory=dict)
    unknown: str = ""
    left_out: str = ""
    places: tuple[list[str], ...] = ()
    codes: tuple[str, ...] = ()
    format: int = FORMAT


def find(run: Path, run_id: str, ranks: int, parameters: int) -> tuple[Past | None, str]:
    """The past of the run in this folder, or why the checkpoint that is there cannot be used ("" if there is none)."""
    folder = newest(run)
    if folder is None:
        return None, ""
    try:
        raw = json.loads((folder / PAST).read_text())
        found = raw.get("format"), raw.get("run_id"), raw.get("ranks"), raw.get("parameters")
        for what, got, expected in zip(
            ("format", "run", "number of ranks", "number of parameters"),
            found,
            (FORMAT, run_id, ranks, parameters),
            strict=True,
        ):
            if got != expected:
                return None, f"its {what} is {got}, expected {expected}"
        past = Past(**(raw | {"places": tuple(raw["places"]), "codes": tuple(raw["codes"])}))
        for rank in range(ranks):
            with safetensors.safe_open(_file(folder, rank), framework="pt") as file:
                file.keys()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        return None, f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return past, ""


def newest(run: Path) -> Path | None:
    """The newest whole checkpoint of the run in this folder."""
    folder = run / CHECKPOINT
    numbered = [path for path in folder.iterdir() if re.fullmatch(r"\d{4,}", path.name)] if folder.is_dir() else []
    return max(numbered, key=lambda path: int(path.name), default=None)


def read(run: Path, rank: int) -> dict[str, Tensor]:
    """A rank's state from the newest checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = newest(run)
    if folder is None:
        raise FileNotFoundError(f"{run} holds no checkpoint (start the run afresh)")
    with safetensors.safe_open(_file(folder, rank), framework="pt") as file:
        shapes = json.loads((file.metadata() or {}).get(WITHOUT_VALUES, "{}"))
        empty = {
            name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
            for name, (dtype, shape) in shapes.items()
        }
        return {name: file.get_tensor(name) for name in file.keys()} | empty  # noqa: SIM118


def write(run: Path, states: Mapping[int, Mapping[str, Tensor]], past: Past, *, first: bool, meet: Meet) -> None:
    """Write a checkpoint; every process of the run calls this with its ranks' states.

    Args:
        past: used on the first process.
        first: whether this is the first process, which makes the folder and gives it its name.
        meet: waits for all processes.
    """
    folder, writing = run / CHECKPOINT, run / CHECKPOINT / WRITING
    if first:
        shutil.rmtree(writing, ignore_errors=True)
        writing.mkdir(parents=True)
    meet()
    for rank, state in states.items():
        _write_state(_file(writing, rank), state)
    meet()
    if first:
        write_atomic(writing / PAST, json.dumps(asdict(past), indent=1).encode())
        _sync(writing)
        before = newest(run)
        os.rename(writing, folder / f"{past.interruptions:04d}")
        _sync(folder)
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
    meet()


Meet = Callable[[], object]


def forget(run: Path) -> None:
    """Remove the checkpoints of a run that has ended."""
    shutil.rmtree(run / CHECKPOINT, ignore_errors=True)


def tidy(run: Path, past: Past) -> None:
    """Remove what was written after the checkpoint, by a job that was killed before the run ended."""
    for path in _others(run):
        found = re.fullmatch(r"events-r(\d+)-p(\d+)\.parquet", path.name)
        if found is None or int(found[2]) >= past.parts.get(found[1], 0):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(run / CHECKPOINT / WRITING, ignore_errors=True)


def _others(run: Path) -> Iterable[Path]:
    return [path for path in run.iterdir() if path.name != CHECKPOINT]


def _file(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank:04d}.safetensors"


def _write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    without = {name: [str(v.dtype).removeprefix("torch."), list(v.shape)] for name, v in state.items() if v.is_meta}
    values = {name: v.contiguous() for name, v in state.items() if not v.is_meta}
    write_atomic(path, safetensors.torch.save(values, metadata={WITHOUT_VALUES: json.dumps(without)}))


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
