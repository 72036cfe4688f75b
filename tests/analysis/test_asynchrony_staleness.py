"""Staleness against queueing theory, on the model system, on the simulator of `paceline run`, and in its tables.

B1 and B2 are those of docs/oracles.md; M = workers, p_k = worker k's share of all writes.
"""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from analysis.asynchrony.closed_network import queueing_law, throughput
from analysis.asynchrony.law import staleness_law
from analysis.asynchrony.recorded import center_writes, implicit_momentum, staleness_by_worker
from analysis.asynchrony.server import Service, exponential, fixed, normal, quadratic, simulate
from analysis.asynchrony.waiting import expected_staleness, memoryless_law, overall_staleness
from bench.budget import Budget
from bench.check import FREE
from bench.cluster import Compute
from bench.records import EVENTS
from bench.simulate import Simulation
from tests.algorithms.support import make
from tests.algorithms.support import quadratic as workload

SPEEDS = [4.0, 2.0, 1.0, 1.0]


def writes_of(
    workers: int, writes: int, *, service: Service = exponential, mean_times: Any = 1.0, replicas: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Staleness and writer of each write [R, T] of workers that do nothing else."""
    runs = simulate(
        quadratic([0.0]), [0.0], workers=workers, writes=writes, lr=0.0, service=service, mean_times=mean_times,
        replicas=replicas, seed=workers,
    )  # fmt: skip
    return runs.staleness, runs.writer


def chi_square_p(observed: np.ndarray, probabilities: np.ndarray) -> float:
    """Counts of 0, 1, .. against a law; what it leaves out is one more cell, cells below 5 are put together."""
    probabilities = np.append(probabilities, max(1 - probabilities.sum(), 0.0))
    counts = np.append(observed[: len(probabilities) - 1], observed[len(probabilities) - 1 :].sum())
    expected = counts.sum() * probabilities
    few = expected < 5
    counts, expected = (np.append(x[~few], x[few].sum()) for x in (counts, expected))
    return float(chi2.sf(((counts - expected) ** 2 / np.maximum(expected, 1e-9)).sum(), len(counts) - 1))


# -- B1, B2: the law ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 4, 16])
def test_memoryless_workers_have_a_geometric_law(workers: int) -> None:
    """B1: mean M - 1 within 1 %, P(0) = 1/M within 2 %, variance M (M - 1), chi-square not rejected."""
    staleness, _ = writes_of(workers, 200 * workers, replicas=400)
    law = staleness_law(staleness[:, 5 * workers :].ravel(), workers=workers, warm_up=0)
    assert law.mean == pytest.approx(law.mean_expected, rel=0.01)
    assert law.zero_share == pytest.approx(law.zero_share_expected, rel=0.02)
    assert law.variance_ratio == pytest.approx(1, abs=0.03)
    assert law.momentum == pytest.approx(1 - 1 / workers, abs=0.002)
    assert law.p_value > 0.01


@pytest.mark.parametrize("service", [normal(0.3), normal(0.1), fixed])
def test_the_mean_is_that_of_any_law_the_variance_is_not(service: Service) -> None:
    """B2: M - 1 within 1 % for compute times that are nearly equal; variance and chi-square tell."""
    staleness, _ = writes_of(8, 4000, service=service)
    law = staleness_law(staleness[0], workers=8)
    assert law.mean == pytest.approx(7, rel=0.01)
    assert law.variance_ratio < 0.25
    assert law.p_value < 1e-6


def test_the_chi_square_test_rejects_one_time_in_twenty() -> None:
    """Neighbouring writes are not independent: the p-values are uniform nearly all the same (400 runs)."""
    for workers in (2, 8):
        staleness, _ = writes_of(workers, 2000, replicas=400)
        p = np.array([staleness_law(tau, workers=workers).p_value for tau in staleness])
        assert 0.02 < (p < 0.05).mean() < 0.09
        assert abs(np.median(p) - 0.5) < 0.08


def test_laws_of_little() -> None:
    one = staleness_law(np.zeros(50), workers=1)
    assert (one.mean, one.momentum, one.zero_share) == (0, 0, 1)
    assert math.isnan(one.variance_ratio)
    assert math.isnan(one.p_value)
    with pytest.raises(ValueError, match="more than 20 writes are needed, the warm-up of 4 workers: got 20"):
        staleness_law(np.zeros(20), workers=4)
    with pytest.raises(ValueError, match="workers must be at least 1: got 0"):
        staleness_law(np.zeros(20), workers=0)


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_the_model_system_and_the_products_simulator_agree(workers: int) -> None:
    """async-sgd on `quadratic` with exponential compute times: the same staleness, by a two-sample chi-square test."""
    product = np.concatenate([recorded(workers, seed=seed, seconds=120.0)[1] for seed in range(3)])
    model, _ = writes_of(workers, 6000)
    cells = 3 * workers
    a, b = (np.bincount(np.minimum(x, cells), minlength=cells + 1) for x in (product, model[0, 5 * workers :]))
    scale = math.sqrt(b.sum() / a.sum())
    statistic = ((a * scale - b / scale) ** 2 / (a + b)).sum()
    assert chi2.sf(statistic, cells) > 0.01
    assert product.mean() == pytest.approx(workers - 1, rel=0.02)


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 8, 16)), 32])
def test_the_products_simulator_has_the_geometric_law(workers: int) -> None:
    """async-sgd with exponential compute times: mean M - 1 within 1 %, chi-square against p (1 - p)^l not rejected."""
    _, staleness = recorded(workers, seed=workers, seconds=20_000 / workers)
    law = staleness_law(staleness, workers=workers)
    assert len(staleness) > 19_000 and law.mean_expected == workers - 1
    assert law.mean == pytest.approx(law.mean_expected, rel=0.01)
    assert law.p_value > 0.01
    assert law.momentum == pytest.approx(1 - 1 / workers, abs=0.002)


# -- expected from speeds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("speeds", [[1.0, 1.0, 1.0], SPEEDS])
def test_each_workers_staleness_is_geometric_with_its_share(speeds: list[float]) -> None:
    """Mean (R - r) / r within 4 standard errors, chi-square against p (1 - p)^l, variance within 5 %; and over all."""
    staleness, writer = writes_of(len(speeds), 1000, mean_times=1 / np.array(speeds), replicas=200)
    staleness, writer = staleness[:, 200:].ravel(), writer[:, 200:].ravel()
    expected, laws = expected_staleness(speeds), memoryless_law(speeds, 40)
    for k, row in expected.iterrows():
        tau = staleness[writer == k]
        assert abs(tau.mean() - row["staleness_mean"]) < 4 * math.sqrt(row["staleness_variance"] / len(tau))
        assert tau.var() == pytest.approx(row["staleness_variance"], rel=0.05)
        assert (tau == 0).mean() == pytest.approx(row["zero_share"], rel=0.03)
        assert chi_square_p(np.bincount(tau, minlength=41), laws[int(str(k))]) > 0.005
    overall = overall_staleness(speeds)
    assert staleness.mean() == pytest.approx(overall.mean, rel=0.01)
    assert staleness.var() == pytest.approx(overall.variance, rel=0.05)


@pytest.mark.parametrize("service", [fixed, normal(0.3), exponential])
def test_the_mean_needs_no_memoryless_times(service: Service) -> None:
    """Counting alone: unequal workers with any compute times have (R - r) / r over a long run."""
    staleness, writer = writes_of(4, 6000, service=service, mean_times=1 / np.array(SPEEDS))
    for k, row in expected_staleness(SPEEDS).iterrows():
        found = staleness[0, 100:][writer[0, 100:] == k].mean()
        assert found == pytest.approx(row["staleness_mean"], rel=0.02 if service is fixed else 0.08)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=6))
def test_the_moments_of_the_laws_add_up(rates: list[float]) -> None:
    """Means and variances are those of the probabilities; over all gradients the mean is M - 1 for any speeds."""
    laws, tau = memoryless_law(rates, 9_000), np.arange(9_001)
    expected = expected_staleness(rates)
    np.testing.assert_allclose(laws @ tau, expected["staleness_mean"], rtol=1e-6, atol=1e-9)
    second = laws @ tau**2
    np.testing.assert_allclose(
        second - (laws @ tau) ** 2, expected["staleness_variance"], rtol=1e-6, atol=1e-7
    )  # fmt: skip
    overall, share = overall_staleness(rates), expected["share"].to_numpy()
    assert overall.mean == len(rates) - 1
    assert share @ laws @ tau == pytest.approx(overall.mean, rel=1e-6, abs=1e-9)
    assert share @ second - overall.mean**2 == pytest.approx(overall.variance, rel=1e-6, abs=1e-6)
    equal = len(rates) * (len(rates) - 1)
    assert overall.variance >= equal * (1 - 1e-9) - 1e-9


@pytest.mark.parametrize("rates", [[], [1.0, 0.0], [1.0, math.inf], [[1.0]]])
def test_rates_that_are_none_are_refused(rates: Any) -> None:
    with pytest.raises(ValueError, match="rates must be positive and finite, one per worker"):
        expected_staleness(rates)


# -- waiting in line for the server ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "between", "serve"), [(1, 1.0, 2.0), (4, 1.0, 0.2), (16, 3.0, 1.0), (256, 1.0, 0.01)]
)
def test_equal_workers_are_mean_value_analysis(workers: int, between: float, serve: float) -> None:
    """Reiser, Lavenberg: R(n) = S (1 + Q(n-1)), X(n) = n / (Z + R(n)), Q(n) = X(n) R(n)."""
    in_line = writes_per_s = 0.0
    for n in range(1, workers + 1):
        response = serve * (1 + in_line)
        writes_per_s = n / (between + response)
        in_line = writes_per_s * response
    found = throughput([between] * workers, serve)
    assert found.writes_per_s.sum() == pytest.approx(writes_per_s, rel=1e-12)
    assert found.at_server == pytest.approx(in_line, rel=1e-9)
    assert found.utilisation == pytest.approx(writes_per_s * serve, rel=1e-12)


def stationary_rates(between: list[float], serve: float) -> np.ndarray:
    """Writes per second by brute force: the Markov chain of all orders of workers in line."""
    workers = range(len(between))
    states = [line for m in range(len(between) + 1) for line in itertools.permutations(workers, m)]
    index = {line: i for i, line in enumerate(states)}
    rates = np.zeros((len(states), len(states)))
    for line, i in index.items():
        for k in set(workers) - set(line):
            rates[i, index[(*line, k)]] += 1 / between[k]
        if line:
            rates[i, index[line[1:]]] += 1 / serve
    balance = rates.T - np.diag(rates.sum(1))
    balance[-1] = 1.0
    probability = np.linalg.solve(balance, np.eye(len(states))[-1])
    return np.array([sum(probability[i] for line, i in index.items() if line[:1] == (k,)) / serve for k in workers])


@pytest.mark.parametrize(("between", "serve"), [([1.0, 2.0], 0.7), ([0.5, 1.0, 2.0, 4.0], 0.3), ([0.1, 5.0, 5.0], 2.0)])
def test_unequal_workers_are_the_markov_chain(between: list[float], serve: float) -> None:
    np.testing.assert_allclose(throughput(between, serve).writes_per_s, stationary_rates(between, serve), rtol=1e-10)


def test_limits_of_the_line() -> None:
    """No serving time: nobody waits. A saturated server: 1 / S in all. More workers never write less."""
    assert throughput([2.0, 4.0], 0.0).writes_per_s.tolist() == [0.5, 0.25]
    assert throughput([1.0] * 64, 1.0).writes_per_s.sum() == pytest.approx(1, abs=1e-12)
    assert np.isfinite(throughput([1e-3] * 1000, 1.0).writes_per_s).all()
    totals = [throughput([1.0] * n, 0.1).writes_per_s.sum() for n in range(1, 40)]
    assert (np.diff(totals) > 0).all()
    assert totals[-1] < 1 / 0.1
    with pytest.raises(ValueError, match="between_s must be positive"):
        throughput([1.0, 0.0], 0.1)
    with pytest.raises(ValueError, match="serve_s must be at least 0 seconds: got -1"):
        throughput([1.0], -1.0)
    with pytest.raises(ValueError, match="serve_s must be at least 0 seconds: got nan"):
        queueing_law(workers=2, between_s=1.0, serve_s=math.nan, longest=3)


def served(
    between: list[float], serve: float, writes: int, *, memoryless: bool = True
) -> tuple[np.ndarray, np.ndarray, float]:
    """Staleness, writer and end of a line in front of a memoryless server, one event after the other."""
    rng = np.random.default_rng(7)

    def think(k: int) -> float:
        return between[k] * (rng.exponential() if memoryless else rng.uniform(0.5, 1.5))

    messages = [(think(k), k) for k in range(len(between))]
    heapq.heapify(messages)
    free, read, staleness, writer = 0.0, [0] * len(between), [], []
    for t in range(writes):
        at, k = heapq.heappop(messages)
        free = max(at, free) + rng.exponential(serve)
        staleness.append(t - read[k])
        writer.append(k)
        read[k] = t + 1
        heapq.heappush(messages, (free + think(k), k))
    return np.array(staleness), np.array(writer), free


@pytest.mark.parametrize("memoryless", [True, False])
def test_unequal_workers_in_line_by_simulation(memoryless: bool) -> None:
    """Rates within 2 %, also for compute times that are not memoryless; each one's mean staleness from its rate."""
    between, serve = [0.5, 1.0, 2.0, 4.0], 0.3
    staleness, writer, end = served(between, serve, 60_000, memoryless=memoryless)
    rates = throughput(between, serve).writes_per_s
    np.testing.assert_allclose(np.bincount(writer) / end, rates, rtol=0.02)
    measured = [staleness[writer == k].mean() for k in range(4)]
    np.testing.assert_allclose(measured, expected_staleness(rates)["staleness_mean"], rtol=0.03)


@pytest.mark.parametrize(("workers", "serve"), [(2, 0.5), (4, 0.3), (8, 0.02), (8, 1.0)])
def test_the_law_of_staleness_in_a_line(workers: int, serve: float) -> None:
    """Mean M - 1 to 1e-9, all probability there; a simulation is not told from it (its writes are not independent)."""
    law = queueing_law(workers=workers, between_s=1.0, serve_s=serve, longest=400)
    assert law.sum() == pytest.approx(1, abs=1e-9)
    assert law @ np.arange(401) == pytest.approx(workers - 1, abs=1e-9)
    staleness, _, _ = served([1.0] * workers, serve, 40_000)
    observed = np.bincount(staleness[200:], minlength=401) / len(staleness[200:])
    assert np.abs(np.cumsum(observed)[:401] - np.cumsum(law)).max() < 0.01


def test_a_line_makes_staleness_less_spread() -> None:
    """Geometric without serving time, the narrower the busier the server."""

    def variance(serve: float) -> float:
        law = queueing_law(workers=8, between_s=1.0, serve_s=serve, longest=600)
        return float(law @ (np.arange(601) - 7.0) ** 2)

    np.testing.assert_allclose(
        queueing_law(workers=8, between_s=1.0, serve_s=1e-9, longest=50),
        queueing_law(workers=8, between_s=1.0, serve_s=0.0, longest=50),
        atol=1e-7,
    )
    variances = [variance(serve) for serve in (1e-6, 0.05, 0.2, 1.0, 100.0)]
    assert variances[0] == pytest.approx(56, rel=1e-3)
    assert (np.diff(variances) < 0).all()
    assert variances[-1] < 0.1


# -- what a run recorded -----------------------------------------------------------------------------------------------


def table(simulation: Simulation, run_id: str = "a") -> pd.DataFrame:
    """The events of a simulation as `bench.records.load` gives them."""
    names = [column.name for column in EVENTS.columns][2:]
    parts = []
    for handle in simulation.handles:
        part = pd.DataFrame(handle.recorder.rows(), columns=names)
        part.insert(0, "rank", handle.rank)
        part.insert(0, "run_id", run_id)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def recorded(
    workers: int, *, seed: int = 0, seconds: float = 200.0, compute: Compute | None = None, run_id: str = "a",
    algorithm: str = "async-sgd", **settings: Any,
) -> tuple[pd.DataFrame, np.ndarray]:  # fmt: skip
    """Events of a simulated run, and the staleness of its writes after the warm-up."""
    simulation = Simulation(
        make(algorithm, **settings), workload(workers, dimension=4), workers=workers, seed=seed,
        compute=compute or Compute(gradient_s=1.0, distribution="exponential"), network=FREE,
    )  # fmt: skip
    simulation.run(Budget(seconds=seconds, snapshots=1))
    events = table(simulation, run_id)
    applied = events[(events["kind"] == "apply") & (events["rank"] == workers)]["staleness_updates"]
    return events, applied.to_numpy()[5 * workers :]


def runs_table(workers: int, *run_ids: str) -> pd.DataFrame:
    facts = {"study": "s", "workload": "quadratic", "transport": "simulated", "label": "async-sgd"}
    return pd.DataFrame({"run_id": list(run_ids), "workers": workers, "status": "completed", **facts})


def test_writes_are_ascribed_to_who_made_them() -> None:
    """Constant times 1, 2 and 5: worker k writes at the multiples of its time, and at no others."""
    compute = Compute(gradient_s=1.0, slow={"1": 2.0, "2": 5.0})
    events, _ = recorded(3, compute=compute, seconds=40.0)
    writes = center_writes(events, runs_table(3, "a"))
    assert len(writes) == (events["kind"].eq("apply")).sum()
    for worker, period in enumerate((1.0, 2.0, 5.0)):
        times = writes.loc[writes["worker"] == worker, "t_s"].to_numpy()
        np.testing.assert_allclose(times, period * np.arange(1, len(times) + 1), rtol=1e-12)
    # What is recorded is what counting the others' writes gives.
    for t, (worker, staleness) in enumerate(zip(writes["worker"], writes["staleness_updates"], strict=True)):
        earlier = np.flatnonzero(writes["worker"].to_numpy()[:t] == worker)
        assert staleness == t - (earlier[-1] + 1 if len(earlier) else 0)


def test_a_write_whose_message_is_missing_is_nobodys_and_parts_may_come_in_any_order() -> None:
    """A torn file: its last write must not go to a worker of the next run. Parts read as 0, 10, 2 are put in order."""
    events, _ = recorded(3, seconds=30.0)
    server = events[events["rank"] == 3]
    torn = server.iloc[: int(np.flatnonzero(server["kind"] == "apply")[-1]) + 1].assign(run_id="torn")
    both = center_writes(pd.concat([torn, events]), runs_table(3, "torn", "a"))
    whole = both[both["run_id"] == "a"].drop(columns="run_id").reset_index(drop=True)
    rest = both[both["run_id"] == "torn"].drop(columns="run_id").reset_index(drop=True)
    assert len(rest) == len(whole) - 1
    pd.testing.assert_frame_equal(rest, whole.iloc[:-1])
    starts = np.flatnonzero(server["kind"] == "apply")[[0, 20, 50]]
    first, second, third = (server.iloc[a:b] for a, b in itertools.pairwise([*starts, len(server)]))
    mixed = center_writes(pd.concat([first, third, second]), runs_table(3, "a"))
    pd.testing.assert_frame_equal(mixed.drop(columns="run_id"), whole)


def test_staleness_by_worker_against_its_speed() -> None:
    """Speeds 1, 1/2, 1/4, memoryless: measured mean = from the share (but for the ends) = from the compute times."""
    compute = Compute(gradient_s=1.0, distribution="exponential", slow={"1": 2.0, "2": 4.0})
    events, _ = recorded(3, compute=compute, seconds=1500.0)
    found = staleness_by_worker(events, runs_table(3, "a"))
    assert found["worker"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["staleness_mean"], found["staleness_by_share"], rtol=0.02)
    known = expected_staleness([1.0, 0.5, 0.25])
    error = np.sqrt(known["staleness_variance"] / found["gradients"])
    assert ((found["staleness_mean"] - known["staleness_mean"]).abs() < 4 * error).all()
    np.testing.assert_allclose(found["staleness_by_compute"], known["staleness_mean"], rtol=0.15)
    np.testing.assert_allclose(found["staleness_variance"], found["variance_memoryless"], rtol=0.3)
    np.testing.assert_allclose(found["zero_share"], found["zero_share_memoryless"], atol=0.05)
    np.testing.assert_allclose(found["compute_s"], [1.0, 2.0, 4.0], rtol=0.1)


def test_groups_shards_and_runs_without_a_server() -> None:
    """Of a group its first worker writes; each shard has rows of its own; gossip has none; strings as categories."""
    groups = recorded(4, group_size=2, run_id="groups")[0]
    shards = recorded(4, servers=2, run_id="shards")[0]
    gossip = recorded(4, algorithm="ad-psgd", run_id="gossip")[0]
    events = pd.concat([groups, shards, gossip], ignore_index=True)
    runs = runs_table(4, "groups", "shards", "gossip")
    found = staleness_by_worker(events.astype({"run_id": "category", "kind": "category"}), runs)
    keys = found[["run_id", "server", "worker"]].astype(object).apply(tuple, axis=1).tolist()
    assert keys == [("groups", 4, 0), ("groups", 4, 2)] + [("shards", s, w) for s in (4, 5) for w in range(4)]
    assert found.loc[found["run_id"] == "groups", "staleness_by_compute"].isna().all()
    assert found.loc[found["run_id"] == "shards", "staleness_by_compute"].notna().all()
    assert staleness_by_worker(gossip, runs_table(4, "gossip")).empty
    assert implicit_momentum(gossip, runs_table(4, "gossip")).empty


def test_implicit_momentum_of_recorded_runs() -> None:
    """Three seeds of four workers: 1 - 1/M with an interval; in turn the same momentum, but no geometric law."""
    events = pd.concat([recorded(4, seed=seed, run_id=f"r{seed}")[0] for seed in range(3)], ignore_index=True)
    runs = runs_table(4, "r0", "r1", "r2")
    row = implicit_momentum(events, runs).iloc[0]
    assert row["momentum"] == pytest.approx(0.75, abs=0.01)
    assert row["momentum_expected"] == 0.75
    assert row["low"] <= row["momentum"] <= row["high"]
    assert row["n"] == 3
    assert row["variance_ratio"] == pytest.approx(1, abs=0.15)
    in_turn, _ = recorded(4, compute=Compute(gradient_s=1.0))
    constant = implicit_momentum(in_turn, runs_table(4, "a")).iloc[0]
    assert constant["momentum"] == pytest.approx(0.75, abs=1e-12)
    assert constant["variance_ratio"] == 0
    crashed = runs.assign(status=["completed", "crashed", "completed"])
    assert implicit_momentum(events, crashed).iloc[0]["n"] == 2
