"""`paceline testbed`: run a study, any command, or a check on hosts with shaped links, all on this machine."""

from __future__ import annotations

import argparse
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.settings import StudyError, build
from bench.testbed.hindrances import host_and
from bench.testbed.settings import DELAYS_S, RATES_Gbit_per_s, Testbed, quantity


def main(argv: list[str]) -> int:
    """0 if all is well, 1 if something failed, 2 if it cannot be done here; the command's own code from exec."""
    parser = argparse.ArgumentParser(
        prog="paceline testbed",
        description="Hosts from network namespaces, with links of a set rate and delay, on this machine. They end with "
        "the command, however it ends.",
    )
    commands = parser.add_subparsers(dest="what", required=True, metavar="run | check | exec")
    run = commands.add_parser(
        "run", allow_abbrev=False, help="run a study on the hosts, as paceline run does, and check the bytes"
    )
    run.add_argument("study", help="a TOML file, or the name of a study that Paceline ships")
    run.add_argument(
        "--out", type=Path, help="results folder (default: runs/NAME-RATE); other options are paceline run's"
    )
    check = commands.add_parser("check", help="measure the links: payload rate and round trip against what was set")
    check.add_argument("--seconds", type=float, default=2.0, help="for each figure (2)")
    execute = commands.add_parser("exec", help="run any command in the bed, such as mpirun or paceline calibrate")
    execute.add_argument("command", nargs="+", metavar="COMMAND", help="after --")
    for command in (run, check, execute):
        add_options(command)
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.what != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    given = _given(arguments)
    if arguments.what == "run":
        from bench.testbed.study import run_study

        raw = _of_file(arguments.study)
        bed = testbed({**raw.get("testbed", {}), **given})
        name = raw.get("name", "study")
        return run_study(bed, arguments.study, arguments.out or Path("runs") / f"{name}-{bed.suffix}", rest)
    if arguments.what == "check":
        from bench.testbed.check import check_links

        return check_links(replace(testbed({"hosts": 2} | given), ranks_per_host=1), arguments.seconds)
    from bench.testbed.enter import enter

    return enter(testbed(given), arguments.command)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What a bed is."""
    parser.add_argument("--hosts", type=int, help="how many hosts")
    parser.add_argument("--delay", metavar="TIME", help="one way between any two hosts, such as 5ms (none)")
    parser.add_argument("--ranks-per-host", type=int, metavar="K", help="ranks on each host (1)")
    add_links(parser)


def add_links(parser: argparse._ActionsContainer) -> None:
    """What its links are like, and what hinders it."""
    parser.add_argument("--rate", metavar="RATE", help="of each link, each way, such as 100mbit or 1gbit")
    for option, form, what in (
        ("--slow-host", "HOST=FACTOR", "its ranks get 1/FACTOR of a core each, such as 3=6"),
        ("--thin-link", "HOST=RATE", "its link's own rate, such as 2=10mbit"),
        ("--outage", "HOST=FROM..TO", "its link is down then, in each run, such as 1=5s..8s"),
    ):
        parser.add_argument(option, action="append", default=[], metavar=form, help=what)


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the bed."""
    given = given_links(arguments)
    if arguments.hosts is not None:
        given["hosts"] = arguments.hosts
    if arguments.ranks_per_host is not None:
        given["ranks_per_host"] = arguments.ranks_per_host
    if arguments.delay is not None:
        given["delay_s"] = quantity(arguments.delay, DELAYS_S, "--delay", "5ms") if arguments.delay != "0" else 0.0
    return given


def given_links(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the command line says of the rate, slow hosts, thin links and outages."""
    given: dict[str, Any] = {}
    if arguments.rate is not None:
        given["rate_Gbit_per_s"] = quantity(arguments.rate, RATES_Gbit_per_s, "--rate", "100mbit or 1gbit")
    for text in arguments.slow_host:
        host, factor = host_and(text, "--slow-host", "3=6")
        try:
            given.setdefault("slow_host", {})[host] = float(factor)
        except ValueError:
            raise StudyError(f"--slow-host: expected a number behind {host}=, such as 3=6: got {text!r}") from None
    for text in arguments.thin_link:
        host, rate = host_and(text, "--thin-link", "2=10mbit")
        given.setdefault("thin_link", {})[host] = quantity(rate, RATES_Gbit_per_s, "--thin-link", "2=10mbit")
    for text in arguments.outage:
        host, times = host_and(text, "--outage", "1=5s..8s")
        from_s, dots, to_s = times.partition("..")
        if not dots:
            raise StudyError(f"--outage: expected two times with .. between, such as 1=5s..8s: got {text!r}")
        begins, ends = (quantity(t, DELAYS_S, "--outage", "1=5s..8s") for t in (from_s, to_s))
        given.setdefault("outage", []).append({"host": int(host), "from_s": begins, "to_s": ends})
    return given


def testbed(given: dict[str, Any]) -> Testbed:
    """The settings.

    Raises:
        StudyError: they cannot be used, or hosts or rate are missing.
    """
    for key, option in (("hosts", "--hosts 4"), ("rate_Gbit_per_s", "--rate 1gbit")):
        if key not in given:
            raise StudyError(f"{option.split()[0]} is missing: say it on the command line ({option}) or in [testbed]")
    return build(Testbed, given, "testbed")


def _of_file(study: str) -> dict[str, Any]:
    """The study file's table: its [testbed] says what the command line does not."""
    from bench.study import find

    try:
        return tomllib.loads(find(study).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}  # reading the study says what is wrong with it


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
