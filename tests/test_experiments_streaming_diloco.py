"""The experiments of Streaming DiLoCo at a tiny size: variants of the algorithm against what they are variants of."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch

from algorithms.diloco import DiLoCo
from algorithms.streaming_diloco import StreamingDiLoCo
from bench.experiments.base import Scale
from bench.experiments.streaming_diloco import (
    EXPERIMENTS,
    cosines,
    costs,
    frozen,
    identities,
    models,
    pools,
    setting,
    values,
)
from bench.experiments.streaming_diloco.cosines import HeardDiLoCo
from bench.experiments.streaming_diloco.frozen import Frozen
from bench.experiments.streaming_diloco.pools import Pool
from bench.experiments.streaming_diloco.values import SHARE, FewValues, KeptValues
from bench.scales import study_of
from bench.simulate import Simulation
from bench.study import Study, resolve
from bench.workloads.base import Workload

TINY = {"width": 8, "depth": 2, "heads": 1, "context": 8}


def tiny() -> Workload:
    return setting.model(batch_size=2, dtype="float64", **TINY)


def run(algorithm: DiLoCo, *, steps: int = 12, workers: int = 2) -> Simulation:
    return setting.trained(algorithm, tiny(), seed=0, steps=steps, workers=workers)


def replicas(simulation: Simulation) -> torch.Tensor:
    return torch.stack([handle.replica().data for handle in simulation.workers])


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(setting.STEPS, "quick", 24)
    monkeypatch.setitem(setting.SEEDS, "quick", (0,))
    monkeypatch.setattr(setting, "SHAPE", TINY)
    for module in (cosines, frozen, models, pools, values):
        monkeypatch.setattr(module, "PERIOD", 6)


@pytest.mark.parametrize("scale", ["quick", "full"])
def test_experiments_and_studies_share_their_setting(scale: Scale) -> None:
    study: Study = resolve(study_of("streaming-diloco", "methods", scale))
    (workload,) = study.workloads
    assert study.table.seeds == setting.SEEDS[scale]
    assert workload.budget.steps == (steps := setting.STEPS[scale])
    assert workload.optimizer == setting.inner(steps)
    shape: Any = workload.settings
    assert {name: getattr(shape, name) for name in setting.SHAPE} == setting.SHAPE and shape.batch_size == 8
    for entry in study.algorithms:
        algorithm = entry.algorithm
        if isinstance(algorithm, DiLoCo):
            assert asdict(algorithm.resolved_outer) == asdict(setting.OUTER)
            assert algorithm.period == setting.PERIOD or entry.label.endswith("H100")


# -- variants ----------------------------------------------------------------------------------------------------------


def test_a_constant_pool_is_diloco() -> None:
    pool = run(Pool(period=4, outer=setting.OUTER, stages=(3, 3), steps=12), workers=3)
    assert torch.equal(replicas(pool), replicas(run(DiLoCo(period=4, outer=setting.OUTER), workers=3)))


def test_a_pool_computes_what_its_stages_say() -> None:
    for stages, expected in (((1, 3), [12, 6, 6]), ((3, 1), [12, 6, 6])):
        pool = run(Pool(period=3, outer=setting.OUTER, stages=stages, steps=12), workers=3)
        assert [handle.state.computed for handle in pool.workers] == expected
        anchors = [handle.state.kept["anchor"] for handle in pool.workers]
        assert torch.equal(anchors[0], anchors[2]) and torch.equal(replicas(pool)[2], anchors[2])


def test_listening_changes_nothing() -> None:
    heard = HeardDiLoCo(period=4, outer=setting.OUTER)
    assert torch.equal(replicas(run(heard)), replicas(run(DiLoCo(period=4, outer=setting.OUTER))))
    assert sorted(heard.log) == [4, 8, 12] and all(sorted(of) == [0, 1] for of in heard.log.values())


def test_only_one_fragment_trains_at_a_time() -> None:
    algorithm = Frozen(period=12, outer=setting.OUTER, fragment_layers=1, delay=0, alpha=0.0)
    start = tiny().initial(0)
    simulation = run(algorithm, steps=3)
    parts, rounds = algorithm.plan(simulation.workers[0].layers)
    assert rounds.offsets == (0, 4, 8)
    whole = run(algorithm)
    for trained, moved in ((simulation, {0}), (run(algorithm, steps=6), {0, 1}), (whole, {0, 1, 2})):
        for x in replicas(trained):
            assert {p for p, part in enumerate(parts) if not torch.equal(part.take(x), part.take(start))} == moved
    anchor = setting.anchor(whole)
    assert torch.equal(replicas(whole)[0], anchor) and torch.equal(replicas(whole)[1], anchor)


def test_kept_values() -> None:
    v = torch.linspace(-1, 1, 8000, dtype=torch.float64)
    for choice, share in SHARE.items():
        kept = KeptValues(choice=choice).kept(v, "outer 0", 30, 0, seed=0)
        assert float((kept != 0).double().mean()) == pytest.approx(share, rel=0.06)
        ratio = kept[kept != 0] / v[kept != 0]
        assert ratio.min() == pytest.approx(ratio.max()) == pytest.approx(1 / share if choice == "rescaled" else 1)
        same, other = (KeptValues(choice=choice).kept(v, "outer 0", 30, rank, seed=0) for rank in (0, 1))
        assert torch.equal(kept, same) and torch.equal(kept, other) is (choice == "largest")
    largest = KeptValues(choice="largest").kept(v, "outer 0", 30, 0, seed=0)
    assert v[largest == 0].abs().max() <= v[largest != 0].abs().min()


def test_keeping_all_values_is_streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHARE, "random", 1.0)
    settings: dict[str, Any] = {"period": 4, "outer": setting.OUTER, "fragment_layers": 1}
    kept = run(FewValues(**settings, choice="random"))
    assert torch.equal(replicas(kept), replicas(run(StreamingDiLoCo(**settings))))


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("dropped-values", {"random", "rescaled", "largest"}),
        ("frozen", {"frozen"}),
        ("models", {"outer", "mean", "replica"}),
        ("pools", {"doubling", "halving", "ramp-up", "ramp-down"}),
    ],
)
def test_a_table_of_losses(name: str, variants: set[str]) -> None:
    rows = EXPERIMENTS[name]("quick")
    assert {row["variant"] for row in rows} == variants and all(1 < row["loss"] < 5 for row in rows)
    assert len({row["loss"] for row in rows}) == len(rows)
    if name == "pools":
        computed = {row["variant"]: row["gradients"] for row in rows}
        assert computed["doubling"] == computed["halving"] == 3 * 24
        assert computed["ramp-up"] == computed["ramp-down"] == 2.5 * 24


@pytest.mark.usefixtures("small")
def test_the_table_of_cosines() -> None:
    rows = EXPERIMENTS["cosines"]("quick")
    assert {row["round"] for row in rows} == {1, 2, 3, 4} and {row["block"] for row in rows} == {-1, 0, 1}
    assert all(-1 <= row["cosine"] <= 1 for row in rows)


@pytest.mark.thorough
def test_traffic_of_a_short_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs, "PERIOD", 10)
    rows = EXPERIMENTS["traffic"]("quick")
    sized = [row for row in rows if row["value_bits"] == 16]
    sent = {method: [row["nbytes"] for row in sized if row["method"] == method] for method in costs.methods(3)}
    whole = 2 * 2 * 10**9  # two workers, 1e9 parameters of two bytes
    assert sent["data-parallel"] == [whole] * 10 and sent["diloco"] == [whole]
    assert sum(sent["streaming"]) == whole and max(sent["streaming"]) == whole // 8
    scales = sum(row["scale_nbytes"] for row in sized)
    assert sum(sent["overlapped-fp4"]) - scales == whole // 4 and scales >= whole // 4 / 256 * 8
    real = [row for row in rows if row["value_bits"] == 32]
    assert {row["layers"] for row in real} == {6} and any(row["ends"] for row in real)


@pytest.mark.thorough
def test_memory_counts_every_array() -> None:
    rows = EXPERIMENTS["memory"]("quick")
    of = {method: sum(row["values"] for row in rows if row["method"] == method) for method in costs.methods(3)}
    parameters = rows[0]["parameters"]
    assert of == {"data-parallel": 3 * parameters} | dict.fromkeys(
        ("diloco", "streaming", "overlapped-fp4"), 5 * parameters
    )


@pytest.mark.thorough
def test_identities_hold_for_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "STEPS", 8)
    rows = EXPERIMENTS["identities"]("quick")
    assert len(rows) == 9 and all(row["difference"] < 1e-12 and row["moved"] > 1e-3 for row in rows)
