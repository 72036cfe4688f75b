"""Is the simulator right about hosts on a real network? Calibrates on a bed, measures a study there, predicts it.

    python -m bench.micro.testbed_prediction_check [--out DIR] [--hosts 4] [--calibrated RATE]
        [--rates 100mbit 1gbit] [--seconds 20] [--study four-hosts]

For each rate a bed is calibrated, each algorithm of the study is measured on a bed with that rate and predicted for it;
--calibrated says that one calibration is to do for all. Prints samples/s as measured and as predicted, and what a step
consists of on both sides, so that one sees what is off. A second call with the same --out runs only what is missing.
About 20 minutes on two cores; the machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from bench.micro.prediction_check import limited, paceline, pairs, shown
from bench.records import Results, load
from bench.study import find

STUDY = "four-hosts"
PARTS = {"gradient": "gradient", "allreduce": "all-reduce", "send": "message out", "wait": "waiting"}
"""Kinds of events whose durations are laid beside each other, and what they are called."""


def main(argv: list[str]) -> int:
    """Run everything and print the pairs; exit code 0 if all could be run."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro.testbed_prediction_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs") / "testbed-prediction", help="folder for everything")
    parser.add_argument("--study", default=STUDY, help=f"what is run ({STUDY})")
    parser.add_argument("--hosts", type=int, default=4, metavar="N", help="hosts, one rank each (4)")
    parser.add_argument("--calibrated", metavar="RATE", help="rate of the calibrated bed (each of --rates)")
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"], help="rates of the runs (100mbit 1gbit)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run (20)")
    parser.add_argument("--measuring", type=float, default=4.0, help="seconds of each of the calibration's figures (4)")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets")
    arguments = parser.parse_args(argv)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    data = [] if arguments.data_dir is None else ["--data-dir", str(arguments.data_dir)]
    study, hosts = out / "study.toml", ["--hosts", str(arguments.hosts)]
    text = find(arguments.study).read_text(encoding="utf-8")
    study.write_text(limited(text, None, arguments.seconds), encoding="utf-8")
    found, parts = [], []
    for rate in arguments.rates:
        calibrated = arguments.calibrated or rate
        cluster = out / f"cluster-{calibrated}.toml"
        if not cluster.exists():
            calibrate = ["calibrate", str(study), "-n", str(arguments.hosts), "-o", str(cluster), *data]
            inside = [sys.executable, "-m", "paceline", *calibrate, "--seconds", str(arguments.measuring)]
            paceline("testbed", "exec", *hosts, "--rate", calibrated, "--", *inside)
        measured, predicted = (out / f"{rate}-{kind}" for kind in ("measured", "predicted"))
        paceline("testbed", "run", str(study), *hosts, "--rate", rate, "--out", str(measured), *data)
        asked = ["--cluster", str(cluster), "--rate", rate, "-n", str(arguments.hosts), "--cost-only"]
        paceline("predict", str(study), *asked, "--out", str(predicted), *data)
        found.append(pairs(measured, predicted).assign(link=rate))
        parts.append(part_pairs(load(measured), load(predicted)).assign(link=rate))
    print(shown(pd.concat(found)))
    print(f"\n{parts_shown(pd.concat(parts))}")
    return 0


def part_pairs(measured: Results, predicted: Results) -> pd.DataFrame:
    """One row per algorithm and part of its steps: `label`, `part`, `measured_s` and `predicted_s`.

    Each is what all events of that kind took together, per step of a worker [s]. Parts overlap: a gradient and an
    all-reduce may be under way at once; waiting is what nothing hides.
    """
    sides = [
        _per_step(results).rename(name) for results, name in ((measured, "measured_s"), (predicted, "predicted_s"))
    ]
    return pd.concat(sides, axis=1).fillna(0.0).reset_index()


def _per_step(results: Results) -> pd.Series:
    runs = results.runs.set_index("run_id")
    events = results.events[results.events["kind"].isin(PARTS)]
    run_ids, kinds = events["run_id"].astype(str), events["kind"].astype(str)
    took = (events["t1_s"] - events["t0_s"]) / run_ids.map(runs["steps"])
    per_step = took.groupby([run_ids.map(runs["label"]), kinds.map(PARTS)]).sum()
    whole = (runs["duration_s"] * runs["workers"] / runs["steps"]).set_axis(runs["label"])
    whole.index = pd.MultiIndex.from_product([whole.index, ["whole step"]])
    found = pd.concat([per_step, whole])
    found.index.names = ["label", "part"]
    return found


def parts_shown(table: pd.DataFrame) -> str:
    """The parts as text [ms]."""
    lines = [f"  {'link':9s}{'algorithm':18s}{'part of a step':16s}{'measured':>10s}{'predicted':>11s}{'ratio':>7s}"]
    for row in table.to_dict("records"):
        measured_ms, predicted_ms = 1e3 * row["measured_s"], 1e3 * row["predicted_s"]
        ratio = f"{predicted_ms / measured_ms:7.2f}" if measured_ms else "      -"
        lines.append(
            f"  {row['link']:9s}{row['label']:18s}{row['part']:16s}{measured_ms:10.2f}{predicted_ms:11.2f}{ratio}"
        )
    return "ms per step of a worker\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
