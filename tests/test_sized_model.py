"""Models by their size: what they consist of, where the time of a gradient comes from, and compute utilisation against
theory."""

from __future__ import annotations

import doctest
import tomllib
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from algorithms.registry import algorithm_class
from analysis.theory.utilization import utilization
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.records import load
from bench.run import run_cell
from bench.settings import StudyError, build
from bench.simulate import Simulation
from bench.study import STUDIES, Cell, resolve
from bench.workloads import shapes, sized_model
from bench.workloads.registry import settings_class
from bench.workloads.sized_model import PRESETS, SizedModel

SMALL = {"parameters": 1e9, "layers": 24}
SPEED = {"accelerators": 32, "flops_per_s": 400e12, "mfu": 0.4, "sequence": 1000, "batch_size": 512}
ALGORITHMS = tomllib.loads((STUDIES / "every-algorithm.toml").read_text())["algorithm"]


def study(**more: Any) -> dict[str, Any]:
    return {
        "name": "large",
        "transports": ["simulated"],
        "gradients": "none",
        "workers": [4],
        "budget": {"steps": 5},
        "workload": {"name": "sized-model", "preset": "deepseek-v3-671B"},
        "algorithm": {"name": "local-sgd", "period": 2},
        **more,
    }


def cell(**more: Any) -> Cell:
    return next(resolve(study(**more)).cells())


