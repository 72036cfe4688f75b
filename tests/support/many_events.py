"""Writes the events of a long run, as many as wanted, without running anything: gossip and all-reduce at every step.

Every rank's step is a gradient of random length, a message to the right neighbour and one from the left, an all-reduce
that waits for the slowest, the update, and an answer to somebody every fourth step: all kinds of rows and all that the
reductions tell apart.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from bench.records import EVENTS, HELDOUT, RUNS, unknown_row, write_rows, write_table

PART = 3 << 16
"""Rows of a part file, as the recorder spills them."""
TRANSFER_S, APPLY_S, MESSAGE_S, SERVE_S = 2e-3, 5e-4, 3e-3, 1e-4
NBYTES, HEADER, BATCH = 4_000_000, 32, 32
RUN = "long.mpi.n16.s0.made-up-00000000"


def write_long_run(folder: Path, events: int, *, workers: int = 16, seed: int = 0) -> int:
    """Write a results folder with one run of about so many events; returns how many there are."""
    rng = np.random.default_rng(seed)
    steps = round(events / workers / 6.25)
    gradient_s = rng.lognormal(math.log(0.01), 0.2, (workers, steps))
    length = gradient_s.max(axis=0) + TRANSFER_S + APPLY_S
    ends = np.cumsum(length)
    starts = ends - length
    run = folder / "runs" / RUN
    run.mkdir(parents=True)
    total = 0
    for rank in range(workers):
        rows = _rows(rank, workers, starts, ends, gradient_s[rank], rng)
        count = len(rows["rank"])
        for part, first in enumerate(range(0, count, PART)):
            piece = {name: values[first : first + PART] for name, values in rows.items()}
            write_table(EVENTS, piece, run / f"events-r{rank}-p{part}.parquet")
        total += count
    duration_s, samples = float(ends[-1]), steps * workers * BATCH
    ring = 2 * (workers - 1) * NBYTES // workers
    nbytes, wire = workers * steps * 2 * NBYTES, workers * steps * (NBYTES + HEADER + ring)
    curve = [
        dict(
            run_id=RUN, snapshot=k, t_s=duration_s * k / 100, step=steps * k / 100, samples=samples * k // 100,
            nbytes=nbytes * k // 100, wire_nbytes=wire * k // 100, heldout_loss=4 * math.exp(-k / 30),
            heldout_metric=0.0, consensus_distance=0.1,
        )
        for k in range(101)
    ]  # fmt: skip
    write_rows(HELDOUT, curve, run / "heldout.parquet")
    row = unknown_row(RUNS) | dict(
        run_id=RUN, study="long", label="gossip", algorithm="gossip", transport="mpi", workload="made-up",
        workers=workers, ranks=workers, status="completed", duration_s=duration_s, steps=steps * workers,
        samples=samples, nbytes=nbytes, wire_nbytes=wire, target_loss=1.0, lockstep=True,
    )  # fmt: skip
    write_rows(RUNS, [row], run / "run.parquet")
    return total


def _rows(
    rank: int, workers: int, starts: Any, ends: Any, gradient_s: Any, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Columns of one rank's rows, by step."""
    steps = len(starts)
    step = np.arange(1, steps + 1)
    done, sent = starts + gradient_s, starts + MESSAGE_S
    stale = np.minimum(rng.geometric(0.5, steps) - 1, step - 1)
    ring = 2 * (workers - 1) * NBYTES // workers
    right, left = (rank + 1) % workers, (rank - 1) % workers
    fourth = step % 4 == rank % 4
    loss = 4 * np.exp(-step / steps) + rng.normal(0, 0.1, steps)
    every = np.ones(steps, dtype=bool)
    kinds: list[tuple[str, Any, Any, Any, dict[str, Any]]] = [
        ("gradient", every, starts, done, dict(version_read=step - 1, loss=loss)),
        ("send", every, starts, sent, dict(nbytes=NBYTES, wire_nbytes=NBYTES + HEADER, peer=right, label="model")),
        ("recv", every, starts, sent, dict(nbytes=NBYTES, peer=left, label="model", mailbox_depth=1)),
        ("allreduce", every, done, ends - APPLY_S, dict(nbytes=NBYTES, wire_nbytes=ring, label="gradient")),
        ("wait", every, done, ends - APPLY_S, dict(label="gradient")),
        ("serve", fourth, sent, sent + SERVE_S, dict(peer=left, label="pull")),
        (
            "apply", every, ends - APPLY_S, ends,
            dict(version_read=step - 1 - stale, version_applied=step - 1, staleness_updates=stale),
        ),
    ]  # fmt: skip
    fill = unknown_row(EVENTS) | {"run_id": RUN, "rank": rank, "nbytes": 0, "wire_nbytes": 0}
    columns: dict[str, list[np.ndarray]] = {name: [] for name in fill}
    for kind, chosen, t0_s, t1_s, values in kinds:
        given = fill | {"kind": kind, "step": step, "t0_s": t0_s, "t1_s": t1_s} | values
        for name, value in given.items():
            if isinstance(value, str):
                columns[name].append(np.full(int(chosen.sum()), value, dtype=object))
            else:
                columns[name].append(np.broadcast_to(value, (steps,))[chosen])
    order = np.argsort(np.concatenate([step[kind[1]] for kind in kinds]), kind="stable")
    return {name: np.concatenate(parts)[order] for name, parts in columns.items()}
