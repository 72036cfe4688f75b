"""A rank's whole state at the clean end of a segment, as named tensors; and a fresh rank that goes on from it (rule 9).

At the end of a segment no message and no collective is under way, and no coroutine is alive, so what is here is all
there is: parameters, optimisers, kept tensors, messages that nobody has taken, the random streams, the position in the
data, and the counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from algorithms.interface import Message
from bench.worker import RankHandle
from bench.workloads.base import generator_state, set_generator_state

COUNTS = ("step", "samples", "computed", "next_snapshot")


def save(handle: RankHandle) -> dict[str, Tensor]:
    """Copies of everything that `restore` needs, on the host; the names sort into groups at the first "/"."""
    state, x, recorder = handle.state, handle.replica(), handle.recorder
    saved = {
        "counts": torch.tensor([getattr(state, name) for name in COUNTS]),
        "computed_s": torch.tensor(state.computed_s, dtype=torch.float64),
        "traffic": torch.tensor([recorder.nbytes, recorder.wire_nbytes, recorder.messages]),
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


def _group(saved: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    prefix = f"{group}/"
    return {name.removeprefix(prefix): v for name, v in saved.items() if name.startswith(prefix)}
