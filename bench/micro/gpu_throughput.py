"""What several ranks on one GPU achieve: against a plain loop of one process, and against the same training on CPUs.

    python -m bench.micro.gpu_throughput [--workloads NAME ...] [--ranks 4] [--seconds 20] [--steps 20]

A workload is named as in a study, with settings after commas: shakespeare-gpt,size=25M. For each:

    plain loop     one process, torch.optim.SGD, batches prefetched: what a careful user would write
    mpi, horovod   `paceline run` on `--ranks` ranks that share the GPUs: all-reduce SGD, and D-PSGD for messages
    curves         all-reduce SGD for `--steps` steps on the GPU and on CPUs: held-out loss at the same steps. The
                   measure of noise is how far two seeds are apart on CPUs.

Samples/s are those of all ranks together over a run's whole duration. `gpu busy` is the sum of the gradients' device
times over the duration; ranks that share a GPU each count the time in which it served another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DEFAULT = ("cifar10-resnet18", "shakespeare-gpt,size=25M")
BLOCKS = 5  # of the plain loop, the median counts
LR = 0.01


def main(argv: list[str]) -> int:
    """Measure and print; exit code 0, or 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.gpu_throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=list(DEFAULT), metavar="NAME[,KEY=VALUE...]")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run and of the plain loop")
    parser.add_argument("--steps", type=int, default=20, help="of the curves; 0 leaves them out")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu tries this program itself")
    parser.add_argument("--out", type=Path, help="keep the results folders here")
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.plain:
        print(json.dumps(plain_loop(table(arguments.workloads[0]), arguments.device, arguments.seconds)))
        return 0
    with tempfile.TemporaryDirectory(prefix="paceline-gpu-") as temporary:
        out = arguments.out or Path(temporary)
        return max([compare(name, arguments, out / name.replace(",", "-")) for name in arguments.workloads])


def compare(name: str, arguments: argparse.Namespace, out: Path) -> int:
    """All figures of one workload; 1 if a run failed."""
    own = ["--plain", "--workloads", name, "--device", arguments.device, "--seconds", str(arguments.seconds)]
    plain = json.loads(output_of([sys.executable, "-m", "bench.micro.gpu_throughput", *own]))
    print(f"{name}: {plain['device']}\n  plain loop{plain['samples_per_s']:37.1f} samples/s")
    out.mkdir(parents=True, exist_ok=True)
    budget = f"budget = {{ seconds = {arguments.seconds}, snapshots = 1 }}"
    fast = run(name, arguments.ranks, arguments.device, budget, ("allreduce-sgd", "d-psgd"), (0,), out / "throughput")
    failed = show_throughput(fast, plain["samples_per_s"])
    if arguments.steps:
        budget = f"budget = {{ steps = {arguments.steps}, snapshots = 5 }}"
        curves = [
            run(name, arguments.ranks, device, budget, ("allreduce-sgd",), seeds, out / f"curve-{number}")
            for number, (device, seeds) in enumerate(((arguments.device, (0,)), ("cpu", (0, 1))))
        ]
        show_curves(curves[0], curves[1])
    return failed


def table(name: str) -> dict[str, Any]:
    """A workload with its settings, as a study's table would hold them.

    Example:
        >>> table("shakespeare-gpt,size=25M,batch_size=8")
        {'name': 'shakespeare-gpt', 'size': '25M', 'batch_size': 8}
    """
    first, *rest = name.split(",")
    settings: dict[str, Any] = {"name": first}
    for item in rest:
        key, _, value = item.partition("=")
        settings[key] = int(value) if value.isdigit() else value
    return settings


