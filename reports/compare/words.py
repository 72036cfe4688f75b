"""The comparison as text for a terminal, at most 100 columns wide."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from analysis.summary import KEYS
from reports.compare.conditions import Judged
from reports.compare.found import Found
from reports.words import NOTHING, TRANSPORTS, number, plural, short

WIDTH = 100
HEADLINES = ("time_to_target_s", "final_heldout_loss", "samples_per_s", "wire_nbytes_per_sample", "staleness_mean")
"""The numbers that are shown without `--all`."""

MOST = 12
"""Lines of a list; of more only how many."""

HEADER = ("algorithm", "number", "old", "new", "change", "interval", "")


def text(found: Found, *, everything: bool = False) -> str:
    """The whole comparison.

    Args:
        everything: all numbers, not only `HEADLINES` and those that conditions ask about.
    """
    # Names come from outside: what would steer a terminal comes out as a mark.
    return "\n".join(
        "".join(c if c.isprintable() else "?" for c in line).rstrip() for line in _lines(found, everything)
    )


def _lines(found: Found, everything: bool) -> Iterator[str]:
    for which, (name, runs, commit) in (("OLD", found.old), ("NEW", found.new)):
        yield f"{which}  {name}  ({', '.join(part for part in (plural(runs, 'run'), commit) if part)})"
    yield from _differing(found)
    wanted = {*HEADLINES, *(judged.condition.number for judged in found.judged)}
    shown = found.changes if everything else found.changes[found.changes["number"].isin(wanted)]
    for key, group in shown.groupby(list(KEYS[:-1]), sort=True, observed=True):
        yield ""
        yield setting_of(dict(zip(KEYS, key, strict=False)))
        yield _row(*HEADER)
        before = ""
        for row in _records(group):
            label = str(row["label"])
            yield _row(label if label != before else "", *cells(row))
            before = label
    yield ""
    everything_there, better, worse = tally(found)
    yield f"Of {plural(everything_there, 'headline number')}, {len(better)} are shown to be better, {len(worse)} worse."
    yield from _how(found, shown)
    for judged in found.judged:
        yield from _judged(judged)


def tally(found: Found) -> tuple[int, list[dict[str, Any]], list[dict[str, Any]]]:
    """How many headline numbers there are, and the changes of those shown to be better, and worse."""
    rows = _records(found.changes[found.changes["number"].isin(HEADLINES)])
    better, worse = ([row for row in rows if row["word"] == word] for word in ("better", "worse"))
    return len(rows), better, worse


def _how(found: Found, listed: pd.DataFrame) -> Iterator[str]:
    """How the table is to be read."""
    kinds = [how for how in dict.fromkeys(listed["interval"]) if how != "none"]
    if kinds:
        yield from textwrap.wrap(f"Intervals: {'; '.join(kinds)}.", WIDTH)
    if not (found.changes[["n_old", "n_new"]].min(axis=1) >= 2).any():
        yield "One run is no evidence: nothing can be shown to have changed (run 3 seeds or more of each)."
    hidden = found.changes[found.changes["shown"] & ~found.changes.index.isin(listed.index)]
    if len(hidden):
        yield f"Numbers that are not listed here: {plural(len(hidden), 'change')} shown (--all lists them)."
    luck = found.changes["chance"].max()
    if luck > 0.05:
        yield f"By luck alone, what did not change looks changed up to once in {1 / luck:.0f} times: run more seeds."


def setting_of(row: Mapping[str, Any]) -> str:
    """Study, workload, workers and transport in words."""
    on = str(row["transport"])
    return f"{row['study']}, {row['workload']}, {plural(int(row['workers']), 'worker')}, {TRANSPORTS.get(on, on)}"


def cells(row: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    """One change: number, old, new, change, interval, word."""
    ratio = row["measure"] == "ratio new/old"
    kind = "ratio" if ratio else "difference"
    value, low, high = (float(row[f"{kind}{end}"]) for end in ("", "_low", "_high"))

    between = f"{_plain(low)} to {_plain(high)}" if ratio else f"{_signed(low, 2)} to {_signed(high, 2)}"
    return (
        str(row["number"]),
        mean(row, "old"),
        mean(row, "new"),
        NOTHING if math.isnan(value) else _times(value) if ratio else _signed(value, 3),
        between if not math.isnan(low) else NOTHING,
        str(row["word"]),
    )


def mean(row: Mapping[str, Any], which: str) -> str:
    """A mean, or how many runs never reached the target."""
    missed, n = int(row[f"missed_{which}"]), int(row[f"n_{which}"])
    if missed:
        return "never" if missed == n else f"never {missed}/{n}"
    return number(float(row[which]), 4)


def _times(x: float) -> str:
    return f"x {_plain(x)}"


def _plain(x: float) -> str:
    return "inf" if math.isinf(x) else number(x, 4)


def _signed(x: float, digits: int) -> str:
    size = "inf" if math.isinf(x) else number(abs(x), digits)
    return ("+" if x > 0 else "-" if x < 0 else "") + size


def _row(label: str, name: str, old: str, new: str, change: str, interval: str, word: str) -> str:
    start = f"  {short(label, 13):13s} {name:22s} {old:>9s} {new:>9s} {change:>9s}"
    return f"{start}  {interval:20s} {word}"


def _differing(found: Found) -> Iterator[str]:
    """What has to be known before the numbers are read."""
    yield from _list("Ended otherwise:", ended(found))
    yield from _list("Settings differ; what is compared is not the same thing:", settings(found))
    yield from _list("Code, libraries or machine differ:", environment(found))
    yield from _list("Could not be read:", list(found.problems))


def ended(found: Found) -> list[str]:
    """Cells whose runs ended otherwise than before."""
    rows = _records(found.statuses[found.statuses["word"] != "same"])
    return [f"{cell(row)}: {row['old']} -> {row['new']} ({row['word']})" for row in rows]


def settings(found: Found) -> list[str]:
    """Settings that differ, each with the first of the cells in which it does."""
    return [
        f"{setting} {old} -> {new}: {cell(rows.iloc[0])}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
        for (setting, old, new), rows in found.settings.groupby(["setting", "old", "new"], sort=True)
    ]


def environment(found: Found) -> list[str]:
    """What of the code, the libraries and the machine differs."""
    return [f"{row['fact']}: {row['old']} -> {row['new']}" for row in _records(found.environment)]


def _list(title: str, lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield title
    for line in lines[:MOST]:
        yield from _wrapped(line)
    if len(lines) > MOST:
        yield f"  and {len(lines) - MOST} more (--json has all)"


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, initial_indent="  ", subsequent_indent="    ")


def cell(row: Any) -> str:
    """A cell in words."""
    return f"{setting_of(row)}, {row['label']}"


def _judged(judged: Judged) -> Iterator[str]:
    said = f"holds in {len(judged.holds)} of {plural(judged.looked, 'cell')}" if judged.holds else "does not hold"
    if not judged.holds and len(judged.open) == judged.looked:
        said = "cannot be judged"
    yield f"fail if {judged.condition.text}: {said}"
    for kind, cells_of in (("", judged.holds), ("not judged: ", judged.open)):
        for key, why in cells_of[:MOST]:
            yield from _wrapped(f"{kind}{cell(dict(zip(KEYS, key, strict=True)))}: {why}")
        if len(cells_of) > MOST:
            yield f"  and {len(cells_of) - MOST} more (--json has all)"


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
