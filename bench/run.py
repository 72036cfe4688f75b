"""One run (cell), from its settings to its tables; the same for the simulator, MPI and Horovod but for `_simulated` and
`_measured`."""

from __future__ import annotations

import functools
import json
import math
import os
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from algorithms.interface import Algorithm
from algorithms.optim import OptimizerSettings
from bench import checkpoint, checkpoint_files, energy, interface_count, provenance
from bench.budget import Budget
from bench.checkpoint_files import Past
from bench.clock import WallClock
from bench.evaluate import Group, OneProcess, evaluate
from bench.events import Recorder
from bench.interruption import Interrupted
from bench.kernel import Kernel
from bench.records import RUNS, SHARES, unknown_row, write_rows
from bench.sanity import RankFacts, Verdict, judge
from bench.settings import plain
from bench.simulate import Simulation
from bench.study import Cell
from bench.testbed import here
from bench.watchdog import Watchdog
from bench.worker import RankHandle
from bench.workloads.base import Workload, digest
from bench.workloads.cost_only import NoValues, asked_for_a_value
from bench.workloads.registry import WorkloadSettings

if TYPE_CHECKING:
    from mpi4py import MPI

    from bench.transports.mpi import MPITransport

MODELLED = {"paths": {"point-to-point": "modelled", "collectives": "modelled"}}
"""How bytes travel in the simulator."""

VIRTUAL = energy.Reading(unknown="simulated: nothing was drawn in virtual time")

Progress = Callable[[int, float, Tensor], None]
"""Told (step, seconds since the start, last loss) after each step of worker 0."""


@dataclass(frozen=True)
class Clocks:
    """Largest clock offset that was removed and the error that may be left [s]; what the hosts sent meanwhile."""

    offset_s: float = 0.0
    error_s: float = 0.0
    sent: interface_count.Sent = interface_count.UNKNOWN


def run_cell(
    cell: Cell,
    out: Path,
    *,
    world: MPI.Comm | None,
    progress: Progress | None = None,
    wish: Callable[[], bool] | None = None,
    note: Callable[[str], None] | None = None,
) -> Verdict | None:
    """Run one cell and write its tables under `out`/runs/RUN_ID; from its checkpoint on, if there is one.

    Args:
        world: under MPI, a communicator of exactly the cell's ranks; None for the simulator.
        wish: whether this process is wished to stop; None where nobody asks.
        note: told, on process 0, what the user should know: that the run goes on, or why it starts afresh.

    Returns:
        The verdict on process 0, None elsewhere.

    Raises:
        Interrupted: on all processes, as wished; the state of all ranks is saved.
    """
    folder = out / "runs" / cell.run_id
    started = time.perf_counter()
    if world is None:
        return _simulated(cell, folder, started, progress, wish, note)
    return _measured(cell, folder, started, world, progress, wish, note)


def _begin(cell: Cell, folder: Path, parameters: int, note: Callable[[str], None] | None) -> Past | None:
    """What an interrupted run has behind it, its folder as it was then; None for one that starts, in a new folder."""
    past, unusable = checkpoint_files.find(folder, cell.run_id, cell.ranks, parameters)
    if past is not None:
        checkpoint_files.tidy(folder, past)
        if note is not None:
            note(f"goes on at {past.elapsed_s:.4g} s of its clock, after {past.interruptions} interruptions")
            if past.codes[-1:] != (provenance.code(),):
                note("warning: the code has changed since, so one part of this run was made by another version")
    else:
        if unusable and note is not None:
            note(f"starts afresh, since its checkpoint cannot be used: {unusable}")
        shutil.rmtree(folder, ignore_errors=True)  # leavings of a run that did not end
        folder.mkdir(parents=True)
    return past


