"""A small study whose models are kept, for the tests of probes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import paceline
from tests.support.lanes import one_lane

STUDY = """
name = "probed"
seeds = [0]
workers = [3]
transports = ["simulated"]
save = "replicas"
budget = { seconds = 3, snapshots = 2 }

[[workload]]
name = "digits-mlp"
width = 8
"""


def probed_study(folder: Path, algorithms: Sequence[str]) -> Path:
    """Run it in a folder; the results folder."""
    file = folder / "study.toml"
    file.write_text(STUDY + "".join(f'\n[[algorithm]]\nname = "{name}"\n' for name in algorithms))
    with one_lane():
        assert paceline.main(["run", str(file), "--out", str(folder / "out")]) == 0
    return folder / "out"
