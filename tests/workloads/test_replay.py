"""A recorded function gives what the function gives, at other inputs too, or is refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from bench.settings import build
from bench.workloads.registry import settings_class
from bench.workloads.replay import NotReplayable, log_softmax, log_softmax_backward, recorded

aten = torch.ops.aten
TABLE = torch.arange(6.0)


def numbers(seed):
    return torch.randn(2, 6, generator=torch.Generator().manual_seed(seed))


def replayed(function, inputs):
    """What a recording at other inputs makes of these."""
    replay = recorded(lambda *tensors: (function(*tensors),), [numbers(99) for _ in inputs])
    out = torch.full_like(function(*inputs), torch.nan)
    (found,) = replay(out, *inputs)
    assert found.data_ptr() == out.data_ptr()  # the first result is where it was asked for
    return found


def changes_a_copy(x):
    y = x.clone()
    return y.mul_(2).add_(x)


def fills_what_it_made(x):
    return x + torch.empty_like(x).fill_(3)


def turns_a_view(x):
    y = (2 * x).unsqueeze(0)
    y.unsqueeze_(1)
    return (y + y.squeeze(0)).flatten()


def comes_back(x):
    return x.t().t().view(3, 4).transpose(0, 1).reshape(12) * 1


def twice_the_same(x):
    return (x.exp() + 1) * (x.exp() + 1)


def knows_a_table(x):
    return x * TABLE + torch.arange(6)


def chooses(x):
    return torch.where(x > 0, x, torch.zeros_like(x)).sum(1, keepdim=True).expand(2, 6)


def joins(x):
    a, b = x.split(3, dim=1)
    return torch.cat([b * b, a], 1)


def copies_over(x):
    y = torch.zeros_like(x)
    y.copy_(x)
    return y.add_(1)


FUNCTIONS = [
    changes_a_copy, fills_what_it_made, turns_a_view, comes_back, twice_the_same, knows_a_table, chooses, joins,
    copies_over,
]  # fmt: skip


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_a_recording_gives_what_the_function_gives(function):
    x = numbers(1)
    before = x.clone()
    assert torch.equal(replayed(function, [x]), function(x))
    assert torch.equal(x, before)


def test_results_that_are_inputs_are_given_back():
    x, y = numbers(1), numbers(2)
    assert torch.equal(replayed(lambda a, b: b, [x, y]), y)
    replay = recorded(lambda a: (a + 1, a, a + 1), [numbers(0)])
    out = torch.empty_like(x)
    for found, want in zip(replay(out, x), (x + 1, x, x + 1), strict=True):
        assert torch.equal(found, want)


def changes_its_input(x):
    return x.mul_(2)


def changes_part(x):
    y = x * 2
    y[:, :3].mul_(3)
    return y


def changes_a_table(x):
    return TABLE.clone().untyped_storage() and x + TABLE.add_(0)


def writes_elsewhere(x):
    return torch.add(x, x, out=torch.empty(2, 6))


@pytest.mark.parametrize(
    "function", [changes_its_input, changes_part, changes_a_table, writes_elsewhere], ids=lambda f: f.__name__
)
def test_what_a_list_of_operations_would_not_say_is_refused(function):
    with pytest.raises(NotReplayable):
        recorded(lambda x: (function(x),), [numbers(0)])


def test_random_numbers_are_drawn_anew():
    replay = recorded(lambda x: (x + torch.rand(2, 6) - torch.rand(2, 6),), [numbers(0)])
    x, draws = torch.zeros(2, 6), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(replay(torch.empty(2, 6), x)[0])
    torch.manual_seed(1)
    assert torch.equal(draws[0], torch.rand(2, 6) - torch.rand(2, 6))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2]) and draws[0].abs().min() > 0


def test_an_unknown_view_of_an_input_is_refused():
    x = numbers(0)
    hidden = x[0]  # made before anything is recorded
    with pytest.raises(NotReplayable, match="shares the memory"):
        recorded(lambda a: (a + hidden,), [x])


def test_a_recording_is_outside_autograd():
    x = numbers(1).requires_grad_()
    (found,) = recorded(lambda a: (a * 2,), [numbers(0)])(torch.empty(2, 6), x)
    assert not found.requires_grad


@pytest.mark.parametrize("classes", [2, 10, 15])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_narrow_softmax_is_torchs(classes, dtype):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 16, classes, generator=generator, dtype=dtype) * 30
    x[0, 0, 0], x[1, 1] = -torch.inf, 1000
    exact = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 1e-5 if dtype == torch.float32 else 1e-13}
    want = functional.log_softmax(x, 2)
    torch.testing.assert_close(log_softmax(x, 2, False), want, **exact)
    gradient = torch.randn(x.shape, generator=generator, dtype=dtype)
    torch.testing.assert_close(
        log_softmax_backward(gradient, want, 2, dtype),
        aten._log_softmax_backward_data(gradient, want, 2, dtype),
        **exact,
    )


def test_little_is_left_of_a_networks_gradient():
    w = build(settings_class("digits-mlp"), {}, "digits-mlp").build(torch.device("cpu"), 1)
    xs, batch = w.initial(0)[None].repeat(8, 1), w.batches(0, 0, 1).next()
    stacked = [tensor[None].repeat(8, *[1] * tensor.dim()) for tensor in batch]
    counts = []

    class Counts(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            counts[-1] += 1
            return func(*args, **(kwargs or {}))

    function = torch.func.vmap(torch.func.grad_and_value(w._loss_at))
    replay = recorded(function, [xs, *stacked])
    for run in (lambda: function(xs, *stacked), lambda: replay(torch.empty_like(xs), xs, *stacked)):
        counts.append(0)
        with Counts():
            run()
    # Eight products of matrices, three sums, and the loss are 45 operations with the views they need; the two kinds of
    # softmax count six and four.
    assert counts[0] > 120 and counts[1] < 75
