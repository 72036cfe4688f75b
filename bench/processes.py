"""Ending a program and all that it started."""

from __future__ import annotations

import os
import signal
import subprocess

PATIENCE_S = 5.0


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process that leads a group of its own (`start_new_session`), and its group: asked first, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(PATIENCE_S)
            return
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
