"""Tries out whether MPI can be handed device memory: `mpirun -n 2 python -m bench.transports.cuda_probe`.

The ranks send each other tensors the way runs do, by the same code, both ways at once: sizes that MPI sends at once and
sizes that it does not, types of 2 and 4 bytes, strided. What arrives is compared. It prints `paths.WORKS` and ends with
0 if everything did; whoever starts it must also expect a crash, and put an end to a hang. See `paths.probed`.
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import Tensor

from bench.clock import WallClock
from bench.kernel import Kernel
from bench.transports import mpi_world
from bench.transports.base import MESSAGE, Envelope
from bench.transports.mpi import MPITransport
from bench.transports.paths import WORKS
from bench.transports.staging import DeviceMemory, Memory, PinnedMemory, pinned

SIZES = (1, 1000, 1 << 18, 1 << 22, 3)  # numbers
ROUNDS = 3
PATIENCE_S = 30.0


def main(argv: list[str]) -> int:
    """Run on one rank; exit code 0 if what arrived is what was sent, 1 if it is not, 2 if there is nothing to try."""
    parser = argparse.ArgumentParser(prog="python -m bench.transports.cuda_probe", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries this program itself")
    parser.add_argument(
        "--paths", nargs="+", choices=("device", "pinned"), default=["device"], help="which memory MPI is handed"
    )
    arguments = parser.parse_args(argv)
    world = mpi_world.everybody()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("torch sees no GPU")
        return 2
    device = torch.device("cpu")
    if arguments.device == "cuda":
        device = torch.device("cuda", mpi_world.local_rank(world)[0] % torch.cuda.device_count())
        torch.cuda.set_device(device)
    allocate = pinned if device.type == "cuda" else _plain
    memories: dict[str, Memory] = {"device": DeviceMemory(device), "pinned": PinnedMemory(device, allocate)}
    wrong = 0
    for path in arguments.paths:
        clock = WallClock()
        kernel = Kernel(clock, timeout_s=PATIENCE_S)
        transport = MPITransport(world, world.Get_size(), kernel, clock, device=device, memory=memories[path])
        wrong += world.allreduce(exchange(transport, device))
        transport.close()
    if world.Get_rank() == 0:
        print(WORKS if wrong == 0 else f"{wrong} messages arrived changed")
    return int(wrong > 0)


def _plain(nbytes: int) -> Tensor:
    return torch.empty(nbytes, dtype=torch.uint8)


def exchange(transport: MPITransport, device: torch.device) -> int:
    """Send every size to the next rank and get the same from the one before; how many arrived changed."""
    arrived: list[Tensor] = []
    transport.attach(lambda envelope: arrived.append(envelope.data), lambda: False)
    right, left = (transport.rank + 1) % transport.size, (transport.rank - 1) % transport.size
    expected = 0
    for _ in range(ROUNDS):
        for v in samples(transport.rank, device):
            envelope = Envelope(MESSAGE, "probe", 0, v, transport.rank, transport.kernel.now())
            transport.post(right, envelope, lambda _: None)
            v.zero_()  # the copy must have left by now, or be in order
            expected += 1
    transport.kernel.run(lambda: len(arrived) == expected and transport.quiet())
    sent = [v for _ in range(ROUNDS) for v in samples(left, device)]
    return sum(not (a.device == b.device and torch.equal(a, b.reshape(-1))) for a, b in zip(arrived, sent, strict=True))


def samples(rank: int, device: torch.device) -> list[Tensor]:
    """What a rank sends: different numbers on every rank and in every place."""
    vectors = []
    for number, size in enumerate(SIZES):
        v = torch.arange(size, device=device) % 251 + 1000 * rank + number
        vectors += [v.float(), v.bfloat16(), v.float().repeat(2)[::2]]
    return vectors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
