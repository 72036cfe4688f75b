"""A share of the processor for a host: a cgroup with a quota, where one may be made.

The quota is the kernel's own (Turner, Rao, Rao: CPU bandwidth control for CFS, Linux Symposium 2010): in each period
the host's processes run for so long together, then none of them until the next. Steps that are much shorter than the
period do not feel it in their median, but in their mean.

A cgroup is no part of a namespace and would stay when the bed is killed. So a process of its own, outside the bed,
waits for the end of who made the bed, and then removes it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

PERIOD_S = 12e-3
"""Short beside a gradient, long beside the kernel's slices of 1 to 4 ms."""
LEAST_S = 1e-3
"""The kernel takes no quota below; a smaller share needs a longer period."""
CGROUPS = Path("/sys/fs/cgroup")
REMOVE = 'read -r end; n=0; until rmdir "$@" 2>/dev/null || [ $n -ge 100 ]; do sleep 0.05; n=$((n + 1)); done'
"""Ends with the stream that it reads, and waits up to 5 s for the cgroups' processes to end."""


def make(shares: Mapping[str, float]) -> dict[str, str]:
    """A cgroup's folder for each host, with a quota of that many cores; {} where none may be made.

    Args:
        shares: number of a host -> cores.
    """
    for version, parent in ((1, CGROUPS / "cpu"), (2, CGROUPS)):
        made: dict[str, Path] = {}
        try:
            for host, cores in shares.items():
                folder = parent / f"paceline-{os.getpid()}-host{host}"
                folder.mkdir()
                made[host] = folder
                for name, value in settings(version, cores).items():
                    (folder / name).write_text(value)
        except OSError:
            for folder in made.values():
                with suppress(OSError):
                    folder.rmdir()
        else:
            return {host: str(folder) for host, folder in made.items()}
    return {}


def settings(version: int, cores: float) -> dict[str, str]:
    """What to write into a cgroup's files, by name.

    Example:
        >>> settings(1, 1 / 6), settings(2, 0.01)
        ({'cpu.cfs_period_us': '12000', 'cpu.cfs_quota_us': '2000'}, {'cpu.max': '1000 100000'})
    """
    period_us = round(1e6 * max(PERIOD_S, LEAST_S / cores))
    quota_us = round(period_us * cores)
    if version == 1:
        return {"cpu.cfs_period_us": str(period_us), "cpu.cfs_quota_us": str(quota_us)}
    return {"cpu.max": f"{quota_us} {period_us}"}


def remove_at_our_end(folders: Iterable[str]) -> subprocess.Popen[bytes]:
    """Starts what removes cgroups when their processes and this one have ended, in whatever way. Keep the value."""
    return subprocess.Popen(
        ["sh", "-c", REMOVE, "sh", *folders],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def procs(folder: str) -> str:
    """The file of a cgroup by which a process joins it: it writes 0."""
    return f"{folder}/cgroup.procs"
