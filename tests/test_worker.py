"""The handle: staleness is what the schedule says, state survives the end of a segment, same seed means same events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from algorithms.interface import Algorithm, Message, Need, Worker
from algorithms.optim import OptimizerSettings
from algorithms.replica import Gradient
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.kernel import Stuck, TaskFailed
from bench.simulate import Simulation
from bench.worker import RankHandle
from tests.algorithms.support import make, quadratic, replicas

FREE_NETWORK = Network(latency_s=0.0, bandwidth_Gbit_per_s=float("inf"))
SLOW_NETWORK = Network(latency_s=0.03, bandwidth_Gbit_per_s=1e-5)
UNEQUAL = Compute(gradient_s=0.1, distribution="lognormal", sigma=0.5, slow={"1": 3.0})
COLLECTIVES: frozenset[Need] = frozenset({"collectives"})
MESSAGES: frozenset[Need] = frozenset({"point-to-point"})


def simulation(algorithm: Algorithm, workers: int = 4, **settings: Any) -> Simulation:
    return Simulation(algorithm, quadratic(workers), workers=workers, **({"seed": 3} | settings))


def events(handle: RankHandle, *kinds: str) -> list[dict[str, Any]]:
    names = ("kind", "step", "t0_s", "t1_s", "nbytes", "wire_nbytes", "peer", "label", "read", "applied", "staleness")
    rows = [dict(zip(names, row, strict=False)) for row in handle.recorder.rows()]
    return [row for row in rows if not kinds or row["kind"] in kinds]


def staleness(handle: RankHandle) -> list[int]:
    return [row["staleness"] for row in events(handle, "apply")]


# -- staleness --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pipelined(Algorithm):
    """A gradient is applied `delay` steps after it was asked for."""

    needs: ClassVar[frozenset[Need]] = COLLECTIVES
    lockstep: ClassVar[bool] = True
    delay: int

    async def worker(self, w: Worker) -> None:
        x, opt = w.replica(), w.optimizer(self.optimizer)
        under_way: list[Awaitable[Gradient]] = []
        async for _ in w.steps():
            under_way.append(w.start(w.gradient(x)))
            if len(under_way) > self.delay:
                x.apply_(await under_way.pop(0), opt)


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_a_gradient_that_waits_d_steps_is_d_updates_old(delay: int) -> None:
    run = simulation(Pipelined(delay=delay), 2, compute=UNEQUAL).run(Budget(steps=12))
    for handle in run.workers:
        # The first `delay` gradients are read before any is applied; after that each waits for `delay` others.
        assert staleness(handle) == [min(k, delay) for k in range(12 - delay)]
        assert [row["applied"] for row in events(handle, "apply")] == list(range(12 - delay))


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("allreduce-sgd", {}, lambda t: 0),
        ("local-sgd", {"period": 3}, lambda t: 0),
        ("d-psgd", {"order": "atc"}, lambda t: 0),
        ("d-psgd", {"order": "cta"}, lambda t: 1),  # the averaging, while the gradient is computed
        ("easgd", {"period": 3}, lambda t: int((t - 1) % 3 == 0)),  # the elastic move
    ],
)
def test_staleness_of_an_algorithm_is_what_its_pseudocode_says(
    name: str, settings: dict[str, Any], expected: Callable[[int], int]
) -> None:
    run = simulation(make(name, **settings), compute=UNEQUAL, network=SLOW_NETWORK).run(Budget(seconds=4.0))
    for handle in run.workers:
        assert len(staleness(handle)) >= 5
        assert staleness(handle) == [expected(t) for t in range(1, handle.state.step + 1)]


def test_a_passive_worker_is_as_stale_as_it_was_asked_during_its_gradient() -> None:
    # In hundredths of a second, with 1 of latency and nothing for bytes: the active worker (1) computes 25 and waits 2
    # for its answer, so it asks at 26 + 27 m; the passive one's (0) k-th gradient spans 122 (k - 1) to 122 k. No two of
    # these events fall together.
    compute = Compute(gradient_s=1.22, slow={"1": 0.25 / 1.22})
    network = Network(latency_s=0.01, bandwidth_Gbit_per_s=float("inf"))
    run = simulation(make("ad-psgd"), 2, compute=compute, network=network).run(Budget(seconds=8.5))
    passive, active = run.workers

    def asked_before(hundredths: int) -> int:
        return max(0, -((26 - hundredths) // 27))

    assert staleness(passive) == [asked_before(122 * k) - asked_before(122 * (k - 1)) for k in range(1, 8)]
    assert set(staleness(passive)) == {4, 5}
    assert set(staleness(active)) == {1}  # its own averaging, between reading and applying


@pytest.mark.parametrize("shuffle", [None, 0, 1])
def test_staleness_is_the_number_of_writes_between_read_and_apply(shuffle: int | None) -> None:
    run = simulation(make("ad-psgd"), 4, compute=UNEQUAL, network=SLOW_NETWORK, shuffle=shuffle).run(Budget(seconds=6))
    for handle in run.workers:
        writes, read_at = 0, {}
        for row in events(handle):
            # Writes to a passive worker: answers and gradients. To an active one: its averaging and its gradients.
            if row["kind"] == "apply":
                assert row["applied"] == writes + (handle.rank % 2)
                assert row["staleness"] == row["applied"] - row["read"]
                writes = row["applied"] + 1
            elif row["kind"] == "serve":
                writes += 1
            elif row["kind"] == "gradient":
                read_at[row["step"]] = row["read"]
        assert [row["read"] for row in events(handle, "apply")] == [read_at[t] for t in sorted(read_at)]
        assert writes == handle.replica().version


# -- segments (rule 9) ------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    OptimizerSettings(name="momentum", lr=0.05),
    OptimizerSettings(name="adamw", lr=0.01, weight_decay=0.1),
]


def same_state(one: Simulation, other: Simulation) -> None:
    assert torch.equal(replicas(one), replicas(other))
    for a, b in zip(one.handles, other.handles, strict=True):
        assert (a.state.step, a.state.samples) == (b.state.step, b.state.samples)
        assert a.replica().version == b.replica().version
        assert len(a.state.optimizers) == len(b.state.optimizers)
        for mine, its in zip(a.state.optimizers, b.state.optimizers, strict=True):
            assert mine.state().keys() == its.state().keys()
            assert all(torch.equal(mine.state()[name], its.state()[name]) for name in mine.state())
        assert a.state.kept.keys() == b.state.kept.keys()
        assert all(torch.equal(a.state.kept[name], b.state.kept[name]) for name in a.state.kept)


def ends(*steps: int) -> list[Budget]:
    return [Budget(steps=count) for count in steps]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda settings: settings.name)
@pytest.mark.parametrize("segments", [ends(10, 20), ends(1, 7, 13, 20)], ids=["two", "four"])
@pytest.mark.parametrize(
    ("name", "settings"),
    [("allreduce-sgd", {}), ("local-sgd", {"period": 4}), ("d-psgd", {"order": "cta"}), ("d-psgd", {"order": "atc"})],
    ids=["allreduce-sgd", "local-sgd", "d-psgd-cta", "d-psgd-atc"],
)
def test_segments_give_the_bits_of_one_run(
    name: str, settings: dict[str, Any], segments: list[Budget], optimizer: OptimizerSettings
) -> None:
    whole = simulation(make(name, **settings), optimizer=optimizer, compute=UNEQUAL).run(Budget(steps=20))
    parts = simulation(make(name, **settings), optimizer=optimizer, compute=UNEQUAL)
    for budget in segments:
        parts.run(budget)
        assert {handle.state.step for handle in parts.workers} == {budget.steps}
    same_state(whole, parts)
    for a, b in zip(whole.workers, parts.workers, strict=True):
        assert [e["step"] for e in events(a, "gradient")] == [e["step"] for e in events(b, "gradient")]
        assert a.recorder.nbytes == b.recorder.nbytes  # nothing is sent twice


@dataclass(frozen=True, kw_only=True)
class Anchored(Algorithm):
    """An outer step with momentum on a kept anchor every `period` steps (DiLoCo): two optimisers and a kept tensor."""

    needs: ClassVar[frozenset[Need]] = COLLECTIVES
    lockstep: ClassVar[bool] = True
    period: int = 3

    async def worker(self, w: Worker) -> None:
        x, inner = w.replica(), w.optimizer(OptimizerSettings(name="adamw", lr=0.02))
        outer = w.optimizer(OptimizerSettings(name="nesterov", lr=0.5))
        anchor = w.keep("anchor", x.data)
        async for t in w.steps():
            x.apply_(await w.gradient(x), inner)
            if t % self.period == 0:
                outer.step_(anchor, await w.allreduce_mean(anchor - x.data, label="outer"))
                x.assign_(anchor)


def test_kept_tensors_and_several_optimizers_survive() -> None:
    whole = simulation(Anchored()).run(Budget(steps=20))
    parts = simulation(Anchored())
    for budget in ends(4, 9, 10, 20):
        parts.run(budget)
    same_state(whole, parts)
    handle = parts.workers[0]
    assert [opt.settings.name for opt in handle.state.optimizers] == ["adamw", "nesterov"]
    kept = handle.keep("anchor", torch.full((12,), 9.0, dtype=torch.float64))
    assert kept is handle.state.kept["anchor"] and not (kept == 9.0).any()  # what it has become, not the initial value
    assert handle.replica() is handle.state.replica


@dataclass(frozen=True, kw_only=True)
class DelayedAveraging(Algorithm):
    """The mean of the models at steps period, 2 period, ... arrives `delay` steps later, in the midst of training."""

    needs: ClassVar[frozenset[Need]] = COLLECTIVES
    lockstep: ClassVar[bool] = True
    period: int
    delay: int
    labels: int = 1  # collectives under way at once, each with a share of the model
    delivered: list[tuple[int, int, str]] | None = None  # (rank, step, how) of each mean that was used

    async def worker(self, w: Worker) -> None:
        x, opt = w.replica(), w.optimizer(self.optimizer)
        spans = [slice(12 * i // self.labels, 12 * (i + 1) // self.labels) for i in range(self.labels)]
        under_way: dict[str, Awaitable[Tensor]] = {}
        async for t in w.steps():
            x.apply_(await w.gradient(x), opt)
            for i, span in enumerate(spans):
                label = f"model {i}"
                if t > self.period and (t - self.delay) % self.period == 0:
                    again = w.resumed(label)
                    mean = await (under_way.pop(label) if again is None else again)
                    how = "awaited" if again is None else "resumed"
                    x.assign_(mean, span)
                    if self.delivered is not None:
                        self.delivered.append((w.rank, t, how))
                if t % self.period == 0:
                    under_way[label] = w.start(w.allreduce_mean(x[span], label=label))


@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("network", [FREE_NETWORK, SLOW_NETWORK], ids=["ended early", "under way"])
@pytest.mark.parametrize("cut", range(1, 20))
def test_a_collective_under_way_at_the_end_is_delivered_once(cut: int, network: Network, labels: int) -> None:
    # On the free network the collective has ended long before the segment does, but nobody has taken its result.
    period, delay, workers = 5, 3, 3
    settings: dict[str, Any] = {"compute": Compute(gradient_s=0.1, slow={"1": 1.5}), "network": network}
    whole = simulation(DelayedAveraging(period=period, delay=delay, labels=labels), workers, **settings)
    whole.run(Budget(steps=20))
    delivered: list[tuple[int, int, str]] = []
    parts = simulation(
        DelayedAveraging(period=period, delay=delay, labels=labels, delivered=delivered), workers, **settings
    )
    parts.run(Budget(steps=cut))
    # Begun at step 5, 10 or 15 and due 3 steps later, so under way between these steps.
    expected = {f"model {i}" for i in range(labels)} if cut >= period and cut % period < delay else set()
    for handle in parts.workers:
        assert handle.state.collectives.keys() == expected
    parts.run(Budget(steps=20))
    same_state(whole, parts)
    arrivals = [step for step in range(period + delay, 21, period)]
    cut_through = cut - cut % period + delay if expected else None
    for rank in range(workers):
        assert [(t, how) for r, t, how in delivered if r == rank] == [
            (t, "resumed" if t == cut_through else "awaited") for t in arrivals for _ in range(labels)
        ]
    for handle in parts.workers:
        # The one begun at step 20 is kept in turn; nothing else is left.
        assert handle.state.collectives.keys() == {f"model {i}" for i in range(labels)}
        assert handle.resumed("model 0") is not None and handle.resumed("model 0") is None


def test_nothing_is_resumed_that_was_not_under_way() -> None:
    run = simulation(make("local-sgd", period=2)).run(Budget(steps=4))
    assert all(handle.state.collectives == {} and handle.resumed("model") is None for handle in run.workers)


# -- determinism ------------------------------------------------------------------------------------------------------

ALL = [
    ("allreduce-sgd", {}),
    ("local-sgd", {"period": 3}),
    ("d-psgd", {"order": "cta"}),
    ("d-psgd", {"order": "atc"}),
    ("ad-psgd", {}),
    ("easgd", {"period": 2}),
]
NAMES = ["-".join([name, *map(str, settings.values())]) for name, settings in ALL]


def table(run: Simulation) -> list[str]:
    """All rows of all ranks; as text, since NaN is not equal to itself."""
    return [repr(row) for handle in run.handles for row in handle.recorder.rows()]


@pytest.mark.parametrize(("name", "settings"), ALL, ids=NAMES)
@pytest.mark.parametrize("shuffle", [None, 7])
def test_the_same_seed_gives_the_same_events(name: str, settings: dict[str, Any], shuffle: int | None) -> None:
    def run(seed: int) -> Simulation:
        made = make(name, **settings)
        return simulation(made, seed=seed, compute=UNEQUAL, network=SLOW_NETWORK, shuffle=shuffle).run(
            Budget(seconds=3)
        )

    one, again, other = run(3), run(3), run(4)
    assert table(one) == table(again) and torch.equal(replicas(one), replicas(again))
    assert table(one) != table(other)


@pytest.mark.parametrize(("name", "settings"), ALL[:4], ids=NAMES[:4])
def test_a_shuffle_does_not_change_what_lockstep_workers_do(name: str, settings: dict[str, Any]) -> None:
    def counted(shuffle: int | None) -> list[Counter[str]]:
        run = simulation(make(name, **settings), compute=Compute(gradient_s=1.0), network=FREE_NETWORK, shuffle=shuffle)
        run.run(Budget(steps=9))
        return [Counter(row["kind"] for row in events(handle)) for handle in run.handles]

    assert all(counted(shuffle) == counted(None) for shuffle in range(12))


# -- the rest of the handle -------------------------------------------------------------------------------------------


def test_steps_go_from_one_to_the_last_and_samples_are_counted() -> None:
    run = simulation(make("local-sgd", period=2), compute=UNEQUAL).run(Budget(steps=6))
    for handle in run.workers:
        assert [row["step"] for row in events(handle, "gradient")] == [1, 2, 3, 4, 5, 6]
        assert handle.state.samples == 6


def test_all_workers_begin_at_one_point_and_draw_from_streams_of_their_own() -> None:
    run = simulation(make("allreduce-sgd"))
    first = run.workers[0].replica().data
    assert all(torch.equal(handle.replica().data, first) for handle in run.handles)
    assert len({handle.initial_hash for handle in run.handles}) == 1
    assert len({handle.rng.integers(1 << 60) for handle in run.handles}) == len(run.handles)


@dataclass(frozen=True, kw_only=True)
class Depth(Algorithm):
    """Worker 0 sends five messages that worker 1 takes late."""

    needs: ClassVar[frozenset[Need]] = MESSAGES

    async def worker(self, w: Worker) -> None:
        x = w.replica()
        if w.rank == 0:
            for i in range(5):
                v = torch.full((3,), float(i), dtype=torch.float64)
                w.send(1, "t", v)
                v.fill_(-1.0)  # the sender may go on with its vector
        else:
            await w.gradient(x)
            assert [float((await w.recv("t")).data[0]) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_the_depth_of_the_mailbox_is_recorded_and_a_sent_vector_is_a_copy() -> None:
    run = simulation(Depth(), 2).run(Budget(seconds=1))
    depths = [row[-1] for row in run.workers[1].recorder.rows() if row[0] == "recv"]
    assert depths == [1, 2, 3, 4, 5] and run.workers[1].recorder.mailbox_depth_max == 5
    assert run.workers[1].mailbox.depth == 0


@dataclass(frozen=True, kw_only=True)
class Early(Algorithm):
    """Worker 1 asks before worker 0 has said that it serves; worker 0 then returns at once and still answers."""

    needs: ClassVar[frozenset[Need]] = MESSAGES
    answers: list[float]

    async def worker(self, w: Worker) -> None:
        x = w.replica()
        if w.rank == 0:
            await w.gradient(x)
            w.serve("q", lambda message: message.data * 2)
        else:
            for i in range(3):
                answer = await w.request(0, "q", torch.full((2,), float(i), dtype=torch.float64))
                self.answers.append(float(answer[0]))
                await w.gradient(x)


def test_a_question_that_comes_early_is_kept_and_one_that_comes_late_is_answered() -> None:
    answers: list[float] = []
    simulation(Early(answers=answers), 2).run(Budget(seconds=1))
    assert answers == [0.0, 2.0, 4.0]


@dataclass(frozen=True, kw_only=True)
class Wrong(Algorithm):
    """Makes one mistake on worker 0."""

    needs: ClassVar[frozenset[Need]] = MESSAGES | COLLECTIVES
    mistake: str

    async def worker(self, w: Worker) -> None:
        v = torch.zeros(2)
        if w.rank == 0 and self.mistake == "rank":
            w.send(7, "t", v)
        elif w.rank == 0 and self.mistake == "tag":
            w.send(1, "a tag that is longer than a header can hold", v)
        elif self.mistake == "label":
            await w.allreduce_mean(v, label=f"of rank {w.rank}")
        elif self.mistake == "nobody sends":
            await w.recv("never", src=1 - w.rank)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ("rank", r"rank 0: ValueError: no such rank: 7 \(ranks are 0..1\)"),
        ("tag", "rank 0: ValueError: tag must have 1 to 32 bytes"),
        ("label", r"LabelMismatch.*rank 0 'of rank 0'.*rank 1 'of rank 1'"),
    ],
)
def test_a_mistake_ends_the_run_and_names_the_rank(mistake: str, words: str) -> None:
    with pytest.raises(TaskFailed, match=words):
        simulation(Wrong(mistake=mistake), 2).run(Budget(seconds=1))


def test_a_deadlock_names_both_ranks_tags_and_lines_of_the_algorithm() -> None:
    with pytest.raises(Stuck) as caught:
        simulation(Wrong(mistake="nobody sends"), 2).run(Budget(seconds=1))
    (place,) = {row[-1] for row in caught.value.rows}
    path, _, line = place.rpartition(":")
    assert path == __file__ and 'w.recv("never"' in Path(path).read_text().splitlines()[int(line) - 1]
    assert sorted(row[:-1] for row in caught.value.rows) == [("0", "recv", "never", "1"), ("1", "recv", "never", "0")]


def test_events_are_spilt_in_parts_and_none_is_lost(tmp_path: Path) -> None:
    whole = simulation(make("d-psgd"), 2).run(Budget(steps=60))
    spilt = simulation(make("d-psgd"), 2, event_capacity=64, spill_to=tmp_path).run(Budget(steps=60))
    spilt.log.spill(tmp_path)
    assert spilt.log.dropped == 0
    parts = sorted(tmp_path.glob("events-r0-p*.parquet"), key=lambda p: int(p.stem.rpartition("p")[2]))
    assert len(parts) > 3
    rows = [row for part in parts for row in pq.read_table(part, columns=["rank", "kind"]).to_pylist()]
    for rank, handle in enumerate(whole.workers):
        assert [row["kind"] for row in rows if row["rank"] == rank] == [row["kind"] for row in events(handle)]


def test_a_served_answer_sees_the_replica_between_two_awaits_only() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Torn(Algorithm):
        """Worker 0 breaks its invariant and mends it without an await in between."""

        needs: ClassVar[frozenset[Need]] = MESSAGES
        seen: list[bool]

        async def worker(self, w: Worker) -> None:
            x = w.replica()
            if w.rank == 0:

                def look(message: Message) -> Tensor:
                    self.seen.append(bool((x.data == x.data[0]).all()))
                    return message.data

                x.assign_(torch.zeros(12, dtype=torch.float64))
                w.serve("q", look)
                for i in range(20):
                    await w.gradient(x)
                    for k in range(12):
                        x.assign_(torch.tensor([float(i)], dtype=torch.float64), slice(k, k + 1))
            else:
                for _ in range(60):
                    await w.request(0, "q", torch.zeros(1))
                    await w.gradient(x)

    for shuffle in range(5):
        seen: list[bool] = []
        compute = Compute(gradient_s=1.0, slow={"1": 0.25})
        simulation(Torn(seen=seen), 2, compute=compute, network=FREE_NETWORK, shuffle=shuffle).run(Budget(seconds=1))
        assert len(seen) == 60 and all(seen)
