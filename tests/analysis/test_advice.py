"""Advice from tables: intervals cover, a run that did not get there never wins, flips lie where algebra puts them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.advice.answer import Answer, Row
from analysis.advice.flips import Flip, flips, least, winner, with_bounds
from analysis.advice.prediction import Prediction
from analysis.advice.ranking import ranking, reached, sureness
from analysis.advice.sure import Ratio, Reached, chance_first, geometric_interval, grade, versus
from analysis.advice.trials import following
from reports.advise import words

REPEATS = 1500
GRID = [10.0 ** (k / 2) for k in range(-4, 7)]


def exactly(seconds: float) -> Reached:
    return Reached(seconds, seconds)


def draws(n: int, spread: float) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(7)
    for _ in range(REPEATS):
        yield np.exp(rng.normal(1.0, spread, n))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_the_interval_covers_the_geometric_mean(n: int) -> None:
    """In 95 % of repeated experiments, already with two seeds; four standard errors are allowed."""
    covered = 0
    for times in draws(n, 0.4):
        _, low, high = geometric_interval([exactly(t) for t in times])
        covered += low <= math.e <= high
    assert covered / REPEATS == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / REPEATS))


def test_the_ratio_covers_and_a_common_factor_of_a_seed_cancels() -> None:
    """Seeds differ by far more than the algorithms do; the pairs do not care."""
    rng, covered, width = np.random.default_rng(8), 0, []
    for _ in range(REPEATS):
        seed = np.exp(rng.normal(0, 2.0, 3))
        a, b = (seed * factor * np.exp(rng.normal(0, 0.05, 3)) for factor in (1.0, 1.3))
        found = versus(dict(enumerate(map(exactly, a))), dict(enumerate(map(exactly, b))))
        covered += found.low <= 1.3 <= found.high
        width.append(math.log(found.high / found.low))
    assert covered / REPEATS == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / REPEATS))
    assert np.median(width) < 1.0  # the seeds' own spread would make it about ten


def test_the_chance_is_uniform_where_nobody_is_faster() -> None:
    rng = np.random.default_rng(9)
    chances = []
    for _ in range(REPEATS):
        a, b = np.exp(rng.normal(0, 0.3, (2, 4)))
        chances.append(versus(dict(enumerate(map(exactly, a))), dict(enumerate(map(exactly, b)))).chance)
    assert np.mean(np.array(chances) > 0.95) == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / REPEATS))
    assert np.mean(chances) == pytest.approx(0.5, abs=4 * math.sqrt(1 / 12 / REPEATS))


def test_bounds_of_the_snapshots_widen_every_statement() -> None:
    sharp = (
        {s: exactly(t) for s, t in enumerate((1.0, 1.1, 1.2))},
        {s: exactly(t) for s, t in enumerate((2.0, 2.1, 2.5))},
    )
    blurred = tuple({s: Reached(r.latest_s * 0.9, r.latest_s) for s, r in runs.items()} for runs in sharp)
    one, two = versus(*sharp), versus(*blurred)
    assert two.low < one.low < one.middle == two.middle < one.high < two.high
    assert two.chance < one.chance
    assert geometric_interval(list(blurred[0].values()))[1] < geometric_interval(list(sharp[0].values()))[1]


def test_pairs_that_are_alike_with_every_seed_are_certain_or_undecided() -> None:
    a = {0: exactly(1.0), 1: exactly(2.0)}
    assert versus(a, {0: exactly(2.0), 1: exactly(4.0)}).chance == 1.0
    assert versus(a, {0: exactly(0.5), 1: exactly(1.0)}).chance == 0.0
    assert versus(a, a).chance == 0.5
    assert versus(a, a).low == versus(a, a).high == 1.0


def test_one_seed_gives_no_interval() -> None:
    found = versus({0: exactly(1.0)}, {0: exactly(2.0)})
    assert found.middle == pytest.approx(2.0)
    assert math.isnan(found.low) and math.isnan(found.chance)
    assert grade(found, 0.0) == "one seed"


@given(
    fast=st.lists(st.floats(0.1, 1e3), min_size=2, max_size=4),
    bound=st.floats(1e-3, 1e4),
)
def test_who_did_not_get_there_never_wins(fast: list[float], bound: float) -> None:
    """However early its run ended: it is only known that it was not there by then."""
    there = {seed: exactly(t) for seed, t in enumerate(fast)}
    some = {**there, 0: Reached(bound, math.inf)}
    table = ranking({"never": {0: Reached(bound, math.inf)}, "there": there, "some": some})
    assert table["label"].iloc[0] == "there"
    assert table.set_index("label")["time_s"].map(math.isinf).to_dict() == {"there": False, "some": True, "never": True}
    assert table.set_index("label").loc["never", "within_s"] == bound
    ratio = versus(there, some)
    assert math.isinf(ratio.middle) and math.isinf(ratio.high)


def test_a_run_that_was_not_there_is_behind_for_sure_only_if_it_was_given_the_time() -> None:
    winner_ = {0: exactly(1.0), 1: exactly(1.1), 2: exactly(0.9)}
    late = {s: Reached(8.0 + s, math.inf) for s in range(3)}
    early = {s: Reached(0.5, math.inf) for s in range(3)}
    assert versus(winner_, late).low > 4
    assert versus(winner_, early).chance < 0.1


def test_nobody_there_is_no_winner() -> None:
    table = ranking({"a": {0: Reached(5.0, math.inf)}, "b": {0: Reached(math.inf, math.inf)}})
    assert math.isnan(sureness(table))
    assert table["ratio"].isna().all()


def test_runs_that_failed_are_left_out_and_diverged_ones_never_reach() -> None:
    import pandas as pd

    runs = pd.DataFrame(
        {
            "run_id": ["a", "b", "c", "d"],
            "label": ["x", "y", "z", "x"],
            "seed": 0,
            "budget_s": [1.0, 1.0, 1.0, 2.0],
            "target_loss": 1.0,
            "status": ["completed", "diverged", "crashed", "completed"],
        }
    )
    curve = {"t_s": [0.0, 1.0], "heldout_loss": [2.0, 0.5], "samples": 0, "nbytes": 0, "wire_nbytes": 0}
    heldout = pd.concat([pd.DataFrame({"run_id": r, **curve}) for r in ("a", "b")])
    longer = pd.DataFrame({"run_id": "d", **curve, "t_s": [0.0, 2.0]})
    found = reached(pd.concat([heldout, longer]), runs)
    assert found == {"y": {0: Reached(math.inf, math.inf)}, "x": {0: Reached(0.0, 2.0)}}  # of two runs the longer


@given(
    work=st.tuples(*[st.floats(0.2, 5.0)] * 2),
    message=st.tuples(*[st.floats(0.05, 20.0)] * 2),
)
def test_flips_lie_where_two_lines_meet(work: tuple[float, float], message: tuple[float, float]) -> None:
    """work + message / x: at most one change, at the quotient of the differences."""
    seconds = lambda label, x: work[int(label)] + message[int(label)] / x  # noqa: E731
    found = flips(seconds, ["0", "1"], GRID)
    crossing = (message[0] - message[1]) / (work[1] - work[0]) if work[0] != work[1] else math.nan
    if GRID[0] * 1.02 < crossing < GRID[-1] / 1.02:
        (flip,) = found
        assert flip.x == pytest.approx(crossing, rel=0.02)
        assert flip.below == winner(seconds, ["0", "1"], flip.x / 1.1)
        assert flip.above == winner(seconds, ["0", "1"], flip.x * 1.1)
    elif not GRID[0] / 1.02 < crossing < GRID[-1] * 1.02:
        assert found == []


def test_a_third_algorithm_may_win_in_between() -> None:
    lines = {"little": (4.0, 0.1), "some": (2.0, 1.0), "much": (1.0, 9.0)}
    found = flips(lambda label, x: lines[label][0] + lines[label][1] / x, list(lines), [0.01, 1000.0])
    assert [(flip.below, flip.above) for flip in found] == [("little", "some"), ("some", "much")]
    assert [flip.x for flip in found] == pytest.approx([0.45, 8.0], rel=0.02)


def test_bounds_of_a_flip() -> None:
    """(1 + 4/x) / 2 times m is 1 at 4 / (2/m - 1), which is out of reach for m >= 2."""
    seconds = lambda label, x: 2.0 if label == "b" else 1 + 4 / x  # noqa: E731
    flip = with_bounds(Flip(4.0, "b", "a"), seconds, 0.8, 1.25, GRID)
    assert (flip.low, flip.high) == (pytest.approx(8 / 3, rel=0.02), pytest.approx(20 / 3, rel=0.02))
    assert with_bounds(Flip(4.0, "b", "a"), seconds, 0.8, 2.5, GRID).high == math.inf
    assert math.isnan(with_bounds(Flip(4.0, "b", "a"), seconds, math.nan, math.nan, GRID).low)


@given(st.floats(0.02, 900.0))
def test_least(x: float) -> None:
    assert least(lambda y: y >= x, GRID) == pytest.approx(x, rel=0.02)
    assert least(lambda y: False, GRID) == math.inf


def test_flips_of_algorithms_that_never_get_there() -> None:
    prediction = Prediction(pace=lambda label, x: 1.0, anchors={})
    assert winner(prediction.seconds, ["a"], 1.0) is None
    assert flips(prediction.seconds, ["a", "b"], GRID) == []


def test_a_prediction_is_exact_where_learning_was_simulated() -> None:
    prediction = Prediction(pace=lambda label, x: 0.5 + 1 / x)
    prediction.anchor("a", 1.0, 30.0)
    assert prediction.seconds("a", 4.0) == pytest.approx(30.0 * 0.75 / 1.5)
    prediction.anchor("a", 4.0, 60.0)
    assert prediction.seconds("a", 1.0) == pytest.approx(30.0)
    assert prediction.seconds("a", 4.0) == pytest.approx(60.0)


def test_the_chance_of_being_first_is_bounded_below() -> None:
    assert chance_first([Ratio(3, 2, 1, 3, 0.4), Ratio(3, 2, 1, 3, 0.4)]) == 0.0
    assert chance_first([Ratio(3, 2, 1, 3, 0.99), Ratio(3, 2, 1, 3, 0.98)]) == pytest.approx(0.97)


def test_learning_rates_are_tried_beyond_the_best_end() -> None:
    assert following({("a", 0): 2.0, ("a", 1): 1.0, ("a", -1): 3.0}, 3) == []  # no trial is left
    assert following({("a", 0): 2.0, ("a", 1): 3.0, ("a", -1): 1.0}, 5) == [("a", -2)]
    assert following({("a", 0): math.inf, ("a", 1): math.inf, ("a", -1): math.inf}, 5) == []


def row(label: str, time_s: float, **other: object) -> Row:
    fields = dict.fromkeys(
        ("low_s", "high_s", "within_s", "ratio", "ratio_low", "ratio_high", "chance", "sent_nbytes"), math.nan
    )
    rest = dict.fromkeys(("goodput_Gbit_per_s", "peak_Gbit_per_s", "needs_Gbit_per_s", "cost"), math.nan)
    known = {"algorithm": label, "lockstep": True, "state": "there", "seeds": 3, "reached": 3, "ranks": 4}
    return Row(label=label, time_s=time_s, **{**fields, **rest, **known, **other})  # type: ignore[arg-type]


def answer(*rows: Row, **other: object) -> Answer:
    known = {
        "workload": "w", "workers": 4, "target": 1.0, "seeds": (0, 1, 2), "bandwidth_Gbit_per_s": 1.0,
        "latency_s": 1e-4, "price": None, "grade": "close", "chance": 0.5, "model_error": 0.1,
    }  # fmt: skip
    return Answer(rows=rows, **{**known, **other})  # type: ignore[arg-type]


def test_winner_and_second() -> None:
    slow = row("b", 2.0)
    assert answer(row("a", 1.0), slow).second is slow
    assert answer(row("a", math.inf), row("b", math.inf)).winner is None
    assert answer(row("a", 1.0), row("b", math.inf)).second is None


@pytest.mark.parametrize(
    ("verdict", "said"),
    [
        ("clear", "Clear: b takes 1.50 to 3.00 times as long (95 %, n = 3). Were each of the predicted times 10 % off"),
        ("model", "Likely: b takes"),
        ("close", "Close: a and b cannot be told apart with 3 seeds"),
        ("one seed", "Not known: one seed gives no interval; b took 2.00 times as long with it."),
    ],
)
def test_how_sure_in_words(verdict: str, said: str) -> None:
    found = answer(row("a", 1.0), row("b", 2.0, ratio=2.0, ratio_low=1.5, ratio_high=3.0), grade=verdict, chance=0.97)
    assert words.how_sure(found).startswith(said)
    assert ("at least 97% a is the fastest" in words.how_sure(found)) == (verdict != "one seed")
    assert ("too close to call" in words.headline(found)) == (verdict == "close")


def test_what_changes_it_in_words() -> None:
    """Each flip is told from where the network is; bounds outside the range are said to be."""
    found = answer(
        row("mid", 1.0),
        flips=[Flip(0.05, "low", "mid", 0.0, 0.08), Flip(30.0, "mid", "high", 20.0, math.inf)],
        worlds=[("Latency ten times as long", "low", 90.0, 300.0), ("One worker half as fast", "mid", 2.0, 2.0)],
    )
    assert words.changes(found) == [
        "Bandwidth: below 50.0 Mbit/s (less than 10.0 Mbit/s to 80.0 Mbit/s) low is first.",
        "Bandwidth: above 30.0 Gbit/s (20.0 Gbit/s to 1.00 Tbit/s or more) high is first.",
        "Latency ten times as long: low is first, in 90.0 s (mid: 5.00 min).",
        "One worker half as fast: mid stays first, in 2.00 s.",
    ]
    assert words.changes(answer(row("a", 1.0))) == ["Bandwidth: no other is first between 10.0 Mbit/s and 1.00 Tbit/s."]


def test_a_table_is_at_most_100_wide() -> None:
    rows = [row("a" * 20, 123.4, low_s=1e-3, high_s=1e5, sent_nbytes=1e12, ratio=1.0, cost=123.4)]
    rows.append(row("b", math.inf, within_s=9.0, reached=0))
    lines = words.text(answer(*rows, price=1.0, left_out=["c: " + "why " * 60])).splitlines()
    assert max(map(len, lines)) <= 100
    assert any(line.startswith("b  ") and "> 9.00 s" in line for line in lines)
