"""A real bed: its hosts, its links, and the bytes that cross them."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from bench import records
from bench.launch import cores
from bench.testbed import counts, settings
from tests.testbed.commands import needs_bed, paceline

pytestmark = needs_bed

FIVE = """
name = "bytes"
workers = [4]
[budget]
steps = 60
snapshots = 2
[[workload]]
name = "digits-mlp"
width = 300
[[algorithm]]
name = "allreduce-sgd"
[[algorithm]]
name = "d-psgd"
[[algorithm]]
name = "diloco"
period = 5
[[algorithm]]
name = "streaming-diloco"
period = 6
"""
EASGD = """
name = "center"
workers = [3]
[budget]
seconds = 3
snapshots = 2
[[workload]]
name = "digits-mlp"
width = 300
[[algorithm]]
name = "easgd"
period = 4
"""


def test_each_rank_has_a_host_of_its_own(tmp_path):
    program = (
        "import os, pathlib; from mpi4py import MPI; w = MPI.COMM_WORLD; host = os.uname().nodename\n"
        "pathlib.Path('/dev/shm', host).touch(); w.Barrier()\n"
        "print(w.gather((host, sorted(p.name for p in pathlib.Path('/dev/shm').glob('host*')))))\n"
        "pathlib.Path(os.environ['OUT'], host).touch()"
    )
    done = paceline(
        "exec", "--hosts", "3", "--rate", "1gbit", "--", "mpirun", "-n", "3", "python", "-c", program, OUT=str(tmp_path)
    )
    assert done.returncode == 0, done.stderr
    found = next(line for line in done.stdout.splitlines() if line.startswith("[("))
    assert found == str([(f"host{k}", [f"host{k}"]) for k in range(3)])
    written = sorted(tmp_path.iterdir())
    assert [path.name for path in written] == ["host0", "host1", "host2"]
    assert {path.stat().st_uid for path in written} == {os.geteuid()}


def test_the_exit_code_and_the_output_are_the_commands():
    done = paceline("exec", "--hosts", "1", "--rate", "1gbit", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


@pytest.mark.parametrize(("rate", "tries"), [("100mbit", 4), ("1gbit", 6)])
def test_the_rate_is_what_tcp_leaves_of_the_one_that_was_set(rate, tries):
    """Within 5 %. What else the machine does can only slow a link down, so one good try of a few is enough; too fast is
    wrong in any."""
    share = settings.quantity(rate, settings.RATES_Gbit_per_s, "", "") * settings.TCP_SHARE
    measured = []
    for _ in range(tries):
        done = paceline("check", "--hosts", "2", "--rate", rate, "--seconds", "2")
        found = re.search(r"host0 to host1: ([0-9.]+) Gbit/s", done.stdout)
        assert found, done.stderr
        measured.append(float(found[1]) / share)
        assert measured[-1] <= 1.05
        if measured[-1] >= 0.95:
            return
    if (busy := os.getloadavg()[0]) > 2 * cores():
        pytest.skip(f"the machine has too much else to do (load {busy:.0f}): of TCP's share of {rate}: {measured}")
    pytest.fail(f"of TCP's share of {rate}: {measured}")


def test_a_delay_is_the_one_that_was_set():
    """Within 0.2 ms, beside what a sleep is late by on this machine at that time; one good try of a few, as above, and
    too early is wrong in any."""
    late, sleeps = [], []
    for _ in range(5):
        done = paceline("check", "--hosts", "2", "--rate", "100mbit", "--delay", "5ms", "--seconds", "1")
        found = re.search(r"half a round trip ([0-9.]+) ms", done.stdout)
        assert found, done.stderr
        late.append(float(found[1]) - 5.0)
        sleeps.append(sleep_is_late_ms(5.0))
        assert late[-1] >= 0
        if late[-1] - sleeps[-1] <= 0.2:
            return
    text = f"later than 5 ms by {late} ms, and sleeps by {sleeps} ms"
    if (busy := os.getloadavg()[0]) > 2 * cores():
        pytest.skip(f"the machine has too much else to do (load {busy:.0f}): {text}")
    pytest.fail(text)


def sleep_is_late_ms(length_ms, tries=100):
    """Of the earliest tenth of many sleeps the latest, as the check takes its round trips."""
    late = []
    for _ in range(tries):
        start_s = time.perf_counter()
        time.sleep(length_ms * 1e-3)
        late.append((time.perf_counter() - start_s) * 1e3 - length_ms)
    return sorted(late)[tries // 10]


@pytest.mark.parametrize(("text", "hosts"), [(FIVE, 4), (EASGD, 4)], ids=["lock-step", "easgd"])
def test_the_kernel_counts_the_bytes_that_we_claim(tmp_path, text, hosts):
    path, out = tmp_path / "study.toml", tmp_path / "out"
    path.write_text(text)
    done = paceline("run", str(path), "--hosts", str(hosts), "--rate", "1gbit", "--out", str(out))
    assert done.returncode == 0, done.stderr
    results = records.load(out)
    assert set(results.runs["status"]) == {"completed"}
    for run in results.runs.to_dict("records"):
        assert run["parameters"] > 100_000
        assert 1 < run["interface_nbytes"] / run["wire_nbytes"] < 1.03, run["label"]  # headers included
        assert "the kernel counted no less on the wire: yes" in run["verdict"]
        assert json.loads(run["network"])["testbed"]["title"] == "testbed 1 Gbit/s"
        assert json.loads(run["provenance"])["testbed"]["qdisc"] == "tbf"
        assert len({rank["host"] for rank in json.loads(run["provenance"])["ranks"]}) == 4
    rows = counts.compared(out, settings.Testbed(hosts=hosts, rate_Gbit_per_s=1.0))
    assert len(rows) == len(results.runs) and rows["agrees"].all()
    assert all(str(run) in done.stdout for run in rows["run_id"])


def test_two_ranks_of_a_host_do_not_use_its_link(tmp_path):
    path, out = tmp_path / "study.toml", tmp_path / "out"
    path.write_text(FIVE)
    done = paceline(
        "run", str(path), "--hosts", "2", "--ranks-per-host", "2", "--rate", "1gbit", "--out", str(out),
        "--only", "d-psgd",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (run,) = records.load(out).runs.to_dict("records")
    # On a ring of four each rank sends to two others, and each host's two ranks to one of the other host each.
    assert run["interface_nbytes"] == pytest.approx(run["wire_nbytes"] / 2, rel=0.03)
