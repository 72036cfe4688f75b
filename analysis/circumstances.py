"""What else differs between two sets of runs: how they ended, their settings, and the machine and code they ran on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.summary import KEYS
from bench.records import STATUSES

SETTINGS = (
    "algorithm",
    "budget_s",
    "budget_steps",
    "batch_size",
    "parameters",
    "target_loss",
    "evaluated_model",
    "gradients",
    "device",
)
JSON_SETTINGS = {"settings": "", "workload_settings": "workload.", "network": "network."}
"""Column -> what its names begin with."""

OF_A_SEED = {"initial_hash": "initial parameters", "first_batch_hash": "first mini-batch"}
"""Equal for runs of one seed, unless the model, its start or the data's order have changed."""

OF_A_RUN = ("command", "ranks", "energy", "paths", "pids", "threads")
"""Parts of the provenance that differ from run to run, or are recorded elsewhere."""

OF_A_LAUNCH = ("environment.OMPI_MCA_initial_wdir",)
"""Where somebody stood when the study was started changes nothing."""

NOT_STATED = "not stated"
Key = tuple[Any, ...]


def statuses(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """How the runs of each cell ended, before and after.

    Args:
        old: rows of `bench.records.RUNS`.
        new: the same after.

    Returns:
        One row per cell of either: `KEYS`, `n_old`, `n_new` (runs), `old`, `new` (such as "2 completed, 1 crashed"),
        and `word`: "same"; "worse" or "better", by the share of runs that completed, then of those that completed or
        diverged; "only in OLD"; "only in NEW".

    Source: the statuses of `bench.records`.

    Example:
        >>> runs = pd.DataFrame({"study": "s", "workload": "w", "workers": 2, "transport": "mpi", "label": "a",
        ...     "status": ["completed", "completed"]})
        >>> after = runs.assign(status=["completed", "diverged"])
        >>> statuses(runs, after)[["old", "new", "word"]].to_numpy().tolist()
        [['2 completed', '1 completed, 1 diverged', 'worse']]
    """
    before, after = _by_cell(old), _by_cell(new)
    rows = []
    for key in sorted(before.keys() | after.keys()):
        a, b = before.get(key), after.get(key)
        rows.append(
            {
                **dict(zip(KEYS, key, strict=True)),
                "n_old": 0 if a is None else len(a),
                "n_new": 0 if b is None else len(b),
                "old": _counts(a),
                "new": _counts(b),
                "word": _word(a, b),
            }
        )
    return pd.DataFrame(rows, columns=[*KEYS, "n_old", "n_new", "old", "new", "word"])


def settings(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The settings that are not the same before and after, of the cells that both have.

    Seeds count as a setting; so do the hashes of the start and of the first mini-batch, of the seeds that both have.

    Args:
        old: rows of `bench.records.RUNS`.
        new: the same after.

    Returns:
        One row per cell and setting: `KEYS`, `setting`, `old`, `new` as text.

    Source: the columns of `bench.records.RUNS`.

    Example:
        >>> runs = pd.DataFrame({"study": "s", "workload": "w", "workers": 2, "transport": "mpi", "label": "a",
        ...     "seed": [0], "settings": '{"period": 4}'})
        >>> settings(runs, runs.assign(settings='{"period": 8}'))[["setting", "old", "new"]].to_numpy().tolist()
        [['period', '4', '8']]
    """
    before, after = _by_cell(old), _by_cell(new)
    rows = []
    for key in sorted(before.keys() & after.keys()):
        for name, a, b in _different(_settings_of(before[key]), _settings_of(after[key])):
            if name in SETTINGS and NOT_STATED in (a, b):
                continue  # tables written before there was the column: nothing is known to differ
            rows.append({**dict(zip(KEYS, key, strict=True)), "setting": name, "old": a, "new": b})
        for column, title in OF_A_SEED.items():
            if seeds := _other_hashes(before[key], after[key], column):
                text = f"another with seed {', '.join(map(str, seeds))}"
                rows.append({**dict(zip(KEYS, key, strict=True)), "setting": title, "old": "one", "new": text})
    return pd.DataFrame(rows, columns=[*KEYS, "setting", "old", "new"])


def environment(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """What of the code, the libraries and the machine is not the same before and after.

    Args:
        old: rows of `bench.records.RUNS`.
        new: the same after.

    Returns:
        One row per fact of the provenance: `fact`, `old`, `new` as text; several values of one side are all told.

    Source: the provenance of `bench.records.RUNS`.

    Example:
        >>> runs = pd.DataFrame({"provenance": ['{"commit": "abc", "versions": {"torch": "2.13"}}'], "device": "cpu"})
        >>> environment(runs, runs.assign(provenance='{"commit": "def", "versions": {"torch": "2.13"}}'))
             fact  old  new
        0  commit  abc  def
    """
    found = _different(_environment_of(old), _environment_of(new))
    return pd.DataFrame([{"fact": name, "old": a, "new": b} for name, a, b in found], columns=["fact", "old", "new"])


def _by_cell(runs: pd.DataFrame) -> dict[Key, pd.DataFrame]:
    return {tuple(key): group for key, group in runs.groupby(list(KEYS), sort=True, observed=True)}


def _counts(runs: pd.DataFrame | None) -> str:
    if runs is None:
        return "none"
    return ", ".join(f"{n} {status}" for status in STATUSES if (n := int((runs["status"] == status).sum())))


def _word(old: pd.DataFrame | None, new: pd.DataFrame | None) -> str:
    if old is None or new is None:
        return "only in NEW" if old is None else "only in OLD"
    before, after = (
        tuple(float(runs["status"].isin(good).mean()) for good in (["completed"], ["completed", "diverged"]))
        for runs in (old, new)
    )
    return "same" if before == after else "worse" if after < before else "better"


Facts = dict[str, set[str]]
"""Name -> the values that runs have, as text."""


def _settings_of(runs: pd.DataFrame) -> Facts:
    facts: Facts = {"seeds": {", ".join(str(seed) for seed in sorted(set(runs["seed"])))}}
    # A run that ended early does not know its sizes: "not known" is no setting.
    for name in (name for name in SETTINGS if name in runs):
        facts[name] = {_text(value) for value in runs[name].tolist()} - {"nan", "-1", ""}
    for column, prefix in JSON_SETTINGS.items():
        for text in runs.get(column, ()):
            _collect(facts, _read(text), prefix)
    return facts


def _environment_of(runs: pd.DataFrame) -> Facts:
    facts: Facts = {}
    for text in runs["provenance"]:
        given = _read(text)
        _collect(facts, {name: value for name, value in given.items() if name not in OF_A_RUN})
        ranks = given.get("ranks")
        for rank in ranks if isinstance(ranks, list) else ():
            if isinstance(rank, Mapping) and "host" in rank:
                facts.setdefault("hosts", set()).add(str(rank["host"]))
    facts["device"] = set(runs["device"]) - {""}
    return {name: values for name, values in facts.items() if name not in OF_A_LAUNCH}


def _collect(facts: Facts, given: Mapping[str, Any], prefix: str = "") -> None:
    for name, value in _flat(given, prefix):
        facts.setdefault(name, set()).add(value)


def _read(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _flat(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _text(inner)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _different(old: Facts, new: Facts) -> Iterator[tuple[str, str, str]]:
    """Name and values of what is not the same; what only one side records is told too, as "not stated"."""
    for name in sorted(old.keys() | new.keys()):
        a, b = old.get(name, set()), new.get(name, set())
        if a != b:
            yield name, " or ".join(sorted(a)) or NOT_STATED, " or ".join(sorted(b)) or NOT_STATED


def _other_hashes(old: pd.DataFrame, new: pd.DataFrame, column: str) -> list[int]:
    """Seeds whose runs have another hash after than before."""
    if column not in old or column not in new:
        return []

    def known(runs: pd.DataFrame) -> dict[int, set[str]]:
        there = runs[runs[column] != ""]
        return {int(str(seed)): set(group) for seed, group in there.groupby("seed", sort=True)[column]}

    a, b = known(old), known(new)
    return sorted(seed for seed in a.keys() & b.keys() if a[seed] != b[seed])
