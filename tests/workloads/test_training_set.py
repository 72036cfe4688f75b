"""Problem, partition and streams together: what each worker trains on."""

from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from bench.workloads.partition import Partition
from bench.workloads.problem import Problem, Samples, Text
from bench.workloads.settings import ModuleSettings

CPU, WORKERS = torch.device("cpu"), 3
COUNT, CONTEXT = 60, 4


class Start(nn.Module):
    """A module that nothing is asked of here."""

    def __init__(self):
        super().__init__()
        self.p = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x[..., None].to(self.p.dtype) * self.p


class OfSamples(ModuleSettings):
    """60 samples; sample i is the number i, its label i % 6, its speaker i // 12."""

    title: ClassVar[str] = "of-samples"
    default_optimizer: ClassVar[dict[str, Any]] = {"name": "sgd", "lr": 0.1}
    grouping: ClassVar[str] = "speaker"
    labelled: ClassVar[bool] = True

    def problem(self):
        numbers = torch.arange(COUNT)
        return Problem(
            module=Start(),
            initialise=lambda module, generator: None,
            train=Samples(
                inputs=numbers.to(torch.int16), targets=numbers % 3,
                labels=numbers.numpy() % 6, groups=numbers.numpy() // 12, group_names=("a", "b", "c", "d", "e"),
            ),
            heldout=(numbers[:2], numbers[:2] % 3),
            augment=(lambda x, generator: x + 100) if self.batch_size == 7 else None,
            noise=(lambda b, generator: (torch.rand(b, generator=generator),)) if self.batch_size == 7 else None,
        )  # fmt: skip


class OfText(ModuleSettings):
    """A text of 60 ids, id i at place i, in speeches of 6 by turns of the roles x, y, z."""

    title: ClassVar[str] = "of-text"
    default_optimizer: ClassVar[dict[str, Any]] = {"name": "sgd", "lr": 0.1}
    grouping: ClassVar[str] = "role"

    def problem(self):
        edges = np.arange(0, COUNT + 1, 6)
        return Problem(
            module=Start(),
            initialise=lambda module, generator: None,
            train=Text(
                ids=torch.arange(COUNT, dtype=torch.int16), context=CONTEXT,
                segments=np.stack([edges[:-1], edges[1:]], 1), groups=np.arange(10) % 3, group_names=("x", "y", "z"),
            ),
            heldout=(torch.zeros(2, CONTEXT), torch.zeros(2, CONTEXT, dtype=torch.int64)),
        )  # fmt: skip


def drawn(workload, rank, seed=0, batches=40):
    stream = workload.batches(seed, rank, WORKERS)
    return torch.cat([stream.next()[0].flatten() for _ in range(batches)])


