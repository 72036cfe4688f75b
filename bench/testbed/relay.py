"""A switch that delays: what stands in for the kernel's netem where the kernel has none.

A process of its own on the head takes each packet from a port, keeps it until its time has come, and sends it out of
the port of its receiver, behind that port's rate. Time counts from when the kernel received the packet, so that a late
turn of this process is made up for if it is shorter than the delay. Packets stay as large as segmentation offload made
them: about ten frames are one turn of the loop.

    python -m bench.testbed.relay SECONDS PORT...
"""

from __future__ import annotations

import gc
import os
import select
import socket
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

# From linux/if_ether.h, if_packet.h, socket.h; Python's socket module does not name them.
ETH_P_ALL, SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 3, 263, 15, 23
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPNS = 32, 33, 35
BUFFER_NBYTES = 16 << 20
VNET_NBYTES = 10  # virtio's header in front of each packet: how offloaded work is to be finished
LARGEST_NBYTES = 1 << 17
BURST = 32
"""Most packets taken from a port in one turn."""
EARLY_S = 100e-6
"""How long before a packet's time to wake and watch the clock: about what a timer is late by on a virtual machine, so
that a delay of 5 ms comes 0.1 ms late and not 0.3."""


class Relay:
    """The switch.

    Args:
        delay_s: from the arrival of a packet at its port to its turn at the receiver's.
        ports: network interfaces, each one host's.
    """

    def __init__(self, delay_s: float, ports: list[str]) -> None:
        self._delay_s = delay_s
        self._ports = [_opened(port) for port in ports]
        self._port_of: dict[bytes, socket.socket] = {}  # by the address of the host behind it, as learnt
        self._waiting: deque[tuple[float, socket.socket, bytes]] = deque()
        self.dropped = 0

    def turn(self) -> None:
        """Wait until something is to be done, and do it."""
        wait_s = max(0.0, self._waiting[0][0] - EARLY_S - _now_s()) if self._waiting else None
        for port in select.select(self._ports, [], [], wait_s)[0]:
            self._take(port)
        now_s = _now_s()
        while self._waiting and self._waiting[0][0] <= now_s:
            _, source, packet = self._waiting.popleft()
            receiver = self._port_of.get(packet[VNET_NBYTES : VNET_NBYTES + 6])
            for port in [p for p in self._ports if p is not source] if receiver is None else [receiver]:
                try:
                    port.send(packet)
                except OSError:  # the port's queue is full, or its link is down
                    self.dropped += 1

    def _take(self, port: socket.socket) -> None:
        with suppress(BlockingIOError):
            for _ in range(BURST):
                packet, attached, _, _ = port.recvmsg(LARGEST_NBYTES, 64)
                seconds, nanoseconds = struct.unpack("@ll", attached[0][2])
                self._port_of[packet[VNET_NBYTES + 6 : VNET_NBYTES + 12]] = port
                self._waiting.append((seconds + nanoseconds * 1e-9 + self._delay_s, port, packet))


def _now_s() -> float:
    """On the clock of the kernel's time stamps, the time of day; a step of it shifts the delay of what is waiting."""
    return time.clock_gettime(time.CLOCK_REALTIME)


def _opened(port: str) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
    opened.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    opened.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    for option in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
        with suppress(PermissionError):
            opened.setsockopt(socket.SOL_SOCKET, option, BUFFER_NBYTES)
    opened.bind((port, ETH_P_ALL))
    return opened


def main(argv: list[str]) -> int:
    """Relay until killed."""
    with suppress(OSError):
        os.nice(-10)  # it has to be in time
    with suppress(OSError):
        Path("/proc/self/timerslack_ns").write_text("1")
    relay = Relay(float(argv[0]), argv[1:])
    gc.disable()  # nothing here makes cycles
    print("ready", flush=True)
    while True:
        with suppress(OSError):  # a link that goes down says so once
            relay.turn()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