def output_of(line: list[str]) -> str:
    """stdout of a command, last line; a command that fails ends this program with what it said."""
    done = subprocess.run(line, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed (exit code {done.returncode}):\n{done.stdout}\n{done.stderr}")
    return done.stdout.strip().splitlines()[-1] if done.stdout.strip() else ""


def run(
    name: str, ranks: int, device: str, budget: str, algorithms: tuple[str, ...], seeds: tuple[int, ...], out: Path
) -> Any:
    """Run a study by `paceline run`; its results."""
    from bench.records import load

    transports = ["mpi", *(["horovod"] if find_spec("horovod") else [])] if "seconds" in budget else ["mpi"]
    workload = "\n".join(f"{key} = {json.dumps(value)}" for key, value in table(name).items())
    text = f'name = "gpu"\nseeds = {list(seeds)}\nworkers = [{ranks}]\ndevice = "{device}"\nsave = "none"\n{budget}\n'
    text += f"[[workload]]\n{workload}\n"
    for algorithm in algorithms:
        wires = [wire for wire in transports if wire == "mpi" or algorithm == "allreduce-sgd"]
        text += f'[[algorithm]]\nname = "{algorithm}"\ntransports = {json.dumps(wires)}\n'
    study = out.with_suffix(".toml")
    study.write_text(f"transports = {json.dumps(transports)}\n{text}")
    command = Path(__file__).parents[2] / "paceline.py"
    output_of([sys.executable, str(command), "run", str(study), "--out", str(out)])
    return load(out)


def show_throughput(results: Any, plain: float) -> int:
    """A line per run; 1 if one failed."""
    failed = 0
    for row in results.runs.itertuples():
        if row.status != "completed":
            print(f"  {row.algorithm} {row.transport}: {row.status}: {row.verdict}")
            failed = 1
            continue
        rate = row.samples / row.duration_s
        events = results.events[(results.events["run_id"] == row.run_id) & (results.events["kind"] == "gradient")]
        busy = events["device_s"].sum() / row.duration_s
        print(
            f"  {row.algorithm:15s}{row.transport:9s}{row.workers} ranks{rate:15.1f} samples/s"
            f"  {rate / plain:5.2f} of the plain loop  gpu busy {busy:.2f}  {row.device}"
        )
        for what, path in json.loads(row.provenance)["paths"].items():
            print(f"      {what}: {path}")
    return failed


def show_curves(gpu: Any, cpu: Any) -> None:
    """Held-out loss at the same steps: on the GPU, on CPUs, and what another seed makes of it."""

    def losses(results: Any, seed: int) -> dict[float, float]:
        runs = results.runs[results.runs["seed"] == seed]["run_id"]
        rows = results.heldout[results.heldout["run_id"].isin(runs)].sort_values("step")
        return dict(zip(rows["step"], rows["heldout_loss"], strict=True))

    here, there, other = losses(gpu, 0), losses(cpu, 0), losses(cpu, 1)
    print("  step  held-out loss: gpu       cpu   gpu - cpu   cpu, another seed - cpu")
    for step in sorted(here.keys() & there.keys() & other.keys()):
        difference, noise = here[step] - there[step], other[step] - there[step]
        print(f"  {step:4.0f}{here[step]:23.5f}{there[step]:10.5f}{difference:12.6f}{noise:26.6f}")


def plain_loop(settings: dict[str, Any], device_name: str, seconds: float) -> dict[str, Any]:
    """Samples/s of one process that trains alone."""
    import torch

    from bench.settings import build
    from bench.workloads.base import torch_generator
    from bench.workloads.precision import Precision
    from bench.workloads.registry import settings_class

    device = torch.device(device_name, 0) if device_name == "cuda" else torch.device("cpu")
    cls: Any = settings_class(settings.pop("name"))
    stated: Any = build(cls, settings, cls.title)
    problem, batches = stated.problem(), stated.build(device, 1).batches(0, 0, 1)
    module = problem.module
    problem.initialise(module, torch_generator(0, -1, "initial"))
    module.to(device).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9)
    precision = Precision(stated.precision, device)

    def step() -> None:
        inputs, targets, *noise = batches.next()
        optimizer.zero_grad()
        with precision.forward():
            loss = problem.loss(module(inputs, *noise), targets)
        loss.backward()
        optimizer.step()

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    rates = []
    for block in range(BLOCKS + 1):
        finish()
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < (seconds / BLOCKS if block else 2.0):  # the first one warms up
            for _ in range(5):
                step()
            finish()
            steps += 5
        rates.append(steps * stated.batch_size / (time.perf_counter() - start))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"device": name, "samples_per_s": statistics.median(rates[1:])}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
