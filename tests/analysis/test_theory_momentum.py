"""Implicit and explicit momentum: theorem 7 against its recursion, and the optimum against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.theory.momentum import implicit_momentum, rate, tuned, without_explicit

# Best explicit momentum at implicit momentum 0, .1, ..., .9 for Q = 5, read off figure 6 of arXiv 1605.09774.
FIGURE_6 = (0.15, 0.05, -0.06, -0.17, -0.19, -0.21, -0.24, -0.26, -0.28, -0.29)


@pytest.mark.parametrize("tenths", range(10))
def test_figure_6(tenths: int) -> None:
    assert tuned(implicit=tenths / 10, condition=5).explicit == pytest.approx(FIGURE_6[tenths], abs=0.03)


@pytest.mark.parametrize("condition", [1.5, 5.0, 100.0, 1e4])
def test_without_asynchrony_it_is_heavy_ball(condition: float) -> None:
    root = math.sqrt(condition)
    best = tuned(implicit=0.0, condition=condition)
    assert best.rate == pytest.approx((root - 1) / (root + 1), rel=1e-6)
    assert best.explicit == pytest.approx(best.rate**2, abs=2e-6)
    assert best.step == pytest.approx(4 / (1 + root) ** 2, rel=1e-5)
    plain = without_explicit(implicit=0.0, condition=condition)
    assert plain.rate == pytest.approx((condition - 1) / (condition + 1), rel=1e-9)
    assert plain.step == pytest.approx(2 / (1 + condition), rel=1e-6)


@pytest.mark.parametrize(("implicit", "explicit", "step"), [(0.75, -0.3, 0.8), (0.5, 0.3, 0.1), (0.9, 0.0, 2.0)])
def test_the_rate_is_the_growth_of_theorem_6(implicit: float, explicit: float, step: float) -> None:
    # D_{t+1} = (mu_L + mu_S) D_t - mu_L mu_S D_{t-1} - (1 - mu_S) a lam w_t, with w* = 0; D_t = w_t - w_{t-1}.
    lam, w, last, before, norms = 0.7, 1.0, 0.0, 0.0, []
    for _ in range(4000):
        move = (explicit + implicit) * last - explicit * implicit * before - (1 - implicit) * step * lam * w
        w, last, before = w + move, move, last
        norms.append(math.sqrt(w * w + last * last + before * before))
        w, last, before = w / norms[-1], last / norms[-1], before / norms[-1]
    growth = math.exp(np.mean(np.log(norms[400:])))
    found = rate(implicit=implicit, explicit=explicit, step=step, eigenvalues=[lam]).item()
    assert growth == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize(("implicit", "explicit"), [(0.6, -0.2), (0.3, 0.5), (0.0, 0.4), (0.8, 0.0)])
def test_the_rate_is_one_over_theorem_7s_smallest_root(implicit: float, explicit: float) -> None:
    for step in (0.05, 0.5, 1.5):
        z = 1 + implicit + explicit - step * (1 - implicit)
        cubic = [implicit * explicit, -(implicit + explicit + implicit * explicit), z, -1]
        smallest = np.abs(np.roots(np.trim_zeros(cubic, "f"))).min()
        assert rate(implicit=implicit, explicit=explicit, step=step).item() == pytest.approx(1 / smallest, rel=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize(("implicit", "condition"), [(0.0, 5), (0.25, 5), (0.3, 40), (0.5, 3), (0.75, 5), (0.9, 200)])
def test_no_point_of_a_dense_grid_is_better(implicit: float, condition: float) -> None:
    best = tuned(implicit=implicit, condition=condition)
    at = rate(implicit=implicit, explicit=best.explicit, step=best.step, eigenvalues=[1, condition]).item()
    assert at == pytest.approx(best.rate, abs=1e-12)
    explicit = np.linspace(-0.99, 0.99, 199)[:, None]
    step = best.step * np.geomspace(1e-2, 1e2, 400)
    grid = rate(implicit=implicit, explicit=explicit, step=step, eigenvalues=[1, condition])
    assert grid.min() >= best.rate - 1e-7
    # and a fine one around the best point is as good, so that the grids are of the same function
    near = rate(
        implicit=implicit,
        explicit=best.explicit + np.linspace(-1e-3, 1e-3, 41)[:, None],
        step=best.step * np.linspace(0.999, 1.001, 41),
        eigenvalues=[1, condition],
    )
    assert -1e-7 <= near.min() - best.rate < 1e-3


@pytest.mark.parametrize(("implicit", "explicit"), [(0.3, -0.6), (0.3, 0.1), (0.3, 0.9), (0.0, 0.5), (0.8, 0.0)])
def test_the_largest_modulus_falls_and_then_grows_for_good(implicit: float, explicit: float) -> None:
    # What lets both ends be balanced, and eigenvalues in between be forgotten.
    rates = rate(implicit=implicit, explicit=explicit, step=np.geomspace(1e-4, 20, 4000))
    lowest = int(rates.argmin())
    assert (np.diff(rates[: lowest + 1]) < 1e-7).all() and (np.diff(rates[lowest:]) > -1e-7).all()


def test_eigenvalues_in_between_are_no_slower() -> None:
    for implicit in (0.0, 0.5, 0.9):
        best = tuned(implicit=implicit, condition=20)
        between = rate(
            implicit=implicit, explicit=best.explicit, step=best.step, eigenvalues=np.linspace(1, 20, 400)
        ).item()
        assert between <= best.rate + 1e-7


def test_the_best_explicit_momentum_falls_with_workers_and_gains_something() -> None:
    found = [tuned(implicit=implicit_momentum(m), condition=10) for m in (1, 2, 4, 8, 16)]
    explicit = [best.explicit for best in found]
    assert explicit == sorted(explicit, reverse=True) and explicit[0] > 0 > explicit[1]
    for m, best in zip((1, 2, 4, 8, 16), found, strict=True):
        assert best.rate < without_explicit(implicit=implicit_momentum(m), condition=10).rate - 1e-3


@pytest.mark.parametrize(
    ("implicit", "condition", "words"),
    [
        (1.0, 5, r"implicit momentum must lie in \[0, 1\)"),
        (-0.1, 5, "implicit"),
        (0.5, 1, r"condition must lie in \(1"),
    ],
)
def test_what_cannot_be_is_refused(implicit: float, condition: float, words: str) -> None:
    for search in (tuned, without_explicit):
        with pytest.raises(ValueError, match=words):
            search(implicit=implicit, condition=condition)