def _simulated(
    cell: Cell,
    folder: Path,
    started: float,
    progress: Progress | None,
    wish: Callable[[], bool] | None,
    note: Callable[[str], None] | None,
) -> Verdict | None:
    workload = _built(cell.workload.settings, cell.workers)
    accelerated, device = None, "cpu"
    if cell.gradients not in ("none", "single") and sees_gpu(cell.device):
        accelerated = cell.workload.settings.build(torch.device("cuda"), cell.workers)
        device = f"cpu, gradients on {torch.cuda.get_device_name()}"
    past = _begin(cell, folder, workload.parameters, note)
    simulation = Simulation(
        cell.algorithm,
        workload,
        workers=cell.workers,
        seed=cell.seed,
        optimizer=default_optimizer(cell, workload),
        network=cell.network,
        compute=cell.workload.compute,
        gradients=cell.gradients or "auto",
        accelerated=accelerated,
        bucket_nbytes=cell.bucket_nbytes,
        run_id=cell.run_id,
        spill_to=folder,
        on_step=progress,
        wish=wish,
    )
    if past is not None:
        simulation.restore([checkpoint_files.read(folder, rank) for rank in range(cell.ranks)])
    try:
        simulation.run(cell.workload.budget)
    except Exception as error:  # of a rank's task, or of what a message set off
        if place := asked_for_a_value(error):
            raise NoValues(
                f"{cell.algorithm.name} asks for a value ({place}), and a run without gradients has none "
                '(leave gradients = "none" out, or say so in its decides_by_values)'
            ) from error
        raise
    if simulation.interrupted:
        if not simulation.can_be_interrupted:
            raise Interrupted("and will start afresh, since it simulates the work of its hosts")
        states = simulation.save()
        simulation.log.spill(folder)
        states[0]["records"][-1] = simulation.log.parts
        elapsed_s, parts = simulation.kernel.now(), {"0": simulation.log.parts}
        now = _past(cell, workload, past, elapsed_s, started, parts, Clocks(), VIRTUAL, [socket.gethostname()])
        checkpoint_files.write(folder, dict(enumerate(states)), now, first=True, meet=lambda: None)
        raise Interrupted(f"at {elapsed_s:.4g} s of its clock, its state is saved")
    return finish(
        cell,
        simulation.workload,
        simulation.handles,
        OneProcess(),
        folder,
        Clocks(),
        started,
        device,
        MODELLED,
        VIRTUAL,
        past,
    )


@functools.lru_cache(maxsize=1)
def _built(settings: WorkloadSettings, workers: int) -> Workload:
    """The workload of this run and often of the next: what it has recorded of its gradients need not be made again."""
    return settings.build(torch.device("cpu"), workers)


def _measured(
    cell: Cell,
    folder: Path,
    started: float,
    world: MPI.Comm,
    progress: Progress | None,
    wish: Callable[[], bool] | None,
    note: Callable[[str], None] | None,
) -> Verdict | None:
    from bench.transports import mpi_world

    device, device_text = choose_device(cell.device, world)
    workload = cell.workload.settings.build(device, cell.workers)
    spin = cell.poll == "spin"
    transport = open_transport(
        cell.transport, world, cell.workers, device=device, spin=spin, rate_Gbit_per_s=cell.rate_Gbit_per_s
    )
    rank = transport.rank
    past = world.bcast(_begin(cell, folder, workload.parameters, note) if rank == 0 else None)
    handle = RankHandle(
        transport,
        workload,
        Recorder(cell.run_id, rank, transport.kernel.now),
        algorithm=cell.algorithm,
        seed=cell.seed,
        optimizer=default_optimizer(cell, workload),
        bucket_nbytes=cell.bucket_nbytes,
        spill_to=folder,
        on_step=progress if rank == 0 else None,
    )
    warm_up(workload, handle, cell, transport)
    transport.warm_up(workload.parameters, workload.dtype)
    if past is not None:
        checkpoint.restore(handle, checkpoint_files.read(folder, rank))
    fail = _end_of_all(folder, world)
    meter = _meter(world, device)
    if meter is not None:
        meter.start()
    clocks = run_segment(
        cell.algorithm, cell.workload.budget, handle, transport, world, cell.timeout_s, fail,
        elapsed_s=0.0 if past is None else past.elapsed_s, wish=wish,
    )  # fmt: skip
    nodes = world.allgather(None if meter is None else meter.stop())
    drawn = energy.together(node for node in nodes if node is not None)
    if any(world.allgather(handle.interrupted)):
        handle.recorder.log.spill(folder)
        elapsed_s = max(world.allgather(transport.kernel.now()))
        parts = dict(world.allgather((str(rank), handle.recorder.log.parts)))
        places = world.allgather(socket.gethostname())
        now = _past(cell, workload, past, elapsed_s, started, parts, clocks, drawn, places)
        checkpoint_files.write(folder, {rank: checkpoint.save(handle)}, now, first=rank == 0, meet=world.Barrier)
        transport.close()
        raise Interrupted(f"at {elapsed_s:.4g} s of its clock, its state is saved")
    group = mpi_world.MPIGroup(world, cell.workers)
    extra = {"mpi": mpi_world.library(), "mpi_thread_multiple": mpi_world.thread_multiple(), **transport.facts()}
    if bed := here.facts():
        extra["testbed"] = bed
    verdict = finish(cell, workload, [handle], group, folder, clocks, started, device_text, extra, drawn, past)
    transport.close()
    return verdict


