"""Models of the world for the simulator: how long a gradient takes, and what the network does to a message.

Units: seconds, bytes, bytes per second. The study file speaks of Gbit/s (1e9 bit per second). What is modelled and what
is not stands in docs/networks.md.
"""

from bench.cluster.collectives import ring_wire_nbytes
from bench.cluster.compute import Absence, Compute, ComputeTimes, Pause, Stragglers
from bench.cluster.fabric import Fabric
from bench.cluster.file import Cluster, Measured
from bench.cluster.handling import Handling, Limit
from bench.cluster.network import HEADER_NBYTES, Link, Network
from bench.cluster.presets import PRESETS, Wire
from bench.cluster.schedule import Change, Cut, Outages, Schedule

__all__ = [
    "HEADER_NBYTES",
    "PRESETS",
    "Absence",
    "Change",
    "Cluster",
    "Compute",
    "ComputeTimes",
    "Cut",
    "Fabric",
    "Handling",
    "Limit",
    "Link",
    "Measured",
    "Network",
    "Outages",
    "Pause",
    "Schedule",
    "Stragglers",
    "Wire",
    "ring_wire_nbytes",
]
