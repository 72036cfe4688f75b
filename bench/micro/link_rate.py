"""What MPI gets from a link: half a round trip, and how fast many large messages go, from rank 0 to each other rank and
all round a ring. Run under mpirun; rank 0 prints one JSON.

    mpirun -n 2 python -m bench.micro.link_rate --seconds 2
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time

import numpy as np
from mpi4py import MPI
from numpy.typing import NDArray

SMALL_NBYTES, LARGE_NBYTES = 8, 1 << 20
STREAM_S = 0.05
"""Of messages that are under way together, at least; short, so that many fit between what else the machine does."""


def main(argv: list[str]) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.link_rate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each pair and each of its two figures (2)")
    parser.add_argument("--Gbit-per-s", type=float, default=1.0, dest="rate", help="about how fast the link is (1)")
    arguments = parser.parse_args(argv)
    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    pairs = {}
    for other in range(1, size):
        if rank in (0, other):
            peer = other if rank == 0 else 0
            pairs[other] = pair(world, peer, arguments.seconds, arguments.rate)
        meet(world)
    ring = ring_Gbit_per_s(world, arguments.seconds, arguments.rate)
    hosts = world.gather(socket.gethostname(), root=0)
    if rank == 0:
        library = MPI.Get_library_version().splitlines()[0].rstrip("\x00")
        print(json.dumps({"hosts": hosts, "mpi": library, "pairs": pairs, "ring_Gbit_per_s": ring}))
    return 0


def meet(world: MPI.Comm) -> None:
    """A barrier that leaves the cores to the others."""
    request = world.Ibarrier()
    while not request.Test():
        time.sleep(0.01)


def pair(world: MPI.Comm, peer: int, seconds: float, rate: float) -> dict[str, float]:
    """Half a round trip of a small message [s], and the payload of large ones, many under way, that arrives [Gbit/s].

    Of the fastest tenth the slowest, since what else the machine does is not the link's.
    """
    first = world.Get_rank() < peer
    small = np.zeros(SMALL_NBYTES, np.uint8)
    trips = [_round_trip(world, peer, small, first) for _ in range(50)]
    trips = [_round_trip(world, peer, small, first) for _ in range(count(world, peer, seconds, max(trips[-20:])))]
    half_s = _fast(trips) / 2
    # Long against the delay, so that what starts and ends them hardly counts.
    theirs_s = world.sendrecv(half_s, dest=peer, source=peer)
    stream_s = max(STREAM_S, 40 * min(half_s, theirs_s))
    messages = max(4, round(stream_s * rate * 1e9 / 8 / LARGE_NBYTES))
    _stream(world, peer, messages, first)  # TCP finds out what the link can do
    times = [_stream(world, peer, messages, first) for _ in range(count(world, peer, seconds, stream_s))]
    # Before the first byte a large message is asked for, and after the last one comes the answer: two round trips.
    took_s = _fast(times) - 4 * half_s
    return {"half_round_trip_s": half_s, "Gbit_per_s": messages * LARGE_NBYTES * 8e-9 / took_s}


def _stream(world: MPI.Comm, peer: int, messages: int, first: bool) -> float:
    """Until all have arrived and been answered [s]."""
    buffers = [np.zeros(LARGE_NBYTES, np.uint8) for _ in range(messages)]
    answer = np.zeros(1, np.uint8)
    world.sendrecv(None, dest=peer, source=peer)
    t0 = time.perf_counter()
    if first:
        MPI.Request.Waitall([world.Isend(buffer, dest=peer) for buffer in buffers])
        world.Recv(answer, source=peer)
    else:
        MPI.Request.Waitall([world.Irecv(buffer, source=peer) for buffer in buffers])
        world.Send(answer, dest=peer)
    return time.perf_counter() - t0


def _fast(times: list[float]) -> float:
    return float(np.quantile(times, 0.1, method="higher"))


def count(world: MPI.Comm, peer: int, seconds: float, each_s: float) -> int:
    """As many repetitions as fit, at least 5; both must say the same."""
    mine = max(5, round(seconds / each_s))
    return int(min(mine, world.sendrecv(mine, dest=peer, source=peer)))


def _round_trip(world: MPI.Comm, peer: int, v: NDArray[np.uint8], first: bool) -> float:
    t0 = time.perf_counter()
    if first:
        world.Send(v, dest=peer)
        world.Recv(v, source=peer)
    else:
        world.Recv(v, source=peer)
        world.Send(v, dest=peer)
    return time.perf_counter() - t0


def ring_Gbit_per_s(world: MPI.Comm, seconds: float, rate: float) -> float:
    """What each rank sends to the next while it receives from the one before [Gbit/s]: the slowest rank's."""
    rank, size = world.Get_rank(), world.Get_size()
    nbytes = max(LARGE_NBYTES, round(STREAM_S * rate * 1e9 / 8))
    out, into = np.zeros(nbytes, np.uint8), np.zeros(nbytes, np.uint8)
    times = []
    for _ in range(max(5, round(seconds / STREAM_S))):
        world.Barrier()
        t0 = time.perf_counter()
        world.Sendrecv(out, dest=(rank + 1) % size, recvbuf=into, source=(rank - 1) % size)
        times.append(time.perf_counter() - t0)
    slowest: float = world.allreduce(_fast(times), op=MPI.MAX)
    return nbytes * 8e-9 / slowest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
