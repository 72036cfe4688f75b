"""The memory of messages: how a tensor, on a GPU too, gets to MPI and back.

Three ways, by where a rank's tensors are and what MPI can do (`choose`):

    HostMemory     tensors on the CPU: header and data in one buffer of ordinary memory, the data copied once
    PinnedMemory   tensors on a GPU: the same in page-locked memory, which the GPU writes and reads by itself
    DeviceMemory   tensors on a GPU and an MPI that was tried out (see `paths`): header and data in one device buffer

Page-locked buffers come from torch's caching host allocator. It keeps them by size, since locking pages costs more than
most messages, and knows of every asynchronous copy: a buffer that is let go is handed out again only when the copies
from it have ended. So a send's buffer lives as long as the send, and a received one as long as its copy to the device.

Streams. A copy to the host is waited for before MPI sees the buffer. A copy to the device is not: it is enqueued on the
current stream, on which the algorithm goes on. MPI itself knows no streams, so before it writes into fresh device
memory the current stream is waited for: what the allocator hands out may still be in use by work enqueued before.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from bench.cluster import HEADER_NBYTES
from bench.transports.base import divide_, wire_dtype
from bench.transports.paths import DEVICE, HOST, PINNED

NOTHING = torch.empty(0, dtype=torch.uint8)
Buffer = Any
"""What mpi4py sends from and receives into: an array of bytes on the host, or a tensor of bytes on a GPU."""


class Memory(Protocol):
    """Where messages are put together and taken apart."""

    path: str  # for tables: which way point-to-point messages go

    def message(self, header: bytes, data: Tensor) -> Buffer:
        """Header and data (any shape and strides) in one buffer, as they are now; MPI may read it at once."""
        ...

    def room(self, nbytes: int) -> Buffer:
        """A buffer of that size, header included, into which MPI may write at once."""
        ...

    def open(self, buffer: Buffer) -> tuple[Any, Tensor]:
        """Header (as a Python buffer) and data (uint8 [nbytes], where this rank's tensors are) of what arrived."""
        ...


class HostMemory:
    """Messages of tensors on the CPU."""

    path = HOST

    def message(self, header: bytes, data: Tensor) -> Buffer:
        buffer = np.empty(HEADER_NBYTES + data.nbytes, dtype=np.uint8)
        buffer.data[:HEADER_NBYTES] = header
        if data.nbytes:
            torch.from_numpy(buffer[HEADER_NBYTES:]).view(data.dtype).copy_(data.reshape(-1))  # strides do not travel
        return buffer

    def room(self, nbytes: int) -> Buffer:
        return np.empty(nbytes, dtype=np.uint8)

    def open(self, buffer: Buffer) -> tuple[Any, Tensor]:
        return buffer.data, torch.from_numpy(buffer[HEADER_NBYTES:]) if buffer.nbytes > HEADER_NBYTES else NOTHING


def pinned(nbytes: int) -> Tensor:
    """Page-locked host memory [nbytes] uint8 from torch's cache."""
    return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)


class PinnedMemory(HostMemory):
    """Messages of tensors on a GPU, through page-locked host memory.

    Args:
        allocate: where host buffers come from.
    """

    path = PINNED

    def __init__(self, device: torch.device, allocate: Callable[[int], Tensor] = pinned) -> None:
        self._device, self._allocate = device, allocate

    def message(self, header: bytes, data: Tensor) -> Buffer:
        if data.device != self._device:  # control messages
            return super().message(header, data)
        staged = self._allocate(HEADER_NBYTES + data.nbytes)
        buffer: Buffer = staged.numpy()
        buffer.data[:HEADER_NBYTES] = header
        if data.nbytes:
            # Blocking: returns when the current stream has written it.
            staged[HEADER_NBYTES:].view(data.dtype).copy_(data.reshape(-1))
        return buffer

    def room(self, nbytes: int) -> Buffer:
        return super().room(nbytes) if nbytes == HEADER_NBYTES else self._allocate(nbytes).numpy()

    def open(self, buffer: Buffer) -> tuple[Any, Tensor]:
        if buffer.nbytes == HEADER_NBYTES:
            return super().open(buffer)
        # Of the tensor that was allocated, not of another one on the same memory: the allocator knows by its storage
        # that a copy from it is under way.
        whole = buffer.base
        assert isinstance(whole, Tensor), "an array that room() did not make"
        return buffer.data, whole[HEADER_NBYTES:].to(self._device, non_blocking=True)


