"""PowerGossip: its recursion with full matrices, exact reductions, the published rates of agreement, and its bytes.

Ids such as T2 or C10 are those of docs/oracles.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from algorithms.formula import evaluate
from algorithms.interface import Algorithm, Layer, Traffic
from algorithms.power_gossip import PowerGossip, Split
from algorithms.registry import algorithm_class
from algorithms.shared import shared_generator
from algorithms.topology import Topology
from bench.layers import layers_of
from bench.simulate import Simulation
from bench.workloads.digits_mlp import DigitsMlp
from tests.algorithms.mutations import Mutation, Oracle, notices
from tests.algorithms.support import make, replicas
from tests.algorithms.test_gossip_rounds import (
    LR,
    SEED,
    consensus_distance,
    matrix,
    recursion,
    relative_error,
    run,
    same,
    scattered,
)

NAME = "power-gossip"
SIDES = (5, 6)  # of each of the four matrices of a quadratic with 120 parameters
DIMENSION = 4 * SIDES[0] * SIDES[1]


def power_step(w: Tensor, rank: int) -> Any:
    """Algorithm 2 with whole differences, and bases by Gram-Schmidt: they span what Householder's do."""
    n, (a, b) = len(w), SIDES
    factors: dict[tuple[int, int, int], Tensor] = {}

    def step(t: int, x: Tensor, g: Tensor) -> Tensor:
        x = x - LR * g
        models, change = x.view(n, 4, a, b), torch.zeros(n, 4, a, b, dtype=x.dtype)
        for i in range(n):
            for j in range(i + 1, n):
                if not w[i, j]:
                    continue
                for k in range(4):
                    d = models[i, k] - models[j, k]
                    last = factors.get((i, j, k), first(i, j, k, rank))
                    basis = gram_schmidt(last)
                    product = (d.T if t % 2 else d) @ basis
                    factors[i, j, k] = product
                    projected = basis @ product.T if t % 2 else product @ basis.T
                    change[i, k] -= w[i, j] * projected
                    change[j, k] += w[i, j] * projected
        return x + change.view(n, -1)

    return step


def first(i: int, j: int, k: int, rank: int) -> Tensor:
    """P of the k-th matrix as both ends draw it: all P before all Q."""
    a, b = SIDES
    drawn = shared_generator(SEED, f"power gossip {i} {j}").standard_normal(4 * rank * (a + b))
    return torch.from_numpy(drawn[k * rank * a : (k + 1) * rank * a]).view(a, rank)


def gram_schmidt(columns: Tensor) -> Tensor:
    basis: list[Tensor] = []
    for column in columns.T:
        for other in basis:
            column = column - (other @ column) * other
        basis.append(column / column.norm())
    return torch.stack(basis, dim=1)


def oracle_recursion(cls: type[Algorithm]) -> None:
    """Algorithm 2, on graphs with equal and with unequal degrees, at ranks 1 and 2."""
    for name, workers in (("ring", 5), ("star", 5), ("complete", 4), ("erdos-renyi", 6)):
        for rank in (1, 2):
            want = recursion(workers, power_step(matrix(Topology(name), workers), rank), dimension=DIMENSION)
            got = run(cls(topology=name, rank=rank), workers, dimension=DIMENSION)  # type: ignore[call-arg]
            same(replicas(got), want, 1e-9)


def oracle_full_rank_is_d_psgd(cls: type[Algorithm]) -> None:
    """With a rank that no matrix exceeds nothing is approximated: adapt, then combine."""
    for name, workers in (("ring", 5), ("star", 5), ("torus", 9)):
        got = run(cls(topology=name, rank=5), workers, dimension=DIMENSION)  # type: ignore[call-arg]
        want = run(make("d-psgd", topology=name, order="atc"), workers, dimension=DIMENSION)
        same(replicas(got), replicas(want))


def oracle_mean_stays(cls: type[Algorithm]) -> None:
    """T1: without gradients the mean of the models stays."""
    for rank in (1, 3):
        x = replicas(run(cls(rank=rank), 8, 31, lr=1e-300, dimension=DIMENSION))  # type: ignore[call-arg]
        same(x.mean(0), scattered(8, DIMENSION).mean(0))


def oracle_low_rank_goes_at_once(cls: type[Algorithm]) -> None:
    """T2: between two workers a difference of rank r or less is gone after a step from each side."""
    a, b = SIDES
    for rank in (1, 2):
        for of_rank in range(rank + 1):
            generator = torch.Generator().manual_seed(of_rank)
            start = torch.zeros(2, 4, a, b, dtype=torch.float64)
            for k in range(4):
                left = torch.randn(a, of_rank, generator=generator, dtype=torch.float64)
                right = torch.randn(of_rank, b, generator=generator, dtype=torch.float64)
                start[0, k] = left @ right
            x = replicas(run(cls(rank=rank), 2, 2, lr=1e-300, start=start.view(2, -1), dimension=DIMENSION))  # type: ignore[call-arg]
            assert consensus_distance(x) < 1e-12


