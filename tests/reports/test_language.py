"""Every text that a reader sees has a translation, with the same placeholders, and no translation is left over."""

from __future__ import annotations

import ast
import re
import string
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import reports
from analysis import comparison, statistics
from reports import answer_words, language, words
from reports.language import LANGUAGES, catalogue, joined, retold, t

ROOT = Path(reports.__file__).parent
ASKED = {"t", "noted"}
"""Functions whose literal is a text for a reader."""
IN_TEMPLATES = re.compile(r"""\bt\(\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""")
OTHERS = [code for code in LANGUAGES if code != "en"]


def in_python(path: Path) -> Iterator[str]:
    """Literals that a file gives to `t` or `noted`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ASKED and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value
            elif isinstance(first, ast.IfExp):
                yield from (one.value for one in (first.body, first.orelse) if isinstance(one, ast.Constant))
            assert not isinstance(first, ast.JoinedStr), f"{path}:{node.lineno}: an f-string has no translation"


def in_template(path: Path) -> Iterator[str]:
    """Literals that a template gives to `t`."""
    for quoted in IN_TEMPLATES.findall(path.read_text(encoding="utf-8")):
        yield ast.literal_eval(quoted)


def texts() -> dict[str, set[str]]:
    """Text -> the files that say it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        for text in in_python(path):
            found[text].add(path.relative_to(ROOT).as_posix())
    for path in sorted(ROOT.rglob("*.j2")):
        for text in in_template(path):
            found[text].add(path.relative_to(ROOT).as_posix())
    return found


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name is not None}


def test_the_texts_are_found() -> None:
    found = texts()
    assert "answer_words.py" in found["{best} reached the target first, after {time}."]
    assert "templates/answer.html.j2" in found["How sure is that?"]
    assert "words.py" in found["{n} workers"]  # marked, given to `t` later


@pytest.mark.parametrize("code", OTHERS)
def test_every_text_has_a_translation(code: str) -> None:
    missing = defaultdict(list)
    for text, files in texts().items():
        if text not in catalogue(code):
            missing[min(files)].append(text)
    assert not missing, "\n".join(f"{file}: {text!r}" for file in sorted(missing) for text in missing[file])


@pytest.mark.parametrize("code", OTHERS)
def test_no_translation_is_left_over(code: str) -> None:
    assert sorted(set(catalogue(code)) - set(texts())) == []


@pytest.mark.parametrize("code", OTHERS)
def test_no_two_files_translate_a_text_in_different_ways(code: str) -> None:
    said: dict[str, dict[str, str]] = defaultdict(dict)
    for path in language.files(code):
        for english, translated in tomllib.loads(path.read_text(encoding="utf-8")).items():
            said[english][path.name] = translated
    assert {english: own for english, own in said.items() if len(set(own.values())) > 1} == {}


@pytest.mark.parametrize("code", OTHERS)
def test_translations_have_the_placeholders_of_the_sentence(code: str) -> None:
    wrong = {e: translated for e, translated in catalogue(code).items() if placeholders(e) != placeholders(translated)}
    assert wrong == {}


@pytest.mark.parametrize("code", OTHERS)
def test_no_translation_is_the_sentence_itself_without_a_reason(code: str) -> None:
    same = {text for text, translated in catalogue(code).items() if text == translated}
    # Names, units and symbols are the same everywhere; a sentence is not.
    assert not {text for text in same if len(re.findall(r"[A-Za-z]{2,}", re.sub(r"{\w+}", "", text))) > 2}


# -- how it works ------------------------------------------------------------------------------------------------------


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A language of two sentences."""
    monkeypatch.setattr(language, "FOLDER", tmp_path)
    (tmp_path / "ja").mkdir()
    (tmp_path / "ja" / "a.toml").write_text(
        '"{n} apples" = "りんご{n}個"\n"{a} of {b}" = "{b}の{a}"\n', encoding="utf-8"
    )
    catalogue.cache_clear()
    yield tmp_path
    catalogue.cache_clear()


def test_a_sentence_is_said_in_the_language_that_is_spoken(made_up: Path) -> None:
    assert t("{n} apples", n=3) == "3 apples"
    with language.language("ja"):
        assert t("{n} apples", n=3) == "りんご3個"
        assert t("{a} of {b}", a="x", b="{n}") == "{n}のx"  # what is filled in is never a template
        assert t("not translated {n}", n=1) == "not translated 1"
        assert joined(["x。", "", "y。"]) == "x。y。"
    assert t("{n} apples", n=3) == "3 apples" and joined(["X.", "Y."]) == "X. Y."


def test_words_that_parts_share_are_taken_from_the_common_file(made_up: Path) -> None:
    (made_up / "ja" / "common.toml").write_text('"{n} apples" = "林檎{n}"\n', encoding="utf-8")
    assert catalogue("ja")["{n} apples"] == "林檎{n}"


def test_what_was_made_from_a_template_elsewhere_is_recognised(made_up: Path) -> None:
    with language.language("ja"):
        assert retold("3.5 (a+b)? of $x^2$", ["{n} apples", "{a} of {b}"]) == "$x^2$の3.5 (a+b)?"
        assert retold("nothing like it", ["{n} apples"]) == "nothing like it"


# -- what `analysis` says is known -------------------------------------------------------------------------------------


def outcomes() -> Iterator[comparison.Claim]:
    """One claim for each reason that the rules of `analysis.comparison` give."""

    def row(
        label: str, n: int, reached: int, earliest: float, latest: float, low: float, high: float
    ) -> dict[str, object]:
        return dict(
            label=label, completed=n, diverged=0, seeds=n, reached=reached, target_earliest_s=earliest,
            target_latest_s=latest, time_to_target_s_low=low, time_to_target_s_high=high, target_resolution_s=0.1,
            final_heldout_loss_n=n, final_heldout_loss_low=low, final_heldout_loss_high=high,
        )  # fmt: skip

    for n in (1, 2, 6):
        early, late = row("a: n=1 of", n, n, 1, 2, 1, 2), row("b", n, n, 8, 9, 8, 9)
        never = row("c (d)", n, n - 1, 8, 9, 8, 9)
        for one in (early, late, never):
            for other in (early, late, never):
                yield comparison.faster(one, other)
                yield comparison.lower_loss(one, other)


@pytest.mark.parametrize("code", OTHERS)
def test_every_reason_of_a_comparison_is_translated(code: str) -> None:
    english = {answer_words.reason(claim.reason) for claim in outcomes()}
    assert len(english) > 8
    with language.language(code):
        told = {answer_words.reason(claim.reason) for claim in outcomes()}
    assert not told & english and not any(re.search(r"[A-Za-z]{3}", text) for text in told)


@pytest.mark.parametrize("code", OTHERS)
def test_every_kind_of_interval_is_translated(code: str) -> None:
    made = [statistics.mean_over_runs(values).interval for values in ([], [1.0], [1.0, 2.0], [1.0, 2.0, 4.0])]
    with language.language(code):
        assert all(words.interval_kind(one) != one for one in made)
        assert words.listed(["a", "b", "c"]) == "a、b、c" and words.plural(1, "run") == words.plural(2, "run").replace(
            "2", "1"
        )