def open_transport(
    name: str,
    world: MPI.Comm,
    workers: int,
    *,
    device: torch.device | None = None,
    spin: bool = False,
    rate_Gbit_per_s: float | None = None,
) -> MPITransport:
    """This rank's end of the wire, with a kernel on a wall clock; collective over `world`, the ranks of the run.

    `device` is where this rank's tensors are; None is the CPU.
    """
    from bench.transports.mpi import MPITransport

    clock = WallClock(spin=spin)
    if rate_Gbit_per_s is not None:
        from bench.transports.limited import LimitedTransport

        return LimitedTransport(world, workers, Kernel(clock), clock, rate_Gbit_per_s * 1e9 / 8, device=device)
    if name == "horovod":
        from bench.transports.horovod import HorovodTransport

        return HorovodTransport(world, workers, Kernel(clock), clock, device=device)
    return MPITransport(world, workers, Kernel(clock), clock, device=device)


def run_segment(
    algorithm: Algorithm,
    budget: Budget,
    handle: RankHandle,
    transport: MPITransport,
    world: MPI.Comm,
    timeout_s: float,
    fail: Callable[[str], None],
    *,
    elapsed_s: float = 0.0,
    wish: Callable[[], bool] | None = None,
) -> Clocks:
    """Run the algorithm on this rank to the end of its budget, from a common start, under a watchdog.

    Args:
        fail: see `Watchdog`.
        elapsed_s: on the run's clock, of an interrupted run that goes on.
        wish: whether this rank is wished to stop before; then `handle.interrupted` says that it did.

    Raises:
        TaskFailed: this rank raised.
    """
    from bench.transports import mpi_world

    kernel = transport.kernel
    channel = mpi_world.WatchdogChannel(world) if mpi_world.thread_multiple() else None
    first = mpi_world.local_rank(world)[0] == 0
    offset_s, error_s = mpi_world.align_clocks(world, transport.clock, elapsed_s=elapsed_s)
    counter = interface_count.Counter(first=first)
    if transport.rank == 0:
        here.tell(elapsed_s)
    watchdog = Watchdog(transport, channel, timeout_s, fail)
    task = kernel.start(handle.begin_segment(algorithm, budget, asked=wish), rank=handle.rank, name="main")
    try:
        kernel.run(task.done)
    except BaseException:
        watchdog.stop()  # why the run ends is known: no table on top of it
        raise
    kernel.cancel_all()
    world.Barrier()
    if transport.rank == 0:
        here.tell(None)
    sent = counter.stop(world)
    watchdog.stop()
    if channel is not None:
        channel.close()
    offsets = [abs(t) for t in world.allgather(offset_s)]
    return Clocks(max(offsets), max(world.allgather(error_s)), sent)


