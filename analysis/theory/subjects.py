"""The subjects of `paceline theory` that formulas answer by themselves: numbers in, an `Answer` out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from analysis.theory.answer import Answer, shown

if TYPE_CHECKING:
    import pandas as pd

EASGD = "Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651"
MOMENTUM = "Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, Allerton 2016, arXiv 1605.09774"
STREAMING = "Douillard et al., Streaming DiLoCo with overlapping communication, arXiv 2501.18512"


def utilization(
    *,
    method: str,
    period: int,
    fragment_size: int,
    pattern: str,
    delay: int,
    bits: float,
    targets: Sequence[float],
    parameters: float | None = None,
    layers: int | None = None,
    step_time: float | None = None,
    model: str | None = None,
    costs: pd.DataFrame | None = None,
) -> Answer:
    """The bandwidths that a training needs [Gbit/s].

    Args:
        model: name of a published model (`bench.workloads.sized_model`), instead of parameters, layers and step time.
        costs: per layer (see `exchanges.layers_of`), instead of parameters, layers and step time of equal ones.
    """
    from analysis.theory.exchanges import equal_layers, layers_of, training
    from analysis.theory.utilization import bandwidths, printed

    if model is not None:
        if costs is not None or not parameters is layers is step_time is None:
            raise ValueError(f"model {model!r} says parameters, layers and step time: got others, too (omit those)")
        parameters, layers, step_time = _published(model)
    if costs is not None:
        if not parameters is layers is step_time is None:
            raise ValueError("costs stand instead of parameters, layers and step time: got both (omit those)")
        costs_of = layers_of(costs)
    elif parameters is None or layers is None or step_time is None:
        raise ValueError("needs --parameters, --layers and --step-time, or --model NAME or --costs FILE.csv instead")
    else:
        costs_of = equal_layers(parameters=parameters, layers=layers, step_time_s=step_time, bits=bits)
    dag = training(costs_of, method=method, period=period, fragment_size=fragment_size, pattern=pattern, delay=delay)
    found = bandwidths(dag, targets)
    rows = zip(found.targets, found.Gbit_per_s_on_grid, found.Gbit_per_s, strict=True)
    lines = [
        (f"{target:.4g}", f"{shown(printed(point)) if point == point else 'below':>7s}", shown(exact))
        for target, point, exact in rows
    ]
    return Answer(
        values={
            "targets": list(found.targets),
            "Gbit_per_s_on_grid": list(found.Gbit_per_s_on_grid),
            "Gbit_per_s": list(found.Gbit_per_s),
            "as_printed": [printed(point) for point in found.Gbit_per_s_on_grid],
            "remarks": found.remarks(),
        },
        lines=[("utilisation", "on grid", "exact [Gbit/s]"), *lines, *(("", "", line) for line in found.remarks())],
        meaning="The bandwidth between sites at which that share of the time is spent computing: where the utilisation "
        "reaches the target exactly, and on the paper's grid, by its rule the last point that still misses it.",
        source=f"{STREAMING}, table 4; the simulator in one consistent reading.",
    )


def _published(model: str) -> tuple[float, int, float]:
    """(parameters, layers, step time [s]) of a published model."""
    from bench.workloads.sized_model import PRESETS

    if model not in PRESETS:
        raise ValueError(f"no such model: got {model!r}, allowed: {', '.join(PRESETS)}")
    return PRESETS[model].parameters, PRESETS[model].layers, PRESETS[model].step_s


def easgd_stability(*, eta: float, alpha: float, workers: int, mode: str, curvature: float, period: int) -> Answer:
    """Whether EASGD is stable on a quadratic."""
    from analysis.theory import easgd
    from analysis.theory.linear import spectral_radius

    in_step = mode == "sync"
    if in_step:
        radius = easgd.synchronous_radius(eta=eta, alpha=alpha, workers=workers, curvature=curvature, period=period)
    else:
        turns = easgd.round_robin_map(eta=eta, alpha=alpha, workers=workers, curvature=curvature, period=period)
        radius = float(spectral_radius(turns))
    lines = _stability(radius, "round: each worker has exchanged once")
    values = {"spectral_radius": radius, "stable": radius < 1}
    if period == 1 and 0 <= eta * curvature <= 2:
        step = eta * curvature
        largest = easgd.largest_synchronous_rate(step, workers) if in_step else easgd.largest_moving_rate(step)
        values["largest_alpha"] = largest
        lines.append(("largest_alpha", shown(largest), "below it stable, at this learning rate"))
    return Answer(
        values=values,
        lines=lines,
        meaning="The factor by which errors grow per round on a quadratic, in lock-step (sync: all workers move the "
        "center at once) or in turn (round-robin). In lock-step the limit on alpha falls with the number of workers, "
        "in turn it does not.",
        source=f"{EASGD}, section 4 (round robin) and Lemma 7.1 (lock-step).",
    )


def admm_stability(*, eta: float, rho: float, workers: int, curvature: float) -> Answer:
    """Whether round-robin ADMM is stable on a quadratic."""
    from analysis.theory.admm import round_map
    from analysis.theory.linear import check_range, spectral_radius

    check_range("eta", eta, 0, math.inf, low_too=True)
    radius = float(spectral_radius(round_map(eta=eta, rho=rho, workers=workers, curvature=curvature)))
    return Answer(
        values={"spectral_radius": radius, "stable": radius < 1},
        lines=_stability(radius, "round of all workers"),
        meaning="The factor by which errors grow per round on a quadratic. Every turn is stable by itself; their "
        "product is not always, from three workers on.",
        source=f"{EASGD}, section 4 and figure 1.",
    )


def easgd_mse(*, eta: float, beta: float, workers: int, curvature: float, noise: float) -> Answer:
    """How noisy the center of synchronous EASGD is in the end."""
    from analysis.theory.easgd_noise import SynchronousEASGD

    found = SynchronousEASGD(eta=eta, beta=beta, workers=workers, curvature=curvature, noise=noise)
    mse, limit, plain, broken = found.workers_times_mse, found.limit, found.minibatch_sgd, found.instability()
    return Answer(
        values={
            "workers_times_mse": mse,
            "limit": limit,
            "minibatch_sgd": plain,
            "stable": not broken,
            **({"reason": broken} if broken else {}),
        },
        lines=[
            ("workers_times_mse", shown(mse), f"unstable: {broken}" if broken else "p E (center - x*)^2 in the end"),
            ("limit", shown(limit), "the same for many workers at this beta; none if that is unstable"),
            ("minibatch_sgd", shown(plain), "the same for SGD on the mean of p gradients"),
        ],
        meaning="The center's mean square error on a quadratic is this over the number of workers, in units of x^2: "
        "below minibatch_sgd the center is the better estimate at this learning rate. A smaller beta is quieter.",
        source=f"{EASGD}, supplement, Lemma 7.1 and corollary (lock-step, period 1).",
    )


def downpour_tau(*, eta: float, workers: int, curvature: float) -> Answer:
    """The longest stable period of DOWNPOUR."""
    from analysis.theory.downpour import largest_period

    tau = largest_period(eta=eta, workers=workers, curvature=curvature)
    at_random = largest_period(eta=eta, workers=workers, curvature=curvature, arrivals="memoryless")
    whole = None if math.isinf(tau) else math.ceil(tau) - 1
    reason = {"reason": "stable at every period"} if whole is None else {}
    return Answer(
        values={"tau": tau, "largest_stable_period": whole, "tau_memoryless": at_random, **reason},
        lines=[
            ("tau", shown(tau, "steps"), "evenly staggered workers: stable at periods below it"),
            ("largest_stable_period", shown(math.inf if whole is None else whole, "steps"), "0: not even period 1"),
            ("tau_memoryless", shown(at_random, "steps"), "workers that come at random: in mean square"),
        ],
        meaning="With longer periods the workers' accumulated updates overshoot together, and the center oscillates "
        "with a growing amplitude. Halving the learning rate about doubles tau.",
        source=f"derived here for the method and the claim of {EASGD}.",
    )


def async_momentum(*, condition: float, implicit: float | None = None, workers: int | None = None) -> Answer:
    """The best explicit momentum of an asynchronous server.

    Args:
        implicit: what asynchrony brings; or:
        workers: M memoryless ones, which bring 1 - 1/M; then the step that single runs bear is known, too.
    """
    from analysis.theory.delays import memoryless_limit
    from analysis.theory.momentum import implicit_momentum, tuned, without_explicit

    if workers is not None:
        implicit = implicit_momentum(workers)
    assert implicit is not None, "the command line asks for one of the two"
    best, none = tuned(implicit=implicit, condition=condition), without_explicit(implicit=implicit, condition=condition)
    bound = math.nan if workers is None else memoryless_limit(workers, best.explicit) / condition
    borne = [("step_size_in_mean_square", shown(bound), "the largest at which single runs stay bounded, too")]
    return Answer(
        values={
            "explicit_momentum": best.explicit,
            "rate": best.rate,
            "step_size": best.step,
            "implicit_momentum": implicit,
            "rate_without_explicit_momentum": none.rate,
            **({} if workers is None else {"step_size_in_mean_square": bound}),
        },
        lines=[
            ("implicit_momentum", shown(implicit), "what asynchrony brings: 1 - 1/M"),
            ("explicit_momentum", shown(best.explicit), "best momentum of the server, step size tuned too"),
            (
                "rate",
                shown(best.rate),
                "factor per write on the distance of the mean from the minimiser",
            ),
            ("step_size", shown(best.step), "learning rate x smallest eigenvalue that goes with it"),
            ("rate_without_explicit_momentum", shown(none.rate), "the rate at explicit momentum 0, step size tuned"),
            *(borne if workers is not None else []),
        ],
        meaning="Asynchrony acts on the mean like momentum, so the best explicit momentum falls as workers are added, "
        "and is often negative. The rate is that of the mean over runs, 1 / |t| of theorem 7, on a quadratic with "
        "eigenvalues 1 and the condition number; those in between are no slower. A step that is best for the mean may "
        "be too large for a single run.",
        source=f"{MOMENTUM}, theorem 7 and figure 6.",
    )


def _stability(radius: float, per: str) -> list[tuple[str, str, str]]:
    return [
        ("spectral_radius", shown(radius), f"factor on errors in a {per}"),
        ("stable", "yes" if radius < 1 else "no", "errors die out" if radius < 1 else "errors do not die out"),
    ]


ANSWERS: Mapping[str, Callable[..., Answer]] = {
    "utilization": utilization,
    "easgd-stability": easgd_stability,
    "admm-stability": admm_stability,
    "easgd-mse": easgd_mse,
    "downpour-tau": downpour_tau,
    "async-momentum": async_momentum,
}
"""By subject; called with what the command line was given."""
