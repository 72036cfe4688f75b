"""What a run's provenance says of the bed that it ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from bench.settings import plain
from bench.testbed import shape
from bench.testbed.bed import SHAPED, Bed


def facts(bed: Bed) -> dict[str, Any]:
    """The bed's settings and what the kernel makes of them."""
    rate = bed.testbed.rate_Gbit_per_s
    return {
        **plain(bed.testbed),
        "title": bed.testbed.title,
        "interface": SHAPED,
        "qdisc": "tbf",
        "burst_nbytes": shape.burst_nbytes(rate),
        "largest_packet_nbytes": shape.largest_packet_nbytes(rate),
        "delayed_by": bed.delayed_by,
        "congestion_control": _read("/proc/sys/net/ipv4/tcp_congestion_control"),
        "kernel": platform.release(),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
