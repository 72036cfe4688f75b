"""Every workload against autograd and finite differences, and the promises of the Workload protocol."""

import dataclasses
import math
import subprocess
import sys
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from algorithms.optim import Optimizer, OptimizerSettings
from bench.workloads import digits_mlp, shakespeare_gpt
from bench.workloads.digits_mlp import DigitsMlp
from bench.workloads.problem import Problem, Samples, cross_entropy
from bench.workloads.quadratic import Quadratic
from bench.workloads.settings import ModuleSettings
from bench.workloads.shakespeare_gpt import ShakespeareGpt
from bench.workloads.texts import plays

CPU, WORKERS = torch.device("cpu"), 4
TINY_GPT = {"width": 16, "depth": 2, "heads": 2, "context": 12, "batch_size": 4}
SMALL = {
    "quadratic": Quadratic(heterogeneity=0.5),
    "digits-mlp": DigitsMlp(),
    "shakespeare-gpt": ShakespeareGpt(**TINY_GPT),
}
EVERY = pytest.mark.parametrize("name", SMALL)
MODULES = pytest.mark.parametrize("name", ["digits-mlp", "shakespeare-gpt"])


def build(name, **changes):
    return dataclasses.replace(SMALL[name], **changes).build(CPU, WORKERS)


def build_double(name):
    return build(name) if name == "quadratic" else build(name, dtype="float64")


def gradient_of(workload, x, batch):
    out = torch.full_like(x, math.nan)
    loss = workload.gradient(x, batch, out)
    return loss, out


def points(workload, count):
    generator = torch.Generator().manual_seed(3)
    start = workload.initial(0)
    return [start + 0.1 * torch.randn(start.shape, generator=generator, dtype=start.dtype) for _ in range(count)]


