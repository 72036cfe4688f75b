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

OURS = "‖Hv‖, v carried on"
WINDOWS = (1, 5, 15)  # uses that running medians are taken over
TRACE_PRODUCTS = 12
TOLERANCE, PRODUCTS = 1e-2, 60  # of the eigenvalue: relative residual, and when to be content with less
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
    "digits-mlp": Setup((0.01, 0.03, 0.06), 480, 2, 12, 512),
    "mnist-mlp": Setup((0.007, 0.02, 0.06), 600, 2, 12, 512),
    "shakespeare-gpt": Setup((0.1, 0.3), 240, 2, 8, 16),
}


class Rivals:
    """The indices that are compared, each with its running medians; one gradient each and use, but for the free one.

    Attributes:
        latest: name -> values of the latest uses.
    """

    def __init__(self, seed: int) -> None:
        self.latest: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=max(WINDOWS)))
        self._carried = LandscapeIndex()
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
        """Running medians, by index and window."""
        return {
            f"{name} @ {window}": statistics.median(list(values)[-window:])
            for name, values in self.latest.items()
            for window in WINDOWS
        }


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
        top, trace = (
            largest_eigenvalues(hessian, k=1, tol=TOLERANCE, max_products=PRODUCTS),
            xtrace(hessian, TRACE_PRODUCTS),
        )
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
        index, window, probe; spearman, pearson: over all rows; within, worst: median and lowest of the runs' own rank
        correlations; ratio: median of index / probe; spread: median of its relative distance from that.
    """
    runs = [part for _, part in rows.groupby(["lr", "seed"])]
    found = []
    for column in (c for c in rows.columns if " @ " in c):
        index, _, window = column.partition(" @ ")
        for name in PROBES:
            whole = rows[[column, name]].to_numpy()
            ratios = whole[:, 0] / whole[:, 1]
            own = [_spearman(part[[column, name]].to_numpy()) for part in runs]
            found.append(
                {
                    "index": index,
                    "window": int(window),
                    "probe": name,
                    "spearman": _spearman(whole),
                    "pearson": float(np.corrcoef(whole.T)[0, 1]),
                    "within": statistics.median(own),
                    "worst": min(own),
                    "ratio": float(np.median(ratios)),
                    "spread": float(np.median(abs(ratios / np.median(ratios) - 1))),
                }
            )
    return pd.DataFrame(found)


def interval(rows: pd.DataFrame, column: str, probe: str) -> tuple[float, float]:
    """95 % interval of the rank correlation over all rows, by resampling whole runs (percentile bootstrap)."""
    runs = [part[[column, probe]].to_numpy() for _, part in rows.groupby(["lr", "seed"])]
    drawn = np.random.default_rng(0).integers(len(runs), size=(RESAMPLES, len(runs)))
    low, high = np.quantile([_spearman(np.concatenate([runs[k] for k in d])) for d in drawn], [0.025, 0.975])
    return float(low), float(high)


def _spearman(pairs: Any) -> float:
    """Rank correlation of the two columns [k, 2]."""
    return float(np.corrcoef(rankdata(pairs, axis=0).T)[0, 1])


def table(rows: pd.DataFrame) -> str:
    """The correlations of one workload, as Markdown: each index with the window that suits it best."""
    found = correlations(rows)
    pooled = found[found["probe"] == "eigenvalue"].pivot(index="index", columns="window", values="spearman")
    lines = [
        f"| index | window {', '.join(map(str, WINDOWS))} | best: 95 % | in a run | Pearson | index / eigenvalue "
        "| trace | in a run | Pearson | sharpness | in a run | adaptive | in a run |",
        "|---|" + "---|" * 12,
    ]
    for name in pooled.max(axis=1).sort_values(ascending=False).index:
        window = pooled.loc[name].idxmax()
        best = found[(found["index"] == name) & (found["window"] == window)].set_index("probe").to_dict("index")
        eigenvalue, trace, ball, scaled = (best[probe] for probe in PROBES)
        low, high = interval(rows, f"{name} @ {window}", "eigenvalue")
        cells = [", ".join(f"{value:.2f}" for value in pooled.loc[name]), f"{low:.2f} to {high:.2f}"]
        cells += [f"{eigenvalue[key]:.2f}" for key in ("within", "pearson")]
        cells += [f"{eigenvalue['ratio']:.2f} ± {eigenvalue['spread']:.0%}"]
        cells += [f"{trace[key]:.2f}" for key in ("spearman", "within", "pearson")]
        cells += [f"{probe[key]:.2f}" for probe in (ball, scaled) for key in ("spearman", "within")]
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
