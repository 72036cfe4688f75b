"""Does the cheap landscape index say what the real probes say? Its correlation with them along training runs.

    python -m analysis.micro.landscape_index [NAME ...] [--seeds 3] [--rows FILE.csv] [--read FILE.csv ...]

Every run is trained with momentum at several rates; every few steps each rival index is taken on the step's own
mini-batch, by one gradient more, and its running median kept. At snapshots the real probes are measured on a frozen
probe set: largest eigenvalue and trace of the Hessian, worst loss in a ball, plain and adaptive. Rates, seeds and
snapshots are then pooled (does it tell sharp places from flat ones?), and taken apart (does it follow one run?).

`--rows` adds the measured rows to a file, `--read` prints tables of rows that were measured before.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import rankdata
from torch import Tensor

from analysis.probes.eigenvalues import largest_eigenvalues
from analysis.probes.index import LandscapeIndex, landscape_index
from analysis.probes.loss import ProbedLoss
from analysis.probes.probe_set import ProbeSet, probe_set
from analysis.probes.products import Curvature
from analysis.probes.sharpness import sharpness
from analysis.probes.trace import xtrace
from bench.workloads.base import torch_generator
from bench.workloads.objective import Objective
from bench.workloads.registry import settings_class

PREFIX = "index: "
OURS = "‖Hv‖, v carried on"
WINDOW = 15  # uses that the running median is taken over
TRACE_PRODUCTS = 12
TOLERANCE = 1e-2  # of the eigenvalue's residual, relative
PROBES = ("eigenvalue", "trace", "sharpness", "adaptive")
RESAMPLES = 1000


@dataclass(frozen=True)
class Setup:
    """How a workload is trained and probed.

    Attributes:
        rates: learning rates, one run each per seed.
        steps: of a run.
        every: steps between two uses of the index.
        snapshots: of a run, evenly spaced, the last at its end.
        samples: of the probe set.
        settings: of the workload.
    """

    rates: tuple[float, ...]
    steps: int
    every: int
    snapshots: int
    samples: int
    settings: Mapping[str, Any] = field(default_factory=dict)


SETUPS = {
    "digits-mlp": Setup((0.01, 0.03, 0.06), 480, 4, 12, 512),
    "mnist-mlp": Setup((0.007, 0.02, 0.06), 600, 5, 12, 512),
    "shakespeare-gpt": Setup((0.1, 0.3), 320, 5, 8, 16),
}


class Rivals:
    """The indices that are compared, each with its running median; one gradient each and use, but for the free one.

    Attributes:
        latest: name -> values of the latest uses.
    """

    def __init__(self, seed: int) -> None:
        self.latest: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=WINDOW))
        self._carried = LandscapeIndex(WINDOW)
        self._generator = torch_generator(seed, -1, "random direction")

    def use(self, gradient: Callable[[Tensor], Tensor], x: Tensor, here: Tensor, momentum: Tensor) -> None:
        """Take all of them at x, where the mini-batch's gradient is `here`."""
        random = torch.randn(x.shape, generator=self._generator, dtype=x.dtype)
        carried = self._carried.use(gradient, x, here=here)
        along = landscape_index(gradient, x, here=here)
        across = landscape_index(gradient, x, random, here=here)
        update = landscape_index(gradient, x, momentum if momentum.any() else here, here=here)
        for name, value in {
            OURS: carried.value,
            "vHv, v carried on": carried.curvature,
            "‖Hv‖, v the gradient": along.value,
            "vHv, v the gradient": along.curvature,
            "‖Hv‖, v the update": update.value,
            "vHv, v the update": update.curvature,
            "‖Hv‖ sqrt(P), v random": across.value * len(x) ** 0.5,
            "vHv P, v random": across.curvature * len(x),
            "‖g‖ (free)": float(here.norm()),
        }.items():
            self.latest[name].append(value)

    def medians(self) -> dict[str, float]:
        """The running medians, and the chosen index without one."""
        found = {PREFIX + name: statistics.median(values) for name, values in self.latest.items()}
        return {**found, f"{PREFIX}{OURS}, single use": self.latest[OURS][-1]}


