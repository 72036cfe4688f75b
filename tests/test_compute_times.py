"""Compute times, stragglers, pauses and absences of the simulator: laws, and the same for every algorithm."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from algorithms.interface import Algorithm, Message, Need, Worker
from bench.budget import Budget
from bench.cluster import Absence, Compute, Network, Outages, Pause, Stragglers
from bench.cluster.compute import BLOCK
from bench.settings import StudyError, build
from bench.simulate import Simulation
from tests.algorithms.support import make, quadratic
from tests.test_cluster import draws, exactly, rows

FREE = Network(latency_s=0.0, bandwidth_Gbit_per_s=math.inf)
DRAWS = 20_000


def gradients_s(simulation: Simulation, rank: int) -> list[float]:
    """How long each gradient of a worker took."""
    return [r["t1_s"] - r["t0_s"] for r in rows(simulation, "gradient") if r["rank"] == rank]


def simulate(
    algorithm: Algorithm, compute: Compute, *, workers: int = 4, seconds: float = 3.0, **kw: Any
) -> Simulation:
    settings = {"seed": 5, "network": FREE, **kw}
    return Simulation(algorithm, quadratic(workers), workers=workers, compute=compute, **settings).run(
        Budget(seconds=seconds)
    )


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Five times."""
    file = tmp_path / "times.txt"
    file.write_text("# measured\n0.010\n\n0.020  # slow\n3e-2\n.04\n0.05\n")
    return str(file)


# -- distributions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.9])
def test_shifted_exponential_times_have_their_least_mean_and_deviation(shift: float) -> None:
    found = draws(Compute(gradient_s=0.3, distribution="shifted-exponential", shift=shift))
    random_s = 0.3 * (1 - shift)
    assert 0.3 * shift < found.min() < 0.3 * shift + 20 * random_s / DRAWS  # passed once in e^20 seeds
    assert abs(found.mean() - 0.3) < 5 * random_s / math.sqrt(DRAWS)
    assert abs(found.std() - random_s) < 5 * random_s * math.sqrt(2 / DRAWS)


def test_without_shift_it_is_the_exponential_itself() -> None:
    shifted = Compute(gradient_s=0.3, distribution="shifted-exponential")
    assert (draws(shifted, count=99) == draws(Compute(gradient_s=0.3, distribution="exponential"), count=99)).all()


def test_a_trace_is_resampled(trace: str) -> None:
    found = draws(Compute(distribution="trace", trace=trace))
    times, counts = np.unique(found, return_counts=True)
    assert times.tolist() == [0.01, 0.02, 0.03, 0.04, 0.05]
    chi2 = float(((counts - DRAWS / 5) ** 2 / (DRAWS / 5)).sum())
    assert chi2 < 23.5  # 4 degrees of freedom, p = 1e-4
    assert (draws(Compute(distribution="trace", trace=trace, slow={"0": 3.0})) == 3.0 * found).all()


def test_a_trace_is_replayed_round_and_round_from_places_of_the_seeds_choice(trace: str) -> None:
    model = Compute(distribution="trace", trace=trace, trace_order="replay")
    whole = [0.01, 0.02, 0.03, 0.04, 0.05]
    begins = set()
    for rank in range(20):
        found = draws(model, rank=rank, count=3 * BLOCK + 1).tolist()
        begin = whole.index(found[0])
        begins.add(begin)
        assert found == [whole[(begin + k) % 5] for k in range(len(found))]
    assert begins == set(range(5))  # workers do not march in step


def test_a_trace_is_known_by_its_times(trace: str, tmp_path: Path) -> None:
    digest = Compute(distribution="trace", trace=trace).trace_sha256
    assert digest == hashlib.sha256(np.array([0.01, 0.02, 0.03, 0.04, 0.05]).tobytes()).hexdigest()[:16]
    Compute(distribution="trace", trace=trace, trace_sha256=digest)
    Path(trace).write_text("0.011\n")
    with pytest.raises(ValueError, match="is not the trace that was meant: its trace_sha256 is"):
        Compute(distribution="trace", trace=trace, trace_sha256=digest)


