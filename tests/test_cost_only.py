"""Runs without gradients: the same events as with gradients, bit for bit; what asks for a value is refused."""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from algorithms.interface import Algorithm, Worker
from algorithms.optim import OptimizerSettings
from algorithms.registry import algorithm_class, names
from analysis.completeness import missing
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.records import EVENTS, RUNS, load
from bench.run import blank_row, run_cell
from bench.settings import StudyError, build
from bench.simulate import Simulation
from bench.study import STUDIES, Cell, resolve
from bench.workloads.base import Workload
from bench.workloads.cost_only import CostOnly, NoValues, asked_for_a_value
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.shapes import RememberedShapes

NETWORKS = {name: Network(preset=name) for name in ("10G", "100M")}
TIMES = {"constant": Compute(), "exponential": Compute(distribution="exponential")}
SGD = OptimizerSettings(name="sgd", lr=0.05)
SEQUENTIAL = [{"name": "sgd"}, {"name": "msgd", "momentum": 0.9}, {"name": "asgd"}, {"name": "mvasgd", "weight": 0.1}]
ALGORITHMS = tomllib.loads((STUDIES / "every-algorithm.toml").read_text())["algorithm"]
# Settings with which an algorithm does something else with its vectors.
VARIANTS = [
    {"name": "choco-sgd", "compressor": "random-k", "fraction": 0.1, "gamma": 0.3},
    {"name": "choco-sgd", "compressor": "low-bit", "gamma": 0.3},
    {"name": "power-gossip", "rank": 3, "topology": "complete"},
    {"name": "diloco", "period": 3, "wire": "bfloat16"},
    {"name": "diloco", "period": 3, "wire": "fp8-e4m3", "drop": 0.4},
    {"name": "diloco", "period": 3, "wire": "e3m0-nozero"},
    {"name": "streaming-diloco", "period": 4, "fragment_layers": 1, "wire": "e3m0", "delay": 2, "alpha": 0.5},
    {"name": "streaming-diloco", "period": 4, "fragment_layers": 1, "wire": "int8", "drop": 0.3},
    {"name": "async-diloco", "period": 3, "variant": "naive"},
    {"name": "d-psgd", "order": "atc"},
    {"name": "agp", "peers": "one", "scaled": False},
    {"name": "async-sgd", "servers": 2},
    {"name": "sa-asgd", "softsync": 2},
    {"name": "dc-asgd", "variant": "constant", "compensation": 0.04},
    {"name": "prague", "group_size": 2, "schedule": "static"},
    {"name": "allreduce-sgd", "optimizer": {"name": "adamw", "lr": 0.01, "clip_norm": 1.0}},
    {"name": "allreduce-sgd", "optimizer": {"name": "lamb", "lr": 0.01}},
]


def algorithm(table: dict[str, Any]) -> Algorithm:
    given = {key: value for key, value in table.items() if key != "name"}
    return build(algorithm_class(table["name"]), given, table["name"])


@functools.cache
def digits() -> Workload:
    return DigitsMlp(batch_size=4).build(torch.device("cpu"), 5)


def simulate(table: dict[str, Any], gradients: Any, workers: int, **more: Any) -> Simulation:
    budget = more.pop("budget", Budget(seconds=0.12, snapshots=3))
    run = Simulation(algorithm(table), digits(), workers=workers, seed=3, optimizer=SGD, gradients=gradients, **more)
    with RememberedShapes() if gradients == "none" else nullcontext():  # as `bench.run` does
        return run.run(budget)


def events(run: Simulation) -> list[tuple[Any, ...]]:
    """All columns but the loss, which the one has and the other has not, and what a GPU took, which neither has."""
    columns = [column.name for column in EVENTS.columns][1:]
    assert all(math.isnan(row[columns.index("device_s")]) for row in run.log.rows)
    kept = [k for k, name in enumerate(columns) if name not in ("loss", "device_s")]
    return [tuple(row[k] for k in kept) for row in run.log.rows]


