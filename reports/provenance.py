"""Where the runs come from, what differs between them that should not, and the commands that repeat them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from reports import words
from reports.answer_where import hosts_of
from reports.conditions import loaded
from reports.language import noted, t
from reports.runs import nested

OF_ONE_RUN = ("paths", "pids", "ranks", "energy", "command", "environment", "hosts", "slurm", "collectives")
"""Keys of the provenance that are each run's own, or stand elsewhere; they are no warning where they differ."""
FEW = 6
"""Budgets or seeds that are listed; of more the first and the last."""

NAMES = {
    "commit": noted("commit"),
    "uncommitted_changes": noted("uncommitted changes"),
    "diff_hash": noted("uncommitted changes"),
    "mpi": noted("MPI library"),
    "mpi.library": noted("MPI library"),
    "platform": noted("operating system"),
    "cores": noted("processor cores"),
    "gpu": noted("GPU"),
}


def provenance(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """For each study: what its runs have in common, and what differs between them."""
    return [_of_study(str(study), group) for study, group in runs.groupby("study", sort=True)]


def _of_study(study: str, runs: pd.DataFrame) -> dict[str, Any]:
    each = [loaded(str(text)) for text in runs["provenance"]]
    texts = [{k: v for k, v in nested(str(text)) if k != "paths"} for text in runs["provenance"]]
    same = [(key, value) for key, value in texts[0].items() if all(one.get(key) == value for one in texts)]
    others = sorted({key for one in texts for key in one} - {key for key, _ in same})
    return {
        "study": study,
        "runs": words.plural(len(runs), "run"),
        "facts": [(t(name), value) for name, value in _facts(runs, each) if value],
        "commands": _commands(each),
        "pairs": same,
        "slurm": sorted(_slurm(each).items()),
        "differs": words.commas(others),
        "warnings": _differences(each),
    }


def _facts(runs: pd.DataFrame, each: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """What a reader asks first."""
    yield noted("commit"), _commits(each)
    yield noted("versions"), _versions(each)
    yield noted("MPI library"), _distinct(_mpi(one) for one in each)
    yield noted("hosts"), _distinct(words.commas(hosts_of(one)) for one in each)
    yield noted("processor cores of a host"), _distinct(one.get("cores") for one in each)
    yield noted("devices"), _distinct(runs["device"])
    yield noted("GPU"), _distinct(rank.get("gpu") for one in each for rank in _ranks(one))
    yield noted("transports"), words.listed([words.transport(on) for on in sorted(runs["transport"].unique())])
    yield noted("seeds"), _short([str(seed) for seed in sorted(runs["seed"].unique())])
    yield noted("budget of a run"), _short(_budgets(runs))
    first, last = str(runs["started_utc"].min()), str(runs["started_utc"].max())
    yield noted("started (UTC)"), first if first == last else t("{low} to {high}", low=first, high=last)
    yield noted("clocks of the ranks"), _clocks(runs)


def _commits(each: Sequence[Mapping[str, Any]]) -> str:
    found = []
    for one in each:
        commit, changed = str(one.get("commit") or ""), one.get("uncommitted_changes") or one.get("diff_hash")
        if commit:
            found.append(t("{commit} with uncommitted changes", commit=commit) if changed else commit)
    return _distinct(found)


def _versions(each: Sequence[Mapping[str, Any]]) -> str:
    """Every version that a run had; where runs differ, all of a package's."""
    found: dict[str, set[str]] = {}
    for one in each:
        versions = one.get("versions")
        for name, version in versions.items() if isinstance(versions, dict) else ():
            found.setdefault(str(name), set()).add(str(version))
    return words.commas([f"{name} {'/'.join(sorted(versions))}" for name, versions in found.items()])


def _mpi(one: Mapping[str, Any]) -> str:
    mpi = one.get("mpi")
    return str(mpi.get("library", "")) if isinstance(mpi, dict) else str(mpi or "")


def _ranks(one: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    ranks = one.get("ranks")
    return [rank for rank in ranks if isinstance(rank, dict)] if isinstance(ranks, list) else []


def _clocks(runs: pd.DataFrame) -> str:
    measured = runs[~runs["simulated"].astype(bool)]
    if measured.empty or measured["clock_error_s"].isna().all():
        return ""
    return t(
        "offsets of at most {offset} us removed; an error of at most {error} us may be left",
        offset=words.number(1e6 * float(measured["clock_offset_s"].max())),
        error=words.number(1e6 * float(measured["clock_error_s"].max())),
    )


def _budgets(runs: pd.DataFrame) -> list[str]:
    pairs = sorted(set(zip(runs["budget_s"].fillna(-1.0), runs["budget_steps"], strict=True)))
    return [words.seconds(limit) if limit >= 0 else words.plural(int(steps), "step") for limit, steps in pairs]


def _commands(each: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted({str(one[key]) for one in each for key in ("command", "command_line", "argv") if key in one})


def _slurm(each: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """SLURM's variables, with every value that they had."""
    found: dict[str, set[str]] = {}
    for one in each:
        for place in (one.get("environment"), one.get("slurm")):
            for name, value in place.items() if isinstance(place, dict) else ():
                if place is not one.get("environment") or str(name).startswith("SLURM"):
                    found.setdefault(str(name), set()).add(str(value))
    return {name: words.commas(sorted(values)) for name, values in found.items()}


def _differences(each: Sequence[Mapping[str, Any]]) -> list[str]:
    """One sentence for each thing that should be equal in all runs that have it, and is not."""
    found: dict[str, dict[str, int]] = {}
    for one in each:
        flat = dict(_flat({key: value for key, value in one.items() if key not in OF_ONE_RUN}))
        hosts = words.commas(hosts_of(one))
        for name, value in [*flat.items(), *([("hosts", hosts)] if hosts else [])]:
            counts = found.setdefault(name, {})
            counts[value] = counts.get(value, 0) + 1
    return [
        t(
            "{what}: {values}",
            what=t(NAMES.get(name, name)),
            values=words.commas(
                [f"{value or t('none')} ({words.plural(n, 'run')})" for value, n in sorted(own.items())]
            ),
        )
        for name, own in sorted(found.items())
        if len(own) > 1
    ]


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Leaves of a nested table as (dotted name, text)."""
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", "" if value is None else str(value)


def _distinct(values: Any) -> str:
    return "; ".join(sorted({str(value) for value in values if not _nothing(value)}))


def _nothing(value: Any) -> bool:
    return value in ("", None) or (isinstance(value, float) and math.isnan(value))


def _short(values: Sequence[str]) -> str:
    return words.listed(values) if len(values) <= FEW else words.commas([values[0], values[1], "...", values[-1]])