def models(trace: str) -> list[Compute]:
    chance = Stragglers(probability=0.3, factor=10.0)
    return [
        Compute(gradient_s=0.03),
        Compute(gradient_s=0.03, distribution="lognormal", sigma=0.4, stragglers=chance),
        Compute(gradient_s=0.03, distribution="shifted-exponential", shift=0.5, slow={"1": 2.0}),
        Compute(distribution="trace", trace=trace, stragglers=chance),
        Compute(distribution="trace", trace=trace, trace_order="replay"),
        Compute(gradient_s=0.03, stragglers=Stragglers(probability=0.5, factor=4.0, kind="persistent")),
    ]


@pytest.mark.parametrize("number", range(6))
def test_the_kth_gradient_of_a_worker_takes_the_same_time_in_every_algorithm(number: int, trace: str) -> None:
    compute = models(trace)[number]
    for name in ("allreduce-sgd", "ad-psgd", "easgd"):
        simulation = simulate(make(name), compute, seconds=2.0)
        for rank in range(4):
            took = gradients_s(simulation, rank)
            assert len(took) >= 5
            expected = draws(compute, seed=5, rank=rank, count=len(took))
            assert took == pytest.approx(expected, rel=1e-9, abs=1e-12), name


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("drawn", [0, 1, BLOCK - 1, BLOCK, 3 * BLOCK + 5])
def test_times_go_on_where_they_stood(number: int, drawn: int, trace: str) -> None:
    model = models(trace)[number]
    times = model.times(5, 2)
    for _ in range(drawn):
        times.next()
    resumed = model.times(5, 2)
    resumed.seek(times.drawn)
    assert resumed.drawn == drawn
    assert [times.next() for _ in range(2 * BLOCK)] == [resumed.next() for _ in range(2 * BLOCK)]


# -- stragglers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_steps_is_slower_by_the_factor(probability: float) -> None:
    plain = Compute(gradient_s=0.3, distribution="lognormal", sigma=0.5)
    slowed = Compute(**{**vars(plain), "stragglers": Stragglers(probability=probability, factor=10.0)})
    ratio = draws(slowed) / draws(plain)  # the same times, whoever is slow
    assert set(ratio.round(9)) <= {1.0, 10.0}
    share = float((ratio > 5).mean())
    assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / DRAWS)
    if 0 < probability < 1:
        slow = ratio > 5  # and a slow step says nothing about the next one
        correlation = float(np.corrcoef(slow[1:], slow[:-1])[0, 1])
        assert abs(correlation) < 5 / math.sqrt(DRAWS)


@pytest.mark.parametrize("kind", ["per-step", "persistent"])
def test_who_is_slow_is_independent_of_the_time_it_would_take(kind: Any) -> None:
    """Over workers, whose first numbers would agree if both came from one stream."""
    plain = Compute(gradient_s=1.0, distribution="exponential")
    slowed = Compute(**{**vars(plain), "stragglers": Stragglers(probability=0.5, factor=10.0, kind=kind)})
    times = np.array([plain.times(0, rank).next() for rank in range(2000)])
    slow = np.array([slowed.times(0, rank).next() for rank in range(2000)]) > 5 * times
    assert abs(slow.mean() - 0.5) < 5 * 0.5 / math.sqrt(2000)
    assert abs(float(np.corrcoef(slow, times)[0, 1])) < 5 / math.sqrt(2000)


def test_persistent_stragglers_are_drawn_by_seed_and_stay() -> None:
    def slow(probability: float, seed: int, count: int = 3) -> list[bool]:
        stragglers = Stragglers(probability=probability, factor=6.0, kind="persistent")
        found = [
            draws(Compute(gradient_s=0.5, stragglers=stragglers), seed=seed, rank=r, count=count) for r in range(400)
        ]
        assert all(len(set(times)) == 1 and times[0] in (0.5, 3.0) for times in found)
        return [bool(times[0] > 1) for times in found]

    few, many = slow(0.2, seed=1), slow(0.5, seed=1)
    assert abs(sum(few) - 80) < 5 * 8 and abs(sum(many) - 200) < 5 * 10  # deviations 8 and 10
    assert all(b for a, b in zip(few, many, strict=True) if a)  # with more, those who were slow are slow
    assert few != slow(0.2, seed=2)
    assert sum(slow(0.0, 1)) == 0 and all(slow(1.0, 1))


