"""Messages survive every memory they may travel in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.cluster import HEADER_NBYTES
from bench.transports.base import wire_dtype
from bench.transports.paths import DEVICE, HOST, PINNED
from bench.transports.staging import (
    DeviceMemory,
    HostMemory,
    Memory,
    PinnedMemory,
    choose,
    from_wire,
    pinned,
    summable,
    to_wire,
)
from tests.gpu.support import CPU, gpu, keep_busy, needs_gpu

HEADER = bytes(range(HEADER_NBYTES))
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int8, torch.bool]


class Allocations:
    """Ordinary memory in place of page-locked memory, counted."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, nbytes: int) -> Tensor:
        self.sizes.append(nbytes)
        return torch.full((nbytes,), 170, dtype=torch.uint8)


MEMORIES = [HostMemory(), PinnedMemory(CPU, Allocations()), DeviceMemory(CPU)]


def vectors(device: torch.device = CPU) -> list[Tensor]:
    """Of all types, lengths and strides."""
    generator = torch.Generator().manual_seed(0)
    whole = [(torch.randn(n, generator=generator) * 50).to(dtype) for dtype in DTYPES for n in (0, 1, 7, 1000)]
    odd = [torch.randn(6, 4, generator=generator), torch.randn(6, 4, generator=generator).t(), torch.arange(9)[::2]]
    return [v.to(device) for v in [*whole, *odd]]


def carry(memory: Memory, buffer: object) -> object:
    """What MPI does: the bytes, into a buffer of the receiver's."""
    nbytes = buffer.nbytes if isinstance(buffer, np.ndarray | Tensor) else -1
    room = memory.room(nbytes)
    source, target = (b if isinstance(b, Tensor) else torch.from_numpy(b) for b in (buffer, room))
    target.copy_(source)
    return room


def check(memory: Memory, device: torch.device) -> None:
    for v in vectors(device):
        expected = v.clone()
        buffer = memory.message(HEADER, v)
        v.zero_()  # the message holds what was there
        header, payload = memory.open(carry(memory, buffer))
        assert bytes(header[:HEADER_NBYTES]) == HEADER
        assert payload.nbytes == expected.nbytes
        if expected.nbytes:
            assert payload.device == device
            assert torch.equal(payload.view(expected.dtype), expected.reshape(-1))


@pytest.mark.parametrize("memory", MEMORIES, ids=lambda memory: type(memory).__name__)
def test_what_is_opened_is_what_was_put_in(memory: Memory) -> None:
    check(memory, CPU)


def test_only_messages_with_data_take_page_locked_memory() -> None:
    allocate = Allocations()
    memory = PinnedMemory(CPU, allocate)
    memory.room(HEADER_NBYTES)
    assert allocate.sizes == []
    memory.room(HEADER_NBYTES + 40)
    memory.message(HEADER, torch.zeros(10))
    assert allocate.sizes == [HEADER_NBYTES + 40] * 2


def test_the_memory_is_chosen_by_device_and_by_what_mpi_can_do() -> None:
    cuda = torch.device("cuda", 0)
    chosen = [choose(device, aware=aware) for device in (CPU, cuda) for aware in (False, True)]
    assert [type(memory) for memory in chosen] == [HostMemory, HostMemory, PinnedMemory, DeviceMemory]
    assert [memory.path for memory in chosen] == [HOST, HOST, PINNED, DEVICE]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64])
@pytest.mark.parametrize("staged_by", [to_wire, summable])
def test_a_mean_is_formed_in_a_type_that_can_be_summed(dtype: torch.dtype, staged_by) -> None:
    ranks = [torch.tensor([5.0, -3.0, 0.25]).mul(rank + 1).to(dtype) for rank in range(3)]
    exact = torch.stack([v.double() for v in ranks]).mean(0)
    expected = exact.floor() if not dtype.is_floating_point else exact
    staged = staged_by(ranks[0])
    assert staged.dtype == wire_dtype(dtype) and (staged is ranks[0]) == (staged.dtype == dtype)
    total = staged.clone()
    for v in ranks[1:]:
        total += v.to(total.dtype)
    staged.copy_(total)
    from_wire(staged, ranks[0], 3)
    assert ranks[0].dtype == dtype
    assert torch.allclose(ranks[0].double(), expected, rtol=float(2.0**-8), atol=0)


@pytest.mark.parametrize("staged_by", [to_wire, summable])
def test_what_is_strided_is_staged_and_put_back_in_place(staged_by) -> None:
    whole = torch.zeros(10)
    part = whole[::2]
    staged = staged_by(part)
    assert staged.is_contiguous() and staged is not part
    from_wire(staged.fill_(6.0), part, 2)
    assert torch.equal(whole, torch.tensor([3.0, 0.0] * 5))


@needs_gpu
@pytest.mark.parametrize("kind", [PinnedMemory, DeviceMemory])
def test_on_a_gpu_what_is_opened_is_what_was_put_in(kind: type) -> None:
    check(kind(gpu()), gpu())


@needs_gpu
@pytest.mark.parametrize("kind", [PinnedMemory, DeviceMemory])
def test_on_a_gpu_a_message_waits_for_what_it_holds(kind: type) -> None:
    memory, v = kind(gpu()), torch.zeros(1 << 20, device=gpu())
    keep_busy(0.05)
    v.fill_(3.0)
    buffer = memory.message(HEADER, v)  # MPI may read it now: no stream protects it
    payload = torch.as_tensor(buffer)[HEADER_NBYTES:]
    with torch.cuda.stream(torch.cuda.Stream(gpu())):
        assert torch.all(payload.view(torch.float32) == 3.0)


@needs_gpu
def test_on_a_gpu_a_buffer_is_not_given_out_while_it_is_copied_from() -> None:
    memory, nbytes = PinnedMemory(gpu()), HEADER_NBYTES + (1 << 20)
    arrived = memory.room(nbytes)
    arrived[:] = 7
    keep_busy(0.1)  # the copy to the device stands behind this
    _, payload = memory.open(arrived)
    del arrived
    for _ in range(4):
        memory.room(nbytes)[:] = 9
    assert torch.all(payload == 7)


@needs_gpu
def test_on_a_gpu_host_buffers_are_used_again() -> None:
    addresses = set()
    for _ in range(20):
        addresses.add(pinned(1 << 20).data_ptr())
    assert len(addresses) == 1
