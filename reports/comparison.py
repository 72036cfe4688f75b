"""The comparison table of one setting: a row per algorithm and transport, and the runs that gave no result."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from analysis.claims import budgets
from bench.records import STATUSES
from reports import words
from reports.definitions import DEFINITIONS
from reports.language import noted, t
from reports.shown import Filter, Mark, Shown, ShownTable

ALSO = (
    "study", "workload", "workers", "algorithm", "simulated", *STATUSES, "reached", "target_loss", "metric",
    "duration_s", *(f"wire_nbytes_to_target{end}" for end in ("", "_low", "_high", "_interval")),
    *(f"samples_to_target{end}" for end in ("", "_low", "_high", "_interval")), "tuned_alike",
)  # fmt: skip
"""What the files hold beside what the page shows."""

WORDS = {
    "completed": noted("completed"),
    "diverged": noted("diverged"),
    "failed": noted("failed"),
    "crashed": noted("crashed"),
}
"""The statuses of a run."""


def comparison(
    name: str,
    described: str,
    rows: pd.DataFrame,
    transports: Sequence[str],
    runs: pd.DataFrame,
    led_to: Mapping[str, str],
) -> ShownTable:
    """The comparison table of one setting.

    Args:
        name: of the table.
        described: the setting, in words.
        rows: of `analysis.summary.summarise`, of the setting.
        transports: in reading order.
        runs: rows of RUNS, of the setting.
        led_to: label -> id of the place in the page with its runs.
    """
    tuning = budgets(rows)
    rows = rows.assign(tuning=tuning["tuning"], tuned_alike=tuning["alike"])
    frame = in_reading_order(rows, transports)
    frame.insert(0, "checks", [_checks(dict(row), runs) for _, row in frame.iterrows()])

    def mark(row: Mapping[str, Any]) -> Mark:
        simulated = [("sim", t("simulated"))] if row["simulated"] else []
        badges = [(name, counted(name, row[name])) for name in STATUSES[1:] if row[name]]
        return Mark(
            badges=[*simulated, *badges],
            classes=" ".join([*["simulated"] * bool(row["simulated"]), *["void"] * (not row["seeds"])]),
            href=f"#{led_to[row['label']]}",
            choices={"on": [row["transport"]], "status": [name for name in STATUSES if row[name]]},
        )

    return ShownTable(
        name,
        t("{setting}: one row per algorithm and transport", setting=described),
        [
            Shown("label", t("Algorithm")),
            Shown("transport", t("On"), text=words.transport),
            Shown("checks", t("Passed checks"), t("of all runs"), t("Runs that ended and passed every sanity check.")),
            Shown("seeds", t("n"), t("runs"), t("Completed runs, over which the means are taken.")),
            *map(_column, DEFINITIONS),
            Shown("tuning", t("Tuning"), meaning=t("What was spent on choosing the settings, as the study states it.")),
        ],
        frame,
        label="label",
        mark=mark,
        filters=[
            Filter("on", t("On"), [(on, words.transport(on)) for on in transports]),
            Filter(
                "status",
                t("Runs"),
                [(name, status(name)) for name in STATUSES if frame[name].any()],
            ),
        ],
        also=ALSO,
    )


def in_reading_order(rows: pd.DataFrame, transports: Sequence[str]) -> pd.DataFrame:
    """Rows in reading order: measured first, the fastest first, those without a result last."""
    order = rows.assign(place=rows["transport"].map(transports.index), none=rows["seeds"] == 0)
    order = order.sort_values(
        ["place", "none", "time_to_target_s", "final_heldout_loss", "label"], na_position="last", kind="stable"
    )
    return order.drop(columns=["place", "none"]).reset_index(drop=True)


def metrics(rows: pd.DataFrame) -> str:
    """Names of the held-out metrics of these rows."""
    return words.listed(sorted(set(rows["metric"]) - {""}))


def _column(definition: Any) -> Shown:
    """The column of a number that the report defines, with its interval."""
    name = definition.name
    unit = "" if TEXTS.get(name) is words.percent else definition.unit  # that sign stands with the number
    return Shown(
        name,
        t(definition.heading),
        t(unit) if unit else "",
        t(definition.plain),
        text=TEXTS.get(name),
        low=f"{name}_low",
        high=f"{name}_high",
        how=f"{name}_interval",
        share="exposed_comm_share" if name == "exposed_comm_s" else "",
        absent=_no_time if name == "time_to_target_s" else None,
    )


TEXTS = {
    "final_heldout_loss": lambda value: words.number(value, 4),
    "heldout_metric": lambda value: words.number(value, 4),
    "staleness_p95": lambda value: f"{value:g}",
    "overlap_fraction": words.percent,
}


def _no_time(row: Mapping[str, Any]) -> str:
    """Why there is no time to the target."""
    if not row["completed"] + row["diverged"]:
        return words.NOTHING
    if row["completed"] and math.isnan(row["final_heldout_loss"]):
        return t("no loss")  # only time and bytes were simulated
    if math.isnan(row["target_loss"]):
        return t("no target")
    return t("reached in {reached} of {tried}", reached=row["reached"], tried=row["completed"] + row["diverged"])


def status(name: str) -> str:
    """A status, in words."""
    return t(WORDS.get(name, name))


def counted(name: str, count: int) -> str:
    """How many runs have a status, in words."""
    return t("{n} {status}", n=count, status=status(name))


def _checks(row: Mapping[str, Any], runs: pd.DataFrame) -> str:
    """How many runs of a row passed all checks, and what became of the others."""
    total = sum(row[name] for name in STATUSES)
    bad = [counted(name, row[name]) for name in STATUSES[1:] if row[name]]
    if not row["seeds"]:
        return t("no result: {what}", what=words.listed(bad))
    if not bad:
        return t("✓ {n} of {total}", n=total, total=total)
    own = runs[(runs["label"] == row["label"]) & (runs["transport"] == row["transport"])]
    broken = {part for text in own.loc[own["status"] == "failed", "verdict"] for part in broken_checks(text)}
    why = f" ({'; '.join(sorted(broken))})" if broken else ""
    return t("✗ {n} of {total}: {what}", n=row["seeds"], total=total, what=words.listed(bad)) + why


def broken_checks(verdict: object) -> list[str]:
    """The checks of a verdict that were not met, each with what was found."""
    return [part for part in parts_of(verdict) if re.search(r"\bNO\b|fail", part)]


def parts_of(verdict: object) -> list[str]:
    """The checks of a verdict, each with its outcome."""
    return [part for line in str(verdict).splitlines() for part in line.strip().split("; ") if part]


def reason(run: Mapping[Any, Any]) -> str:
    """Why a run is no result, in one line."""
    if run["status"] == "diverged":
        return t("a loss was not finite at {time}", time=words.seconds(float(run["diverged_at_s"])))
    parts = parts_of(run["verdict"])
    if run["status"] == "crashed":
        verdict = str(run["verdict"]).strip().splitlines()
        error = [line.strip() for line in str(run["error"]).splitlines() if line.strip()]
        return ": ".join(dict.fromkeys([*verdict[:1], *error[-1:]])) or t("no reason was recorded")
    return "; ".join(broken_checks(run["verdict"])) or "; ".join(parts) or t("no reason was recorded")


def bad_run(run: Mapping[Any, Any]) -> dict[str, Any]:
    """A run that gave no result, and why."""
    keep = ("run_id", "label", "seed", "status")
    said = {"on": words.transport(run["transport"]), "status_words": status(run["status"]), "reason": reason(run)}
    return {**{name: run[name] for name in keep}, **said}
