"""`paceline testbed run`: a study in the bed, and its bytes as we and as the kernel counted them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.settings import StudyError
from bench.testbed.enter import enter
from bench.testbed.settings import Testbed


def run_study(testbed: Testbed, study: str, out: Path, options: Sequence[str]) -> int:
    """Run it as `paceline run` does, and lay the kernel's count of bytes beside ours; the exit code of the run, or 1 if
    the bytes of a run do not agree.

    Args:
        options: of `paceline run`.

    Raises:
        StudyError: an option does not fit the bed, or there can be none here.
    """
    if any(option.startswith("--launcher") for option in options):
        raise StudyError("--launcher: in the bed ranks are started by mpirun alone (leave it out)")
    code = enter(testbed, [sys.executable, "-m", "paceline", "run", study, "--out", str(out), *options])
    if code in (0, 1) and "--dry-run" not in options:
        from bench.testbed import counts

        rows = counts.compared(out, testbed)
        if not rows.empty:
            print(counts.shown(rows, testbed))
        if (rows["status"].isin(("completed", "diverged")) & ~rows["agrees"]).any():
            return 1
    return code