@pytest.mark.parametrize(
    ("by", "more"), [("iid", {}), ("label", {"classes": 2}), ("dirichlet", {}), ("power-law", {}), ("speaker", {})]
)
def test_workers_draw_exactly_their_recorded_shares(by, more):
    workload = OfSamples(batch_size=4, partition=Partition(by=by, **more)).build(CPU, WORKERS)
    seen = [set(drawn(workload, rank).tolist()) for rank in range(WORKERS)]
    shares = workload.shares(0, WORKERS)
    assert sorted(i for part in seen for i in part) == list(range(COUNT))  # disjoint, and all of it
    for part, share in zip(seen, shares, strict=True):
        assert len(part) == share.samples
        assert {label: sum(i % 6 == int(label) for i in part) for label in share.labels} == share.labels
        if by == "speaker":
            assert {"abcde"[i // 12] for i in part} == set(share.groups)
    assert workload.facts["partition"].startswith(by)


def test_the_whole_set_is_everybodys_in_another_order():
    workload = OfSamples(batch_size=4).build(CPU, WORKERS)
    orders = [drawn(workload, rank, batches=COUNT // 4) for rank in range(WORKERS)]
    assert all(sorted(order.tolist()) == list(range(COUNT)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert [share.samples for share in workload.shares(0, WORKERS)] == [COUNT] * WORKERS


def test_another_seed_deals_otherwise_and_any_instance_deals_the_same():
    settings = OfSamples(batch_size=4, partition=Partition(by="iid"))
    one, other = settings.build(CPU, WORKERS), settings.build(CPU, WORKERS)
    mine = set(drawn(one, 1).tolist())
    assert mine == set(drawn(other, 1).tolist())
    assert mine != set(drawn(one, 1, seed=1).tolist())


def test_augmentation_and_noise_come_with_the_mini_batch_and_not_with_the_heldout_set():
    workload = OfSamples(batch_size=7).build(CPU, WORKERS)
    inputs, targets, noise = workload.batches(0, 0, WORKERS).next()
    assert inputs.min() >= 100 and torch.equal((inputs - 100) % 3, targets) and noise.shape == (7,)
    again = workload.batches(0, 0, WORKERS).next()
    assert torch.equal(noise, again[2]) and torch.equal(inputs, again[0])
    assert workload._heldout[0].max() < 100


def test_a_workers_text_is_its_roles_speeches():
    workload = OfText(batch_size=2, partition=Partition(by="role")).build(CPU, WORKERS)
    shares = workload.shares(0, WORKERS)
    assert sorted(share.groups for share in shares) == [("x",), ("y",), ("z",)]
    for rank, share in enumerate(shares):
        role = "xyz".index(share.groups[0])
        assert {i // 6 % 3 for i in drawn(workload, rank).tolist()} == {role}
        assert share.samples == (24 if role == 0 else 18)


@pytest.mark.parametrize("by", ["iid", "power-law"])
def test_a_text_without_parts_is_dealt_in_pieces(by):
    workload = OfText(batch_size=2, partition=Partition(by=by)).build(CPU, WORKERS)
    shares = workload.shares(0, WORKERS)
    assert sum(share.samples for share in shares) == COUNT
    assert all(share.samples > CONTEXT for share in shares)
    seen = [set(drawn(workload, rank, batches=200).tolist()) for rank in range(WORKERS)]
    assert all(not a & b for k, a in enumerate(seen) for b in seen[:k])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (lambda: OfText(partition=Partition(by="label")), "its training data has no classes: got 'label'"),
        (lambda: OfText(partition=Partition(by="speaker")), "its training data has no speakers: got 'speaker'"),
        (lambda: OfSamples(precision="float8"), "precision must be one of .*: got 'float8'"),
        (lambda: OfSamples(dtype="float64", precision="bfloat16"), "precision must be left at float32"),
        (lambda: OfSamples(dtype="float16"), "dtype must be one of float32, float64: got 'float16'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        settings()


def test_too_many_workers_are_refused_when_the_data_are_dealt():
    workload = OfText(partition=Partition(by="role")).build(CPU, 4)
    with pytest.raises(ValueError, match="got 4 workers, but the training data has only 3 roles"):
        workload.shares(0, 4)


@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.03), ("float16", 0.01)])
def test_half_precision_computes_and_nothing_else(precision, error):
    from bench.workloads.digits_mlp import DigitsMlp

    exact, half = (DigitsMlp(precision=p).build(CPU, 1) for p in ("float32", precision))
    x, batch = exact.initial(0), exact.batches(0, 0, 1).next()
    want, got = torch.empty_like(x), torch.empty_like(x)
    loss, other = exact.gradient(x, batch, want), half.gradient(x, batch, got)
    assert got.dtype == other.dtype == torch.float32 and half.dtype == torch.float32
    off = (got - want).norm() / want.norm()
    assert 0 < off < 10 * error and 0 < abs(other - loss) / loss < error
    announced = []
    half.gradient(x, batch, got, announced.append)
    assert sorted(announced) == list(range(len(half.spans)))
