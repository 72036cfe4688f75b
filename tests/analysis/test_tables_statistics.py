"""Statistics against textbooks, brute force over all signs, and other people's implementations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import friedmanchisquare, wilcoxon

from analysis.paired import paired, paired_table, signed_rank_p
from analysis.profiles import costs, performance_profile, profile_score, ratios
from analysis.ranks import critical_difference, nemenyi
from analysis.statistics import interquartile_mean_over_runs, mean_over_runs

INF = math.inf

# -- pairs -------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(min_value=-4, max_value=4), min_size=1, max_size=9))
def test_signed_ranks_against_all_signs(values: list[int]) -> None:
    real = np.array([v for v in values if v], dtype=float)
    sizes = pd.Series(np.abs(real)).rank().to_numpy()
    seen = sizes[real > 0].sum()
    sums = [sum(s for s, sign in zip(sizes, signs, strict=True) if sign) for signs in
            itertools.product((0, 1), repeat=len(real))]  # fmt: skip
    below, above = np.mean([s <= seen for s in sums]), np.mean([s >= seen for s in sums])
    assert signed_rank_p(np.array(values, dtype=float)) == pytest.approx(min(1, 2 * min(below, above)))


@pytest.mark.parametrize("n", [3, 8, 20, 45])
def test_signed_ranks_against_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(0.3, 1, n)
    assert signed_rank_p(values) == pytest.approx(wilcoxon(values, method="exact").pvalue, rel=1e-9)


def test_darwins_plants() -> None:
    # Heights of crossed minus self-fertilised plants [1/8 inch], Fisher's Design of Experiments, section 17. No two are
    # of equal size; R's wilcox.test gives V = 96, p = 0.04126.
    difference = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48], dtype=float)
    assert signed_rank_p(difference) == pytest.approx(0.04126, abs=5e-6)
    zero = dict.fromkeys(range(15), 0.0)
    found = paired(dict(enumerate(difference)), zero, ratio=False)
    assert found.n == 15 and found.lower == 2 and found.effect == pytest.approx(20.9333 / 37.7439, rel=1e-4)
    assert found.low > 0  # the same test makes the interval


@pytest.mark.parametrize("n", [2, 5, 6, 7, 12, 30])
def test_the_interval_is_what_the_test_does_not_reject(n: int) -> None:
    values = np.random.default_rng(n).normal(1, 2, n)
    found = paired(dict(enumerate(values)), dict.fromkeys(range(n), 0.0), ratio=False)
    level = 1 - found.confidence
    assert found.confidence >= 0.95 if n >= 6 else found.confidence == 1 - 2 / 2**n
    step = 1e-9
    for edge, outwards in ((found.low, -step), (found.high, step)):
        assert signed_rank_p(values - (edge + outwards)) <= level + 1e-12
        assert signed_rank_p(values - (edge - outwards)) > level
    assert found.low <= found.estimate <= found.high


def test_the_interval_holds_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    zero = dict.fromkeys(range(8), 0.0)
    held = 0
    for _ in range(2000):
        found = paired(dict(enumerate(rng.laplace(0.5, 1, 8))), zero, ratio=False)
        held += found.low <= 0.5 <= found.high
    assert held / 2000 == pytest.approx(found.confidence, abs=3.5 * math.sqrt(found.confidence * 0.05 / 2000))


def test_ratios_are_differences_of_logarithms_and_turn_round() -> None:
    a, b = {0: 1.0, 1: 3.0, 2: 8.0, 5: 9.0}, {0: 2.0, 1: 2.0, 2: 32.0, 7: 1.0}
    found, other = paired(a, b), paired(b, a)
    assert (found.n, found.lower, other.lower, found.measure) == (3, 2, 1, "ratio A/B")
    assert found.estimate * other.estimate == pytest.approx(1) and found.low * other.high == pytest.approx(1)
    assert found.effect == pytest.approx(-other.effect) and found.p == other.p
    logs = np.log([0.5, 1.5, 0.25])
    averages = np.sort([(x + y) / 2 for i, x in enumerate(logs) for y in logs[i:]])
    assert math.log(found.estimate) == pytest.approx(np.median(averages))
    assert found.effect == pytest.approx(logs.mean() / logs.std(ddof=1))


def test_runs_that_never_got_there_come_last() -> None:
    always, never = dict.fromkeys(range(6), 5.0), dict.fromkeys(range(6), INF)
    found = paired(always, never)
    assert (found.lower, found.estimate, found.high, found.p) == (6, 0, 0, 2 / 64)
    assert math.isnan(found.effect)
    back = paired(never, always)
    assert (back.lower, back.estimate, back.low) == (0, INF, INF)
    neither = paired(never, never)
    assert (neither.equal, neither.estimate, neither.p) == (6, 1, 1)
    one_each = paired({0: INF, 1: 1.0}, {0: 1.0, 1: INF})
    assert (one_each.low, one_each.high, one_each.p) == (0, INF, 1)


def test_few_pairs_say_so() -> None:
    assert paired({}, {}).n == 0 and math.isnan(paired({}, {}).p) is False
    one = paired({0: 1.0}, {0: 2.0})
    assert one.estimate == pytest.approx(0.5) and math.isnan(one.low) and one.p == 1
    assert paired({0: 1.0, 1: math.nan}, {0: 2.0, 1: 1.0}).n == 1
    with pytest.raises(ValueError, match="values > 0"):
        paired({0: 0.0}, {0: 1.0})


def per_run(**columns: object) -> pd.DataFrame:
    fill = dict(study="s", workload="w", workers=4, transport="mpi", status="completed", target_loss=1.0)
    return pd.DataFrame({**fill, **columns})


def test_tables_are_paired_by_seed_within_a_setting() -> None:
    table = per_run(
        label=["a", "a", "a", "base", "base", "base"], seed=[0, 1, 2, 2, 0, 1],
        status=["completed", "diverged", "crashed", "completed", "completed", "completed"],
        time_to_target_s=[2.0, math.nan, 1.0, 3.0, 4.0, 5.0], target_earliest_s=[1.5, INF, 0.5, 2.5, 3.5, 4.5],
        target_latest_s=[2.0, INF, 1.0, 3.0, 4.0, 5.0],
    )  # fmt: skip
    both = pd.concat([table, table[table["label"] == "a"].assign(workers=8)])  # no baseline there
    (row,) = paired_table(both, baseline="base").to_dict("records")
    assert (row["label"], row["n"], row["lower"], row["workers"]) == ("a", 2, 1, 4)
    assert row["high"] == INF  # the diverged one never got there
    losses = per_run(label=["a", "base"], seed=[0, 0], final_heldout_loss=[1.0, 3.0])
    assert paired_table(losses, "final_heldout_loss", "base")["estimate"].tolist() == [-2.0]


def test_a_pair_within_the_time_between_snapshots_shows_no_difference() -> None:
    # Seed 0: a in (1, 2], base in (1.9, 2.9], either may have been first. Seed 1: a in (1, 2], base in (2, 3].
    table = per_run(
        label=["a", "a", "base", "base"], seed=[0, 1, 0, 1], time_to_target_s=[2.0, 2.0, 2.9, 3.0],
        target_earliest_s=[1.0, 1.0, 1.9, 2.0], target_latest_s=[2.0, 2.0, 2.9, 3.0],
    )  # fmt: skip
    (row,) = paired_table(table, baseline="base").to_dict("records")
    assert (row["n"], row["equal"], row["lower"]) == (2, 1, 1)
    assert row["high"] == 1 and row["low"] == pytest.approx(2 / 3) and row["p"] == 1
    found = paired({0: 1.0, 1: 2.0}, {0: 2.0, 1: 1.0}, unresolved={0, 7})
    assert (found.n, found.equal, found.lower) == (2, 1, 0)


# -- profiles ----------------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"a": [1.0, 10.0, INF, INF], "b": [2.0, 5.0, 7.0, INF], "c": [9.0, INF, 7.0, INF]})


def test_profiles_count_what_was_solved_within_the_factor() -> None:
    profile = performance_profile(TABLE)
    for label, own in profile.groupby("label"):
        times = ratios(TABLE)[label]
        for row in own.itertuples():
            assert row.rho == (times <= row.tau).mean()
        assert own["tau"].is_monotonic_increasing and own["rho"].is_monotonic_increasing and own["tau"].iloc[0] == 1
    last = profile.groupby("label")["rho"].max()
    assert last.to_dict() == {"a": 0.5, "b": 0.75, "c": 0.5}  # the workload that nobody solved counts for all


def test_scores_are_the_area_under_the_profile() -> None:
    taus = np.linspace(1, 4, 300_001)
    profile = performance_profile(TABLE)
    for label, own in profile.groupby("label"):
        rho = own["rho"].to_numpy()[np.searchsorted(own["tau"].to_numpy(), taus, side="right") - 1]
        assert profile_score(TABLE)[label] == pytest.approx(np.trapezoid(rho, taus) / 3, abs=1e-5)
    assert profile_score(TABLE).index.tolist() == ["b", "a", "c"]


@given(
    st.lists(st.lists(st.floats(0.01, 100), min_size=3, max_size=3), min_size=1, max_size=6),
    st.floats(min_value=1e-3, max_value=1e3),
)
def test_scores_do_not_depend_on_units_and_lie_between_zero_and_one(rows: list[list[float]], unit: float) -> None:
    table = pd.DataFrame(rows, columns=list("abc"))
    score = profile_score(table)
    assert ((score >= 0) & (score <= 1)).all()
    scaled = profile_score(table.mul(unit))
    np.testing.assert_allclose(scaled[score.index], score, atol=1e-9)
    rho = performance_profile(table)
    assert rho[rho["tau"] == 1]["rho"].sum() >= 1 - 1e-12  # somebody is best everywhere


def test_costs_are_medians_and_what_is_missing_never_got_there() -> None:
    table = pd.concat(
        [
            per_run(label="a", workload="v", seed=[0, 1, 2], time_to_target_s=[1.0, math.nan, 4.0]),
            per_run(label="a", workload="w", seed=[0, 1], time_to_target_s=[3.0, math.nan]),
            per_run(label="b", workload="w", seed=[0, 1], time_to_target_s=[3.0, 5.0]),
            per_run(label="b", workload="v", seed=[0], status="crashed", time_to_target_s=[1.0]),
        ]
    )
    found = costs(table)
    assert found.loc["v"].tolist() == [4.0, INF] and found.loc["w"].tolist() == [INF, 4.0]
    with pytest.raises(ValueError, match="workers"):
        costs(pd.concat([table, table.assign(workers=8)]))
    with pytest.raises(ValueError, match="must be > 0"):
        ratios(pd.DataFrame({"a": [0.0]}))
    with pytest.raises(ValueError, match="most must be > 1"):
        profile_score(found, most=1.0)


# -- ranks -------------------------------------------------------------------------------------------------------------

# Demsar 2006, table 6: AUC of four variants of C4.5 on 14 data sets, as ranks.
DEMSAR = pd.DataFrame(
    {
        "C4.5": [4, 1, 4, 4, 4, 1, 3, 2.5, 4, 2.5, 4, 3, 4, 3],
        "C4.5+m": [3, 2, 1, 1, 2, 2.5, 2, 2.5, 3, 2.5, 2.5, 2, 1, 1],
        "C4.5+cf": [2, 3, 2, 3, 3, 4, 4, 4, 2, 2.5, 1, 4, 2, 4],
        "C4.5+m+cf": [1, 4, 3, 2, 1, 2.5, 1, 1, 1, 2.5, 2.5, 1, 3, 2],
    }
)


def test_demsars_example() -> None:
    found = critical_difference(DEMSAR, alpha=0.10)
    assert found.mean_rank.round(3).to_dict() == {
        "C4.5+m+cf": 1.964, "C4.5+m": 2.0, "C4.5+cf": 2.893, "C4.5": 3.143,
    }  # fmt: skip
    # He does not correct for ties: 9.28 and F = 3.69. Four pairs or groups of equal ranks make (6 + 6 + 60 + 6) / 840.
    plain = found.friedman * (1 - 78 / 840)
    assert plain == pytest.approx(9.28, abs=0.005)
    assert 13 * plain / (14 * 3 - plain) == pytest.approx(3.69, abs=0.005)
    assert found.critical_difference == pytest.approx(1.12, abs=0.005)
    # At 0.10 C4.5 differs from both variants with m (1.143 and 1.179 apart), and C4.5+cf from none.
    assert found.groups == (("C4.5+m+cf", "C4.5+m", "C4.5+cf"), ("C4.5+cf", "C4.5"))
    wide = critical_difference(DEMSAR)
    assert wide.critical_difference == pytest.approx(1.25, abs=0.005) and len(wide.groups) == 1
    assert wide.differ


@pytest.mark.parametrize(
    ("k", "q"),
    [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (6, 2.850), (7, 2.949), (8, 3.031), (9, 3.102), (10, 3.164)],
)
def test_critical_values_of_demsars_table_5a(k: int, q: float) -> None:
    assert nemenyi(k, 6) * math.sqrt(36 / (k * (k + 1))) == pytest.approx(q, abs=1.5e-3)


@pytest.mark.parametrize("seed", range(4))
def test_friedman_against_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 6, (9, 5)).astype(float)
    found = critical_difference(pd.DataFrame(values, columns=list("abcde")))
    expected = friedmanchisquare(*values.T)
    assert found.friedman == pytest.approx(expected.statistic)
    assert found.friedman_p == pytest.approx(expected.pvalue)
    assert sum(found.mean_rank) == pytest.approx(15)


def test_all_alike_and_all_agreed() -> None:
    alike = critical_difference(pd.DataFrame(np.ones((6, 3)), columns=list("abc")))
    assert (alike.friedman, alike.differ, alike.groups) == (0, False, (("a", "b", "c"),))
    agreed = critical_difference(pd.DataFrame([[1.0, 2.0, INF]] * 30, columns=list("abc")))
    assert agreed.iman_davenport == INF and agreed.iman_davenport_p == 0 and agreed.differ and agreed.groups == ()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (DEMSAR.head(4), "at least 5 workloads: got 4"),
        (DEMSAR[["C4.5"]], "at least 2 algorithms: got 1"),
        (DEMSAR.replace(4, math.nan), "NaN"),
    ],
)
def test_too_little_is_refused(table: pd.DataFrame, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        critical_difference(table)


# -- means over runs ---------------------------------------------------------------------------------------------------


def test_the_interquartile_mean_does_not_hear_the_outlier() -> None:
    calm, wild = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 800.0]
    assert interquartile_mean_over_runs(calm).mean == interquartile_mean_over_runs(wild).mean == 4.5
    found = interquartile_mean_over_runs(wild)
    assert found.low < 4.5 < found.high < 800 and found.interval == "95 % BCa bootstrap, n=8"
    assert interquartile_mean_over_runs([1.0, 2.0]) == mean_over_runs([1.0, 2.0])


def test_bootstrap_intervals_hold_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        found = mean_over_runs(rng.exponential(1.0, 25))
        held += found.low <= 1 <= found.high
    assert 51 <= held <= 60  # 95 % of 60 is 57; 51 or fewer has a chance below 1 %
