"""After the run: held-out loss of the snapshots, outside the timed region, shared out over the ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor

from bench.records import HELDOUT, SNAPSHOTS, write_atomic, write_rows
from bench.worker import RankHandle, Snapshot
from bench.workloads.base import Workload


class Group(Protocol):
    """The processes of a run."""

    rank: int

    def sum_(self, v: Tensor) -> Tensor:
        """v (float64, on the host) <- its sum over the processes."""
        ...

    def gather(self, value: Any) -> list[Any] | None:
        """Everybody's value on process 0; None elsewhere."""
        ...

    def mine(self, item: int) -> bool:
        """Whether this process does item number `item` of a shared list of work."""
        ...


class OneProcess:
    """The group of a simulated run."""

    rank = 0

    def sum_(self, v: Tensor) -> Tensor:
        return v

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def mine(self, item: int) -> bool:
        return True


def evaluate(
    handles: Sequence[RankHandle],
    workload: Workload,
    group: Group,
    *,
    run_id: str,
    workers: int,
    evaluated_model: str,
    folder: Path,
    save: str,
) -> list[dict[str, Any]] | None:
    """Held-out loss of each planned snapshot of the evaluated model; writes the tables and snapshot files.

    Args:
        handles: this process's ranks (one under MPI, all in the simulator).
        save: "none" | "evaluated" | "replicas": which snapshots are kept as safetensors files.

    Returns:
        The rows of the held-out table on process 0, None elsewhere; no rows if no gradients were computed.
    """
    values = workload.device.type != "meta"  # without them there is no loss
    _write_snapshots(handles, run_id, folder, keep=values and save == "replicas")
    if not values:
        write_rows(HELDOUT, [], folder / "heldout.parquet")
        return []
    rows: dict[int, dict[str, Any]] = {}
    of_servers = evaluated_model.partition(":")[0] == "center"
    numbers = sorted({s.number for handle in handles for s in handle.snapshots})
    local = [{s.number: s for s in handle.snapshots} for handle in handles]
    for number in numbers:
        here = [(handle, snapshots[number]) for handle, snapshots in zip(handles, local, strict=True)]
        mean = _total((s.x for h, s in here if not h.is_server), workload, group).div_(workers)
        squared = torch.zeros(1, dtype=torch.float64)
        for handle, snapshot in here:
            if not handle.is_server:
                squared += (snapshot.x.double() - mean).square().sum()
        consensus = float(group.sum_(squared)) ** 0.5 / workers**0.5
        model = mean
        if of_servers:
            model = _center([(h, s) for h, s in here if h.is_server], workload, group)
        if group.mine(number):
            vector = model.to(workload.dtype)
            heldout = workload.heldout(vector.to(workload.device))
            rows[number] = {
                "heldout_loss": heldout.loss, "heldout_metric": heldout.metric, "consensus_distance": consensus,
            }  # fmt: skip
            if save != "none":
                _save(vector, number, folder / "snapshots" / f"evaluated-{number:04d}.safetensors")
    positions = [
        (h.is_server, {s.number: _position(s) for s in snapshots.values()})
        for h, snapshots in zip(handles, local, strict=True)
    ]
    gathered, everybody = group.gather(rows), group.gather(positions)
    if gathered is None or everybody is None:
        return None
    losses = {number: row for part in gathered for number, row in part.items()}
    table = []
    for number in sorted(losses):
        of_workers = [p[number] for part in everybody for server, p in part if not server]
        of_all = [p[number] for part in everybody for _, p in part]
        timed = [p[number] for part in everybody for server, p in part if server] if of_servers else of_workers
        table.append(
            {
                "run_id": run_id,
                "snapshot": number,
                "t_s": sum(p["t_s"] for p in timed) / len(timed),
                "step": sum(p["step"] for p in of_workers) / len(of_workers),
                "samples": sum(p["samples"] for p in of_workers),
                "nbytes": sum(p["nbytes"] for p in of_all),
                "wire_nbytes": sum(p["wire_nbytes"] for p in of_all),
                **losses[number],
            }
        )
    write_rows(HELDOUT, table, folder / "heldout.parquet")
    return table


def _total(vectors: Any, workload: Workload, group: Group) -> Tensor:
    """Sum over all ranks, in float64 so that it does not depend on how ranks share processes."""
    total = torch.zeros(workload.parameters, dtype=torch.float64)
    for x in vectors:
        total += x
    return group.sum_(total)


def _center(here: Sequence[tuple[RankHandle, Snapshot]], workload: Workload, group: Group) -> Tensor:
    """The central variable, put together from the servers' parts."""
    center = torch.zeros(workload.parameters, dtype=torch.float64)
    for handle, snapshot in here:
        center[handle.owns] += snapshot.x if handle.owns == handle.span else 0.0
    return group.sum_(center)


def _position(s: Snapshot) -> dict[str, Any]:
    return {"t_s": s.t_s, "step": s.step, "samples": s.samples, "nbytes": s.nbytes, "wire_nbytes": s.wire_nbytes}


def _write_snapshots(handles: Sequence[RankHandle], run_id: str, folder: Path, *, keep: bool) -> None:
    """One table for the ranks of this process, named after the first."""
    rows = [
        {"run_id": run_id, "rank": handle.rank, "snapshot": s.number, **_position(s), "copy_s": s.copy_s}
        for handle in handles
        for s in handle.snapshots
    ]
    write_rows(SNAPSHOTS, rows, folder / f"snapshots-r{handles[0].rank}.parquet")
    for handle in handles if keep else ():
        for s in handle.snapshots:
            _save(s.x, s.number, folder / "snapshots" / f"replica-{s.number:04d}-r{handle.rank}.safetensors")


def _save(x: Tensor, number: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, safetensors.torch.save({"x": x.contiguous()}, metadata={"snapshot": str(number)}))
