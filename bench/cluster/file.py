"""cluster.toml: a cluster as `paceline calibrate` measured it, in the words of a study file."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster.compute import Compute
from bench.cluster.handling import Limit
from bench.cluster.network import Network
from bench.settings import StudyError, build, nearest
from bench.testbed.settings import Testbed

HEADER = """\
# A cluster, as `paceline calibrate` measured it. For `paceline predict` and `paceline advise`; [network] and a table of
# [compute] can also be copied into a study file. Times in seconds; 1 Gbit/s is 1e9 bit per second. What each key means:
# docs/networks.md; how it was measured: docs/calibration.md. All of it may be edited.
"""

ONE_HOST = 1 << 20
"""ranks_per_node of a cluster that was measured on one host: more than there will ever be ranks."""

NOTES = {
    "measured": "where and with what",
    "network": "as messages and all-reduces feel it through the transport, with the library's and Python's part",
    "compute": "by workload label: times_s are quantiles of the measured gradient times",
    "residuals": "of the fits: root mean square of (model / measured - 1); the workloads' own sizes weigh most",
}
"""What the file says of each of its tables."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Where a cluster was measured, and with what.

    Attributes:
        transport: whose figures they are.
        ranks, hosts, ranks_per_node, cores_per_node: of the launch.
        utc: when.
        versions: of the libraries, by name.
        testbed: the bed, if it was one (`bench.testbed.settings`).
    """

    transport: str = "mpi"
    ranks: int = 1
    hosts: int = 1
    ranks_per_node: int = 1
    cores_per_node: int = 1
    utc: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    testbed: Testbed | None = None


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Network and compute times of a cluster.

    Attributes:
        network: as in a study's [network].
        compute: workload label -> as in a study's [compute].
        residuals: name of a fit -> root mean square of its relative errors, weighted as in the fit.
    """

    network: Network
    compute: dict[str, Compute]
    measured: Measured = field(default_factory=Measured)
    residuals: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.compute:
            raise ValueError("compute must name at least one workload, such as [compute.digits-mlp]: got none")

    def compute_of(self, workload: str) -> Compute:
        """How long a gradient of a workload takes.

        Args:
            workload: its label.

        Raises:
            StudyError: it was not measured.
        """
        if workload not in self.compute:
            raise StudyError(
                f"the cluster has no compute times of workload {workload!r}{nearest(workload, self.compute)}: "
                "calibrate with a study that has it"
            )
        return self.compute[workload]

    def network_with(
        self,
        *,
        bandwidth_Gbit_per_s: float | None = None,
        latency_s: float | None = None,
        ranks_per_node: int | None = None,
        rate_Gbit_per_s: float | None = None,
    ) -> Network:
        """The network with another wire between nodes, or with other nodes; None leaves what was measured.

        Measured on one host, all ranks are on that one, until a wire between nodes is given: then each has a node of
        its own, unless ranks_per_node says otherwise. A wire that is given has its own speed for all-reduces too: what
        was measured of the old one's is left out. With one rank a node nothing is inside a node.

        Args:
            rate_Gbit_per_s: of the token bucket in front of each rank, as a study's key of that name.
        """
        settings: dict[str, Any] = {}
        if bandwidth_Gbit_per_s is not None:
            settings |= {"bandwidth_Gbit_per_s": bandwidth_Gbit_per_s, "collective_bandwidth_Gbit_per_s": None}
        if latency_s is not None:
            settings |= {"latency_s": latency_s, "collective_latency_s": None}
        if settings and ranks_per_node is None and self.network.ranks_per_node >= ONE_HOST:
            ranks_per_node = 1
        if rate_Gbit_per_s is not None:
            settings |= {"limit": Limit(rate_Gbit_per_s=rate_Gbit_per_s)}
        if ranks_per_node is not None:
            settings |= {"ranks_per_node": ranks_per_node}
            if ranks_per_node == 1:
                settings |= {"inside": None}
            elif self.network.inside is None:
                settings |= {"inside": self.network.outer}
        return dataclasses.replace(self.network, **settings)


def table(settings: Any) -> dict[str, Any]:
    """A settings dataclass as a table of a study file: what differs from the defaults.

    Example:
        >>> table(Network(latency_s=1e-3, bandwidth_Gbit_per_s=1.0, collective="tree"))
        {'latency_s': 0.001, 'bandwidth_Gbit_per_s': 1.0, 'collective': 'tree'}
    """
    found = {}
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        if value != default and value is not None:
            found[f.name] = _plain(value)
    if "times_s" in found:
        found.pop("trace_sha256", None)  # the times stand beside it, and may be edited
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return table(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def read(path: Path) -> Cluster:
    """The cluster in a file.

    Raises:
        StudyError: the file cannot be used; the message is one line.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(
            f"cannot read {path}: {error.strerror} (paceline calibrate STUDY -o FILE makes one)"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not valid TOML: {error}") from error
    for part in raw.get("compute", {}).values() if isinstance(raw.get("compute"), dict) else ():
        trace = part.get("trace") if isinstance(part, dict) else None
        if isinstance(trace, str) and trace:  # named from where the file is
            part["trace"] = str((path.parent / Path(trace).expanduser()).resolve())
    return build(Cluster, raw, str(path))


def write(cluster: Cluster, path: Path) -> None:
    """Write a cluster to a file, so that `read` gives it back.

    Raises:
        StudyError: the file cannot be written.
    """
    try:
        path.write_text(text(cluster), encoding="utf-8")
    except OSError as error:
        raise StudyError(f"cannot write {path}: {error.strerror} (choose another -o)") from error


def text(cluster: Cluster) -> str:
    """What stands in the file."""
    lines = [HEADER]
    parts: list[tuple[str, Mapping[str, Any]]] = [
        ("measured", table(cluster.measured)),
        ("network", table(cluster.network)),
        *((f"compute.{_key(label)}", table(compute)) for label, compute in cluster.compute.items()),
        ("residuals", cluster.residuals),
    ]
    noted = set()
    for name, values in parts:
        kind = name.partition(".")[0]
        if kind not in noted:
            noted.add(kind)
            lines += [f"# {NOTES[kind]}"]
        lines += [f"[{name}]", *_lines(values), ""]
    return "\n".join(lines)


def _lines(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _value(value: Any) -> str:
    """A value as TOML spells it."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return repr(value) if math.isfinite(value) else ("nan" if math.isnan(value) else "inf")
        case int():
            return str(value)
        case str():
            return json.dumps(value)
        case Mapping():
            return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }" if value else "{}"
        case _:
            items = [_value(v) for v in value]
            if len(items) <= 8:
                return f"[{', '.join(items)}]"
            rows = [", ".join(items[i : i + 8]) for i in range(0, len(items), 8)]
            return "[\n    " + ",\n    ".join(rows) + ",\n]"
