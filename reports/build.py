"""The report: tables and templates to one HTML string. The same tables give the same bytes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.answers import answers
from analysis.comparison import winner
from analysis.completeness import missing
from analysis.network_grid import network_grid, what_ifs
from analysis.predictions import asked_study
from bench.records import STATUSES, TABLES, Results
from reports import figures, words
from reports.answer import answer
from reports.batches import in_batches
from reports.comparison import bad_run, comparison, counted, metrics
from reports.conditions import conditions
from reports.decided import of_papers
from reports.decision import decision
from reports.definitions import DEFINITIONS, NOTES
from reports.digest import digest
from reports.language import language, t
from reports.material import light, material_of, of_setting
from reports.panels import panels
from reports.predictions import predictions
from reports.provenance import provenance
from reports.runs import led_to, runs_of, shared_provenance
from reports.sections import registry
from reports.sections.base import Material, Section
from reports.shown import ShownTable
from reports.style import LOOKS, PARTS
from reports.traces import Traces, traces

MEASURED = ("mpi", "horovod")
BASELINE = "allreduce-sgd"
SIMULATED_ANSWERS = 3
"""Settings that were only simulated and have an answer of their own; of more, each has a line."""
OPEN_RUNS = 30
"""Runs of a report up to which the lists of runs are open from the start."""


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        html: the self-contained page.
        tables: every table that it shows.
        summary: what `summary.json` says beside what the tables are.
    """

    html: str
    tables: tuple[ShownTable, ...]
    summary: Mapping[str, Any]


def build(
    results: Results,
    *,
    sources: Sequence[str] = (),
    studies: Mapping[str, Any] | None = None,
    problems: Sequence[str] = (),
    files: Mapping[str, Sequence[tuple[str, str]]] | None = None,
    beside: str = "",
    lang: str = "en",
    batches: Iterable[Results] | None = None,
) -> Page:
    """The report of these results; if they are empty, of what there is to say.

    Args:
        results: what `bench.records.load` gives; without events only if there are claims, whose report shows none.
        sources: names of the results folders, for the command that repeats the report.
        studies: name of a results folder -> its resolved study (study.json), shown as it is.
        problems: what else could not be read or is not finished, one sentence each.
        files: run_id -> its files, as (link from the page, name).
        beside: folder of the tables' files, as seen from the page; "" if they are not written.
        lang: one of `reports.language.LANGUAGES`.
        batches: the same results with their events, a few runs at a time; None: those of `results`.
    """
    with language(lang):
        results = light(results)
        traced = traces(in_batches(results) if batches is None else map(light, batches))
        return _build(results, traced, sources, studies or {}, problems, files or {}, beside)


def _build(
    results: Results,
    traced: Traces,
    sources: Sequence[str],
    studies: Mapping[str, Any],
    problems: Sequence[str],
    files: Mapping[str, Sequence[tuple[str, str]]],
    beside: str,
) -> Page:
    runs = results.runs
    everything = material_of(results, traced, sources, beside)
    grid = network_grid(runs, everything.table)
    shared = shared_provenance(runs)
    # What other networks would do is told together, by the section that lays them side by side.
    asides = set(what_ifs(runs))
    first = _sections(registry.FIRST, everything)
    # Of a paper the figures are those of its claims; those of each study are in a report of its own folder.
    claimed = of_papers(sources)
    settings = []
    keys = ["study", "workload", "workers"]
    for number, key in enumerate(sorted(set(everything.summary[keys].itertuples(index=False, name=None))), start=1):
        material = of_setting(everything, f"s{number}", *key)
        aside = key[0] in asides
        settings.append(_setting(material, traced, files, shared, grid, aside, drawn=not (aside or claimed)))
    if all(one["aside"] for one in settings):  # nothing else was asked
        for one in settings:
            one["told"] = True
    simulated = sum(one["answer"]["simulated"] for one in settings)
    several = len(set(map(asked_study, runs["study"]))) > 1
    for one in settings:
        both = t("{workload}, study {study}", workload=one["described"], study=one["study"])
        one["titled"] = both if several or one["aside"] else one["described"]
    for one in settings:  # predictions for many sizes and networks would bury what was measured
        one["brief"] = one["answer"]["simulated"] and simulated > SIMULATED_ANSWERS
    overall = [] if claimed else _sections(registry.OVERALL, everything)
    counts = runs["status"].value_counts()
    content_hash = digest(results)
    skipped = dict.fromkeys([*results.skipped, *traced.skipped])  # files of events are read for the latter alone
    not_used = [*problems, *skipped, *missing(runs, traced.ranks, results.heldout)]
    html = everything.environment.get_template("report.html.j2").render(
        studies=sorted(set(map(asked_study, runs["study"])) or {_name_of(one) for one in studies.values()}),
        several_studies=several,
        counts=words.commas([counted(name, int(counts[name])) for name in STATUSES if name in counts]),
        total=words.plural(len(runs), "run") if len(runs) else "",
        settings=settings,
        first=first,
        claimed=claimed,
        overall=overall,
        predicted=None if claimed else predictions(runs, everything.table, everything.summary, everything.look_of),
        parts=PARTS,
        definitions=DEFINITIONS,
        notes=NOTES,
        tables=[(table.name, [(c.name, c.unit, c.meaning) for c in table.columns]) for table in TABLES.values()],
        provenance=provenance(runs),
        linked=bool(files),
        content_hash=content_hash,
        sources=sources,
        study_files=[(name, json.dumps(study, indent=2, sort_keys=True)) for name, study in sorted(studies.items())],
        problems=not_used,
        palette=[(look.number, look) for look in LOOKS],
    )
    summary = {
        "content_hash": content_hash,
        "sources": list(sources),
        "runs": {"total": len(runs), **{name: int(counts.get(name, 0)) for name in STATUSES}},
        "answers": [one["decision"] for one in settings],
        "problems": not_used,
    }
    return Page(html + "\n", _tables(settings, [*first, *overall]), summary)


