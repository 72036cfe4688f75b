"""Starts ranks from pytest: one launch for many cases, since starting ranks takes longer than most cases."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.launch import environment_for_ranks, mpirun
from bench.settings import StudyError
from tests.support.mpi_cases import Case

ROOT = Path(__file__).resolve().parents[2]


def require(transport: str) -> None:
    """Skip the test if its transport cannot run here."""
    if transport == "simulated":
        return
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    if transport == "horovod" and find_spec("horovod") is None:
        pytest.skip("Horovod is not installed")
    try:
        mpirun()
    except StudyError as error:
        pytest.skip(str(error))


LIKE_A_NETWORK = {"OMPI_MCA_smsc": "^cma,knem,xpmem"}
"""Has Open MPI move large messages between processes of a machine piece by piece, as over a network.

By default the receiver copies them at once out of the sender's memory, so that they can neither overtake nor be
overtaken and need no help from the sender: that hides mistakes.
"""


def start(
    ranks: int, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """mpirun with this Python and these arguments, under the supervisor's environment and what is added to it."""
    return subprocess.Popen(
        [mpirun(), "-n", str(ranks), sys.executable, *arguments],
        cwd=ROOT,
        env=environment_for_ranks(ranks) | dict(environment or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )


class DidNotEnd(AssertionError):
    """A launch was ended because it took too long."""


def finish(process: subprocess.Popen[str], timeout_s: float) -> tuple[str, str]:
    """stdout and stderr of a launch.

    Raises:
        DidNotEnd: it took longer, and was ended.
    """
    try:
        return process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpirun ends its ranks before it goes
        try:
            out, err = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        raise DidNotEnd(f"the launch did not end within {timeout_s:g} s\n{out[-3000:]}\n{err[-3000:]}") from None


def run_cases(
    module: str,
    transport: str,
    cases: Mapping[str, Case],
    *,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> dict[str, str]:
    """Run cases under mpirun, in as few launches as possible: name -> "" or why it failed.

    A case that fails ends its launch; those after it get another one.

    Args:
        timeout_s: for all of them; None gives a launch 120 s and each case two more, which a machine that is busy with
            other work may need.
    """
    timeout_s = 120.0 + 2.0 * len(cases) if timeout_s is None else timeout_s
    outcome: dict[str, str] = {}
    deadline = time.monotonic() + timeout_s
    # By number of ranks: Horovod starts afresh whenever it changes.
    waiting = sorted(cases, key=lambda name: cases[name].ranks)
    while waiting:
        ranks = max(cases[name].ranks for name in waiting)
        with tempfile.TemporaryDirectory(prefix="paceline-test-") as folder:
            arguments = ["-m", "tests.support.mpi_program", module, transport, folder, *waiting]
            process = start(ranks, arguments, environment=environment)
            try:
                _, end = finish(process, deadline - time.monotonic())
                in_time = True
            except DidNotEnd as error:
                end, in_time = str(error), False
            said = list(_said(Path(folder)))
        for entry in said:
            if entry["event"] == "passed":
                outcome[entry["case"]] = ""
        failed = [entry for entry in said if entry["event"] == "failed"]
        for entry in failed:
            outcome[entry["case"]] = outcome.get(entry["case"], "") + entry["text"] + "\n"
        waiting = [name for name in waiting if name not in outcome]
        started = {entry["case"] for entry in said if entry["event"] == "start"}
        if waiting and not failed:
            # The launch ended without a word from any rank: a crash in a library, or it never came up.
            outcome[waiting[0]] = f"the launch ended in this case without a traceback:\n{end[-6000:]}"
        if not in_time or not started:
            outcome |= {name: f"not run: {end[-6000:]}" for name in waiting if name not in outcome}
        waiting = [name for name in waiting if name not in outcome]
    return outcome


def _said(folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def selected(request: pytest.FixtureRequest, transport: str) -> list[str]:
    """Names of the cases that this session will ask for on this transport, from this module's tests."""
    names: dict[str, None] = {}
    for item in request.session.items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        if item.path == request.path and parameters.get("transport") == transport and "name" in parameters:
            names[parameters["name"]] = None
    return list(names)
