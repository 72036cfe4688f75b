"""The tables that probes leave in a results folder, beside the run's own:

    DIR/runs/RUN_ID/probe-curvature.parquet   eigenvalues, trace, sharpness, index: one number a row (see NUMBERS)
    DIR/runs/RUN_ID/probe-density.parquet     nodes and weights of the spectral density (see DENSITY)
    DIR/runs/RUN_ID/probe-landscape.parquet   losses around and between models (see LANDSCAPE)
    DIR/runs/RUN_ID/probe-workers.parquet     workers against each other and against their mean (see WORKERS)
    DIR/runs/RUN_ID/probe-noise.parquet       effective learning rate and gradient noise (see NOISE)
    DIR/runs/RUN_ID/probes.json               what has been probed to the end, so that it is not done again

Every row says which samples it was measured on and with which settings, so that a probe with the same ones is not
repeated, and one with others stands beside it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.records import Column, Table, write_atomic, write_rows

_str, _i64, _i32, _f64 = pa.string(), pa.int64(), pa.int32(), pa.float64()

_WHERE = (
    Column("run_id", _str, "", "the run"),
    Column("snapshot", _i32, "", "planned time 0, 1, 2, ..."),
    Column("t_s", _f64, "s", "mean over the ranks of the times at which they copied their replicas"),
    Column("step", _f64, "steps", "mean over workers of the steps done by then"),
)
_HOW = (
    Column("samples", _i64, "samples", "in the probe set"),
    Column("of", _str, "", "training | heldout: where they are from"),
    Column("probe_set", _str, "", "sha256 of the samples, first 16 digits"),
    Column("settings", _str, "", "JSON: the probe's own settings and seeds"),
)
_MODEL = Column("model", _str, "", "evaluated, or replica K")

NUMBERS = Table(
    "probe-curvature",
    (
        *_WHERE,
        _MODEL,
        Column("kind", _str, "", "hessian | ggn | loss: what the number is of"),
        Column(
            "quantity", _str, "", "eigenvalue | smallest eigenvalue | trace | loss | gradient_norm | sharpness | ..."
        ),
        Column("number", _i32, "", "0, 1, ... where there are several; the largest eigenvalue is number 0"),
        Column("value", _f64, "", "eigenvalues and trace: [nat] per squared unit of a parameter; sharpness: [nat]"),
        Column("error", _f64, "", "eigenvalue: residual |Hv - lv|; estimate: standard error; NaN if none"),
        Column("method", _str, "", "how it was found"),
        Column("products", _i64, "products", "Hessian-vector products of the whole probe; 0 if it needs none"),
        *_HOW,
    ),
)

DENSITY = Table(
    "probe-density",
    (
        *_WHERE,
        _MODEL,
        Column("kind", _str, "", "hessian | ggn"),
        Column("vector", _i32, "", "number of the random start vector"),
        Column("node", _f64, "", "Ritz value"),
        Column("weight", _f64, "", "its share of the mass; sums to 1 per vector"),
        *_HOW,
    ),
)

LANDSCAPE = Table(
    "probe-landscape",
    (
        *_WHERE,
        Column(
            "curve",
            _str,
            "",
            "plane | interpolation | workers (plane of the workers' largest distances from their mean): what alpha and "
            "beta move along; position: where a model stands on the latter",
        ),
        Column("a", _str, "", "the model at alpha = 0 (and beta = 0); of a position the model itself"),
        Column("b", _str, "", "the model at alpha = 1 of an interpolation; empty otherwise"),
        Column("alpha", _f64, "", "along the first direction, or from a to b"),
        Column("beta", _f64, "", "along the second direction; 0 on a line"),
        Column("loss", _f64, "nat", "mean loss over the probe set"),
        *_HOW,
    ),
)

WORKERS = Table(
    "probe-workers",
    (
        *_WHERE,
        Column("a", _str, "", "a model"),
        Column("b", _str, "", "another"),
        Column("loss_a", _f64, "nat", "mean loss of a over the probe set"),
        Column("loss_b", _f64, "nat", "mean loss of b"),
        Column("distance", _f64, "", "Euclidean distance between their parameters"),
        Column("barrier", _f64, "nat", "how far the loss between them rises above the straight line, at most"),
        Column("barrier_at", _f64, "", "alpha of that place, 0 at a and 1 at b"),
        *_HOW,
    ),
)

NOISE = Table(
    "probe-noise",
    (
        *_WHERE,
        Column("workers", _i32, "", "n"),
        Column("lr", _f64, "", "a, the learning rate of the step"),
        Column("alpha_e", _f64, "", "effective learning rate a (mean G . g) / |g|^2"),
        Column("alpha_e_control", _f64, "", "the same for synchronous SGD at the mean model; a up to sampling noise"),
        Column("noise", _f64, "", "Delta, squared length of the step's part across g"),
        Column("noise_sampling", _f64, "", "Delta_S, the same for synchronous SGD"),
        Column("noise_diversity", _f64, "", "Delta^(2) = a^2 |mean G - mean S|^2"),
        Column("noise_diversity_perp", _f64, "", "its part across g"),
        Column("cross", _f64, "", "what is left of Delta - Delta_S - Delta_perp"),
        Column("replica_variance", _f64, "", "sigma_w^2, mean over workers of |w_j - w_a|^2"),
        Column("slope", _f64, "", "|g|^2 of the overall gradient, or its unbiased estimate"),
        Column("mean_gradient", _f64, "", "|mean G|^2"),
        Column("noise_scale", _f64, "samples", "tr(Sigma) / |g|^2 of single samples"),
        Column("diversity", _f64, "", "sum |S_j|^2 / |sum S_j|^2"),
        *_HOW,
    ),
)

TABLES: Mapping[str, Table] = {t.name: t for t in (NUMBERS, DENSITY, LANDSCAPE, WORKERS, NOISE)}

DONE = "probes.json"

KEY = ("snapshot", "samples", "of", "probe_set", "settings")
"""What tells one call of a probe from another; `model` too, where the table has it."""


def path_of(table: Table, folder: Path) -> Path:
    """Where a run's folder keeps a table."""
    return folder / f"{table.name}.parquet"