class Toy(nn.Module):
    """A tied weight and one that is never used."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.unused = nn.Linear(5, 2)
        self.second = nn.Linear(5, 5)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def toy_workload(module=None, heldout_chunk=7):
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(20, 5, generator=generator), torch.randint(5, (20,), generator=generator)

    def initialise(module, generator):
        for p in module.parameters():
            nn.init.normal_(p, generator=generator)

    class Settings(ModuleSettings):
        title = "toy"
        default_optimizer: ClassVar = {"name": "sgd", "lr": 0.1}

        def problem(self):
            return Problem(
                module=module or Toy(),
                initialise=initialise,
                train=Samples(inputs=inputs, targets=targets),
                heldout=(inputs, targets),
                heldout_chunk=heldout_chunk,
                flops_per_sample=1.0,
            )

    return Settings(batch_size=4).build(CPU, WORKERS)


# --- the registry ------------------------------------------------------------------------------------------------


def test_listing_workloads_loads_no_torch():
    code = "import sys; from bench.workloads import registry; registry.workloads(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


# --- the protocol, for every workload ----------------------------------------------------------------------------


@EVERY
def test_spans_cover_the_vector_in_order(name):
    workload = build(name)
    edges = [edge for span in workload.spans for edge in span]
    assert edges[0] == 0 and edges[-1] == workload.parameters == workload.initial(0).numel()
    assert all(lo < hi for lo, hi in workload.spans)
    assert edges[1:-1:2] == edges[2:-1:2]


@EVERY
def test_gradient_equals_finite_differences(name):
    workload = build_double(name)
    (x,) = points(workload, 1)
    batch = workload.batches(0, 1, WORKERS).next()
    _, gradient = gradient_of(workload, x, batch)
    generator, step = torch.Generator().manual_seed(5), 1e-5
    for _ in range(5):
        direction = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        ahead, _ = gradient_of(workload, x + step * direction, batch)
        behind, _ = gradient_of(workload, x - step * direction, batch)
        slope = float((ahead - behind) / (2 * step))
        # A ReLU's kink within the step costs at most its share of the slope; none is met at this point.
        assert slope == pytest.approx(float(gradient @ direction), rel=1e-6, abs=1e-7)


@EVERY
def test_on_ready_once_per_span_when_final_and_last_span_first(name):
    workload = build(name)
    (x,) = points(workload, 1)
    batch = workload.batches(0, 0, WORKERS).next()
    loss, plain = gradient_of(workload, x, batch)
    out, seen = torch.empty_like(x), {}

    def on_ready(k):
        assert k not in seen
        seen[k] = out[slice(*workload.spans[k])].clone()

    assert torch.equal(workload.gradient(x, batch, out, on_ready), loss)
    assert torch.equal(out, plain)
    assert sorted(seen) == list(range(len(workload.spans)))
    for k, early in seen.items():
        assert torch.equal(early, out[slice(*workload.spans[k])])
    # Backward order: within one layer the order is autograd's own; spans this far apart belong to different layers.
    order = list(seen)
    assert all(a > b - 3 for i, a in enumerate(order) for b in order[i + 1 :])


@EVERY
def test_on_ready_of_one_call_is_not_called_by_the_next(name):
    workload = build(name)
    (x,) = points(workload, 1)
    batch, calls = workload.batches(0, 0, WORKERS).next(), []
    workload.gradient(x, batch, torch.empty_like(x), calls.append)
    workload.gradient(x, batch, torch.empty_like(x))
    assert len(calls) == len(workload.spans)


@EVERY
def test_gradient_reads_x_and_does_not_change_it(name):
    workload = build(name)
    (x,) = points(workload, 1)
    before = x.clone()
    loss, gradient = gradient_of(workload, x, workload.batches(0, 0, WORKERS).next())
    assert torch.equal(x, before)
    assert loss.dim() == 0 and not loss.requires_grad and not gradient.requires_grad and not x.requires_grad
    assert loss.dtype == gradient.dtype == workload.dtype


@EVERY
def test_gradient_without_grad_mode_and_in_a_helper_thread(name):
    from concurrent.futures import ThreadPoolExecutor

    workload = build(name)
    (x,) = points(workload, 1)
    batch = workload.batches(0, 0, WORKERS).next()
    want = gradient_of(workload, x, batch)
    with torch.no_grad():
        got = gradient_of(workload, x, batch)
    with ThreadPoolExecutor(1) as pool:
        helped = pool.submit(gradient_of, workload, x, batch).result()
    for loss, gradient in (got, helped):
        assert torch.equal(loss, want[0]) and torch.equal(gradient, want[1])


@EVERY
def test_one_module_serves_many_vectors(name):
    workload, xs = build(name), None
    xs = points(workload, 3)
    batch = workload.batches(0, 0, WORKERS).next()
    fresh = [gradient_of(build(name), x, batch) for x in xs]
    outs = [torch.empty_like(xs[0]) for _ in range(2)]
    for i, j in ((0, 0), (0, 0), (1, 0), (2, 1), (0, 1), (1, 0), (1, 1), (2, 0)):
        loss = workload.gradient(xs[i], batch, outs[j])
        assert torch.equal(loss, fresh[i][0]) and torch.equal(outs[j], fresh[i][1])
        if (i, j) == (2, 1):
            workload.heldout(xs[1])


@EVERY
def test_gradient_follows_x_changed_in_place(name):
    workload = build(name)
    x, other = points(workload, 2)
    batch = workload.batches(0, 0, WORKERS).next()
    want = gradient_of(build(name), other, batch)[1]
    out = torch.empty_like(x)
    workload.gradient(x, batch, out)
    x.copy_(other)
    workload.gradient(x, batch, out)
    assert torch.equal(out, want)


@EVERY
def test_a_slice_of_a_longer_vector_will_do(name):
    workload = build(name)
    (x,) = points(workload, 1)
    batch = workload.batches(0, 0, WORKERS).next()
    long_x, long_out = torch.full((2, 3 * len(x)), math.nan, dtype=x.dtype)
    part = slice(len(x), 2 * len(x))
    long_x[part] = x
    workload.gradient(long_x[part], batch, long_out[part])
    torch.testing.assert_close(long_out[part], gradient_of(workload, x, batch)[1])
    assert torch.isnan(long_out[: len(x)]).all() and torch.isnan(long_out[2 * len(x) :]).all()


@EVERY
def test_heldout_is_fixed(name):
    workload = build(name)
    x, other = points(workload, 2)
    first = workload.heldout(x)
    gradient_of(workload, other, workload.batches(1, 0, WORKERS).next())
    workload.heldout(other)
    workload.initial(5)
    assert workload.heldout(x) == first == build(name).heldout(x)
    assert math.isfinite(first.loss) and math.isfinite(first.metric)


@EVERY
def test_initial_is_a_function_of_the_seed_alone(name):
    workload = build(name)
    want = workload.initial(1)
    torch.manual_seed(99)
    np.random.seed(99)  # the global state must play no part
    x = points(workload, 1)[0]
    gradient_of(workload, x, workload.batches(1, 0, WORKERS).next())
    assert torch.equal(workload.initial(1), want)
    assert torch.equal(build(name).initial(1), want)
    assert not torch.equal(workload.initial(2), want)
    assert torch.isfinite(want).all()


@EVERY
def test_initial_does_not_disturb_vectors_in_use(name):
    workload = build(name)
    (x,) = points(workload, 1)
    batch = workload.batches(0, 0, WORKERS).next()
    before = x.clone()
    loss, gradient = gradient_of(workload, x, batch)
    kept = gradient.clone()
    start = workload.initial(1)
    again = start.clone()
    assert torch.equal(workload.gradient(x, batch, torch.empty_like(x)), loss)
    assert torch.equal(x, before) and torch.equal(gradient, kept) and torch.equal(start, again)


@EVERY
def test_batches_are_functions_of_seed_and_rank(name):
    workload = build(name)

    def draw(seed, rank, workload=workload):
        stream = workload.batches(seed, rank, WORKERS)
        return [stream.next() for _ in range(5)]

    def same(a, b):
        return all(torch.equal(s, t) for p, q in zip(a, b, strict=True) for s, t in zip(p, q, strict=True))

    want = draw(1, 2)
    torch.manual_seed(99)
    workload.batches(1, 3, WORKERS).next()
    assert same(want, draw(1, 2)) and same(want, draw(1, 2, build(name)))
    assert not same(want, draw(1, 3)) and not same(want, draw(2, 2)) and not same(want, draw(2, 1))
    assert not any(torch.equal(want[0][-1], batch[-1]) for batch in want[1:])


@EVERY
def test_the_default_optimizer_is_valid_and_improves_the_heldout_loss(name):
    workload = SMALL[name].build(CPU, 1)
    x, stream = workload.initial(0), workload.batches(0, 0, 1)
    optimizer, out = Optimizer(OptimizerSettings(**workload.optimizer), len(x), x.dtype), torch.empty_like(x)
    start = workload.heldout(x).loss
    for _ in range(60):
        workload.gradient(x, stream.next(), out)
        optimizer.step_(x, out)
    assert workload.heldout(x).loss < 0.9 * start
    assert workload.target_loss < start


@MODULES
def test_vectors_of_another_kind_are_refused(name):
    workload = build(name)
    x, batch = workload.initial(0), workload.batches(0, 0, WORKERS).next()
    for wrong in (x[:-1], x.double()):
        with pytest.raises(ValueError, match=r"x must be a flat .*got .*initial"):
            workload.gradient(wrong, batch, torch.empty_like(x))
        with pytest.raises(ValueError, match=r"out must be a flat .*got "):
            workload.gradient(x, batch, torch.empty_like(wrong))


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (Quadratic, {"dimension": 0}),
        (Quadratic, {"condition": 0.5}),
        (Quadratic, {"noise": -1.0}),
        (Quadratic, {"heterogeneity": math.nan}),
        (Quadratic, {"batch_size": 0}),
        (DigitsMlp, {"width": 0}),
        (DigitsMlp, {"depth": 0}),
        (DigitsMlp, {"batch_size": 0}),
        (DigitsMlp, {"dtype": "float16"}),
        (ShakespeareGpt, {"size": "2M"}),
        (ShakespeareGpt, {"heads": 3}),
        (ShakespeareGpt, {"depth": 0}),
        (ShakespeareGpt, {"context": 200_000}),
        (ShakespeareGpt, {"dtype": "bfloat16"}),
    ],
    ids=str,
)
def test_refused_settings(cls, wrong):
    with pytest.raises(ValueError, match=r"\w+ must .*(got|=).*\(.+\)"):
        cls(**wrong)


# --- modules -----------------------------------------------------------------------------------------------------


@MODULES
def test_gradient_equals_autograd_on_a_functional_call(name):
    workload = build_double(name)
    (x,) = points(workload, 1)
    inputs, targets = workload.batches(0, 0, WORKERS).next()
    loss, gradient = gradient_of(workload, x, (inputs, targets))
    leaf = x.clone().requires_grad_()
    module = workload._module
    shaped = {
        key: leaf[lo:hi].view(p.shape)
        for (key, p), (lo, hi) in zip(module.named_parameters(), workload.spans, strict=True)
    }
    reference = cross_entropy(torch.func.functional_call(module, shaped, (inputs,)), targets)
    (want,) = torch.autograd.grad(reference, leaf)
    torch.testing.assert_close(loss, reference.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(gradient, want, rtol=1e-10, atol=1e-14)


def test_bound_vectors_are_not_bound_again():
    workload = build("digits-mlp")
    x, out = workload.initial(0), torch.empty(workload.parameters)
    batch = workload.batches(0, 0, WORKERS).next()
    workload.gradient(x, batch, out)
    workload._views = None  # any rebinding would call it
    workload.gradient(x, batch, out)
    workload.heldout(x)
    assert all(
        p.data_ptr() == x[lo:].data_ptr() for p, (lo, _) in zip(workload._parameters, workload.spans, strict=True)
    )


def test_tied_and_unused_parameters():
    workload = toy_workload()
    assert workload.parameters == 25 + 5 + 10 + 2 + 5  # the tied weight counts once
    x, batch = workload.initial(0), workload.batches(0, 0, 1).next()
    out, order = torch.full_like(x, math.nan), []
    finals = {}

    def on_ready(k):
        order.append(k)
        finals[k] = out[slice(*workload.spans[k])].clone()

    workload.gradient(x, batch, out, on_ready)
    assert sorted(order) == [0, 1, 2, 3, 4]
    assert order[-2:] == [3, 2]  # the unused ones, after the backward pass, with a gradient of zero
    assert torch.equal(out[slice(workload.spans[2][0], workload.spans[3][1])], torch.zeros(12))
    assert all(torch.equal(finals[k], out[slice(*workload.spans[k])]) for k in order)


def test_a_callback_that_raises_leaves_the_workload_usable():
    workload = toy_workload()
    x, batch = workload.initial(0), workload.batches(0, 0, 1).next()
    _, want = gradient_of(workload, x, batch)

    def on_ready(k):
        raise RuntimeError("transport is down")

    with pytest.raises(RuntimeError, match="transport is down"):
        workload.gradient(x, batch, torch.empty_like(x), on_ready)
    assert torch.equal(gradient_of(workload, x, batch)[1], want)


def test_modules_with_buffers_are_refused():
    with pytest.raises(AssertionError, match="no buffers"):
        toy_workload(nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)))


def test_heldout_runs_in_evaluation_mode_and_weighs_samples_equally():
    class Noisy(Toy):
        def forward(self, x):
            assert not (self.training and not torch.is_grad_enabled())
            return super().forward(nn.functional.dropout(x, 0.9, self.training))

    workload, at_once = toy_workload(Noisy()), toy_workload(Noisy(), heldout_chunk=20)
    x = workload.initial(0)
    got = workload.heldout(x)  # chunks of 7, 7 and 6
    assert got.loss == pytest.approx(at_once.heldout(x).loss, rel=1e-6)
    assert got.metric == pytest.approx(at_once.heldout(x).metric)
    assert workload._module.training


# --- quadratic ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 4, 7])
def test_quadratic_minimiser_has_zero_mean_gradient_and_zero_loss(workers):
    workload = Quadratic(heterogeneity=2.0, noise=0.0).build(CPU, workers)
    gradients = [
        gradient_of(workload, workload.minimiser, workload.batches(0, rank, workers).next())[1]
        for rank in range(workers)
    ]
    assert torch.stack(gradients).mean(0).abs().max() < 1e-14
    assert workers == 1 or gradients[0].abs().max() > 0.1
    assert workload.heldout(workload.minimiser) == type(workload.heldout(workload.minimiser))(0.0, 0.0)


def test_quadratic_heldout_loss_is_the_mean_excess_over_the_workers():
    workload = Quadratic(heterogeneity=1.0, noise=0.0).build(CPU, WORKERS)
    batches = [workload.batches(0, rank, WORKERS).next() for rank in range(WORKERS)]

    def mean_loss(x):
        return sum(float(gradient_of(workload, x, batch)[0]) for batch in batches) / WORKERS

    x = workload.initial(3)
    assert workload.heldout(x).loss == pytest.approx(mean_loss(x) - mean_loss(workload.minimiser), rel=1e-12)


def test_quadratic_curvature_start_and_noise_are_as_stated():
    workload = Quadratic(dimension=8, condition=100.0, noise=0.4, batch_size=4).build(CPU, 1)
    assert workload.eigenvalues[0].item() == pytest.approx(0.01)
    assert workload.eigenvalues[-1].item() == pytest.approx(1.0)
    for seed in (0, 1):
        start = workload.heldout(workload.initial(seed))
        assert start.loss == pytest.approx(workload.eigenvalues.sum().item() / 2)
        assert start.metric == pytest.approx(8**0.5)
    stream = workload.batches(0, 0, 1)
    noise = torch.stack([stream.next()[1] for _ in range(4000)])
    assert noise.std().item() == pytest.approx(0.4 / 4**0.5, rel=0.02)
    assert noise.mean().abs().item() < 0.005


def test_quadratic_needs_the_run_s_number_of_workers():
    with pytest.raises(ValueError, match=r"built for 2, got rank 0 of 3 \(.+\)"):
        Quadratic().build(CPU, 2).batches(0, 0, 3)
    with pytest.raises(ValueError, match=r"workers must be at least 1: got 0"):
        Quadratic().build(CPU, 0)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4, 21])
def test_quadratic_of_any_dimension_has_spans_that_cover_it(dimension):
    workload = Quadratic(dimension=dimension).build(CPU, 1)
    assert len(workload.spans) == min(dimension, 4)
    assert [i for lo, hi in workload.spans for i in range(lo, hi)] == list(range(dimension))


# --- digits and Shakespeare --------------------------------------------------------------------------------------


def test_digits_are_all_there_and_the_heldout_classes_are_balanced():
    images, labels = digits_mlp._digits()
    assert images.shape == (1797, 64) and images.max() == 16
    counts = np.bincount(labels[-digits_mlp.HELDOUT :])
    assert counts.sum() == 360 and counts.min() >= 33 and counts.max() <= 37
    assert DigitsMlp().build(CPU, 1).parameters == 64 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10


@pytest.mark.parametrize(
    ("size", "parameters"), [("0.2M", 209_600), ("1M", 1_009_280), ("5M", 4_787_968), ("25M", 25_372_160)]
)
def test_gpt_sizes_have_the_stated_parameters(size, parameters):
    workload = ShakespeareGpt(size=size).build(CPU, 1)
    assert workload.parameters == parameters
    assert workload.name == f"shakespeare-gpt-{size}"
    tokens = shakespeare_gpt.SIZES[size].context
    assert workload.flops_per_sample == pytest.approx(6 * parameters * tokens, rel=0.35)


def test_gpt_overrides_show_in_the_name():
    assert ShakespeareGpt(width=32).build(CPU, 1).name == "shakespeare-gpt-32d-4l-4h-64t"
    assert ShakespeareGpt(width=64).build(CPU, 1).name == "shakespeare-gpt-0.2M"


def test_the_plays_are_complete_and_their_alphabet_sorted():
    alphabet, train, heldout = plays()
    assert len(train) + len(heldout) == 1_115_394 and len(alphabet) == 65 and list(alphabet) == sorted(alphabet)
    assert bytes(alphabet[i] for i in train[:13]) == b"First Citizen"


def test_gpt_targets_are_the_next_characters_and_training_never_sees_the_heldout_text():
    workload = ShakespeareGpt(**TINY_GPT).build(CPU, 1)
    text = plays()
    train, heldout = (torch.from_numpy(ids).long() for ids in (text.train, text.heldout))
    inputs, targets = workload.batches(0, 0, 1).next()
    assert inputs.shape == targets.shape == (4, 12) and torch.equal(inputs[:, 1:], targets[:, :-1])
    windows = train.unfold(0, 13, 1)
    for window in torch.cat((inputs, targets[:, -1:]), 1):
        assert (windows == window).all(1).any()
    inputs, targets = workload._heldout
    assert torch.equal(inputs[0], heldout[:12])
    assert torch.equal(targets[-1], heldout[-12:])


def test_gpt_does_not_look_ahead():
    workload = build_double("shakespeare-gpt")
    (x,) = points(workload, 1)
    inputs, _ = workload.batches(0, 0, WORKERS).next()
    workload.heldout(x)
    with torch.no_grad():
        logits = workload._module(inputs)
        changed = inputs.clone()
        changed[:, 7] = (changed[:, 7] + 1) % 65
        other = workload._module(changed)
    torch.testing.assert_close(logits[:, :7], other[:, :7], rtol=1e-12, atol=1e-14)
    assert (logits[:, 7:] != other[:, 7:]).any(-1).all()


def test_gpt_starts_near_the_uniform_distribution():
    workload = ShakespeareGpt().build(CPU, 1)
    assert workload.heldout(workload.initial(0)).loss == pytest.approx(math.log(65), abs=0.1)
