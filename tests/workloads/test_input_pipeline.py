"""The benchmark of the input pipeline: its figures add up, and its interval is one."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.micro import input_pipeline
from bench.micro.input_pipeline import interval_of_ratio


def test_the_interval_of_a_ratio_of_means_covers_it_as_often_as_it_says():
    # Pairs share most of their noise. Of 200 intervals of 95 %, 190 should hold the true 1.04; 181 is three standard
    # deviations less, and the bootstrap of 40 pairs falls a little short.
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        mood = rng.gamma(20, 1 / 20, size=40)
        below, above = mood * rng.normal(1, 0.02, 40), 1.04 * mood * rng.normal(1, 0.02, 40)
        low, high = interval_of_ratio(list(above), list(below))
        held += low < 1.04 < high
        assert low < above.mean() / below.mean() < high
    assert 178 <= held < 200


def test_a_measured_workload_has_consistent_figures(tmp_path, capsys):
    file = tmp_path / "cost.json"
    input_pipeline.main(["digits-mlp", "quadratic", "--seconds", "0.1", "--json", str(file)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[1].startswith("digits-mlp") and "left out: it reads no data" in lines[2]
    (cost,) = json.loads(file.read_text())
    assert cost["name"] == "digits-mlp" and cost["batch_size"] == 32
    assert cost["low"] <= cost["ratio"] <= cost["high"]
    assert 0 < cost["next_s"] < cost["step_s"]
    assert cost["pairs"] >= input_pipeline.FEWEST_PAIRS


def test_settings_go_to_the_workloads_that_have_them(tmp_path, capsys):
    input_pipeline.main(["digits-mlp", "--seconds", "0", "--set", "batch_size=7", "--set", "train_batches=1"])
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "7"


def test_a_setting_that_cannot_be_read(capsys):
    with pytest.raises(SystemExit):
        input_pipeline.main(["--set", "batch size"])
    assert "train_batches=1" in capsys.readouterr().err
