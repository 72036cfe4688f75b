"""The cases of `tests.parallel.cases` again, each interrupted three times, and what servers get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from algorithms.interface import Algorithm, Need, Worker
from bench.budget import Budget
from tests.algorithms.test_common import FIRST
from tests.parallel import cases
from tests.support.mpi_cases import Case, Outcome

STEPS = 60
"""So that no run ends before its third interruption."""


def every_gradient_arrives_once(case: Case, outcomes: Sequence[Outcome]) -> None:
    """Each gradient was computed once, sent once, taken once and applied once, over all parts of the run."""
    workers, servers = outcomes[: case.workers], outcomes[case.workers :]
    steps = sum(outcome.steps for outcome in workers)
    assert min(outcome.steps for outcome in workers) >= 5, "too short to mean anything"

    def count(of: Sequence[Outcome], kind: str) -> int:
        return sum(row["kind"] == kind for outcome in of for row in outcome.rows)

    assert count(workers, "gradient") == count(workers, "send") == steps
    assert count(servers, "recv") == count(servers, "apply") == count(servers, "send") == steps
    assert count(workers, "recv") == steps
    for outcome in workers:
        assert sorted(row["step"] for row in outcome.rows if row["kind"] == "gradient") == list(
            range(1, outcome.steps + 1)
        )


@dataclass(frozen=True, kw_only=True)
class OneBehind(Algorithm):
    """Worker 1 ends no step before worker 0 is in the next one, or has returned: who waited for it at the boundary
    between them, to agree on whether to go on, would wait for ever."""

    needs: ClassVar[frozenset[Need]] = frozenset({"point-to-point"})
    lockstep: ClassVar[bool] = True

    async def worker(self, w: Worker) -> None:
        last = 0
        async for t in w.steps():
            if w.rank == 1 and t != MEETS_AFTER:
                await w.recv("goes on", src=0)
            if w.rank == 0 and last not in (0, MEETS_AFTER):
                w.send(1, "goes on", torch.zeros(1))
            last = t
        if w.rank == 0 and last not in (0, MEETS_AFTER):
            w.send(1, "goes on", torch.zeros(1))


MEETS_AFTER = 2
"""Steps after which a run's workers wait for each other, for a first estimate of a step's duration."""


def all_steps_are_done(case: Case, outcomes: Sequence[Outcome]) -> None:
    """No step was left out."""
    assert [outcome.steps for outcome in outcomes] == [STEPS] * case.workers


CASES: dict[str, Case] = {
    name: replace(
        case,
        budget=Budget(steps=STEPS) if case.algorithm.lockstep else Budget(seconds=2.5),
        interruptions=3,
        timeout_s=60.0,
    )
    for name, case in cases.CASES.items()
    if case.workers == 4
} | {
    f"arrives-once-{name}": Case(
        algorithm=FIRST[name].make(),
        workers=3,
        budget=Budget(seconds=2.5),
        after=every_gradient_arrives_once,
        left=None,
        interruptions=3,
        timeout_s=60.0,
    )
    for name in ("async-sgd", "sa-asgd", "gap-aware")
}
CASES["waits-for-nobody"] = Case(
    algorithm=OneBehind(), budget=Budget(steps=STEPS), after=all_steps_are_done, interruptions=3
)