class DeviceMemory(HostMemory):
    """Messages of tensors on a GPU, handed to MPI where they are."""

    path = DEVICE

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def message(self, header: bytes, data: Tensor) -> Buffer:
        if data.device != self._device or not data.nbytes:  # control messages
            return super().message(header, data)
        buffer = torch.empty(HEADER_NBYTES + data.nbytes, dtype=torch.uint8, device=self._device)
        buffer[:HEADER_NBYTES] = torch.frombuffer(bytearray(header), dtype=torch.uint8).to(self._device)
        buffer[HEADER_NBYTES:].view(data.dtype).copy_(data.reshape(-1))
        _finish_stream(self._device)
        return buffer

    def room(self, nbytes: int) -> Buffer:
        if nbytes == HEADER_NBYTES:
            return super().room(nbytes)
        buffer = torch.empty(nbytes, dtype=torch.uint8, device=self._device)
        _finish_stream(self._device)
        return buffer

    def open(self, buffer: Buffer) -> tuple[Any, Tensor]:
        if not isinstance(buffer, Tensor):
            return super().open(buffer)
        return buffer[:HEADER_NBYTES].cpu().numpy().data, buffer[HEADER_NBYTES:]


def choose(device: torch.device, *, aware: bool) -> Memory:
    """The memory of messages for tensors on `device`; `aware`: every rank's MPI takes device memory."""
    if device.type != "cuda":
        return HostMemory()
    return DeviceMemory(device) if aware else PinnedMemory(device)


def warm_up(device: torch.device, nbytes: int, count: int = 4) -> None:
    """Have page-locked buffers for `count` messages of that size at hand, and the start of as many small ones.

    Pages are locked now and not in the timed part of a run.
    """
    if device.type == "cuda":
        buffers = [pinned(HEADER_NBYTES + size) for size in (nbytes, 4096) for _ in range(count)]
        torch.empty(HEADER_NBYTES + nbytes, dtype=torch.uint8, device=device).copy_(buffers[0])


# -- collectives -------------------------------------------------------------------------------------------------------


def summable(v: Tensor) -> Tensor:
    """v itself if it can be summed over ranks where it lies, else a copy that can, on the same device."""
    dtype = wire_dtype(v.dtype)
    return v if dtype == v.dtype and v.is_contiguous() else v.to(dtype).contiguous()


def to_wire(v: Tensor) -> Tensor:
    """v itself if MPI can sum it where it lies, else a host copy in a type that it can sum.

    From a GPU into page-locked memory: MPI's reductions of device memory crash in widespread builds.
    """
    v = summable(v)
    if v.device.type == "cpu":
        return v
    staged = torch.empty(v.shape, dtype=v.dtype, pin_memory=True)
    return staged.copy_(v)  # blocking: when it returns, the current stream has written it


def like(staged: Tensor) -> Tensor:
    """Room for the sum of what `to_wire` gave, in the same kind of memory."""
    return torch.empty_like(staged, pin_memory=staged.is_pinned())


def from_wire(staged: Tensor, v: Tensor, size: int) -> None:
    """v <- staged / size; `staged` may change."""
    # Divided where v is, which is faster on a GPU, and in the type in which it was summed.
    total = staged.to(v.device, non_blocking=True)
    divide_(total, size)
    if total is not v:
        v.copy_(total)


def _finish_stream(device: torch.device) -> None:
    """Wait until the device has done what was enqueued on the current stream."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
