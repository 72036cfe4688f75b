"""`paceline compare`: made-up results whose changes are known."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import paceline
from analysis.changes import NUMBERS, changes, numbers_per_run
from analysis.circumstances import environment, settings, statuses
from bench.records import load
from reports.compare.conditions import parse
from reports.compare.reasons import told
from reports.language import language
from tests.support.synthetic import EVIL, SCHEDULES, write_run

ALLREDUCE = SCHEDULES[0]  # over MPI it reaches the target at snapshot 14 of 20
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    monkeypatch.setattr(os, "fsync", lambda file: None)  # nothing here outlives a crash

    def write(name: str, seeds: Sequence[int] = (0, 1, 2), schedule: Any = ALLREDUCE, **known: Any) -> Path:
        """Runs of one cell; `late` and `status` may be given by seed."""
        for number, seed in enumerate(seeds):
            own = {k: v[number] if isinstance(v, list | tuple) else v for k, v in known.items()}
            write_run(tmp_path / name, schedule, "mpi", seed, steps=10, **own)
        return tmp_path / name

    return write


def rewrite(folder: Path, **columns: Any) -> None:
    """Other values in the runs' rows."""
    for path in folder.glob("runs/*/run.parquet"):
        table = pq.read_table(path)
        for name, value in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, table.schema.field(at), pa.array([value], table.schema.field(at).type))
        pq.write_table(table, path)


def compare(*arguments: Any) -> int:
    return paceline.main(["compare", *map(str, arguments)])


def found(old: Path, new: Path) -> dict[str, Any]:
    """Number -> its row, of results with one cell."""
    table = changes(numbers_per_run(load(old)), numbers_per_run(load(new)))
    return {str(row["number"]): row for row in table.to_dict("records")}


# -- the numbers -------------------------------------------------------------------------------------------------------


