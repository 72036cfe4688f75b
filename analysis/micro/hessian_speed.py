"""What the Hessian probe costs, against curvlinops: top eigenvalues, trace and spectral density of one model.

    python -m analysis.micro.hessian_speed [--size 1M] [--samples 16] [--probes 10] [--steps 40] [--rounds 1]

The point is shakespeare-gpt after `--train` steps of plain SGD. Both programs see the same point, the same
micro-batches and the same type, on one thread, each in a process of its own, in turn:

    ours         analysis.probes.curvature.spectrum
    curvlinops   HessianLinearOperator without its check of determinism; scipy's eigsh for the eigenvalues; xtrace with
                 as many products as there are probes; fast_lanczos for the density, without the products that its
                 lanczos_approximate_spectrum would spend on the ends of the spectrum

Accuracy is looked at afterwards, for both alike: the product with a random vector against a difference of gradients in
float64, and the eigenpairs' residuals by products in float64. The standard error of xtrace, which curvlinops does not
give, is that of our own with as many products. With torch 2.13 curvlinops' product is some 0.2 to 0.4 % off, in the
gains of layer norm and nowhere else: there torch.func.jvp of torch.func.jacrev, which it uses, is wrong, and reverse
over reverse is right.

Both the time on the clock and the processor's are given: the latter suffers less from others on the machine. Memory is
the process's largest resident size (VmHWM) before accuracy is looked at, less its size when model and samples were
there.

curvlinops is no dependency of Paceline: pip install -c constraints.txt "curvlinops-for-pytorch>=3.0.1,<4".
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.probes.curvature import spectrum
from analysis.probes.probe_set import Batches, probe_set
from analysis.probes.products import Curvature
from analysis.probes.trace import xtrace
from bench.workloads.objective import Objective
from bench.workloads.shakespeare_gpt import ShakespeareGpt, Transformer

SIZES = ("0.2M", "1M", "5M")
LR, CLIP = 0.3, 1.0  # of the workload's own optimisers
DIFFERENCE = 1e-5  # step of the difference of gradients, for a vector of length 1
CHARACTERS = 65
PROGRAMS = ("ours", "curvlinops")


def main(argv: list[str]) -> int:
    """Measure and print; exit code 0, 2 if curvlinops is missing."""
    parser = argparse.ArgumentParser(prog="python -m analysis.micro.hessian_speed", description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1M", choices=SIZES)
    parser.add_argument("--samples", type=int, default=16, help="sequences of 64 characters")
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--eigenvalues", type=int, default=5)
    parser.add_argument("--probes", type=int, default=10, help="random vectors of density and trace")
    parser.add_argument("--steps", type=int, default=40, help="Lanczos steps of each")
    parser.add_argument("--tol", type=float, default=1e-3, help="residual / eigenvalue")
    parser.add_argument("--train", type=int, default=100, help="steps of SGD before the measurement")
    parser.add_argument("--rounds", type=int, default=1, help="times that both take their turn")
    parser.add_argument("--json", type=Path, help="write every measurement here too")
    parser.add_argument("--child", choices=PROGRAMS, help=argparse.SUPPRESS)
    parser.add_argument("--point", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    if arguments.child:
        print(json.dumps(child(arguments)))
        return 0
    if find_spec("curvlinops") is None:
        print(
            'curvlinops is not installed: got no module of that name (pip install -c constraints.txt "curvlinops-for-'
            'pytorch>=3.0.1,<4")',
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory(prefix="paceline-hessian-") as folder:
        point = Path(folder) / "x.npy"
        np.save(point, train(arguments.size, arguments.train).numpy())
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in PROGRAMS}
        for _ in range(arguments.rounds):
            for name in PROGRAMS:
                found[name].append(in_a_child(name, point, argv))
    print(report(found, arguments))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))
    return 0


def train(size: Any, steps: int) -> Tensor:
    """Parameters [P] after some steps of clipped SGD from the initial point."""
    workload = ShakespeareGpt(size=size).build(torch.device("cpu"), 1)
    x, batches = workload.initial(0), workload.batches(0, 0, 1)
    g = torch.empty_like(x)
    for _ in range(steps):
        workload.gradient(x, batches.next(), g)
        x -= LR * g * min(1.0, CLIP / float(g.norm()))
    return x


def in_a_child(name: str, point: Path, argv: list[str]) -> dict[str, Any]:
    """What a program measures of itself in a process of its own."""
    line = [sys.executable, "-m", "analysis.micro.hessian_speed", *argv, "--child", name, "--point", str(point)]
    done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if done.returncode:
        raise SystemExit(f"{name} failed (exit code {done.returncode}):\n{done.stdout}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


Measured = tuple[dict[str, Any], Tensor, Callable[[Tensor], Tensor]]
"""Results, eigenvectors [k, P], and the product with a vector."""


class Task(NamedTuple):
    """What both programs are given."""

    objective: Objective
    x: Tensor
    batches: Batches
    arguments: Any


def child(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run one program, then look at how accurate it was."""
    objective = ShakespeareGpt(size=arguments.size).build(torch.device("cpu"), 1).objective()
    x = torch.from_numpy(np.load(arguments.point))
    chosen = probe_set(objective, samples=arguments.samples, micro_batch=arguments.micro_batch)
    task = Task(objective, x, chosen.batches, arguments)
    before = memory_MiB("VmRSS")
    began, busy = time.perf_counter_ns(), time.process_time_ns()
    result, vectors, product = {"ours": ours, "curvlinops": curvlinops}[arguments.child](task)
    result["seconds"] = (time.perf_counter_ns() - began) / 1e9
    result["cpu_seconds"] = (time.process_time_ns() - busy) / 1e9
    result["memory_MiB"] = memory_MiB("VmHWM") - before
    result["residuals"] = residuals(task, np.array(result["eigenvalues"]), vectors)
    result["product_error"] = product_error(task, product)
    if arguments.child == "ours" and arguments.probes >= 4:
        with Curvature(objective, x, chosen.batches, samples=arguments.samples) as hessian:
            result["xtrace_standard_error"] = xtrace(hessian, arguments.probes // 2 * 2).standard_error
    return result


def ours(task: Task) -> Measured:
    """All three by `spectrum`."""
    a = task.arguments
    with Curvature(task.objective, task.x, task.batches, samples=a.samples) as hessian:
        found = spectrum(hessian, a.eigenvalues, probes=a.probes, steps=a.steps, tol=a.tol)

    def again(v: Tensor) -> Tensor:
        with Curvature(task.objective, task.x, task.batches, samples=a.samples) as hessian:
            return hessian.apply(v)

    result = {
        "eigenvalues": found.eigenpairs.values.tolist(),
        "converged": found.eigenpairs.converged,
        "trace": found.trace.estimate,
        "trace_standard_error": found.trace.standard_error,
        "density_mean": found.quadrature.moment(),
        "products": found.products,
        "parts_s": {},
    }
    return result, found.eigenpairs.vectors, again


def curvlinops(task: Task) -> Measured:
    """All three by curvlinops, one after the other."""
    from curvlinops import HessianLinearOperator, xtrace  # type: ignore[import-not-found,import-untyped,unused-ignore]
    from curvlinops.papyan2020traces.spectrum import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        fast_lanczos,
    )
    from scipy.sparse.linalg import eigsh

    a = task.arguments
    model = Flat(Transformer(ShakespeareGpt(size=a.size).shape, CHARACTERS))
    torch.nn.utils.vector_to_parameters(task.x, model.parameters())
    hessian = HessianLinearOperator(
        model,
        torch.nn.CrossEntropyLoss(),
        list(model.parameters()),
        [(inputs, targets.flatten()) for inputs, targets in task.batches],
        check_deterministic=False,
        num_data=a.samples,
    )
    products = 0
    multiply = hessian._matmat

    def counted(block: list[Tensor]) -> list[Tensor]:
        nonlocal products
        products += block[0].shape[-1]
        result: list[Tensor] = multiply(block)
        return result

    hessian._matmat = counted
    torch.manual_seed(0)
    parts_s: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter_ns()
        result = work()
        parts_s[name] = (time.perf_counter_ns() - began) / 1e9
        return result

    operator = hessian.to_scipy(dtype=np.float32)
    start = np.random.default_rng(0).standard_normal(hessian.shape[0]).astype(np.float32)
    values, vectors = timed("eigenvalues", lambda: eigsh(operator, a.eigenvalues, which="LA", tol=a.tol, v0=start))
    trace = timed("trace", lambda: xtrace(hessian, max(2, a.probes // 2 * 2)))
    rules = timed("density", lambda: [fast_lanczos(hessian, a.steps) for _ in range(a.probes)])
    result = {
        "eigenvalues": values[::-1].tolist(),
        "trace": float(trace),
        "density_mean": statistics.fmean(float(nodes @ y[0] ** 2) for nodes, y in rules),
        "products": products,
        "parts_s": parts_s,
    }
    return result, torch.from_numpy(np.ascontiguousarray(vectors.T[::-1])), lambda v: hessian @ v


class Flat(torch.nn.Module):
    """The model with logits of all characters in one list [B T, V], and attention that can be differentiated twice."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            logits: Tensor = self.model(ids).flatten(0, 1)
        return logits


def residuals(task: Task, values: NDArray[np.float64], vectors: Tensor) -> list[float]:
    """|H q - value q| / value of each pair, with products in float64."""
    a = task.arguments
    exact = ShakespeareGpt(size=a.size, dtype="float64").build(torch.device("cpu"), 1).objective()
    q = vectors.double()
    with Curvature(exact, task.x.double(), task.batches, samples=a.samples, keep_graph_nbytes=0) as hessian:
        away = hessian.apply_block(q) - torch.from_numpy(values)[:, None] * q
    sizes: list[float] = (away.norm(dim=1).numpy() / np.abs(values)).tolist()
    return sizes


def product_error(task: Task, product: Callable[[Tensor], Tensor]) -> float:
    """|product with v - a central difference of gradients along v| / the latter's norm, for a random v."""
    a = task.arguments
    exact = ShakespeareGpt(size=a.size, dtype="float64").build(torch.device("cpu"), 1).objective()
    v = torch.randn(len(task.x), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v /= v.norm()

    def gradient(x: Tensor) -> Tensor:
        with Curvature(exact, x, task.batches, samples=a.samples, keep_graph_nbytes=0) as hessian:
            return hessian.gradient

    x, away = task.x.double(), DIFFERENCE * v
    difference = (gradient(x + away) - gradient(x - away)) / (2 * DIFFERENCE)
    return float((product(v.float()).double() - difference).norm() / difference.norm())


def memory_MiB(which: str) -> float:
    """VmRSS or VmHWM of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    raise SystemExit(f"/proc/self/status has no {which}: memory is measured on Linux only")


def report(found: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> str:
    """The comparison in words and numbers."""
    a = arguments
    lines = [
        f"shakespeare-gpt {a.size}, {a.samples} sequences in micro-batches of {a.micro_batch}, float32, one thread, "
        f"after {a.train} steps; {a.eigenvalues} eigenvalues to {a.tol:g}, {a.probes} probes of {a.steps} steps; "
        f"median of {a.rounds}",
        f"{'':12s}{'s':>8s}{'cpu s':>8s}{'products':>10s}{'cpu ms each':>13s}{'MiB':>6s}  "
        "eigenvalues (largest relative residual)",
    ]
    times, cpu, memory = {}, {}, {}
    for name in PROGRAMS:
        runs = found[name]
        times[name] = statistics.median(run["seconds"] for run in runs)
        cpu[name] = statistics.median(run["cpu_seconds"] for run in runs)
        memory[name] = statistics.median(run["memory_MiB"] for run in runs)
        run = runs[0]
        values = " ".join(f"{value:.5g}" for value in run["eigenvalues"])
        lines.append(
            f"{name:12s}{times[name]:8.1f}{cpu[name]:8.1f}{run['products']:10d}"
            f"{1e3 * cpu[name] / run['products']:13.0f}{memory[name]:6.0f}  {values} ({max(run['residuals']):.1e})"
        )
    first, rival = found["ours"][0], found["curvlinops"][0]
    error = first.get("xtrace_standard_error", float("nan"))
    lines += [
        f"trace        ours {first['trace']:.2f} +- {first['trace_standard_error']:.2f}, "
        f"curvlinops {rival['trace']:.2f} +- {error:.2f} (standard errors)",
        f"product      ours {first['product_error']:.1e}, curvlinops {rival['product_error']:.1e} from a difference of "
        "gradients (relative)",
        "curvlinops   " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in rival["parts_s"].items()),
        f"ratio        time {times['ours'] / times['curvlinops']:.2f}, cpu time {cpu['ours'] / cpu['curvlinops']:.2f}, "
        f"memory {memory['ours'] / memory['curvlinops']:.2f}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
