"""Is the simulator right? Calibrates this machine, runs six algorithms for real, and lays the predictions beside.

    python -m bench.micro.prediction_check [--out DIR] [--calibrated 2] [--workers 2 4] [--rates 0.1] [--seconds 6]

For each algorithm, workload and number of workers of the study calibration-check, and over links limited to each rate
[Gbit/s] with the fewest workers: samples/s as measured, as predicted by the simulator calibrated with `--calibrated`
ranks right before, and their ratio; and what the predicted gradients take of the time of the measured ones. Where the
second is below 1 and the first above it, the machine was slower during the runs than during the calibration: that is
done anew for each workload, right before its runs and without the limit. A second call with the same --out runs only
what is missing. About half an hour on two cores; the machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd

from bench.study import find, workload_label

STUDY = "calibration-check"


def main(argv: list[str]) -> int:
    """Run everything and print the pairs; exit code 0 if all could be run."""
    parser = argparse.ArgumentParser(prog="python -m bench.micro.prediction_check", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs") / "prediction-check", help="folder for everything")
    parser.add_argument("--study", default=STUDY, help=f"what is run ({STUDY})")
    parser.add_argument("--calibrated", type=int, default=2, metavar="N", help="ranks of the calibration (2)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 4], metavar="N", help="workers of the runs (2 4)")
    parser.add_argument("--rates", type=float, nargs="*", default=[0.1], help="limits of the links [Gbit/s] (0.1)")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run (6)")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets")
    arguments = parser.parse_args(argv)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    data = [] if arguments.data_dir is None else ["--data-dir", str(arguments.data_dir)]
    text = find(arguments.study).read_text(encoding="utf-8")
    parts = [(None, n) for n in arguments.workers] + [(rate, min(arguments.workers)) for rate in arguments.rates]
    found = []
    for k, workload in enumerate(tomllib.loads(text)["workload"]):
        for rate, workers in parts:
            link = "open" if rate is None else f"{rate:g}Gbit"
            folder = out / f"{workload_label(workload)}-{link}-n{workers}"
            folder.mkdir(exist_ok=True)
            study, cluster = folder / "study.toml", folder / "cluster.toml"
            study.write_text(limited(alone(text, k), rate, arguments.seconds), encoding="utf-8")
            if not cluster.exists():
                paceline("calibrate", str(study), "-n", str(arguments.calibrated), "-o", str(cluster), *data)
            n = ["-n", str(workers), "--out"]
            measured, predicted = folder / "measured", folder / "predicted"
            paceline("run", str(study), *n, str(measured), *data)
            paceline("predict", str(study), "--cluster", str(cluster), "--cost-only", *n, str(predicted), *data)
            found.append(pairs(measured, predicted).assign(link="open" if rate is None else f"{rate:g} Gbit/s"))
    print(shown(pd.concat(found)))
    return 0


def paceline(*arguments: str) -> None:
    """Run a command of paceline.

    Raises:
        SystemExit: it failed.
    """
    print(f"$ paceline {' '.join(arguments)}", file=sys.stderr, flush=True)
    code = subprocess.run([sys.executable, "-m", "paceline", *arguments], check=False).returncode
    if code:
        raise SystemExit(f"paceline {arguments[0]} ended with exit code {code}")


def alone(text: str, k: int) -> str:
    """A study file with its k-th workload (from 0) and no other.

    Example:
        >>> print(alone("name = 'a'\\n[[workload]]\\nname = 'b'\\n[[workload]]\\nname = 'c'\\n", 1))
        name = 'a'
        [[workload]]
        name = 'c'
        <BLANKLINE>
    """
    tables = re.split(r"(?m)^(?=\[)", text)
    others = [table for table in tables if table.startswith("[[workload]]")]
    others.pop(k)
    return "".join(table for table in tables if table not in others)


def limited(text: str, rate_Gbit_per_s: float | None, seconds: float) -> str:
    """A study file with a limit for its links, and with runs of that long."""
    lines = text.splitlines()
    if rate_Gbit_per_s is not None:
        lines.insert(0, f"rate_Gbit_per_s = {rate_Gbit_per_s}")
    return "\n".join(f"seconds = {seconds}" if line.startswith("seconds = ") else line for line in lines)


def pairs(measured: Path, predicted: Path) -> pd.DataFrame:
    """One row for each run: workload, algorithm, workers; samples/s measured and predicted, `ratio`; `gradients`: mean
    time of the predicted gradients over that of the measured ones."""
    from bench.records import load

    columns = ["workload", "label", "workers"]
    sides = []
    for folder, name in ((measured, "measured"), (predicted, "predicted")):
        results = load(folder)
        gradients = results.events[results.events["kind"] == "gradient"]
        mean_s = (gradients["t1_s"] - gradients["t0_s"]).groupby(gradients["run_id"]).mean()
        runs = results.runs
        runs[name], runs[f"{name}_s"] = runs["samples"] / runs["duration_s"], runs["run_id"].map(mean_s)
        sides.append(runs[[*columns, name, f"{name}_s"]])
    table = sides[0].merge(sides[1], on=columns, how="outer")
    return table.assign(
        ratio=table["predicted"] / table["measured"], gradients=table["predicted_s"] / table["measured_s"]
    )


def shown(table: pd.DataFrame) -> str:
    """The pairs as text, and how far off they are."""
    ordered = table.sort_values(["link", "workers", "workload", "label"], ascending=[False, True, True, True])
    lines = [
        f"  {'link':12s}{'n':>3s}  {'workload':22s}{'algorithm':16s}{'measured':>11s}{'predicted':>11s}{'ratio':>7s}"
        f"{'gradients':>11s}"
    ]
    for row in ordered.itertuples():
        lines.append(
            f"  {row.link:12s}{row.workers:3d}  {row.workload:22s}{row.label:16s}{row.measured:11.0f}"
            f"{row.predicted:11.0f}{row.ratio:7.2f}{row.gradients:11.2f}"
        )
    for (link, workers), part in ordered.groupby(["link", "workers"], sort=False):
        off = (part["ratio"] - 1).abs()
        lines.append(
            f"  {link}, {workers} workers: median {off.median():.1%} off, worst {off.max():.1%}, "
            f"{(off <= 0.1).sum()} of {len(off)} within 10 %, {(off <= 0.2).sum()} within 20 %"
        )
    return "samples/s\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
