"""The flat-vector optimisers against torch.optim, restarts, and refused settings."""

import math

import pytest
import torch

from algorithms.optim import Optimizer, OptimizerSettings, Schedule

SIZE, STEPS = 60, 200
TORCH = {
    "sgd": lambda p, s: torch.optim.SGD([p], lr=s.lr, weight_decay=s.weight_decay),
    "momentum": lambda p, s: torch.optim.SGD([p], lr=s.lr, momentum=s.resolved_momentum, weight_decay=s.weight_decay),
    "nesterov": lambda p, s: torch.optim.SGD(
        [p], lr=s.lr, momentum=s.resolved_momentum, weight_decay=s.weight_decay, nesterov=True
    ),
    "adamw": lambda p, s: torch.optim.AdamW(
        [p], lr=s.lr, betas=s.resolved_betas, eps=s.resolved_eps, weight_decay=s.weight_decay
    ),
}
NAMES = tuple(TORCH)
VARIANTS = {
    "plain": {},
    "decay": {"weight_decay": 0.1},
    "clip": {"clip_norm": 1.0},
    "decay+clip": {"weight_decay": 0.1, "clip_norm": 1.0},
}
CONSTANTS = {
    "sgd": {},
    "momentum": {"momentum": 0.8},
    "nesterov": {"momentum": 0.8},
    "adamw": {"betas": (0.8, 0.95), "eps": 1e-6},
}


def settings_of(name, **more):
    return OptimizerSettings(name=name, lr=0.03, **CONSTANTS[name], **more)


def problem(dtype=torch.float64):
    """A start and a gradient that depends on x: noisy, not convex, its norm on both sides of 1."""
    generator = torch.Generator().manual_seed(7)
    start = torch.randn(SIZE, generator=generator, dtype=torch.float64).to(dtype)
    noise = 0.3 * torch.randn(STEPS, SIZE, generator=generator, dtype=torch.float64).to(dtype)
    return start, lambda x, t: 0.3 * torch.sin(3 * x) + 0.1 * x + noise[t]


def ours(settings, start, gradient, steps=STEPS):
    x, optimizer = start.clone(), Optimizer(settings, SIZE, start.dtype)
    for t in range(steps):
        optimizer.step_(x, gradient(x, t))
    return x


def theirs(settings, start, gradient, scheduler=None):
    p = torch.nn.Parameter(start.clone())
    optimizer = TORCH[settings.name](p, settings)
    schedule = scheduler(optimizer) if scheduler else None
    for t in range(STEPS):
        p.grad = gradient(p.detach(), t)
        if settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_([p], settings.clip_norm)
        optimizer.step()
        if schedule:
            schedule.step()
    return p.detach()


def relative_error(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_optim_to_rounding(name, variant):
    settings = settings_of(name, **VARIANTS[variant])
    assert relative_error(ours(settings, *problem()), theirs(settings, *problem())) < 1e-12


@pytest.mark.parametrize("name", NAMES)
def test_equals_torch_optim_in_single_precision(name):
    settings = settings_of(name, weight_decay=0.1, clip_norm=1.0)
    single = problem(torch.float32)
    assert relative_error(ours(settings, *single), theirs(settings, *single)) < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_default_constants_are_those_of_torch(name):
    bare = OptimizerSettings(name=name, lr=0.03)
    start, gradient = problem()
    p = torch.nn.Parameter(start.clone())
    reference = {
        "sgd": lambda: torch.optim.SGD([p], lr=0.03),
        "momentum": lambda: torch.optim.SGD([p], lr=0.03, momentum=0.9),
        "nesterov": lambda: torch.optim.SGD([p], lr=0.03, momentum=0.9, nesterov=True),
        "adamw": lambda: torch.optim.AdamW([p], lr=0.03, weight_decay=0),
    }[name]()
    for t in range(20):
        p.grad = gradient(p.detach(), t)
        reference.step()
    assert relative_error(ours(bare, start, gradient, steps=20), p.detach()) < 1e-13


SCHEDULES = {
    "warmup": (
        Schedule(warmup_steps=10),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda epoch: min(1.0, (epoch + 1) / 10)),
    ),
    "step": (
        Schedule(name="step", milestones=(50, 120), factor=0.2),
        lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [50, 120], gamma=0.2),
    ),
    "cosine": (
        Schedule(name="cosine", total_steps=STEPS, final_fraction=0.1),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.1 * 0.03),
    ),
    "warmup-cosine": (
        Schedule(name="cosine", warmup_steps=20, total_steps=150),
        lambda o: torch.optim.lr_scheduler.LambdaLR(
            o,
            lambda e: (e + 1) / 20 if e < 19 else 0.5 * (1 + math.cos(math.pi * min(max(e - 20, 0) / 130, 1))),
        ),
    ),
    "inverse-sqrt": (
        Schedule(name="inverse-sqrt", warmup_steps=25),
        lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda e: min((e + 1) / 25, math.sqrt(25 / (e + 1)))),
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", NAMES)
def test_schedules_equal_torch_schedulers(name, schedule):
    own, scheduler = SCHEDULES[schedule]
    settings = settings_of(name, schedule=own)
    assert relative_error(ours(settings, *problem()), theirs(settings, *problem(), scheduler)) < 1e-12


def test_lr_is_the_rate_of_the_next_step():
    optimizer = Optimizer(OptimizerSettings(lr=8.0, schedule=Schedule(warmup_steps=4)), 1, torch.float64)
    x, rates = torch.zeros(1, dtype=torch.float64), []
    for _ in range(6):
        before, rate = x.item(), optimizer.lr
        optimizer.step_(x, torch.ones_like(x))
        assert before - x.item() == rate
        rates.append(rate)
    assert rates == [2.0, 4.0, 6.0, 8.0, 8.0, 8.0]