def same(table: dict[str, Any], workers: int, compute: str, network: str) -> None:
    if table["name"] == "ad-psgd" and workers % 2:
        table = {**table, "topology": "complete-bipartite"}  # a ring of five has an odd cycle
    if table.get("schedule") == "static":
        workers = 4  # groups of two
    real, costs = (
        simulate(table, gradients, workers, compute=TIMES[compute], network=NETWORKS[network])
        for gradients in ("single", "none")
    )
    assert len(events(costs)) > 20
    assert events(costs) == events(real)
    for ours, theirs in zip(costs.handles, real.handles, strict=True):
        assert [(s.number, s.t_s, s.step, s.samples, s.nbytes, s.wire_nbytes) for s in ours.snapshots] == [
            (s.number, s.t_s, s.step, s.samples, s.nbytes, s.wire_nbytes) for s in theirs.snapshots
        ]
        assert all(s.x.numel() == 0 for s in ours.snapshots)
        assert ours.recorder.mailbox_depth_max == theirs.recorder.mailbox_depth_max
        assert ours.replica().data.is_meta
        assert ours.replica().data.shape == theirs.replica().data.shape
        assert ours.replica().version == theirs.replica().version


def ident(table: dict[str, Any]) -> str:
    return "-".join(str(value) for value in table.values() if not isinstance(value, dict))


def test_the_algorithms_here_are_all_there_are() -> None:
    assert {a["name"] for a in (*ALGORITHMS, *SEQUENTIAL)} == set(names())


# -- the oracle: the same run with gradients ---------------------------------------------------------------------------


TIERS = {("constant", 4, "10G"): (), ("exponential", 5, "100M"): pytest.mark.thorough}


@pytest.mark.parametrize("table", [*ALGORITHMS, *VARIANTS], ids=ident)
@pytest.mark.parametrize(
    ("workers", "compute", "network"),
    [
        pytest.param(workers, compute, network, marks=TIERS.get((compute, workers, network), pytest.mark.slow))
        for compute in ("constant", "exponential")
        for workers in (4, 5)
        for network in NETWORKS
    ],
)
def test_the_events_are_those_of_a_run_with_gradients(
    table: dict[str, Any], workers: int, compute: str, network: str
) -> None:
    same(table, workers, compute, network)


@pytest.mark.parametrize("table", SEQUENTIAL, ids=ident)
def test_a_single_worker_costs_what_it_costs_with_gradients(table: dict[str, Any]) -> None:
    real, costs = (
        simulate(table, g, 1, compute=TIMES["exponential"], budget=Budget(seconds=0.3)) for g in ("single", "none")
    )
    assert len(events(costs)) > 20
    assert events(costs) == events(real)


def test_stragglers_and_outages_cost_the_same() -> None:
    compute = build(
        Compute,
        {
            "gradient_s": 0.01,
            "slow": {"1": 3.0},
            "stragglers": {"probability": 0.3, "factor": 4.0},
            "pause": [{"worker": 0, "at_s": 0.02, "for_s": 0.03}],
            "absent": [{"worker": 2, "from_s": 0.03, "to_s": 0.08}],
        },
        "compute",
    )
    for name in ("ad-psgd", "easgd", "local-sgd"):
        runs = [simulate({"name": name}, g, 4, compute=compute) for g in ("single", "none")]
        assert events(runs[0]) == events(runs[1])


def test_a_restarted_run_costs_the_same() -> None:
    table = {"name": "overlap-sgp", "delay": 2, "period": 1}
    found = []
    for gradients in ("single", "none"):
        first = simulate(table, gradients, 4, budget=Budget(steps=5))
        second = Simulation(algorithm(table), digits(), workers=4, seed=3, optimizer=SGD, gradients=gradients)
        found.append(events(second.restore(first.save()).run(Budget(steps=12))))
    assert len(found[0]) > 20
    assert found[0] == found[1]


# -- no data, no values ------------------------------------------------------------------------------------------------


def test_no_data_are_read_and_no_gradient_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = digits()

    def must_not(*_: Any, **__: Any) -> Any:
        raise AssertionError("a run without gradients computes nothing")

    for name in ("initial", "batches", "gradient", "gradients", "heldout"):
        monkeypatch.setattr(type(workload), name, must_not)
    run = Simulation(algorithm({"name": "easgd"}), workload, workers=4, seed=0, optimizer=SGD, gradients="none")
    run.run(Budget(seconds=0.1))
    assert min(handle.state.step for handle in run.workers) >= 10


