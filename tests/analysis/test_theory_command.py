"""`paceline theory`: every subject as JSON and as a table, and one line for what cannot be asked."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import paceline
from analysis.theory.answer import finite, shown, shown_bytes
from analysis.theory.options import numbers, whole

# subject and options, the keys that it promises, and some of their values
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    (
        "utilization --method diloco --parameters 1e9 --layers 24 --step-time 0.099 --targets 0.5,0.95",
        {"Gbit_per_s_on_grid": None, "Gbit_per_s": None, "as_printed": [1.4, 23.3]},
    ),
    (
        "utilization --method diloco --model gpt-1B --targets 0.5,0.95",
        {"Gbit_per_s_on_grid": None, "Gbit_per_s": None, "as_printed": [1.4, 23.3]},
    ),
    ("easgd-stability --eta 1 --alpha 0.5 --workers 4 --mode round-robin", {"stable": True, "spectral_radius": 0.6736}),
    ("easgd-stability --eta 1 --alpha 0.5 --workers 4 --mode sync", {"stable": False, "spectral_radius": 1.7808}),
    ("easgd-stability --eta 1 --alpha 0.667 --workers 1 --mode round-robin", {"stable": False}),
    ("admm-stability --eta 0.001 --rho 2.5 --workers 3", {"spectral_radius": 1.00097, "stable": False}),
    ("admm-stability --eta 0.001 --rho 2.5 --workers 2", {"spectral_radius": 0.99900, "stable": True}),
    ("easgd-mse --eta 0.1 --beta 0.9 --workers 4", {"workers_times_mse": 0.0418, "limit": 0.05158}),
    ("easgd-mse --eta 0.1 --beta 0.9 --workers 4 --noise 2", {"workers_times_mse": 4 * 0.04182, "limit": 4 * 0.05158}),
    ("easgd-mse --eta 1 --beta 0.9 --workers 1", {"workers_times_mse": None, "stable": False}),
    ("downpour-tau --eta 0.05 --workers 4", {"tau": 11.48, "largest_stable_period": 11}),
    ("downpour-tau --eta 0.025 --curvature 2 --workers 8", {"tau": 4.5723, "largest_stable_period": 4}),
    ("downpour-tau --eta 0.05 --workers 2", {"tau": None, "largest_stable_period": None}),
    ("async-momentum --implicit 0.3 --condition 5", {"explicit_momentum": -0.1645, "rate": 0.5182}),
    ("async-momentum --workers 1 --condition 9", {"explicit_momentum": 0.25, "rate": 0.5}),
    (
        "spectral-gap --topology ring --workers 16",
        {"second_eigenvalue": 0.9493, "smallest_eigenvalue": -1 / 3, "spectral_gap": 0.0507},
    ),
    ("spectral-gap --topology torus --workers 16", {"second_eigenvalue": 0.6, "spectral_gap": 0.4}),
    ("spectral-gap --topology hypercube --workers 64", {"second_eigenvalue": 5 / 7, "smallest_eigenvalue": -5 / 7}),
    ("spectral-gap --topology star --workers 8", {"second_eigenvalue": 0.875, "spectral_gap": 0.125}),
    ("spectral-gap --topology star --workers 8 --weights lazy", {"second_eigenvalue": 0.9375}),
    ("spectral-gap --topology complete --workers 5 --weights uniform", {"second_eigenvalue": 0, "spectral_gap": 1}),
    ("spectral-gap --topology exponential --workers 16", {"second_eigenvalue": 0.6, "symmetric": False}),
    ("spectral-gap --topology one-peer-exponential --workers 16", {"spectral_gap": 1, "rounds": 4}),
    ("spectral-gap --topology erdos-renyi --workers 16 --weights metropolis --seed 1", {"rounds": 1}),
    (
        "bytes --algorithm diloco --parameters 1e6 --workers 8 --set period=50",
        {"bytes_per_step": 140e3, "burst_bytes": 7_000_000, "per_server": None},
    ),
    (
        "bytes --algorithm easgd --parameters 1000000 --workers 4",
        {"bytes_per_step": 0.8e6, "burst_bytes": 8_000_000, "servers": 1},
    ),
]


@pytest.mark.parametrize(("question", "expected"), QUESTIONS, ids=lambda q: q if isinstance(q, str) else "")
def test_json(question: str, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main(["theory", *question.split(), "--json"]) == 0
    said = capsys.readouterr()

    def refuse(constant: str) -> None:
        raise AssertionError(f"no JSON: {constant}")

    found = json.loads(said.out, parse_constant=refuse)
    assert said.err == "" and isinstance(found, dict)
    for key, value in expected.items():
        assert key in found
        if isinstance(value, bool | list) or (value is None and key not in ("Gbit_per_s_on_grid", "Gbit_per_s")):
            assert found[key] == value, key
        elif value is not None:
            assert found[key] == pytest.approx(value, rel=2e-3 if abs(value) < 0.9 else 1e-4, abs=1e-12), key
    assert found["given"]


@pytest.mark.parametrize("question", [q for q, _ in QUESTIONS if "--noise" not in q and "lazy" not in q])
def test_table(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = question.split()
    assert paceline.main(["theory", *words]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{words[0]}: ") and "\nSource: " in said and "nan" not in said
    assert max(map(len, said.splitlines()[2:])) <= 120


def test_utilization_of_a_table_of_costs_is_that_of_its_equal_layers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node, bits = 1.1 / 11, 16e9 / 4
    rows = [f"{node},{0 if k == 0 else node},{node},{bits}" for k in range(4)]
    costs = tmp_path / "costs.csv"
    costs.write_text("\n".join(["forward_s,backward_activations_s,backward_parameters_s,bits", *rows]))
    found = []
    for model in (["--costs", str(costs)], ["--parameters", "1e9", "--layers", "4", "--step-time", "1.1"]):
        assert paceline.main(["theory", "utilization", "--method", "diloco", *model, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["Gbit_per_s"])
    assert found[0] == pytest.approx(found[1], rel=1e-9)


MISTAKES = [
    ("utilization --method diloco", "needs --parameters, --layers and --step-time"),
    ("utilization --method diloco --model gpt-1B --layers 24", "model 'gpt-1B' says parameters, layers and step time"),
    ("utilization --method diloco --model gpt-2B", "no such model: got 'gpt-2B', allowed: gpt-1B, gpt-10B"),
    ("utilization --method diloco --costs missing.csv", "cannot read missing.csv"),
    ("utilization --method diloco --parameters 1e9 --layers 24 --step-time 0.1 --targets 1.5", "1.5"),
    ("easgd-stability --eta 1 --alpha 0.5 --workers 0", "workers must be at least 1: got 0"),
    ("easgd-stability --eta 1 --alpha 0.5 --workers 4 --period 0", "period must be at least 1 step: got 0"),
    ("admm-stability --eta 0.1 --rho 0 --workers 3", "rho must be above 0: got 0"),
    ("admm-stability --eta -1 --rho 1 --workers 3", "eta must lie in [0, inf): got -1"),
    ("easgd-mse --eta 0.1 --beta 0.9 --workers 4 --curvature 0", "curvature must be above 0"),
    ("downpour-tau --eta 2 --workers 4", "eta x curvature must lie in (0, 1): got 2"),
    ("async-momentum --implicit 1 --condition 5", "implicit momentum must lie in [0, 1): got 1"),
    ("async-momentum --workers 4 --condition 1", "condition must lie in (1, inf): got 1"),
    ("spectral-gap --topology torus --workers 7", "a torus needs a x b workers"),
    ("spectral-gap --topology ring --workers 1", "at least 2 workers: got 1"),
    ("spectral-gap --topology ring --workers 8 --edge-probability 0.5", "edge_probability is for erdos-renyi"),
    ("spectral-gap --topology star --workers 8 --weights uniform", "do not average where degrees differ"),
    ("spectral-gap --topology exponential --workers 8 --weights metropolis", "are for undirected graphs"),
    ("bytes --algorithm delico --parameters 1e6 --workers 8", "did you mean 'diloco'?"),
    ("bytes --algorithm diloco --parameters 1e6 --workers 8 --set perod=5", "did you mean 'period'?"),
    ("bytes --algorithm diloco --parameters 1e6 --workers 8 --set period", "expected KEY=VALUE"),
    ("bytes --algorithm diloco --parameters 1e6 --workers 8 --set period=0", "period must be at least 1 step"),
    ("bytes --algorithm sgd --parameters 1e6 --workers 8", "sgd runs on 1 worker: got 8"),
    ("bytes --algorithm diloco --parameters 0 --workers 8", "parameters and layers must be at least 1"),
    ("bytes --algorithm streaming-diloco --parameters 1e6 --workers 2 --layers 2 --set fragments=3", "fragments must"),
]


@pytest.mark.parametrize(("question", "words"), MISTAKES)
def test_what_cannot_be_asked_is_one_line(question: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert paceline.main(["theory", *question.split()]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith("paceline theory: ") and words in said.err


@pytest.mark.parametrize(
    ("options", "settings"),
    [("--period 50", "--set period=50"), ("--wire e3m0 --period 10", "--set wire='e3m0' --set period=10")],
)
def test_settings_may_be_options(options: str, settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for given in (options, settings):
        asked = f"bytes --algorithm diloco --parameters 1e6 --workers 8 --json {given}".split()
        assert paceline.main(["theory", *asked]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1] and answers[0]["given"]["settings"]["period"] in (10, 50)


@pytest.mark.parametrize(
    "question",
    [
        "",
        "nothing",
        "bytes --algorithm diloco --parameters 1e6 --workers 8 --period",
        "downpour-tau --eta 0.1 --workers 4 --period 3",
        "downpour-tau --eta x --workers 4",
        "downpour-tau --eta nan --workers 4",
        "downpour-tau --eta 0.1 --workers 4.5",
        "downpour-tau --eta 0.1",
        "async-momentum --condition 5",
        "async-momentum --condition 5 --implicit 0.5 --workers 2",
        "spectral-gap --topology sphere --workers 4",
    ],
)
def test_what_the_command_line_does_not_know(question: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        paceline.main(["theory", *question.split()])
    assert ended.value.code == 2
    assert "usage: paceline theory" in capsys.readouterr().err


def test_help_has_a_line_for_each_subject(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        paceline.main(["theory", "--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    for subject in {question.split()[0] for question, _ in QUESTIONS}:
        assert any(line.split()[:1] == [subject] and len(line.split()) > 4 for line in lines), subject


def test_formulas_do_without_torch() -> None:
    program = (
        "import sys, paceline; code = paceline.main(sys.argv[1:]); "
        "sys.exit(code or 'torch' in sys.modules or 'pandas' in sys.modules)"
    )
    words = ["theory", "easgd-mse", "--eta", "0.1", "--beta", "0.9", "--workers", "4"]
    root = Path(paceline.__file__).parent
    assert subprocess.run([sys.executable, "-c", program, *words], cwd=root, capture_output=True).returncode == 0


def test_numbers_on_the_command_line() -> None:
    assert whole("1e9") == 10**9 and whole("12345678901234567891") == 12345678901234567891
    assert numbers("0.5,1e-2") == (0.5, 0.01)
    for text in ("1.5", "inf", "", "one"):
        with pytest.raises(ValueError):
            whole(text)


def test_numbers_as_shown() -> None:
    assert finite({"a": (math.inf, 1), "b": {"c": -math.inf}}) == {"a": [None, 1], "b": {"c": None}}
    assert [shown_bytes(size) for size in (0, 999, 1e3, 4e9, 5e12)] == ["0 byte", "999 byte", "1 kB", "4 GB", "5 TB"]
    assert shown(-math.inf) == "infinite" and shown(0.5, "s") == "0.5 s"
