"""The answer in words: for a terminal, as JSON, and sentence by sentence for a page."""

from __future__ import annotations

import math
import textwrap
from dataclasses import asdict
from typing import Any

from analysis.advice.answer import Answer, Row
from analysis.theory.answer import finite
from reports.words import nbytes, number, plural, short

WIDTH = 100


def as_json(a: Answer) -> dict[str, Any]:
    """For programs; what is not finite is null."""
    found: dict[str, Any] = finite(asdict(a))
    return {"headline": headline(a), "how_sure": how_sure(a), "what_changes_it": changes(a), **found}


def headline(a: Answer) -> str:
    """The answer in one sentence."""
    if a.winner is None:
        return f"None of {plural(len(a.rows), 'algorithm')} reached a held-out loss of {a.target:g} in the time given."
    w = a.winner
    text = f"{w.label} reaches a held-out loss of {a.target:g} first: in {time(w.time_s)}" + (
        f" ({interval(w)})" if interval(w) else ""
    )
    if a.second is None:
        return text + ("; no other did." if len(a.rows) > 1 else ".")
    text += f", {number(a.second.ratio)} times as fast as {a.second.label}"
    return text + {"close": ", which is too close to call.", "one seed": " with the one seed."}.get(a.grade, ".")


def how_sure(a: Answer) -> str:
    """How far the first two are apart, in words."""
    w, s = a.winner, a.second
    if w is None:
        return "There is no winner: nothing is extrapolated beyond what was simulated (try a longer --max-time)."
    if s is None:
        return "There is nothing to compare it with."
    n, e = s.seeds, f"{100 * a.model_error:.0f} %"
    apart = f"{s.label} takes {number(s.ratio_low)} to {number(s.ratio_high)} times as long (95 %, n = {n})"
    told = {
        "clear": f"Clear: {apart}. Were each of the predicted times {e} off, the order would be the same.",
        "model": f"Likely: {apart}. But predicted times may be {e} off each, and then the order may change.",
        "close": f"Close: {w.label} and {s.label} cannot be told apart with {plural(n, 'seed')}: {apart}.",
        "one seed": f"Not known: one seed gives no interval; {s.label} took {number(s.ratio)} times as long with it.",
    }[a.grade]
    if a.grade != "one seed" and a.chance > 0.5:
        told += f" With a probability of at least {a.chance:.0%} {w.label} is the fastest of all that got there."
    return told


def changes(a: Answer) -> list[str]:
    """What would change the answer, a sentence each."""
    if a.winner is None:
        return []
    low, high = a.searched
    found = []
    for flip in sorted(a.flips, key=lambda flip: abs(math.log(flip.x / a.bandwidth_Gbit_per_s))):
        first = flip.above or "none"
        bounds = f" ({_gbit(flip.low, a)} to {_gbit(flip.high, a)})" if math.isfinite(flip.low) else ""
        where = "above" if flip.x >= a.bandwidth_Gbit_per_s else "below"
        who = first if where == "above" else flip.below or "none"
        found.append(f"Bandwidth: {where} {_gbit(flip.x, a)}{bounds} {who} is first.")
    if not a.flips:
        found.append(f"Bandwidth: no other is first between {_gbit(low, a)} and {_gbit(high, a)}.")
    for what, who, seconds, own in a.worlds:
        if who == a.winner.label:
            found.append(f"{what}: {who} stays first, in {time(seconds)}.")
        else:
            found.append(f"{what}: {who} is first, in {time(seconds)} ({a.winner.label}: {time(own)}).")
    return found


def text(a: Answer) -> str:
    """For a terminal."""
    title = (
        f"{a.workload}, {a.workers} workers, target {a.target:g}, {number(a.bandwidth_Gbit_per_s)} Gbit/s, "
        f"{1e6 * a.latency_s:.3g} us, {plural(len(a.seeds), 'seed')}"
    )
    priced = a.price is not None
    head = ["algorithm", "to target", "95 % interval", "x best", "seeds", "sent", "Gbit/s", "peak", "needs"]
    lines = [[*head, *(["cost"] if priced else [])], *(_cells(row, priced) for row in a.rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rows = [
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    said = [headline(a), how_sure(a), *changes(a), *a.notes, *(f"Left out: {why}" for why in a.left_out)]
    below = "Gbit/s: payload of a rank, mean; peak: of the busiest rank; needs: least bandwidth that costs < 5 %."
    return "\n".join(
        [title, "", *(row.rstrip() for row in rows), "", below, ""]
        + [line for sentence in said for line in textwrap.wrap(sentence, WIDTH, subsequent_indent="  ")]
    )


def _cells(row: Row, priced: bool) -> list[str]:
    there = math.isfinite(row.time_s)
    return [
        short(row.label, 18),
        time(row.time_s) if there else verdict(row).replace("not in", ">"),
        f"{number(row.low_s)} - {number(row.high_s)}" if there and math.isfinite(row.low_s) else "-",
        number(row.ratio) if there and math.isfinite(row.ratio) else "-" if not there else "1",
        f"{row.reached}/{row.seeds}",
        nbytes(row.sent_nbytes).replace("\u00a0", " ") if there else "-",
        _or_dash(row.goodput_Gbit_per_s, 2),
        _or_dash(row.peak_Gbit_per_s, 2),
        needs(row.needs_Gbit_per_s),
        *([_or_dash(row.cost)] if priced else []),
    ]


def verdict(row: Row) -> str:
    """What a row without a time has instead."""
    if row.state == "over":
        return "diverged"
    if row.reached:
        return f"{row.reached} of {row.seeds} seeds"
    return f"not in {time(row.within_s)}" if math.isfinite(row.within_s) else "not reached"


def time(seconds: float) -> str:
    """Seconds as text; minutes and hours above two minutes.

    Example:
        >>> [time(s).split() for s in (0.5, 300.0, 9000.0)]
        [['0.500', 's'], ['5.00', 'min'], ['2.50', 'h']]
    """
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def interval(row: Row) -> str:
    """The interval of a time."""
    if not (math.isfinite(row.low_s) and math.isfinite(row.high_s)):
        return ""
    return f"{number(row.low_s)} to {number(row.high_s)} s"


def _or_dash(value: float, digits: int = 3) -> str:
    return number(value, digits) if math.isfinite(value) else "-"


def needs(value: float) -> str:
    """The bandwidth that an algorithm needs [Gbit/s]."""
    return "any" if value == 0 else number(value) if math.isfinite(value) else "-"


def _gbit(value: float, a: Answer) -> str:
    low, high = a.searched
    if value <= low or value >= high:
        return f"{'less than ' if value <= low and value != low else ''}{_unit(min(max(value, low), high))}" + (
            " or more" if value > high else ""
        )
    return _unit(value)


def _unit(gbit: float) -> str:
    if gbit >= 1000:
        return f"{number(gbit / 1000)} Tbit/s"
    return f"{number(gbit)} Gbit/s" if gbit >= 1 else f"{number(1000 * gbit)} Mbit/s"
