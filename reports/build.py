"""The report: tables and templates to one HTML string. The same tables give the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis.comparison import winner
from analysis.completeness import missing
from analysis.staleness import staleness_histogram
from analysis.summary import per_run, summarise
from analysis.timing import time_split
from bench.records import STATUSES, TABLES, Results
from reports import figures, words
from reports.answer import answer
from reports.comparison import bad_run, in_reading_order, metrics, row_of
from reports.conditions import conditions
from reports.definitions import DEFINITIONS, NOTES
from reports.language import current, language, t
from reports.predictions import predictions
from reports.provenance import provenance
from reports.runs import every_run
from reports.sections import registry
from reports.sections.base import Material, Section, Setting
from reports.shown import ShownTable
from reports.style import PARTS, Look, looks

MEASURED = ("mpi", "horovod")
BASELINE = "allreduce-sgd"
SIMULATED_ANSWERS = 3  # of more, each has a line only


@dataclass(frozen=True)
class Page:
    """A report: the self-contained HTML page, and every table that it shows."""

    html: str
    tables: tuple[ShownTable, ...]


def build(
    results: Results,
    *,
    sources: Sequence[str] = (),
    studies: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    lang: str = "en",
) -> Page:
    """The report of these results.

    Args:
        results: what `bench.records.load` gives.
        sources: names of the results folders, for the command that repeats the report.
        studies: name of a results folder -> its resolved study (study.json), shown as it is.
        problems: what else could not be read or is not finished, one sentence each.
        lang: one of `reports.language.LANGUAGES`.
    """
    with language(lang):
        return _build(results, sources, studies or {}, problems)


def _build(results: Results, sources: Sequence[str], studies: Mapping[str, Any], problems: Sequence[str]) -> Page:
    split = time_split(results.events, results.runs)
    table = per_run(results, split=split)
    summary = summarise(table)
    look_of = looks(zip(results.runs["label"], results.runs["algorithm"], strict=True))
    split = split.merge(table[["run_id", "label"]], on="run_id")
    histogram = staleness_histogram(results.events)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,  # names, settings and errors come from outside; HTML in them must come out as text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["named"] = _namer(look_of)
    environment.globals.update(look_of=look_of, nothing=words.NOTHING, t=t, lang=current())
    everything = Material(results, table, summary, split, look_of, sources, environment)
    keys = ["study", "workload", "workers"]
    settings = []
    for number, (key, rows) in enumerate(summary.groupby(keys, sort=True), start=1):
        material = _of_setting(everything, f"s{number}", *key)
        settings.append(
            {
                **_setting(
                    f"s{number}",
                    dict(zip(keys, key, strict=True)),
                    rows,
                    material.table,
                    results,
                    split,
                    histogram,
                    look_of,
                ),
                "sections": _sections(registry.PER_SETTING, material),
            }
        )
    simulated = sum(one["answer"]["simulated"] for one in settings)
    for one in settings:  # predictions for many sizes and networks would bury what was measured
        one["brief"] = one["answer"]["simulated"] and simulated > SIMULATED_ANSWERS
    counts = results.runs["status"].value_counts()
    overall = _sections(registry.OVERALL, everything)
    html = (
        environment.get_template("report.html.j2").render(
            studies=sorted(results.runs["study"].unique()),
            several_studies=results.runs["study"].nunique() > 1,
            counts=[(status, int(counts[status])) for status in STATUSES if status in counts],
            total=len(results.runs),
            settings=settings,
            overall=overall,
            predicted=predictions(results.runs, table, summary, look_of),
            parts=PARTS,
            definitions=DEFINITIONS,
            notes=NOTES,
            tables=[(t.name, [(c.name, c.unit, c.meaning) for c in t.columns]) for t in TABLES.values()],
            runs=every_run(results.runs),
            provenance=provenance(results.runs),
            sources=sources,
            study_files=[
                (name, json.dumps(study, indent=2, sort_keys=True)) for name, study in sorted(studies.items())
            ],
            problems=[*problems, *results.skipped, *missing(results.runs, results.events, results.heldout)],
            palette=sorted({look.number: look for look in look_of.values()}.items()),
        )
        + "\n"
    )
    made = [*overall, *(section for one in settings for section in one["sections"])]
    return Page(html, tuple(shown for section in made for shown in section.tables))


def _of_setting(everything: Material, name: str, study: str, workload: str, workers: int) -> Material:
    """The material of one setting."""

    def own(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[(frame[["study", "workload", "workers"]] == [study, workload, workers]).all(axis=1)]

    table = own(everything.table)
    described = f"{workload}, {words.plural(int(workers), 'worker')}"
    return replace(
        everything,
        table=table,
        summary=own(everything.summary),
        split=everything.split[everything.split["run_id"].isin(table["run_id"])],
        setting=Setting(name, study, workload, int(workers), described),
    )


def _sections(parts: Sequence[Callable[[Material], Section | None]], material: Material) -> list[Section]:
    """What each of these parts makes of the material."""
    made = (part(material) for part in parts)
    return [section for section in made if section is not None]


def _namer(look_of: Mapping[str, Look]) -> Callable[[str], Markup]:
    """A filter that sets algorithms' names in a sentence in their colour, and keeps them on one line."""
    looks_by_text = {str(escape(label)): look for label, look in look_of.items()}
    longest_first = sorted(looks_by_text, key=lambda text: (-len(text), text))
    pattern = re.compile(r"(?<![\w-])(?:" + "|".join(map(re.escape, longest_first)) + r")(?![\w-])")

    def mark(found: re.Match[str]) -> str:
        return f'<span class="name" style="color:var(--a{looks_by_text[found[0]].number})">{found[0]}</span>'

    return lambda sentence: Markup(pattern.sub(mark, str(escape(sentence))))