def _past(
    cell: Cell,
    workload: Workload,
    before: Past | None,
    elapsed_s: float,
    started: float,
    parts: dict[str, int],
    clocks: Clocks,
    drawn: energy.Reading,
    places: list[str],
) -> Past:
    """What a run that is interrupted now has behind it."""
    wall_s = time.perf_counter() - started
    if before is not None:
        drawn = energy.after(_drawn(before), drawn)
    return Past(
        run_id=cell.run_id,
        ranks=cell.ranks,
        parameters=workload.parameters,
        parts=parts,
        interruptions=1 if before is None else before.interruptions + 1,
        elapsed_s=elapsed_s,
        wall_s=wall_s if before is None else before.wall_s + wall_s,
        started_utc=_utc(wall_s) if before is None else before.started_utc,
        clock_offset_s=max(clocks.offset_s, 0.0 if before is None else before.clock_offset_s),
        clock_error_s=max(clocks.error_s, 0.0 if before is None else before.clock_error_s),
        joules=drawn.joules,
        unknown=drawn.unknown,
        left_out=drawn.left_out,
        places=(*(() if before is None else before.places), places),
        codes=(*(() if before is None else before.codes), provenance.code()),
    )


def _drawn(past: Past) -> energy.Reading:
    return energy.Reading(dict(past.joules), past.unknown, past.left_out)


def default_optimizer(cell: Cell, workload: Workload) -> OptimizerSettings:
    """The study's optimiser for this workload, else the workload's own."""
    return cell.workload.optimizer or OptimizerSettings(**workload.optimizer)


def warm_up(workload: Workload, handle: RankHandle, cell: Cell, transport: MPITransport) -> None:
    """Two gradients before the clock starts, on a stream of their own: caches, threads and memory are then in place."""
    if handle.is_server:
        return
    x = handle.replica().data.clone()
    batches = workload.batches(cell.seed, handle.rank, cell.workers)
    for _ in range(2):
        transport.rehearse(lambda: workload.gradient(x, batches.next(), torch.empty_like(x)))


def choose_device(wanted: str, world: MPI.Comm) -> tuple[torch.device, str]:
    """The device of this rank, by its number on its host, and a text that says what it is and who shares it.

    Raises:
        RuntimeError: cuda was asked for and there is none.
    """
    if not sees_gpu(wanted):
        return torch.device("cpu"), "cpu"
    from bench.transports.mpi_world import local_rank

    mine, there = local_rank(world)
    count = torch.cuda.device_count()
    device = torch.device("cuda", mine % count)
    torch.cuda.set_device(device)
    sharing = math.ceil(there / count)
    name = torch.cuda.get_device_name(device)
    return device, f"{count} x {name}" + (f", each shared by up to {sharing} ranks" if sharing > 1 else "")