@pytest.mark.parametrize("module", [shapes, sized_model])
def test_examples_hold(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0


# -- sizes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("embedding", [0, 12_345_677])
def test_the_layers_cover_the_model_and_are_as_even_as_whole_numbers_can_be(preset: str, embedding: int) -> None:
    model = SizedModel(preset=preset, embedding=embedding).build(torch.device("cpu"), 4)
    assert model.parameters == int(PRESETS[preset].parameters)
    assert [layer.lo for layer in model.layers] == [0, *(layer.hi for layer in model.layers[:-1])]
    assert model.layers[-1].hi == model.parameters
    blocks = [layer.hi - layer.lo for layer in model.layers if layer.is_block]
    assert len(blocks) == PRESETS[preset].layers
    assert max(blocks) - min(blocks) <= 1
    ends = [layer.hi - layer.lo for layer in model.layers if not layer.is_block]
    assert ends == [embedding] * 2 * (embedding > 0)
    assert model.spans == [(layer.lo, layer.hi) for layer in model.layers]


def test_a_vector_has_its_size_and_no_memory() -> None:
    x = SizedModel(preset="deepseek-v3-671B", dtype="bfloat16").build(torch.device("cpu"), 4).initial(0)
    assert (x.numel(), x.nbytes, x.device.type) == (671_000_000_000, 1_342_000_000_000, "meta")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give a preset, or parameters and layers: got preset=None, parameters=None, layers=None"),
        ({"parameters": 1e9}, "give a preset, or parameters and layers"),
        ({"preset": "gpt-1B", "parameters": 1e9, "layers": 24}, "give a preset, or parameters and layers"),
        ({"preset": "gpt-1B", "layers": 12}, "preset 'gpt-1B' says parameters and layers: got them, too"),
        ({"preset": "gpt-2B"}, "no such preset: got 'gpt-2B', allowed: gpt-1B, gpt-10B"),
        ({"parameters": 1.5, "layers": 1}, "parameters must be a whole number in 1..9007199254740992: got 1.5"),
        ({**SMALL, "layers": 0}, "layers must be a whole number of at least 1: got 0"),
        ({**SMALL, "active": 2e9}, "active must be a whole number in 1..1000000000: got 2000000000.0"),
        ({**SMALL, "embedding": 5e8}, "embedding and head leave less than one parameter per block"),
        ({**SMALL, "mfu": 0.4}, "go together: accelerators, flops_per_s, sequence not given"),
        ({**SMALL, **SPEED, "mfu": 1.1}, r"mfu must lie in \(0, 1\]: got 1.1"),
        ({**SMALL, **SPEED, "flops_per_s": 0.0}, "flops_per_s must be finite and > 0: got 0.0"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        build(SizedModel, settings, "workload")


def test_no_gradient_of_it_can_be_computed() -> None:
    assert settings_class("sized-model") is SizedModel
    with pytest.raises(StudyError) as caught:
        resolve(study(gradients="auto"))
    assert str(caught.value) == (
        "study: local-sgd on simulated with 4 workers: sized-model is a size without values, so no gradient of it can "
        'be computed (set gradients = "none" and transports = ["simulated"])'
    )
    with pytest.raises(StudyError, match="sized-model is a size without values"):
        resolve(study(transports=["mpi"], gradients="auto"))
    with pytest.raises(ValueError, match="no gradient of it can be computed"):
        SizedModel(preset="gpt-1B").double()


# -- the time of a gradient --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workload", "compute", "gradient_s", "source"),
    [
        ({"preset": "llama3-405B"}, {}, 26.9, "as published: "),
        ({"preset": "llama3-405B"}, {"distribution": "lognormal", "sigma": 0.1}, 26.9, "as published: "),
        ({"preset": "llama3-405B"}, {"gradient_s": 3.0}, 3.0, "as [compute] says"),
        ({**SMALL, **SPEED}, {}, 6 * 1e9 * 512_000 / (32 * 400e12 * 0.4), "6 x 1e+09 parameters x 512 x 1000 tokens"),
        ({**SMALL, **SPEED, "active": 5e8}, {}, 3 * 1e9 * 512_000 / (32 * 400e12 * 0.4), "6 x 5e+08 parameters"),
        ({"preset": "gpt-1B", **SPEED}, {}, 0.6, "6 x 1e+09 parameters"),
        ({**SMALL, **SPEED}, {"gradient_s": 0.25}, 0.25, "as [compute] says"),
    ],
)
def test_the_study_says_it_first_then_the_accelerators_then_the_preset(
    workload: dict[str, Any], compute: dict[str, Any], gradient_s: float, source: str
) -> None:
    named = {"name": "sized-model", **workload}
    for found in (cell(workload=named, compute=compute), cell(workload={**named, "compute": compute})):
        assert found.workload.compute.gradient_s == pytest.approx(gradient_s, rel=1e-12)
        assert found.workload.compute.distribution == compute.get("distribution", "constant")
        assert found.workload.gradient_time.startswith(source)


def test_a_model_of_which_nobody_says_the_time_is_refused() -> None:
    with pytest.raises(StudyError, match="nothing says how long a gradient takes"):
        cell(workload={"name": "sized-model", **SMALL})
    cell(workload={"name": "sized-model", **SMALL}, compute={"gradient_s": 1.0})
    with pytest.raises(StudyError, match="nothing says"):  # a workload's compute stands in place of the study's
        cell(workload={"name": "sized-model", **SMALL, "compute": {"slow": {"1": 2.0}}}, compute={"gradient_s": 1.0})


def test_operations_of_a_sequence_are_unknown_without_its_length() -> None:
    assert np.isnan(SizedModel(**SMALL).build(torch.device("cpu"), 2).flops_per_sample)
    assert SizedModel(preset="deepseek-v3-671B", sequence=4096).flops_per_sample == 6 * 37e9 * 4096


# -- 671e9 parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ALGORITHMS, ids=lambda table: table["name"])
def test_every_algorithm_moves_its_closed_form_of_a_model_of_671e9_parameters(
    table: dict[str, Any], tmp_path: Path
) -> None:
    if any(field.name == "period" for field in fields(algorithm_class(table["name"]))):  # type: ignore[arg-type]
        table = {**table, "period": 2}
    if table["name"] == "choco-sgd":
        with pytest.raises(StudyError, match="places of values are int32"):
            cell(algorithm=table)
        table = {"name": "choco-sgd", "compressor": "low-bit", "gamma": 0.3}
    workload = {"name": "sized-model", "preset": "deepseek-v3-671B", "dtype": "bfloat16"}
    if table["name"] == "power-gossip":
        with pytest.raises(StudyError, match="shapes of this model's tensors are not known"):
            cell(algorithm=table, workload=workload, budget={"seconds": 90, "snapshots": 2})
        return
    large = cell(algorithm=table, workload=workload, budget={"seconds": 90, "snapshots": 2}, network={"preset": "400G"})
    verdict = run_cell(large, tmp_path, world=None)
    assert verdict is not None
    assert verdict.status == "completed", verdict.text
    run = load(tmp_path).runs.iloc[0]
    assert run["parameters"] == 671_000_000_000
    assert run["nbytes"] > 1e11
    assert run["workload"] == "sized-model-deepseek-v3-671B"


# -- compute utilisation -----------------------------------------------------------------------------------------------

BANDWIDTHS = (1.0, 10.0, 100.0)  # Gbit/s
H = 100


def simulated(model: SizedModel, step_s: float, Gbit_per_s: float, steps: int, name: str, **settings: Any) -> float:
    """When two workers have computed and all is delivered [s]; no latency."""
    run = Simulation(
        algorithm_class(name)(**settings), model.build(torch.device("cpu"), 2), workers=2, seed=0, gradients="none",
        compute=Compute(gradient_s=step_s), network=Network(latency_s=0.0, bandwidth_Gbit_per_s=Gbit_per_s),
    )  # fmt: skip
    return run.run(Budget(steps=steps, snapshots=1)).kernel.now()


@pytest.mark.parametrize("Gbit_per_s", BANDWIDTHS)
@pytest.mark.parametrize(
    ("method", "steps", "name", "settings"),
    [
        ({"method": "data-parallel"}, 2, "allreduce-sgd", {}),
        ({"method": "diloco"}, 2 * H, "diloco", {"period": H}),
        ({"method": "streaming", "delay": 1, "fragment_size": 1}, 2 * H, "streaming-diloco",
         {"period": H, "delay": 1, "fragment_layers": 1}),
        ({"method": "streaming", "delay": 40, "fragment_size": 1}, 2 * H, "streaming-diloco",
         {"period": H, "delay": 40, "fragment_layers": 1}),
    ],
    ids=["data-parallel", "diloco", "streaming-1", "streaming-40"],
)  # fmt: skip
def test_a_model_of_one_layer_is_used_as_theory_says(
    method: dict[str, Any], steps: int, name: str, settings: dict[str, Any], Gbit_per_s: float
) -> None:
    """One layer leaves nothing to overlap within a step, so both model the same."""
    theory = utilization([Gbit_per_s], **method, period=H, parameters=1e9, layers=1, step_time_s=0.099)
    model = SizedModel(parameters=1e9, layers=1, dtype="bfloat16")
    took_s = simulated(model, 0.099, Gbit_per_s, steps, name, **settings)
    assert steps * 0.099 / took_s == pytest.approx(float(theory[0]), rel=1e-9)


@pytest.mark.parametrize("Gbit_per_s", BANDWIDTHS)
def test_data_parallel_hides_reductions_behind_the_backward_pass_alone(Gbit_per_s: float) -> None:
    """Theory lets a layer's forward pass begin when that layer's reduction is done; here it waits for all of them.
    Layer by layer, of equal size: a queue whose end is set by the first layer's arrival or the last one's."""
    preset, steps = PRESETS["gpt-1B"], 3
    t, layers, transfer_s = preset.step_s, preset.layers, 16 / Gbit_per_s
    took_s = simulated(SizedModel(preset="gpt-1B", dtype="bfloat16"), t, Gbit_per_s, steps, "allreduce-sgd")
    step_s = max(t + transfer_s / layers, t / 3 + 2 * t / (3 * layers) + transfer_s)
    assert took_s == pytest.approx(steps * step_s, rel=1e-9)
    theory = utilization([Gbit_per_s], method="data-parallel", parameters=1e9, layers=layers, step_time_s=t)
    assert t / step_s == pytest.approx(float(theory[0]), rel=0.01)


@pytest.mark.parametrize("preset", ["gpt-1B", "gpt-10B", "gpt-100B"])
@pytest.mark.parametrize("Gbit_per_s", BANDWIDTHS)
def test_diloco_waits_for_its_whole_exchange(preset: str, Gbit_per_s: float) -> None:
    """Theory hides up to two thirds of the last step's exchange behind its backward pass."""
    p = PRESETS[preset]
    took_s = simulated(SizedModel(preset=preset, dtype="bfloat16"), p.step_s, Gbit_per_s, 2 * H, "diloco", period=H)
    assert took_s == pytest.approx(2 * H * p.step_s + 2 * p.parameters * 16e-9 / Gbit_per_s, rel=1e-9)
    found = 2 * H * p.step_s / took_s
    theory = float(
        utilization(
            [Gbit_per_s], method="diloco", period=H, parameters=p.parameters, layers=p.layers, step_time_s=p.step_s
        )[0]
    )
    assert found <= theory
    hidden_s = (1 / found - 1 / theory) * H * p.step_s
    assert hidden_s <= p.step_s * 2 / 3 * (1 + 1e-9)