def oracle_ends_keep_the_same_factors(cls: type[Algorithm]) -> None:
    """Both ends of an edge have the same factors, bit for bit, though neither knows the other's model."""
    for steps in (4, 5):
        states = kept(run(cls(rank=2), 5, steps, dimension=DIMENSION))  # type: ignore[call-arg]
        assert len(states) == 10
        for (i, j), factors in states.items():
            assert torch.equal(factors, states[j, i]) and factors.isfinite().all()


def kept(simulation: Simulation) -> dict[tuple[int, int], Tensor]:
    """(worker, neighbour) -> the factors that the worker keeps of the edge."""
    return {
        (handle.rank, int(name.removeprefix("factors "))): factors
        for handle in simulation.workers
        for name, factors in handle.state.kept.items()
    }


ORACLES: list[tuple[str, Oracle]] = [
    (NAME, oracle_recursion),
    (NAME, oracle_full_rank_is_d_psgd),
    (NAME, oracle_mean_stays),
    (NAME, oracle_low_rank_goes_at_once),
    (NAME, oracle_ends_keep_the_same_factors),
]


@pytest.mark.parametrize(("name", "oracle"), ORACLES, ids=lambda value: getattr(value, "__name__", value))
def test_oracle(name: str, oracle: Oracle) -> None:
    oracle(algorithm_class(name))


@pytest.mark.thorough
@pytest.mark.parametrize(("rank", "rounds", "left"), [(1, 100, 0.246), (1, 400, 0.025), (4, 100, 0.026)])
def test_it_agrees_as_fast_as_is_known(rank: int, rounds: int, left: float) -> None:
    """T3, C10: a ring of 8 models, each four matrices of 32 x 32."""
    error = relative_error(make(NAME, rank=rank), workers=8, parameters=4 * 32 * 32, rounds=rounds)
    assert left / 1.5 < error < left * 1.5


def test_it_sends_one_factor_a_step_and_vectors_whole() -> None:
    """Of digits-mlp its two matrices [64, 64] -> 64 values in turns, [10, 64] -> 64 and 10, and 74 biases whole."""
    workload = DigitsMlp(dtype="float64").build(torch.device("cpu"), 4)
    layers = layers_of(workload.layers)
    split = Split.of(layers, 1)
    assert sum(a * b for _, a, b in split.matrices) + split.whole == workload.parameters
    odd, even = (split.factors(t) + split.whole for t in (1, 2))
    assert odd == sum(b for _, _, b in split.matrices) + split.whole
    assert even == sum(a for _, a, _ in split.matrices) + split.whole
    traffic = Traffic(steps=[3] * 4, layers=layers, itemsize=8, seed=SEED)
    assert make(NAME).payload_nbytes(traffic) == 4 * 2 * (2 * odd + even) * 8
    stated = evaluate(PowerGossip.bytes_per_step, make(NAME), 4, traffic.nbytes, itemsize=8, layers=layers)
    assert stated == 2 * (odd + even) / 2 * 8
    assert stated < 2 * traffic.nbytes / 10, "a tenth of D-PSGD"


def test_tensors_with_more_axes_are_matrices_by_their_first() -> None:
    convolution = Layer("conv", slice(0, 8 * 27 + 8), shapes=((8, 3, 3, 3), (8,)))
    split = Split.of([convolution, Layer("end", slice(224, 228), shapes=((2, 2),))], 2)
    assert split.matrices == [(0, 8, 27)]
    assert split.rest == [slice(216, 224), slice(224, 228)], "a matrix of rank 2 is no larger than its factors"


def test_equal_models_stay_equal_and_finite() -> None:
    """A difference of zero has no direction; any basis will do."""
    start = torch.ones(4, DIMENSION, dtype=torch.float64)
    same(replicas(run(make(NAME), 4, 6, lr=1e-300, start=start, dimension=DIMENSION)), start)


def test_settings_and_models_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rank must be at least 1: got 0"):
        make(NAME, rank=0)
    with pytest.raises(ValueError, match=r"the shapes of this model's tensors are not known: layer 'blocks.0'"):
        make(NAME).check_model([Layer("blocks.0", slice(0, 10))])


HELPER = "algorithms.low_rank"

MUTATIONS = [
    Mutation(
        NAME, "moves both ends the same way", "-weight if w.rank < j else weight", "-weight", oracle_mean_stays,
    ),
    Mutation(
        NAME, "subtracts the other's from its own at both ends", "sent[j] - other if w.rank < j else other - sent[j]",
        "sent[j] - other", oracle_ends_keep_the_same_factors,
    ),
    Mutation(
        NAME, "does not make its bases orthonormal", "torch.linalg.qr(part.view(-1, self.rank))[0]",
        "part.view(-1, self.rank)", oracle_recursion, module=HELPER,
    ),
    Mutation(
        NAME, "begins anew in every step",
        "                split.keep_(factors[j], difference, t)\n", "",
        oracle_recursion,
    ),
    Mutation(
        NAME, "moves what travels whole the wrong way", "change[span].add_(", "change[span].sub_(",
        oracle_full_rank_is_d_psgd, module=HELPER,
    ),
    Mutation(
        NAME, "draws other factors at either end", "low, high = sorted((w.rank, j))", "low, high = w.rank, j",
        oracle_recursion,
    ),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_the_oracles_notice_deliberate_bugs(mutation: Mutation) -> None:
    notices(mutation)
