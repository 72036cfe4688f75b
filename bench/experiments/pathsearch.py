"""DSGD-AAU's iterations, as they go over the wire: who averages, how long an epoch is, what agreeing on it costs."""

from __future__ import annotations

from typing import Any, cast

import networkx as nx
import torch
from torch import Tensor

from algorithms.dsgd_aau import DSGDAAU, SEARCH
from algorithms.interface import Worker
from algorithms.pathsearch import CLOSE, END, SET_BITS, Link
from bench.budget import Budget
from bench.check import FREE, applied, quadratic, replicas, simulate
from bench.cluster import Compute, Network
from bench.cluster.compute import Stragglers
from bench.experiments.averaging import averaged, kept, unit_vectors
from bench.experiments.base import Rows, Scale
from bench.scales import study_of
from bench.simulate import Simulation
from bench.study import resolve

STRAGGLERS = Compute(
    gradient_s=1.0, distribution="lognormal", sigma=0.06, stragglers=Stragglers(probability=0.1, factor=10.0)
)
"""The paper's: one gradient in ten takes ten times as long. A gradient takes 1 s."""


PACED = 0.1
"""The learning rate whose runs are counted in `pace`; it has no part in when an iteration closes."""


class Wiretap:
    """A worker that notes every CLOSE(k) it sends: its link and the members of A(k)."""

    def __init__(self, worker: Worker, closed: dict[int, tuple[Link, frozenset[int]]]) -> None:
        self._worker, self._closed = worker, closed

    def __getattr__(self, name: str) -> Any:
        return getattr(self._worker, name)

    def send(self, dst: int, tag: str, v: Tensor) -> None:
        """Note it and send it."""
        if tag == SEARCH and int(v[0]) == CLOSE:
            k, i, j, *words = v.tolist()[1:]
            members = sum(word << SET_BITS * place for place, word in enumerate(words))
            self._closed[k] = (i, j), frozenset(rank for rank in range(self._worker.size) if members >> rank & 1)
        self._worker.send(dst, tag, v)


class Tapped(DSGDAAU):
    """DSGD-AAU under a wiretap."""

    closed: dict[int, tuple[Link, frozenset[int]]]

    async def worker(self, w: Worker) -> None:
        """One worker."""
        await super().worker(cast(Worker, Wiretap(w, self.closed)))


def iterations(algorithm: DSGDAAU, workers: int, seconds: float, seed: int) -> list[tuple[Link, frozenset[int]]]:
    """Every closed iteration of a run, in order: the link that closed it and A(k)."""
    tapped = Tapped(**{name: getattr(algorithm, name) for name in ("topology", "edge_probability", "rule", "accept")})
    object.__setattr__(tapped, "closed", {})
    workload = quadratic(workers)
    simulation = Simulation(tapped, workload, workers=workers, seed=seed, compute=STRAGGLERS, network=FREE)
    simulation.run(Budget(seconds=seconds, snapshots=1))
    return [entry for _, entry in sorted(tapped.closed.items()) if entry[0][0] != END]


def epochs(scale: Scale) -> Rows:
    """One row per epoch of rule S: its iterations, whether its links are a spanning tree, and who took no part."""
    rows = []
    sizes = ((8, 60), (32, 60), (128, 80), (256, 100)) if scale == "full" else ((8, 60), (32, 60), (128, 50))
    for workers, seconds in sizes:
        for seed in range(3 if scale == "full" else 1 if workers > 100 else 3):
            links, part, number = nx.empty_graph(workers), set[int](), 0
            for link, members in iterations(DSGDAAU(), workers, seconds, seed):
                links.add_edge(*link)
                part |= members
                number += 1
                if nx.is_connected(links):
                    rows.append(
                        {
                            "workers": workers,
                            "seed": seed,
                            "iterations": number,
                            "tree": nx.is_tree(links),
                            "idle": workers - len(part),
                        }
                    )
                    links, part, number = nx.empty_graph(workers), set(), 0
    return rows


def mixing(scale: Scale) -> Rows:
    """P(k) ... P(1), read off models that begin as unit vectors, after every second; and what moves the mean model.

    Columns: `closed` iterations; how far rows and columns are from adding up to 1; the least entry; and, with gradients
    on a noisy quadratic, how far the mean model is from its start plus all updates / n.
    """
    rows = []
    for workers in (8, 32) if scale == "full" else (8, 16):
        for seconds in range(1, 21):
            budget = Budget(seconds=seconds + 0.5, snapshots=1)
            run = averaged(DSGDAAU(), unit_vectors(workers), budget, compute=STRAGGLERS)
            product = replicas(run)
            start = torch.randn(workers, 12, generator=torch.Generator().manual_seed(seconds), dtype=torch.float64)
            moved = simulate(
                DSGDAAU(), quadratic(workers), workers=workers, budget=budget, lr=0.1, start=list(start), spy=True,
                compute=STRAGGLERS,
            )  # fmt: skip
            mean = start.mean(0) + applied(moved) / workers
            rows.append(
                {
                    "workers": workers,
                    "closed": int(kept(run, "closed").max()),
                    "row_error": float((product.sum(1) - 1).abs().max()),
                    "column_error": float((product.sum(0) - 1).abs().max()),
                    "least": float(product.min()),
                    "mean_error": float((replicas(moved).mean(0) - mean).abs().max()),
                }
            )
    return rows


def control(scale: Scale) -> Rows:
    """How many models DSGD-AAU sends, and how many bytes of everything else, whatever the model's size."""
    rows = []
    for workers, seconds in ((8, 60), (32, 60), (64, 40), (128, 30), (256, 30))[: 5 if scale == "full" else 4]:
        workload = quadratic(workers)
        simulation = Simulation(
            DSGDAAU(), workload, workers=workers, seed=0, compute=STRAGGLERS, network=Network()
        ).run(Budget(seconds=seconds, snapshots=1))
        models = sum(int(handle.state.kept["models"]) for handle in simulation.workers)
        moved = sum(handle.recorder.nbytes for handle in simulation.handles)
        messages = sum(handle.recorder.messages for handle in simulation.handles) - models
        rows.append(
            {
                "workers": workers,
                "iterations": int(kept(simulation, "closed").max()),
                "gradients": sum(handle.state.step for handle in simulation.workers),
                "models": models,
                "control_nbytes": moved - models * workload.parameters * workload.dtype.itemsize,
                "control_messages": messages,
            }
        )
    return rows


def pace(scale: Scale) -> Rows:
    """Iterations that DSGD-AAU closes in the study `stragglers`: its runs without the gradients' values."""
    study = resolve(study_of("dsgd-aau", "stragglers", scale))
    rows = []
    for cell in study.cells():
        if cell.entry.label.startswith("dsgd-aau@") and cell.entry.label == f"dsgd-aau@lr={PACED:g}":
            workload = cell.workload.settings.build(torch.device("cpu"), cell.workers)
            simulation = Simulation(
                cell.algorithm, workload, workers=cell.workers, seed=cell.seed, network=cell.network,
                compute=cell.workload.compute, gradients="none",
            ).run(cell.workload.budget)  # fmt: skip
            rows.append(
                {
                    "workers": cell.workers,
                    "seed": cell.seed,
                    "iterations": int(kept(simulation, "closed").max()),
                    "gradients": sum(handle.state.step for handle in simulation.workers),
                    "seconds": simulation.kernel.now(),
                }
            )
    return rows
