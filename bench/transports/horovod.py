"""The Horovod wire: collectives by Horovod (MPI operations on CPUs, NCCL on GPUs where built), point-to-point inherited
from MPI on the same ranks. The only horovod file.

mpi4py must be imported first (bench.transports.mpi does): if Horovod initialised MPI, its shutdown would finalise it
for mpi4py too. Horovod matches tensors by name, so it would wait for ever where labels differ; the digests of the MPI
transport run beside it and turn that into an error.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from mpi4py import MPI
from torch import Tensor

from bench.clock import WallClock
from bench.kernel import Future, Kernel, Wait
from bench.transports.base import Reduced, divide_, wire_dtype
from bench.transports.mpi import Check, Collective, MPITransport

import horovod.torch as hvd  # isort: skip  # after mpi4py

_initialised_for: list[int] | None = None
"""World ranks of the workers that Horovod was started for in this process."""


class HorovodTransport(MPITransport):
    """One rank whose collectives go through Horovod; see `MPITransport`."""

    def __init__(self, world: MPI.Comm, size: int, kernel: Kernel, clock: WallClock) -> None:
        super().__init__(world, size, kernel, clock)
        if self.rank < size:
            _start_horovod(self.workers)

    def start_allreduce(self, v: Tensor, check: Check) -> Future[Reduced]:
        """Begin to replace v by its mean; Horovod's own thread moves the bytes, `poll` notices the end."""
        t0 = self.kernel.now()
        staged = v if on_wire(v) else v.to(wire_dtype(v.dtype)).contiguous()
        floating = staged.is_floating_point()  # Horovod would scale whole numbers by a rounded 1/n
        op = hvd.Average if floating else hvd.Sum
        handle = hvd.allreduce_async_(staged, op=op, name=check.next_name())
        future: Future[Reduced] = Future(Wait("allreduce", check.label))

        def end() -> None:
            hvd.synchronize(handle)
            if not floating:
                divide_(staged, self.size)
            if staged is not v:
                v.copy_(staged)
            future.set(Reduced(t0, self.kernel.now(), v.numel()))

        self._collectives.append(Collective(_Handle(handle), check, end, future))
        return future

    def _allreduce_here(self, v: Tensor, check: Check) -> Future[Reduced]:
        future = self.start_allreduce(v, check)
        self._finish_here(self._collectives[-1])
        return future

    def warm_up(self, length: int, dtype: torch.dtype) -> None:
        super().warm_up(length, dtype)
        if self.rank < self.size:
            for _ in range(2):
                hvd.allreduce(torch.zeros(length, dtype=wire_dtype(dtype)), op=hvd.Average, name="warm-up")

    def facts(self) -> dict[str, Any]:
        return {
            "collectives": "horovod",
            "horovod": {
                "mpi": hvd.mpi_built(),
                "gloo": hvd.gloo_built(),
                "nccl": bool(hvd.nccl_built()),
                "cycle_time_ms": os.environ.get("HOROVOD_CYCLE_TIME", "1"),
            },
            "device_path": "NCCL" if hvd.nccl_built() else "host memory",
        }


class _Handle:
    """A Horovod handle with the calls of an MPI request."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def Test(self) -> bool:
        return bool(hvd.poll(self._handle))

    def Wait(self) -> bool:
        hvd.synchronize(self._handle)
        return True


def on_wire(v: Tensor) -> bool:
    """Whether Horovod can reduce v where it lies."""
    return v.is_contiguous() and wire_dtype(v.dtype) == v.dtype


def _start_horovod(workers: MPI.Comm) -> None:
    """Initialise Horovod on these workers; again if it was initialised on others.

    Raises:
        RuntimeError: Horovod cannot share MPI with mpi4py's point-to-point messages.
    """
    global _initialised_for
    everybody = MPI.COMM_WORLD.Get_group()
    ranks = MPI.Group.Translate_ranks(workers.Get_group(), list(range(workers.Get_size())), everybody)
    # Whether to start afresh is decided together: a rank that sat out while others did so does not know that Horovod,
    # which shuts down everywhere at once, is gone.
    if not workers.allreduce(list(ranks) != _initialised_for, op=MPI.LOR):
        return
    if _initialised_for is not None:
        hvd.shutdown()
    hvd.init(comm=workers)
    if not hvd.mpi_threads_supported():
        raise RuntimeError(
            "Horovod reports that MPI does not support threads, so it cannot share it with point-to-point messages "
            "(use an MPI built with thread support; see: paceline doctor)"
        )
    assert hvd.size() == workers.Get_size(), "Horovod was started on other ranks"
    _initialised_for = list(ranks)