def test_the_size_is_that_of_the_workload() -> None:
    real, costs = digits(), CostOnly(digits())
    for name in ("name", "parameters", "dtype", "batch_size", "spans", "layers", "flops_per_sample"):
        assert getattr(costs, name) == getattr(real, name)
    assert costs.device.type == "meta"
    assert costs.facts == {**real.facts, "gradients": "not computed: time and bytes only"}
    for refused in (lambda: costs.heldout(costs.initial(0)), costs.objective):
        with pytest.raises(NoValues, match="a run without gradients has no model"):
            refused()


@dataclass(frozen=True, kw_only=True)
class Picky(Algorithm):
    """Asks whether a gradient is large."""

    name: ClassVar[str] = "picky"

    async def worker(self, w: Worker) -> None:
        x, opt = w.replica(), w.optimizer(self.optimizer)
        async for _ in w.steps():
            g = await w.gradient(x)
            if g.data.abs().max() > 0:
                x.apply_(g, opt)


STUDY = {
    "name": "costs",
    "transports": ["simulated"],
    "workers": [4],
    "budget": {"seconds": 0.1},
    "gradients": "none",
    "workload": {"name": "digits-mlp", "optimizer": {"name": "sgd", "lr": 0.1}},
    "algorithm": {"name": "easgd"},
}


def cell(**more: Any) -> Cell:
    return next(resolve({**STUDY, **more}).cells())


def test_a_value_that_an_algorithm_asks_for_is_named_with_its_place(tmp_path: Path) -> None:
    asking = cell()
    asking = replace(asking, entry=replace(asking.entry, algorithm=Picky()))
    with pytest.raises(NoValues, match=r"picky asks for a value \(test_cost_only.py:\d+: if g.data.abs"):
        run_cell(asking, tmp_path, world=None)


def test_an_error_of_another_kind_is_left_as_it_is() -> None:
    assert asked_for_a_value(ValueError("a meta tensor")) == ""
    assert asked_for_a_value(RuntimeError("the size of tensor a must match")) == ""


# -- remembered shapes -------------------------------------------------------------------------------------------------

OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], Any]] = {
    "binary": lambda x, y: x - y,
    "with a number": lambda x, y: 0.5 * x + 3,
    "whole numbers divided": lambda x, y: x.to(torch.int64) / 2,
    "compared": lambda x, y: x > y,
    "in place": lambda x, y: x.lerp_(y, 0.25),
    "into": lambda x, y: torch.div(x, y, out=y),
    "broadcast": lambda x, y: x.unsqueeze(0) * y.unsqueeze(1),
    "joined": lambda x, y: torch.cat([x, y[:3]]),
    "parts": lambda x, y: x.split_with_sizes([2, x.numel() - 2]),
    "named parts": lambda x, y: x.topk(2),
    "indices": lambda x, y: x.topk(2).indices,
    "slice": lambda x, y: x[1:],
    "type": lambda x, y: x.to(torch.bfloat16),
    "bytes": lambda x, y: x.view(torch.uint8),
    "count": lambda x, y: x.numel(),
    "sum": lambda x, y: x.sum(),
}


