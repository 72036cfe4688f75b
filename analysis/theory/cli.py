"""`paceline theory`: what the papers' formulas say, before anything is run.

Heavy imports stand inside the functions, so that --help and the closed forms answer at once.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from analysis.theory.answer import Answer, shown, shown_bytes
from bench.settings import StudyError, build, parse_set, plain

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from algorithms.interface import Algorithm
    from analysis.theory.traffic import Counts, Steps

TOPOLOGIES = (
    "ring", "torus", "hypercube", "star", "complete", "complete-bipartite", "exponential", "one-peer-exponential",
    "erdos-renyi", "directed-ring",
)  # fmt: skip
WEIGHTS = ("own", "metropolis", "uniform", "lazy")
LAYERS = 24  # blocks of the model that the traffic of fragments is counted on, unless told otherwise
MOST_STEPS = 200_000  # of all workers together, in a run that counts bytes: some 20 s each
RUN_PARAMETERS = 1 << 20  # of all workers together, in such a run


def main(argv: list[str]) -> int:
    """Answer one question: 0, or 2 if it cannot be asked like that."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    asked = {k: v for k, v in vars(arguments).items() if k not in ("answer", "json", "subject") and v not in (None, [])}
    try:
        answer: Answer = arguments.answer(arguments)
    except StudyError:
        raise
    except ValueError as error:
        raise StudyError(f"{arguments.subject}: {error}") from error
    if arguments.json:
        found = json.loads(answer.json())
        print(json.dumps({**found, "given": {**asked, **found["given"]}}))
    else:
        print(f"{arguments.subject}: {', '.join(f'{k} {_plainly(v)}' for k, v in asked.items())}\n\n{answer.table()}")
    return 0