def test_inverse_sqrt_without_warmup():
    schedule = Schedule(name="inverse-sqrt")
    assert [schedule.multiplier(t) for t in (1, 4, 100)] == [1.0, 0.5, 0.1]


def test_plain_sgd_is_one_pass_bit_for_bit():
    x, g = torch.randn(1000), torch.randn(1000)
    want = x.clone().add_(g, alpha=-0.1)
    Optimizer(OptimizerSettings(lr=0.1), 1000, torch.float32).step_(x, g)
    assert torch.equal(x, want)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_restart_midway_continues_bit_for_bit(name, variant):
    settings = settings_of(name, schedule=Schedule(name="cosine", total_steps=STEPS), **VARIANTS[variant])
    start, gradient = problem(torch.float32)
    x, optimizer = start.clone(), Optimizer(settings, SIZE, torch.float32)
    for t in range(STEPS):
        if t == 70:
            state, saved = optimizer.state(), x.clone()
        optimizer.step_(x, gradient(x, t))
    resumed = Optimizer(settings, SIZE, torch.float32)
    resumed.load_state(state)
    assert resumed.lr == settings.lr * settings.schedule.multiplier(71)
    for t in range(70, STEPS):
        resumed.step_(saved, gradient(saved, t))
    assert torch.equal(saved, x)
    assert all(torch.equal(a, b) for a, b in zip(resumed.state().values(), optimizer.state().values(), strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", NAMES)
def test_update_is_the_change_of_a_step(name, variant):
    settings = settings_of(name, **VARIANTS[variant])
    start, gradient = problem()
    x, stepping, updating = (
        start.clone(),
        Optimizer(settings, SIZE, start.dtype),
        Optimizer(settings, SIZE, start.dtype),
    )
    for t in range(10):
        g, before = gradient(x, t), x.clone()
        kept = g.clone()
        change = updating.update(g, x)
        assert torch.equal(x, before)
        stepping.step_(x, g)
        assert torch.equal(g, kept)
        torch.testing.assert_close(x, before + change, rtol=1e-13, atol=1e-15)


def test_zero_gradient_is_not_divided_by_its_norm():
    x = torch.ones(3)
    Optimizer(OptimizerSettings(lr=0.1, clip_norm=1.0), 3, torch.float32).step_(x, torch.zeros(3))
    assert torch.equal(x, torch.ones(3))


def test_a_gradient_that_is_not_finite_is_not_hidden_by_clipping():
    x = torch.ones(2)
    Optimizer(OptimizerSettings(lr=0.1, clip_norm=1.0), 2, torch.float32).step_(x, torch.tensor([math.inf, 0.0]))
    assert not torch.isfinite(x).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "adam"},
        {"lr": -0.1},
        {"lr": math.nan},
        {"lr": math.inf},
        {"name": "momentum", "momentum": 1.0},
        {"name": "momentum", "momentum": -0.1},
        {"name": "sgd", "momentum": 0.9},
        {"name": "adamw", "momentum": 0.9},
        {"weight_decay": -1e-4},
        {"clip_norm": 0.0},
        {"name": "adamw", "betas": (0.9, 1.0)},
        {"name": "adamw", "betas": (0.9,)},
        {"name": "adamw", "eps": 0.0},
        {"name": "sgd", "betas": (0.9, 0.999)},
        {"name": "nesterov", "eps": 1e-8},
    ],
    ids=str,
)
def test_refused_settings(wrong):
    with pytest.raises(ValueError, match=r"optimizer\.\w+ .*got .*\(.+\)"):
        OptimizerSettings(**{"lr": 0.1, **wrong})


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "linear"},
        {"warmup_steps": -1},
        {"milestones": (10,)},
        {"factor": 0.1},
        {"total_steps": 100},
        {"final_fraction": 0.0},
        {"name": "step"},
        {"name": "step", "milestones": (20, 10)},
        {"name": "step", "milestones": (0, 10)},
        {"name": "step", "milestones": (10,), "factor": 0.0},
        {"name": "step", "milestones": (10,), "total_steps": 5},
        {"name": "cosine"},
        {"name": "cosine", "total_steps": 10, "warmup_steps": 10},
        {"name": "cosine", "total_steps": 10, "final_fraction": 1.5},
        {"name": "cosine", "total_steps": 10, "milestones": (5,)},
        {"name": "inverse-sqrt", "factor": 0.5},
    ],
    ids=str,
)
def test_refused_schedules(wrong):
    with pytest.raises(ValueError, match=r"schedule\.\w+ .*got .*\(.+\)"):
        Schedule(**wrong)


def test_state_of_another_optimizer_is_refused():
    adamw = Optimizer(OptimizerSettings(name="adamw", lr=0.1), 4, torch.float32)
    with pytest.raises(ValueError, match="does not fit 'momentum'"):
        Optimizer(OptimizerSettings(name="momentum", lr=0.1), 4, torch.float32).load_state(adamw.state())
    with pytest.raises(ValueError, match="with 5 parameters"):
        Optimizer(OptimizerSettings(name="adamw", lr=0.1), 5, torch.float32).load_state(adamw.state())


def test_vectors_of_another_size_are_refused():
    optimizer = Optimizer(OptimizerSettings(lr=0.1), 4, torch.float32)
    with pytest.raises(ValueError, match="size=4"):
        optimizer.step_(torch.zeros(4), torch.ones(1))  # would broadcast
    with pytest.raises(ValueError, match="size=4"):
        optimizer.step_(torch.zeros(3), torch.ones(3))
