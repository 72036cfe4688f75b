"""Five million events: what loading and reducing them costs, measured in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.many_events import write_long_run

EVENTS = 5_000_000
SECONDS, GIB = 15.0, 3.0

REDUCE = """
import json, re, sys, time
from pathlib import Path
start = time.perf_counter(), time.process_time()
steps = {}

def done(name):
    steps[name] = round(time.process_time() - start[1] - sum(steps.values()), 2)

from bench.records import load
from analysis.ages import applied_gradients, over_time
from analysis.completeness import missing
from analysis.staleness import distribution, staleness_histogram
from analysis.summary import of_events, per_run, summarise
from analysis.throughput import rank_throughput
from analysis.timing import time_split
done("import")
results = load(sys.argv[1])
done("load")
split = time_split(results.events, results.runs)
done("time_split")
table = summarise(per_run(results, traced=of_events(results.events, results.runs, split)))
done("per_run")
applied = applied_gradients(results.events, results.runs)
by_rank, windows = distribution(applied, ("run_id", "rank")), over_time(applied, results.runs)
histogram = staleness_histogram(results.events)
done("staleness by rank and time")
rates = rank_throughput(results.runs, results.events)
done("rates by rank")
gaps = missing(results.runs, results.events, results.heldout)
status = Path("/proc/self/status").read_text()
print(json.dumps({
    "events": len(results.events), "wall_s": time.perf_counter() - start[0], "cpu_s": time.process_time() - start[1],
    "steps": steps, "peak_GiB": int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 2**20,
    "frame_GiB": results.events.memory_usage(deep=True).sum() / 2**30, "skipped": results.skipped, "gaps": gaps,
    "gradients": int(by_rank["gradients"].sum()), "in_windows": int(windows["gradients"].sum()),
    "in_histogram": int(histogram["gradients"].sum()), "ages_known": int(applied["staleness_s"].notna().sum()),
    "parts": float((split.filter(regex="^(gradient|exposed_(straggler|transfer)|serve|apply|idle|finished|other)_s$")
                    .sum(axis=1) - split["duration_s"]).abs().max()),
    "wire": float(rates["wire_Gbit_per_s"].sum()), "wire_of_run": float(table["wire_Gbit_per_s"].iloc[0]),
}))
"""


def reduce(folder: Path) -> dict[str, object]:
    """What the child measured."""
    done = subprocess.run(
        [sys.executable, "-c", REDUCE, str(folder)],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def check(found: dict[str, object], events: int) -> None:
    """That nothing was lost on the way."""
    assert found["events"] == events and found["skipped"] == found["gaps"] == []
    assert found["gradients"] == found["in_windows"] == found["in_histogram"] == found["ages_known"]
    assert float(str(found["parts"])) < 1e-9
    assert found["wire"] == pytest.approx(found["wire_of_run"])


@pytest.mark.thorough
def test_a_long_run_is_reduced_without_losing_anything(tmp_path: Path) -> None:
    events = write_long_run(tmp_path, 50_000)
    check(reduce(tmp_path), events)


@pytest.mark.slow
def test_five_million_events_load_and_reduce_in_time_and_memory(tmp_path: Path) -> None:
    events = write_long_run(tmp_path, EVENTS)
    found = reduce(tmp_path)
    print(json.dumps(found, indent=2))
    check(found, events)
    # Processor time, all threads: what the clock on the wall says on a machine that does nothing else, or more. Beside
    # other work the wall clock would measure that.
    assert float(str(found["cpu_s"])) < SECONDS
    assert float(str(found["peak_GiB"])) < GIB
