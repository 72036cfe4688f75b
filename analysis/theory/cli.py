"""`paceline theory`: what the papers' formulas say, before anything is run.

Heavy imports stand inside the functions, so that --help and the closed forms answer at once. Here are the subjects that
need the algorithms themselves; the others are in `analysis.theory.subjects`.
"""

from __future__ import annotations

import argparse
import json
import math
import tomllib
from typing import TYPE_CHECKING, Any

from analysis.theory.answer import Answer, shown, shown_bytes
from analysis.theory.options import parser
from bench.settings import StudyError, build, parse_set, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algorithms.interface import Algorithm
    from algorithms.topology import Topology
    from analysis.theory.traffic import Counts, Steps

MOST_STEPS = 100_000  # of all workers together, in a run that counts bytes: some 20 s
MOST_EVENTS = 1 << 25  # room for those of all ranks
RUN_PARAMETERS = 1 << 18  # of all workers together, in such a run


def main(argv: list[str]) -> int:
    """Answer one question: 0.

    Raises:
        StudyError: it cannot be asked like that.
    """
    asked = {name: value for name, value in vars(_parsed(argv)).items() if value not in (None, [])}
    subject, as_json = asked.pop("subject"), asked.pop("json")
    try:
        answer = _answer(subject, dict(asked))
    except StudyError:
        raise
    except ValueError as error:
        raise StudyError(f"{subject}: {error}") from error
    if as_json:
        found = json.loads(answer.json())
        print(json.dumps({**found, "given": {**asked, **found["given"]}}))
    else:
        print(f"{subject}: {', '.join(f'{k} {_plainly(v)}' for k, v in asked.items())}\n\n{answer.table()}")
    return 0


def _parsed(argv: list[str]) -> argparse.Namespace:
    """The options; what `bytes` does not know are settings of the algorithm: --period 50 is --set period=50."""
    known, rest = parser().parse_known_args(argv)
    if known.subject != "bytes" or len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
        return parser().parse_args(argv)
    for name, value in zip(rest[::2], rest[1::2], strict=True):
        known.settings.append(f"{name[2:].replace('-', '_')}={_as_toml(value)}")
    return known


def _as_toml(value: str) -> str:
    """Words in quotes, as a shell takes them off; numbers, true, false and tables as they are."""
    try:
        tomllib.loads(f"x = {value}")
    except tomllib.TOMLDecodeError:
        return json.dumps(value)
    return value


def _answer(subject: str, asked: dict[str, Any]) -> Answer:
    if subject == "spectral-gap":
        return spectral_gap(**asked)
    if subject == "bytes":
        return traffic(**asked)
    from analysis.theory.subjects import ANSWERS

    if "costs" in asked:
        asked["costs"] = _table(asked["costs"])
    return ANSWERS[subject](**asked)


def _table(path: str) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"--costs: cannot read {path}: {' '.join(str(error).split())}") from error


