"""Joules that the nodes of a run drew, from the counters that their processors and GPUs keep.

Processors: RAPL, package and memory domains, under /sys/class/powercap. GPUs: NVML's total energy, if nvidia-ml-py is
installed. Counters belong to a node and not to a rank, so one rank of each node reads them and no joule counts twice.
They count whatever runs on those processors and GPUs, other jobs as well.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

POWERCAP = Path("/sys/class/powercap")
PERIOD_S = 30.0
"""Between two looks: the smallest counters hold 65 kJ, which a package of 500 W fills in two minutes."""


@dataclass(frozen=True)
class Reading:
    """What was drawn.

    Attributes:
        joules: by counter, such as "node-a package-0".
        unknown: why the sum would lack something that computed the gradients; "" if it lacks nothing.
        left_out: what else is not in the sum, and why.
    """

    joules: dict[str, float] = field(default_factory=dict)
    unknown: str = ""
    left_out: str = ""

    @property
    def total_J(self) -> float:
        """Sum over the counters [J]; NaN if unknown."""
        return math.nan if self.unknown else math.fsum(self.joules.values())

    def facts(self) -> dict[str, Any]:
        """For the provenance: what was counted and what was not."""
        found: dict[str, Any] = {name: f"{value:.6g} J" for name, value in self.joules.items()}
        if self.unknown:
            found["unknown because"] = self.unknown
        if self.left_out:
            found["not counted"] = self.left_out
        return found


class Counter(Protocol):
    """One counter of energy."""

    name: str

    def joules(self) -> float:
        """Since the counter was opened [J]."""
        ...


class RaplCounter:
    """A domain of RAPL: microjoules that start again from 0 after `max_energy_range_uj`."""

    def __init__(self, zone: Path) -> None:
        self._file = zone / "energy_uj"
        self._range_uj = int((zone / "max_energy_range_uj").read_text())
        name = (zone / "name").read_text().strip()
        # Memory is a part of its package's folder but not of its package's count.
        self.name = name if name.startswith("package") else f"{(zone / '..' / 'name').read_text().strip()} {name}"
        self._last_uj, self._total_uj = self._read(), 0

    def _read(self) -> int:
        return int(self._file.read_text())

    def joules(self) -> float:
        now = self._read()
        step = now - self._last_uj
        self._total_uj += step if step >= 0 else step + self._range_uj
        self._last_uj = now
        return self._total_uj * 1e-6


class NvmlCounter:
    """A GPU, by NVML; millijoules since its driver was loaded."""

    def __init__(self, nvml: Any, uuid: str) -> None:
        self.name = f"GPU-{uuid.removeprefix('GPU-')}"
        self._nvml, self._handle = nvml, nvml.nvmlDeviceGetHandleByUUID(self.name)
        self._first_mJ = self._read()

    def _read(self) -> int:
        return int(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def joules(self) -> float:
        return (self._read() - self._first_mJ) * 1e-3


def rapl(powercap: Path = POWERCAP) -> tuple[list[Counter], str]:
    """The processors' counters, and why there are none.

    Only packages and their memory: cores are a part of their package, and "psys" is the whole board once more.
    """
    # As numbers: intel-rapl:2 before intel-rapl:10. The same domains are there again as intel-rapl-mmio.
    zones = sorted(powercap.glob("intel-rapl:*"), key=lambda path: [int(n) for n in path.name.split(":")[1:]])
    counters: list[Counter] = []
    for zone in zones:
        try:
            name = (zone / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                counters.append(RaplCounter(zone))
        except OSError as error:
            return [], f"RAPL: {zone / 'energy_uj'}: {error.strerror} (an administrator can make it readable)"
        except ValueError as error:
            return [], f"RAPL: {zone}: {error}"
    return counters, "" if counters else f"RAPL: no package below {powercap}"


def nvml(gpus: Sequence[str]) -> tuple[list[Counter], str]:
    """Counters of these GPUs [UUID], and why there are none."""
    try:
        import pynvml  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError:
        return [], "NVML: nvidia-ml-py is not installed (pip install nvidia-ml-py)"
    try:
        pynvml.nvmlInit()
        return [NvmlCounter(pynvml, uuid) for uuid in gpus], ""
    except pynvml.NVMLError as error:
        return [], f"NVML: {error}"


class Meter:
    """Reads this node's counters between `start` and `stop`.

    Args:
        node: name of the node.
        gpus: UUIDs of the GPUs that this node's ranks compute on, each once; none if they compute on processors.
        powercap: where RAPL is.
    """

    def __init__(self, node: str, gpus: Sequence[str] = (), *, powercap: Path = POWERCAP) -> None:
        self._node, self._gpus, self._powercap = node, gpus, powercap
        self._counters: list[Counter] = []
        self._unknown = self._left_out = self._lost = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="energy", daemon=True)

    def start(self) -> None:
        """From now on."""
        processors, no_rapl = rapl(self._powercap)
        accelerators, no_nvml = nvml(self._gpus) if self._gpus else ([], "")
        self._counters = [*processors, *accelerators]
        # Processors beside GPUs are often not readable; a GPU's run without its GPUs would be no number at all.
        self._unknown, self._left_out = (no_nvml, no_rapl) if self._gpus else (no_rapl, "")
        if self._counters:
            self._thread.start()

    def _watch(self) -> None:
        """A counter that goes round twice between two looks would lose a round."""
        while not self._end.wait(PERIOD_S):
            try:
                for counter in self._counters:
                    counter.joules()
            except Exception as error:  # OSError, or NVML's own: told at the end
                self._lost = str(error)
                return

    def stop(self) -> Reading:
        """What this node drew since `start`."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join()
        joules: dict[str, float] = {}
        try:
            joules = {f"{self._node} {counter.name}": counter.joules() for counter in self._counters}
        except Exception as error:
            self._lost = str(error)
        if self._lost:
            self._unknown = f"a counter was lost during the run: {self._lost}"
        return Reading(joules, *(f"{self._node}: {why}" if why else "" for why in (self._unknown, self._left_out)))


def after(earlier: Reading, later: Reading) -> Reading:
    """What was drawn in two parts of a run, on whatever nodes; unknown if one of them is.

    Example:
        >>> after(Reading({"a package-0": 2.0}), Reading({"a package-0": 3.0, "b package-0": 4.0})).total_J
        9.0
    """
    joules = dict(earlier.joules)
    for name, value in later.joules.items():
        joules[name] = joules.get(name, 0.0) + value
    return Reading(
        joules,
        _listed(dict.fromkeys(why for why in (earlier.unknown, later.unknown) if why)),
        _listed(dict.fromkeys(why for why in (earlier.left_out, later.left_out) if why)),
    )


def together(nodes: Iterable[Reading]) -> Reading:
    """What all nodes drew; unknown if one of them is.

    Example:
        >>> together([Reading({"a package-0": 2.0}), Reading({"b package-0": 3.0})]).total_J
        5.0
        >>> together([Reading({"a package-0": 2.0}), Reading({}, "b: no RAPL")]).total_J
        nan
    """
    nodes = list(nodes)
    joules = {name: value for node in nodes for name, value in node.joules.items()}
    return Reading(joules, _listed(node.unknown for node in nodes), _listed(node.left_out for node in nodes))


def _listed(reasons: Iterable[str]) -> str:
    return "; ".join(reason for reason in reasons if reason)