# -- one workload with one number of workers ---------------------------------------------------------------------------


def _setting(
    name: str,
    key: Mapping[str, Any],
    rows: pd.DataFrame,
    table: pd.DataFrame,
    results: Results,
    split: pd.DataFrame,
    histogram: pd.DataFrame,
    look_of: Mapping[str, Look],
) -> dict[str, Any]:
    """Everything the template needs for one (study, workload, workers)."""
    transports = [on for on in (*MEASURED, "simulated") if on in set(rows["transport"])]
    transports += sorted(set(rows["transport"]) - set(transports))
    verdicts = {on: winner(rows, key["workload"], on, baseline=BASELINE) for on in transports}
    # Measured over MPI is the answer; without that any other measurement; without that the simulator, and said so.
    asked = next((on for on in transports if verdicts[on].best is not None), None)
    done = table[table["status"] == "completed"]
    described = f"{key['workload']}, {words.plural(int(key['workers']), 'worker')}"
    runs = results.runs[results.runs["run_id"].isin(table["run_id"])]
    target = float(rows["target_loss"].max())
    drawn = []
    for on in transports:
        own, where = table[table["transport"] == on], f"{described}, {words.TRANSPORTS.get(on, on)}"
        lines = [
            figures.curves(f"{name}-{on}-{axis}", axis, own, results.heldout, look_of, target, where)
            for axis in figures.AXES
        ]
        old = histogram.merge(done.loc[done["transport"] == on, ["run_id", "label"]], on="run_id")
        most = int(old["staleness_updates"].max()) if len(old) else 0
        groups = [(str(label), group) for label, group in old.groupby("label")]
        stale = [
            figures.staleness(f"{name}-{on}-stale-{i}", label, group, most, look_of[label], where)
            for i, (label, group) in enumerate(groups)
            if group["staleness_updates"].max() > 0
        ]
        fresh = words.listed([label for label, group in groups if group["staleness_updates"].max() == 0])
        bars = figures.time_split(
            f"{name}-{on}-time", split[split["run_id"].isin(done.loc[done["transport"] == on, "run_id"])], where
        )
        drawn.append(
            {
                "transport": on,
                "title": words.TRANSPORTS.get(on, on),
                "simulated": bool(rows.loc[rows["transport"] == on, "simulated"].any()),
                "curves": [svg for svg in lines if svg],
                "staleness": stale,
                "fresh": fresh,
                "time": bars,
            }
        )
    return {
        "name": name,
        **key,
        "described": described,
        "answer": answer(name, asked, verdicts, rows, table, look_of, described),
        "target": target,
        "metric": metrics(rows),
        "rows": [row_of(row) for row in in_reading_order(rows, transports)],
        "columns": DEFINITIONS,
        "intervals": sorted({str(v) for v in rows["final_heldout_loss_interval"] if v != "no value"}),
        "bad": [bad_run(run) for run in runs[runs["status"] != "completed"].sort_values("run_id").to_dict("records")],
        "drawn": drawn,
        "conditions": conditions(results, runs),
        "parts": [part for part in PARTS if (split.loc[split["run_id"].isin(done["run_id"]), part[0]] > 0).any()],
        "many_ranks": int(key["workers"]) > figures.RANKS,
    }
