"""Writes a results folder whose every number has a closed form, through `bench.records`, without running anything.

Five algorithms on four workers (EASGD with a server as fifth rank), three transports, some seeds, and the four ways a
run can end. Steps are made of whole milliseconds, so that sums are exact. See `SCHEDULES` for what a step is made of.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.records import EVENTS, HELDOUT, RUNS, SHARES, SNAPSHOTS, unknown_row, write_atomic, write_rows

WORKERS = 4
SERVER = WORKERS
PAYLOAD = 4000  # bytes of one parameter vector: 1000 float32
HEADER = 32
BATCH = 16
TARGET = 1.5  # nat
EVIL = "<script>alert('x')</script> & <b>bold</b>"  # must come out as text


@dataclass(frozen=True)
class Schedule:
    """What a step of an algorithm is made of, in milliseconds.

    Attributes:
        gradient: gradient time of worker 0; worker r takes `slower * r` longer.
        apply: time of the update.
        reaches: planned snapshot at which the target is reached, by transport; the second seed reaches it one later.
    """

    label: str
    algorithm: str
    lockstep: bool
    gradient: int
    slower: int
    apply: int
    transfer: int
    period: int
    reaches: dict[str, int]
    evaluated: str = "mean"

    def gradient_ms(self, rank: int) -> int:
        """Gradient time of one worker."""
        return self.gradient + self.slower * rank


SCHEDULES = (
    # All-reduce after every gradient: worker r waits 2 (3 - r) ms for the slowest, then 4 ms for the wire.
    Schedule("allreduce-sgd", "allreduce-sgd", True, 10, 2, 1, 4, 1, {"mpi": 14, "horovod": 13, "simulated": 12}),
    # The same at every fifth step only. In between nobody waits, so the slowest is behind by 5 steps' worth.
    Schedule("local-sgd", "local-sgd", True, 10, 2, 1, 4, 5, {"mpi": 9, "horovod": 9, "simulated": 8}),
    # Messages to both neighbours leave at the step's start and take 14 ms; the gradient hides 12 of them.
    Schedule("d-psgd", "d-psgd", True, 12, 0, 1, 14, 1, {"mpi": 11, "simulated": 10}),
    # Workers 0 and 2 ask and wait 3 ms; 1 and 3 answer for 1 ms while they compute.
    Schedule("ad-psgd", "ad-psgd", False, 10, 2, 1, 3, 1, {"mpi": 5, "simulated": 6}),
    # Every fifth step an exchange of 8 ms with the server, hidden behind the gradient.
    Schedule("easgd", "easgd", False, 10, 2, 1, 8, 5, {"mpi": 7, "simulated": 8}, "center"),
)


def staleness_of(algorithm: str, step: int) -> int:
    """Staleness of the gradient applied in a step: AD-PSGD 0, 1, 2, 3 in turn; EASGD 1 at exchanges; else 0."""
    if algorithm == "ad-psgd":
        return step % 4
    return int(algorithm == "easgd" and (step - 1) % 5 == 0)


def _event(rank: int, kind: str, step: int, t0_ms: float, t1_ms: float, **values: Any) -> dict[str, Any]:
    row: dict[str, Any] = dict(
        rank=rank, kind=kind, step=step, t0_s=t0_ms / 1000, t1_s=t1_ms / 1000, nbytes=0, wire_nbytes=0, peer=-1,
        label="", version_read=-1, version_applied=-1, staleness_updates=-1, loss=math.nan, device_s=math.nan,
        mailbox_depth=-1,
    )  # fmt: skip
    return {**row, **values}


def _message(rank: int, peer: int, step: int, t0_ms: float, t1_ms: float, label: str) -> Iterator[dict[str, Any]]:
    yield _event(rank, "send", step, t0_ms, t1_ms, nbytes=PAYLOAD, wire_nbytes=PAYLOAD + HEADER, peer=peer, label=label)
    yield _event(peer, "recv", step, t0_ms, t1_ms, nbytes=PAYLOAD, peer=rank, label=label, mailbox_depth=1)


def events_of(schedule: Schedule, steps: int) -> tuple[list[dict[str, Any]], int]:
    """Event rows of all ranks, and the duration in milliseconds."""
    rows: list[dict[str, Any]] = []
    s = schedule
    ring = 2 * (WORKERS - 1) * PAYLOAD // WORKERS
    now = [0] * WORKERS
    for step in range(1, steps + 1):
        exchange = (step - 1) % s.period == 0 if s.algorithm == "easgd" else step % s.period == 0
        done = [now[r] + s.gradient_ms(r) for r in range(WORKERS)]
        last = max(done)
        for r in range(WORKERS):
            t, ready = now[r], done[r]
            rows.append(_event(r, "gradient", step, t, ready, version_read=step, loss=2.0))
            if s.algorithm in ("allreduce-sgd", "local-sgd") and exchange:
                end = last + s.transfer
                rows.append(_event(r, "allreduce", step, ready, end, nbytes=PAYLOAD, wire_nbytes=ring, label="g"))
                rows.append(_event(r, "wait", step, ready, end, label="g"))
                ready = end
            elif s.algorithm == "d-psgd":
                for peer in ((r - 1) % WORKERS, (r + 1) % WORKERS):
                    rows += _message(r, peer, step, t, t + s.transfer, "model")
                rows.append(_event(r, "wait", step, t, t + s.transfer, peer=(r + 1) % WORKERS, label="model"))
                ready = max(ready, t + s.transfer)
            elif s.algorithm == "ad-psgd":
                if r % 2 == 0:
                    rows += _message(r, r + 1, step, ready, ready + 1, "gossip")
                    rows.append(_event(r, "wait", step, ready, ready + s.transfer, peer=r + 1, label="gossip"))
                    ready += s.transfer
                else:
                    rows.append(_event(r, "serve", step, t + 4, t + 5, peer=r - 1, label="gossip"))
                    rows += _message(r, r - 1, step, t + 5, t + 6, "gossip")
            elif s.algorithm == "easgd" and exchange:
                rows += _message(r, SERVER, step, t, t + 3, "elastic")
                rows.append(_event(SERVER, "serve", 0, t + 3, t + 5, peer=r, label="elastic"))
                rows += _message(SERVER, r, 0, t + 5, t + 8, "elastic")
                rows.append(_event(r, "wait", step, t, t + s.transfer, peer=SERVER, label="elastic"))
            old = staleness_of(s.algorithm, step)
            rows.append(
                _event(r, "apply", step, ready, ready + s.apply, version_read=step, version_applied=step + old,
                       staleness_updates=old)
            )  # fmt: skip
            now[r] = ready + s.apply
        if s.lockstep and exchange:
            now = [max(now)] * WORKERS
    return rows, max(now)


def loss_at(snapshot: int, reaches: int, decay: float) -> float:
    """Held-out loss [nat]: falls exponentially and equals the target exactly at the snapshot `reaches`."""
    return TARGET + 2.0 * (math.exp(-snapshot / decay) - math.exp(-reaches / decay))


PATHS = {
    "mpi": {"point-to-point": "host memory", "collectives": "host memory"},
    "horovod": {"point-to-point": "host memory", "collectives": "NCCL"},
    "simulated": {"point-to-point": "modelled", "collectives": "modelled"},
}
PROVENANCE = {
    "commit": "0123abc",
    "diff_hash": "",
    "command": "paceline run synthetic.toml -n 4 --out results",
    "versions": {"python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6"},
    "mpi": {"library": "Open MPI v5.0.11", "thread_level": "serialized"},
    "hosts": ["node-a", "node-b"],
    "threads": 1,
}

VERDICT = (
    "equal initial parameters: yes; no event row dropped: yes; bytes equal to the closed form: yes; finite loss: yes"
)


def write_run(
    folder: Path,
    schedule: Schedule,
    transport: str,
    seed: int,
    *,
    study: str = "synthetic",
    workload: str = "digits-mlp",
    label: str | None = None,
    status: str = "completed",
    steps: int = 100,
    snapshots: int = 20,
    late: int = 0,
    text: str = "",
) -> str:
    """Write one run and return its id.

    Args:
        late: snapshots by which the target is reached later than the schedule says.
        text: verdict of a failed run, error of a crashed one.
    """
    label = label or schedule.label
    run_id = f"{study}.{label}.{transport}.n{WORKERS}.s{seed}.{workload}-{len(text):04x}"
    run = folder / "runs" / run_id
    run.mkdir(parents=True)
    ranks = WORKERS + (schedule.algorithm == "easgd")
    rows, duration_ms = events_of(schedule, steps)
    if transport == "simulated":  # a quarter slower, so that measured and simulated differ
        duration_ms = duration_ms * 5 // 4
        for row in rows:
            row["t0_s"], row["t1_s"] = row["t0_s"] * 1.25, row["t1_s"] * 1.25
    duration_s = duration_ms / 1000
    samples, nbytes = WORKERS * steps * BATCH, sum(r["nbytes"] for r in rows if r["kind"] != "recv")
    wire = sum(r["wire_nbytes"] for r in rows)
    reaches = schedule.reaches.get(transport, 10) + late
    diverged = status == "diverged"
    curve = []
    for j in range(snapshots + 1):
        part = j / snapshots
        loss = loss_at(j, reaches, 0.6 * reaches) if not (diverged and part > 0.5) else math.nan
        curve.append(
            dict(
                run_id=run_id, snapshot=j, t_s=duration_s * part, step=steps * part, samples=int(samples * part),
                nbytes=int(nbytes * part), wire_nbytes=int(wire * part),
                heldout_loss=loss * (1 + 3 * part if diverged else 1), heldout_metric=1 - loss / 4,
                consensus_distance=0.0 if schedule.algorithm == "allreduce-sgd" else 0.25,
            )
        )  # fmt: skip
    if status != "crashed":
        for rank in range(ranks):
            own = [{**row, "run_id": run_id} for row in rows if row["rank"] == rank]
            write_rows(EVENTS, own, run / f"events-r{rank}-p0.parquet")
            copies = [
                dict(run_id=run_id, rank=rank, snapshot=c["snapshot"], t_s=c["t_s"], step=int(c["step"]),
                     samples=c["samples"] // WORKERS, nbytes=0, wire_nbytes=0, copy_s=1e-4)
                for c in curve
            ]  # fmt: skip
            write_rows(SNAPSHOTS, copies, run / f"snapshots-r{rank}.parquet")
        write_rows(HELDOUT, curve, run / "heldout.parquet")
        shares = [
            dict(run_id=run_id, rank=rank, samples=100 + rank, labels=json.dumps({str(rank): 100 + rank}), groups="[]",
                 group_count=0)
            for rank in range(WORKERS)
        ]  # fmt: skip
        write_rows(SHARES, shares, run / "shares.parquet")
    write_rows(
        RUNS,
        [
            unknown_row(RUNS)
            | dict(
                run_id=run_id, study=study, label=label, algorithm=schedule.algorithm, transport=transport,
                workload=workload, workers=WORKERS, ranks=ranks, seed=seed, simulated=transport == "simulated",
                status=status, verdict={"failed": text, "crashed": "a rank was lost"}.get(status, VERDICT),
                error=text if status == "crashed" else "",
                diverged_at_s=0.5 * duration_s if diverged else math.nan, budget_s=duration_s, budget_steps=-1,
                duration_s=math.nan if status == "crashed" else duration_s, wall_s=duration_s + 1, parameters=1000,
                batch_size=BATCH, flops_per_sample=6000.0, steps=WORKERS * steps, samples=samples, nbytes=nbytes,
                wire_nbytes=wire, dropped_rows=0, mailbox_depth_max=1, initial_hash="1f" * 32,
                first_batch_hash="2e" * 32, target_loss=TARGET, metric="accuracy", evaluated_model=schedule.evaluated,
                lockstep=schedule.lockstep, device="cpu", clock_offset_s=2e-6, clock_error_s=1e-6,
                settings=json.dumps({"period": schedule.period}),
                workload_settings=json.dumps({"hidden": 32, "partition": {"by": "label", "classes": 3}}),
                workload_facts=json.dumps({"data": "made up", "partition": "label, classes=3"}),
                network=json.dumps({"latency_s": 1e-5, "bandwidth_Bps": 1.25e8} if transport == "simulated" else {}),
                gradients="auto" if transport == "simulated" else "",
                provenance=json.dumps({**PROVENANCE, "paths": PATHS[transport], "pids": {"0": 100 + seed}}),
                started_utc="2026-11-20T10:00:00Z", interruptions=0,
            )
        ],
        run / "run.parquet",
    )  # fmt: skip
    return run_id


def write_results(
    folder: Path,
    *,
    seeds: Sequence[int] = (0, 1),
    steps: int = 100,
    workloads: Sequence[str] = ("digits-mlp",),
    bad: bool = True,
) -> Path:
    """Write the whole folder: five algorithms, three transports, all seeds; and, if `bad`, the runs that went wrong.

    Seed number k reaches the target k snapshots late. The runs that went wrong: `easgd-wild` diverged with its first
    seed and was fine with its second; `local-sgd` over horovod crashed with its last seed; `d-psgd` over mpi failed a
    check with its last seed; `ad-psgd-broken` crashed with every seed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    by_label = {s.label: s for s in SCHEDULES}
    for workload in workloads:
        for schedule in SCHEDULES:
            for transport in schedule.reaches:
                for late, seed in enumerate(seeds):
                    status, text = "completed", ""
                    if bad and seed == seeds[-1] and (schedule.label, transport) == ("local-sgd", "horovod"):
                        status, text = (
                            "crashed",
                            f"Traceback (most recent call last):\nRuntimeError: rank 2 lost {EVIL}",
                        )
                    if bad and seed == seeds[-1] and (schedule.label, transport) == ("d-psgd", "mpi"):
                        status, text = (
                            "failed",
                            "equal step counts: yes; bytes equal to the closed form: NO (counted 123, expected 124)",
                        )
                    write_run(
                        folder, schedule, transport, seed,
                        workload=workload, status=status, text=text, late=late, steps=steps,
                    )  # fmt: skip
        if bad:
            for late, seed in enumerate(seeds):
                write_run(
                    folder, by_label["easgd"], "mpi", seed,
                    workload=workload, label="easgd-wild", late=late, steps=steps,
                    status="diverged" if seed == seeds[0] else "completed",
                )  # fmt: skip
                write_run(
                    folder, by_label["ad-psgd"], "mpi", seed, workload=workload, label="ad-psgd-broken", steps=steps,
                    status="crashed", text="ValueError: no such rank: 9 (ranks are 0..3)",
                )  # fmt: skip
    write_atomic(folder / "study.json", json.dumps({"name": "synthetic", "seeds": list(seeds)}).encode())
    return folder
