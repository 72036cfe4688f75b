"""cluster.toml: what is written is read again, and what cannot be used is one line."""

from __future__ import annotations

import doctest
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cluster import Absence, Change, Cluster, Compute, Link, Measured, Network, Pause, Stragglers, Wire, file
from bench.settings import StudyError, build

NETWORKS = (
    Network(),
    Network(preset="1G", link=(Link(src=0, dst=3, bandwidth_Gbit_per_s=1.0),), collective="tree"),
    Network(latency_s=3e-5, ranks_per_node=4, inside="NVLink", change=(Change(at_s=1.0, factor=0.5),)),
    Network(bandwidth_Gbit_per_s=float("inf")),
)
COMPUTES = (
    Compute(),
    Compute(gradient_s=0.03, distribution="lognormal", sigma=0.4, slow={"1": 2.0}),
    Compute(gradient_s=0.3, distribution="shifted-exponential", shift=0.5),
    Compute(stragglers=Stragglers(probability=0.1, factor=2.0, kind="persistent")),
    Compute(pause=(Pause(worker=2, at_s=1.0, for_s=0.5),), absent=(Absence(worker=0, from_s=1.0, to_s=2.0),)),
    Compute(distribution="trace", times_s=(0.1, 1 / 3, 2e-7)),
)


def test_doctests() -> None:
    assert doctest.testmod(file).failed == 0


@pytest.mark.parametrize("network", NETWORKS)
def test_a_cluster_is_read_as_it_was_written(network: Network, tmp_path: Path) -> None:
    cluster = Cluster(
        network=network,
        compute={f'w {i} "x" \\ ü': compute for i, compute in enumerate(COMPUTES)},
        measured=Measured(transport="horovod", ranks=4, hosts=2, versions={"torch": "2", "Open MPI": 'v"5"'}),
        residuals={"all-reduce": 0.01, "messages": float("nan")},
    )
    file.write(cluster, tmp_path / "cluster.toml")
    again = file.read(tmp_path / "cluster.toml")
    assert again.network == cluster.network
    assert again.compute == cluster.compute
    assert again.measured == cluster.measured
    assert str(again.residuals) == str(cluster.residuals)


@given(st.lists(st.floats(min_value=1e-9, max_value=1e9), min_size=1, max_size=40))
def test_measured_times_keep_every_bit(times_s: list[float]) -> None:
    compute = Compute(distribution="trace", times_s=tuple(times_s))
    raw = tomllib.loads(file.text(Cluster(network=Network(), compute={"w": compute})))
    assert build(Compute, raw["compute"]["w"], "w") == compute


def test_a_trace_is_named_from_where_the_file_is(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("0.1\n")
    (tmp_path / "c.toml").write_text('[network]\n[compute.w]\ndistribution = "trace"\ntrace = "t.txt"\n')
    assert file.read(tmp_path / "c.toml").compute_of("w").traced_s.tolist() == [0.1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[network]\n", "missing key 'compute'"),
        ("[network]\n[compute]\n", "compute must name at least one workload"),
        ("[network]\nlatency = 1\n[compute.w]\n", "unknown key 'latency' (did you mean 'latency_s'?)"),
        ("[network]\n[compute.w]\ngradient_s = -1\n", "gradient_s must be a finite time >= 0"),
        ("[network]\n[compute.w]\ntimes_s = [1.0]\n", 'times_s needs distribution = "trace"'),
        ("network = 3\n[compute.w]\n", "expected a table"),
        ("[network\n", "is not valid TOML"),
    ],
)
def test_what_cannot_be_used_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(StudyError) as error:
        file.read(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"cannot read .*c\.toml: No such file.*paceline calibrate"):
        file.read(tmp_path / "c.toml")


def test_an_unmeasured_workload_is_named_with_the_nearest_that_is() -> None:
    cluster = Cluster(network=Network(), compute={"digits-mlp": Compute()})
    with pytest.raises(StudyError, match="no compute times of workload 'digit-mlp' \\(did you mean 'digits-mlp'"):
        cluster.compute_of("digit-mlp")


def test_the_wire_between_nodes_can_be_exchanged() -> None:
    network = Network(latency_s=1e-3, bandwidth_Gbit_per_s=1.0, ranks_per_node=2, inside="NVLink", collective="tree")
    cluster = Cluster(network=network, compute={"w": Compute()})
    assert cluster.network_with() == network
    slower = cluster.network_with(bandwidth_Gbit_per_s=0.1)
    assert (slower.outer.figures, slower.inside, slower.collective) == ((1e-3, 0.1), network.inside, "tree")
    flat = cluster.network_with(ranks_per_node=1, latency_s=2e-3)
    assert (flat.outer.figures, flat.inside, flat.ranks_per_node) == ((2e-3, 1.0), None, 1)
    wider = Cluster(network=flat, compute={"w": Compute()}).network_with(ranks_per_node=4)
    assert wider.inside == Wire(latency_s=2e-3, bandwidth_Gbit_per_s=1.0)