def sees_gpu(wanted: str) -> bool:
    """Whether to compute on a GPU, as the study's `device` wants it.

    Raises:
        RuntimeError: cuda was asked for and there is none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise RuntimeError('device = "cuda", but torch sees no GPU (try device = "auto")')
    return wanted != "cpu" and torch.cuda.is_available()


def _meter(world: MPI.Comm, device: torch.device) -> energy.Meter | None:
    """On the first rank of each node the meter of the whole node; None on the others."""
    from bench.transports.mpi_world import local_rank

    host, gpu = socket.gethostname(), ""
    if device.type == "cuda":
        # Not every backend tells; NVML then says that it knows no such GPU, and the energy is unknown.
        gpu = str(getattr(torch.cuda.get_device_properties(device), "uuid", "without UUID"))
    neighbours = world.allgather((host, gpu))
    if local_rank(world)[0] > 0:
        return None
    return energy.Meter(host, sorted({uuid for where, uuid in neighbours if where == host and uuid}))


def finish(
    cell: Cell,
    workload: Workload,
    handles: Sequence[RankHandle],
    group: Group,
    folder: Path,
    clocks: Clocks,
    started: float,
    device: str,
    extra: dict[str, Any],
    drawn: energy.Reading,
    past: Past | None,
) -> Verdict | None:
    """Evaluate, check and write everything; the run's row last, since it marks the run as complete."""
    facts = [_facts(handle) for handle in handles]
    for handle in handles:
        handle.recorder.log.spill(folder)
    heldout = evaluate(
        handles, workload, group,
        run_id=cell.run_id, workers=cell.workers, evaluated_model=cell.algorithm.evaluated_model, folder=folder,
        save=cell.save,
    )  # fmt: skip
    gathered, places = group.gather(facts), group.gather(provenance.here())
    if gathered is None or heldout is None:
        return None
    ranks = sorted((f for part in gathered for f in part), key=lambda f: f.rank)
    itemsize = workload.dtype.itemsize
    curve = [(row["t_s"], row["heldout_loss"]) for row in heldout]
    values = workload.device.type != "meta"
    apart = cell.testbed is not None and cell.testbed.ranks_per_host == 1 and past is None
    verdict = judge(
        cell.algorithm, ranks, handles[0].layers, itemsize, cell.seed, curve, values=values,
        sent_nbytes=clocks.sent.nbytes if apart else None,
    )  # fmt: skip
    target = workload.target_loss if cell.workload.target_loss is None else cell.workload.target_loss
    wall_s = time.perf_counter() - started
    started_utc, earlier = _utc(wall_s), dict[str, Any]()
    if past is not None:
        wall_s, started_utc, drawn = past.wall_s + wall_s, past.started_utc, energy.after(_drawn(past), drawn)
        clocks = Clocks(max(clocks.offset_s, past.clock_offset_s), max(clocks.error_s, past.clock_error_s))
        earlier = {"hosts before interruptions": past.places, "code before interruptions": past.codes}
    row = blank_row(cell) | {
        "workload": workload.name if cell.workload.name == cell.workload.settings.title else cell.workload.name,
        "status": verdict.status,
        "verdict": verdict.text,
        "diverged_at_s": verdict.diverged_at_s,
        "duration_s": max(f.ended_s for f in ranks),
        "wall_s": wall_s,
        "started_utc": started_utc,
        "interruptions": 0 if past is None else past.interruptions,
        "parameters": workload.parameters,
        "batch_size": workload.batch_size,
        "flops_per_sample": workload.flops_per_sample,
        "steps": sum(f.steps for f in ranks),
        "samples": sum(f.samples for f in ranks),
        "nbytes": sum(f.nbytes for f in ranks),
        "wire_nbytes": sum(f.wire_nbytes for f in ranks),
        "interface_nbytes": clocks.sent.nbytes,
        "interface_packets": clocks.sent.packets,
        "dropped_rows": sum(f.dropped for f in ranks),
        "mailbox_depth_max": max(f.mailbox_depth_max for f in ranks),
        "initial_hash": ranks[0].initial_hash,
        "first_batch_hash": digest(*workload.batches(cell.seed, 0, cell.workers).next()) if values else "",
        "target_loss": target,
        "metric": workload.metric,
        "device": device,
        "clock_offset_s": clocks.offset_s,
        "clock_error_s": clocks.error_s,
        "energy_J": drawn.total_J,
        "workload_facts": json.dumps(
            {**workload.facts, **({"gradient time": said} if (said := cell.workload.gradient_time) else {})}
        ),
        "settings": json.dumps(
            {
                **plain(cell.algorithm),
                **plain(cell.algorithm.resolved()),
                "optimizer": plain(cell.algorithm.optimizer or default_optimizer(cell, workload)),
            }
        ),
        "provenance": json.dumps({**provenance.common(), **extra, "energy": drawn.facts(), "ranks": places, **earlier}),
    }
    _write_shares(cell, workload, folder)
    write_rows(RUNS, [row], folder / "run.parquet")
    checkpoint_files.forget(folder)
    return verdict


def _write_shares(cell: Cell, workload: Workload, folder: Path) -> None:
    rows = [
        {
            "run_id": cell.run_id,
            "rank": share.rank,
            "samples": share.samples,
            "labels": json.dumps(share.labels),
            "groups": json.dumps(list(share.groups)),
            "group_count": share.group_count,
        }
        for share in workload.shares(cell.seed, cell.workers)
    ]
    write_rows(SHARES, rows, folder / "shares.parquet")


