"""The options of `paceline theory`: subjects, and the numbers that each is asked with."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

TOPOLOGIES = (
    "ring", "torus", "hypercube", "star", "complete", "complete-bipartite", "exponential", "one-peer-exponential",
    "erdos-renyi", "directed-ring",
)  # fmt: skip
WEIGHTS = ("own", "metropolis", "uniform", "lazy")
LAYERS = 24  # blocks of the model that the traffic of fragments is counted on, unless told otherwise


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


def parser() -> argparse.ArgumentParser:
    """The command line: a parser for each subject."""
    whole_command = argparse.ArgumentParser(
        prog="paceline theory",
        description="What the papers' formulas say about an algorithm before it is run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="subjects:",
    )
    subjects = whole_command.add_subparsers(dest="subject", metavar="SUBJECT", required=True, help="one of those below")

    def subject(name: str, what: str) -> argparse.ArgumentParser:
        sentence = what[0].upper() + what[1:] + "."
        one = subjects.add_parser(name, description=sentence, formatter_class=_columns)
        whole_command.epilog = f"{whole_command.epilog}\n  {name:18s}{what}"
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

    one = subject("utilization", "the bandwidth that a share of time spent computing needs")
    choose(one, "method", "what is exchanged", ("data-parallel", "diloco", "streaming"))
    one.add_argument(
        "--model", help="a published one, which says parameters, layers and step time: gpt-1B, gpt-10B, gpt-100B, "
        "llama3-405B or deepseek-v3-671B",
    )  # fmt: skip
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

    one = subject("easgd-stability", "whether EASGD is stable on a quadratic")
    add(one, "eta", "learning rate")
    add(one, "alpha", "moving rate of a worker")
    add(one, "workers", "p", whole)
    choose(one, "mode", "sync: all workers at once; round-robin: in turn", ("sync", "round-robin"), "sync")
    add(one, *curvature)
    add(one, "period", "tau, steps between a worker's exchanges", whole, 1)

    one = subject("admm-stability", "whether round-robin ADMM is stable on a quadratic")
    add(one, "eta", "learning rate")
    add(one, "rho", "penalty")
    add(one, "workers", "p", whole)
    add(one, *curvature)

    one = subject("easgd-mse", "the noise of synchronous EASGD's center in the end")
    add(one, "eta", "learning rate")
    add(one, "beta", "workers x moving rate")
    add(one, "workers", "p", whole)
    add(one, *curvature)
    add(one, "noise", "sigma, standard deviation of a worker's gradient", number, 1.0)

    one = subject("downpour-tau", "the longest stable period of DOWNPOUR")
    add(one, "eta", "learning rate")
    add(one, "workers", "p", whole)
    add(one, *curvature)

    one = subject("async-momentum", "the best explicit momentum of an asynchronous server")
    which = one.add_mutually_exclusive_group(required=True)
    which.add_argument("--implicit", type=number, help="momentum that asynchrony brings, in [0, 1)")
    which.add_argument("--workers", type=whole, help="M memoryless workers, which bring 1 - 1/M")
    add(one, "condition", "largest over smallest eigenvalue")

    one = subject("spectral-gap", "how fast averaging on a graph mixes")
    choose(one, "topology", "the graph", TOPOLOGIES)
    add(one, "workers", "n", whole)
    choose(one, "weights", "of the averages; own: as the algorithms here use them", WEIGHTS, "own")
    one.add_argument("--edge-probability", type=number, help="erdos-renyi: of each pair (2 ln(n) / n)")
    add(one, "seed", "erdos-renyi: of the graph", whole, 0)

    one = subject("bytes", "what an algorithm puts on the network, per step and at most")
    add(one, "algorithm", "its name, as in: paceline algorithms", str)
    add(one, "parameters", "P, float32", whole)
    add(one, "workers", "n", whole)
    one.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting, as in a study file; --KEY VALUE says the same",
    )
    add(one, "layers", "equal blocks that the model is made of, where fragments are sent", whole, LAYERS)
    whole_command.epilog = f"{whole_command.epilog}\n\npaceline theory SUBJECT --help tells more."
    return whole_command