def spec(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.device.type
    return [spec(v) for v in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_remembered_operation_gives_what_the_operation_gives(name: str) -> None:
    operation = OPERATIONS[name]

    def vectors(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.empty(size, device="meta")
        return x, torch.empty_like(x)

    expected = [spec(operation(*vectors(size))) for size in (5, 7, 5)]
    with RememberedShapes():
        found = []
        for size in (5, 7, 5):  # the third is remembered
            x, y = vectors(size)
            result = operation(x, y)
            found.append(spec(result))
            assert (result is x) == (name == "in place")
            assert (result is y) == (name == "into")
    assert found == expected


def test_what_does_not_fit_fails_as_often_as_it_is_tried() -> None:
    with RememberedShapes():
        x = torch.empty(5, device="meta")
        for _ in range(3):
            with pytest.raises(RuntimeError, match="broadcast"):
                x + torch.empty(4, device="meta")
            with pytest.raises(RuntimeError, match="meta tensors"):
                float(x[0])


def test_values_are_computed_while_shapes_are_remembered() -> None:
    with RememberedShapes():
        assert [(torch.tensor([k]) * 2 + 1).tolist() for k in range(3)] == [[1], [3], [5]]


# -- studies and tables ------------------------------------------------------------------------------------------------


def test_a_run_says_in_its_tables_that_it_had_no_gradients(tmp_path: Path) -> None:
    cells = {g: cell(gradients=g) for g in ("none", "single")}
    verdicts = {g: run_cell(one, tmp_path, world=None) for g, one in cells.items()}
    text = "no event row dropped: yes; bytes equal to the closed form: yes; no gradients were computed: time and bytes"
    assert verdicts["none"] is not None
    assert (verdicts["none"].status, verdicts["none"].text) == ("completed", f"{text} only")

    results = load(tmp_path)
    assert results.skipped == []
    runs = results.runs.set_index("gradients")
    for column in ("steps", "samples", "nbytes", "wire_nbytes", "duration_s", "mailbox_depth_max", "parameters"):
        assert runs.loc["none", column] == runs.loc["single", column], column
    assert (runs.loc["none", "initial_hash"], runs.loc["none", "first_batch_hash"]) == ("", "")
    assert "time and bytes only" in runs.loc["none", "workload_facts"]
    assert set(results.heldout["run_id"]) == {cells["single"].run_id}
    per_run = [group.drop(columns=["run_id", "loss"]).reset_index(drop=True) for _, group in results.events.groupby(
        "run_id", observed=True, sort=False)]  # fmt: skip
    pd.testing.assert_frame_equal(*per_run, check_exact=True, check_categorical=False)
    without = results.events["run_id"] == cells["none"].run_id
    assert results.events.loc[without, "loss"].isna().all()
    for one in cells.values():  # the ranks of a process share their files
        written = sorted(path.name for path in (tmp_path / "runs" / one.run_id).glob("*-r*"))
        assert written == ["events-r0-p0.parquet", "snapshots-r0.parquet"]
    counts = results.snapshots.groupby("run_id")["rank"].nunique()
    assert counts.tolist() == [5, 5]  # four workers and the server
    assert missing(results.runs, results.events, results.heldout) == []


def test_a_folder_of_before_has_an_empty_column(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "old"
    folder.mkdir(parents=True)
    row = pa.table({name: [value] for name, value in blank_row(cell()).items() if name != "gradients"})
    older = RUNS.schema.remove(RUNS.schema.get_field_index("gradients"))
    pq.write_table(row.select(older.names).cast(older), folder / "run.parquet")
    results = load(tmp_path)
    assert results.skipped == []
    assert results.runs["gradients"].tolist() == [""]


def test_only_what_is_set_is_in_the_run_id() -> None:
    ids = {g: cell(gradients=g).run_id for g in ("auto", "batched", "single", "none")}
    assert len(set(ids.values())) == 4
    unsaid = {key: value for key, value in STUDY.items() if key != "gradients"}
    assert next(resolve(unsaid).cells()).run_id == ids["auto"]
    both = resolve({**STUDY, "transports": ["mpi", "simulated"], "gradients": "single"})
    assert [one.gradients for one in both.cells()] == ["", "single"]
    measured = resolve({**unsaid, "transports": ["mpi"]})
    assert next(both.cells()).run_id == next(measured.cells()).run_id


def test_nothing_measured_runs_without_gradients() -> None:
    both = {**STUDY, "transports": ["mpi", "horovod", "simulated"]}
    with pytest.raises(StudyError) as caught:
        resolve(both)
    assert str(caught.value) == (
        'study: gradients = "none" is for the simulator: got it with horovod, mpi '
        "(add --without horovod --without mpi, or leave gradients out)"
    )
    assert [one.gradients for one in resolve(both, without=("mpi", "horovod")).cells()] == ["none"]


def test_what_decides_by_values_is_refused_before_anything_starts() -> None:
    with pytest.raises(StudyError) as caught:
        cell(algorithm={"name": "async-diloco", "dylu": True})
    assert str(caught.value) == (
        "study: async-diloco on simulated with 4 workers: dylu takes the next period from a number in the server's "
        'answer, so it cannot run without gradients: got gradients = "none" (leave it out)'
    )
    cell(algorithm={"name": "async-diloco", "dylu": True}, gradients="auto")


def test_and_it_does_ask_for_a_value() -> None:
    with pytest.raises(RuntimeError) as caught:
        simulate({"name": "async-diloco", "dylu": True, "period": 2}, "none", 4)
    assert asked_for_a_value(caught.value).startswith("async_diloco.py:")
