"""The section of figures as in the papers: whose it shows, what it leaves out, and where it leads."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import claim_table
from analysis.papers.catalogue import NAMES
from analysis.papers.catalogue import paper as paper_of
from analysis.papers.evidence import Evidence
from analysis.summary import per_run
from bench.records import TABLES, load
from reports.language import language
from reports.papers import folder
from reports.papers.at_hand import evidence_of
from reports.papers.catalogue import figures
from reports.sections import claims, papers
from reports.sections.base import Section
from tests.support.dpsgd_evidence import tabled
from tests.support.paper_figures import material
from tests.support.synthetic import write_results


def smoothed(out: Path, top: float = 4.0) -> None:
    """A results folder whose evidence suffices for one figure."""
    rows = [{"seed": 0, "step": 40, "sigma": s, "factor": s, "eigenvalue": v} for s, v in ((0.0, 3.0), (8.0, top))]
    out.mkdir(exist_ok=True)
    tabled(out, "smoothing", rows)


def decided(out: Path, claim_id: str, **more: Any) -> None:
    row = dict(
        claim_id=claim_id, paper=paper_of("dpsgd").title, statement="s", kind="shape", expected="e", tolerance="",
        measured=1.0, low=1.0, high=1.0, unit="", found="", n=1, verdict="partly", rule="r", command="c", rows=[],
    )  # fmt: skip
    claim_table.write(out, [row | more])


def shown(*sources: Path) -> Section:
    section = papers.section(material(*sources))
    assert section is not None
    return section


def test_every_paper_has_figures() -> None:
    assert all(figures(name) for name in NAMES)
    with pytest.raises(KeyError):
        figures("other")


def test_a_report_of_other_runs_has_no_such_section(tmp_path: Path) -> None:
    assert papers.section(material(tmp_path)) is None


def test_a_figure_leads_to_its_claims_and_says_which_parts_others_lack(tmp_path: Path) -> None:
    smoothed(tmp_path)
    folder.write(tmp_path, "dpsgd", "quick")
    decided(tmp_path, "A8b")
    (tmp_path / "sweep").mkdir()
    section = shown(tmp_path / "sweep")  # as given where parts have runs: the folder above is the paper's
    html = str(section.html)
    assert 'id="figure-dpsgd-smoothing"' in html and html.count("<figure>") == 1
    assert [table.name for table in section.tables] == ["paper-dpsgd-smoothing"]
    assert 'data-value="4.0"' in html
    place = re.search(r'href="#(claim-[\d-]+)">A8b', html)
    own = claims.section(material(tmp_path))
    assert place is not None and own is not None and f'id="{place[1]}"' in own.html and "partly reproduced" in html
    left_out = re.search(r"are left out[^<]*", html)
    assert left_out is not None and "sweep, five" in left_out[0] and "smoothing" not in left_out[0]


def test_of_both_scales_the_full_one_is_drawn(tmp_path: Path) -> None:
    for name, scale, top in (("a", "quick", 4.0), ("b", "full", 5.0), ("c", "quick", 6.0)):
        smoothed(tmp_path / name, top)
        folder.write(tmp_path / name, "dpsgd", scale)  # type: ignore[arg-type]
    section = shown(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert section.tables[0].frame["y"].tolist() == [3.0, 5.0] and str(section.html).count("<figure>") == 1


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("torn", "cannot be read: JSONDecodeError"),
        ("[]", "cannot be read: TypeError"),
        ('{"paper": "dpsgd"}', "cannot be read: KeyError"),
        ('{"paper": "other", "scale": "quick"}', "paper must be one of dpsgd, easgd"),
        ('{"paper": "dpsgd", "scale": "huge"}', "got &#39;dpsgd&#39; and &#39;huge&#39;"),
    ],
)
def test_a_file_that_says_what_cannot_be_is_named_in_one_line(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / folder.FILE).write_text(text)
    section = shown(tmp_path)
    assert why in section.html and section.tables == ()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert folder.read(tmp_path) is None
    folder.write(tmp_path, "easgd", "full")
    assert folder.read(tmp_path) == ("easgd", "full")
    assert json.loads((tmp_path / folder.FILE).read_text()) == {"paper": "easgd", "scale": "full"}


def test_the_section_speaks_japanese(tmp_path: Path) -> None:
    smoothed(tmp_path)
    folder.write(tmp_path, "dpsgd", "quick")
    with language("ja"):
        section = shown(tmp_path)
    assert section.title == "論文にならった図" and "ならした損失の曲率" in section.html


@pytest.mark.thorough
def test_what_the_report_has_read_is_the_same_evidence_as_what_is_on_disk(tmp_path: Path) -> None:
    write_results(tmp_path / "sweep", steps=4)
    write_results(tmp_path / "other", steps=4, workloads=("mnist-mlp",))
    results = load(tmp_path / "other", tmp_path / "sweep")
    own = replace(material(tmp_path), results=results, table=per_run(results))
    given, read = evidence_of(tmp_path, "dpsgd", "quick", own), Evidence(tmp_path, "quick")
    assert "sweep" in given._results and len(read.runs("sweep")) < len(own.table)
    for name in TABLES:
        pd.testing.assert_frame_equal(
            getattr(given.with_events("sweep"), name), getattr(read.with_events("sweep"), name), check_categorical=False
        )
        for column in getattr(given.with_events("sweep"), name).select_dtypes("category"):
            kinds = getattr(given.with_events("sweep"), name)[column].cat.categories
            assert set(kinds) == set(getattr(read.with_events("sweep"), name)[column].astype(str))
    assert read.results("sweep").events.empty
    pd.testing.assert_frame_equal(given.runs("sweep"), read.runs("sweep"))
    few = replace(own, results=replace(results, runs=results.runs.iloc[:1]))
    assert not evidence_of(tmp_path, "dpsgd", "quick", few)._results, "a part that the report lacks runs of is read"
