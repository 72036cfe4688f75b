"""The bed in the simulator's words: what was calibrated on one bed, for a bed of another rate, or one that is hindered.

Only the links of a bed change with its rate. So every byte takes longer by the difference of the two rates, of which
TCP's payload has the same share, and what hosts and library need for it beside that stays as it was measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

from bench.cluster.compute import Compute
from bench.cluster.file import Cluster
from bench.cluster.network import Link, Network
from bench.cluster.schedule import Cut
from bench.settings import StudyError
from bench.testbed.settings import TCP_SHARE, Testbed

NOT_ON_A_BED = (
    "--rate, --slow-host, --thin-link and --outage are those of a bed, and the cluster file was not measured on one: "
    "calibrate there, with paceline testbed exec ... -- paceline calibrate"
)


def on(cluster: Cluster, testbed: Testbed) -> Cluster:
    """A cluster that was calibrated on a bed, as it is on another bed with as many hosts.

    A slow host has its share of a core and no more (`bench.cluster.processors`), and the others what it leaves of the
    machine's cores.

    Raises:
        StudyError: it was not calibrated on a bed, or on one that is not hindered, or hosts or delay are others.
    """
    there = cluster.measured.testbed
    if there is None:
        raise StudyError(NOT_ON_A_BED)
    if there.slow_host or there.thin_link or there.outage:
        raise StudyError(f"the cluster file was measured on a hindered bed ({there.title}): calibrate on a plain one")
    for name in ("hosts", "ranks_per_host", "delay_s"):
        if getattr(there, name) != getattr(testbed, name):
            raise StudyError(
                f"{name} must be as when the cluster file was measured: got {getattr(testbed, name)}, measured with "
                f"{getattr(there, name)} (calibrate on a bed like that)"
            )
    return dataclasses.replace(
        cluster,
        network=_network(cluster.network, there, testbed),
        compute={label: _slowed(compute, testbed) for label, compute in cluster.compute.items()},
        measured=dataclasses.replace(cluster.measured, testbed=testbed),
    )


def _network(network: Network, there: Testbed, here: Testbed) -> Network:
    k = here.ranks_per_host
    own, reduced = network.bandwidth_Gbit_per_s, network.collective_bandwidth_Gbit_per_s
    assert own is not None, "resolved when it was made"
    thin = here.thin_link or {}
    links = [
        Link(src=src, dst=dst, bandwidth_Gbit_per_s=other(own, there.rate_Gbit_per_s, slowest))
        for src, dst in _pairs(here)
        for slowest in [min(thin.get(str(rank // k), math.inf) for rank in (src, dst))]
        if slowest < here.rate_Gbit_per_s
    ]
    return dataclasses.replace(
        network,
        bandwidth_Gbit_per_s=other(own, there.rate_Gbit_per_s, here.rate_Gbit_per_s),
        collective_bandwidth_Gbit_per_s=(
            None if reduced is None else other(reduced, there.rate_Gbit_per_s, here.rate_Gbit_per_s)
        ),
        link=tuple(links),
        cut=tuple(Cut(node=outage.host, from_s=outage.from_s, to_s=outage.to_s) for outage in here.outage),
    )


def _pairs(testbed: Testbed) -> Iterator[tuple[int, int]]:
    """Ranks of different hosts."""
    k = testbed.ranks_per_host
    ranks = range(testbed.ranks)
    return ((src, dst) for src in ranks for dst in ranks if src // k != dst // k)


def other(bandwidth_Gbit_per_s: float, measured_at_Gbit_per_s: float, rate_Gbit_per_s: float) -> float:
    """What was measured over links of one rate, over links of another [Gbit/s].

    Example:
        A bit that takes 0.1 ns beside the wire's own time does so on any wire:

        >>> measured = 1 / (1 / (1.0 * TCP_SHARE) + 0.1)
        >>> round(measured, 3), round(other(measured, 1.0, 0.1), 4)
        (0.873, 0.0947)
    """
    more = (1 / rate_Gbit_per_s - 1 / measured_at_Gbit_per_s) / TCP_SHARE
    # At least the wire's own time: a measured figure may be a little better than the rate.
    return 1 / max(1 / bandwidth_Gbit_per_s + more, 1 / (rate_Gbit_per_s * TCP_SHARE))


def _slowed(compute: Compute, testbed: Testbed) -> Compute:
    slow = {
        str(int(host) * testbed.ranks_per_host + k): factor
        for host, factor in (testbed.slow_host or {}).items()
        for k in range(testbed.ranks_per_host)
    }
    return dataclasses.replace(compute, slow=compute.slow | slow)
