"""Who did what when: a short window of a run, rank by rank, with its messages and collectives."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.timing import PARTS, lay_out

STEPS = 8
"""Median steps in a window: enough to see a pattern, few enough to see each gradient."""
AT = (5**0.5 - 1) / 2
"""Part of the run after which a window begins: no round part, where snapshots are planned and everybody pauses."""


def pieces(events: pd.DataFrame, runs: pd.DataFrame, within: pd.DataFrame | None = None) -> pd.DataFrame:
    """What each rank of each run did, one row per stretch of time; a rank's rows tile its run without a gap.

    Args:
        events: rows of `bench.records.EVENTS`, any order.
        runs: rows of `bench.records.RUNS`.
        within: one row per run with `run_id`, `t0_s`, `t1_s` [s], such as `windows` gives: cut everything to these.

    Returns:
        One row per stretch, by run, rank and time: `run_id`, `rank`, `part` (one of `analysis.timing.PARTS`, by its
        rules: the lengths of a rank's stretches add up to its row of `time_split`), `t0_s`, `t1_s` [s].

    Source: as for `analysis.timing.time_split`.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "rank": [0, 0], "kind": ["gradient", "apply"], "t0_s": [0.0, 2.5],
        ...     "t1_s": [2.0, 3.0], "label": "", "peer": -1})
        >>> runs = pd.DataFrame({"run_id": ["a"], "duration_s": [4.0], "workers": [1], "lockstep": [True]})
        >>> pieces(events, runs)[["part", "t0_s", "t1_s"]].to_numpy().tolist()
        [['gradient_s', 0.0, 2.0], ['other_s', 2.0, 2.5], ['apply_s', 2.5, 3.0], ['finished_s', 3.0, 4.0]]
    """
    times = lay_out(events, runs)
    whole = intervals.union(times.base, times.base + times.duration)
    after = intervals.union(
        (times.base + times.last)[~times.on_server], (times.base + times.duration)[~times.on_server]
    )
    rest = intervals.subtract(intervals.subtract(whole, times.busy), after)
    own = times.on_server[np.searchsorted(times.base, rest.start, side="right") - 1]
    idle, other = (intervals.Intervals(rest.start[pick], rest.end[pick]) for pick in (own, ~own))
    low, high = times.base, times.base + times.duration
    if within is not None:
        cut = within.set_index("run_id").reindex(times.run_id)
        low, high = (
            times.base + np.clip(intervals.to_ns(cut[name].to_numpy(dtype=np.float64)), 0, times.duration)
            for name in ("t0_s", "t1_s")
        )
    found = []
    for part, (start, end) in {**times.parts, "idle_s": idle, "finished_s": after, "other_s": other}.items():
        group = np.searchsorted(times.base, start, side="right") - 1
        start, end = np.maximum(start, low[group]), np.minimum(end, high[group])
        inside = end > start
        group, start, end = group[inside], start[inside], end[inside]
        found.append(
            pd.DataFrame(
                {
                    "run_id": times.run_id[group],
                    "rank": times.rank[group],
                    "part": part,
                    "t0_s": (start - times.base[group]) / 1e9,
                    "t1_s": (end - times.base[group]) / 1e9,
                }
            )
        )
    assert set(PARTS) == {*times.parts, "idle_s", "finished_s", "other_s"}
    return pd.concat(found).sort_values(["run_id", "rank", "t0_s"], ignore_index=True)


def windows(events: pd.DataFrame, runs: pd.DataFrame, steps: float = STEPS) -> pd.DataFrame:
    """A short window of each run, of one length for all of them, so that they can be laid one above the other.

    The length is so many steps of the median run (of its duration times its workers over its steps). A window begins a
    quarter of its length before the first message or collective after the golden section of its run (62 %), so that
    even an algorithm that seldom communicates shows how it does. In a run that is silent from there on it begins at the
    golden section.

    Args:
        events: rows of `bench.records.EVENTS`.
        runs: rows of `bench.records.RUNS`, at least one step each.
        steps: length of the window, in steps of the median run.

    Returns:
        One row per run, in their order: `run_id`, `t0_s`, `t1_s` [s], within the run where it is long enough.

    Source: the rule above; any window of a run is as good, as long as the rule is fixed before one looks.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "duration_s": [40.0], "workers": [2], "steps": [80]})
        >>> events = pd.DataFrame({"run_id": "a", "kind": ["send", "send"], "t0_s": [3.0, 26.0]})
        >>> windows(events, runs, steps=4)[["t0_s", "t1_s"]].to_numpy().tolist()
        [[25.0, 29.0]]
    """
    duration = runs["duration_s"].to_numpy(dtype=np.float64)
    step_s = duration * runs["workers"].to_numpy(dtype=np.float64) / runs["steps"].to_numpy(dtype=np.float64)
    length = steps * float(np.median(step_s)) if len(runs) else 0.0
    leaves = events.loc[events["kind"].isin(["send", "allreduce"]).to_numpy(dtype=bool), ["run_id", "t0_s"]]
    at = leaves["run_id"].astype(object).map(dict(zip(runs["run_id"], AT * duration, strict=True)))
    late = leaves[leaves["t0_s"].to_numpy() >= at.to_numpy(dtype=np.float64)]
    first = late.groupby("run_id", observed=True)["t0_s"].min()
    start = first.reindex(runs["run_id"]).to_numpy(dtype=np.float64) - length / 4
    start = np.where(np.isnan(start), AT * duration, start)
    start = np.clip(start, 0, np.maximum(duration - length, 0))
    return pd.DataFrame({"run_id": runs["run_id"].to_numpy(), "t0_s": start, "t1_s": start + length})


def messages(events: pd.DataFrame) -> pd.DataFrame:
    """Every message that was sent and received: when it left and when it was there.

    The k-th message that a rank sent to another under a label is the k-th that the other received of it.

    Args:
        events: rows of `bench.records.EVENTS`.

    Returns:
        One row per message, by run and time: `run_id`, `source`, `destination`, `label`, `sent_s` (start of the send),
        `arrived_s` (end of the receive) [s]. Messages still under way at the end are in no row.

    Source: MPI 4.0, section 3.5: messages of one source under one tag do not overtake each other.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "rank": [0, 1], "kind": ["send", "recv"], "peer": [1, 0],
        ...     "t0_s": [1.0, 1.5], "t1_s": [1.2, 1.75], "label": "gossip"})
        >>> messages(events)[["source", "destination", "sent_s", "arrived_s"]].to_numpy().tolist()
        [[0.0, 1.0, 1.0, 1.75]]
    """
    keys = ["run_id", "source", "destination", "label"]

    def numbered(kind: str, names: dict[str, str], at: str) -> pd.DataFrame:
        own = events.loc[(events["kind"] == kind).to_numpy(dtype=bool), ["run_id", "rank", "peer", "label", at]]
        own = own.rename(columns=names).sort_values(names[at], kind="stable")
        return own.assign(k=own.groupby(keys, observed=True).cumcount())

    sent = numbered("send", {"rank": "source", "peer": "destination", "t0_s": "sent_s"}, "t0_s")
    arrived = numbered("recv", {"rank": "destination", "peer": "source", "t1_s": "arrived_s"}, "t1_s")
    found = sent.merge(arrived, on=[*keys, "k"])
    return found.sort_values(["run_id", "sent_s"], ignore_index=True)[[*keys, "sent_s", "arrived_s"]]


def collectives(events: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Every collective that all workers took part in: when the first came, the last came, and all were done.

    Args:
        events: rows of `bench.records.EVENTS`.
        runs: rows of `bench.records.RUNS`.

    Returns:
        One row per collective, by run and time: `run_id`, `label`, `first_s`, `last_s` (starts of the first and the
        last worker), `done_s` (end on the last worker) [s].

    Source: as for `analysis.timing.time_split`: the k-th row with a label on every worker is one collective.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "rank": [0, 1], "kind": "allreduce", "t0_s": [1.0, 3.0],
        ...     "t1_s": [4.0, 4.5], "label": "g"})
        >>> collectives(events, pd.DataFrame({"run_id": ["a"], "workers": [2]})).iloc[0, 2:].tolist()
        [1.0, 3.0, 4.5]
    """
    own = events.loc[(events["kind"] == "allreduce").to_numpy(dtype=bool), ["run_id", "rank", "label", "t0_s", "t1_s"]]
    own = own.sort_values("t0_s", kind="stable")
    own = own.assign(k=own.groupby(["run_id", "rank", "label"], observed=True).cumcount())
    grouped = own.groupby(["run_id", "label", "k"], observed=True)
    found = grouped.agg(
        first_s=("t0_s", "min"), last_s=("t0_s", "max"), done_s=("t1_s", "max"), ranks=("rank", "size")
    ).reset_index()
    workers = found["run_id"].astype(object).map(dict(zip(runs["run_id"], runs["workers"], strict=True)))
    whole = found.loc[
        (found["ranks"] == workers).to_numpy(dtype=bool), ["run_id", "label", "first_s", "last_s", "done_s"]
    ]
    return whole.sort_values(["run_id", "first_s"], ignore_index=True)
