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
from bench.transports.base import Reduced, divide_
from bench.transports.helper import Mark
from bench.transports.mpi import Check, Collective, MPITransport
from bench.transports.paths import NCCL, no_nccl
from bench.transports.staging import Memory, summable, to_wire

import horovod.torch as hvd  # isort: skip  # after mpi4py

_initialised_for: list[int] | None = None
"""World ranks of the workers that Horovod was started for in this process."""


class HorovodTransport(MPITransport):
    """One rank whose collectives go through Horovod; see `MPITransport`.

    Vectors on GPUs are reduced where they are, by NCCL, if Horovod was built with it and every worker has a GPU of its
    own. Else they are staged through page-locked host memory here and reduced there: NCCL refuses two ranks on one GPU,
    and a Horovod without GPU operations knows no GPU's tensors or copies them through ordinary memory.
    """

    def __init__(
        self,
        world: MPI.Comm,
        size: int,
        kernel: Kernel,
        clock: WallClock,
        *,
        device: torch.device | None = None,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(world, size, kernel, clock, device=device, memory=memory)
        self._why_not_nccl = ""
        if self.rank < size:
            _start_horovod(self.workers)
            places = self.workers.allgather(gpu_of(self.device))
            self._why_not_nccl = no_nccl(places, built=bool(hvd.nccl_built()))
        self._nccl = self.device.type == "cuda" and not self._why_not_nccl

    def start_allreduce(self, v: Tensor, check: Check) -> Future[Reduced]:
        """Begin to replace v by its mean; Horovod's own thread moves the bytes, `poll` notices the end."""
        t0 = self.kernel.now()
        staged = summable(v) if self._nccl else to_wire(v)
        floating = staged.is_floating_point()  # Horovod would scale whole numbers by a rounded 1/n
        op = hvd.Average if floating else hvd.Sum
        handle = hvd.allreduce_async_(staged, op=op, name=check.next_name())  # after what is enqueued on this stream
        future: Future[Reduced] = Future(Wait("allreduce", check.label))

        def end() -> None:
            hvd.synchronize(handle)
            if not floating:
                divide_(staged, self.size)
            if staged is not v:
                v.copy_(staged, non_blocking=True)
            future.set(Reduced(t0, self.kernel.now(), v.numel()))

        self._collectives.append(Collective(_Handle(handle), check, end, future))
        return future

    def _allreduce_here(self, v: Tensor, check: Check) -> Future[Reduced]:
        future = self.start_allreduce(v, check)
        self._finish_here(self._collectives[-1])
        return future

    def _may_launch(self, final: Mark) -> bool:
        return self._nccl or super()._may_launch(final)  # NCCL itself waits on the GPU for what is not final yet

    def warm_up(self, length: int, dtype: torch.dtype) -> None:
        super().warm_up(length, dtype)
        if self.rank < self.size:
            vector = torch.zeros(length, dtype=dtype, device=self.device)
            for _ in range(2):
                hvd.allreduce(summable(vector) if self._nccl else to_wire(vector), op=hvd.Average, name="warm-up")

    def facts(self) -> dict[str, Any]:
        path = NCCL if self._nccl else self._staged_path
        if self.device.type == "cuda" and not self._nccl:
            path += f" (no NCCL: {self._why_not_nccl})"
        return {
            "collectives": "horovod",
            "paths": {"point-to-point": self._memory.path, "collectives": path},
            "horovod": {
                "mpi": hvd.mpi_built(),
                "gloo": hvd.gloo_built(),
                "nccl": bool(hvd.nccl_built()),
                "cycle_time_ms": os.environ.get("HOROVOD_CYCLE_TIME", "1"),
            },
        }


def gpu_of(device: torch.device) -> str:
    """A name of the GPU that is the same in every process and different for every GPU; "" for a CPU.

    Its number would not do: processes may each be shown another GPU as number 0.
    """
    if device.type != "cuda":
        return ""
    properties = torch.cuda.get_device_properties(device)
    return f"{MPI.Get_processor_name()} {properties.uuid}"


class _Handle:
    """A Horovod handle with the calls of an MPI request."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def Test(self) -> bool:
        return bool(hvd.poll(self._handle))

    def Wait(self) -> bool:
        hvd.synchronize(self._handle)
        return True


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
