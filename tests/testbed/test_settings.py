"""What can be told of a bed without making one."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

import paceline
from algorithms.interface import Layer
from algorithms.registry import algorithm_class
from bench import interface_count, study
from bench.sanity import RankFacts, judge
from bench.settings import StudyError
from bench.testbed import check, counts, enter, here, settings, shape
from bench.testbed.settings import DELAYS_S, TCP_SHARE, RATES_Gbit_per_s, quantity

STUDY = """
name = "small"
workers = [4]
[[workload]]
name = "quadratic"
[[algorithm]]
name = "allreduce-sgd"
[[algorithm]]
name = "easgd"
"""


def bed(**more):
    return settings.Testbed(**{"hosts": 4, "rate_Gbit_per_s": 1.0, **more})


@pytest.mark.parametrize(
    ("text", "units", "value"),
    [
        ("1gbit", RATES_Gbit_per_s, 1.0),
        ("100mbit", RATES_Gbit_per_s, 0.1),
        ("2.5 Gbit", RATES_Gbit_per_s, 2.5),
        ("64kbit", RATES_Gbit_per_s, 64e-6),
        ("5ms", DELAYS_S, 5e-3),
        (".5s", DELAYS_S, 0.5),
        ("200us", DELAYS_S, 200e-6),
    ],
)
def test_quantities(text, units, value):
    assert quantity(text, units, "--rate", "1gbit") == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "1", "gbit", "1 gbyte", "-1gbit", "1e3gbit", "1gbit/s"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(StudyError, match=r"--rate: expected a number and one of kbit, mbit, gbit, such as 1gbit: got"):
        quantity(text, RATES_Gbit_per_s, "--rate", "1gbit")


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"hosts": 0}, "hosts must lie in 1..250: got 0"),
        ({"hosts": 251}, "hosts must lie in"),
        ({"rate_Gbit_per_s": 0.0}, "rate_Gbit_per_s must lie in"),
        ({"rate_Gbit_per_s": math.nan}, "rate_Gbit_per_s must lie in"),
        ({"delay_s": -1e-3}, "delay_s must lie in"),
        ({"ranks_per_host": 0}, "ranks_per_host must lie in"),
    ],
)
def test_settings_that_make_no_sense_are_refused(more, complaint):
    with pytest.raises(ValueError, match=complaint):
        bed(**more)


def test_titles_and_suffixes_tell_beds_apart():
    assert bed(delay_s=5e-3).title == "testbed 1 Gbit/s, 5 ms"
    assert bed(rate_Gbit_per_s=0.1).title == "testbed 100 Mbit/s"
    assert bed(rate_Gbit_per_s=0.1, delay_s=5e-3).suffix == "100mbit-5ms"


def test_a_study_on_a_bed_has_a_name_and_run_ids_of_its_own(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    plain = study.read(path)
    beds = [bed(hosts=5), bed(hosts=5, rate_Gbit_per_s=0.1), bed(hosts=5, delay_s=1e-3)]
    studies = [plain, *(study.read(path, testbed=one) for one in beds)]
    assert [s.table.name for s in studies] == ["small", "small-1gbit", "small-100mbit", "small-1gbit-1ms"]
    ids = [cell.run_id for s in studies for cell in s.cells()]
    assert len(set(ids)) == len(ids)
    again = study.resolve(json.loads(json.dumps(studies[1].raw)))  # as the sessions read it
    assert [cell.run_id for cell in again.cells()] == [cell.run_id for cell in studies[1].cells()]


def test_a_bed_changes_nothing_for_the_simulator(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(STUDY.replace("workers = [4]", 'workers = [4]\ntransports = ["simulated"]'))
    plain, on_bed = study.read(path), study.read(path, testbed=bed(hosts=1))
    assert [cell.run_id for cell in plain.cells()] == [cell.run_id for cell in on_bed.cells()]


def test_a_rank_without_a_host_is_refused(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    with pytest.raises(StudyError, match=r"easgd.*5 ranks, its server included, and 4 hosts take 4 \(say --hosts 5"):
        study.read(path, testbed=bed())


def test_a_study_that_wants_a_bed_is_not_run_without(tmp_path, capsys):
    path = tmp_path / "small.toml"
    path.write_text(STUDY.replace("[[workload]]", "[testbed]\nhosts = 5\nrate_Gbit_per_s = 1\n[[workload]]"))
    assert paceline.main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert f"run it with: paceline testbed run {path}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_calibration_of_more_ranks_than_the_bed_takes_is_refused(tmp_path, monkeypatch, capsys):
    path = tmp_path / "small.toml"
    path.write_text(STUDY)
    monkeypatch.setenv(here.VARIABLE, json.dumps({"hosts": 2, "rate_Gbit_per_s": 1.0}))
    assert paceline.main(["calibrate", str(path), "-o", str(tmp_path / "c.toml")]) == 2
    assert "-n 4: the bed's 2 hosts take 2 ranks (give -n 2, or more --hosts)" in capsys.readouterr().err


def test_without_the_programs_one_line_names_the_way_that_needs_no_privileges(monkeypatch, capsys):
    monkeypatch.setattr(enter, "PROGRAMS", ("ip", "no-such-program"))
    assert paceline.main(["testbed", "exec", "--hosts", "2", "--rate", "1gbit", "--", "true"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("paceline testbed: not installed: no-such-program") and said.count("\n") == 1
    assert "rate_Gbit_per_s in the study file" in said


def test_without_permission_too(monkeypatch, capsys):
    monkeypatch.setattr(enter, "TRIAL", "echo tc: Operation not permitted >&2; exit 2")
    assert paceline.main(["testbed", "exec", "--hosts", "2", "--rate", "1gbit", "--", "true"]) == 2
    said = capsys.readouterr().err
    assert "are not permitted here: " in said and "rate_Gbit_per_s in the study file" in said


@pytest.mark.parametrize("missing", ["--hosts", "--rate"])
def test_what_is_missing_is_said(missing, capsys):
    given = [part for option in ("--hosts", "--rate") if option != missing for part in (option, "1gbit")]
    given = [part if part != "1gbit" or "--rate" in given else "2" for part in given]
    assert paceline.main(["testbed", "exec", *given, "--", "true"]) == 2
    assert f"{missing} is missing" in capsys.readouterr().err


def test_buckets_hold_what_tcp_hands_over_at_once():
    for rate in (0.01, 0.1, 1.0, 10.0, 100.0):
        frames = -(-shape.largest_packet_nbytes(rate) // (settings.FRAME_NBYTES - settings.HEADERS_NBYTES))
        assert frames * settings.FRAME_NBYTES <= shape.burst_nbytes(rate)  # else tbf would split every packet


TABLE = """Inter-|   Receive                            |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier
    lo:  191438      50    0    0    0     0          0         0   191438      50    0    0    0     0       0
