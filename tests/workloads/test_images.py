"""The image models and their workloads: against torch's own layers, closed forms and arithmetic by hand."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from algorithms.optim import Optimizer, OptimizerSettings
from bench.data import load
from bench.workloads import fashion_convnet, mnist_mlp
from bench.workloads.a9a_logistic import A9aLogistic, LogisticRegression, binary_accuracy, logistic_loss
from bench.workloads.cifar10 import Cifar10Easgd7, Cifar10Resnet18, Cifar10Vgg13, dropout_mask
from bench.workloads.fashion_convnet import FashionConvnet
from bench.workloads.init import fan_in, he_normal, uniform_by_fan_in
from bench.workloads.mnist_mlp import MnistMlp
from bench.workloads.models import resnet
from bench.workloads.models.convnet import SmallConvNet
from bench.workloads.models.easgd7 import Easgd7
from bench.workloads.models.mlp import ImageMlp
from bench.workloads.models.resnet import ResNet18
from bench.workloads.models.standardise import Standardise
from bench.workloads.models.vgg import Vgg13
from bench.workloads.norm import BatchNorm, calibrated, norm
from bench.workloads.problem import accuracy, count_flops, cross_entropy
from tests.support.datasets import data_folder, needs_data  # noqa: F401

CPU = torch.device("cpu")
GREY = {"classes": 10, "mean": 0.3, "std": 0.35}
COLOUR = {"mean": (0.49, 0.48, 0.45), "std": (0.25, 0.24, 0.26)}


def deep(model, width, kind):
    return model(width=width, kind=kind, **COLOUR)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count, *shape, seed=1):
    return torch.randint(256, (count, *shape), dtype=torch.uint8, generator=seeded(seed))


# Name: (a small module, its images' shape, how it is initialised).
SMALL = {
    "mlp": (lambda: ImageMlp(pixels=36, widths=(5, 5), **GREY), (6, 6), uniform_by_fan_in),
    "convnet": (lambda: SmallConvNet(width=2, **GREY), (28, 28), he_normal),
    "easgd7": (lambda: Easgd7(**COLOUR), (3, 28, 28), he_normal),
    **{
        f"{model.__name__}-{kind}": (lambda m=model, k=kind: deep(m, 4, k), (3, 32, 32), start)
        for model, start in ((ResNet18, resnet.initialise), (Vgg13, he_normal))
        for kind in ("group", "layer", "batch")
    },
}
EVERY = pytest.mark.parametrize("name", SMALL)


def small(name, dtype=torch.float64):
    make, shape, initialise = SMALL[name]
    module = make().to(dtype)
    initialise(module, seeded())
    with torch.no_grad():  # away from ResNet's zeros, so that every parameter plays a part
        for p in module.parameters():
            p += 0.1 * torch.randn(p.shape, generator=seeded(p.numel()), dtype=dtype)
    return module, shape


# --- the models --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "parameters"),
    [
        (lambda: ImageMlp(pixels=784, widths=(50, 50), **GREY), 42_310),
        (lambda: SmallConvNet(width=16, **GREY), 106_122),
        (lambda: Easgd7(**COLOUR), 351_946),  # as in the paper's code
        (lambda: deep(ResNet18, 64, "batch"), 11_173_962),  # as torch's own layers give
        (lambda: deep(ResNet18, 64, "group"), 11_173_962),
        (lambda: deep(Vgg13, 64, "layer"), 9_413_066),
        (lambda: deep(Vgg13, 64, "none"), 9_410_122),  # a bias for each channel instead of two parameters
        (lambda: LogisticRegression(123), 124),
    ],
)
def test_number_of_parameters(module, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in module().parameters()) == parameters


def test_easgd7_has_the_papers_shapes():
    model, shapes = Easgd7(**COLOUR), []
    model.standardise.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:3])))
    for layer in (model.conv1, model.conv2, model.conv3):
        layer.register_forward_pre_hook(lambda _m, args: shapes.append(tuple(args[0].shape[1:3])))
        layer.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:3])))
    assert model(images(2, 3, 28, 28)).shape == (2, 10)
    assert shapes == [(3, 28), (3, 28), (64, 24), (64, 12), (128, 8), (128, 4), (64, 2)]


@pytest.mark.parametrize(
    ("module", "shape", "products"),
    [
        (lambda: ImageMlp(pixels=784, widths=(50, 50), **GREY), (28, 28), 784 * 50 + 50 * 50 + 50 * 10),
        (
            lambda: Easgd7(**COLOUR),
            (3, 28, 28),
            24**2 * 64 * 75 + 8**2 * 128 * 1600 + 2**2 * 64 * 1152 + 256 * 256 + 256 * 10,
        ),
        (
            lambda: deep(Vgg13, 64, "group"),
            (3, 32, 32),
            9 * 32**2 * (3 * 64 + 64**2)
            + 9 * 16**2 * (64 * 128 + 128**2)
            + 9 * 8**2 * (128 * 256 + 256**2)
            + 9 * 4**2 * (256 * 512 + 512**2)
            + 9 * 2**2 * (2 * 512**2)
            + 512 * 10,
        ),
    ],
)
def test_counted_operations_equal_those_counted_by_hand(module, shape, products):
    # A product and a sum of each, and a backward pass of twice the forward pass.
    assert count_flops(module(), images(3, *shape)) == 6 * products


@EVERY
def test_gradients_of_many_replicas_at_once_equal_those_one_by_one(name):
    module, shape = small(name)
    start = dict(module.named_parameters())
    replicas = {k: torch.stack([p.detach(), p.detach() * 1.1, p.detach() * 0.9]) for k, p in start.items()}
    batches = torch.stack([images(3, *shape, seed=s) for s in range(3)])
    targets = torch.randint(10, (3, 3), generator=seeded())

    def loss(parameters, inputs, classes):
        return cross_entropy(torch.func.functional_call(module, parameters, (inputs,)), classes)

    together, losses = torch.func.vmap(torch.func.grad_and_value(loss))(replicas, batches, targets)
    for n in range(3):
        mine = {k: p[n].clone().requires_grad_() for k, p in replicas.items()}
        value = loss(mine, batches[n], targets[n])
        alone = torch.autograd.grad(value, list(mine.values()))
        assert losses[n].item() == pytest.approx(value.item(), rel=1e-12)
        for k, g in zip(mine, alone, strict=True):
            assert torch.allclose(together[k][n], g, rtol=1e-9, atol=1e-11), k


@EVERY
def test_half_precision_computes_nearly_the_same_and_ends_in_finite_gradients(name):
    module, shape = small(name, torch.float32)
    inputs, targets = images(8, *shape), torch.randint(10, (8,), generator=seeded())
    exact = module(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        logits = module(inputs)
        loss = cross_entropy(logits, targets)
    loss.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in module.parameters())
    assert 0 < ((logits - exact).norm() / exact.norm()).item() < 0.1


@EVERY
def test_start_is_a_function_of_the_generator(name):
    make, _, initialise = SMALL[name]
    starts = []
    for seed in (0, 0, 1):
        module = make()
        initialise(module, seeded(seed))
        starts.append(nn.utils.parameters_to_vector(module.parameters()))
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])


def test_residual_blocks_start_as_their_shortcuts():
    model = deep(ResNet18, 4, "group")
    resnet.initialise(model, seeded())
    x = torch.rand(2, 4, 8, 8, generator=seeded())
    assert torch.equal(model.blocks[0](x), x)
    assert model.blocks[2](x).shape == (2, 8, 4, 4)


# --- initial weights ---------------------------------------------------------------------------------------------


def test_he_normal_has_the_stated_variance_and_keeps_the_scale_of_activations():
    layers = nn.Sequential(nn.Conv2d(64, 128, 3, bias=True), nn.Linear(1000, 10))
    module = nn.ModuleDict({"body": layers[0], "norm": nn.GroupNorm(1, 5), "head": layers[1]})
    for p in module.parameters():
        nn.init.constant_(p, 7.0)
    he_normal(module, seeded())
    weight = module["body"].weight.detach()
    assert fan_in(weight) == 64 * 9
    assert float(weight.var()) == pytest.approx(2 / 576, rel=0.02)
    assert float(module["head"].weight.detach().var()) == pytest.approx(1 / 3000, rel=0.05)
    assert not module["body"].bias.any() and not module["norm"].bias.any()
    assert torch.equal(module["norm"].weight, torch.ones(5))
    x = functional.relu(torch.randn(8, 64, 8, 8, generator=seeded()))  # mean square 1/2
    assert float(functional.relu(module["body"](x)).square().mean()) == pytest.approx(0.5, rel=0.1)


def test_uniform_by_fan_in_is_pytorchs_own_rule():
    torch.manual_seed(0)  # of PyTorch's own draws
    ours, theirs = nn.Linear(50, 4000), nn.Linear(50, 4000)
    uniform_by_fan_in(ours, seeded())
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        for share in (0.0, 0.25, 0.5, 1.0):  # quantiles of U(-1, 1) / sqrt(50)
            expected = (2 * share - 1) / math.sqrt(50)
            assert float(p.flatten().quantile(share)) == pytest.approx(expected, abs=0.005)
            assert float(q.flatten().quantile(share)) == pytest.approx(expected, abs=0.005)


# --- normalisation of bytes --------------------------------------------------------------------------------------


def test_bytes_are_standardised_in_the_models_own_type():
    layer, x = Standardise(COLOUR["mean"], COLOUR["std"]), images(2, 3, 4, 4)
    mean, std = (torch.tensor(COLOUR[k], dtype=torch.float64).view(3, 1, 1) for k in ("mean", "std"))
    expected = (x.double() / 255 - mean) / std
    assert layer(x).dtype == torch.float32 and torch.allclose(layer(x).double(), expected, atol=1e-5)
    assert layer.double()(x).dtype == torch.float64 and torch.allclose(layer(x), expected, atol=1e-6)
    assert not list(layer.buffers()) and not list(layer.parameters())
    assert layer.to("meta")(x.to("meta")).device.type == "meta"


# --- normalisation layers ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (512, 32), (32, 16), (8, 4), (12, 6), (7, 1), (1, 1)])
def test_group_norm_divides_the_channels(channels, groups):
    assert norm("group", channels).num_groups == groups
    assert norm("layer", channels).num_groups == 1


def test_unknown_norm_names_the_known_ones():
    with pytest.raises(ValueError, match=r"group, layer, batch, none: got 'instance'"):
        norm("instance", 4)


def pair(seed, channels=6):
    """The same two-layer model with our batch norm and with torch's."""
    torch_model = nn.Sequential(
        nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels, momentum=None), nn.ReLU(),
        nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels, momentum=None),
    ).double()  # fmt: skip
    with torch.no_grad():
        for p in torch_model.parameters():
            p.copy_(torch.randn(p.shape, generator=seeded(seed + p.numel()), dtype=torch.float64))
    ours = copy.deepcopy(torch_model)
    for k in (1, 4):
        ours[k] = BatchNorm(channels).double()
        ours[k].load_state_dict({n: p for n, p in torch_model[k].named_parameters()})
    return ours, torch_model


