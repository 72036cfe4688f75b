"""The jobs of a study: how large and long they are, and their scripts."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.interruption import EXIT_CODE
from slurm.site import Site

SLACK, LEAST_MINUTES = 1.5, 10
"""A time limit is this many times what the runs are expected to take, and at least so long."""

START_S = 60.0
"""Reading data, building models, starting ranks."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One sbatch script.

    Attributes:
        name: study, and what it does.
        template: its name.
        command: what it runs.
        ranks: that it asks for.
        seconds: expected duration of each part.
        parts: tasks of the array; 1: no array.
        at_once: of them.
        after: names of the jobs that must have ended before, with Slurm's word for how (afterok, afterany).
    """

    name: str
    template: str
    command: tuple[str, ...]
    ranks: int = 1
    seconds: float = 0.0
    parts: int = 1
    at_once: int = 1
    after: tuple[tuple[str, str], ...] = ()

    def minutes(self, site: Site) -> int:
        """Time limit."""
        wanted = max(LEAST_MINUTES, math.ceil((self.seconds * SLACK + START_S + site.warn_s) / 60))
        return min(wanted, site.most_minutes)

    def node_hours(self, site: Site) -> float:
        """Expected use of all its parts."""
        return site.nodes(self.ranks) * self.parts * (self.seconds + START_S) / 3600


def plan(
    name: str,
    out: Path,
    study: str,
    ranks: int,
    expected_s: Sequence[float],
    site: Site,
    *,
    options: Sequence[str] = (),
    parts: int = 1,
    at_once: int = 1,
    calibrate_workers: int = 0,
) -> list[Job]:
    """The jobs of a study: perhaps a calibration, the runs, and the report.

    Args:
        name: of the study.
        out: results folder.
        study: file or name, as `paceline run` takes it.
        ranks: that the largest run needs.
        expected_s: of each part.
        options: of `paceline run`, handed on.
        parts, at_once: of an array over the runs.
        calibrate_workers: ranks of a calibration before; 0 for none.
    """
    paceline = (sys.executable, "-m", "paceline")
    data = ("--data-dir", site.data_dir) if site.data_dir else ()
    jobs: list[Job] = []
    after: tuple[tuple[str, str], ...] = ()
    if calibrate_workers:
        command = (*paceline, "calibrate", study, "-n", str(calibrate_workers), "-o", str(out / "cluster.toml"), *data)
        launcher = ("--launcher", site.launcher)
        jobs.append(
            Job(
                name=f"{name}-calibrate", template="plain.sbatch.j2", command=(*command, *launcher),
                ranks=calibrate_workers, seconds=300.0,
            )
        )  # fmt: skip
        after = ((jobs[0].name, "afterok"),)
    run = (*paceline, "run", study, "--out", str(out), "--launcher", site.launcher, *options, *data)
    jobs.append(
        Job(
            name=name, template="run.sbatch.j2", command=run, ranks=ranks, seconds=max(expected_s, default=0.0),
            parts=parts, at_once=at_once, after=after,
        )
    )  # fmt: skip
    jobs.append(
        Job(
            name=f"{name}-report", template="plain.sbatch.j2",
            command=(*paceline, "report", str(out), "-o", str(out / "report.html")), after=((name, "afterany"),),
        )
    )  # fmt: skip
    return jobs


def script(job: Job, site: Site, *, folder: Path, logs: Path) -> str:
    """The text of a job's script.

    Args:
        folder: where it runs.
        logs: folder of its output.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # shell, not HTML: what comes from outside is quoted
    )
    environment.filters["quote"] = shlex.quote
    own = site if job.ranks > 1 else replace(site, exclusive=False)
    return environment.get_template(job.template).render(
        job=job.name, logs=logs, minutes=job.minutes(site), nodes=site.nodes(job.ranks), ranks=job.ranks,
        parts=job.parts, at_once=job.at_once, site=own, folder=str(folder), command=job.command, exit_code=EXIT_CODE,
    )  # fmt: skip