def _plainly(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_plainly, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


# -- the command line --------------------------------------------------------------------------------------------------


def number(text: str) -> float:
    """A finite number."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def whole(text: str) -> int:
    """A whole number, also as 1e9."""
    value = number(text)
    if value != int(value):
        raise ValueError(text)
    return int(text) if text.lstrip("+-").isdigit() else int(value)


def numbers(text: str) -> tuple[float, ...]:
    """Numbers between commas."""
    return tuple(number(part) for part in text.split(","))


def _columns(prog: str) -> argparse.HelpFormatter:
    return argparse.HelpFormatter(prog, max_help_position=28, width=110)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="paceline theory",
        description="What the papers' formulas say about an algorithm before it is run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="subjects:",
    )
    subjects = parser.add_subparsers(dest="subject", metavar="SUBJECT", required=True, help="one of those below")

    def subject(name: str, answer: Any, what: str) -> argparse.ArgumentParser:
        sentence = what[0].upper() + what[1:] + "."
        one = subjects.add_parser(name, description=sentence, formatter_class=_columns)
        parser.epilog = f"{parser.epilog}\n  {name:18s}{what}"
        one.set_defaults(answer=answer)
        one.add_argument("--json", action="store_true", help="one JSON object instead of a table")
        return one

    def add(one: argparse.ArgumentParser, name: str, what: str, kind: Any = number, default: Any = None) -> None:
        tail = "" if default is None else f" ({default:g})" if isinstance(default, float | int) else f" ({default})"
        one.add_argument(f"--{name}", type=kind, help=what + tail, required=default is None, default=default)

    def choose(one: argparse.ArgumentParser, name: str, what: str, among: Sequence[str], default: str = "") -> None:
        tail = f" ({default})" if default else ""
        one.add_argument(
            f"--{name}", choices=among, help=f"{what}: {', '.join(among)}{tail}", metavar=name.upper(),
            required=not default, default=default or None,
        )  # fmt: skip

    curvature = ("curvature", "h, second derivative of the quadratic", number, 1.0)

    one = subject("utilization", _utilization, "the bandwidth that a share of time spent computing needs")
    choose(one, "method", "what is exchanged", ("data-parallel", "diloco", "streaming"))
    one.add_argument("--parameters", type=number, help="of the model")
    one.add_argument("--layers", type=whole, help="of the model, equally large")
    one.add_argument("--step-time", type=number, help="of a step without waiting [s]")
    one.add_argument(
        "--costs", metavar="FILE.csv",
        help="costs per layer instead of --parameters, --layers and --step-time: columns forward_s, "
        "backward_activations_s, backward_parameters_s, bits",
    )  # fmt: skip
    add(one, "period", "H, steps between exchanges", whole, 100)
    add(one, "fragment-size", "layers per fragment, for streaming", whole, 3)
    choose(one, "pattern", "which layers make up a fragment", ("strided", "sequential"), "strided")
    add(one, "delay", "steps that an exchange may overlap", whole, 0)
    add(one, "bits", "of a parameter on the wire", number, 16.0)
    add(one, "targets", "shares of time spent computing", numbers, "0.5,0.8,0.9,0.95,0.99")

    one = subject("easgd-stability", _easgd_stability, "whether EASGD is stable on a quadratic")
    add(one, "eta", "learning rate")
    add(one, "alpha", "moving rate of a worker")
    add(one, "workers", "p", whole)
    choose(one, "mode", "sync: all workers at once; round-robin: in turn", ("sync", "round-robin"), "sync")
    add(one, *curvature)
    add(one, "period", "tau, steps between a worker's exchanges", whole, 1)

    one = subject("admm-stability", _admm_stability, "whether round-robin ADMM is stable on a quadratic")
    add(one, "eta", "learning rate")
    add(one, "rho", "penalty")
    add(one, "workers", "p", whole)
    add(one, *curvature)

    one = subject("easgd-mse", _easgd_mse, "the noise of synchronous EASGD's center in the end")
    add(one, "eta", "learning rate")
    add(one, "beta", "workers x moving rate")
    add(one, "workers", "p", whole)
    add(one, *curvature)
    add(one, "noise", "sigma, standard deviation of a worker's gradient", number, 1.0)

    one = subject("downpour-tau", _downpour_tau, "the longest stable period of DOWNPOUR")
    add(one, "eta", "learning rate")
    add(one, "workers", "p", whole)
    add(one, *curvature)

    one = subject("async-momentum", _async_momentum, "the best explicit momentum of an asynchronous server")
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--implicit", type=number, help="momentum that asynchrony brings, in [0, 1)")
    which.add_argument("--workers", type=whole, help="M memoryless workers, which bring 1 - 1/M")
    add(one, "condition", "largest over smallest eigenvalue")

    one = subject("spectral-gap", _spectral_gap, "how fast averaging on a graph mixes")
    choose(one, "topology", "the graph", TOPOLOGIES)
    add(one, "workers", "n", whole)
    choose(one, "weights", "of the averages; own: as the algorithms here use them", WEIGHTS, "own")
    one.add_argument("--edge-probability", type=number, help="erdos-renyi: of each pair (2 ln(n) / n)")
    add(one, "seed", "erdos-renyi: of the graph", whole, 0)

    one = subject("bytes", _bytes, "what an algorithm puts on the network, per step and at most")
    add(one, "algorithm", "its name, as in: paceline algorithms", str)
    add(one, "parameters", "P, float32", whole)
    add(one, "workers", "n", whole)
    one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting, as in a study file")
    add(one, "layers", "equal blocks that the model is made of, where fragments are sent", whole, LAYERS)
    parser.epilog = f"{parser.epilog}\n\npaceline theory SUBJECT --help tells more."
    return parser


# -- closed forms ------------------------------------------------------------------------------------------------------


def _utilization(asked: argparse.Namespace) -> Answer:
    from analysis.theory import subjects
    from analysis.theory.exchanges import equal_layers, layers_of, training
    from analysis.theory.utilization import bandwidths, printed

    given = [value is not None for value in (asked.parameters, asked.layers, asked.step_time)]
    if asked.costs is not None:
        if any(given):
            raise ValueError("--costs stands instead of --parameters, --layers and --step-time (omit them)")
        layers = layers_of(_table(asked.costs))
    else:
        if not all(given):
            raise ValueError("it needs --parameters, --layers and --step-time, or --costs FILE.csv instead")
        layers = equal_layers(
            parameters=asked.parameters, layers=asked.layers, step_time_s=asked.step_time, bits=asked.bits
        )
    dag = training(
        layers,
        method=asked.method,
        period=asked.period,
        fragment_size=asked.fragment_size,
        pattern=asked.pattern,
        delay=asked.delay,
    )
    return subjects.utilization(bandwidths(dag, asked.targets), printed)


def _table(path: str) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"--costs: cannot read {path}: {error}") from error


def _easgd_stability(asked: argparse.Namespace) -> Answer:
    from analysis.theory import subjects

    return subjects.easgd_stability(
        eta=asked.eta,
        alpha=asked.alpha,
        workers=asked.workers,
        mode=asked.mode,
        curvature=asked.curvature,
        period=asked.period,
    )


def _admm_stability(asked: argparse.Namespace) -> Answer:
    from analysis.theory import subjects

    return subjects.admm_stability(eta=asked.eta, rho=asked.rho, workers=asked.workers, curvature=asked.curvature)


def _easgd_mse(asked: argparse.Namespace) -> Answer:
    from analysis.theory import subjects

    return subjects.easgd_mse(
        eta=asked.eta, beta=asked.beta, workers=asked.workers, curvature=asked.curvature, noise=asked.noise
    )


def _downpour_tau(asked: argparse.Namespace) -> Answer:
    from analysis.theory import subjects

    return subjects.downpour_tau(eta=asked.eta, workers=asked.workers, curvature=asked.curvature)


def _async_momentum(asked: argparse.Namespace) -> Answer:
    from analysis.theory import subjects
    from analysis.theory.momentum import implicit_momentum

    implicit = asked.implicit if asked.workers is None else implicit_momentum(asked.workers)
    return subjects.async_momentum(implicit=implicit, condition=asked.condition, workers=asked.workers)


# -- what needs the algorithms -----------------------------------------------------------------------------------------


def _spectral_gap(asked: argparse.Namespace) -> Answer:
    from algorithms.topology import Topology
    from analysis.theory.spectra import product, spectrum

    graph = Topology(asked.topology, edge_probability=asked.edge_probability)
    graph.check(asked.workers)
    rounds = 1 if graph.static else (asked.workers - 1).bit_length()
    matrices = [_weights(graph, asked, t) for t in range(1, rounds + 1)]
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
        meaning=f"Without gradients the distance of the replicas from their mean shrinks by 1 - spectral_gap in each "
        f"{every}. A gap of 1 averages exactly, a small one lets replicas drift apart. "
        + ("The graph changes from round to round: the numbers are those of the product over a period." * (rounds > 1)),
        source="Boyd, Diaconis, Xiao, Fastest mixing Markov chain on a graph, SIAM Review 2004; exponential graphs: "
        "Ying et al., NeurIPS 2021, arXiv 2110.13363.",
    )


def _weights(graph: Any, asked: argparse.Namespace, t: int) -> NDArray[np.float64]:
    """W(t) [n, n] in the wanted weights."""
    import networkx as nx

    from algorithms.topology import lazy, metropolis

    n, seed = asked.workers, asked.seed
    if asked.weights == "metropolis":
        if not graph.symmetric:
            raise ValueError(f"weights metropolis are for undirected graphs: got {asked.topology} (use own)")
        return metropolis(graph.graph(n, seed))
    if asked.weights == "uniform" and graph.symmetric:
        links = graph.graph(n, seed)
        if not nx.is_regular(links):
            raise ValueError(
                f"weights uniform, 1 / (degree + 1), average only on a graph of equal degrees: {asked.topology} on {n} "
                "workers has none (use metropolis)"
            )
    own: NDArray[np.float64] = graph.matrix(n, t, seed)
    return lazy(own) if asked.weights == "lazy" else own


def _bytes(asked: argparse.Namespace) -> Answer:
    from algorithms.formula import evaluate
    from analysis.theory.traffic import carried, loads
    from bench.describe import find

    algorithm = build(find(asked.algorithm), parse_set(asked.set, "period=4"), f"--set ({asked.algorithm})")
    if asked.parameters < 1 or asked.layers < 1:
        raise ValueError("parameters and layers must be at least 1")
    algorithm.validate(asked.workers)
    steps = _steps(algorithm)
    if asked.workers * steps.total > MOST_STEPS:
        raise ValueError(
            f"counting takes {steps.total} steps of {asked.workers} workers: at most {MOST_STEPS} in all are simulated "
            "(ask for fewer workers, or a shorter period)"
        )
    layer_sizes = _layer_sizes(asked.workers, asked.layers)
    small, large = (_count(algorithm, asked, size, steps) for size in layer_sizes)
    sizes = (asked.layers * layer_sizes[0], asked.layers * layer_sizes[1])
    nbytes = 4.0 * asked.parameters
    formula = algorithm.bytes_per_step
    payload = evaluate(formula, algorithm, asked.workers, nbytes) if formula else None
    worker, server = loads(carried(small, large, sizes, asked.parameters), steps, payload)
    servers = algorithm.server_ranks(asked.workers)
    busiest = None if server is None else {"bytes_per_step": server.average, "burst_bytes": round(server.burst)}
    lines = [
        ("bytes_per_step", shown_bytes(worker.average), "of a worker, on average"),
        ("burst_bytes", shown_bytes(worker.burst), "of a worker, the most in one step"),
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
        source=algorithm.paper or "none stated",
        given={"settings": plain(algorithm)},
    )


def _one_of(servers: int) -> str:
    return "the server" if servers == 1 else f"the busiest of {servers} servers"


def _steps(algorithm: Algorithm) -> Steps:
    """How long to count, from the settings that say how often something happens."""
    from analysis.theory.traffic import steps_to_count

    named = {name: getattr(algorithm, name, None) for name in ("period", "upper_period", "start")}
    return steps_to_count(**{name: value for name, value in named.items() if isinstance(value, int)})


def _layer_sizes(workers: int, layers: int) -> tuple[int, int]:
    """Parameters per layer of the two models: large enough for coded formats, small enough for many workers."""
    from analysis.theory.traffic import BLOCK

    blocks = max(1, min(32, RUN_PARAMETERS // (workers * layers * BLOCK)))
    return blocks * BLOCK, 2 * blocks * BLOCK


def _count(algorithm: Algorithm, asked: argparse.Namespace, layer_size: int, steps: Steps) -> Counts:
    """The bytes of a run on a stand-in model."""
    import pandas as pd

    from algorithms.interface import Layer
    from algorithms.optim import OptimizerSettings
    from analysis.theory.traffic import StandIn, counts
    from bench.budget import Budget
    from bench.cluster import Compute, Network
    from bench.simulate import Simulation

    n = asked.workers
    workload = StandIn(layers=asked.layers, layer_size=layer_size, workers=n)
    algorithm.check_model([Layer(name, slice(lo, hi), block) for name, lo, hi, block in workload.layers])
    simulation = Simulation(
        algorithm,
        workload,
        workers=n,
        seed=0,
        optimizer=OptimizerSettings(name="sgd", lr=0.1),
        compute=Compute(gradient_s=1.0),
        network=Network(latency_s=0.0, bandwidth_Gbit_per_s=math.inf),
    )
    budget = Budget(steps=steps.total) if algorithm.lockstep else Budget(seconds=steps.total - 0.5)
    simulation.run(budget)
    if dropped := sum(handle.recorder.dropped for handle in simulation.handles):
        raise ValueError(
            f"counting would take more memory than is set aside: {dropped} events too many (fewer workers)"
        )
    rows = [(h.rank, r[0], r[1], r[2], r[4], r[6]) for h in simulation.handles for r in h.recorder.rows()]
    events = pd.DataFrame(rows, columns=["rank", "kind", "step", "t0_s", "nbytes", "peer"])
    return counts(events, workers=n, servers=len(simulation.servers), steps=steps.total)