def numbers(count, seed=3):
    return torch.randn(count, 3, 8, 8, generator=seeded(seed), dtype=torch.float64)


def test_batch_norm_trains_as_torchs_own():
    ours, theirs = pair(0)
    x = numbers(5)
    a, b = ours(x), theirs(x)
    assert torch.allclose(a, b, rtol=1e-12)
    a.square().sum().backward()
    b.square().sum().backward()
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-9, atol=1e-9)
    assert not list(ours.buffers())


def test_calibrated_statistics_are_exact_for_one_batch():
    layer, x = BatchNorm(3).double().eval(), 2 * numbers(10) + 5
    with calibrated(layer, lambda: layer(x)):
        mean, variance = layer._statistics
        columns = x.transpose(0, 1).flatten(1)
        assert torch.allclose(mean, columns.mean(1), rtol=1e-12)
        assert torch.allclose(variance, columns.var(1, correction=1), rtol=1e-12)
        expected = (x - mean.view(3, 1, 1)) / (variance.view(3, 1, 1) + 1e-5).sqrt()
        assert torch.allclose(layer(x), expected, rtol=1e-9, atol=1e-12)


def test_calibration_is_torchs_update_bn():
    ours, theirs = pair(1)
    batches = [numbers(6, seed) for seed in range(4)]
    update_bn(batches, theirs)
    theirs.eval(), ours.eval()
    x = numbers(5, seed=9)
    with calibrated(ours, lambda: [ours(b) for b in batches]):
        assert torch.allclose(ours(x), theirs(x), rtol=1e-9, atol=1e-12)
        assert torch.equal(ours(x)[:2], ours(x[:2]))  # a sample's output depends on no other