def _name_of(study: Any) -> str:
    return str(study.get("name", "")) if isinstance(study, Mapping) else ""


def _tables(settings: Sequence[Mapping[str, Any]], overall: Sequence[Section]) -> tuple[ShownTable, ...]:
    """Every table of the page, in its order."""
    sections = [*(section for one in settings for section in one["sections"]), *overall]
    shown = [
        *(one["comparison"] for one in settings),
        *(table for section in sections for table in section.tables),
        *(one["runs"]["table"] for one in settings),
    ]
    names = [table.name for table in shown]
    assert len(names) == len(set(names)), f"two tables have the same name: {sorted(names)}"
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in names), f"a table's name is not [a-z0-9-]: {names}"
    return tuple(shown)


def _sections(parts: Sequence[Callable[[Material], Section | None]], material: Material) -> list[Section]:
    """What each of these parts makes of the material."""
    made = (part(material) for part in parts)
    return [section for section in made if section is not None]


def _setting(
    material: Material,
    traced: Traces,
    files: Mapping[str, Sequence[tuple[str, str]]],
    shared: Mapping[str, Mapping[str, Any]],
    grid: pd.DataFrame,
    aside: bool,
    drawn: bool,
) -> dict[str, Any]:
    """Everything the template needs for one (study, workload, workers).

    Args:
        aside: it is told elsewhere.
        drawn: with its own figures and sections.
    """
    setting, rows, table, split = material.setting, material.summary, material.table, material.split
    assert setting is not None
    results, look_of = material.results, material.look_of
    transports = [on for on in (*MEASURED, "simulated") if on in set(rows["transport"])]
    transports += sorted(set(rows["transport"]) - set(transports))
    verdicts = {on: winner(rows, setting.workload, on, baseline=BASELINE) for on in transports}
    # Measured over MPI is the answer; without that any other measurement; without that the simulator, and said so.
    asked = next((on for on in transports if verdicts[on].best is not None), None)
    done = table[table["status"] == "completed"]
    runs = results.runs[results.runs["run_id"].isin(table["run_id"])]
    target = float(rows["target_loss"].max())
    saved = {row["transport"]: row for row in answers(rows, table).to_dict("records")}
    places = led_to(setting.name, list(rows["label"].unique()))
    compared = comparison(material.id("comparison"), setting.described, rows, transports, runs, places)
    listed = runs_of(setting, runs, table, files, shared, opened=len(results.runs) <= OPEN_RUNS)
    return {
        "name": setting.name,
        "study": setting.study,
        "workload": setting.workload,
        "workers": setting.workers,
        "described": setting.described,
        "aside": aside,
        "told": not aside,
        "answer": answer(
            setting.name,
            asked,
            verdicts,
            rows,
            table,
            look_of,
            setting.described,
            runs=runs,
            heldout=results.heldout,
            grid=grid,
        ),
        "decision": {
            "study": setting.study,
            "workload": setting.workload,
            "workers": setting.workers,
            "transport": asked,
            "by_transport": {on: decision(verdicts[on], saved.get(on)) for on in transports},
        },
        "target": target,
        "metric": metrics(rows),
        "comparison": compared,
        "comparison_html": compared.html(material.environment),
        "intervals": [
            words.interval_kind(kind) for kind in sorted(set(rows["final_heldout_loss_interval"]) - {"no value"})
        ],
        "bad": [bad_run(run) for run in runs[runs["status"] != "completed"].sort_values("run_id").to_dict("records")],
        "drawn": panels(material, traced.histogram, transports, target) if drawn else [],
        "sections": _sections(registry.PER_SETTING, material) if drawn else [],
        "conditions": conditions(replace(results, events=traced.moved), runs),
        "parts": [part for part in PARTS if (split.loc[split["run_id"].isin(done["run_id"]), part[0]] > 0).any()],
        "many_ranks": setting.workers > figures.RANKS,
        "runs": listed,
        "runs_html": listed["table"].html(material.environment),
    }
