"""A cluster file that was calibrated on a bed, for beds of other rates and hindered ones; no bed is needed."""

from __future__ import annotations

import dataclasses
import doctest
import json
from pathlib import Path
from typing import Any

import pytest

import paceline
from bench.cluster import Cluster, Compute, Cut, Fabric, Measured, Network, file
from bench.records import load
from bench.settings import StudyError, build
from bench.testbed import hindrances, predicted, quota, settings
from bench.testbed.settings import TCP_SHARE

THERE = settings.Testbed(hosts=4, rate_Gbit_per_s=1.0)
STUDY = """
name = "small"
workers = [4]
budget = { steps = 8, snapshots = 1 }
workload = [{ name = "quadratic", dimension = 10_000 }]
algorithm = [{ name = "local-sgd", period = 1 }]
"""


def bed(**more: Any) -> settings.Testbed:
    return build(settings.Testbed, {"hosts": 4, "rate_Gbit_per_s": 1.0, **more}, "testbed")


def calibrated(cores: int = 2, **network: Any) -> Cluster:
    figures = {"latency_s": 1e-5, "bandwidth_Gbit_per_s": TCP_SHARE, **network}
    measured = Measured(ranks=4, hosts=4, cores_per_node=cores, testbed=THERE)
    return Cluster(network=Network(**figures), compute={"quadratic": Compute(gradient_s=0.02)}, measured=measured)


@pytest.mark.parametrize("module", [hindrances, predicted, quota, settings])
def test_doctests(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_a_file_keeps_the_bed_that_it_was_calibrated_on(tmp_path: Path) -> None:
    cluster = calibrated()
    hindered = bed(slow_host={"3": 6}, thin_link={"0": 0.1}, outage=[{"host": 1, "from_s": 1, "to_s": 2}])
    for there in (THERE, hindered):
        kept = dataclasses.replace(cluster, measured=dataclasses.replace(cluster.measured, testbed=there))
        file.write(kept, tmp_path / "c.toml")
        assert file.read(tmp_path / "c.toml") == kept


def test_the_same_bed_changes_nothing() -> None:
    cluster = calibrated(collective_latency_s=2e-5, collective_bandwidth_Gbit_per_s=0.5)
    assert predicted.on(cluster, THERE) == cluster


def test_another_rate_changes_the_wires_part_of_each_byte_and_no_other() -> None:
    cluster = calibrated(bandwidth_Gbit_per_s=0.8, collective_bandwidth_Gbit_per_s=0.5)
    network = predicted.on(cluster, bed(rate_Gbit_per_s=0.1)).network
    more = (10 - 1) / TCP_SHARE  # ns a bit
    assert network.bandwidth_Gbit_per_s == pytest.approx(1 / (1 / 0.8 + more))
    assert network.collective_bandwidth_Gbit_per_s == pytest.approx(1 / (1 / 0.5 + more))
    assert network.latency_s == 1e-5


def test_nothing_is_predicted_faster_than_the_wire() -> None:
    network = predicted.on(calibrated(bandwidth_Gbit_per_s=0.97), bed(rate_Gbit_per_s=10.0)).network
    assert network.bandwidth_Gbit_per_s == pytest.approx(10 * TCP_SHARE)


def test_a_thin_link_is_felt_by_all_that_passes_it() -> None:
    network = predicted.on(calibrated(), bed(thin_link={"2": 0.01})).network
    fabric = Fabric(network, workers=4, ranks=4)
    thin, plain = 0.01 * TCP_SHARE * 1e9 / 8, TCP_SHARE * 1e9 / 8
    for src in range(4):
        for dst in range(4):
            if src != dst:
                assert fabric.wire(src, dst)[1] == pytest.approx(thin if 2 in (src, dst) else plain)


def test_all_ranks_of_a_slow_host_are_slow() -> None:
    asked = bed(slow_host={"3": 6})
    assert predicted.on(calibrated(cores=2), asked).compute["quadratic"].slow == {"3": 6.0}
    two = dataclasses.replace(bed(slow_host={"1": 4}), ranks_per_host=2)
    there = calibrated(cores=16)
    there = dataclasses.replace(
        there, measured=dataclasses.replace(there.measured, testbed=dataclasses.replace(THERE, ranks_per_host=2))
    )
    assert predicted.on(there, two).compute["quadratic"].slow == {"2": 4.0, "3": 4.0}


def test_an_outage_cuts_the_host_off() -> None:
    asked = bed(outage=[{"host": 1, "from_s": 1, "to_s": 2}])
    assert predicted.on(calibrated(), asked).network.cut == (Cut(node=1, from_s=1.0, to_s=2.0),)


@pytest.mark.parametrize(
    ("there", "asked", "message"),
    [
        (None, THERE, "the cluster file was not measured on"),
        (bed(slow_host={"1": 2}), THERE, "measured on a hindered bed"),
        (THERE, dataclasses.replace(THERE, hosts=3), "hosts must be as when the cluster file was measured: got 3"),
        (THERE, dataclasses.replace(THERE, delay_s=0.1), "delay_s must be as when"),
    ],
)
def test_what_was_not_measured_is_one_line(
    there: settings.Testbed | None, asked: settings.Testbed, message: str
) -> None:
    cluster = calibrated()
    cluster = dataclasses.replace(cluster, measured=dataclasses.replace(cluster.measured, testbed=there))
    with pytest.raises(StudyError) as refused:
        predicted.on(cluster, asked)
    assert message in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.thorough
def test_a_prediction_has_the_name_of_the_runs_on_that_bed(tmp_path: Path) -> None:
    """And takes as long as all-reduces of the closed form."""
    (tmp_path / "study.toml").write_text(STUDY, encoding="utf-8")
    file.write(calibrated(cores=8), tmp_path / "c.toml")
    asked = ["--cluster", str(tmp_path / "c.toml"), "--cost-only", "--rate", "10mbit"]
    assert paceline.main(["predict", str(tmp_path / "study.toml"), *asked, "--out", str(tmp_path / "out")]) == 0
    run = load(tmp_path / "out").runs.iloc[0]
    assert run.study == "small-10mbit"
    reduce_s = 6 * (1e-5 + 80_000 / 4 / (0.01 * TCP_SHARE * 1e9 / 8))
    assert run.duration_s == pytest.approx(8 * (0.02 + reduce_s), rel=1e-9)
    assert "testbed" not in json.loads(run.network)