def test_an_averaged_model_needs_statistics_of_its_own():
    (a, _), (b, _) = pair(1), pair(2)
    mean = copy.deepcopy(a)
    with torch.no_grad():
        for p, q, r in zip(mean.parameters(), a.parameters(), b.parameters(), strict=True):
            p.copy_((q + r) / 2)
    x, found = numbers(50), []
    for model in (a, b, mean):
        with calibrated(model.eval(), lambda model=model: model(x)):
            found.append([layer._statistics for layer in model if isinstance(layer, BatchNorm)])
    (first_a, second_a), (first_b, second_b), (first, second) = found
    # A mean is linear in the weights before it: only the first layer's are averages. Variances nowhere.
    assert torch.allclose(first[0], (first_a[0] + first_b[0]) / 2, rtol=1e-9)
    assert not torch.allclose(second[0], (second_a[0] + second_b[0]) / 2, rtol=0.1)
    assert not torch.allclose(first[1], (first_a[1] + first_b[1]) / 2, rtol=0.1)


def test_statistics_do_not_outlive_their_evaluation():
    layer, x = BatchNorm(3).double().eval(), numbers(4)
    with pytest.raises(AssertionError, match="calibrat"):
        layer(x)
    with calibrated(layer, lambda: layer(x)):
        layer(x)
    with pytest.raises(AssertionError, match="calibrat"):
        layer(x)
    with pytest.raises(RuntimeError, match="disk"), calibrated(layer, lambda: fail("disk")):
        pass
    with pytest.raises(AssertionError, match="calibrat"):
        layer(x)
    with calibrated(layer, lambda: None), pytest.raises(AssertionError, match="calibrat"):
        layer(x)  # a calibration set without batches


