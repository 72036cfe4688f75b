"""The answer in sentences that a manager reads and an engineer can check."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.comparison import Claim, Verdict
from reports.language import joined, noted, retold, t
from reports.words import named, number, percent, plural, seconds

REASONS = (
    noted("one run is no evidence"),
    noted("{label} reached the target in only {reached} of {n} runs"),
    noted("the 95 % intervals do not overlap"),
    noted("the 95 % intervals overlap, or differ by less than the time between snapshots"),
    noted(
        "every run of {a} was at the target before any run of {b} can have been ({b_again} never got there in {missed} "
        "of {n} runs)"
    ),
    noted("every run of {a} was at the target before any run of {b} can have been"),
    noted("the ranges overlap, or differ by less than the time between snapshots"),
    noted("the intervals do not overlap"),
    noted("the intervals overlap"),
)
"""What `analysis.comparison` gives as a reason, before the numbers of runs."""


def reason(claim_reason: str) -> str:
    """The reason of a claim, without the numbers of runs, in the reader's language."""
    return retold(re.split(r": n=\d+ runs of ", claim_reason, maxsplit=1)[0], REASONS)


def headline(verdict: Verdict, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The answer in one or two sentences.

    Args:
        rows: label -> row of the summary.
    """
    if verdict.best is None:
        return t("No algorithm has a result here.")
    if verdict.criterion == "final_heldout_loss":
        return _by_loss(verdict, rows[verdict.best])
    base = rows.get(verdict.baseline or "")
    time = seconds(rows[verdict.best]["time_to_target_s"])
    if verdict.clear:
        opening = t("{best} reached the target first, after {time}.", best=verdict.best, time=time)
    else:
        opening = t(
            "{best} was first on average, after {time}, but {ties} may be as fast.",
            best=verdict.best,
            time=time,
            ties=named(verdict.ties, most=4),
        )
    return joined([opening, _baseline(verdict, base)])


def _baseline(verdict: Verdict, base: Mapping[str, Any] | None) -> str:
    """How the baseline did, in one sentence."""
    if verdict.best == verdict.baseline:
        return t("It is the baseline itself.")
    if base is None or not base["seeds"]:
        return t("There is no result of the baseline to compare with.")
    if math.isnan(base["time_to_target_s"]):
        missed = int(base["completed"] + base["diverged"] - base["reached"])
        runs = plural(int(base["completed"] + base["diverged"]), "run")
        return t(
            "{baseline} did not get there in {missed} of {runs}.", baseline=base["label"], missed=missed, runs=runs
        )
    return t("{baseline} took {time}.", baseline=base["label"], time=seconds(base["time_to_target_s"]))


def _by_loss(verdict: Verdict, best: Mapping[str, Any]) -> str:
    target, loss = best["target_loss"], number(best["final_heldout_loss"], 4)
    why = (
        t("No target loss was set.")
        if math.isnan(target)
        else t("No algorithm held the target loss {target}.", target=number(target))
    )
    lead = (
        t("{best} has the lowest held-out loss at the end: {loss}.", best=verdict.best, loss=loss)
        if verdict.clear
        else t("{best} has the lowest mean held-out loss at the end: {loss}.", best=verdict.best, loss=loss)
    )
    return joined([why, lead])


def how_sure(verdict: Verdict, rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Sentences that say what the runs show and what they do not, and by which rule.

    Args:
        rows: label -> row of the summary.
    """
    if verdict.best is None:
        return []
    best, rest = verdict.best, verdict.claims
    if not rest:
        return [t("There is nothing to compare {best} with: it is the only algorithm with a result here.", best=best)]
    by_time = verdict.criterion == "time_to_target_s"
    shown, open_claims = [c for c in rest if c.shown], [c for c in rest if not c.shown]
    sentences = []
    if shown:
        names = named([claim.worse for claim in shown])
        sentences.append(
            t("Shown: {best} is faster than {names}.", best=best, names=names)
            if by_time
            else t("Shown: {best} is better at the end than {names}.", best=best, names=names)
        )
    for why, labels in _by_reason(open_claims).items():
        names = named(labels)
        sentences.append(
            t("Not shown: that {best} is faster than {names}, because {reason}.", best=best, names=names, reason=why)
            if by_time
            else t(
                "Not shown: that {best} is better at the end than {names}, because {reason}.",
                best=best,
                names=names,
                reason=why,
            )
        )
    step, time = rows[best]["target_resolution_s"], rows[best]["time_to_target_s"]
    if by_time and open_claims and step > 0.2 * time:
        sentences.append(
            t(
                "The model was looked at only every {step}, which is coarse against {time} to the target: more "
                "snapshots, or a harder target, would tell more.",
                step=seconds(step),
                time=seconds(time),
            )
        )
    return sentences + _luck(shown)


def _luck(shown: Sequence[Claim]) -> list[str]:
    """How easily so few runs are separated by chance."""
    odds = {round(1 / claim.chance) for claim in shown if not math.isnan(claim.chance)}
    if not odds or min(odds) >= 20:
        return []
    few = min(min(c.n_better, c.n_worse) for c in shown)
    return [
        t(
            "Caution: with {runs} each, two equally fast algorithms would come out separated like this by luck in one "
            "of {odds} comparisons. Four or more runs each make it one in 35 or less.",
            runs=plural(few, "run"),
            odds=min(odds),
        )
    ]


def _by_reason(claims: Sequence[Claim]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for claim in claims:
        why = reason(claim.reason)
        if claim.reason.startswith("one run is no evidence"):
            why = t("one of the two has a single run, and one run is no evidence")
        grouped.setdefault(why, []).append(claim.worse)
    return grouped


MARKS = {
    "clear": noted("shown: faster than all others"),
    "tied": noted("not shown: others may be as good"),
    "one run": noted("one run only: nothing can be shown"),
    "alone": noted("nothing to compare with"),
    "none": noted("no model was evaluated"),
}
"""`sure` of `analysis.answers.answers` -> in a few words."""


def mark(row: Mapping[str, Any]) -> str:
    """How sure an answer is, in a few words.

    Args:
        row: of `analysis.answers.answers`.
    """
    if row["sure"] == "clear" and row["criterion"] != "time_to_target_s":
        return t("shown: better than all others")
    return t(MARKS[row["sure"]])


def tiles(row: Mapping[str, Any]) -> list[dict[str, str]]:
    """The three figures that decide, best rival against the baseline: time saved, quality, communication saved.

    Args:
        row: of `analysis.answers.answers`.
    """
    if not row["rival"]:
        return []
    bytes_title = (
        t("Bytes sent per training sample") if row["wire_measure"] == "per sample" else t("Bytes sent to the target")
    )
    found = [
        {"title": t("Training time to the target"), **_time(row)},
        {"title": t("Held-out loss at the end (lower is better)"), **_loss(row)},
        {"title": bytes_title, **_bytes(row)},
    ]
    who = t("{rival} against {baseline}, the synchronous all-reduce", rival=row["rival"], baseline=row["baseline"])
    return [{**tile, "who": who} for tile in found]


def _time(row: Mapping[str, Any]) -> dict[str, str]:
    mean, low, high = (float(row[f"time_saved{end}"]) for end in ("", "_low", "_high"))
    if not math.isnan(row["time_saved_beyond"]):
        share = percent(float(row["time_saved_beyond"]))
        note = t("{baseline} did not get there in the time given", baseline=row["baseline"])
        return {"value": t("over {share} less", share=share), "note": note}
    if math.isnan(mean):
        return {"value": t("not known"), "note": t("not both reached the target in all runs")}
    value = _less(mean)
    note = _between(low, high)
    if not row["time_shown"]:
        return {"value": t("no difference shown"), "note": t("on average {value}; {note}", value=value, note=note)}
    return {"value": value, "note": note}


def _loss(row: Mapping[str, Any]) -> dict[str, str]:
    mean, low, high = (float(row[f"loss_difference{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(mean):
        return {"value": t("not known"), "note": t("no model was evaluated")}
    value = t("{loss} nat lower", loss=f"{-mean:.3f}") if mean < 0 else t("{loss} nat higher", loss=f"{mean:.3f}")
    if math.isnan(low):
        return {"value": value, "note": t("no interval: one run")}
    near, far = (f"{bound:.3f}" for bound in sorted((abs(low), abs(high))))
    if low <= 0 <= high:
        note = t("between {low} lower and {high} higher", low=f"{-low:.3f}", high=f"{high:.3f}")
        return {"value": t("no difference shown"), "note": note}
    if mean < 0:
        return {"value": value, "note": t("between {near} and {far} lower", near=near, far=far)}
    return {"value": value, "note": t("between {near} and {far} higher", near=near, far=far)}


def _bytes(row: Mapping[str, Any]) -> dict[str, str]:
    mean, low, high = (float(row[f"wire_saved{end}"]) for end in ("", "_low", "_high"))
    if math.isnan(mean):
        return {"value": t("not known"), "note": t("nothing was sent, or no run was completed")}
    return {"value": _less(mean), "note": _between(low, high)}


def _less(share: float) -> str:
    if share >= 0:
        return t("{share} less", share=percent(share))
    return t("{share} more", share=percent(-share))


def _between(low: float, high: float) -> str:
    """An interval of a saved share, in words."""
    if math.isnan(low) or math.isnan(high):
        return t("no interval: one run")
    near, far = (percent(bound) for bound in sorted((abs(low), abs(high))))
    if low <= 0 <= high and low != high:
        return t("between {more} more and {less} less", more=percent(-low), less=percent(high))
    if near == far:
        return t("the runs hardly differ in this")
    if low >= 0:
        return t("between {near} and {far} less", near=near, far=far)
    return t("between {near} and {far} more", near=near, far=far)
