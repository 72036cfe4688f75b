"""The network of a study: settings, in the units of the study file."""

from __future__ import annotations

from dataclasses import dataclass, field

from bench.cluster.collectives import Collective
from bench.cluster.handling import Handling, Limit
from bench.cluster.presets import Wire, check_speed, speed
from bench.cluster.schedule import Change, Cut

HEADER_NBYTES = 64
"""Header of every point-to-point message, on MPI and in the simulator alike."""

DEFAULT_LATENCY_S, DEFAULT_GBIT = 50e-6, 10.0


@dataclass(frozen=True, kw_only=True)
class Link:
    """A directed link that differs from the rest of the network."""

    src: int
    dst: int
    latency_s: float | None = None
    bandwidth_Gbit_per_s: float | None = None

    def __post_init__(self) -> None:
        check_speed(self.latency_s, self.bandwidth_Gbit_per_s)
        if min(self.src, self.dst) < 0 or self.src == self.dst:
            raise ValueError(f"link must join two different ranks from 0 on: got src={self.src}, dst={self.dst}")


@dataclass(frozen=True, kw_only=True)
class Network:
    """Latency and bandwidth per link; each node has one queue out and one queue in (its NIC).

    A message leaves when the sender's queue is free, its first byte arrives after the latency, and it is delivered when
    the receiver's queue has taken all its bytes. So a star congests at its centre. An all-reduce begins once all have
    joined and their queues are free; it keeps each queue for the bytes that pass there (`bench.cluster.fabric`).

    Attributes:
        latency_s, bandwidth_Gbit_per_s: between nodes; where not given the preset's, else 50 us and 10 Gbit/s.
        link: what differs from that, by pairs of ranks.
        preset: a name of `bench.cluster.presets`.
        between: another way to give preset, latency and bandwidth: as a name or a table, beside `inside`.
        ranks_per_node: rank r is on node r // ranks_per_node, servers come after the workers.
        inside: between ranks of one node; each has a queue out and a queue in for it.
        collective: how an all-reduce goes.
        change: when the bandwidth between nodes changes.
        cut: when a node's link is down.
        collective_latency_s, collective_bandwidth_Gbit_per_s: what a round of an all-reduce feels between nodes, where
            that differs from what a message does.
        handling: the receiving rank's own part in a message.
        limit: a token bucket in front of each rank.
        measured_with: the transport (mpi, horovod) that these figures were calibrated with; a note, which changes
            nothing but what predictions are laid beside.

    Once made, `preset` and `between` are None and both figures are there: two spellings of one network are equal.
    """

    latency_s: float | None = None
    bandwidth_Gbit_per_s: float | None = None
    link: tuple[Link, ...] = ()
    # What came later is no part of a run's id while it has its default; what is resolved into the figures never is.
    preset: str | None = field(default=None, metadata={"in_id": "if set"})
    between: Wire | str | None = field(default=None, metadata={"in_id": "if set"})
    ranks_per_node: int = field(default=1, metadata={"in_id": "if set"})
    inside: Wire | str | None = field(default=None, metadata={"in_id": "if set"})
    collective: Collective = field(default="ring", metadata={"in_id": "if set"})
    change: tuple[Change, ...] = field(default=(), metadata={"in_id": "if set"})
    cut: tuple[Cut, ...] = field(default=(), metadata={"in_id": "if set"})
    collective_latency_s: float | None = field(default=None, metadata={"in_id": "if set"})
    collective_bandwidth_Gbit_per_s: float | None = field(default=None, metadata={"in_id": "if set"})
    handling: Handling = field(default=Handling(), metadata={"in_id": "if set"})
    limit: Limit | None = field(default=None, metadata={"in_id": "if set"})
    measured_with: str = field(default="", metadata={"in_id": "if set"})

    def __post_init__(self) -> None:
        check_speed(self.latency_s, self.bandwidth_Gbit_per_s)
        check_speed(self.collective_latency_s, self.collective_bandwidth_Gbit_per_s, "collective_")
        latency_s, gbit = speed(self.preset, self.latency_s, self.bandwidth_Gbit_per_s)
        if self.between is not None:
            if latency_s is not None or gbit is not None:
                raise ValueError(
                    "between says the speed between nodes, and so does preset, latency_s or bandwidth_Gbit_per_s "
                    "beside it: give one of them"
                )
            latency_s, gbit = _wire(self.between).figures
        for name, value in (
            ("latency_s", DEFAULT_LATENCY_S if latency_s is None else latency_s),
            ("bandwidth_Gbit_per_s", DEFAULT_GBIT if gbit is None else gbit),
            ("preset", None),
            ("between", None),
            ("inside", None if self.inside is None else _wire(self.inside)),
        ):
            object.__setattr__(self, name, value)
        if self.ranks_per_node < 1:
            raise ValueError(f"ranks_per_node must be at least 1: got {self.ranks_per_node}")
        if (self.inside is not None) != (self.ranks_per_node > 1):
            raise ValueError(
                "ranks_per_node above 1 and inside, the wire between ranks of one node, belong together: got "
                f'ranks_per_node={self.ranks_per_node}, inside={self.inside} (such as inside = "NVLink")'
            )
        at_s = [change.at_s for change in self.change]
        if at_s != sorted(set(at_s)):
            raise ValueError(f"change must be in order of at_s, each time once: got at_s = {at_s}")
        if self.change and not self.change[-1].factor > 0:
            raise ValueError("change must not end with factor 0, or what is sent then never arrives: got 0")

    @property
    def inner(self) -> Wire:
        """Between ranks of one node."""
        assert isinstance(self.inside, Wire), "there is one if ranks_per_node > 1"
        return self.inside

    @property
    def outer(self) -> Wire:
        """Between nodes."""
        return Wire(
            latency_s=self.latency_s,
            bandwidth_Gbit_per_s=self.bandwidth_Gbit_per_s,
            collective_latency_s=self.collective_latency_s,
            collective_bandwidth_Gbit_per_s=self.collective_bandwidth_Gbit_per_s,
        )

    def check(self, ranks: int) -> None:
        """Refuse links that no rank has.

        Raises:
            ValueError: a link names a rank that does not exist.
        """
        for i, link in enumerate(self.link):
            if max(link.src, link.dst) >= ranks:
                raise ValueError(
                    f"link[{i}] names rank {max(link.src, link.dst)}: allowed are 0..{ranks - 1} (a server comes after "
                    "the workers)"
                )
        for i, cut in enumerate(self.cut):
            if cut.node * self.ranks_per_node >= ranks:
                raise ValueError(f"cut[{i}] names node {cut.node}: {ranks} ranks have no such node")


def _wire(given: Wire | str) -> Wire:
    return Wire(preset=given) if isinstance(given, str) else given
