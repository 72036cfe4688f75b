"""`paceline submit`: a study as batch jobs."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

from bench.settings import StudyError
from slurm.site import Site

PLAIN = re.compile(r"[\w./+:@,=-]*")
"""What may stand in an #SBATCH line without being quoted."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="paceline submit",
        description="Run a study as Slurm jobs: its runs as one job or an array, then its report. A job that is "
        "interrupted by its time limit or by preemption goes back into the queue and goes on.",
    )
    p.add_argument("study", help="a TOML file, or the name of a study that Paceline ships")
    p.add_argument("--site", default="generic", help="slurm/sites/NAME.toml, or a file (%(default)s)")
    p.add_argument("-n", "--workers", type=int, action="append", help="number of workers, instead of the file's")
    p.add_argument("--out", type=Path, help="results folder (default: runs/NAME)")
    p.add_argument("--only", action="append", default=[], metavar="NAME", help="only this algorithm (may be repeated)")
    p.add_argument(
        "--without", action="append", default=[], choices=("mpi", "horovod", "simulated"), help="leave a transport out"
    )
    p.add_argument("--array", type=int, default=1, metavar="N", help="N jobs that share the runs (1)")
    p.add_argument("--at-once", type=int, metavar="K", help="of an array, at most K at once (default: all)")
    p.add_argument("--calibrate-first", action="store_true", help="a job before that measures the cluster")
    p.add_argument("--dry-run", action="store_true", help="show the scripts and the node-hours, and stop")
    return p


def main(argv: list[str]) -> int:
    """Submit: 0 if all jobs are in the queue, 1 if Slurm refused one, 2 if the study or the site cannot be used."""
    arguments = parser().parse_args(argv)
    from bench import study
    from bench.cli import budget_s, check_out, part_of
    from slurm import jobs
    from slurm.site import read

    site = read(arguments.site)
    loaded = study.read(
        study.find(arguments.study),
        workers=tuple(arguments.workers or ()),
        only=tuple(arguments.only),
        without=tuple(arguments.without),
    )
    cells = list(loaded.cells())
    at_once = arguments.array if arguments.at_once is None else arguments.at_once
    for option, value in (("--array", arguments.array), ("--at-once", at_once)):
        if not 1 <= value <= len(cells):
            raise StudyError(f"{option}: must lie in 1..{len(cells)}, the number of runs: got {value}")
    out = (arguments.out or Path("runs") / loaded.table.name).absolute()
    check_out(out)
    logs = out / "slurm"
    if not PLAIN.fullmatch(str(logs)):
        raise StudyError(f"--out: sbatch takes no such characters in the name of a log file: got {out}")
    options = [
        *(word for n in arguments.workers or () for word in ("-n", str(n))),
        *(word for name in arguments.only for word in ("--only", name)),
        *(word for name in arguments.without for word in ("--without", name)),
    ]
    parts = [sum(map(budget_s, part_of(cells, f"{k + 1}/{arguments.array}"))) for k in range(arguments.array)]
    found = Path(arguments.study)
    planned = jobs.plan(
        loaded.table.name, out, str(found.absolute()) if found.is_file() else arguments.study,
        max(cell.ranks if cell.transport != "simulated" else 1 for cell in cells), parts, site, options=options,
        parts=arguments.array, at_once=at_once,
        calibrate_workers=max(loaded.table.workers) if arguments.calibrate_first else 0,
    )  # fmt: skip
    scripts = {job.name: jobs.script(job, site, folder=Path.cwd(), logs=logs) for job in planned}
    if arguments.dry_run:
        for job in planned:
            print(f"# ---- {job.name}: {_size(job, site)}\n{scripts[job.name]}")
        print(f"# {len(planned)} jobs, about {sum(job.node_hours(site) for job in planned):.2f} node-hours in all")
        return 0
    if which("sbatch") is None:
        raise StudyError("no sbatch found: call this where Slurm is (or --dry-run to see the scripts)")
    logs.mkdir(parents=True, exist_ok=True)
    ids: dict[str, str] = {}
    for job in planned:
        path = logs / f"{job.name}.sbatch"
        path.write_text(scripts[job.name], encoding="utf-8")
        after = []
        if job.after:  # without the second option, a job whose dependency has failed waits for ever
            wanted = ",".join(f"{how}:{ids[name]}" for name, how in job.after)
            after = [f"--dependency={wanted}", "--kill-on-invalid-dep=yes"]
        done = subprocess.run(["sbatch", "--parsable", *after, str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            said = " ".join(done.stderr.split())
            print(f"paceline submit: sbatch refused {job.name}: {said} (its script: {path})", file=sys.stderr)
            return 1
        ids[job.name] = done.stdout.strip().partition(";")[0]
        (logs / "jobs.json").write_text(json.dumps(ids, indent=2) + "\n", encoding="utf-8")
        print(f"job {ids[job.name]}: {job.name}, {_size(job, site)}")
    print(f"logs:    {logs}\nlook:    paceline watch {out}\nreport:  {out / 'report.html'}, when all have ended")
    return 0


def _size(job: object, site: Site) -> str:
    from slurm.jobs import Job

    assert isinstance(job, Job)
    tasks = f"{job.parts} parts, {job.at_once} at once, each " if job.parts > 1 else ""
    nodes = site.nodes(job.ranks)
    return (
        f"{tasks}{job.ranks} ranks on {nodes} node{'s' if nodes > 1 else ''}, at most {job.minutes(site)} min, "
        f"about {job.node_hours(site):.2f} node-hours"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