@pytest.mark.parametrize("factor", [2.0, 10.0])
def test_a_persistent_straggler_holds_up_whom_it_should(factor: float) -> None:
    """Throughput of ad-psgd (n - 1 + 1/s) / n, of allreduce-sgd 1/s, within 2 %."""
    stragglers = Stragglers(probability=0.2, factor=factor, kind="persistent")
    compute, n = Compute(gradient_s=0.01, stragglers=stragglers), 8
    seed = next(s for s in range(100) if sum(compute.times(s, r).next() > 0.011 for r in range(n)) == 1)

    def throughput(name: str) -> float:
        simulation = simulate(make(name), compute, workers=n, seconds=5.0, seed=seed)
        return sum(h.state.step for h in simulation.workers) / (5.0 / 0.01 * n)

    assert throughput("ad-psgd") == pytest.approx((n - 1 + 1 / factor) / n, rel=0.02)
    assert throughput("allreduce-sgd") == pytest.approx(1 / factor, rel=0.02)


# -- pauses and absences ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("windows", "start_s", "work_s", "end_s"),
    [
        ([(2, 5, False)], 0, 2, 2),  # done just before
        ([(2, 5, False)], 0, 3, 6),  # goes on afterwards
        ([(2, 5, True)], 0, 3, 8),  # begins anew
        ([(2, 5, True)], 0, 2, 2),
        ([(2, 5, False)], 3, 1, 6),  # begins afterwards
        ([(2, 5, True)], 2, 1, 6),
        ([(2, 5, False)], 5, 1, 6),  # is over
        ([(2, 3, False), (4, 7, False)], 1, 3, 8),
        ([(2, 3, True), (4, 7, False)], 1, 3, 9),  # lost, then 1 s before and 2 s behind the pause
        ([(2, 3, False), (4, 7, True)], 1, 3, 10),
    ],
)
def test_computing_stops_meanwhile(
    windows: list[tuple[float, float, bool]], start_s: float, work_s: float, end_s: float
) -> None:
    assert Outages(reversed(windows)).finish(start_s, work_s) == end_s


@given(
    st.lists(st.tuples(st.floats(0.01, 3), st.floats(0.01, 3)), max_size=6), st.floats(0, 9), st.floats(0, 9),
    st.floats(0, 9),
)  # fmt: skip
def test_a_pause_only_delays(gaps: list[tuple[float, float]], start_s: float, first_s: float, then_s: float) -> None:
    windows, t = [], 0.0
    for gap_s, for_s in gaps:
        windows.append((t + gap_s, t + gap_s + for_s, False))
        t += gap_s + for_s
    outages = Outages(windows)
    end_s = outages.finish(start_s, first_s)
    paused_s = sum(max(min(b, end_s) - max(a, start_s), 0.0) for a, b, _ in windows)
    assert end_s - start_s == pytest.approx(first_s + paused_s, abs=1e-9)
    assert outages.finish(end_s, then_s) == pytest.approx(outages.finish(start_s, first_s + then_s), abs=1e-9)


def test_a_paused_worker_finishes_its_gradient_later_and_the_others_wait_only_in_lock_step() -> None:
    compute = Compute(gradient_s=1.0, pause=(Pause(worker=1, at_s=2.5, for_s=10.0),))
    lockstep = Simulation(make("allreduce-sgd"), quadratic(4), workers=4, seed=0, network=FREE, compute=compute).run(
        Budget(steps=10)
    )
    for rank in range(4):
        third = 11.0 if rank == 1 else 1.0
        assert gradients_s(lockstep, rank)[:4] == [1.0, 1.0, third, 1.0]
        assert lockstep.workers[rank].ended_s == 20.0
    free = simulate(make("ad-psgd"), compute, seconds=20.0)
    assert [h.state.step for h in free.workers] == [20, 10, 20, 20]


@dataclass(frozen=True, kw_only=True)
class Two(Algorithm):
    """Asks for two gradients at once."""

    needs: ClassVar[frozenset[Need]] = frozenset()

    async def worker(self, w: Worker) -> None:
        first, second = w.start(w.gradient(w.replica())), w.start(w.gradient(w.replica()))
        await first
        await second


