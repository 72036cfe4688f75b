"""Shared cores against what can be worked out by hand."""

from __future__ import annotations

import doctest
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.clock import VirtualClock
from bench.cluster import processors
from bench.cluster.processors import Processors
from bench.kernel import Kernel


def ends_s(jobs: Sequence[tuple[float, int, float]], *, cores: int, node_of: Sequence[int]) -> list[float]:
    """When each job (arrives at, rank, work) is done."""
    kernel = Kernel(VirtualClock())
    shared = Processors(kernel, node_of=node_of, cores=cores)
    ended: dict[int, float] = {}

    def arrive(number: int) -> None:
        _, rank, work_s = jobs[number]
        shared.work(rank, work_s).then(lambda: ended.update({number: kernel.now()}))

    for number, (at_s, _, _) in enumerate(jobs):
        kernel.call_at(at_s, lambda number=number: arrive(number))  # type: ignore[misc]
    kernel.run(lambda: len(ended) == len(jobs))
    return [ended[number] for number in range(len(jobs))]


def test_doctests() -> None:
    assert doctest.testmod(processors).failed == 0


@pytest.mark.parametrize(("ranks", "cores"), [(2, 1), (4, 2), (3, 2), (7, 3), (5, 5), (3, 8)])
def test_equal_jobs_take_as_much_longer_as_cores_are_few(ranks: int, cores: int) -> None:
    found = ends_s([(0.0, rank, 2.0) for rank in range(ranks)], cores=cores, node_of=[0] * ranks)
    assert found == pytest.approx([2.0 * max(1.0, ranks / cores)] * ranks, rel=1e-12)


def test_three_staggered_jobs_on_one_core() -> None:
    # 0..1: A alone, does 1 of 3. 1..3: A and B at 1/2, each does 1. 3..: A, B, C at 1/3; B needs 0.5 more, done at 4.5,
    # when A has 0.5 and C 0.5 left. 4.5..5.5: both at 1/2, done at once.
    found = ends_s([(0.0, 0, 3.0), (1.0, 1, 1.5), (3.0, 2, 1.0)], cores=1, node_of=[0, 0, 0])
    assert found == pytest.approx([5.5, 4.5, 5.5], rel=1e-12)


def test_three_staggered_jobs_on_two_cores() -> None:
    # 0..1: A and B at full speed. 1..2.5: three at 2/3, each does 1: A (2) is done. Then B and C at full speed.
    found = ends_s([(0.0, 0, 2.0), (0.0, 1, 3.0), (1.0, 2, 1.5)], cores=2, node_of=[0, 0, 0])
    assert found == pytest.approx([2.5, 3.5, 3.0], rel=1e-12)


def test_nodes_do_not_share() -> None:
    assert ends_s([(0.0, rank, 1.0) for rank in range(4)], cores=1, node_of=[0, 0, 1, 2]) == [2.0, 2.0, 1.0, 1.0]


def test_a_ranks_jobs_go_one_after_the_other() -> None:
    assert ends_s([(0.0, 0, 1.0), (0.0, 0, 2.0), (0.5, 0, 1.0)], cores=4, node_of=[0]) == [1.0, 3.0, 4.0]


def test_no_work_takes_no_time() -> None:
    assert ends_s([(0.0, 0, 1.0), (0.25, 1, 0.0)], cores=1, node_of=[0, 0]) == [1.0, 0.25]


def test_a_node_without_cores_is_refused() -> None:
    with pytest.raises(ValueError, match="cores must be at least 1: got 0"):
        Processors(Kernel(VirtualClock()), node_of=[0], cores=0)


def test_shared_cores_lose_what_sharing_says_and_others_lose_nothing() -> None:
    kernel, ended = Kernel(VirtualClock()), dict[int, float]()
    shared = Processors(kernel, node_of=[0, 0, 1], cores=1, sharing=0.8)
    for rank, seconds in enumerate((1.0, 2.0, 1.0)):
        shared.work(rank, seconds).then(lambda rank=rank: ended.update({rank: kernel.now()}))  # type: ignore[misc]
    kernel.run(lambda: len(ended) == 3)
    assert ended == {2: 1.0, 0: pytest.approx(2 / 0.8), 1: pytest.approx(2 / 0.8 + 1)}