def run(name: str, setup: Setup, rate: float, seed: int) -> Iterator[dict[str, Any]]:
    """One training run: a row per snapshot, until it is over or the loss is no number."""
    workload = settings_class(name)(**setup.settings).build(torch.device("cpu"), 1)
    objective = workload.objective()
    chosen = probe_set(objective, samples=setup.samples, micro_batch=max(8, setup.samples // 2))
    table, stream = workload.optimizer, workload.batches(seed, 0, 1)
    x = workload.initial(seed)
    momentum, out = torch.zeros_like(x), torch.empty_like(x)
    rivals = Rivals(seed)
    for step in range(1, setup.steps + 1):
        batch = stream.next()

        def gradient(at: Tensor, batch: tuple[Tensor, ...] = batch) -> Tensor:
            workload.gradient(at, batch, out)
            return out

        g = gradient(x).clone()
        if not bool(torch.isfinite(g).all()):
            return
        if step % setup.every == 0:
            rivals.use(gradient, x, g, momentum)
        g *= min(1.0, table.get("clip_norm", math.inf) / float(g.norm()))
        momentum.mul_(table["momentum"]).add_(g).add_(x, alpha=table.get("weight_decay", 0.0))
        x -= rate * momentum
        if step % (setup.steps // setup.snapshots) == 0:
            probes = probe(objective, chosen, x)
            yield {"workload": workload.name, "lr": rate, "seed": seed, "step": step, **probes, **rivals.medians()}


def probe(objective: Objective, chosen: ProbeSet, x: Tensor) -> dict[str, float]:
    """The real probes at x."""
    loss = ProbedLoss(objective, chosen)
    with Curvature(objective, x, chosen.batches, samples=chosen.samples) as hessian:
        top, trace = largest_eigenvalues(hessian, k=1, tol=TOLERANCE), xtrace(hessian, TRACE_PRODUCTS)
    plain, adaptive = sharpness(loss, x, radius=0.05), sharpness(loss, x, radius=0.5, adaptive=True)
    return {
        "loss": plain.loss,
        "eigenvalue": float(top.values[0]),
        "trace": trace.estimate,
        "sharpness": plain.sharpness,
        "adaptive": adaptive.sharpness,
    }


def correlations(rows: pd.DataFrame) -> pd.DataFrame:
    """How each index goes with each probe.

    Args:
        rows: from `run`, of one workload.

    Returns:
        index, probe; spearman, pearson: over all rows; low, high: 95 % interval of spearman, by resampling whole runs;
        within, worst: median and lowest of the runs' own rank correlations; ratio: median of index / probe.
    """
    runs = [part for _, part in rows.groupby(["lr", "seed"])]
    drawn = np.random.default_rng(0).integers(len(runs), size=(RESAMPLES, len(runs)))
    found = []
    for column in (c for c in rows.columns if c.startswith(PREFIX)):
        for name in PROBES:
            pairs = [part[[column, name]].to_numpy() for part in runs]
            whole = np.concatenate(pairs)
            own = [_spearman(pair) for pair in pairs]
            low, high = np.quantile([_spearman(np.concatenate([pairs[k] for k in d])) for d in drawn], [0.025, 0.975])
            found.append(
                {
                    "index": column.removeprefix(PREFIX),
                    "probe": name,
                    "spearman": _spearman(whole),
                    "low": low,
                    "high": high,
                    "pearson": float(np.corrcoef(whole.T)[0, 1]),
                    "within": statistics.median(own),
                    "worst": min(own),
                    "ratio": float(np.median(whole[:, 0] / whole[:, 1])),
                }
            )
    return pd.DataFrame(found)


def _spearman(pairs: Any) -> float:
    """Rank correlation of the two columns [k, 2]."""
    return float(np.corrcoef(rankdata(pairs, axis=0).T)[0, 1])


def table(rows: pd.DataFrame) -> str:
    """The correlations of one workload, as Markdown."""
    found = correlations(rows)
    best = found[found["probe"] == "eigenvalue"].sort_values("spearman", ascending=False)
    lines = [
        "| index | eigenvalue | 95 % | in a run | Pearson | index / eigenvalue | trace | in a run | Pearson "
        "| sharpness | in a run | adaptive | in a run |",
        "|---|" + "---|" * 12,
    ]
    for name in best["index"]:
        top, trace, ball, scaled = (found[(found["index"] == name) & (found["probe"] == p)].iloc[0] for p in PROBES)
        cells = [f"{top.spearman:.2f}", f"{top.low:.2f} to {top.high:.2f}"]
        cells += [f"{v:.2f}" for v in (top.within, top.pearson, top.ratio, trace.spearman, trace.within, trace.pearson)]
        cells += [f"{v:.2f}" for v in (ball.spearman, ball.within, scaled.spearman, scaled.within)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for, print the tables; exit code 0."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.micro.landscape_index", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"workloads: {', '.join(SETUPS)} (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rates", type=float, nargs="+", help="learning rates, instead of the usual ones")
    parser.add_argument("--rows", type=Path, help="add the measured rows to this file")
    parser.add_argument("--read", type=Path, nargs="+", help="measure nothing; tables of these files' rows")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.names) - set(SETUPS)
    if unknown:
        parser.error(f"no such workload here: {', '.join(sorted(unknown))} (choose from {', '.join(SETUPS)})")
    torch.set_num_threads(1)
    if arguments.read:
        rows = pd.concat([pd.read_csv(path) for path in arguments.read], ignore_index=True)
    else:
        rows = measured(arguments.names or list(SETUPS), arguments.seeds, arguments.rates, arguments.rows)
    for name, part in rows.groupby("workload"):
        runs, rates = part.groupby(["lr", "seed"]).ngroups, ", ".join(f"{lr:g}" for lr in sorted(part["lr"].unique()))
        print(f"\n{name}: {len(part)} snapshots of {runs} runs, learning rates {rates}\n\n{table(part)}")
    return 0


def measured(
    names: Sequence[str], seeds: Sequence[int], rates: Sequence[float] | None, file: Path | None
) -> pd.DataFrame:
    """All runs; each is written to the file as soon as it is over."""
    tables = []
    for name in names:
        for rate in rates or SETUPS[name].rates:
            for seed in seeds:
                rows = pd.DataFrame(run(name, SETUPS[name], rate, seed))
                if file is not None:
                    rows.to_csv(file, mode="a", header=not file.exists(), index=False)
                tables.append(rows)
                print(f"{name}, lr {rate:g}, seed {seed}: {len(rows)} snapshots", file=sys.stderr, flush=True)
    return pd.concat(tables, ignore_index=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
