"""What a section is made from, and what it gives to the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment
from markupsafe import Markup

from bench.records import Results
from reports.shown import ShownTable
from reports.style import Look


@dataclass(frozen=True)
class Setting:
    """One workload with one number of workers in one study.

    Attributes:
        name: prefix of ids in the page: "s1", "s2", ...
        described: in words.
    """

    name: str
    study: str
    workload: str
    workers: int
    described: str


@dataclass(frozen=True)
class Material:
    """The tables of a report, or of one setting of it.

    Attributes:
        results: what `bench.records.load` gave, of all settings.
        table: `analysis.summary.per_run`.
        summary: `analysis.summary.summarise` of it.
        split: `analysis.timing.time_split` with the column `label`.
        look_of: label -> how the algorithm is drawn, everywhere.
        sources: the results folders, for tables that lie beside the runs (probes).
        environment: of the templates; those of sections are in `templates/sections`.
        setting: whose rows `table`, `summary` and `split` hold; None means all.
    """

    results: Results
    table: pd.DataFrame
    summary: pd.DataFrame
    split: pd.DataFrame
    look_of: Mapping[str, Look]
    sources: Sequence[str]
    environment: Environment
    setting: Setting | None = None

    def id(self, name: str) -> str:
        """An id for the page: unique among settings."""
        return name if self.setting is None else f"{self.setting.name}-{name}"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: its id in the page; `Material.id` makes one.
        title: heading, in the reader's language.
        html: what stands below the heading.
        tables: those that are shown in `html`, for the files beside the page.
    """

    anchor: str
    title: str
    html: Markup
    tables: tuple[ShownTable, ...] = ()