def test_a_gradient_waits_for_one_that_was_held_up() -> None:
    compute = Compute(gradient_s=1.0, pause=(Pause(worker=0, at_s=0.5, for_s=3.0),))
    simulation = simulate(Two(), compute, workers=1)
    assert [(r["t0_s"], r["t1_s"]) for r in rows(simulation, "gradient")] == [(0.0, 4.0), (4.0, 5.0)]


@dataclass(frozen=True, kw_only=True)
class Ping(Algorithm):
    """Worker 0 asks worker 1 at times 1, 2, 3, ...; worker 1 computes and answers with how often it was asked."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point", "collectives"})
    questions: int

    async def worker(self, w: Worker) -> None:
        asked = torch.zeros(1)

        def reply(message: Message) -> torch.Tensor:
            asked.add_(1)
            return torch.cat([asked, message.data])

        w.serve("ping", reply)
        for k in range(self.questions):
            await w.gradient(w.replica())
            if w.rank == 0:
                answer = w.request(1, "ping", torch.full((1,), float(k)))
                w.start(answer)


def ping(compute: Compute) -> list[tuple[float, int]]:
    """(time, question) of worker 1's answers."""
    simulation = simulate(Ping(questions=6), compute, workers=2)
    return [(r["t0_s"], k) for k, r in enumerate(rows(simulation, "serve"))]


def test_what_arrives_at_a_dead_worker_waits_for_its_return_and_at_a_paused_one_does_not() -> None:
    dead = Compute(gradient_s=1.0, absent=(Absence(worker=1, from_s=1.5, to_s=4.5),))
    assert ping(dead) == [(1.0, 0), (4.5, 1), (4.5, 2), (4.5, 3), (5.0, 4), (6.0, 5)]
    paused = Compute(gradient_s=1.0, pause=(Pause(worker=1, at_s=1.5, for_s=3.0),))
    assert ping(paused) == [(float(k + 1), k) for k in range(6)]


@pytest.mark.parametrize("shuffle", range(5))
def test_order_survives_an_absence(shuffle: int) -> None:
    dead = Compute(gradient_s=1.0, absent=(Absence(worker=1, from_s=1.5, to_s=5.0),))  # as the next question comes
    simulation = simulate(Ping(questions=6), dead, workers=2, shuffle=shuffle)
    answers = [r for r in rows(simulation, "recv") if r["rank"] == 0]
    assert [r["t1_s"] for r in answers] == [1.0, 5.0, 5.0, 5.0, 5.0, 6.0]


def test_a_dead_worker_computes_its_lost_gradient_anew() -> None:
    compute = Compute(gradient_s=1.0, absent=(Absence(worker=1, from_s=2.5, to_s=12.5),))
    free = simulate(make("ad-psgd"), compute, seconds=20.0)
    assert gradients_s(free, 1)[:4] == [1.0, 1.0, 11.5 - 0.0, 1.0]  # half a second lost, 10 dead, then one whole
    assert free.workers[1].state.step == 10  # at 1, 2, 13.5, 14.5, ..., 20.5


def test_an_allreduce_stands_still_while_a_member_is_dead() -> None:
    # Joined at 1 s it would take 2 (1 s + 1 s); its member is dead from 2 s to 7 s.
    network = Network(latency_s=1.0, bandwidth_Gbit_per_s=12 * 8 / 2 * 8 / 1e9)
    compute = Compute(gradient_s=1.0, absent=(Absence(worker=1, from_s=2.0, to_s=7.0),))
    simulation = simulate(make("allreduce-sgd"), compute, workers=2, seconds=5.0, network=network)
    assert [(r["t0_s"], r["t1_s"]) for r in rows(simulation, "allreduce")][:1] == [(1.0, exactly(10.0))]


