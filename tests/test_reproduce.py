"""`paceline reproduce`: grids and scales of its studies, what is decided and what is not, the ledger, and bad input."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

import paceline
from analysis import claim_table
from analysis.papers.catalogue import NAMES
from analysis.papers.catalogue import paper as paper_of
from analysis.papers.claim import Claim, Decision, Paper, Part, within
from analysis.papers.decide import decide
from analysis.papers.evidence import TABLE, Evidence, Missing
from analysis.papers.ledger import ledger
from bench.experiments.catalogue import experiments
from bench.grid import expanded
from bench.pilot import Pilot
from bench.scales import PAPERS, scaled, study_of
from bench.settings import StudyError
from bench.study import resolve
from tests.support.datasets import needs_data

STUDY = {
    "name": "sweep",
    "workload": {"name": "quadratic"},
    "algorithm": [
        {"name": "easgd", "grid": {"optimizer.lr": [0.01, 0.05], "period": [1, 4]}, "optimizer": {"name": "sgd"}},
        {"name": "ad-psgd"},
    ],
    "transports": ["simulated"],
}


# -- grids ------------------------------------------------------------------------------------------------------------


def test_a_grid_is_an_entry_for_each_combination_with_a_label_of_its_own() -> None:
    study = resolve(STUDY)
    assert [a.label for a in study.algorithms] == [
        "easgd@lr=0.01,period=1", "easgd@lr=0.01,period=4", "easgd@lr=0.05,period=1", "easgd@lr=0.05,period=4",
        "ad-psgd",
    ]  # fmt: skip
    easgd = [a.algorithm for a in study.algorithms[:4]]
    assert [(a.optimizer.lr, a.period) for a in easgd] == [(0.01, 1), (0.01, 4), (0.05, 1), (0.05, 4)]
    assert all(a.optimizer.name == "sgd" for a in easgd), "the rest of the table stays"


def test_what_is_kept_beside_the_results_still_has_the_grid_and_resolves_to_the_same_runs() -> None:
    study = resolve(STUDY)
    assert study.raw["algorithm"][0]["grid"] == {"optimizer.lr": [0.01, 0.05], "period": [1, 4]}
    assert [c.run_id for c in resolve(study.raw).cells()] == [c.run_id for c in study.cells()]


def test_an_entry_written_by_hand_is_the_same_run_but_for_its_label() -> None:
    by_hand = {
        "name": "easgd",
        "label": "easgd@lr=0.05,period=4",
        "optimizer": {"name": "sgd", "lr": 0.05},
        "period": 4,
    }
    alone = resolve(STUDY | {"algorithm": [by_hand]})
    assert next(alone.cells()).run_id in {c.run_id for c in resolve(STUDY).cells()}


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ([1, 2], "expected a table such as"),
        ({}, "expected a table such as"),
        ({"period": 4}, "grid.period: expected a list of values: got 4"),
        ({"period": []}, "grid.period: expected a list"),
        ({"name.lr": [1]}, "name is not a table: got 'easgd'"),
        ({"perod": [1]}, "perod"),
        ({"period": [1, 1]}, "stands there 2 times"),
    ],
)
def test_a_bad_grid_is_one_clear_line(grid: object, said: str) -> None:
    with pytest.raises(StudyError) as raised:
        resolve(STUDY | {"algorithm": [{"name": "easgd", "grid": grid}]})
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_grid_of_millions_is_refused() -> None:
    many = list(range(1, 1002))
    with pytest.raises(StudyError, match="at most 10000"):
        expanded([{"name": "easgd", "grid": {"period": many, "a": list(range(10))}}], "study")


# -- scales -----------------------------------------------------------------------------------------------------------

SCALED = """
name = "s"
seeds = [0]
[budget]
seconds = 1
[[workload]]
name = "quadratic"
[[algorithm]]
name = "easgd"
grid = { period = [1, 4] }
[[algorithm]]
name = "easgd"
label = "slow"
period = 64
[full]
seeds = [0, 1]
budget = { seconds = 9 }
[full.algorithm.slow]
period = 128
"""


def test_the_full_scale_is_the_quick_one_with_its_changes() -> None:
    raw = tomllib.loads(SCALED)
    quick, full = scaled(raw, "quick", "s"), scaled(raw, "full", "s")
    assert "full" not in quick and "full" not in full
    assert (quick["seeds"], quick["budget"]) == ([0], {"seconds": 1})
    assert (full["seeds"], full["budget"]) == ([0, 1], {"seconds": 9})
    assert [a["period"] for a in (quick["algorithm"][1], full["algorithm"][1])] == [64, 128]
    assert quick["algorithm"][0] == full["algorithm"][0]


def test_a_change_of_what_is_not_there_is_refused() -> None:
    with pytest.raises(StudyError, match=r"\[full.algorithm\] names 'fast' \(known: easgd, slow\)"):
        scaled(tomllib.loads(SCALED.replace("algorithm.slow", "algorithm.fast")), "full", "s")


def test_a_study_that_is_not_there_is_one_line() -> None:
    with pytest.raises(StudyError, match="cannot read"):
        study_of("easgd", "nothing", "quick")


# -- the catalogue ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_papers_claims_name_parts_that_exist(name: str) -> None:
    paper = paper_of(name)
    assert paper.name == name
    ids = [claim.id for claim in paper.claims]
    assert len(set(ids)) == len(ids)
    parts = {part.name for part in paper.parts}
    for claim in paper.claims:
        assert set(claim.parts) <= parts, claim.id
        assert claim.kind in claim_table.KINDS
        assert claim.statement and claim.rule and claim.expected, claim.id
    made = experiments(name)
    for part in paper.parts:
        if part.kind == "experiment":
            assert part.name in made, part.name
        else:
            assert (PAPERS / name / f"{part.name}.toml").is_file(), part.name
    assert set(made) <= parts
    assert {path.stem for path in (PAPERS / name).glob("*.toml")} <= parts


@pytest.mark.parametrize("name", NAMES)
def test_a_papers_studies_are_valid_at_both_scales_and_full_has_at_least_as_many_runs(name: str) -> None:
    for part in paper_of(name).parts:
        if part.kind == "study":
            quick, full = (len(list(resolve(study_of(name, part.name, s)).cells())) for s in ("quick", "full"))
            assert 0 < quick <= full, part.name


@needs_data
@pytest.mark.thorough
@pytest.mark.parametrize("name", NAMES)
def test_every_workload_of_a_papers_studies_can_be_tried(name: str, data_folder: Path) -> None:
    """With the settings, the sharing out of data and the number of workers that the studies give it."""
    for part in paper_of(name).parts:
        if part.kind == "study":
            cells = {repr((c.workload, c.workers)): c for c in resolve(study_of(name, part.name, "full")).cells()}
            for cell in cells.values():
                if cell.transport == "simulated":
                    assert Pilot(seconds=0.0).wall_s(cell) > 0, cell.run_id


@pytest.mark.parametrize("name", [NAMES[0], *(pytest.param(name, marks=pytest.mark.thorough) for name in NAMES[1:])])
def test_without_evidence_nothing_is_decided(name: str, tmp_path: Path) -> None:
    decided = decide(paper_of(name), Evidence(tmp_path, "quick"))
    with_evidence = [claim.id for claim in paper_of(name).claims if claim.parts]
    assert set(with_evidence) <= set(decided.undecided)


# -- deciding ---------------------------------------------------------------------------------------------------------


def test_a_number_within_its_tolerance_or_whose_interval_reaches_it() -> None:
    def verdict(measured: float, **more: float) -> str:
        return within(measured, 1.0, 0.1, found="", n=1, **more).verdict

    assert verdict(1.1) == verdict(0.9) == "reproduced"
    assert verdict(1.11) == "contradicted"
    assert verdict(1.2, low=1.05, high=1.35) == "partly"
    assert verdict(1.2, low=1.15, high=1.25) == "contradicted"
    assert verdict(float("nan")) == "not shown"


def paper(*claims: Claim) -> Paper:
    part = Part(name="t", kind="experiment", what="a table")
    return Paper(name="easgd", title="A paper", url="", parts=(part,), claims=claims)


def rule(evidence: Evidence) -> Decision:
    table = evidence.table("t")
    return within(float(table["x"].mean()), 2.0, 0.5, found="the mean", n=len(table), rows=["a run"])


def claim(name: str) -> Claim:
    return Claim(id=name, statement="s", kind="exact", expected="2", rule="r", parts=("t",), decide=rule)


def test_a_rule_decides_by_the_evidence_alone(tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"t: table\.parquet cannot be read"):
        rule(Evidence(tmp_path, "quick"))
    (tmp_path / "t").mkdir()
    verdicts = []
    for x in (2.1, 3.0):
        pd.DataFrame({"x": [x]}).to_parquet(tmp_path / "t" / TABLE)
        decided = decide(paper(claim("A1")), Evidence(tmp_path, "full"))
        verdicts.append(decided.rows[0]["verdict"])
        claim_table.write(tmp_path, decided.rows)
    assert verdicts == ["reproduced", "contradicted"]
    kept = claim_table.read(tmp_path).iloc[0]
    assert (kept["measured"], kept["n"], kept["command"]) == (3.0, 1, "paceline reproduce easgd --full --only A1")


def test_the_ledger_counts_and_lists(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    pd.DataFrame({"x": [2.1]}).to_parquet(tmp_path / "t" / TABLE)
    rows = decide(paper(claim("A1"), claim("A2")), Evidence(tmp_path, "quick")).rows
    claim_table.write(tmp_path, [rows[0], rows[1] | {"verdict": "not shown", "found": "a | b"}])
    text = ledger([claim_table.read(tmp_path)])
    assert "| A paper | 2 | 1 | 0 | 1 | 0 |" in text
    assert "| **all** | **2** | **1** | **0** | **1** | **0** |" in text
    assert "| A2 | s | exact | ○ not shown | a \\| b | 1 |" in text


def test_of_a_claim_decided_at_both_scales_the_ledger_shows_the_full_one_and_can_keep_both(tmp_path, capsys) -> None:
    from reports.papers import folder

    def decided(name: str, scale: str, n: int, *ids: str) -> Path:
        out = tmp_path / name
        for part in ("", "t"):
            (out / part).mkdir(exist_ok=True)
        pd.DataFrame({"x": [2.0] * n}).to_parquet(out / "t" / TABLE)
        rows = decide(paper(*map(claim, ids)), Evidence(out, scale)).rows  # type: ignore[arg-type]
        claim_table.write(out, rows)
        folder.write(out, "easgd", scale)  # type: ignore[arg-type]
        return out

    full, quick = decided("a", "full", 5, "A2"), decided("b", "quick", 3, "A1", "A2")
    newer = decided("c", "quick", 4, "A1")
    kept = tmp_path / "kept"
    asked = [str(full), str(quick), str(newer), "--keep", str(kept)]
    assert paceline.main(["reproduce", "ledger", *asked]) == 0
    text = capsys.readouterr().out
    rows = [line for line in text.splitlines() if line.startswith("| A")]
    assert [row.split(" | ")[-2:] for row in rows if "`" in row] == [
        ["4", "`paceline reproduce easgd --quick --only A1` |"],
        ["5", "`paceline reproduce easgd --full --only A2` |"],
    ]
    assert sorted(path.name for path in kept.iterdir()) == ["easgd-full", "easgd-quick"]
    assert claim_table.read(kept / "easgd-quick")["n"].tolist() == [4, 3], "what only the older folder has stays"
    assert paceline.main(["reproduce", "ledger", *map(str, kept.iterdir())]) == 0
    assert capsys.readouterr().out == text, "made again without the runs"


# -- the command ------------------------------------------------------------------------------------------------------


def test_experiments_are_made_once_and_claims_are_decided_and_reported(tmp_path, monkeypatch, capsys) -> None:
    from bench.experiments.easgd import EXPERIMENTS
    from reports.papers import folder

    made = []
    monkeypatch.setattr("bench.lanes.cores", lambda: 1)  # so that experiments are made in this process

    def experiment(scale):
        made.append(scale)
        return [{"x": 1.8}, {"x": 2.2}]

    monkeypatch.setitem(EXPERIMENTS, "t", experiment)
    monkeypatch.setattr("analysis.papers.catalogue.paper", lambda name: paper(claim("A1"), claim("A2")))
    out = tmp_path / "out"
    for _ in range(2):
        assert paceline.main(["reproduce", "easgd", "--out", str(out)]) == 0
    assert made == ["quick"], "what is there is not made again"
    assert list(claim_table.read(out)["verdict"]) == ["reproduced", "reproduced"]
    pd.DataFrame({"x": [9.0]}).to_parquet(out / "t" / TABLE)
    assert paceline.main(["reproduce", "easgd", "--no-run", "--only", "A2", "--out", str(out)]) == 1
    assert list(claim_table.read(out)["verdict"]) == ["reproduced", "contradicted"], "the others stay"
    said = capsys.readouterr()
    assert "exact claims that were not reproduced: A2" in said.err
    assert said.err.count("easgd --quick: 2 claims, ") == 2 and "easgd --quick: 1 claim, " in said.err
    page = (out / "report.html").read_text()
    assert "A paper" in page and "contradicted" in page
    assert folder.read(out) == ("easgd", "quick"), "so that the report draws the paper's figures"


def test_a_table_of_other_source_is_made_again(tmp_path, monkeypatch) -> None:
    from bench.experiments.easgd import EXPERIMENTS

    made = []
    monkeypatch.setattr("bench.lanes.cores", lambda: 1)  # so that experiments are made in this process
    monkeypatch.setitem(EXPERIMENTS, "t", lambda scale: made.append(scale) or [{"x": 2.0}])
    monkeypatch.setattr("analysis.papers.catalogue.paper", lambda name: paper(claim("A1")))
    table = tmp_path / "t" / TABLE
    table.parent.mkdir()
    pd.DataFrame({"x": [9.0]}).to_parquet(table)  # says nothing of its source
    ask = ["reproduce", "easgd", "--out", str(tmp_path)]
    assert paceline.main(ask) == 0 and made == ["quick"]
    assert paceline.main(ask) == 0 and made == ["quick"]
    monkeypatch.setattr("bench.experiments.version.version", lambda *_: "another")
    assert paceline.main(ask) == 0 and made == ["quick", "quick"]


def test_the_version_of_an_experiment_is_of_what_it_does_at_a_scale(tmp_path, monkeypatch) -> None:
    """A package of three modules: two experiments, one of which uses what the third says."""
    from bench.experiments import version as versions

    sources = {
        "one": '"""One."""\nfrom made_up.shared import RATE\n\n\ndef run(scale):\n    return [{"rate": RATE}]\n',
        "two": "def run(scale):\n    return []\n",
        "shared": "RATE = 0.1\n",
        "__init__": "from made_up import one, two\n",
    }
    package = tmp_path / "made_up"
    package.mkdir()
    monkeypatch.setattr(versions, "PACKAGE", "made_up")
    monkeypatch.syspath_prepend(str(tmp_path))

    def told(**changed: str) -> list[str]:
        for name, source in (sources | changed).items():
            (package / f"{name}.py").write_text(source)
        made = [lambda scale: [] for _ in range(2)]
        made[0].__module__, made[1].__module__ = "made_up.one", "made_up.two"
        return [versions.version(experiment, "quick") for experiment in made]

    one, two = told()
    assert one != two
    assert told(shared='# a comment\nRATE   = 0.1\n"""What it is."""\n') == [one, two]
    assert told(one='"""Says more."""\n' + sources["one"]) == [one, two]
    changed = told(shared="RATE = 0.2\n")
    assert changed[0] != one and changed[1] == two, "what it imports counts, for it alone"
    assert versions.version(lambda scale: [], "quick") != versions.version(lambda scale: [], "full")


def test_a_folder_with_other_runs_is_no_evidence(tmp_path, monkeypatch, capsys) -> None:
    """Another paper, another scale, or runs that the study no longer asks for: one line, and nothing is touched."""
    from reports.papers import folder

    part = Part(name="sweep", kind="study", what="runs")
    of = Paper(name="easgd", title="A paper", url="", parts=(part,), claims=(replace(claim("A1"), parts=("sweep",)),))
    monkeypatch.setattr("analysis.papers.catalogue.paper", lambda name: of)
    monkeypatch.setattr("bench.scales.study_of", lambda *_: STUDY)
    stranger = tmp_path / "sweep" / "runs" / "of-another-study" / "run.parquet"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"")
    for more in ([], ["--no-run"]):
        assert paceline.main(["reproduce", "easgd", "--out", str(tmp_path), *more]) == 2
        said = capsys.readouterr().err
        assert "holds 1 run that today's study does not ask for: of-another-study" in said
        assert len(said.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["sweep"]
    folder.write(tmp_path, "easgd", "full")
    assert paceline.main(["reproduce", "easgd", "--out", str(tmp_path)]) == 2
    assert "holds easgd --full, not easgd --quick (choose another --out)" in capsys.readouterr().err
    (tmp_path / folder.FILE).write_text("{")
    assert paceline.main(["reproduce", "easgd", "--out", str(tmp_path)]) == 2
    assert "paper.json: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["esgd"], "unknown paper 'esgd' (did you mean 'easgd'?)"),
        (["easgd", "--only", "Z9"], "easgd has no claim 'Z9'"),
        (["easgd", "folder"], "Folders are given to ledger only"),
        (["ledger"], "ledger: no folder given"),
        (["ledger", "nowhere"], "nowhere holds no decided claims"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], said: str, capsys) -> None:
    assert paceline.main(["reproduce", *arguments]) == 2
    err = capsys.readouterr().err
    assert said in err and len(err.splitlines()) == 1
