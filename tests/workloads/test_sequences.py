"""LSTM layers and the models made of them, the transformer: closed forms, torch's own layers, counted work."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, grad_and_value, jvp, vmap

from algorithms.optim import Optimizer, OptimizerSettings
from bench.data import load
from bench.workloads import shakespeare_gpt, speech_lstm
from bench.workloads.models.language import LstmLanguageModel
from bench.workloads.models.lstm import Lstm, LstmStack, recurrence
from bench.workloads.problem import cross_entropy
from bench.workloads.shakespeare_gpt import ShakespeareGpt, Transformer
from bench.workloads.shakespeare_lstm import ShakespeareLstm
from bench.workloads.speech_lstm import SpeechLstm, SpeechModel
from bench.workloads.texts import plays, plays_by_role, spread_windows
from bench.workloads.wikitext2_lstm import Wikitext2Lstm
from tests.support.datasets import data_folder, needs_data  # noqa: F401

CPU = torch.device("cpu")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(inputs=5, width=7, dtype=torch.float64, seed=0):
    made = Lstm(inputs, width)
    with torch.no_grad():
        made.initialise(seeded(seed))
        made.bias.add_(torch.randn(made.bias.shape, generator=seeded(1)))
    return made.to(dtype)


def sequences(*shape, dtype=torch.float64, seed=2):
    return torch.randn(*shape, generator=seeded(seed), dtype=dtype)


def ids(*shape, count, seed=2):
    return torch.randint(count, shape, generator=seeded(seed))


def words(tied, depth):
    return LstmLanguageModel(ids=11, embedding=4, width=6, depth=depth, tied=tied)


# Name: (a small model, its inputs for a number of sequences).
MODELS = {
    "free": (lambda: words(tied=False, depth=2), lambda b: ids(b, 9, count=11)),
    "tied": (lambda: words(tied=True, depth=1), lambda b: ids(b, 9, count=11)),
    "speech": (lambda: SpeechModel(4, 6, 2), lambda b: sequences(b, 9, 4)),
}
EVERY = pytest.mark.parametrize("name", MODELS)


def model(name, seed=0):
    made, inputs = MODELS[name][0](), MODELS[name][1]
    with torch.no_grad():
        made.initialise(seeded(seed))
    return made.double(), inputs


# --- one layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [True, False])
def test_constant_gates_give_a_geometric_series(fused):
    made = layer(width=1)
    made.fused = fused
    gates = torch.tensor([0.3, 0.8, -0.7, 0.2], dtype=torch.float64)  # input, forget, candidate, output
    with torch.no_grad():
        made.weight_input.zero_()
        made.weight_recurrent.zero_()
        made.bias.copy_(gates)
    i, f, o = torch.sigmoid(gates[[0, 1, 3]]).tolist()
    memory = [i * math.tanh(-0.7) * (1 - f**t) / (1 - f) for t in range(1, 13)]
    expected = torch.tensor([o * math.tanh(c) for c in memory], dtype=torch.float64)
    torch.testing.assert_close(made(sequences(2, 12, 5)), expected.expand(2, 12).unsqueeze(-1))


@pytest.mark.parametrize("fused", [True, False])
def test_equals_torchs_layer(fused):
    made, reference, x = layer(), nn.LSTM(5, 7, batch_first=True).double(), sequences(3, 8, 5)
    made.fused = fused
    with torch.no_grad():
        for theirs, ours in zip(
            (reference.weight_ih_l0, reference.weight_hh_l0, reference.bias_ih_l0),
            (made.weight_input, made.weight_recurrent, made.bias),
            strict=True,
        ):
            theirs.copy_(ours)
        reference.bias_hh_l0.zero_()
    torch.testing.assert_close(made(x), reference(x)[0])


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_kernel_and_recurrence_have_the_same_outputs_and_gradients(dtype, rtol):
    x, results = sequences(3, 20, 5, dtype=dtype), []
    for fused in (True, False):
        made, leaf = layer(dtype=dtype), x.clone().requires_grad_()
        made.fused = fused
        out = made(leaf)
        out.sin().sum().backward()
        results.append([out.detach(), leaf.grad, *(p.grad for p in made.parameters())])
    for kernel, plain in zip(*results, strict=True):
        torch.testing.assert_close(kernel, plain, rtol=rtol, atol=rtol)


def test_the_past_does_not_depend_on_the_future():
    made, x = layer(), sequences(2, 10, 5)
    changed = x.clone()
    changed[:, 6:] += 1
    before, after = made(x), made(changed)
    assert torch.equal(before[:, :6], after[:, :6])
    assert not torch.isclose(before[:, 6:], after[:, 6:]).any()


def test_a_start_keeps_the_memory():
    made = Lstm(4, 6)
    with torch.no_grad():
        made.initialise(seeded())
    assert (made.bias[6:12] == 1).all() and made.bias.sum() == 6
    assert float(made.weight_recurrent.detach().var()) == pytest.approx(1 / 6, rel=0.3)


@pytest.mark.parametrize("fused", [True, False])
def test_second_derivatives_by_autograd(fused):
    made, x = layer(3, 4), sequences(2, 6, 3)
    made.fused = fused
    weight = made.weight_recurrent
    direction = sequences(*weight.shape, seed=4)

    def slope(create_graph):
        return torch.autograd.grad(made(x).square().sum(), weight, create_graph=create_graph)[0]

    def slope_at(step):
        with torch.no_grad():
            weight.add_(direction, alpha=step)
        result = slope(create_graph=False)
        with torch.no_grad():
            weight.sub_(direction, alpha=step)
        return result

    (product,) = torch.autograd.grad((slope(create_graph=True) * direction).sum(), weight)
    torch.testing.assert_close(product, (slope_at(1e-5) - slope_at(-1e-5)) / 2e-5, rtol=1e-6, atol=1e-7)


def test_half_precision_products_are_near_and_the_memory_is_not_rounded():
    made, x = layer(dtype=torch.float32), sequences(2, 30, 5, dtype=torch.float32)
    exact = made(x)
    for fused in (True, False):
        made.fused = fused
        with torch.autocast("cpu", torch.bfloat16):
            near = made(x)
        torch.testing.assert_close(near.float(), exact, rtol=0, atol=0.03)
    assert near.dtype == torch.float32  # of `recurrence`: only the products are in half precision


# --- models made of them -----------------------------------------------------------------------------------------


@EVERY
def test_vectorised_gradients_equal_one_by_one_and_warn_of_nothing(name):
    made, inputs = model(name)
    replicas = [dict(model(name, seed)[0].named_parameters()) for seed in range(3)]
    x = torch.stack([inputs(4)] * 3)
    x[1] = x[1].flip(1)

    def loss_of(parameters, x):
        return functional_call(made, parameters, (x,)).square().mean()

    stacked = {key: torch.stack([r[key].detach() for r in replicas]) for key in replicas[0]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as torch's own of a slow fallback
        gradients, losses = vmap(grad_and_value(loss_of))(stacked, x)
    for k, replica in enumerate(replicas):
        loss = loss_of(replica, x[k])
        torch.testing.assert_close(losses[k], loss.detach())
        for key, want in zip(replica, torch.autograd.grad(loss, list(replica.values())), strict=True):
            torch.testing.assert_close(gradients[key][k], want)


@EVERY
def test_curvature_by_torch_func_equals_finite_differences(name):
    made, inputs = model(name)
    x, at = inputs(3), {key: p.detach() for key, p in made.named_parameters()}
    direction = {key: torch.randn(p.shape, generator=seeded(7), dtype=p.dtype) for key, p in at.items()}

    def loss_of(parameters):
        return functional_call(made, parameters, (x,)).square().mean()

    def slope(scale):
        return grad(loss_of)({key: p + scale * direction[key] for key, p in at.items()})

    _, products = jvp(grad(loss_of), (at,), (direction,))
    ahead, behind = slope(1e-5), slope(-1e-5)
    for key, product in products.items():
        torch.testing.assert_close(product, (ahead[key] - behind[key]) / 2e-5, rtol=1e-5, atol=1e-6)


@EVERY
def test_stated_operations_are_those_that_torch_counts(name):
    made, inputs = model(name)
    for part in made.modules():
        if isinstance(part, Lstm):
            part.fused = False
    from torch.utils.flop_counter import FlopCounterMode  # takes seconds to load

    x, counter = inputs(3), FlopCounterMode(display=False)
    with counter, torch.no_grad():
        made(x)
    assert 3 * counter.get_total_flops() == len(x) * made.gradient_flops(x.shape[1])


def test_stated_operations_of_the_transformer_are_those_that_torch_counts():
    settings = ShakespeareGpt(width=16, depth=2, heads=2, context=12)
    problem = settings.problem()
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        problem.module(problem.heldout[0][:3])
    assert 3 * counter.get_total_flops() == 3 * problem.flops_per_sample


def test_a_tied_table_learns_from_both_ends():
    made, _ = model("tied")
    x = torch.tensor([[3, 3, 3]])  # the only id on the input side
    cross_entropy(made(x), torch.tensor([[5, 5, 5]])).backward()
    rows = made.embedding.grad.norm(dim=1)
    assert (rows > 0).all()  # the output side's softmax reaches all rows
    free, _ = model("free")
    cross_entropy(free(x), torch.tensor([[5, 5, 5]])).backward()
    assert (free.embedding.grad.norm(dim=1) > 0).nonzero().flatten().tolist() == [3]


@pytest.mark.parametrize("depth", [1, 3])
def test_layers_are_applied_in_order(depth):
    stack, x = LstmStack(5, 7, depth).double(), sequences(2, 4, 5)
    with torch.no_grad():
        stack.initialise(seeded())
    expected = x
    for one in stack.layers:
        expected = recurrence(expected, one.weight_input, one.weight_recurrent, one.bias)
    torch.testing.assert_close(stack(x), expected)


def test_the_speech_model_weighs_all_frames_alike():
    made, inputs = model("speech")
    x = inputs(2)
    torch.testing.assert_close(made(x), made.head(made.lstm(x)).mean(1))


@pytest.mark.parametrize("size", shakespeare_gpt.SIZES)
def test_a_size_has_about_as_many_parameters_as_it_says(size):
    with torch.device("meta"):
        count = sum(p.numel() for p in Transformer(shakespeare_gpt.SIZES[size], 65).parameters())
    assert count == pytest.approx(float(size[:-1]) * 1e6, rel=0.06)


def test_the_transformers_past_does_not_depend_on_the_future():
    made = Transformer(shakespeare_gpt.Shape(width=16, depth=2, heads=2, context=10), 11)
    with torch.no_grad():
        made.initialise(seeded())
    x = ids(2, 10, count=11)
    changed = x.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 11
    before, after = made(x), made(changed)
    torch.testing.assert_close(before[:, :6], after[:, :6])
    assert not torch.isclose(before[:, 6:], after[:, 6:]).all(-1).any()


# --- texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "context", "count"), [(100, 9, 5), (11, 10, 1), (50, 1, 49)])
def test_spread_windows_reach_from_end_to_end(length, context, count):
    text = torch.arange(length, dtype=torch.int32)
    inputs, targets = spread_windows(text, context, count)
    assert inputs.shape == targets.shape == (count, context)
    assert inputs.dtype == targets.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    assert inputs[0, 0] == 0 and targets[-1, -1] == (length - 1 if count > 1 else context)
    steps = inputs[1:, 0] - inputs[:-1, 0]
    assert not len(steps) or steps.max() - steps.min() <= 1


def test_the_plays_are_split_at_nine_tenths():
    text = plays()
    assert len(text.train) == 1_003_854 and len(text.heldout) == 111_540
    assert len(text.alphabet) == 65 and sorted(text.alphabet) == list(text.alphabet)
    assert bytes(text.alphabet[i] for i in text.train[:14]) == b"First Citizen:"


def test_a_speech_starts_with_its_roles_name():
    text, alphabet = plays_by_role(64), plays().alphabet
    characters = np.frombuffer(alphabet, dtype=np.uint8)[text.ids.numpy()].tobytes().decode()
    assert text.segments[0, 0] == 0 and text.segments[-1, 1] == len(characters)
    assert (text.segments[1:, 0] == text.segments[:-1, 1]).all()
    for (lo, _), group in list(zip(text.segments, text.groups, strict=True))[::97]:
        assert characters[lo:].startswith(text.group_names[group] + ":\n")


# --- workloads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (ShakespeareLstm, {"width": 0}),
        (ShakespeareLstm, {"context": 9000}),
        (ShakespeareLstm, {"embedding": 0}),
        (Wikitext2Lstm, {"depth": 0}),
        (Wikitext2Lstm, {"context": 2000}),
        (SpeechLstm, {"frames": 0}),
        (ShakespeareGpt, {"size": "2M"}),
        (ShakespeareGpt, {"heads": 3}),
        (ShakespeareGpt, {"context": 200_000}),
    ],
    ids=str,
)
def test_refused_settings(cls, wrong):
    with pytest.raises(ValueError, match=r"\w+ must .*(got|=).*\(.+\)"):
        cls(**wrong)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (ShakespeareLstm(), "shakespeare-lstm"),
        (ShakespeareLstm(depth=2), "shakespeare-lstm-128d-2l-64e-64t"),
        (Wikitext2Lstm(batch_size=20), "wikitext2-lstm"),
        (Wikitext2Lstm(width=64), "wikitext2-lstm-64d-1l-64e-35t"),
        (SpeechLstm(frames=80), "speech-lstm-64d-1l-80f"),
        (ShakespeareGpt(size="1M"), "shakespeare-gpt-1M"),
        (ShakespeareGpt(size="1M", depth=2), "shakespeare-gpt-128d-2l-4h-64t"),
    ],
    ids=str,
)
def test_names_tell_models_apart(settings, name):
    assert settings.name == name


@pytest.mark.parametrize("size", shakespeare_gpt.SIZES)
def test_every_size_has_an_optimizer_and_a_target(size):
    settings = ShakespeareGpt(size=size)
    OptimizerSettings(**settings.optimizer_table())
    assert shakespeare_gpt.TARGETS[size].loss < math.log(65)


def test_training_starts_at_the_uniform_distribution():
    for settings, classes in ((ShakespeareLstm(), 65), (ShakespeareGpt(), 65)):
        workload = settings.build(CPU, 1)
        assert workload.heldout(workload.initial(0)).loss == pytest.approx(math.log(classes), abs=0.1)


@needs_data
@pytest.mark.usefixtures("data_folder")
def test_the_words_vocabulary_has_its_published_size():
    problem = Wikitext2Lstm(width=8, embedding=4).problem()
    inputs, targets = problem.heldout
    assert inputs.shape == targets.shape == (200, 35)
    assert problem.module.embedding.shape == (33_278, 4)
    assert int(problem.train.ids.max()) == 33_277 and len(problem.train.ids) > 2_000_000
    assert torch.equal(inputs[:, 1:], targets[:, :-1])
    assert problem.train.segments[-1, 1] == len(problem.train.ids) and len(problem.train.group_names) > 500


@pytest.mark.thorough
@needs_data
@pytest.mark.usefixtures("data_folder")
def test_recordings_are_split_by_index():
    problem, recordings = SpeechLstm().problem(), load.spoken_digits()
    train, (inputs, targets) = problem.train, problem.heldout
    assert inputs.shape == (300, 64, 40) and train.inputs.shape == (2700, 64, 40)
    assert torch.bincount(targets).tolist() == [30] * 10
    assert np.bincount(train.labels).tolist() == [270] * 10 and np.bincount(train.groups).tolist() == [450] * 6
    held = [r for r in recordings if r.index < 5]
    assert [r.digit for r in held] == targets.tolist()
    assert not {(r.index, r.digit, r.speaker) for r in held} & {
        (r.index, r.digit, r.speaker) for r in recordings if r.index >= 5
    }
    whole = torch.cat((inputs, train.inputs))
    assert float(whole.std()) == pytest.approx(1, abs=0.05)
    assert len(torch.unique(whole.flatten(1), dim=0)) == 3000  # no recording is on both sides, or there twice


@needs_data
@pytest.mark.usefixtures("data_folder")
def test_features_have_no_mean_over_the_recording():
    shortest = min(range(3000), key=lambda k: len(load.spoken_digits()[k].samples))
    features = speech_lstm._features(speech_lstm.data_dir(), 64)[shortest]
    assert abs(features.sum(0)).max() < 1e-4
    frames = 1 + (len(load.spoken_digits()[shortest].samples) - 200) // 80
    assert not features[frames:].any() and features[:frames].all(1).all()


@pytest.mark.slow
@needs_data
@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize("seed", range(3))
def test_spoken_digits_are_learnt(seed):
    workload = SpeechLstm().build(CPU, 1)
    x, stream = workload.initial(seed), workload.batches(seed, 0, 1)
    optimizer, out = Optimizer(OptimizerSettings(**workload.optimizer), len(x), x.dtype), torch.empty_like(x)
    best = 0.0
    for step in range(1, 1601):
        workload.gradient(x, stream.next(), out)
        optimizer.step_(x, out)
        if step % 200 == 0:
            heldout = workload.heldout(x)
            best = max(best, heldout.metric if heldout.loss <= workload.target_loss else 0.0)
    assert best >= 0.95
