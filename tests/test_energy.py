"""Joules: counters that go round, domains that would count twice, nodes that cannot be read."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench import energy
from bench.energy import Meter, Reading, nvml, rapl, together
from bench.records import load
from bench.run import _meter, run_cell
from bench.study import resolve

RANGE_UJ = 65_532_610_987


def zone(root: Path, path: str, name: str, uj: int) -> Path:
    """A domain as the kernel shows it: folders in folders, and a flat folder of links."""
    real = root / "devices" / path
    real.mkdir(parents=True)
    (real / "name").write_text(f"{name}\n")
    (real / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (real / "energy_uj").write_text(f"{uj}\n")
    (root / "class").mkdir(exist_ok=True)
    (root / "class" / real.name).symlink_to(real)
    return real


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    zone(tmp_path, "intel-rapl/intel-rapl:1", "package-1", RANGE_UJ - 1_000_000)
    zone(tmp_path, "intel-rapl/intel-rapl:0", "package-0", 5_000_000)
    zone(tmp_path, "intel-rapl/intel-rapl:0/intel-rapl:0:0", "core", 1)
    zone(tmp_path, "intel-rapl/intel-rapl:0/intel-rapl:0:1", "dram", 7_000_000)
    zone(tmp_path, "intel-rapl/intel-rapl:2", "psys", 1)
    zone(tmp_path, "intel-rapl-mmio/intel-rapl-mmio:0", "package-0", 5_000_000)
    return tmp_path / "class"


def put(powercap: Path, zone: str, uj: int) -> None:
    (powercap / zone / "energy_uj").write_text(f"{uj}\n")


def test_packages_and_their_memory_count_and_nothing_counts_twice(powercap: Path) -> None:
    counters, why = rapl(powercap)
    assert ([c.name for c in counters], why) == (["package-0", "package-0 dram", "package-1"], "")


def test_a_counter_that_goes_round_goes_on(powercap: Path) -> None:
    meter = Meter("node-a", powercap=powercap)
    meter.start()
    put(powercap, "intel-rapl:0", 5_000_000 + 40_000_000)
    put(powercap, "intel-rapl:0:1", 7_000_000 + 2_500_000)
    put(powercap, "intel-rapl:1", 3_000_000)
    reading = meter.stop()
    assert reading.joules == pytest.approx(
        {"node-a package-0": 40, "node-a package-0 dram": 2.5, "node-a package-1": 4}, abs=1e-6
    )
    assert reading.total_J == pytest.approx(46.5) and reading.unknown == reading.left_out == ""
    assert reading.facts()["node-a package-1"] == "4 J"


def test_every_look_is_kept_however_often_the_counter_goes_round(powercap: Path) -> None:
    counter = rapl(powercap)[0][0]
    for _ in range(5):  # up by two thirds of the range each time
        now = int((powercap / "intel-rapl:0" / "energy_uj").read_text())
        put(powercap, "intel-rapl:0", (now + 2 * RANGE_UJ // 3) % RANGE_UJ)
        counter.joules()
    assert counter.joules() == pytest.approx(5 * (2 * RANGE_UJ // 3) * 1e-6)


def test_the_watch_looks_while_the_run_goes_on(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter("a", powercap=powercap)
    looks = iter([False, False, True])
    monkeypatch.setattr(meter, "_end", SimpleNamespace(wait=lambda _: next(looks), set=lambda: None))
    meter.start()
    meter._thread.join()
    assert next(looks, None) is None  # it looked twice, then heard the end
    assert meter.stop().total_J == 0


@pytest.mark.parametrize(
    ("lack", "reason"),
    [("folder", "no package below"), ("permission", "intel-rapl:0.*administrator"), ("number", "invalid literal")],
)
def test_what_cannot_be_read_is_unknown_with_its_reason(powercap: Path, lack: str, reason: str) -> None:
    if lack == "folder":
        powercap = powercap / "nowhere"
    if lack == "permission":  # for root, whom nobody forbids anything, by a folder that has no counter
        (powercap / "intel-rapl:0" / "energy_uj").unlink()
    if lack == "number":
        (powercap / "intel-rapl:1" / "max_energy_range_uj").write_text("many")
    counters, why = rapl(powercap)
    assert counters == [] and why.startswith("RAPL: ")
    meter = Meter("node-a", powercap=powercap)
    meter.start()
    reading = meter.stop()
    assert math.isnan(reading.total_J)
    assert re.search(reason, reading.facts()["unknown because"])


def test_a_counter_lost_on_the_way_makes_the_sum_unknown(powercap: Path) -> None:
    meter = Meter("a", powercap=powercap)
    meter.start()
    (powercap / "intel-rapl:0" / "energy_uj").unlink()
    reading = meter.stop()
    assert math.isnan(reading.total_J) and "lost during the run" in reading.unknown


# -- GPUs --------------------------------------------------------------------------------------------------------------


class FakeNvml:
    """Two GPUs; each look finds 1.5 J more on the first and 3 J more on the second."""

    class NVMLError(Exception):
        pass

    def __init__(self) -> None:
        self.used = {"GPU-a": 10_000, "GPU-b": 20_000}

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in self.used:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        self.used[handle] += {"GPU-a": 1500, "GPU-b": 3000}[handle]
        return self.used[handle]


def test_gpus_count_by_what_they_used_meanwhile(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    meter = Meter("a", ["a", "GPU-b"], powercap=powercap)
    meter.start()
    reading = meter.stop()
    assert reading.joules == {"a package-0": 0, "a package-0 dram": 0, "a package-1": 0, "a GPU-a": 1.5, "a GPU-b": 3}


def test_gpus_without_their_processors_are_a_number_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    meter = Meter("a", ["a"], powercap=tmp_path)
    meter.start()
    reading = meter.stop()
    assert reading.total_J == 1.5 and reading.facts()["not counted"].startswith("a: RAPL: no package")


def test_processors_without_the_gpus_that_computed_are_no_number(
    powercap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    meter = Meter("a", ["c"], powercap=powercap)
    meter.start()
    reading = meter.stop()
    assert math.isnan(reading.total_J) and reading.unknown == "a: NVML: Not Found" and "a package-0" in reading.joules


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml(["a"])[1] == "NVML: nvidia-ml-py is not installed (pip install nvidia-ml-py)"


# -- nodes and runs ----------------------------------------------------------------------------------------------------


def test_nodes_add_up_and_one_unknown_node_makes_the_sum_unknown() -> None:
    known = together([Reading({"a package-0": 2.0}), Reading({"b package-0": 3.0}, left_out="b: no NVML")])
    assert (known.total_J, known.left_out) == (5.0, "b: no NVML")
    assert math.isnan(together([known, Reading({}, "c: no RAPL")]).total_J)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_one_rank_of_each_node_has_the_meter_and_each_gpu_counts_once(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [("a", "1"), ("a", "2"), ("b", "3"), ("b", "3")]  # node, GPU: two ranks of b share theirs
    if device == "cpu":
        places = [(node, "") for node, _ in places]
    meters: list[Meter | None] = []
    for rank, (node, gpu) in enumerate(places):
        monkeypatch.setattr("socket.gethostname", lambda node=node: node)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, gpu=gpu: SimpleNamespace(uuid=gpu))
        told: list[tuple[str, str]] = []
        world = SimpleNamespace(allgather=lambda mine, told=told: told.append(mine) or places)
        local = SimpleNamespace(local_rank=lambda _, rank=rank: (rank % 2, 2))
        monkeypatch.setitem(sys.modules, "bench.transports.mpi_world", local)
        meters.append(_meter(world, torch.device(device)))
        assert told == [(node, gpu)]
    found = [(meter._node, meter._gpus) if meter else None for meter in meters]
    gpus = {"a": ["1", "2"], "b": ["3"]} if device == "cuda" else {"a": [], "b": []}
    assert found == [("a", gpus["a"]), None, ("b", gpus["b"]), None]


def test_a_simulated_run_drew_nothing_that_is_known(tmp_path: Path) -> None:
    study = resolve(
        {
            "name": "s", "workers": 1, "transports": ["simulated"], "save": "none", "budget": {"seconds": 0.05},
            "workload": {"name": "quadratic", "dimension": 3}, "algorithm": {"name": "allreduce-sgd"},
        }
    )  # fmt: skip
    (cell,) = study.cells()
    run_cell(cell, tmp_path, world=None)
    run = load(tmp_path).runs.iloc[0]
    assert math.isnan(run["energy_J"])
    assert "simulated" in json.loads(run["provenance"])["energy"]["unknown because"]
    assert energy.together([]).joules == {}
