"""Where the runs come from: what differs between them stands out, and the commands that repeat them are there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.records import load
from reports.environment import environment
from reports.language import language
from reports.provenance import provenance
from tests.support.synthetic import PROVENANCE, SCHEDULES, write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("results")
    for transport in ("mpi", "simulated"):
        for seed in (0, 1):
            write_run(folder, SCHEDULES[0], transport, seed, steps=5)
    return load(folder).runs


def with_(runs: pd.DataFrame, **changed: Any) -> pd.DataFrame:
    """The runs, the last measured one with other provenance."""
    last = runs.index[~runs["simulated"]][-1]
    text = json.dumps({**json.loads(runs.loc[last, "provenance"]), **changed})
    return runs.assign(provenance=runs["provenance"].where(runs.index != last, text))


def html(runs: pd.DataFrame, **more: Any) -> str:
    given: dict[str, Any] = {"sources": [], "study_files": [], "problems": [], **more}
    return environment({}).get_template("provenance.html.j2").render(provenance=provenance(runs), **given)


def test_equal_runs_give_no_warning(runs: pd.DataFrame) -> None:
    (found,) = provenance(runs)
    assert found["warnings"] == [] and 'class="differs"' not in html(runs)
    facts = dict(found["facts"])
    assert facts["commit"] == "0123abc" and facts["hosts"] == "node-a, node-b" and facts["seeds"] == "0 and 1"
    assert facts["MPI library"] == "Open MPI v5.0.11" and "torch 2.13.0" in facts["versions"]
    assert facts["clocks of the ranks"] == "offsets of at most 2.00 us removed; an error of at most 1.00 us may be left"
    assert found["commands"] == [PROVENANCE["command"]]


@pytest.mark.parametrize(
    ("changed", "warning"),
    [
        ({"commit": "fffffff"}, "commit: 0123abc (3 runs), fffffff (1 run)"),
        ({"diff_hash": "77"}, "uncommitted changes: none (3 runs), 77 (1 run)"),
        ({"hosts": ["node-c"]}, "hosts: node-a, node-b (3 runs), node-c (1 run)"),
        ({"versions": {"torch": "2.14.0"}}, "versions.torch: 2.13.0 (3 runs), 2.14.0 (1 run)"),
        ({"mpi": {"library": "MPICH"}}, "MPI library: MPICH (1 run), Open MPI v5.0.11 (3 runs)"),
        ({"versions": {"torch": "<b>"}}, "versions.torch: 2.13.0 (3 runs), <b> (1 run)"),
    ],
)
def test_what_should_be_equal_and_is_not_stands_out(changed: dict[str, Any], warning: str, runs: pd.DataFrame) -> None:
    (found,) = provenance(with_(runs, **changed))
    assert found["warnings"] == [warning]
    page = html(with_(runs, **changed))
    escaped = warning.replace("<", "&lt;").replace(">", "&gt;")
    assert re.search(rf'class="differs">.*<li>{re.escape(escaped)}</li>', page, flags=re.S)


@pytest.mark.parametrize("own", [{"pids": {"0": 9}}, {"energy": {"J": 3}}, {"paths": {"collectives": "NCCL"}}])
def test_what_is_each_runs_own_is_no_warning(own: dict[str, Any], runs: pd.DataFrame) -> None:
    assert provenance(with_(runs, **own))[0]["warnings"] == []


def test_slurm_gpus_and_ranks_are_named(runs: pd.DataFrame) -> None:
    ranks = [{"host": "gpu-1", "gpu": "NVIDIA X"}, {"host": "gpu-2", "gpu": "NVIDIA X"}]
    every = json.dumps({"ranks": ranks, "environment": {"SLURM_JOB_ID": "7", "OMP_NUM_THREADS": "1"}})
    (found,) = provenance(runs.assign(provenance=every))
    facts = dict(found["facts"])
    assert facts["GPU"] == "NVIDIA X" and facts["hosts"] == "gpu-1, gpu-2"
    assert found["slurm"] == [("SLURM_JOB_ID", "7")]


def test_provenance_that_is_no_json_stays_text(runs: pd.DataFrame) -> None:
    page = html(runs.assign(provenance="<i>not json"))
    assert "&lt;i&gt;not json" in page and "<i>" not in page


def test_the_fingerprint_and_the_commands_are_there(runs: pd.DataFrame, tmp_path: Path) -> None:
    with language("ja"):
        page = html(runs, sources=["demo", "more"], content_hash="5f" * 32)
    assert "5f" * 32 in page and "paceline report demo more -o report.html --lang ja" in page
    assert "paceline run synthetic.toml -n 4 --out results" in page
    assert "sha256" not in html(runs)
