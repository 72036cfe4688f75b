"""`paceline testbed check`: whether the links are what was asked for, measured by MPI on the bed itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from bench.testbed import here
from bench.testbed.enter import enter
from bench.testbed.settings import DELAYS_S, TCP_SHARE, Testbed, said

TOLERANCE = 0.05
"""Of the rate: what the check allows."""
DELAY_TOLERANCE_S = 0.2e-3
"""Of half a round trip, beside what the machine itself takes: what the check allows."""
OWN_S = 0.1e-3
"""What half a round trip may take without a delay: 10 us on a quiet machine."""


def check_links(testbed: Testbed, seconds: float) -> int:
    """Measure the links of a new bed and say how they compare with what was set; 0 if all are as they should be, else
    1.

    Args:
        seconds: for each figure.

    Raises:
        StudyError: there can be no bed here.
    """
    return enter(testbed, [sys.executable, "-m", "bench.testbed.check", str(seconds)])


def main(argv: list[str]) -> int:
    """The part inside the bed."""
    from bench.launch import mpirun

    testbed = here.testbed()
    assert testbed is not None, "not in a bed"
    line = [mpirun(), "-n", str(testbed.hosts), sys.executable, "-m", "bench.micro.link_rate", "--seconds", argv[0]]
    done = subprocess.run(
        [*line, "--Gbit-per-s", str(testbed.rate_Gbit_per_s)], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        print(f"testbed check: the measuring program ended with exit code {done.returncode}", file=sys.stderr)
        return 1
    found = json.loads(done.stdout.strip().splitlines()[-1])
    text, good = judged(testbed, found)
    print(f"{testbed.title}; {found['mpi'].partition(',')[0]}; congestion control {here.facts()['congestion_control']}")
    print(text)
    return 0 if good else 1


def judged(testbed: Testbed, found: Mapping[str, Any]) -> tuple[str, bool]:
    """The figures of `bench.micro.link_rate` beside what was set, and whether all are within the tolerances.

    Of a link's rate, the headers of Ethernet, IP and TCP leave 95.6 % for the payload; large messages come near that if
    the window of TCP is open, and the delay is short against the time that they take. All hosts sending round a ring is
    shown without a verdict: this machine's cores may be slower than that many links.
    """
    rate, share_Gbit_per_s = testbed.rate_Gbit_per_s, testbed.rate_Gbit_per_s * TCP_SHARE
    lines, good = [], True
    for other, pair in sorted(found["pairs"].items(), key=lambda item: int(item[0])):
        ratio = pair["Gbit_per_s"] / share_Gbit_per_s
        half_s, late_s = pair["half_round_trip_s"], pair["half_round_trip_s"] - testbed.delay_s
        right = abs(ratio - 1) <= TOLERANCE and -1e-6 <= late_s <= (DELAY_TOLERANCE_S if testbed.delay_s else OWN_S)
        good &= right
        lines.append(
            f"host0 to host{other}: {pair['Gbit_per_s']:.4g} Gbit/s of payload, {ratio:.3f} of the "
            f"{share_Gbit_per_s:.4g} that headers leave of {rate:g}; half a round trip {said(half_s, DELAYS_S, ' ')}"
            + ("" if right else "  NOT AS SET")
        )
    ring = found["ring_Gbit_per_s"]
    if testbed.hosts > 2:  # the two directions of one pair share a connection, and wait for each other
        lines.append(f"all in a ring: {ring:.4g} Gbit/s each way and host, {ring / share_Gbit_per_s:.3f} of that")
    return "\n".join(lines), good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
