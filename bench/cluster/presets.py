"""Wires by name, with typical figures.

Source: bandwidth is the nominal line rate of the standard (IEEE 802.3 for Ethernet, the InfiniBand and NVLink
generations by their makers); latency is what a small message typically takes one way between two programs. What a
cluster really has is measured, not looked up: any figure can be overridden.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field

PRESETS: dict[str, tuple[float, float, str]] = {
    "100M": (100e-6, 0.1, "Fast Ethernet (IEEE 802.3u); TCP through a switch typically takes about 100 us"),
    "1G": (50e-6, 1.0, "Gigabit Ethernet (IEEE 802.3ab); TCP typically takes 30 to 60 us"),
    "10G": (20e-6, 10.0, "10-Gigabit Ethernet (IEEE 802.3ae); TCP typically takes 10 to 30 us"),
    "25G": (10e-6, 25.0, "25-Gigabit Ethernet (IEEE 802.3by); RDMA or a tuned TCP typically takes 5 to 15 us"),
    "100G": (2e-6, 100.0, "InfiniBand EDR or 100-Gigabit Ethernet with RDMA; MPI typically takes 1 to 3 us"),
    "400G": (1.5e-6, 400.0, "InfiniBand NDR or 400-Gigabit Ethernet with RDMA; MPI typically takes 1 to 2 us"),
    "WAN-50ms": (50e-3, 1.0, "1 Gbit/s between continents: a round trip typically takes about 100 ms"),
    "NVLink": (
        3e-6,
        3600.0,
        "fourth NVLink generation, 450 GB/s per GPU each way; a copy typically starts in 2 to 5 us",
    ),
    "shared-memory": (1e-6, 80.0, "ranks on one host: MPI typically takes 0.5 to 1 us and copies about 10 GB/s"),
    "DiLoCo-high": (1e-4, 400.0, "high-bandwidth archetype of Charles et al. 2025, arXiv:2503.09799, appendix A"),
    "DiLoCo-medium": (1e-3, 100.0, "medium-bandwidth archetype of Charles et al. 2025, arXiv:2503.09799, appendix A"),
    "DiLoCo-low": (1e-2, 10.0, "low-bandwidth archetype of Charles et al. 2025, arXiv:2503.09799, appendix A"),
}
"""name -> (latency [s], bandwidth [Gbit/s], what it is and where the figures come from)."""


@dataclass(frozen=True, kw_only=True)
class Wire:
    """Latency and bandwidth: given, of a preset, or of a preset with one of them overridden.

    Afterwards `preset` is None and both numbers are there, so that two spellings of one wire are equal.

    Attributes:
        collective_latency_s, collective_bandwidth_Gbit_per_s: what a round of an all-reduce feels, where that differs.
    """

    preset: str | None = None
    latency_s: float | None = None
    bandwidth_Gbit_per_s: float | None = None
    collective_latency_s: float | None = field(default=None, metadata={"in_id": "if set"})
    collective_bandwidth_Gbit_per_s: float | None = field(default=None, metadata={"in_id": "if set"})

    def __post_init__(self) -> None:
        check_speed(self.latency_s, self.bandwidth_Gbit_per_s)
        check_speed(self.collective_latency_s, self.collective_bandwidth_Gbit_per_s, "collective_")
        latency_s, gbit = speed(self.preset, self.latency_s, self.bandwidth_Gbit_per_s)
        if latency_s is None or gbit is None:
            raise ValueError(
                f"a wire needs latency_s and bandwidth_Gbit_per_s, or a preset: got latency_s={self.latency_s}, "
                f"bandwidth_Gbit_per_s={self.bandwidth_Gbit_per_s} (presets: {', '.join(PRESETS)})"
            )
        object.__setattr__(self, "latency_s", latency_s)
        object.__setattr__(self, "bandwidth_Gbit_per_s", gbit)
        object.__setattr__(self, "preset", None)

    @property
    def figures(self) -> tuple[float, float]:
        """(latency [s], bandwidth [Gbit/s])."""
        assert self.latency_s is not None and self.bandwidth_Gbit_per_s is not None, "resolved when it was made"
        return self.latency_s, self.bandwidth_Gbit_per_s

    @property
    def collective_figures(self) -> tuple[float, float]:
        """(latency [s], bandwidth [Gbit/s]) of a round of an all-reduce."""
        latency_s, gbit = self.figures
        own_s, own_gbit = self.collective_latency_s, self.collective_bandwidth_Gbit_per_s
        return latency_s if own_s is None else own_s, gbit if own_gbit is None else own_gbit


def speed(preset: str | None, latency_s: float | None, gbit: float | None) -> tuple[float | None, float | None]:
    """(latency [s], bandwidth [Gbit/s]) of a preset, where not given; None where neither says.

    Raises:
        ValueError: there is no such preset.
    """
    if preset is None:
        return latency_s, gbit
    if preset not in PRESETS:
        close = difflib.get_close_matches(preset.lower(), map(str.lower, PRESETS), n=1)
        meant = [name for name in PRESETS if name.lower() in close]
        hint = f"did you mean {meant[0]!r}? " if meant else ""
        raise ValueError(f"no such preset: got {preset!r}, allowed: {', '.join(PRESETS)} ({hint}or give the figures)")
    return (
        PRESETS[preset][0] if latency_s is None else latency_s,
        PRESETS[preset][1] if gbit is None else gbit,
    )


def check_speed(latency_s: float | None, gbit: float | None, prefix: str = "") -> None:
    """Refuse what is no latency or no bandwidth.

    Raises:
        ValueError: it is not.
    """
    if latency_s is not None and not (latency_s >= 0 and math.isfinite(latency_s)):
        raise ValueError(f"{prefix}latency_s must be a finite time >= 0: got {latency_s}")
    if gbit is not None and not gbit > 0:
        raise ValueError(f"{prefix}bandwidth_Gbit_per_s must be > 0 (inf is allowed): got {gbit}")
