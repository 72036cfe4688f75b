"""`paceline data`: which data sets there are, what is here of them, their licences; fetching and checking them."""

from __future__ import annotations

import argparse
import importlib.util

from bench.data.catalogue import SETS, dataset
from bench.data.dataset import DataSet, State
from bench.data.files import DataError, data_dir, use_folder
from bench.settings import StudyError

ACTIONS = ("list", "fetch", "check")


def main(argv: list[str]) -> int:
    """List, fetch or check data sets: 0 if all is well, 1 if something is corrupt (or a named set is not complete)."""
    parser = argparse.ArgumentParser(
        prog="paceline data",
        description="The published data sets that workloads read: what is here, how to get the rest, and its licence.",
        epilog="The folder is --data-dir, else PACELINE_DATA, else paceline/data in the user's cache folder.",
    )
    parser.add_argument(
        "words", nargs="*", metavar="[list | fetch | check] [NAME ...]",
        help="list (the default): what there is; fetch: get what is missing or corrupt; check: compute every hash; "
        "of these data sets (default: all)",
    )  # fmt: skip
    parser.add_argument("--data-dir", metavar="DIR", help="the folder with the data sets")
    arguments = parser.parse_intermixed_args(argv)
    words = list(arguments.words)
    action = words.pop(0) if words and words[0] in ACTIONS else "list"
    chosen = [dataset(name) for name in dict.fromkeys(words)] or list(SETS.values())
    if arguments.data_dir is not None:
        use_folder(arguments.data_dir, create=action == "fetch")
    if action == "fetch":
        return _fetch(chosen)
    if action == "check":
        return _check(chosen, named=bool(words))
    return _list(chosen)


def _list(chosen: list[DataSet]) -> int:
    users = _users()
    print(f"data folder: {data_dir()}{'' if data_dir().is_dir() else ' (not there yet)'}")
    corrupt = False
    for each in chosen:
        states = _states(each, thorough=False)
        corrupt = corrupt or any(state.kind == "corrupt" for state in states.values())
        print(f"\n{each.name}: {each.title}, {each.what}")
        print(f"    licence   {each.licence}")
        print(f"    from      {each.homepage}")
        print(f"    used by   {', '.join(users.get(each.name, [])) or 'no workload'}")
        for name, state in states.items():
            print(f"    {_line(name, state)}")
        if any(state.kind != "present" for state in states.values()):
            print(f"    get it    paceline data fetch {each.name}, or put the files into {each.folder()}")
    return 1 if corrupt else 0


def _check(chosen: list[DataSet], *, named: bool) -> int:
    bad = False
    for each in chosen:
        states = _states(each, thorough=True)
        for name, state in states.items():
            print(f"{each.name:14s}{state.kind:9s}{state.path or name}: {state.detail}")
            bad = bad or state.kind == "corrupt" or (named and state.kind == "missing")
    return 1 if bad else 0


def _fetch(chosen: list[DataSet]) -> int:
    from bench.data.fetch import fetch

    if importlib.util.find_spec("pooch") is None:
        raise DataError("fetching needs pooch, which is not installed (pip install pooch)")
    failed: list[DataError] = []
    for each in chosen:
        try:
            new = fetch(each, lambda line: print(line, flush=True))
        except DataError as error:
            if len(chosen) == 1:
                raise
            print(f"failed: {error}", flush=True)
            failed.append(error)
            continue
        print(f"{each.name}: {f'{len(new)} new in {each.folder()}' if new else 'complete, nothing to get'}", flush=True)
    return 1 if failed else 0


def _states(each: DataSet, *, thorough: bool) -> dict[str, State]:
    return {file.name: each.state(file, thorough=thorough) for file in each.files}


def _line(name: str, state: State) -> str:
    if state.kind == "present":
        return f"present   {_shown(state)}: {state.detail}"
    return f"missing   {name}: {state.detail}" if state.kind == "missing" else f"corrupt   {state.path}: {state.detail}"


def _shown(state: State) -> str:
    """Where a file is, below the data folder."""
    assert state.path is not None
    return str(state.path.relative_to(data_dir()))


def _users() -> dict[str, list[str]]:
    """Workloads by the data set that they read. One of another package that cannot be loaded is left out."""
    from bench.workloads.registry import NAMES, known, settings_class

    users: dict[str, list[str]] = {}
    for name in known():
        try:
            reads = NAMES[name].data if name in NAMES else getattr(settings_class(name), "data", ())
        except StudyError:
            continue
        for each in reads:
            users.setdefault(each, []).append(name)
    return users
