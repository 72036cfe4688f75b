"""Sentences of the section on other networks: who leads where, how sure that is, and how good interpolation is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.comparison import Claim, faster, lower_loss
from analysis.crossover import left_out
from reports import words
from reports.language import t
from reports.network_texts import Criterion, gbit_text, places, ranked

RULES: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Claim]] = {
    "time_to_target_s": faster,
    "final_heldout_loss": lower_loss,
}
"""Criterion -> when the runs show that one algorithm is better than another; for others there is no rule."""

CROSSED = ("time_to_target_s", "samples_per_s")
"""Criteria for which `analysis.crossover` says where another algorithm takes the lead."""


def leaders(rows: pd.DataFrame, changes: pd.DataFrame, criterion: Criterion) -> str:
    """Who leads from which bandwidth on, at one latency."""
    leads: list[tuple[float, str | None]] = []
    for gbit in places(rows, "bandwidth_Gbit_per_s"):
        best = ranked(rows[rows["bandwidth_Gbit_per_s"] == gbit], criterion)[0]
        leads.append((gbit, None if math.isnan(best[criterion.name]) else str(best["label"])))
    told: list[str] = []
    before: str | None = ""
    for i, (gbit, label) in enumerate(leads):
        passed = changes[changes["high"] == gbit]
        if before and label and len(passed):
            told += [_overtaken(change) for change in passed.to_dict("records")]
        elif label != before and label is None:
            told.append(t("from {gbit} on nobody reaches the target", gbit=gbit_text(gbit)))
        elif label != before and i and before and criterion.name not in CROSSED:
            low = gbit_text(leads[i - 1][0])
            told.append(t("{name} takes over between {low} and {high}", name=label, low=low, high=gbit_text(gbit)))
        elif label != before and not before:
            told.append(t("{name} leads at {gbit}", name=label, gbit=gbit_text(gbit)))
        before = label
    if len(told) == 1 and before and len(leads) > 1:
        low, high = gbit_text(leads[0][0]), gbit_text(leads[-1][0])
        return t("{name} leads at every simulated bandwidth from {low} to {high}.", name=before, low=low, high=high)
    return t("{changes}.", changes=t("; ").join(told))


def _overtaken(change: Mapping[Any, Any]) -> str:
    names = {"above": change["to_label"], "below": change["from_label"]}
    beside = {"low": gbit_text(change["low"]), "high": gbit_text(change["high"])}
    if math.isnan(change["bandwidth_Gbit_per_s"]):
        told = t("{above} overtakes {below} between {low} and {high}", **names, **beside)
    else:
        told = t("{above} overtakes {below} at about {gbit}", **names, gbit=gbit_text(change["bandwidth_Gbit_per_s"]))
    sure = math.isfinite(change["shown_low"]) and math.isfinite(change["shown_high"])
    return told if sure else t("{change} (not shown)", change=told)


def notes(own: pd.DataFrame, changes: pd.DataFrame, criterion: Criterion, target: float) -> list[str]:
    """What a reader must know to judge the figures."""
    found = []
    if len(changes) and changes[["shown_low", "shown_high"]].isna().any(axis=None):
        found.append(t("Not shown: the runs do not show on both sides of a cross-over which of the two is faster."))
    if criterion.name == "samples_per_s":
        found.append(
            t("These runs have no gradients: they say how fast samples are worked through, not what is learned.")
        )
    elif criterion.name == "final_heldout_loss" and math.isnan(target):
        found.append(t("No target loss was set, so algorithms are ranked by their held-out loss at the end."))
    elif criterion.name == "final_heldout_loss":
        loss = words.number(target)
        found.append(
            t("No algorithm held the target loss {loss} in all its runs: ranked by the loss at the end.", loss=loss)
        )
    off = left_out(own)["off"].abs()
    if len(off) and criterion.name != "final_heldout_loss":
        middle, most = words.percent(float(off.median())), words.percent(float(off.max()))
        found.append(
            t("How good interpolation is: with each inner bandwidth left out in turn and interpolated from its two "
              "neighbours, the error is {middle} at the median and {most} at most. The slider interpolates across one "
              "step, not two.", middle=middle, most=most)
        )  # fmt: skip
    everywhere = own[["latency_s", "bandwidth_Gbit_per_s"]].drop_duplicates()
    counts = own.groupby("label").size()
    partial = [str(label) for label in counts.index if counts[label] < len(everywhere)]
    if partial:
        found.append(t("Not simulated on all {n} networks: {names}.", n=len(everywhere), names=words.named(partial)))
    whole = own["bandwidth_Gbit_per_s"].nunique() * own["latency_s"].nunique()
    if len(everywhere) < whole:
        found.append(t("{n} of the {all} pairs of bandwidth and latency were simulated.", n=len(everywhere), all=whole))
    return found


def sure(order: Sequence[Mapping[str, Any]], criterion: Criterion) -> str:
    """What the runs show about the first in a ranking."""
    rule = RULES.get(criterion.name)
    rest = [row for row in order[1:] if row["completed"] or row["diverged"]]
    if rule is None or not rest or math.isnan(order[0][criterion.name]):
        return ""
    claims = [rule(order[0], other) for other in rest]
    shown, doubtful = ([one.worse for one in claims if one.shown is which] for which in (True, False))
    if not doubtful:
        return t("The runs show it against every other algorithm.")
    if not shown:
        return t("The runs do not show it against any other: ranges overlap, or there is but one run.")
    return t("The runs show it against {shown}, not against {doubtful}.", shown=words.named(shown),
             doubtful=words.named(doubtful))  # fmt: skip