def test_calibration_moves_no_parameter_and_makes_no_graph():
    ours, _ = pair(1)
    before = nn.utils.parameters_to_vector(ours.parameters()).clone()
    with calibrated(ours.eval(), lambda: ours(numbers(4))):
        assert not any(s.requires_grad for s in ours[1]._statistics)
    assert torch.equal(before, nn.utils.parameters_to_vector(ours.parameters()))


def test_without_batch_norm_there_is_nothing_to_calibrate():
    module = deep(ResNet18, 4, "group")
    with calibrated(module, lambda: fail("not called")):
        pass


def fail(why):
    raise RuntimeError(why)


# --- dropout -----------------------------------------------------------------------------------------------------


def test_dropout_masks_are_fair_in_every_place_and_independent():
    (mask,) = dropout_mask(4096, seeded())
    assert mask.shape == (4096, 256) and mask.dtype == torch.uint8 and int(mask.max()) == 1
    sigma = 0.5 / math.sqrt(4096)
    centred = mask.double() - 0.5
    assert float(centred.mean(0).abs().max()) < 5 * sigma
    correlation = (centred.T @ centred / 4096 * 4).fill_diagonal_(0)
    assert float(correlation.abs().max()) < 6 / math.sqrt(4096)
    assert torch.equal(mask, dropout_mask(4096, seeded())[0])
    assert not torch.equal(mask, dropout_mask(4096, seeded(1))[0])


def test_a_mask_and_its_complement_average_to_the_evaluated_network():
    # Logits are linear in the hidden units, and kept units are doubled.
    model, _ = small("easgd7")
    inputs = images(3, 3, 28, 28)
    (mask,) = dropout_mask(3, seeded())
    both = model(inputs, mask) + model(inputs, 1 - mask)
    assert torch.allclose(both / 2, model(inputs), rtol=1e-10)
    assert not torch.allclose(model(inputs, mask), model(inputs), rtol=0.01)


# --- logistic regression -----------------------------------------------------------------------------------------