shaped:    2404      33    0    0    0     0          0         0     2086      27    0    0    0     0       0
launch:   20879      43    0    0    0     0          0         0    16733      42    0    0    0     0       0
"""


def test_interfaces_are_read():
    assert interface_count.read(TABLE) == interface_count.Sent(2086 + 16733, 27 + 42)
    assert interface_count.read(TABLE, "shaped") == interface_count.Sent(2086, 27)


def test_outside_a_bed_there_is_none(monkeypatch):
    monkeypatch.delenv(here.VARIABLE, raising=False)
    assert here.facts() == {} and here.testbed() is None


def test_a_check_passes_and_fails_where_it_should():
    def found(rate, half_s):
        return {"pairs": {"1": {"Gbit_per_s": rate, "half_round_trip_s": half_s}}, "ring_Gbit_per_s": rate}

    two = bed(hosts=2)
    assert check.judged(two, found(TCP_SHARE, 10e-6))[1]
    assert not check.judged(two, found(0.94 * TCP_SHARE, 10e-6))[1]
    assert not check.judged(two, found(1.06 * TCP_SHARE, 10e-6))[1]  # too good is wrong, too
    late = bed(hosts=2, delay_s=5e-3)
    assert check.judged(late, found(TCP_SHARE, 5.1e-3))[1]
    assert not check.judged(late, found(TCP_SHARE, 5.3e-3))[1]
    assert not check.judged(late, found(TCP_SHARE, 4.9e-3))[1]


def test_bytes_between_hosts():
    events = pd.DataFrame(
        {
            "kind": ["send", "send", "allreduce", "gradient"],
            "rank": [0, 3, 0, 0],
            "peer": [1, 4, -1, -1],
            "wire_nbytes": [10, 100, 600, 0],
        }
    )
    assert counts.between_hosts(events, 4, 1) == 710
    assert counts.between_hosts(events, 4, 2) == 100 + 300  # two hosts of two, and the server on the third
    assert counts.between_hosts(events, 4, 4) == 100


@pytest.mark.parametrize(("sent", "status"), [(999, "failed"), (1000, "completed"), (None, "completed")])
def test_a_run_fails_whose_bytes_the_kernel_did_not_see(monkeypatch, sent, status):
    ranks = [
        RankFacts(
            rank=rank, is_server=False, steps=1, samples=1, nbytes=400, wire_nbytes=500, dropped=0,
            mailbox_depth_max=0, initial_hash="", first_bad_loss_s=math.nan, ended_s=1.0, drift=None, exchanges=0,
            rms=1.0, total=0.0, counters={},
        )
        for rank in range(2)
    ]  # fmt: skip
    free = algorithm_class("ad-psgd")()
    monkeypatch.setattr(type(free), "payload_nbytes", lambda *_: None)  # no closed form: another check
    layers = [Layer("all", slice(0, 100))]
    verdict = judge(free, ranks, layers, 4, 0, [(1.0, 2.0)], sent_nbytes=sent)
    assert ("the interfaces sent 999" in verdict.text) == (status == "failed")
    assert verdict.status == status, verdict.text
