"""A results folder as one line a run, for regression tests that look for numbers in text (slurm/reframe_check.py)."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def lines(out: Path) -> list[str]:
    """A line a run: what it is, how it ended, samples/s and Gbit/s of all ranks together, sent by us on the wire.

    Args:
        out: results folder.
    """
    from bench.records import load

    found = []
    for run in load(out).runs.to_dict("records"):
        what = f"{run['algorithm']} {run['transport']} {run['workload']} {run['workers']} workers seed {run['seed']}"
        rate, wire = run["samples"] / run["duration_s"], 8e-9 * run["wire_nbytes"] / run["duration_s"]
        found.append(f"paceline: {what}: {run['status']}, {rate:.6g} samples/s, {wire:.6g} Gbit/s")
    return found


def main(argv: list[str]) -> int:
    """Print the lines: 0, or 1 if a run has not completed."""
    parser = argparse.ArgumentParser(prog="python -m slurm.performance", description=__doc__)
    parser.add_argument("out", type=Path, help="results folder")
    found = lines(parser.parse_args(argv).out)
    print("\n".join(found))
    return int(not all(": completed, " in line for line in found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
