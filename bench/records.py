"""The tables: their schemas (column, type, unit, meaning), crash-safe parquet writing, and reading.

This is a leaf: it imports nothing else of Paceline, so that every other part can rely on it.

A results folder holds one folder per run::

    DIR/study.json                        the resolved study
    DIR/runs/RUN_ID/events-r0-p0.parquet  what the ranks of a process did, part 0 (see EVENTS)
    DIR/runs/RUN_ID/snapshots-r0.parquet  when their parameters were copied (see SNAPSHOTS)
    DIR/runs/RUN_ID/heldout.parquet       held-out loss of the evaluated model (see HELDOUT)
    DIR/runs/RUN_ID/shares.parquet        which training data each worker had (see SHARES)
    DIR/runs/RUN_ID/run.parquet           one row: settings, provenance, verdict (see RUNS); written last
    DIR/runs/RUN_ID/snapshots/*.safetensors
    DIR/runs/RUN_ID/checkpoint/           only of an interrupted run (see bench/checkpoint_files.py)

The number in a file's name is that of the process's first rank: under MPI its only one, in the simulator 0.

A file appears under its name only when it is whole: it is written under a temporary name, synced and renamed. A run is
complete when `run.parquet` exists. Nothing is ever unpickled.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# What a row of the events table can be. The order is the code used in memory (see bench/events.py).
KINDS = ("gradient", "send", "recv", "allreduce", "wait", "apply", "serve")

# How a run can end. "diverged" is a result; "failed" (a sanity check) and "crashed" (an exception or a lost rank) are
# not.
STATUSES = ("completed", "diverged", "failed", "crashed")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        unit: "" if it has none.
        repeated: text with few different values, so that frames hold numbers that stand for them (categoricals).
        newer: files written before there was this column are read, with "unknown" in it.
    """

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    repeated: bool = False
    newer: bool = False

    @property
    def unknown(self) -> Any:
        """What stands for "not known" in this column."""
        return {"int32": -1, "int64": -1, "double": math.nan, "string": "", "bool": False}[str(self.type)]


