"""`paceline watch DIR`: the table of a study in the terminal while it runs. Heavy imports are inside the functions."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bench.settings import StudyError

if TYPE_CHECKING:
    from bench.progress import Watcher

CLEAR = "\x1b[H\x1b[J"  # to the upper left corner; what is below goes away


def main(argv: list[str]) -> int:
    """Watch a study until it has ended or the user has seen enough: 0.

    Raises:
        StudyError: it cannot be watched like that.
    """
    parser = argparse.ArgumentParser(
        prog="paceline watch",
        description="How far a study is: the table of its runs in the terminal, drawn anew while it runs. Where the "
        "output is no terminal, the table once. Reads only; ends when all planned runs have ended, or with Ctrl-C.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="results folder; it need not exist yet")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="between looks (%(default)g)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="as given to run: only this algorithm"
    )
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        choices=("mpi", "horovod", "simulated"),
        help="as given to run: leave this transport out",
    )
    parser.add_argument("--once", action="store_true", help="print the table once")
    a = parser.parse_args(argv)
    if not 0.1 <= a.every <= 3600:
        raise StudyError(f"--every must lie in 0.1..3600 seconds: got {a.every:g}")
    if a.folder.exists() and not a.folder.is_dir():
        raise StudyError(f"not a folder: {a.folder} (give the results folder: paceline watch runs/NAME)")
    from bench.progress import Watcher
    from bench.progress_table import table

    watcher = Watcher(a.folder, tuple(a.only), tuple(a.without))
    if a.once or not sys.stdout.isatty():
        progress = watcher.look(_now_s())
        if progress is None:
            raise StudyError(f"no study in {a.folder} yet (start one: paceline run STUDY --out {a.folder})")
        print("\n".join(table(progress)))
        return 0
    try:
        while not _draw(watcher, a.folder):
            time.sleep(a.every)
    except KeyboardInterrupt:
        print()
    return 0


def _draw(watcher: Watcher, folder: Path) -> bool:
    """Look, and draw in place; whether there is nothing more to wait for."""
    from bench.progress_table import table

    progress = watcher.look(_now_s())
    lines = table(progress) if progress else [f"waiting for a study in {folder} (Ctrl-C ends)"]
    size = shutil.get_terminal_size()
    if len(lines) >= size.lines:
        cut = len(lines) - size.lines + 2
        lines = [*lines[: size.lines - 3], f"  ... {cut} more lines (--once prints all)", lines[-1]]
    sys.stdout.write(CLEAR + "\n".join(line[: size.columns - 1] for line in lines) + "\n")
    sys.stdout.flush()
    return progress is not None and progress.ended


def _now_s() -> float:
    """Now, in the seconds in which file systems tell when a file was written."""
    return datetime.now(UTC).timestamp()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
