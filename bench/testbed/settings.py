"""What a bed is: how many hosts, and what their links are like."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.settings import StudyError
from bench.testbed import hindrances
from bench.testbed.hindrances import Outage

FRAME_NBYTES = 1514
"""A full Ethernet frame as the kernel counts it: MTU and the header in front, without preamble and checksum."""
HEADERS_NBYTES = 14 + 20 + 32
"""Of each frame: Ethernet, IPv4, and TCP with its time stamps."""
TCP_SHARE = (FRAME_NBYTES - HEADERS_NBYTES) / FRAME_NBYTES
"""What a link's rate leaves for the payload of TCP: 0.956."""

RATES_Gbit_per_s: Mapping[str, float] = {"kbit": 1e-6, "mbit": 1e-3, "gbit": 1.0}
DELAYS_S: Mapping[str, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, kw_only=True)
class Testbed:
    """Hosts that a study's ranks run on, each with one link to a common switch. Networks between real hosts differ in
    much that is not here: congestion on other people's account, loss, more than one switch."""

    hosts: int
    rate_Gbit_per_s: float  # of each link, each way, Ethernet and TCP headers included
    delay_s: float = 0.0  # one way, between any two hosts, beside what the machine needs itself
    ranks_per_host: int = 1
    # Hosts by their numbers. A slow host's ranks get 1/factor of a core each; a thin link has another rate [Gbit/s].
    slow_host: dict[str, float] | None = field(default=None, metadata={"in_id": "if set"})
    thin_link: dict[str, float] | None = field(default=None, metadata={"in_id": "if set"})
    outage: tuple[Outage, ...] = field(default=(), metadata={"in_id": "if set"})

    def __post_init__(self) -> None:
        if not 1 <= self.hosts <= 250:
            raise ValueError(f"hosts must lie in 1..250: got {self.hosts}")
        if not 1e-5 <= self.rate_Gbit_per_s <= 100:
            raise ValueError(f"rate_Gbit_per_s must lie in 1e-5..100: got {self.rate_Gbit_per_s}")
        if not 0 <= self.delay_s <= 1:
            raise ValueError(f"delay_s must lie in 0..1: got {self.delay_s}")
        if not 1 <= self.ranks_per_host <= 256:
            raise ValueError(f"ranks_per_host must lie in 1..256: got {self.ranks_per_host}")
        hindrances.check(self.slow_host or {}, self.thin_link or {}, self.outage, self.hosts)

    @property
    def ranks(self) -> int:
        """That there is room for."""
        return self.hosts * self.ranks_per_host

    @property
    def title(self) -> str:
        """For readers, such as testbed 1 Gbit/s, 5 ms."""
        delay = f", {said(self.delay_s, DELAYS_S, ' ')}" if self.delay_s else ""
        thin = {host: rate_title(rate) for host, rate in (self.thin_link or {}).items()}
        hindered = hindrances.title(self.slow_host or {}, thin, self.outage)
        return f"testbed {rate_title(self.rate_Gbit_per_s)}{delay}{hindered}"

    @property
    def suffix(self) -> str:
        """For file names, such as 1gbit-5ms."""
        delay = f"-{said(self.delay_s, DELAYS_S)}" if self.delay_s else ""
        thin = {host: said(rate, RATES_Gbit_per_s) for host, rate in (self.thin_link or {}).items()}
        hindered = hindrances.suffix(self.slow_host or {}, thin, self.outage)
        return f"{said(self.rate_Gbit_per_s, RATES_Gbit_per_s)}{delay}{hindered}"


def rate_title(rate_Gbit_per_s: float) -> str:
    """For readers.

    Example:
        >>> rate_title(0.01)
        '10 Mbit/s'
    """
    rate, _, unit = said(rate_Gbit_per_s, RATES_Gbit_per_s, " ").partition(" ")
    return f"{rate} {unit.capitalize()}/s"


def said(value: float, units: Mapping[str, float], space: str = "") -> str:
    """A quantity in the largest unit in which it is 1 or more.

    Example:
        >>> said(0.1, RATES_Gbit_per_s), said(0.005, DELAYS_S, " "), said(2.5, RATES_Gbit_per_s)
        ('100mbit', '5 ms', '2.5gbit')
    """
    fitting = [unit for unit, size in units.items() if value >= size * (1 - 1e-9)] or list(units)[:1]
    return f"{value / units[fitting[-1]]:.6g}{space}{fitting[-1]}"


def quantity(text: str, units: Mapping[str, float], what: str, example: str) -> float:
    """The number that a text such as 100mbit or 5ms says, in the unit whose size is 1.

    Example:
        >>> quantity("100mbit", RATES_Gbit_per_s, "--rate", "1gbit"), quantity("5 ms", DELAYS_S, "--delay", "5ms")
        (0.1, 0.005)

    Raises:
        StudyError: it says none.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([a-zA-Z]+)\s*", text)
    value = float(found[1]) * units.get(found[2].lower(), math.nan) if found else math.nan
    if math.isnan(value):
        raise StudyError(f"{what}: expected a number and one of {', '.join(units)}, such as {example}: got {text!r}")
    return value