def read(table: Table, folder: Path) -> pd.DataFrame:
    """A run's rows of a table; empty if it was never probed.

    Raises:
        ValueError: the file is torn, or not of this version.
    """
    path = path_of(table, folder)
    frame: pd.DataFrame = table.schema.empty_table().to_pandas()
    if not path.exists():
        return frame
    try:
        frame = pq.read_table(path).select(table.schema.names).cast(table.schema).to_pandas()
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise ValueError(f"cannot read {path}: {what} (delete it; the probe makes it again)") from error
    return frame


def is_done(folder: Path, snapshot: int, samples: str, settings: str) -> bool:
    """Whether a run's snapshot has been probed on these samples (their hash) with these settings, to the end."""
    return [snapshot, samples, settings] in _done(folder)


def mark_done(folder: Path, snapshot: int, samples: str, settings: str) -> None:
    """Remember that it has; call it when all tables are written."""
    entries = [*_done(folder), [snapshot, samples, settings]]
    write_atomic(folder / DONE, (json.dumps(entries, indent=1) + "\n").encode())


def _done(folder: Path) -> list[list[Any]]:
    try:
        entries = json.loads((folder / DONE).read_text())
    except (OSError, ValueError):
        return []  # then it is probed again
    return entries if isinstance(entries, list) else []


def add(table: Table, rows: Sequence[Mapping[str, Any]], folder: Path) -> Path:
    """Add rows to a run's table, in place of earlier ones of the same probe; the file is whole at any moment."""
    old = read(table, folder)
    key = [name for name in (*KEY, "model") if name in table.schema.names]
    new = {tuple(row[name] for name in key) for row in rows}
    kept = [row for row in old.to_dict("records") if tuple(row[name] for name in key) not in new]
    path = path_of(table, folder)
    write_rows(table, [{str(k): v for k, v in row.items()} for row in kept] + [dict(row) for row in rows], path)
    return path


@dataclass(frozen=True)
class Probes:
    """The probe tables of results folders as pandas frames, by the names in `TABLES`."""

    tables: Mapping[str, pd.DataFrame]
    skipped: list[str] = field(default_factory=list)  # files that cannot be read, each with its reason

    def __getitem__(self, name: str) -> pd.DataFrame:
        return self.tables[name]


def load(directories: Iterable[str | os.PathLike[str]]) -> Probes:
    """Every probe of every run in these results folders."""
    skipped: list[str] = []
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for directory in directories:
        for folder in sorted(Path(directory, "runs").glob("*/")):
            for name, table in TABLES.items():
                try:
                    part = read(table, folder)
                except ValueError as error:
                    skipped.append(str(error))
                    continue
                if len(part):
                    parts[name].append(part)
    frames = {
        name: pd.concat(found, ignore_index=True) if found else TABLES[name].schema.empty_table().to_pandas()
        for name, found in parts.items()
    }
    for name, frame in frames.items():
        frame.attrs["units"] = TABLES[name].units()
    return Probes(frames, skipped)