def test_the_same_results_have_not_changed(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old = write("old", late=(0, 1, 2))
    rows = found(old, old)
    assert {row["word"] for row in rows.values()} == {"no change"}
    for row in rows.values():
        assert row["difference"] == 0 and (row["ratio"] == 1 or math.isnan(row["ratio"]))
    asked = [part for sign in (">", "<") for part in ("--fail-if", f"time_to_target_s {sign} 1")]
    assert compare(old, old, *asked, "--fail-if", "status") == 0
    assert "Settings differ" not in (text := capsys.readouterr().out) and "machine differ" not in text


def test_a_target_reached_two_snapshots_later_in_every_pair(write: Write) -> None:
    row = found(write("old", late=(0, 1, 2)), write("new", late=(2, 3, 4)))["time_to_target_s"]
    assert (row["word"], row["shown"], row["chance"]) == ("worse", True, 2 / 2**3)
    ratios = [16 / 14, 17 / 15, 18 / 16]
    assert row["ratio"] == pytest.approx(math.prod([ratios[0], ratios[1]]) ** 0.5, rel=0.01)
    assert (row["ratio_low"], row["ratio_high"]) == pytest.approx((min(ratios), max(ratios)))
    assert row["interval"] == "3 pairs of runs with one seed, 75 %"


def test_pairs_show_what_the_spread_over_seeds_hides(write: Write) -> None:
    old, new = write("old", late=(0, 2, 4)), write("new", late=(1, 3, 5))
    assert found(old, new)["time_to_target_s"]["word"] == "worse"
    # With other seeds the runs are no pairs, and their ranges overlap.
    other = write("other", seeds=(5, 6, 7), late=(1, 3, 5))
    row = found(old, other)["time_to_target_s"]
    assert (row["word"], row["shown"]) == ("not shown", False)
    assert row["ratio"] == pytest.approx((15 + 17 + 19) / (14 + 16 + 18))
    assert "worst and best cases" in row["interval"]


@pytest.mark.thorough
def test_one_pair_the_other_way_shows_nothing(write: Write) -> None:
    row = found(write("old", late=(0, 0, 3)), write("new", late=(2, 2, 0)))["time_to_target_s"]
    assert row["word"] == "not shown" and row["reason"].startswith("1 of 3 pairs lower, 2 higher")


def test_what_falls_between_two_snapshots_is_no_change(write: Write) -> None:
    # 1 ms more in a step makes every time to the target longer, but each lies between the snapshots around the old one.
    row = found(write("old"), write("new", schedule=replace(ALLREDUCE, apply=2)))["time_to_target_s"]
    assert row["new"] / row["old"] == pytest.approx(22 / 21) and row["word"] == "not shown"
    assert row["ratio_low"] == 1 and row["ratio_high"] == pytest.approx(22 / 21)
    assert "too close to tell" in row["reason"]


@pytest.mark.thorough
def test_two_pairs_are_judged_by_the_reports_rule(write: Write) -> None:
    old, new = write("old", seeds=(0, 1), late=(0, 4)), write("new", seeds=(0, 1), late=(2, 6))
    assert found(old, new)["time_to_target_s"]["word"] == "not shown"  # 14, 18 and 16, 20: the ranges overlap
    later = write("later", seeds=(0, 1), late=(5, 6))
    row = found(old, later)["time_to_target_s"]
    assert (row["word"], row["chance"]) == ("worse", 1 / 3)


def test_the_direction_of_each_number_decides_the_word(write: Write) -> None:
    slower = replace(ALLREDUCE, gradient=20)
    rows = found(write("old"), write("new", schedule=slower))
    assert (rows["samples_per_s"]["word"], rows["wire_Gbit_per_s"]["word"]) == ("worse", "lower")
    assert rows["samples_per_s"]["ratio"] == pytest.approx(21 / 31)  # 10 + 2 * 3, 4 and 1 ms; then 10 ms more
    assert rows["wire_nbytes_per_sample"]["word"] == "no change"
    assert rows["wire_nbytes_per_sample"]["old"] == pytest.approx(4 * 6000 / (4 * 16))
    assert rows["final_heldout_loss"]["word"] == "no change"


def test_rounding_is_no_change(write: Write) -> None:
    old, new = write("old"), write("new")
    for path in new.glob("runs/*/heldout.parquet"):
        table = pq.read_table(path)
        at = table.schema.get_field_index("heldout_loss")
        losses = pa.array([x * (1 + 1e-6) for x in table["heldout_loss"].to_pylist()])
        pq.write_table(table.set_column(at, table.schema.field(at), losses), path)
    row = found(old, new)["final_heldout_loss"]
    assert row["difference"] != 0 and row["word"] == "no change" and not row["shown"]


@pytest.mark.thorough
def test_a_target_that_is_no_longer_reached_is_infinitely_late(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = write("old"), write("new", status="diverged")
    row = found(old, new)["time_to_target_s"]
    assert row["ratio"] == math.inf and row["missed_new"] == 3 and row["word"] == "worse"
    assert compare(old, new, "--fail-if", "time_to_target_s > 1000") == 1
    assert "never" in capsys.readouterr().out
    assert found(new, old)["time_to_target_s"]["ratio"] == 0 and found(new, old)["time_to_target_s"]["word"] == "better"
    both = found(new, new)["time_to_target_s"]
    assert both["word"] == "no change" and math.isnan(both["difference"]) and math.isnan(both["ratio"])
    assert compare(new, new, "--fail-if", "time_to_target_s > 1.05") == 2
    assert "the target was missed before and after" in capsys.readouterr().err


def test_a_run_without_a_curve_has_missed_no_target(write: Write) -> None:
    old = write("old")
    for path in old.glob("runs/*/heldout.parquet"):
        path.unlink()
    assert "time_to_target_s" not in found(old, old)


def test_every_number_has_a_unit_and_a_meaning() -> None:
    assert all(meaning for _, meaning in NUMBERS.values())


# -- what else differs -------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_statuses_that_got_worse(write: Write) -> None:
    old = load(write("old")).runs
    for name, given, word in (
        ("diverged", ("completed", "diverged", "completed"), "worse"),
        ("crashed", ("completed", "crashed", "completed"), "worse"),
        ("fine", "completed", "same"),
    ):
        new = load(write(name, status=given)).runs
        assert statuses(old, new)["word"].tolist() == [word]
    assert statuses(load(write("a", status="diverged")).runs, load(write("b", status="crashed")).runs)[
        "word"
    ].tolist() == ["worse"]


@pytest.mark.thorough
def test_settings_and_environment_that_differ_are_told(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old"), write("new", seeds=(0, 1, 2, 3))
    rewrite(
        new,
        settings='{"period": 8}',
        initial_hash="2b" * 32,
        provenance='{"commit": "fedcba9", "versions": {"torch": "2.14.0"}, "ranks": [{"host": "node-c"}]}',
    )
    before, after = load(old).runs, load(new).runs
    told = settings(before, after).set_index("setting")
    assert dict(told["old"]) == {"period": "1", "seeds": "0, 1, 2", "initial parameters": "one"}
    assert dict(told["new"]) == {
        "period": "8",
        "seeds": "0, 1, 2, 3",
        "initial parameters": "another with seed 0, 1, 2",
    }
    facts = environment(before, after).set_index("fact")
    assert facts.loc["commit"].tolist() == ["0123abc", "fedcba9"]
    assert facts.loc["versions.torch"].tolist() == ["2.13.0", "2.14.0"]
    assert compare(old, new) == 0
    text = capsys.readouterr().out
    assert "what is compared is not the same thing" in text and "period 1 -> 8: synthetic, digits-mlp" in text


# -- conditions and the exit code --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        ("time_to_target_s > 1.05", 1),
        pytest.param("time_to_target_s>1.05", 1, marks=pytest.mark.thorough),
        pytest.param("time_to_target_s >= 1.2", 0, marks=pytest.mark.thorough),
        pytest.param("time_to_target_s < 0.95", 0, marks=pytest.mark.thorough),
        ("time_to_target_s_difference > 0.01", 1),
        pytest.param("time_to_target_s_difference > 10", 0, marks=pytest.mark.thorough),
        ("samples_per_s < 0.95", 0),
        ("status", 0),
    ],
)
def test_a_condition_decides_the_exit_code(write: Write, condition: str, code: int) -> None:
    assert compare(write("old"), write("new", late=2), "--fail-if", condition) == code


def test_one_condition_that_holds_is_enough(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--fail-if", "samples_per_s < 0.5", "--fail-if", "time_to_target_s > 1.1"]
    assert compare(write("old"), write("new", late=2), *asked) == 1
    text = capsys.readouterr().out
    assert "fail if samples_per_s < 0.5: does not hold" in text
    assert "fail if time_to_target_s > 1.1: holds in 1 of 1 cell" in text and "1.143 (1.143 to 1.143)" in text


@pytest.mark.thorough
def test_one_run_is_no_evidence_and_does_not_pass_silently(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old", seeds=(0,)), write("new", seeds=(0,), late=3)
    assert compare(old, new) == 0
    assert "One run is no evidence" in capsys.readouterr().out
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.05") == 2
    said = capsys.readouterr()
    assert "cannot be judged" in said.out
    assert "one run is no evidence: n=1 before, n=1 after (more seeds, or --point)" in said.err
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.05", "--point") == 1
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.5", "--point") == 0


@pytest.mark.thorough
def test_a_large_change_that_is_not_shown_does_not_fail(write: Write) -> None:
    old, new = write("old", late=(0, 0, 3)), write("new", late=(5, 5, 2))
    assert found(old, new)["time_to_target_s"]["ratio"] > 1.05
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.05") == 0
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.05", "--point") == 1


@pytest.mark.thorough
def test_what_crashed_or_is_gone_does_not_pass(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, crashed = write("old"), write("new", status="crashed")
    assert compare(old, crashed, "--fail-if", "time_to_target_s > 1.05") == 1
    assert "NEW has no run with this number (3 crashed)" in capsys.readouterr().out
    assert compare(old, crashed, "--fail-if", "status") == 1
    both, one = write("both"), write("one")
    write("both", schedule=SCHEDULES[1])
    assert compare(both, one, "--fail-if", "status") == 1
    assert "3 completed -> none" in capsys.readouterr().out
    assert compare(one, both, "--fail-if", "status") == 0


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("time_to_taget_s > 1", "did you mean 'time_to_target_s'?"),
        ("time_to_target_s", "says nothing of the size"),
        ("time_to_target_s == 1", "not a condition"),
        ("time_to_target_s > fast", "must be a number > 0"),
        ("time_to_target_s > -1", "must be a number > 0"),
        ("final_heldout_loss_difference > nan", "must be a finite number"),
        ("status > 1", "status stands alone"),
        ("__import__('os') > 1", "not a condition"),
        ("", "not a condition"),
    ],
)
def test_what_is_no_condition_is_refused(
    condition: str, says: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write("old", seeds=(0,))
    assert compare(old, old, "--fail-if", condition) == 2
    said = capsys.readouterr()
    assert says in said.err and said.err.count("\n") == 1 and not said.out


def test_a_difference_is_taken_in_the_numbers_unit() -> None:
    assert parse("final_heldout_loss_difference>=-0.5").measure == "difference"
    assert parse("final_heldout_loss >= .5").measure == "ratio"


def test_a_number_that_no_cell_has_cannot_be_judged(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old = write("old")
    assert compare(old, old, "--fail-if", "energy_J > 1.1") == 2
    assert "no cell has this number" in capsys.readouterr().err


# -- folders, text and JSON --------------------------------------------------------------------------------------------


def test_folders_that_cannot_be_compared_are_refused_in_one_line(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, other = write("old", seeds=(0,)), write("other", seeds=(0,), study="another")
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    for new, says in (
        (other, "no cell in common"),
        (tmp_path / "empty", "no finished run"),
        (tmp_path / "nowhere", "not a results folder"),
    ):
        assert compare(old, new) == 2
        said = capsys.readouterr()
        assert says in said.err and said.err.count("\n") == 1 and not said.out
    assert compare(old, old, "--json", tmp_path / "no" / "x.json") == 2
    assert compare(old, old, "-o", tmp_path) == 2


def test_json_has_everything_and_is_strict(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old"), write("new", status="diverged")
    assert compare(old, new, "--json", tmp_path / "c.json", "--fail-if", "status") == 1

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    written = json.loads((tmp_path / "c.json").read_text(), parse_constant=refuse)
    row = next(row for row in written["changes"] if row["number"] == "time_to_target_s")
    assert (row["new"], row["ratio"], row["n_old"], row["word"]) == ("inf", "inf", 3, "worse")
    assert written["conditions"][0]["holds"] is True and written["statuses"][0]["word"] == "worse"
    capsys.readouterr()
    assert compare(old, new, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["changes"] == written["changes"]


@pytest.mark.thorough
def test_the_text_is_steady_fits_100_columns_and_does_not_steer_the_terminal(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old = write("old", late=(0, 1, 2), label="a-rather-long-label period=100 \x1b[31m")
    new = write("new", late=(2, 30, 3), label="a-rather-long-label period=100 \x1b[31m")
    rewrite(new, settings=json.dumps({"evil": EVIL * 5}))
    texts = []
    for _ in range(2):
        assert compare(old, new, "--all", "--fail-if", "time_to_target_s > 1.05") in (0, 1)
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] and "\x1b" not in texts[0]
    assert max(map(len, texts[0].splitlines())) <= 100
    assert all(name in texts[0] for name in ("time_to_target_s", "exposed_comm_share", "never 1/3")), texts[0]


def test_runs_of_sub_folders_are_found(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write("old/a").parent, write("new/a").parent
    for folder in (old, new):
        (folder / "a" / "study.json").write_text("{}")
    assert compare(old, new) == 0
    assert "3 runs" in capsys.readouterr().out


def cells_of(html: str) -> list[list[tuple[str, str]]]:
    """Rows of the page's tables: (number in full, text) of each cell."""
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", html, flags=re.S)
    cell = re.compile(r"<t[hd][^>]*?(?:data-value=\"([^\"]*)\")?>(.*?)</t[hd]>", flags=re.S)
    return [[(full, re.sub("<[^>]*>", "", text)) for full, text in cell.findall(row)] for row in rows]


@pytest.mark.thorough
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_says_the_same_numbers_and_is_steady(write: Write, tmp_path: Path, lang: str) -> None:
    old, new = write("old", late=(0, 1, 2)), write("new", late=(2, 3, 30))
    pages = []
    for name in ("a.html", "b.html"):
        asked = ["--fail-if", "time_to_target_s > 1.05", "-o", tmp_path / name, "--lang", lang]
        assert compare(old, new, *asked) == 1
        pages.append((tmp_path / name).read_text())
    assert pages[0] == pages[1] and f'<html lang="{lang}">' in pages[0]
    assert ("何が変わったか" if lang == "ja" else "What changed") in pages[0]
    expected = found(old, new)
    listed = {row[1][1].split()[0]: row for row in cells_of(pages[0])}
    assert listed.keys() == expected.keys()
    for name, row in listed.items():
        kind = "ratio" if expected[name]["measure"] == "ratio new/old" else "difference"
        for at, key in ((3, kind), (4, "old"), (5, "new")):
            value = expected[name][key]
            assert row[at][0] == ("" if math.isnan(value) else repr(float(value)))
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", pages[0])


def test_reasons_are_told_in_the_pages_language(write: Write, tmp_path: Path) -> None:
    with language("ja"):
        assert told("2 of 3 pairs lower, 0 higher, 1 equal or too close to tell").startswith("3 組中 2 組で減少")
        assert told("1.2 (1.1 to 1.3): the ranges do not overlap: n=2 before, n=2 after").startswith(
            "1.2(1.1~1.3): 範囲"
        )
        assert told("something else") == "something else"
    old, new = write("old", seeds=(0, 1)), write("new", seeds=(0, 1), late=2)
    # Every reason that this comparison gives has a sentence in Japanese, but for the report's own about the target.
    rows = [row for row in found(old, new).values() if row["number"] != "time_to_target_s"]
    with language("ja"):
        assert all(told(row["reason"]) != row["reason"] and told(row["interval"]) != row["interval"] for row in rows)


@pytest.mark.thorough
def test_html_in_names_settings_and_reasons_comes_out_as_text(write: Write, tmp_path: Path) -> None:
    old, new = write("old"), write("new", late=2)
    rewrite(old, label=EVIL)
    rewrite(new, label=EVIL, settings=json.dumps({EVIL: EVIL}), provenance=json.dumps({"commit": EVIL}))
    assert compare(old, new, "--fail-if", "time_to_target_s > 1", "-o", tmp_path / "c.html") == 1
    html = (tmp_path / "c.html").read_text()
    assert "<script" not in html and "<b>" not in html and "&lt;script&gt;" in html


@pytest.mark.thorough
def test_studies_of_different_names_are_compared_if_that_is_asked(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = write("old", study="before"), write("new", study="after", late=2)
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.05") == 2
    assert "--any-study" in capsys.readouterr().err
    assert compare(old, new, "--fail-if", "time_to_target_s > 1.05", "--any-study") == 1
    assert "before | after, digits-mlp, 4 workers, MPI" in capsys.readouterr().out
    write("new", study="another", seeds=(7,))
    assert compare(old, new, "--any-study") == 2
    assert "holds several studies: after, another" in capsys.readouterr().err


def test_the_tables_of_nothing_are_empty(write: Write, tmp_path: Path) -> None:
    table = numbers_per_run(load(write("old", seeds=(0,))))
    assert changes(table[:0], table).empty
    runs = load(tmp_path / "old").runs
    assert settings(runs[:0], runs).empty and environment(runs, runs).empty