def _plainly(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_plainly, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def spectral_gap(
    *, topology: str, workers: int, weights: str, seed: int, edge_probability: float | None = None
) -> Answer:
    """How fast averaging on a graph mixes."""
    from algorithms.topology import Topology
    from analysis.theory.spectra import product, spectrum

    graph = Topology(topology, edge_probability=edge_probability)
    graph.check(workers)
    rounds = 1 if graph.static else (workers - 1).bit_length()
    matrices = [_mixing(graph, workers, weights, t, seed) for t in range(1, rounds + 1)]
    found = spectrum(product(matrices))
    per_round = (1 - found.gap) ** (1 / rounds)
    what = "" if found.symmetric else " (W is not symmetric: a modulus)"
    every = "round" if rounds == 1 else f"period of {rounds} rounds"
    return Answer(
        values={
            "second_eigenvalue": found.second,
            "smallest_eigenvalue": found.smallest,
            "spectral_gap": found.gap,
            "rounds": rounds,
            "contraction_per_round": per_round,
            "symmetric": found.symmetric,
        },
        lines=[
            ("second_eigenvalue", shown(found.second), f"second largest{what}"),
            ("smallest_eigenvalue", shown(found.smallest), "" if found.symmetric else "smallest real part"),
            ("spectral_gap", shown(found.gap), "1 - second largest modulus"),
            ("rounds", str(rounds), "rounds that the matrix stands for"),
            ("contraction_per_round", shown(per_round), "factor on the consensus distance, in the end"),
        ],
        meaning="Without gradients the distance of the replicas from their mean shrinks by the factor 1 - spectral_gap "
        f"in each {every}. A gap of 1 averages exactly, a small one lets replicas drift apart. "
        + ("The graph changes from round to round: the numbers are those of the product over a period." * (rounds > 1)),
        source="Boyd, Diaconis, Xiao, Fastest mixing Markov chain on a graph, SIAM Review 2004; exponential graphs: "
        "Ying et al., NeurIPS 2021, arXiv 2110.13363.",
    )


def _mixing(graph: Topology, workers: int, weights: str, t: int, seed: int) -> NDArray[np.float64]:
    """W(t) [n, n] in the wanted weights."""
    from algorithms.topology import lazy, metropolis

    if weights == "metropolis":
        if not graph.symmetric:
            raise ValueError(f"weights metropolis are for undirected graphs: got {graph.name} (use own)")
        return metropolis(graph.graph(workers, seed))
    if weights == "uniform" and len({degree for _, degree in graph.graph(workers, seed).degree}) > 1:
        raise ValueError(
            "weights uniform, 1 / (degree + 1), do not average where degrees differ: "
            f"got {graph.name} on {workers} workers (use metropolis)"
        )
    own = graph.matrix(workers, t, seed)
    return lazy(own) if weights == "lazy" else own


def traffic(*, algorithm: str, parameters: int, workers: int, layers: int, settings: list[str] | None = None) -> Answer:
    """What an algorithm puts on the network."""
    from algorithms.formula import evaluate
    from analysis.theory.traffic import loads
    from bench.describe import find

    if parameters < 1 or layers < 1:
        raise ValueError(f"parameters and layers must be at least 1: got {parameters} and {layers}")
    chosen = build(find(algorithm), parse_set(settings or [], "period=4"), f"--set ({algorithm})")
    chosen.validate(workers)
    found, steps = counted(chosen, parameters=parameters, workers=workers, layers=layers)
    nbytes, formula = 4.0 * parameters, chosen.bytes_per_step
    payload = evaluate(formula, chosen, workers, nbytes) if formula else None
    worker, server = loads(found, steps, payload)
    servers = chosen.server_ranks(workers)
    busiest = None if server is None else {"bytes_per_step": server.average, "burst_bytes": round(server.burst)}
    lines = [
        ("bytes_per_step", shown_bytes(worker.average), "of a worker, on average"),
        ("burst_bytes", shown_bytes(worker.burst), "of a worker, the most in the time of a step"),
    ]
    if server is not None:
        lines += [
            ("server bytes_per_step", shown_bytes(server.average), f"in and out of {_one_of(servers)}, on average"),
            ("server burst_bytes", shown_bytes(server.burst), "the same, the most in the time of a step"),
        ]
    return Answer(
        values={
            "bytes_per_step": worker.average,
            "burst_bytes": round(worker.burst),
            "per_server": busiest,
            "servers": servers,
            "payload_bytes_per_step": payload,
            "formula": formula,
        },
        lines=lines,
        meaning="What a worker sends, with what servers answer to it; an all-reduce counts as a ring, 2 (n - 1) / n of "
        "the vector. Averages follow the algorithm's formula"
        + (f" ({formula}; M = {shown_bytes(nbytes)})" if formula else " (none is stated: counted)")
        + "; bursts are counted in a simulated run with equally fast workers, and carried over to P parameters.",
        source=chosen.paper or "none stated",
        given={"settings": plain(chosen)},
    )


def _one_of(servers: int) -> str:
    return "the server" if servers == 1 else f"the busiest of {servers} servers"


def counted(algorithm: Algorithm, *, parameters: float, workers: int, layers: int) -> tuple[Counts, Steps]:
    """The bytes of a model of this size by rank and step, and which steps make up whole periods.

    Raises:
        ValueError: so much would have to be simulated that it takes too long.
    """
    from analysis.theory.traffic import carried, steps_to_count

    # How long to count: from the settings that say how often something happens.
    named = {name: getattr(algorithm, name, None) for name in ("period", "upper_period", "start")}
    steps = steps_to_count(**{name: value for name, value in named.items() if isinstance(value, int)})
    if workers * steps.total > MOST_STEPS:
        raise ValueError(
            f"counting takes {steps.total} steps of {workers} workers: at most {MOST_STEPS} in all are simulated "
            "(ask for fewer workers, or a shorter period)"
        )
    small, large = _layer_sizes(workers, layers)
    one, two = (_count(algorithm, workers, layers, size, steps) for size in (small, large))
    return carried(one, two, (layers * small, layers * large), parameters), steps


def _layer_sizes(workers: int, layers: int) -> tuple[int, int]:
    """Parameters per layer of the two models: large enough for coded formats, small enough for many workers."""
    from analysis.theory.traffic import BLOCK

    blocks = max(1, min(32, RUN_PARAMETERS // (workers * layers * BLOCK)))
    return blocks * BLOCK, 2 * blocks * BLOCK


def _count(algorithm: Algorithm, n: int, layers: int, layer_size: int, steps: Steps) -> Counts:
    """The bytes of a run on a stand-in model."""
    import pandas as pd

    from algorithms.optim import OptimizerSettings
    from analysis.theory.traffic import StandIn, counts
    from bench.budget import Budget
    from bench.cluster import Compute, Network
    from bench.layers import layers_of
    from bench.simulate import Simulation

    workload = StandIn(layers=layers, layer_size=layer_size, workers=n)
    algorithm.check_model(layers_of(workload.layers))
    simulation = Simulation(
        algorithm,
        workload,
        workers=n,
        seed=0,
        optimizer=OptimizerSettings(name="sgd", lr=0.1),
        compute=Compute(gradient_s=1.0),
        network=Network(latency_s=0.0, bandwidth_Gbit_per_s=math.inf),
        event_capacity=min(1 << 17, MOST_EVENTS // n),
    )
    budget = Budget(steps=steps.total) if algorithm.lockstep else Budget(seconds=steps.total - 0.5)
    simulation.run(budget)
    if dropped := sum(handle.recorder.dropped for handle in simulation.handles):
        raise ValueError(
            f"counting would take more memory than is set aside: {dropped} events too many (fewer workers)"
        )
    rows = [(h.rank, r[0], r[2], r[4], r[6]) for h in simulation.handles for r in h.recorder.rows()]
    events = pd.DataFrame(rows, columns=["rank", "kind", "t0_s", "nbytes", "peer"])
    return counts(events, workers=n, servers=len(simulation.servers), steps=steps.total)
