"""A run as probes see it: the models it kept, when they were taken, and its workload.

Axes: P parameters, n workers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.torch
import torch
from torch import Tensor

from bench.records import SNAPSHOTS
from bench.workloads.base import Batches, Workload
from bench.workloads.objective import Objective

EVALUATED = re.compile(r"evaluated-(\d+)\.safetensors")
REPLICA = re.compile(r"replica-(\d+)-r(\d+)\.safetensors")


@dataclass(frozen=True)
class Subject:
    """A run whose models are on disk.

    Attributes:
        run_id: the run.
        folder: DIR/runs/RUN_ID.
        workload: built as in the run, on the probe's device.
        workers: n.
        seed: the run's.
        lr: step t -> learning rate.
    """

    run_id: str
    folder: Path
    workload: Workload
    workers: int
    seed: int
    lr: Callable[[int], float]

    @cached_property
    def objective(self) -> Objective:
        """The workload's loss."""
        return self.workload.objective()

    @cached_property
    def evaluated(self) -> Sequence[int]:
        """Numbers of the snapshots whose evaluated model is kept, ascending."""
        return sorted(int(found[1]) for name in self._files() if (found := EVALUATED.fullmatch(name)))

    @cached_property
    def complete(self) -> Sequence[int]:
        """Numbers of the snapshots of which every worker's replica is kept, ascending."""
        kept = {(int(found[1]), int(found[2])) for name in self._files() if (found := REPLICA.fullmatch(name))}
        numbers = sorted({number for number, _ in kept})
        return [number for number in numbers if all((number, rank) in kept for rank in range(self.workers))]

    def _files(self) -> list[str]:
        folder = self.folder / "snapshots"
        return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def model(self, snapshot: int) -> Tensor:
        """The evaluated model [P] of a snapshot.

        Raises:
            ValueError: the file cannot be read, or is of another model.
        """
        return self._read(f"evaluated-{snapshot:04d}.safetensors")

    def replica(self, snapshot: int, rank: int) -> Tensor:
        """A worker's replica [P] at a snapshot.

        Raises:
            ValueError: the file cannot be read, or is of another model.
        """
        return self._read(f"replica-{snapshot:04d}-r{rank}.safetensors")

    def _read(self, name: str) -> Tensor:
        path = self.folder / "snapshots" / name
        try:
            x = safetensors.torch.load_file(path)["x"]
        except Exception as error:  # the library has its own, and raises others too
            what = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(f"cannot read {path}: {what} (run the study's cell again)") from error
        if x.shape != (self.workload.parameters,):
            raise ValueError(
                f"{path} is no model of {self.workload.name}: got shape {list(x.shape)}, expected "
                f"[{self.workload.parameters}] (was study.json changed after the run?)"
            )
        return x.to(device=self.workload.device, dtype=self.workload.dtype)

    @cached_property
    def _times(self) -> pd.DataFrame:
        parts = [
            pq.read_table(path).cast(SNAPSHOTS.schema) for path in sorted(self.folder.glob("snapshots-r*.parquet"))
        ]
        whole = pa.concat_tables(parts) if parts else SNAPSHOTS.schema.empty_table()
        rows: pd.DataFrame = whole.to_pandas()
        return rows[rows["rank"] < self.workers]

    def when(self, snapshot: int) -> tuple[float, float]:
        """(t_s, step) of a snapshot, means over the workers; NaN if unknown."""
        rows = self._times[self._times["snapshot"] == snapshot]
        if rows.empty:
            return float("nan"), float("nan")
        return float(rows["t_s"].mean()), float(rows["step"].mean())

    def stream(self, snapshot: int, worker: int) -> Batches:
        """The worker's mini-batches from where it stood at a snapshot: the next one is what it trained on next."""
        rows = self._times[(self._times["snapshot"] == snapshot) & (self._times["rank"] == worker)]
        stream = self.workload.batches(self.seed, worker, self.workers)
        drawn = 0 if rows.empty else int(np.asarray(rows["samples"])[0]) // self.workload.batch_size
        if "drawn" in stream.state():
            stream.load_state({"drawn": torch.tensor([drawn])})
        else:
            for _ in range(drawn):
                stream.next()
        return stream
