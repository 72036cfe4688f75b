"""The `paceline` command: a table of subcommands, each imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

# name -> (module, function, what it does)
COMMANDS = {
    "run": ("bench.cli", "main_run", "run a study: every algorithm on the same model, data and seeds"),
    "report": ("reports.cli", "main", "results folders -> one self-contained HTML comparison"),
    "watch": ("bench.watch", "main", "how far a study is, in the terminal, while it runs"),
    "compare": ("reports.compare.cli", "main", "what changed between two results folders; exit code for CI"),
    "export": ("reports.adapters.cli", "main", "results as ReFrame, MLPerf or pytest-benchmark read them"),
    "calibrate": ("bench.calibrate.cli", "main", "measure this cluster for the simulator"),
    "testbed": ("bench.testbed.cli", "main", "hosts with shaped links on this machine: a study over real networks"),
    "submit": ("slurm.cli", "main", "a study as Slurm jobs: runs, requeued when interrupted, and the report"),
    "predict": ("bench.predict_cli", "main", "a study in the simulator, on a calibrated network, at any size"),
    "advise": ("reports.advise.cli", "main", "which algorithm is best on a calibrated cluster, and how sure that is"),
    "reproduce": ("reports.reproduce.cli", "main", "a paper's study, its claims decided one by one, and the report"),
    "algorithms": ("bench.cli", "main_algorithms", "list the algorithms and their settings"),
    "workloads": ("bench.cli", "main_workloads", "list the workloads and their settings"),
    "probe": ("analysis.probes.cli", "main", "curvature, landscape and gradient noise of the models a study kept"),
    "theory": ("analysis.theory.cli", "main", "what the papers' formulas say, before anything is run"),
    "data": ("bench.data.cli", "main", "the published data sets: what is here, fetching, checking"),
    "doctor": ("bench.doctor", "main", "what is here, what is missing, and the remedy"),
}

TAKE_MANY = ("run", "calibrate", "doctor")
"""Commands that several processes may be, which a launcher started without MPI."""


def usage() -> str:
    """The help text."""
    lines = [f"  {name:12s}{what}" for name, (_, _, what) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: paceline COMMAND [options]",
            "",
            "Which way of training in parallel is best for my model on my network, and why?",
            "",
            *lines,
            "",
            "paceline COMMAND --help tells more.",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 well, 1 something failed, 2 what was asked cannot be done as given, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"paceline {version('paceline')}")
        return 0
    if argv[0] not in COMMANDS:
        import difflib

        close = difflib.get_close_matches(argv[0], COMMANDS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(COMMANDS)}"
        print(f"paceline: unknown command {argv[0]!r} ({hint})", file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[argv[0]]
    from bench.settings import StudyError

    try:
        if argv[0] not in TAKE_MANY:
            from bench.started import need_one

            need_one(argv[0])
        return int(getattr(import_module(module), function)(argv[1:]))
    except StudyError as error:
        print(f"paceline {argv[0]}: {' '.join(str(error).splitlines())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npaceline {argv[0]}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
