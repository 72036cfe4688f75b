"""Does the token bucket do what a link does? The same runs behind `rate_Gbit_per_s`, and on hosts with such links.

    python -m bench.micro.token_bucket_check [--out DIR] [--rates 100mbit 1gbit] [--hosts 4] [--seconds 10]

For each rate and algorithm: samples/s and Gbit/s of all ranks behind token buckets on one host, on a bed, and their
ratio (bed / bucket). What differs by itself:

- Of a link's rate, headers leave 95.6 % for the payload; the bucket counts a message's own bytes only.
- On the bed all-reduces are MPI's, behind the bucket a ring of messages that Python drives.
- A link holds both directions, and what arrives from several senders waits for the receiver's link. The bucket limits
  what a rank sends, and nothing that it receives.
- Both let a burst through after a pause: the bucket 16 KiB, a link 15 kB or what 100 us let through.

A second call with the same --out runs only what is missing. About 4 minutes; the machine should have nothing else to
do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from bench.micro.prediction_check import limited, paceline
from bench.records import load
from bench.testbed.settings import RATES_Gbit_per_s, quantity

STUDY = """\
name = "token-bucket-check"
workers = [{workers}]
[budget]
seconds = 10
snapshots = 1
[[workload]]
name = "shakespeare-gpt"
size = "0.2M"
batch_size = 8
[[algorithm]]
name = "allreduce-sgd"
[[algorithm]]
name = "d-psgd"
topology = "ring"
[[algorithm]]
name = "ad-psgd"
topology = "ring"
[[algorithm]]
name = "diloco"
period = 10
"""


def main(argv: list[str]) -> int:
    """Run everything and print the pairs; exit code 0 if all could be run."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.micro.token_bucket_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, default=Path("runs") / "token-bucket", help="folder for everything")
    parser.add_argument("--rates", nargs="+", default=["100mbit", "1gbit"], help="of the links (100mbit 1gbit)")
    parser.add_argument("--hosts", type=int, default=4, metavar="N", help="hosts, one rank each (4)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run (10)")
    parser.add_argument("--data-dir", type=Path, help="folder of the data sets")
    arguments = parser.parse_args(argv)
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    data = [] if arguments.data_dir is None else ["--data-dir", str(arguments.data_dir)]
    text = STUDY.format(workers=arguments.hosts)
    found = []
    for rate in arguments.rates:
        sides = {}
        for name, limit in (("bed", None), ("bucket", quantity(rate, RATES_Gbit_per_s, "--rates", "1gbit"))):
            study, results = out / f"{rate}-{name}.toml", out / f"{rate}-{name}"
            study.write_text(limited(text, limit, arguments.seconds), encoding="utf-8")
            bed = ["testbed", "run", str(study), "--hosts", str(arguments.hosts), "--rate", rate]
            paceline(*(bed if limit is None else ["run", str(study)]), "--out", str(results), *data)
            sides[name] = rates(results)
        found.append(sides["bed"].add_suffix("_bed").join(sides["bucket"].add_suffix("_bucket")).assign(rate=rate))
    print(shown(pd.concat(found)))
    return 0


def rates(folder: Path) -> pd.DataFrame:
    """`samples_per_s` and `Gbit_per_s` on the wire, of all ranks together; by algorithm."""
    runs = load(folder).runs.set_index("label")
    return pd.DataFrame(
        {
            "samples_per_s": runs["samples"] / runs["duration_s"],
            "Gbit_per_s": 8e-9 * runs["wire_nbytes"] / runs["duration_s"],
        }
    )


def shown(table: pd.DataFrame) -> str:
    """The pairs as text."""
    lines = [
        f"  {'rate':9s}{'algorithm':16s}{'samples/s: bucket':>18s}{'bed':>9s}{'Gbit/s: bucket':>16s}{'bed':>9s}"
        f"{'bed / bucket':>14s}"
    ]
    for label, row in table.iterrows():
        lines.append(
            f"  {row['rate']:9s}{label!s:16s}{row['samples_per_s_bucket']:18.1f}{row['samples_per_s_bed']:9.1f}"
            f"{row['Gbit_per_s_bucket']:16.4f}{row['Gbit_per_s_bed']:9.4f}"
            f"{row['samples_per_s_bed'] / row['samples_per_s_bucket']:14.2f}"
        )
    return "all ranks together\n" + "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
