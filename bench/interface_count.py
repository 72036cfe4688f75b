"""What the kernel says that a host has sent: a count that our own bookkeeping has no part in.

All interfaces but the loopback are counted, so on an ordinary host what other programs sent meanwhile is in it, and a
packet that passes a bridge or a bond counts on each interface that it leaves by. Bytes that a network card moves past
the kernel (InfiniBand's verbs) are not in it. In a bed only the shaped link counts, where nothing else goes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.testbed import here

if TYPE_CHECKING:
    from mpi4py import MPI

TABLE = Path("/proc/self/net/dev")
"""Of the network namespace that this process is in; /sys/class/net is of whoever mounted it."""


@dataclass(frozen=True)
class Sent:
    """Bytes, headers included, and packets; -1 is unknown. With segmentation offload a packet may be larger than the
    MTU: its headers are counted once."""

    nbytes: int
    packets: int


UNKNOWN = Sent(-1, -1)


def read(table: str, only: str = "") -> Sent:
    """What the interfaces of /proc/net/dev have sent so far.

    Args:
        table: the file's text.
        only: the interface that counts; "" counts all but the loopback.

    Example:
        >>> read("head\\nhead\\n  lo: 1 1 0 0 0 0 0 0 1 1 0\\neth0: 5 1 0 0 0 0 0 0 700 9 0\\n")
        Sent(nbytes=700, packets=9)
    """
    nbytes = packets = 0
    for line in table.splitlines()[2:]:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo" and only in ("", name.strip()):
            fields = numbers.split()
            nbytes += int(fields[8])
            packets += int(fields[9])
    return Sent(nbytes, packets)


class Counter:
    """What all hosts of a run send from now on.

    Args:
        first: whether this rank reads for its host: one rank of each does.
    """

    def __init__(self, *, first: bool) -> None:
        self._first, self._only = first, str(here.facts().get("interface", ""))
        self._before = self._now()

    def _now(self) -> Sent | None:
        if not self._first:
            return None
        try:
            return read(TABLE.read_text(), self._only)
        except (OSError, ValueError, IndexError):
            return UNKNOWN  # not Linux

    def stop(self, world: MPI.Comm) -> Sent:
        """The sum over the hosts; unknown if one host does not know. Collective over `world`."""
        pairs = world.allgather((self._before, self._now()))
        own = [(before, now) for before, now in pairs if before is not None and now is not None]
        if any(sent.nbytes < 0 for pair in own for sent in pair):
            return UNKNOWN
        return Sent(
            sum(now.nbytes - before.nbytes for before, now in own),
            sum(now.packets - before.packets for before, now in own),
        )