def test_who_waits_without_sleeping_takes_a_share() -> None:
    kernel = Kernel(VirtualClock())
    shared, ended = Processors(kernel, node_of=[0, 0], cores=1), []
    shared.work(0, 3.0).then(lambda: ended.append(kernel.now()))
    kernel.call_at(1.0, lambda: shared.spin(1, True))
    kernel.call_at(3.0, lambda: shared.spin(1, False))
    kernel.run(lambda: bool(ended))
    assert ended == [4.0]  # 1 s alone, 2 s at half speed, 1 s alone


JOBS = st.lists(
    st.tuples(st.floats(0, 10), st.integers(0, 3), st.floats(1e-3, 5)),
    min_size=1,
    max_size=12,
)  # fmt: skip


@given(JOBS)
def test_with_a_core_for_each_rank_nobody_waits_for_another(jobs: list[tuple[float, int, float]]) -> None:
    found = ends_s(jobs, cores=4, node_of=[0] * 4)
    for rank in range(4):
        free_s = 0.0
        for number in sorted((n for n, job in enumerate(jobs) if job[1] == rank), key=lambda n: (jobs[n][0], n)):
            free_s = max(free_s, jobs[number][0]) + jobs[number][2]
            assert found[number] == pytest.approx(free_s, rel=1e-9)


@given(JOBS)
def test_one_core_conserves_work(jobs: list[tuple[float, int, float]]) -> None:
    """A core that never idles while there is work ends each busy period at a time that no order can change."""
    found = ends_s(jobs, cores=1, node_of=[0] * 4)
    free_s = 0.0
    for at_s, _, work_s in sorted(jobs):
        free_s = max(free_s, at_s) + work_s
    assert max(found) == pytest.approx(free_s, rel=1e-9)
    for (at_s, _, work_s), end_s in zip(jobs, found, strict=True):
        assert end_s >= (at_s + work_s) * (1 - 1e-12)


@given(JOBS, st.integers(1, 4))
def test_a_rank_keeps_the_order_of_its_jobs(jobs: list[tuple[float, int, float]], cores: int) -> None:
    found = ends_s(jobs, cores=cores, node_of=[0] * 4)
    for rank in range(4):
        ends = [found[n] for n in sorted(range(len(jobs)), key=lambda n: (jobs[n][0], n)) if jobs[n][1] == rank]
        assert ends == sorted(ends)


def test_a_rank_that_is_held_to_a_share_has_it_and_the_others_have_the_rest() -> None:
    # A quarter of a core: 1 s of work takes 4 s, whoever else computes. Three others on the 1.75 cores that are left go
    # at 7/12, until the held one ends at 4 s with 7/3 done of 3; then three on two cores, for the 2/3 that are left.
    kernel, ended = Kernel(VirtualClock()), dict[int, float]()
    shared = Processors(kernel, node_of=[0] * 4, cores=2, held_to={0: 0.25})
    for rank, seconds in enumerate((1.0, 3.0, 3.0, 3.0)):
        shared.work(rank, seconds).then(lambda rank=rank: ended.update({rank: kernel.now()}))  # type: ignore[misc]
    kernel.run(lambda: len(ended) == 4)
    assert ended == {0: pytest.approx(4.0), **dict.fromkeys((1, 2, 3), pytest.approx(5.0))}


def test_jobs_of_a_rank_that_is_held_go_one_after_the_other() -> None:
    kernel, ended = Kernel(VirtualClock()), list[float]()
    shared = Processors(kernel, node_of=[0], cores=1, held_to={0: 0.5})
    for seconds in (1.0, 2.0):
        shared.work(0, seconds).then(lambda: ended.append(kernel.now()))
    kernel.run(lambda: len(ended) == 2)
    assert ended == [2.0, 6.0]
