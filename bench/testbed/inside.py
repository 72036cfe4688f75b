"""The first process in the bed's namespaces: makes the bed, runs a command in it, passes signals on, and ends.

With it ends every other process of its namespace, and with them the networks: the kernel sees to that, also when this
process, or the one that waits for it outside, is killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

from bench.settings import build
from bench.testbed import launchers
from bench.testbed.bed import FOLDER, Bed, BedError
from bench.testbed.facts import facts
from bench.testbed.here import VARIABLE
from bench.testbed.hinder import hinder
from bench.testbed.settings import Testbed


def main(argv: list[str]) -> int:
    """Exit code of the command.

    Args:
        argv: the settings as JSON, the slow hosts' cgroups as JSON, the descriptor from which signals are read, and
            the command.
    """
    testbed = build(Testbed, json.loads(argv[0]), "testbed")
    quotas, control, command = json.loads(argv[1]), int(argv[2]), argv[3:]
    try:
        with Bed(testbed) as bed:
            told = {VARIABLE: json.dumps(facts(bed) | hinder(bed, quotas))}
            own = launchers.environment(bed, FOLDER, quotas)
            process = subprocess.Popen(command, env={**os.environ, **own, **told})
            threading.Thread(target=_pass_on, args=(control, process), daemon=True).start()
            code = process.wait()
    except BedError as error:
        print(f"testbed: {error}", file=sys.stderr)
        return 2
    return code if code >= 0 else 128 - code


def _pass_on(control: int, process: subprocess.Popen[bytes]) -> None:
    """Each byte from outside is the number of a signal; the end of the stream means that nobody is there any more."""
    while number := os.read(control, 1):
        process.send_signal(number[0])
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