def blank_row(cell: Cell) -> dict[str, Any]:
    """The run's row as far as it is known without running; the rest is unknown."""
    budget = cell.workload.budget
    tuning = cell.entry.tuning
    limit: dict[str, Any] = {} if cell.rate_Gbit_per_s is None else {"rate_Gbit_per_s": cell.rate_Gbit_per_s}
    if cell.testbed is not None:
        limit["testbed"] = {**plain(cell.testbed), "title": cell.testbed.title}
    model = {"network": plain(cell.network), "compute": plain(cell.workload.compute)}
    return unknown_row(RUNS) | {
        "run_id": cell.run_id,
        "study": cell.study,
        "label": cell.entry.label,
        "algorithm": cell.algorithm.name,
        "tuning_trials": -1 if tuning is None else tuning.trials,
        "tuning_searched": "" if tuning is None else tuning.searched,
        "transport": cell.transport,
        "workload": cell.workload.name,
        "workers": cell.workers,
        "ranks": cell.ranks,
        "seed": cell.seed,
        "simulated": cell.transport == "simulated",
        "gradients": cell.gradients,
        "budget_s": math.nan if budget.seconds is None else budget.seconds,
        "budget_steps": -1 if budget.steps is None else budget.steps,
        "evaluated_model": cell.algorithm.evaluated_model,
        "lockstep": cell.algorithm.lockstep,
        "settings": json.dumps(plain(cell.algorithm)),
        "workload_settings": json.dumps(plain(cell.workload.settings)),
        "workload_facts": "{}",
        "network": json.dumps(model if cell.transport == "simulated" else limit),
        "provenance": json.dumps(provenance.common()),
        "started_utc": _utc(0.0),
    }


def _utc(ago_s: float) -> str:
    """The time of day so many seconds ago."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="seconds")


def write_crashed(cell: Cell, out: Path, reason: str, error: str) -> None:
    """The row of a run that ended without one: it keeps its place in the tables and is shown as crashed."""
    folder = out / "runs" / cell.run_id
    folder.mkdir(parents=True, exist_ok=True)
    row = blank_row(cell) | {"status": "crashed", "verdict": reason, "error": error[-4000:]}
    write_rows(RUNS, [row], folder / "run.parquet")


def _facts(handle: RankHandle) -> RankFacts:
    x, r = handle.replica(), handle.recorder
    return RankFacts(
        rank=handle.rank,
        is_server=handle.is_server,
        steps=handle.state.step,
        samples=handle.state.samples,
        nbytes=r.nbytes,
        wire_nbytes=r.wire_nbytes,
        dropped=r.dropped,
        mailbox_depth_max=r.mailbox_depth_max,
        initial_hash=handle.initial_hash,
        first_bad_loss_s=r.first_bad_loss_s,
        ended_s=handle.ended_s,
        drift=x.drift,
        exchanges=x.exchanges,
        rms=float(x.data.double().square().mean().sqrt()) if x.data.numel() and not x.data.is_meta else 0.0,
        counters={name: int(v) for name, v in handle.state.kept.items() if v.dtype == torch.int64 and v.dim() == 0},
        total=0.0 if x.data.is_meta else float(x.data.double().sum()),
    )


FAILURE = "failure.json"
"""Written into the run's folder by the rank that fails, for the supervisor to read."""


def report_failure(folder: Path, rank: int, text: str) -> None:
    """Leave word of what went wrong; the first rank to do so wins."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(folder / FAILURE, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return
    with os.fdopen(handle, "w") as file:
        json.dump({"rank": rank, "text": text}, file)


def _end_of_all(folder: Path, world: MPI.Comm) -> Callable[[str], None]:
    def fail(text: str) -> None:
        report_failure(folder, world.Get_rank(), text)
        os.write(2, f"\n{text}\n".encode())
        world.Abort(1)

    return fail