@dataclass(frozen=True)
class Table:
    """A named list of columns, and its arrow schema with units and meanings as field metadata."""

    name: str
    columns: tuple[Column, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The arrow schema; `schema.field(c).metadata` holds unit and meaning."""
        return pa.schema(
            [pa.field(c.name, c.type, metadata={"unit": c.unit, "meaning": c.meaning}) for c in self.columns],
            metadata={"paceline_table": self.name, "paceline_schema": "1"},
        )

    def units(self) -> dict[str, str]:
        """Column name -> unit."""
        return {c.name: c.unit for c in self.columns}

    @property
    def repeated(self) -> list[str]:
        """Names of the columns of text with few different values."""
        return [c.name for c in self.columns if c.repeated]

    @cached_property
    def in_memory(self) -> pa.Schema:
        """The schema with repeated text as codes."""
        code = pa.dictionary(pa.int32(), pa.string())
        return pa.schema([pa.field(c.name, code if c.repeated else c.type) for c in self.columns])


_str, _i64, _i32, _f64, _bool = pa.string(), pa.int64(), pa.int32(), pa.float64(), pa.bool_()

EVENTS = Table(
    "events",
    (
        Column("run_id", _str, "", "the run", repeated=True),
        Column("rank", _i32, "", "rank that wrote the row; rank n is the server of a run with n workers"),
        Column("kind", _str, "", " | ".join(KINDS), repeated=True),
        Column("step", _i64, "steps", "the rank's step t (from 1) during which the row was written; 0 on a server"),
        Column("t0_s", _f64, "s", "start, seconds since the common start of the run"),
        Column("t1_s", _f64, "s", "end; equals t0_s for an instant"),
        Column("nbytes", _i64, "byte", "payload that the algorithm asked to move (send, recv, allreduce), else 0"),
        Column(
            "wire_nbytes",
            _i64,
            "byte",
            "bytes this rank really puts on the wire: payload + header for send; 2(n-1)/n of the vector for allreduce; "
            "0 for recv, since its sender counts it",
        ),
        Column("peer", _i32, "", "the other rank of a send, recv, serve or wait; -1 if there is none or any"),
        Column("label", _str, "", "tag of a message, label of a collective, what a wait waits for", repeated=True),
        Column(
            "version_read", _i64, "writes", "version of the replica when the gradient was read; -1 if not a gradient"
        ),
        Column("version_applied", _i64, "writes", "version of the replica when the gradient was applied; else -1"),
        Column(
            "staleness_updates", _i64, "writes", "writes to the target between read and apply; -1 unless kind=apply"
        ),
        Column("loss", _f64, "nat", "mini-batch loss (gradient rows); NaN elsewhere"),
        Column(
            "device_s",
            _f64,
            "s",
            "between two events around a gradient on its GPU's stream, with what other ranks had the GPU do meanwhile; "
            "NaN on a CPU and in other rows",
            newer=True,
        ),
        Column("mailbox_depth", _i32, "messages", "messages waiting on this rank when a message arrived; -1 elsewhere"),
    ),
)

SNAPSHOTS = Table(
    "snapshots",
    (
        Column("run_id", _str, "", "the run"),
        Column("rank", _i32, "", "rank whose replica was copied"),
        Column("snapshot", _i32, "", "planned time 0, 1, 2, ...; the same number on all ranks"),
        Column("t_s", _f64, "s", "when this rank copied its replica"),
        Column("step", _i64, "steps", "steps done by this rank by then"),
        Column("samples", _i64, "samples", "samples this rank had computed gradients on by then"),
        Column("nbytes", _i64, "byte", "payload this rank had asked to move by then"),
        Column("wire_nbytes", _i64, "byte", "bytes this rank had put on the wire by then"),
        Column("copy_s", _f64, "s", "what the copy cost"),
    ),
)

HELDOUT = Table(
    "heldout",
    (
        Column("run_id", _str, "", "the run"),
        Column("snapshot", _i32, "", "planned time 0, 1, 2, ..."),
        Column("t_s", _f64, "s", "mean over the ranks of the times at which they copied their replicas"),
        Column("step", _f64, "steps", "mean over workers of the steps done by then"),
        Column("samples", _i64, "samples", "samples of all workers by then"),
        Column("nbytes", _i64, "byte", "payload moved by all ranks by then"),
        Column("wire_nbytes", _i64, "byte", "bytes put on the wire by all ranks by then"),
        Column("heldout_loss", _f64, "nat", "mean loss of the evaluated model on the fixed held-out set"),
        Column("heldout_metric", _f64, "", "the workload's held-out metric (its name is in runs.metric)"),
        Column("consensus_distance", _f64, "", "root mean square over workers of ||x_i - mean x||"),
    ),
)

SHARES = Table(
    "shares",
    (
        Column("run_id", _str, "", "the run"),
        Column("rank", _i32, "", "the worker"),
        Column("samples", _i64, "samples", "in this worker's share of the training set; characters or words of a text"),
        Column("labels", _str, "", "JSON: label -> how many samples of it; {} if samples have no labels"),
        Column("groups", _str, "", "JSON: names of groups (roles, speakers, articles) it was dealt, the largest first"),
        Column("group_count", _i32, "groups", "how many it was dealt; 0 if not by groups"),
    ),
)

RUNS = Table(
    "runs",
    (
        Column("run_id", _str, "", "name.transport.nN.sSEED.workload-HASH; HASH covers every resolved setting"),
        Column("study", _str, "", "name of the study"),
        Column("label", _str, "", "the study's label of this algorithm with its settings (default: its name)"),
        Column("algorithm", _str, "", "registry name"),
        Column("tuning_trials", _i32, "runs", "made to choose its settings, as stated; -1 if not stated", newer=True),
        Column("tuning_searched", _str, "", "what was varied for that, as stated", newer=True),
        Column("transport", _str, "", "mpi | horovod | simulated"),
        Column("workload", _str, "", "registry name of the workload, with its size where it has one"),
        Column("workers", _i32, "", "number of workers n, server not counted"),
        Column("ranks", _i32, "", "workers + servers"),
        Column("seed", _i64, "", "study seed"),
        Column("simulated", _bool, "", "True if times are virtual"),
        Column(
            "gradients",
            _str,
            "",
            'of a simulated run: auto | batched | single | none ("none": time and bytes only, no loss); "" if measured',
            newer=True,
        ),
        Column("status", _str, "", " | ".join(STATUSES)),
        Column("verdict", _str, "", "the sanity checks, each with its outcome; or the reason of a failure"),
        Column("error", _str, "", "last lines of the traceback of a crashed run"),
        Column("diverged_at_s", _f64, "s", "first time at which a loss was not finite; NaN if never"),
        Column("budget_s", _f64, "s", "budget in seconds; NaN if the budget was in steps"),
        Column("budget_steps", _i64, "steps", "budget in steps; -1 if the budget was in seconds"),
        Column("duration_s", _f64, "s", "last worker's last step, since the common start (virtual_s if simulated)"),
        Column("wall_s", _f64, "s", "real seconds the run took, evaluation included"),
        Column("parameters", _i64, "parameters", "P"),
        Column("batch_size", _i32, "samples", "per worker and step"),
        Column("flops_per_sample", _f64, "FLOP", "estimate for one gradient on one sample; NaN if unknown"),
        Column("steps", _i64, "steps", "of all workers together"),
        Column("samples", _i64, "samples", "of all workers together"),
        Column("nbytes", _i64, "byte", "payload that the algorithm asked to move, all ranks"),
        Column("wire_nbytes", _i64, "byte", "bytes put on the wire, all ranks"),
        Column(
            "interface_nbytes",
            _i64,
            "byte",
            "what the kernel counted meanwhile as sent by its hosts' network interfaces (loopback left out), headers "
            "and other programs' bytes included; -1 if unknown, as after an interruption",
            newer=True,
        ),
        Column("interface_packets", _i64, "packets", "in which they were sent; -1 if unknown", newer=True),
        Column(
            "energy_J",
            _f64,
            "J",
            "drawn meanwhile by the processors (and GPUs) of its nodes, other jobs included; NaN if unknown: `energy` "
            "in provenance tells why, and what was counted",
            newer=True,
        ),
        Column(
            "interruptions", _i32, "", "times that the run was stopped and went on from its saved state", newer=True
        ),
        Column("dropped_rows", _i64, "rows", "event rows lost; any number but 0 fails the run"),
        Column("mailbox_depth_max", _i32, "messages", "deepest mailbox of any rank"),
        Column("initial_hash", _str, "", "sha256 of the initial parameters, equal on all ranks"),
        Column("first_batch_hash", _str, "", "sha256 of worker 0's first mini-batch"),
        Column("target_loss", _f64, "nat", "held-out loss that counts as reached; NaN if none was set"),
        Column("metric", _str, "", "name of heldout_metric"),
        Column("evaluated_model", _str, "", "mean | center, or mean:NAME | center:NAME of a kept state"),
        Column("lockstep", _bool, "", "whether a rank ever waits for named peers"),
        Column("device", _str, "", "cpu, cuda (name), and how many ranks share it"),
        Column("clock_offset_s", _f64, "s", "largest clock offset between a rank and rank 0, removed from all times"),
        Column("clock_error_s", _f64, "s", "half the round trip of the offset's estimate: what may be left"),
        Column("settings", _str, "", "JSON: the algorithm's resolved settings"),
        Column("workload_settings", _str, "", "JSON: the workload's resolved settings"),
        Column("workload_facts", _str, "", "JSON: its data, normalisation, partition, precision, in words", newer=True),
        Column("network", _str, "", "JSON: network and compute model of a simulated run; {} otherwise"),
        Column("provenance", _str, "", "JSON: commit, versions, MPI library, hosts, SLURM_*, threads"),
        Column("started_utc", _str, "", "ISO 8601"),
    ),
)

TABLES: Mapping[str, Table] = {t.name: t for t in (EVENTS, SNAPSHOTS, HELDOUT, SHARES, RUNS)}


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` is either absent, as before, or whole, even if the process is killed."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)  # a full disk is not made fuller
        raise


def write_table(table: Table, columns: Mapping[str, Sequence[Any]] | pa.Table, path: Path) -> None:
    """Write columns (name -> values) as parquet with the table's schema, whole or not at all.

    Raises:
        ValueError: a column is missing, unknown, or does not fit its type.
    """
    if isinstance(columns, pa.Table):
        arrow = columns.cast(table.schema)
    else:
        expected, got = [c.name for c in table.columns], list(columns)
        if set(expected) != set(got):
            raise ValueError(
                f"{table.name}: missing columns {sorted(set(expected) - set(got))}, "
                f"unknown columns {sorted(set(got) - set(expected))}"
            )
        arrow = pa.table({name: pa.array(columns[name], type=table.schema.field(name).type) for name in expected})
        arrow = arrow.cast(table.schema)
    sink = pa.BufferOutputStream()
    # A dictionary of times or losses is as long as the column: five times the work, and half as much again on disk.
    repeated = [c.name for c in table.columns if c.repeated]
    pq.write_table(arrow, sink, compression="zstd", use_dictionary=repeated)
    write_atomic(path, sink.getvalue().to_pybytes())


def write_rows(table: Table, rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows (one mapping each) as parquet; see `write_table`."""
    listed = list(rows)
    write_table(table, {c.name: [row[c.name] for row in listed] for c in table.columns}, path)


@dataclass(frozen=True)
class Results:
    """The tables of one or more results folders as pandas frames; `units[table][column]` documents them."""

    runs: pd.DataFrame
    events: pd.DataFrame
    snapshots: pd.DataFrame
    heldout: pd.DataFrame
    shares: pd.DataFrame
    skipped: list[str] = field(default_factory=list)  # torn or foreign files, each with its reason

    @property
    def units(self) -> dict[str, dict[str, str]]:
        """Table -> column -> unit."""
        return {name: table.units() for name, table in TABLES.items()}


def unknown_row(table: Table) -> dict[str, Any]:
    """A row of which nothing is known yet."""
    return {c.name: c.unknown for c in table.columns}


def _read(table: Table, path: Path, skipped: list[str]) -> pa.Table | None:
    """A file's rows with the table's columns; None, and a line in `skipped`, if it has none that fit."""
    try:
        with pq.ParquetFile(path, read_dictionary=table.repeated) as file:
            part = file.read(use_threads=False)  # files are small: threads cost four times what they bring
        for column in table.columns:
            if column.newer and column.name not in part.column_names:
                part = part.append_column(column.name, pa.repeat(pa.scalar(column.unknown, column.type), len(part)))
        return part.select(table.schema.names).cast(table.in_memory)
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        skipped.append(f"{path}: {type(error).__name__}: {str(error).splitlines()[0]}")
        return None


def _frame(table: Table, parts: list[pa.Table | None]) -> pd.DataFrame:
    """The parts as one frame; empties the list, so that a part is freed once it is copied."""
    whole = pa.concat_tables([table.in_memory.empty_table(), *(part for part in parts if part is not None)])
    parts.clear()
    whole = whole.unify_dictionaries()
    # Column by column, each freed when it is copied: a frame of millions of events is never there twice.
    frame: pd.DataFrame = whole.to_pandas(split_blocks=True, self_destruct=True, use_threads=False)
    frame.attrs["units"] = table.units()
    return frame


@contextmanager
def _memory_of_the_system() -> Iterator[None]:
    """Arrow's own allocator keeps what is freed, and had the kernel clear more pages than are ever used."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
        pa.default_memory_pool().release_unused()
    finally:
        pa.set_memory_pool(before)


def _parts(folders: Iterable[Path], pattern: str) -> list[Path]:
    """The files of a pattern by folder, rank and part, parts in the order in which they were written (2 before 10)."""
    numbers = re.compile(r"\d+")
    return [
        path
        for folder in folders
        for path in sorted(folder.glob(pattern), key=lambda p: [int(n) for n in numbers.findall(p.name)])
    ]


def load(*directories: str | os.PathLike[str], events: bool = True) -> Results:
    """Read results folders into pandas frames.

    Only complete runs (those with a whole `run.parquet`) contribute events, snapshots and held-out rows. Files that
    cannot be read are named in `skipped`, never silently ignored. Text of events is categorical (`Column.repeated`);
    group by it with `observed=True`.

    Args:
        directories: folders written by `paceline run`.
        events: False leaves them out, which are nearly all there is to read: `load_in_batches` has them a few runs at
            a time.

    Raises:
        ValueError: a folder does not exist or holds no runs.
    """
    return _loaded(_run_files(directories), events)


def load_in_batches(*directories: str | os.PathLike[str], most: int = 2_000_000) -> Iterator[Results]:
    """The same tables as several, so that the events of hundreds of runs need not be in memory together.

    Each has all rows of its runs, and every run is in one of them, in the order of `load`.

    Args:
        directories: folders written by `paceline run`.
        most: events of a batch [rows]; a run that has more is a batch of its own.

    Raises:
        ValueError: a folder does not exist or holds no runs.
    """
    batch: list[Path] = []
    rows = 0
    for path in _run_files(directories):
        own = sum(_rows_in(part) for part in path.parent.glob("events-*.parquet"))
        if batch and rows + own > most:
            yield _loaded(batch, events=True)
            batch, rows = [], 0
        batch.append(path)
        rows += own
    yield _loaded(batch, events=True)


def _rows_in(path: Path) -> int:
    """Rows of a file; 0 of one that cannot be read, which is told when it is."""
    try:
        return int(pq.read_metadata(path).num_rows)
    except (pa.ArrowException, OSError):
        return 0


def _run_files(directories: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The `run.parquet` of every run that has ended.

    Raises:
        ValueError: a folder does not exist or holds no runs.
    """
    run_files: list[Path] = []
    for directory in directories:
        root = Path(directory)
        if not (root / "runs").is_dir():
            raise ValueError(
                f"not a results folder (no runs/ in it): {root} (make one with: paceline run STUDY --out {root})"
            )
        run_files += sorted((root / "runs").glob("*/run.parquet"))
    return run_files


def _loaded(run_files: Sequence[Path], events: bool) -> Results:
    skipped: list[str] = []

    def read(table: Table, pattern: str) -> pd.DataFrame:
        return _frame(table, [_read(table, path, skipped) for path in _parts(folders, pattern)])

    with _memory_of_the_system():
        rows = [_read(RUNS, path, skipped) for path in run_files]
        folders = [path.parent for path, row in zip(run_files, rows, strict=True) if row is not None]
        return Results(
            runs=_frame(RUNS, rows),
            events=read(EVENTS, "events-*.parquet") if events else _frame(EVENTS, []),
            snapshots=read(SNAPSHOTS, "snapshots-*.parquet"),
            heldout=read(HELDOUT, "heldout.parquet"),
            shares=read(SHARES, "shares.parquet"),
            skipped=skipped,
        )


def join(parts: Sequence[Results]) -> Results:
    """Several results as one; text stays categorical."""

    def joined(table: Table) -> pd.DataFrame:
        frames: list[pd.DataFrame] = [getattr(part, table.name) for part in parts]
        if len(frames) == 1:  # millions of events are not copied
            return frames[0].reset_index(drop=True)
        for name in table.repeated:
            known = list(dict.fromkeys(value for frame in frames for value in frame[name].cat.categories))
            frames = [frame.assign(**{name: frame[name].cat.set_categories(known)}) for frame in frames]
        return pd.concat(frames, ignore_index=True)

    return Results(
        runs=joined(RUNS),
        events=joined(EVENTS),
        snapshots=joined(SNAPSHOTS),
        heldout=joined(HELDOUT),
        shares=joined(SHARES),
        skipped=[line for part in parts for line in part.skipped],
    )
