"""A rank's whole state at the clean end of a segment, as named tensors; and a fresh rank that goes on from it (rule 9).

At the end of a segment no message and no collective is under way, and no coroutine is alive, so what is here is all
there is: parameters, optimisers, kept tensors, messages that nobody has taken, the random streams, the position in the
data, the counts, and the snapshots that are to be evaluated. (In the simulator a rank may be saved at any boundary of
its steps: see `bench.transports.cut`.)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithms.interface import Message
from bench.budget import Word
from bench.worker import RankHandle, Snapshot
from bench.workloads.base import generator_state, set_generator_state

COUNTS = ("step", "samples", "computed", "next_snapshot", "meet_at")
POSITION = ("number", "t_s", "step", "samples", "nbytes", "wire_nbytes", "copy_s")
"""Of a snapshot, beside its parameters."""


def save(handle: RankHandle) -> dict[str, Tensor]:
    """Copies of everything that `restore` needs, on the host; the names sort into groups at the first "/"."""
    state, x, recorder = handle.state, handle.replica(), handle.recorder
    saved = {
        "counts": torch.tensor([getattr(state, name) for name in COUNTS]),
        "computed_s": torch.tensor(state.computed_s, dtype=torch.float64),
        "traffic": torch.tensor([recorder.nbytes, recorder.wire_nbytes, recorder.messages]),
        "records": torch.tensor([recorder.mailbox_depth_max, recorder.dropped, recorder.log.parts]),
        "first-bad-loss-s": torch.tensor(recorder.first_bad_loss_s, dtype=torch.float64),
        "ended": torch.tensor([handle.ended_s, handle.ended_step], dtype=torch.float64),
        "words": torch.tensor(list(handle.words)),
        "requests": torch.tensor(handle.request_count),
        "snapshots": torch.tensor(
            [[getattr(s, name) for name in POSITION] for s in handle.snapshots], dtype=torch.float64
        ),
        "replica/data": x.data,
        "replica/writes": torch.tensor([x.version, x.exchanges]),
        "replica/drift": torch.tensor(float("nan") if x.drift is None else x.drift, dtype=torch.float64),
        "rng": generator_state(handle.rng),
    }
    if not handle.is_server:
        saved |= {f"batches/{name}": v for name, v in handle.batches.state().items()}
    for k, optimizer in enumerate(state.optimizers):
        saved |= {f"optimizer/{k}/{name}": v for name, v in optimizer.state().items()}
    for name, v in state.kept.items():  # what an algorithm keeps on the host, such as counters, stays there
        saved[f"{'kept' if v.device == x.data.device else 'host'}/{name}"] = v
    saved |= {f"collective/{label}": v for label, v in state.collectives.items()}
    saved |= {f"snapshot/{k:06d}": s.x for k, s in enumerate(handle.snapshots)}
    for k, message in enumerate(handle.mailbox.messages()):
        saved[f"mail/{k:06d}/{message.src}/{message.tag}"] = message.data
    return {name: _copied(v.detach()) for name, v in saved.items()}


def _copied(v: Tensor) -> Tensor:
    # Vectors of a run without gradients have no values to bring to the host.
    return v.clone() if v.is_meta else v.to("cpu", copy=True).contiguous()


def restore(handle: RankHandle, saved: Mapping[str, Tensor]) -> None:
    """Put a freshly made rank of the same run where `save` found the old one.

    Raises:
        ValueError: the state is another model's.
    """
    state, x, recorder = handle.state, handle.replica(), handle.recorder
    if saved["replica/data"].shape != x.data.shape:
        raise ValueError(
            f"the checkpoint is another model's: {list(saved['replica/data'].shape)} parameters, expected "
            f"{list(x.data.shape)} (resume with the study that the run was started with)"
        )
    for name, value in zip(COUNTS, saved["counts"].tolist(), strict=True):
        setattr(state, name, value)
    state.computed_s = float(saved["computed_s"])
    recorder.nbytes, recorder.wire_nbytes, recorder.messages = saved["traffic"].tolist()
    recorder.mailbox_depth_max, dropped, parts = saved["records"].tolist()
    if recorder.rank == recorder.log.rank:
        recorder.log.dropped, recorder.log.parts = dropped, parts
    recorder.first_bad_loss_s = float(saved["first-bad-loss-s"])
    ended_s, ended_step = saved["ended"].tolist()
    handle.ended_s, handle.ended_step = ended_s, int(ended_step)
    handle.request_count = int(saved["requests"])
    handle.words.extend(map(Word, saved["words"].tolist()))
    vectors = [v for _, v in sorted(_group(saved, "snapshot").items())]
    handle.snapshots = [
        _snapshot(position, x) for position, x in zip(saved["snapshots"].tolist(), vectors, strict=True)
    ]
    x.data.copy_(saved["replica/data"])
    x.version, x.exchanges = saved["replica/writes"].tolist()
    x.drift = None if x.drift is None else float(saved["replica/drift"])
    set_generator_state(handle.rng, saved["rng"])
    if not handle.is_server:
        handle.batches.load_state(_group(saved, "batches"))
    of_optimizers = _group(saved, "optimizer")
    count = len({name.partition("/")[0] for name in of_optimizers})
    state.saved_optimizers = [_group(of_optimizers, str(k)) for k in range(count)]
    device = x.data.device
    state.kept = {name: v.to(device, copy=True) for name, v in _group(saved, "kept").items()}
    state.kept |= {name: v.clone() for name, v in _group(saved, "host").items()}
    state.collectives = {label: v.to(device, copy=True) for label, v in _group(saved, "collective").items()}
    for name, v in sorted(_group(saved, "mail").items()):
        _, src, tag = name.split("/", 2)
        handle.mailbox.put(Message(v.clone(), int(src), tag))


def _snapshot(position: list[float], x: Tensor) -> Snapshot:
    number, t_s, step, samples, nbytes, wire_nbytes, copy_s = position
    return Snapshot(int(number), t_s, int(step), int(samples), int(nbytes), int(wire_nbytes), copy_s, x)


def _group(saved: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {name.removeprefix(prefix): v for name, v in saved.items() if name.startswith(prefix)}
