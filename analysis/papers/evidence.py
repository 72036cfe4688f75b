"""What a rule may look at: the tables of a paper's parts, read from their folders when they are asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from analysis.summary import per_run
from bench.records import Results, load

Scale = Literal["quick", "full"]
TABLE = "table.parquet"
"""An experiment's table in its part's folder."""


class Missing(Exception):
    """A part of the evidence is not there or not whole; the message says which."""


@dataclass(frozen=True)
class Evidence:
    """The parts of a paper's evidence below one folder.

    Attributes:
        folder: holds a folder for each part.
        scale: at which scale they were made; a rule may ask for fewer seeds in "quick", never for another tolerance.
    """

    folder: Path
    scale: Scale
    _results: dict[str, Results] = field(default_factory=dict, repr=False)
    _runs: dict[str, pd.DataFrame] = field(default_factory=dict, repr=False)

    def results(self, part: str) -> Results:
        """All tables of a study's runs, but for their events, which take gigabytes and few rules ask for.

        Raises:
            Missing: the study has not been run.
        """
        if part not in self._results:
            self._results[part] = self._load(part, events=False)
        return self._results[part]

    def with_events(self, part: str) -> Results:
        """All tables of a study's runs; what is read for it is not kept.

        Raises:
            Missing: the study has not been run.
        """
        given = self._results.get(part)
        return self._load(part, events=True) if given is None or given.events.empty else given

    def _load(self, part: str, events: bool) -> Results:
        try:
            results = load(self.folder / part, events=events)
        except ValueError as error:
            raise Missing(f"{part}: {error}") from error
        if results.runs.empty:
            raise Missing(f"{part}: no run has ended")
        return results

    def runs(self, part: str) -> pd.DataFrame:
        """One row per run of a study, with `settings` as read from JSON.

        It is what `analysis.summary.per_run` gives, without the columns that events tell (`of_events`).

        Raises:
            Missing: the study has not been run.
        """
        if part not in self._runs:  # several claims and figures ask for the same study
            results = self.results(part)
            table = per_run(results, traced=results.runs[["run_id"]])
            settings = results.runs.set_index("run_id")["settings"].map(json.loads)
            self._runs[part] = table.assign(settings=table["run_id"].map(settings))
        return self._runs[part]

    def give(self, part: str, results: Results) -> None:
        """Take the tables of a study's runs as they are given, so that they are not read again.

        Args:
            results: as `bench.records.load` gives them, with events or without.
        """
        self._results[part] = results

    def table(self, part: str) -> pd.DataFrame:
        """What an experiment found.

        Raises:
            Missing: it has not been made.
        """
        path = self.folder / part / TABLE
        try:
            frame: pd.DataFrame = pd.read_parquet(path)
        except (OSError, ValueError) as error:
            raise Missing(f"{part}: {path.name} cannot be read: {str(error).splitlines()[0]}") from error
        return frame
