"""Compute utilisation: against the paper's table, a graph written out node by node, closed forms and sums by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from graphlib import TopologicalSorter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from algorithms import fragments as cut
from algorithms import interface
from analysis.theory.dag import Exchange, Layer, Reals, TrainingDag
from analysis.theory.exchanges import equal_layers, fragments, layers_of, schedule, training
from analysis.theory.utilization import GRID, TARGETS, Bandwidths, bandwidths, printed, required_bandwidth, utilization
from bench.workloads.sized_model import PRESETS

CELL = 10 ** (4 / 49)  # ratio of neighbouring points of the grid

MODELS: dict[str, dict[str, float]] = {
    name.removeprefix("gpt-"): {"parameters": p.parameters, "layers": p.layers, "step_time_s": p.step_s}
    for name, p in PRESETS.items()
    if name.startswith("gpt-")
}
METHODS: dict[str, dict[str, object]] = {  # each needs less bandwidth than the one before
    "data-parallel": {"method": "data-parallel"},
    "diloco": {"method": "diloco"},
    "streaming": {"method": "streaming"},
    "overlapped": {"method": "streaming", "delay": 1},
    "overlapped, 4 bits": {"method": "streaming", "delay": 1, "bits": 4},
}

# arXiv 2501.18512, table 4: Gbit/s for a utilisation of 0.5, 0.8, 0.9, 0.95, 0.99
TABLE = {
    ("1B", "data-parallel"): (86.8, 152.6, 184.2, 222.3, 569.0),
    ("1B", "diloco"): (1.4, 6.2, 13.3, 23.3, 86.8),
    ("1B", "streaming"): (1.4, 5.2, 9.1, 16.0, 28.1),
    ("1B", "overlapped"): (1.4, 4.3, 6.2, 9.1, 11.0),
    ("1B", "overlapped, 4 bits"): (0.4, 0.9, 1.7, 2.0, 3.0),
    ("100B", "data-parallel"): (184.2, 323.8, 390.7, 390.7, 471.5),
    ("100B", "diloco"): (3.0, 11.0, 23.3, 49.4, 184.2),
    ("100B", "streaming"): (2.4, 6.2, 9.1, 11.0, 19.3),
    ("100B", "overlapped"): (1.7, 3.6, 4.3, 5.2, 5.2),
    ("100B", "overlapped, 4 bits"): (0.5, 0.9, 1.1, 1.1, 1.4),
}
# Cells in which this reading of the paper is not the authors' simulator: the neighbouring point of the grid.
DIFFERENT = {("1B", "overlapped, 4 bits", 0.5): 0.3, ("100B", "overlapped", 0.5): 2.0}

# Crossings of an independent implementation of the same reading, by bisection, three digits
CROSSINGS = {
    ("1B", "data-parallel"): (99.1, 183, 217, 236, 667),
    ("1B", "diloco"): (1.61, 6.31, 13.8, 27.4, 98.4),
    ("1B", "streaming"): (1.55, 5.46, 10.3, 16.3, 28.6),
    ("1B", "overlapped"): (1.44, 4.36, 6.95, 9.27, 12.5),
    ("1B", "overlapped, 4 bits"): (0.361, 1.09, 1.74, 2.32, 3.11),
    ("100B", "data-parallel"): (196, 357, 422, 457, 485),
    ("100B", "diloco"): (3.23, 12.7, 27.6, 55.0, 195),
    ("100B", "streaming"): (2.67, 6.95, 9.89, 12.0, 23.3),
    ("100B", "overlapped"): (2.07, 3.95, 4.75, 5.20, 5.89),
    ("100B", "overlapped, 4 bits"): (0.516, 0.989, 1.19, 1.30, 1.47),
}


def row(model: str, name: str, **more: object) -> Bandwidths:
    return required_bandwidth(**{**MODELS[model], **METHODS[name], **more})


def curve(model: str, name: str, bandwidth: Reals, **more: object) -> Reals:
    return utilization(bandwidth, **{**MODELS[model], **METHODS[name], **more})


# -- the paper's table -------------------------------------------------------------------------------------------------


def test_the_grid_is_printed_as_in_the_paper() -> None:
    expected = """0.1 0.1 0.1 0.2 0.2 0.3 0.3 0.4 0.5 0.5 0.7 0.8 0.9 1.1 1.4 1.7 2.0 2.4 3.0 3.6 4.3 5.2 6.2 7.5 9.1
        11.0 13.3 16.0 19.3 23.3 28.1 33.9 41.0 49.4 59.6 72.0 86.8 104.8 126.5 152.6 184.2 222.3 268.3 323.8 390.7
        471.5 569.0 686.6 828.6 1000.0"""
    assert [printed(point) for point in GRID.tolist()] == [float(word) for word in expected.split()]


@pytest.mark.parametrize(("model", "method"), TABLE)
def test_a_row_of_the_table(model: str, method: str) -> None:
    found = row(model, method)
    assert found.targets == TARGETS
    for target, point, paper in zip(TARGETS, found.Gbit_per_s_on_grid, TABLE[model, method], strict=True):
        assert printed(point) == DIFFERENT.get((model, method, target), paper)
        distance = min(abs(np.log(point / other)) for other in GRID if printed(float(other)) == paper)
        assert distance <= 1.01 * np.log(CELL)


def test_at_least_46_of_50_cells_are_the_papers() -> None:
    same = [
        printed(point) == paper
        for (model, method), papers in TABLE.items()
        for point, paper in zip(row(model, method).Gbit_per_s_on_grid, papers, strict=True)
    ]
    assert len(same) == 50 and sum(same) == 50 - len(DIFFERENT) >= 46


@pytest.mark.parametrize(("model", "method"), CROSSINGS)
def test_the_exact_crossings(model: str, method: str) -> None:
    assert row(model, method).Gbit_per_s == pytest.approx(CROSSINGS[model, method], rel=0.01)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("data-parallel", (0.0062, 0.0605, 0.5044)),
        ("diloco", (0.3832, 0.8656, 0.9903)),
        ("streaming", (0.3892, 0.8970, 0.9989)),
        ("overlapped", (0.4009, 0.9617, 0.9997)),
        ("overlapped, 4 bits", (0.7799, 0.9992, 0.9999)),
    ],
)
def test_utilisation_of_the_small_model_at_1_10_and_100_gbit(method: str, expected: tuple[float, ...]) -> None:
    assert curve("1B", method, np.array([1.0, 10.0, 100.0])) == pytest.approx(expected, abs=5.1e-5)


# -- what the paper concludes ------------------------------------------------------------------------------------------

FINE = np.logspace(-2, 4, 401)


@pytest.mark.parametrize("model", MODELS)
def test_each_method_is_at_least_as_good_as_the_one_before(model: str) -> None:
    curves = [curve(model, method, FINE) for method in METHODS]
    for worse, better in pairwise(curves):
        assert (better - worse >= -1e-12).all() and (better - worse).max() > 0.01


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("method", METHODS)
def test_utilisation_rises_with_the_bandwidth_to_one(model: str, method: str) -> None:
    found = curve(model, method, FINE)
    assert (np.diff(found) >= 0).all() and 0 < found[0] < 0.1
    assert curve(model, method, np.array([1e12, np.inf])) == pytest.approx(1, abs=1e-7)
    assert (curve(model, method, np.array([1e12, np.inf])) <= 1).all()


@pytest.mark.parametrize(("model", "gain"), [("1B", 0.011), ("10B", 0.022), ("100B", 0.047)])
@pytest.mark.parametrize("method", ["streaming", "overlapped"])
def test_strided_fragments_are_never_worse_than_sequential_ones(model: str, gain: float, method: str) -> None:
    better = curve(model, method, FINE) - curve(model, method, FINE, pattern="sequential")
    assert (better >= -1e-12).all()
    if method == "streaming":
        assert better.max() == pytest.approx(gain, abs=0.0011)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("period", [2, 5, 10, 30, 300])
def test_the_order_holds_at_any_period(model: str, period: int) -> None:
    names = ("diloco", "streaming", "overlapped", "overlapped, 4 bits")  # with few steps fragments share them
    curves = [curve(model, name, FINE[::4], period=period) for name in names]
    for worse, better in pairwise(curves):
        assert (better - worse >= -1e-12).all() and (better - worse).max() > 0.01
    sequential = curve(model, "streaming", FINE[::4], period=period, pattern="sequential")
    assert (curves[1] - sequential >= -1e-12).all()


def test_overlapping_needs_less_bandwidth_for_larger_models() -> None:
    assert [printed(row(model, "overlapped").Gbit_per_s_on_grid[-1]) for model in ("1B", "100B")] == [11.0, 5.2]
    for method in ("overlapped", "overlapped, 4 bits"):
        needed = [row(model, method).Gbit_per_s[-1] for model in MODELS]
        assert needed == sorted(needed, reverse=True)


@pytest.mark.parametrize(("model", "ratio"), [("1B", 569.0 / 3.0), ("100B", 471.5 / 1.4)])
def test_streaming_needs_hundreds_of_times_less_bandwidth(model: str, ratio: float) -> None:
    most, least = (row(model, name).Gbit_per_s_on_grid[-1] for name in ("data-parallel", "overlapped, 4 bits"))
    assert ratio / CELL**2 < most / least < ratio * CELL**2


@pytest.mark.parametrize(
    ("Gbit_per_s", "expected"),
    [(5.0, (0.698, 0.930, 0.9955, 0.9955, 0.9955)), (4.0, (0.627, 0.808, 0.916, 0.942, 0.994))],
)
def test_a_longer_delay_helps_until_the_link_keeps_up(Gbit_per_s: float, expected: tuple[float, ...]) -> None:
    # Three periods; with two, the last transfer, which nothing hides, weighs half as much again.
    layers = equal_layers(parameters=1e11, layers=108, step_time_s=4.925)
    found = [
        TrainingDag(
            layers=layers, exchanges=schedule(fragments(108), period=100, delay=delay, rounds=3), steps=300
        ).utilization(Gbit_per_s)[0]
        for delay in (0, 1, 2, 5, 20)
    ]
    assert found == pytest.approx(expected, abs=0.0006)


def test_the_gain_of_a_delay_is_all_there_after_five_steps() -> None:
    none, two, five, twenty = (curve("100B", "streaming", np.array([5.0]), delay=delay)[0] for delay in (0, 2, 5, 20))
    assert two - none > 0.2 and twenty - five < 0.01


def test_no_delay_helps_below_the_average_rate() -> None:
    average = 1e11 * 16 / (100 * 4.925) / 1e9  # 3.25 Gbit/s: what is exchanged in a period, over its computing time
    found = [curve("100B", "streaming", np.array([average / 2]), delay=delay)[0] for delay in (0, 1, 5, 20, 99)]
    assert found == sorted(found) and found[0] > 0.3 and 0.49 < found[-1] <= 0.5


# -- the graph, written out --------------------------------------------------------------------------------------------


def written_out(dag: TrainingDag, pace: float) -> float:
    """Longest path [s] through a graph with every node of every step, by a topological order."""
    weight: dict[tuple[str, int, int], float] = {("start", 0, 0): 0.0}
    before: dict[tuple[str, int, int], list[tuple[str, int, int]]] = {}
    processor = ("start", 0, 0)
    for step in range(1, dag.steps + 1):
        todo = [("forward", i) for i in range(len(dag.layers))]
        for i in reversed(range(len(dag.layers))):
            todo += [("backward_activations", i), ("backward_parameters", i)]
        for kind, i in todo:
            node = (kind, step, i)
            weight[node], before[node] = getattr(dag.layers[i], f"{kind}_s"), [processor]
            processor = node
    transfers = sorted((e.step, -i, e.delay) for e in dag.exchanges for i in e.layers if dag.layers[i].bits)
    link = ("start", 0, 0)
    for step, minus, delay in transfers:
        node = ("reduction", step, -minus)
        weight[node], before[node] = dag.layers[-minus].bits * pace, [("backward_parameters", step, -minus), link]
        link = node
        if step + 1 + delay <= dag.steps:
            before["forward", step + 1 + delay, -minus].append(node)
    finish: dict[tuple[str, int, int], float] = {}
    for node in TopologicalSorter(before).static_order():
        finish[node] = weight[node] + max((finish[other] for other in before.get(node, [])), default=0.0)
    return max(finish.values())


seconds = st.floats(0, 3)


@st.composite
def dags(draw: st.DrawFn) -> TrainingDag:
    layers = draw(
        st.lists(
            st.builds(
                Layer,
                forward_s=st.floats(0.1, 3),
                backward_activations_s=seconds,
                backward_parameters_s=seconds,
                bits=st.just(0.0) | st.floats(0.01, 10),
            ),
            min_size=1,
            max_size=5,
        )
    )
    steps = draw(st.integers(1, 6))
    wanted = draw(st.sets(st.tuples(st.integers(1, steps), st.integers(0, len(layers) - 1)), max_size=12).map(sorted))
    delays = draw(st.lists(st.integers(0, 3), min_size=len(wanted), max_size=len(wanted)))
    exchanges = [Exchange(step=k, layers=(i,), delay=d) for (k, i), d in zip(wanted, delays, strict=True)]
    return TrainingDag(layers=layers, exchanges=exchanges, steps=steps)


@given(dags(), st.lists(st.floats(0, 5), min_size=1, max_size=4))
def test_any_training_takes_as_long_as_its_longest_path(dag: TrainingDag, pace: list[float]) -> None:
    total_s, path_bits = dag.duration(pace)
    assert total_s == pytest.approx([written_out(dag, x) for x in pace], rel=1e-12)
    assert dag.compute_s == pytest.approx(dag.steps * sum(i.forward_s + i.backward_s for i in dag.layers), rel=1e-12)
    # No shorter than either resource is busy, no longer than both in turn; and convex: a slope supports the curve.
    busy = dag.sent_bits * np.array(pace)
    assert (total_s >= np.maximum(dag.compute_s, busy) * (1 - 1e-12)).all()
    assert (total_s <= (dag.compute_s + busy) * (1 + 1e-12)).all()
    lines = total_s[:, None] + path_bits[:, None] * (np.array(pace) - np.array(pace)[:, None])
    assert (lines <= total_s * (1 + 1e-12) + 1e-12).all()


@given(dags(), st.lists(st.floats(0.01, 0.999), min_size=1, max_size=5))
def test_the_required_bandwidth_gives_the_target(dag: TrainingDag, targets: list[float]) -> None:
    assume(dag.sent_bits > 0)
    assert dag.utilization(dag.required(targets)) == pytest.approx(targets, rel=1e-11)


@pytest.mark.thorough
def test_newton_ends_on_the_line_that_crosses() -> None:
    # Many short lines next to each other, one target at a time: stopping at a small step would stop too early.
    dag = training(equal_layers(parameters=1e11, layers=108, step_time_s=4.925), method="streaming")
    for target in np.linspace(0.7, 0.99, 60):
        assert dag.utilization(dag.required(target)) == pytest.approx(target, rel=1e-12)


def test_targets_next_to_one() -> None:
    targets = 1 - np.array([1e-3, 1e-6, 1e-9])
    dag = training(equal_layers(parameters=1e9, layers=24, step_time_s=0.099), method="streaming", delay=1)
    assert 1 - dag.utilization(dag.required(targets)) == pytest.approx(1 - targets, rel=1e-3)


def test_two_layers_by_hand() -> None:
    a = Layer(forward_s=1, backward_activations_s=0, backward_parameters_s=2, bits=4)
    b = Layer(forward_s=3, backward_activations_s=1, backward_parameters_s=2, bits=6)
    # 0.5 s/bit: b's reduction takes 3 s, a's 2 s. Step 1 computes until 9 s and releases b at 7 s, a at 9 s; the link
    # carries b from 7 to 10 s and a from 10 to 12 s. Without delay the second step computes from 12 to 21 s, releases
    # b at 19 s and a at 21 s, carried until 22 and 24 s. With delay 1 it computes from 9 to 18 s, releases b at 16 s
    # and a at 18 s, carried until 19 and 21 s.
    # 1.5 s/bit: 9 and 6 s. b from 7 to 16 s, a from 16 to 22 s; second step from 22 s, b from 29 to 38 s, a to 44 s.
    # With delay 1 the link is busy from 7 s on, for 2 (9 + 6) s.
    expected = {0: ([24, 44], [20, 20]), 1: ([21, 37], [10, 20])}
    for delay, (total_s, path_bits) in expected.items():
        exchanges = [Exchange(step=step, layers=(0, 1), delay=delay) for step in (1, 2)]
        found = TrainingDag(layers=[a, b], exchanges=exchanges, steps=2).duration([0.5, 1.5])
        assert found.total_s == pytest.approx(total_s, rel=1e-12)
        assert found.path_bits.tolist() == path_bits


# -- closed forms and reductions ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("period", [1, 10, 30, 100, 300])
def test_diloco_in_closed_form(model: str, period: int) -> None:
    bits, layers, step_s = MODELS[model]["parameters"] * 16e-9, MODELS[model]["layers"], MODELS[model]["step_time_s"]
    hidden = step_s * (2 / 3 - 2 / (3 * layers))
    for target, exact in zip(TARGETS, row(model, "diloco", period=period).Gbit_per_s, strict=True):
        allowed = period * step_s * (1 / target - 1)
        closed = max(bits / (allowed + hidden), bits / layers / allowed)
        assert 1 / CELL < exact / closed < CELL


@pytest.mark.parametrize("model", MODELS)
def test_data_parallel_is_diloco_with_period_one(model: str) -> None:
    assert row(model, "data-parallel") == row(model, "diloco", period=1)
    assert row(model, "data-parallel") == row(model, "streaming", period=1)


def test_the_number_of_rounds_matters_only_with_a_delay() -> None:
    layers = equal_layers(parameters=1e9, layers=24, step_time_s=0.099)
    whole = [tuple(range(24))]
    for period in (1, 10):
        few, many = (
            TrainingDag(layers=layers, exchanges=schedule(whole, period=period, rounds=n), steps=n * period)
            for n in (2, 20)
        )
        assert few.required(TARGETS) == pytest.approx(many.required(TARGETS), rel=1e-9)


def test_the_general_graph_with_equal_layers_is_the_simulator_exactly() -> None:
    node_s = 0.099 / 71
    layers = [
        Layer(forward_s=node_s, backward_activations_s=node_s * (i > 0), backward_parameters_s=node_s, bits=16e9 / 24)
        for i in range(24)
    ]
    exchanges = [
        Exchange(step=step, layers=tuple(i for i in range(24) if i % 8 == p), delay=1)
        for step in range(1, 201)
        for p in range(8)
        if step % 100 == 11 * p
    ]
    dag = TrainingDag(layers=layers, exchanges=exchanges, steps=200)
    assert np.array_equal(dag.utilization(FINE), curve("1B", "overlapped", FINE))
    assert bandwidths(dag) == row("1B", "overlapped")


def test_costs_from_a_table_are_those_of_the_layers() -> None:
    layers = equal_layers(parameters=1e9, layers=3, step_time_s=1)
    table = pd.DataFrame([vars(layer) for layer in layers])
    assert layers_of(table) == layers
    assert layers_of(table.assign(layer=["a", "b", "c"])) == layers
    with pytest.raises(ValueError, match=r"backward_parameters_s, bits, and if you like layer: got forward_s, .*sits$"):
        layers_of(table.rename(columns={"bits": "sits"}))
    with pytest.raises(ValueError, match="layer 1: bits of a layer must be finite and at least 0: got nan"):
        layers_of(table.assign(bits=[1.0, math.nan, 1.0]))


def test_a_free_embedding_changes_nothing() -> None:
    free = Layer(forward_s=0, backward_activations_s=0, backward_parameters_s=0, bits=0)
    body = equal_layers(parameters=1e9, layers=24, step_time_s=0.099)
    for method in ("data-parallel", "diloco"):
        plain, with_free = (training(layers, method=method) for layers in (body, [free, *body]))
        assert with_free.utilization(FINE) == pytest.approx(plain.utilization(FINE), rel=1e-12)


@pytest.mark.parametrize("bandwidth", [0.5, 2.0, 20.0])
def test_bits_hurt_most_in_the_first_layer(bandwidth: float) -> None:
    costs = {"forward_s": 1.0, "backward_activations_s": 1.0, "backward_parameters_s": 1.0}

    def total_s(*bits: float) -> float:
        layers = [Layer(**costs, bits=b * 1e9) for b in bits]
        return float(training(layers, method="data-parallel").duration(1e-9 / bandwidth).total_s[0])

    # Two steps of 9 s. In the first layer the 12 Gbit are released at the end and needed at the start: nothing is
    # hidden. In the last they are released after 5 s and needed 2 s after the start: 6 s are hidden, 4 s of the last.
    transfer_s = 12 / bandwidth
    assert total_s(12, 0, 0) == pytest.approx(18 + 2 * transfer_s, rel=1e-12)
    waiting_s = max(0, transfer_s - 6) + max(0, transfer_s - 4)
    assert total_s(0, 0, 12) == pytest.approx(18 + waiting_s, rel=1e-12)
    assert total_s(0, 0, 12) <= total_s(4, 4, 4) <= total_s(12, 0, 0)


# -- schedules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["strided", "sequential"])
@pytest.mark.parametrize(("layers", "size"), [(24, 3), (48, 3), (7, 3), (10, 4), (5, 5), (5, 1), (126, 4)])
def test_fragments_are_those_that_the_algorithm_exchanges(pattern: str, layers: int, size: int) -> None:
    model = [interface.Layer(str(i), slice(i, i + 1), True) for i in range(layers)]
    theirs = cut.fragments(model, fragment_layers=size, pattern=pattern, own_ends=False)
    expected = [tuple(i for span in f.spans for i in range(span.start, span.stop)) for f in theirs]
    found = fragments(layers, fragment_size=size, pattern=pattern)
    assert found == expected
    assert sorted(i for part in found for i in part) == list(range(layers))
    assert max(map(len, found)) - min(map(len, found)) <= 1 and max(map(len, found)) <= size


@pytest.mark.parametrize(("layers", "steps"), [(24, 11), (48, 5), (108, 2)])
def test_a_fragment_is_exchanged_every_11_5_or_2_steps(layers: int, steps: int) -> None:
    found = [exchange.step for exchange in schedule(fragments(layers), period=100, rounds=1)]
    assert found == [*range(steps, steps * (layers // 3), steps), 100]


@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 4))
def test_every_fragment_once_a_period(count: int, period: int, rounds: int) -> None:
    found = schedule([(p,) for p in range(count)], period=period, rounds=rounds)
    for p in range(count):
        steps = [exchange.step for exchange in found if exchange.layers == (p,)]
        assert len(steps) == rounds and set(np.diff(steps).tolist()) <= {period} and 1 <= steps[0] <= period
    crowd = max(sum(exchange.step == step for exchange in found) for step in range(1, period * rounds + 1))
    assert crowd <= -(-(count + 1) // period)


# -- the ends of the grid, and what is refused -------------------------------------------------------------------------


def test_targets_off_the_grid() -> None:
    low = required_bandwidth(method="diloco", parameters=1e6, layers=2, step_time_s=1, targets=(0.5, 0.9))
    assert all(math.isnan(point) for point in low.Gbit_per_s_on_grid)
    assert max(low.Gbit_per_s) < GRID[0] and len(low.remarks()) == 2 and "starts at 0.1 Gbit/s" in low.remarks()[0]
    high = required_bandwidth(method="data-parallel", parameters=1e12, layers=10, step_time_s=1, targets=(0.01, 0.9))
    assert high.Gbit_per_s_on_grid[1] == 1000 < high.Gbit_per_s[1]
    assert len(high.remarks()) == 1 and "beyond the grid, which ends at 1000 Gbit/s" in high.remarks()[0]
    assert row("1B", "diloco").remarks() == []


@pytest.mark.parametrize("bits", [1, 4, 16])
@pytest.mark.parametrize("workers", [2, 3, 8])
def test_bandwidth_is_proportional_to_the_payload(bits: float, workers: int) -> None:
    found = row("1B", "diloco", bits=bits, workers=workers).Gbit_per_s
    factor = bits / 16 * 2 * (workers - 1) / workers
    assert found == pytest.approx([factor * exact for exact in row("1B", "diloco").Gbit_per_s], rel=1e-12)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"method": "fedavg"}, "method must be one of data-parallel, diloco, streaming: got 'fedavg'"),
        ({"pattern": "zigzag"}, "pattern must be one of strided, sequential: got 'zigzag'"),
        ({"layers": 0}, "layers must be at least 1: got 0"),
        ({"fragment_size": 0}, "fragment_size must be from 1 to the number of layers, 24: got 0"),
        ({"fragment_size": 25}, "fragment_size must be from 1 to the number of layers, 24: got 25"),
        ({"step_time_s": 0}, "step_time_s must be finite and above 0: got 0"),
        ({"step_time_s": math.nan}, "step_time_s must be finite and above 0: got nan"),
        ({"parameters": -1.0}, "parameters must be finite and above 0: got -1.0"),
        ({"bits": math.inf}, "bits must be finite and above 0: got inf"),
        ({"workers": 1}, "workers must be at least 2: got 1"),
        ({"period": 0}, "period must be at least 1 step: got 0"),
        ({"delay": -1}, "delay must be at least 0 and below the period: got -1 with period 100"),
        ({"delay": 100}, "delay must be at least 0 and below the period: got 100 with period 100"),
        ({"method": "data-parallel", "delay": 1}, "below the period: got 1 with period 1"),
        ({"targets": (0.5, 1.0)}, "targets must lie between 0 and 1"),
        ({"targets": (0.0,)}, "targets must lie between 0 and 1"),
    ],
)
def test_what_is_refused(given: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError) as error:
        row("1B", "streaming", **given)
    assert complaint in str(error.value) and "\n" not in str(error.value)


def one(bits: float = 1.0, forward_s: float = 1.0) -> Layer:
    return Layer(forward_s=forward_s, backward_activations_s=0, backward_parameters_s=0, bits=bits)


@pytest.mark.parametrize(
    ("layers", "exchanges", "complaint"),
    [
        ([], [], "at least one layer and one step"),
        ([one()], [Exchange(step=3, layers=(0,))], "after step 3 but training has 2 steps"),
        ([one()], [Exchange(step=1, layers=(1,))], "must lie in 0 .. 0: got 1 after step 1"),
        ([one()], [Exchange(step=1, layers=(0,))] * 2, "layer 0 is exchanged twice after step 1"),
    ],
)
def test_graphs_that_make_no_sense(layers: Sequence[Layer], exchanges: Sequence[Exchange], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        TrainingDag(layers=layers, exchanges=exchanges, steps=2)


def test_costs_and_bandwidths_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="bits of a layer must be finite and at least 0: got -1"):
        one(bits=-1)
    with pytest.raises(ValueError, match="step >= 1 with a delay >= 0: got step 1, delay -2"):
        Exchange(step=1, layers=(0,), delay=-2)
    with pytest.raises(ValueError, match="bandwidth must be above 0 Gbit/s: got 0"):
        curve("1B", "diloco", np.array([1.0, 0.0]))
    for layer in (one(bits=0), one(forward_s=0)):
        with pytest.raises(ValueError, match="no bandwidth is required"):
            training([layer], method="data-parallel").required([0.5])
