"""What would change an answer: another network, another target, more runs; or which command would tell."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.comparison import Verdict
from analysis.crossover import cost_s, of_grid
from analysis.leads import leads
from analysis.predictions import asked_study
from reports.language import joined, t
from reports.words import listed, named, nbytes, number, percent, plural, seconds

FEW = 3
"""Changes of the fastest over the bandwidth that are told."""

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Change:
    """Something that would change the answer, or that would not.

    Attributes:
        text: a sentence or two.
        simulated: the sentences rest on simulated runs.
        commands: what to type to know more.
    """

    text: str
    simulated: bool = False
    commands: tuple[str, ...] = ()


def changes(
    verdict: Verdict, rows: Rows, runs: pd.DataFrame, heldout: pd.DataFrame, grid: pd.DataFrame
) -> list[Change]:
    """What these results say of other circumstances.

    Args:
        verdict: of one study, workload, transport and number of workers.
        rows: label -> row of the summary.
        runs: the runs of that comparison.
        heldout: rows of `bench.records.HELDOUT`; others are ignored.
        grid: what `analysis.network_grid.network_grid` gives for all runs of the report.
    """
    if runs.empty:
        return []
    found = [
        _other_target(verdict, runs, heldout),
        _other_speeds(verdict, rows),
        *_other_networks(runs, grid),
        _more_runs(verdict, rows),
    ]
    return [change for change in found if change is not None]


# -- another target ----------------------------------------------------------------------------------------------------


def _other_target(verdict: Verdict, runs: pd.DataFrame, heldout: pd.DataFrame) -> Change | None:
    """Who would have been first at targets easier or harder than the one that was set."""
    best, target = verdict.best, float(runs["target_loss"].max())
    if best is None or runs["label"].nunique() < 2:
        return None
    found = leads(heldout, runs, best)
    if found.empty:
        return None
    if verdict.criterion != "time_to_target_s":
        last = found.iloc[-1]
        sentence = t(
            "With a target of {loss} nat there would be a winner by time: {label}, after {time}.",
            loss=_nat(last["target_loss"]),
            label=last["label"],
            time=seconds(float(last["time_to_target_s"])),
        )
        return Change(sentence)
    high, low = _nat(found["target_loss"].max()), _nat(found["target_loss"].min())
    shown = found[found["shown"]]
    if shown.empty:
        share = float((found["label"] == best).mean())
        sentence = (
            t(
                "Another target: {best} is first at every held-out loss from {high} down to {low} nat.",
                best=best, high=high, low=low,
            )
            if share == 1
            else t(
                "Another target: between {high} and {low} nat no other is shown to be faster than {best}; on average "
                "{best} is first at {share} of them.",
                best=best, high=high, low=low, share=percent(share),
            )
        )  # fmt: skip
        return Change(sentence)
    return Change(joined([_flip(part, target) for _, part in shown.groupby(shown["target_loss"] > target, sort=True)]))


def _flip(part: pd.DataFrame, target: float) -> str:
    """The other targets on one side of the one that was set, at which somebody else is shown to be faster."""
    nearest = part.iloc[int((part["target_loss"] - target).abs().argmin())]
    labels, loss = named(sorted(set(part["label"]))), _nat(nearest["target_loss"])
    if nearest["target_loss"] > target:
        return t("With an easier target, from {loss} nat up, {labels} may win.", loss=loss, labels=labels)
    return t("With a harder target, from {loss} nat down, {labels} may win.", loss=loss, labels=labels)


def _nat(loss: float) -> str:
    return number(float(loss))


# -- a faster or slower network ----------------------------------------------------------------------------------------


def _other_speeds(verdict: Verdict, rows: Rows) -> Change | None:
    """Bounds that hold for any network: what all-reduce would take without waiting, and who sends least."""
    base, best = rows.get(verdict.baseline or ""), rows.get(verdict.best or "")
    if base is None or best is None or verdict.criterion != "time_to_target_s":
        return None
    if best is base:
        return Change(_less_sent(best, rows))
    share = float(base["exposed_comm_share"])
    least, took = float(base["time_to_target_s"]) * (1 - share), float(best["time_to_target_s"])
    if math.isnan(least):
        return Change(_less_sent(best, rows))
    said = {
        "baseline": base["label"], "best": best["label"], "share": percent(share), "least": seconds(least),
        "took": seconds(took),
    }  # fmt: skip
    faster = (
        t(
            "A faster network alone would not make {baseline} win: it stood still for {share} of its time, so without "
            "any waiting it would still take about {least}, and {best} took {took}.",
            **said,
        )
        if least > took
        else t(
            "A faster network could make {baseline} win: it stood still for {share} of its time; without any waiting "
            "it would take about {least}, less than the {took} of {best} here.",
            **said,
        )
    )
    return Change(joined([faster, _less_sent(best, rows)]))


def _less_sent(best: Mapping[str, Any], rows: Rows) -> str:
    """Who would gain from a slower network."""
    name = "wire_nbytes_to_target"
    sent = {label: float(row[name]) for label, row in rows.items() if not math.isnan(row[name])}
    own = sent.pop(str(best["label"]), math.nan)
    fewer = sorted((value, label) for label, value in sent.items() if value < 0.9 * own)
    if fewer:
        return t(
            "On a slower network {label} may win: it sends {sent} until the target, {best} {own}.",
            label=fewer[0][1], sent=nbytes(fewer[0][0]), best=best["label"], own=nbytes(own),
        )  # fmt: skip
    if sent and own < 0.9 * min(sent.values()):
        return t(
            "A slower network would help {best}: it sends the least until the target, {own}.",
            best=best["label"], own=nbytes(own),
        )  # fmt: skip
    return ""


# -- networks that were simulated --------------------------------------------------------------------------------------


def _other_networks(runs: pd.DataFrame, grid: pd.DataFrame) -> list[Change]:
    """What simulations of the same study on several networks say; or how to make them."""
    first = runs.iloc[0]
    keys = {"study": asked_study(first["study"]), "workload": first["workload"], "workers": first["workers"]}
    own = grid[(grid[list(keys)] == list(keys.values())).all(axis=1)]
    several = own.groupby(["variant", "latency_s"])["bandwidth_Gbit_per_s"].transform("nunique") > 1
    if not several.any():
        return [_how_to_know(runs)]
    own = own[several]
    crossed = of_grid(own).sort_values("bandwidth_Gbit_per_s", kind="stable")
    if len(crossed):
        return [Change(_crossing(row), True) for row in crossed.head(FEW).to_dict("records")]
    own = own.assign(cost=cost_s(own))
    points = own[own["cost"].notna()].groupby(["variant", "latency_s", "bandwidth_Gbit_per_s"])["cost"].idxmin()
    leaders = sorted(set(own.loc[points, "label"]))
    if not leaders:
        return [_how_to_know(runs)]
    low, high = (number(float(own["bandwidth_Gbit_per_s"].agg(end))) for end in ("min", "max"))
    said = {"low": low, "high": high, "leaders": listed(leaders)}
    sentence = (
        t("Simulated on networks from {low} to {high} Gbit/s: {leaders} is first on all of them.", **said)
        if len(leaders) == 1
        else t("Simulated on networks from {low} to {high} Gbit/s: {leaders} are first, each on some of them.", **said)
    )
    return [Change(sentence, True)]


def _crossing(row: Mapping[Any, Any]) -> str:
    """One change of the fastest over the bandwidth."""
    said = {
        "before": row["from_label"],
        "after": row["to_label"],
        "latency": f"{number(1e6 * row['latency_s'])}\u00a0us",
    }
    low, high = number(row["low"]), number(row["high"])
    if math.isnan(row["bandwidth_Gbit_per_s"]):
        return t(
            "Simulated, latency {latency}: between {low} and {high} Gbit/s the lead goes from {before} to {after}.",
            low=low, high=high, **said,
        )  # fmt: skip
    gbit = number(row["bandwidth_Gbit_per_s"])
    sentence = t(
        "Simulated, latency {latency}: below about {gbit} Gbit/s {before} is first, above it {after}.",
        gbit=gbit, **said,
    )  # fmt: skip
    if math.isnan(row["shown_low"]) or math.isnan(row["shown_high"]):
        doubt = t("The runs are too few or too alike to show it on both sides.")
    else:
        doubt = t(
            "Shown at {low} Gbit/s and below, and at {high} Gbit/s and above.",
            low=number(row["shown_low"]), high=number(row["shown_high"]),
        )  # fmt: skip
    return joined([sentence, doubt])


def _how_to_know(runs: pd.DataFrame) -> Change:
    study, workers = _study(runs), int(runs["workers"].iloc[0])
    return Change(
        t("How the order changes with the network was not simulated. These commands would tell:"),
        commands=(
            f"paceline calibrate {study} -n {workers} -o cluster.toml",
            f"paceline predict {study} --cluster cluster.toml -n {workers} --bandwidth 0.1,1,10,100",
        ),
    )


def _study(runs: pd.DataFrame) -> str:
    """The study as it was given to the command that made the runs."""
    for text in runs.sort_values("run_id")["provenance"]:
        try:
            words = shlex.split(json.loads(text)["command"])
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        if words[:2] == ["paceline", "run"] and len(words) > 2 and not words[2].startswith("-"):
            return shlex.quote(words[2])
    return shlex.quote(str(runs["study"].iloc[0]))


# -- more runs ---------------------------------------------------------------------------------------------------------


def _more_runs(verdict: Verdict, rows: Rows) -> Change | None:
    """Whether more seeds could settle what is not shown."""
    if verdict.best is None or not verdict.ties:
        return None
    least = min(int(rows[label]["seeds"]) for label in (verdict.best, *verdict.ties) if rows[label]["seeds"])
    if least >= 6:
        return None
    return Change(
        t(
            "More seeds: with {runs} each, what is not shown may be so for want of runs. From six seeds on, intervals "
            "are compared instead of the extremes.",
            runs=plural(least, "run"),
        )
    )


def told(found: Sequence[Change]) -> list[dict[str, Any]]:
    """For the template."""
    return [{"text": c.text, "simulated": c.simulated, "commands": c.commands} for c in found]
