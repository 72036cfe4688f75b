"""The commands of tc that give a link its rate and its delay."""

from __future__ import annotations

from bench.testbed.settings import FRAME_NBYTES, HEADERS_NBYTES

BURST_NBYTES = 10 * FRAME_NBYTES
"""The least that may leave at once after a pause: a bucket must hold the largest packet, and cover the time by which a
timer fires late."""
SLACK_S = 250e-6
"""How late the kernel's timers fire on a busy machine; faster links have a deeper bucket, to lose nothing by it."""
QUEUE_S = 10e-3
QUEUE_NBYTES = 256 << 10
"""What a port keeps before it drops: so much time at its rate, but at least so many bytes."""


def burst_nbytes(rate_Gbit_per_s: float) -> int:
    """Depth of the bucket [byte]."""
    return max(BURST_NBYTES, round(rate_Gbit_per_s * 1e9 / 8 * SLACK_S))


def largest_packet_nbytes(rate_Gbit_per_s: float) -> int:
    """Most that TCP may hand over as one packet [byte]: tbf would split what is larger than its bucket, which costs
    time. Headers are added when the packet is cut into frames."""
    frames = burst_nbytes(rate_Gbit_per_s) // FRAME_NBYTES - 1
    return min(64_000, frames * (FRAME_NBYTES - HEADERS_NBYTES))


def rate(device: str, rate_Gbit_per_s: float, *, verb: str = "add") -> str:
    """tc's line that limits what a device sends."""
    bits = round(rate_Gbit_per_s * 1e9)
    queue = max(QUEUE_NBYTES, round(bits / 8 * QUEUE_S))
    bucket = f"rate {bits}bit burst {burst_nbytes(rate_Gbit_per_s)} limit {queue}"
    return f"qdisc {verb} dev {device} root handle 1: tbf {bucket}"


def delay(device: str, delay_s: float, rate_Gbit_per_s: float) -> str:
    """tc's line that delays what a device sends, below its rate; the queue holds what is under way, and as much again
    as without a delay."""
    frames = round(rate_Gbit_per_s * 1e9 / 8 * (delay_s + QUEUE_S) / FRAME_NBYTES) + QUEUE_NBYTES // FRAME_NBYTES
    return f"qdisc add dev {device} parent 1:1 handle 10: netem delay {round(delay_s * 1e6)}us limit {frames}"
