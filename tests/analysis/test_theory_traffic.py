"""Bytes per step and bursts of the registered algorithms, against what their exchanges come to by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from algorithms.formula import evaluate
from algorithms.registry import algorithm_class, names
from analysis.theory.cli import counted, traffic
from analysis.theory.traffic import Steps, loads, steps_to_count
from tests.algorithms.support import make

P = 1_000_000
M = 4.0 * P
RING = 2 * 7 / 8 * M  # what each of 8 ranks sends in an all-reduce of the model

CASES = [  # algorithm, settings, workers, bytes per step, burst
    ("sgd", {}, 1, 0, 0),
    ("allreduce-sgd", {}, 8, RING, RING),
    ("local-sgd", {"period": 5}, 8, RING / 5, RING),
    ("post-local-sgd", {"period": 4, "start": 6}, 8, RING / 4, RING),
    ("d-psgd", {"topology": "ring"}, 8, 2 * M, 2 * M),
    ("d-psgd", {"topology": "one-peer-exponential"}, 8, M, M),
    ("d-psgd", {"topology": "delay-by-one"}, 8, RING, RING),
    ("d-psgd", {"topology": "star"}, 8, 2 * 7 / 8 * M, 7 * M),  # the star's centre sends to all others
    ("gossip-pga", {"period": 4}, 8, (3 * 2 * M + RING) / 4, 2 * M),
    ("gradient-tracking", {}, 8, 4 * M, 4 * M),
    ("diloco", {"period": 50}, 8, RING / 50, RING),
    ("streaming-diloco", {"period": 50, "fragments": 8}, 8, RING / 50, RING / 8),
    ("streaming-diloco", {"period": 20, "fragments": 8, "offsets": (0,) * 8}, 8, RING / 20, RING),
    # Codes go to everybody: 4 bits a value, and a scale and a bias in float32 for each 256.
    ("diloco", {"period": 10, "wire": "e3m0"}, 8, None, None),
    ("noloco", {"period": 10}, 8, 2 * M / 10, 2 * M),
]


def asked(settings: dict[str, Any]) -> list[str]:
    def toml(value: Any) -> str:
        return f'"{value}"' if isinstance(value, str) else str(list(value)) if isinstance(value, tuple) else str(value)

    return [f"{key}={toml(value)}" for key, value in settings.items()]


@pytest.mark.parametrize(("name", "settings", "workers", "average", "burst"), CASES)
def test_workers_without_servers(
    name: str, settings: dict[str, Any], workers: int, average: float | None, burst: float | None
) -> None:
    if average is None:
        coded = make(name, **settings).exchange().format.nbytes(P, 4)  # type: ignore[attr-defined]
        average, burst = 7 * coded / 10, 7 * coded
    answer = traffic(algorithm=name, parameters=P, workers=workers, layers=24, settings=asked(settings))
    assert answer.values["bytes_per_step"] == pytest.approx(average, rel=2e-5)
    assert answer.values["burst_bytes"] == pytest.approx(burst, rel=2e-5)
    assert answer.values["per_server"] is None and answer.values["servers"] == 0


@pytest.mark.parametrize(
    ("name", "settings", "average", "burst"),
    [
        ("easgd", {"period": 10}, 2 * M / 10, 2 * M),
        ("downpour", {"period": 4}, 2 * M / 4, 2 * M),
        ("mdownpour", {}, 2 * M, 2 * M),
        ("admm", {}, 2 * M, 2 * M),
        ("async-sgd", {}, 2 * M, 2 * M),
        ("async-diloco", {"period": 8}, 2 * M / 8, 2 * M),
    ],
)
def test_a_server_bears_what_all_workers_cause(
    name: str, settings: dict[str, Any], average: float, burst: float
) -> None:
    values = traffic(algorithm=name, parameters=P, workers=5, layers=24, settings=asked(settings)).values
    assert values["bytes_per_step"] == pytest.approx(average, rel=1e-9)
    assert values["burst_bytes"] == burst
    assert values["per_server"]["bytes_per_step"] == pytest.approx(5 * average, rel=1e-9)
    assert values["per_server"]["burst_bytes"] == 5 * burst


def test_servers_share_the_load() -> None:
    values = traffic(algorithm="easgd", parameters=P, workers=4, layers=24, settings=["period=2", "servers=4"]).values
    assert values["servers"] == 4 and values["burst_bytes"] == 2 * M
    assert values["per_server"] == {"bytes_per_step": pytest.approx(M), "burst_bytes": 2 * M}


def test_small_numbers_beside_models_do_not_grow_with_them() -> None:
    small, large = (
        traffic(algorithm="prague", parameters=size, workers=4, layers=24).values for size in (10**6, 10**9)
    )
    assert small["per_server"]["burst_bytes"] == large["per_server"]["burst_bytes"] < 1000


def test_a_matchas_average_is_the_formulas_and_its_burst_is_more() -> None:
    values = traffic(algorithm="d-psgd", parameters=P, workers=8, layers=24, settings=['topology="matcha"']).values
    stated = evaluate("degree * M", make("d-psgd", topology="matcha"), 8, M)
    assert values["bytes_per_step"] == pytest.approx(stated, rel=1e-9)
    assert values["burst_bytes"] >= 2 * M and values["burst_bytes"] % M == 0


def test_steps_are_whole_periods() -> None:
    assert steps_to_count(6) == Steps(36, 18)
    assert steps_to_count(10, 4) == Steps(40, 20)
    assert steps_to_count(8, start=100) == Steps(132, 16)


def test_what_takes_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="counting takes 1000 steps of 1000 workers: at most 100000"):
        traffic(algorithm="diloco", parameters=P, workers=1000, layers=24, settings=["period=500"])


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_what_is_counted_is_what_the_formula_says(name: str) -> None:
    algorithm = algorithm_class(name)()
    workers = 8
    try:
        algorithm.validate(workers)
    except ValueError:
        workers = 1
    found, steps = counted(algorithm, parameters=P, workers=workers, layers=24)
    payload = float(found.payload[-steps.window :].mean()) / workers
    stated = evaluate(algorithm.bytes_per_step, algorithm, workers, M)
    assert payload == pytest.approx(stated, rel=0.08)
    worker, server = loads(found, steps)
    assert worker.average <= worker.burst + 1e-6 and (server is None) == (not algorithm.server_ranks(workers))
    assert np.isfinite(found.workers).all() and (found.workers >= -1e-6).all()
