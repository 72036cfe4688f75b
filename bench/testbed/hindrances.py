"""What can hinder a bed, as the command line and a study's [testbed] say it: slow hosts, thin links, outages."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from bench.settings import StudyError

SECONDS: Mapping[str, float] = {"ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, kw_only=True)
class Outage:
    """A host's link is down from `from_s` to `to_s` of each run's clock.

    What was on its way is lost, and sent again by TCP, which tries at growing intervals: so it may go on later than
    `to_s`, by up to about the outage's length.
    """

    host: int
    from_s: float
    to_s: float

    def __post_init__(self) -> None:
        if self.host < 0:
            raise ValueError(f"host must be 0 or more: got {self.host}")
        if not 0 <= self.from_s < self.to_s < math.inf:
            raise ValueError(
                f"an outage needs 0 <= from_s < to_s, both finite: got from_s={self.from_s}, to_s={self.to_s}"
            )


def check(slow: Mapping[str, float], thin: Mapping[str, float], outages: Iterable[Outage], hosts: int) -> None:
    """Refuse hosts that are none, and factors and rates that no host and no link can have.

    Raises:
        ValueError: one is such.
    """
    named = {"slow_host": list(slow), "thin_link": list(thin), "outage": [str(outage.host) for outage in outages]}
    for what, names in named.items():
        for name in names:
            if not (name.isascii() and name.isdigit() and name == str(int(name)) and int(name) < hosts):
                raise ValueError(f"{what} names host {name!r}: allowed are 0..{hosts - 1}")
    for name, factor in slow.items():
        if not 1 < factor <= 1000:
            raise ValueError(f"slow_host {name}: the factor must lie above 1, up to 1000: got {factor}")
    for name, rate in thin.items():
        if not 1e-5 <= rate <= 100:
            raise ValueError(f"thin_link {name}: the rate must lie in 1e-5..100 Gbit/s: got {rate}")


def title(slow: Mapping[str, float], thin: Mapping[str, str], outages: Iterable[Outage]) -> str:
    """For readers, such as ", host 3 6 times slower"; "" if nothing hinders.

    Example:
        >>> title({"3": 6.0}, {"2": "10 Mbit/s"}, [Outage(host=1, from_s=5.0, to_s=8.0)])
        ', host 3 6 times slower, host 2 at 10 Mbit/s, host 1 cut off from 5 s to 8 s'
    """
    parts = [f"host {host} {factor:g} times slower" for host, factor in slow.items()]
    parts += [f"host {host} at {rate}" for host, rate in thin.items()]
    parts += [f"host {outage.host} cut off from {outage.from_s:g} s to {outage.to_s:g} s" for outage in outages]
    return "".join(f", {part}" for part in parts)


def suffix(slow: Mapping[str, float], thin: Mapping[str, str], outages: Iterable[Outage]) -> str:
    """The same for file names.

    Example:
        >>> suffix({"3": 6.0}, {"2": "10mbit"}, [Outage(host=1, from_s=5.0, to_s=8.0)])
        '-slow3x6-thin2x10mbit-cut1x5-8'
    """
    parts = [f"slow{host}x{factor:g}" for host, factor in slow.items()]
    parts += [f"thin{host}x{rate}" for host, rate in thin.items()]
    parts += [f"cut{outage.host}x{outage.from_s:g}-{outage.to_s:g}" for outage in outages]
    return "".join(f"-{part}" for part in parts)


def host_and(text: str, option: str, example: str) -> tuple[str, str]:
    """(host, the rest) of a text such as 3=6.

    Raises:
        StudyError: it is none.
    """
    host, equals, rest = text.partition("=")
    if not (equals and host.isascii() and host.isdigit() and rest):
        raise StudyError(f"{option}: expected HOST=..., such as {example}: got {text!r}")
    return str(int(host)), rest