def test_one_logit_is_two_logits_of_which_one_is_zero():
    z = 5 * torch.randn(50, generator=seeded(), dtype=torch.float64)
    y = torch.randint(2, (50,), generator=seeded(1))
    two = torch.stack([torch.zeros_like(z), z], dim=1)
    assert logistic_loss(z, y).item() == pytest.approx(cross_entropy(two, y).item(), rel=1e-12)
    assert binary_accuracy(z, y) == accuracy(two, y)


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cifar10Easgd7(train_batches=6), "train_batches must be 1 to 5: got 6"),
        (lambda: Cifar10Easgd7(train_batches=0), "train_batches must be 1 to 5: got 0"),
        (lambda: Cifar10Resnet18(norm="none"), "norm must be one of group, layer, batch: got 'none'"),
        (lambda: Cifar10Vgg13(norm="instance"), "norm must be one of group, layer, batch, none: got 'instance'"),
        (lambda: Cifar10Vgg13(width=0), "width must be at least 1: got 0"),
        (lambda: MnistMlp(depth=0), "depth must be at least 1: got 0"),
        (lambda: FashionConvnet(width=-3), "width must be at least 1: got -3"),
        (lambda: A9aLogistic(batch_size=0), "batch_size must be at least 1: got 0"),
    ],
)
def test_settings_out_of_range_say_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        (MnistMlp(), "mnist-mlp"),
        (MnistMlp(width=30, depth=1), "mnist-mlp-1x30"),
        (FashionConvnet(), "fashion-convnet"),
        (FashionConvnet(width=8), "fashion-convnet-w8"),
        (Cifar10Easgd7(), "cifar10-easgd7"),
        (Cifar10Easgd7(train_batches=1), "cifar10-easgd7-10k"),
        (Cifar10Resnet18(norm="batch"), "cifar10-resnet18-batch"),
        (Cifar10Vgg13(width=8, norm="layer", train_batches=4), "cifar10-vgg13-w8-layer-40k"),
        (A9aLogistic(), "a9a-logistic"),
    ],
)
def test_names_say_what_changes_the_model(settings, name):
    assert settings.name == name


# --- on the real data --------------------------------------------------------------------------------------------

WORKLOADS = {
    "mnist-mlp": MnistMlp(),
    "fashion-convnet": FashionConvnet(),
    "a9a-logistic": A9aLogistic(),
    "cifar10-easgd7": Cifar10Easgd7(train_batches=1),
    "cifar10-resnet18": Cifar10Resnet18(width=2, batch_size=4, train_batches=1),
    "cifar10-vgg13": Cifar10Vgg13(width=2, batch_size=4, train_batches=1, norm="batch"),
}


@needs_data
@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize("name", WORKLOADS)
def test_problem_is_whole(name):
    settings = WORKLOADS[name]
    problem = settings.problem()
    assert settings.title == name
    assert len(problem.train.inputs) == {"a9a-logistic": 32_561, "mnist-mlp": 60_000, "fashion-convnet": 60_000}.get(
        name, 10_000
    )
    heldout = {"a9a-logistic": 16_281, "cifar10-resnet18": 2_000, "cifar10-vgg13": 2_000}
    assert len(problem.heldout[0]) == heldout.get(name, 10_000)
    assert problem.train.inputs.dtype == problem.heldout[0].dtype == torch.uint8
    assert np.array_equal(problem.train.labels, problem.train.targets.numpy())
    assert problem.facts["data"].count("sha256") >= 2 and problem.facts["normalisation"]
    assert problem.target_loss > 0 and problem.reached_in
    assert (problem.calibration is None) == ("vgg13" not in name)
    OptimizerSettings(**settings.optimizer_table())


@pytest.mark.thorough
@needs_data
@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize(
    ("name", "stated"),
    [("mnist", mnist_mlp), ("fashion_mnist", fashion_convnet)],
)
def test_grey_images_have_the_stated_mean_and_deviation(name, stated):
    counts = np.bincount(getattr(load, name)("train")[0].ravel(), minlength=256)
    levels, shares = np.arange(256) / 255, counts / counts.sum()
    assert levels @ shares == pytest.approx(stated.MEAN, abs=5e-5)
    assert math.sqrt(levels**2 @ shares - (levels @ shares) ** 2) == pytest.approx(stated.STD, abs=5e-5)