@pytest.mark.parametrize("name", ["allreduce-sgd", "d-psgd", "ad-psgd", "easgd", "diloco", "async-sgd", "dsgd-aau"])
def test_every_kind_of_algorithm_survives_a_worker_that_dies_and_returns(name: str) -> None:
    compute = Compute(gradient_s=0.1, absent=(Absence(worker=2, from_s=1.23, to_s=2.34),))
    network = Network(latency_s=1e-3, bandwidth_Gbit_per_s=1e-3)
    simulation = simulate(make(name), compute, seconds=5.0, network=network)
    for handle in simulation.workers:
        assert handle.state.step >= 20  # of 50, of which it was dead for 11
        assert torch.isfinite(handle.replica().data).all()


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"distribution": "gamma"}, "compute.distribution: got 'gamma', allowed: 'constant', 'lognormal'"),
        ({"shift": 0.5}, 'shift must lie in 0..1 and needs distribution = "shifted-exponential": got 0.5'),
        ({"distribution": "shifted-exponential", "shift": 1.0}, "shift must lie in 0..1"),
        ({"trace": "x"}, "trace needs distribution = \"trace\": got 'constant'"),
        ({"trace_order": "replay"}, "trace_order needs distribution"),
        (
            {"distribution": "trace"},
            "needs trace, a file with a gradient time [s] a line, or times_s, the times: got none",
        ),
        ({"distribution": "trace", "trace": "/nowhere/t.txt"}, "cannot read trace /nowhere/t.txt: No such file"),
        ({"stragglers": {"probability": 1.5, "factor": 2.0}}, "stragglers: probability must lie in 0..1: got 1.5"),
        ({"stragglers": {"probability": 0.5, "factor": 0.5}}, "factor must be finite and >= 1"),
        ({"stragglers": {"probability": 0.5}}, "compute.stragglers: missing key 'factor'"),
        ({"stragglers": {"probability": 0.5, "factor": 2, "kind": "per step"}}, "allowed: 'per-step', 'persistent'"),
        ({"pause": [{"worker": 0, "at_s": 1.0, "for_s": 0.0}]}, "compute.pause[0]: a pause needs finite at_s"),
        ({"pause": [{"worker": -1, "at_s": 1.0, "for_s": 1.0}]}, "worker must be 0 or more: got -1"),
        ({"absent": [{"worker": 0, "from_s": 3.0, "to_s": 3.0}]}, "an absence needs 0 <= from_s < to_s"),
        ({"absent": [{"worker": 0, "from_s": 3.0, "to_s": math.inf}]}, "an absence needs 0 <= from_s < to_s"),
        (
            {"pause": [{"worker": 0, "at_s": 1, "for_s": 9}], "absent": [{"worker": 0, "from_s": 3, "to_s": 4}]},
            "pause and absent of worker 0 overlap: one begins at 3.0 s, before the other ends at 10.0 s",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(table: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as error:
        build(Compute, table, "compute")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no times: got 0 lines"),
        ("# none\n\n", "has no times: got 2 lines"),
        ("0.1\nfast\n", "line 2: expected a time > 0 in seconds, got 'fast'"),
        ("0.1\n0\n", "line 2: expected a time > 0 in seconds, got '0'"),
        ("-1e-3\n", "line 1: expected a time > 0"),
        ("nan\n", "line 1: expected a time > 0"),
        ("0.1 0.2\n", "line 1: expected a time > 0 in seconds, got '0.1 0.2'"),
    ],
)
def test_a_bad_trace_is_one_line(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.txt"
    file.write_text(text)
    with pytest.raises(StudyError) as error:
        build(Compute, {"distribution": "trace", "trace": str(file)}, "compute")
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_trace_says_how_long_a_gradient_takes(trace: str) -> None:
    with pytest.raises(ValueError, match="gradient_s and trace both say"):
        Compute(distribution="trace", trace=trace, gradient_s=0.5)


@pytest.mark.parametrize(
    "compute",
    [
        Compute(pause=(Pause(worker=4, at_s=1.0, for_s=1.0),)),
        Compute(absent=(Absence(worker=4, from_s=1.0, to_s=2.0),)),
    ],
)
def test_a_worker_that_does_not_exist_is_refused(compute: Compute) -> None:
    with pytest.raises(ValueError, match=r"(pause|absent) names worker 4: allowed are 0\.\.3"):
        simulate(make("ad-psgd"), compute)
