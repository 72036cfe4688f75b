"""Whether this process runs in a bed, what that is, and what the bed is told of it."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
from collections.abc import Mapping
from typing import Any

from bench.settings import build
from bench.testbed.settings import Testbed

VARIABLE = "PACELINE_TESTBED"
"""In the environment of all that runs in a bed: JSON of what `bench.testbed.facts` says of it."""
CLOCKS = "/dev/shm/paceline-testbed/clocks"
"""A socket at which a bed with outages is told where a run's clock stands; on all hosts."""


def facts(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """What the provenance says of the bed; {} outside one."""
    told: dict[str, Any] = json.loads(environment.get(VARIABLE) or "{}")
    return told


def testbed(environment: Mapping[str, str] = os.environ) -> Testbed | None:
    """The bed's settings; None outside one."""
    told = facts(environment)
    names = {field.name for field in dataclasses.fields(Testbed)}
    return build(Testbed, {k: v for k, v in told.items() if k in names}, "testbed") if told else None


def tell(elapsed_s: float | None) -> None:
    """Tell a bed with outages that a run's clock stands here now [s], or, None, that its timed part has ended."""
    if facts().get("outage"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
            said.sendto(json.dumps(elapsed_s).encode(), CLOCKS)