@needs_data
@pytest.mark.usefixtures("data_folder")
def test_easgd7_trains_on_windows_and_is_tested_on_the_middle():
    workload = Cifar10Easgd7(train_batches=1, batch_size=3).build(CPU, 1)
    inputs, targets, mask = workload.batches(0, 0, 1).next()
    assert inputs.shape == (3, 3, 28, 28) and inputs.dtype == torch.uint8
    train, labels = (torch.from_numpy(array.copy()) for array in load.cifar10("train", 1))
    for image, label in zip(inputs, targets, strict=True):
        same = train[labels == label]
        windows = [same[:, :, i : i + 28, j : j + 28] for i, j in itertools.product(range(5), repeat=2)]
        views = (image, image.flip(-1))
        assert any((window == view).flatten(1).all(1).any() for window in windows for view in views)
    assert mask.shape == (3, 256)
    plain = Cifar10Easgd7(train_batches=1, augment=False).problem()
    assert torch.equal(plain.train.inputs, train[:, :, 2:30, 2:30]) and plain.augment is None
    assert torch.equal(plain.heldout[0], torch.from_numpy(load.cifar10("test")[0][:, :, 2:30, 2:30].copy()))


@needs_data
@pytest.mark.usefixtures("data_folder")
def test_gradient_of_a9a_vanishes_where_newtons_method_ends():
    features, labels = load.a9a("train")
    rows, lam = np.c_[features, np.ones(len(features))].astype(np.float64), 1e-4
    x = np.zeros(rows.shape[1])
    for _ in range(12):
        odds = 1 / (1 + np.exp(-rows @ x))
        gradient = rows.T @ (odds - labels) / len(rows) + lam * x
        hessian = (rows * (odds * (1 - odds))[:, None]).T @ rows / len(rows) + lam * np.eye(len(x))
        x -= np.linalg.solve(hessian, gradient)
    eigenvalues = np.linalg.eigvalsh(hessian)
    assert eigenvalues[0] == pytest.approx(1e-4, rel=1e-3) and eigenvalues[-1] == pytest.approx(0.834, abs=1e-3)

    # A mini-batch as large as the training set holds every row once.
    workload = A9aLogistic(batch_size=len(rows), dtype="float64").build(CPU, 1)
    minimiser, out = torch.from_numpy(x), torch.empty(len(x), dtype=torch.float64)
    loss = workload.gradient(minimiser, workload.batches(0, 0, 1).next(), out)
    assert torch.allclose(out, -lam * minimiser, atol=1e-12)
    assert loss.item() == pytest.approx(0.32307, abs=1e-5)
    found = workload.heldout(minimiser)
    assert found.loss == pytest.approx(0.32383, abs=1e-5) and 1 - found.metric == pytest.approx(0.1501, abs=1e-4)


@pytest.mark.thorough
@needs_data
@pytest.mark.usefixtures("data_folder")
@pytest.mark.parametrize(
    ("settings", "steps", "error"),
    [
        (A9aLogistic(), 3000, 0.153),
        (MnistMlp(), 3000, 0.03),
        pytest.param(FashionConvnet(), 4000, 0.11, marks=pytest.mark.slow),
        pytest.param(Cifar10Easgd7(train_batches=1), 2100, 0.42, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_one_worker_reaches_the_stated_error(settings, steps, error):
    workload = settings.build(CPU, 1)
    x, batches = workload.initial(0), workload.batches(0, 0, 1)
    gradient, best = torch.empty_like(x), 1.0
    optimizer = Optimizer(OptimizerSettings(**workload.optimizer), len(x), x.dtype, CPU, workload.spans)
    losses = []
    for step in range(1, steps + 1):
        workload.gradient(x, batches.next(), gradient)
        optimizer.step_(x, gradient)
        if step % (steps // 10) == 0:
            found = workload.heldout(x)
            best = min(best, 1 - found.metric)
            losses.append(found.loss)
    assert best <= error
    assert min(losses) <= workload.target_loss
