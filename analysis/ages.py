"""How old each gradient was when it was applied, in seconds since its computation began as well as in writes."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.intervals import to_ns
from analysis.staleness import distribution

Index = NDArray[np.int64]


def applied_gradients(events: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Every applied gradient with its age in writes and in seconds.

    The age in seconds runs from the start of the gradient's computation, when the parameters were read, to the end of
    the update. A worker that applies its own gradient names it by the version it was read at (if several were read at
    one version: in their order). What a server applies comes from the worker that it was answering, and is the last
    gradient which that worker had finished: of several that were summed up before they were sent, the youngest. Between
    ranks the age is as good as their clocks agree (`clock_error_s` of the run).

    Args:
        events: rows of `bench.records.EVENTS`; rows of one rank that end at the same time in the order of writing.
        runs: rows of `bench.records.RUNS`.

    Returns:
        One row per applied gradient, in the order of `events`: `run_id`, `rank` (that applied it), `worker` (that
        computed it; -1 if not known), `t_s` (end of the update), `staleness_updates` [writes], `staleness_s` [s] (NaN
        if the gradient is not among the events).

    Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774; the paper counts writes, the
    seconds are what an event table adds.

    Example:
        A worker reads at 1 s, and again at 2 s before the first gradient is applied:

        >>> events = pd.DataFrame({"kind": ["gradient", "gradient", "apply", "apply"], "t0_s": [1.0, 2.0, 4.0, 5.0],
        ...     "t1_s": [3.5, 4.5, 4.0, 5.0], "version_read": [0, 0, 0, 0], "staleness_updates": [-1, -1, 0, 1]})
        >>> events = events.assign(run_id="a", rank=0, peer=-1)
        >>> applied_gradients(events, pd.DataFrame({"run_id": ["a"], "workers": [1]}))["staleness_s"].tolist()
        [3.0, 3.0]
    """
    kind = events["kind"]
    wanted = kind.isin(["gradient", "apply", "serve"]) & events["run_id"].isin(runs["run_id"])
    columns = ["run_id", "rank", "kind", "t0_s", "t1_s", "peer", "version_read", "staleness_updates"]
    rows = events.loc[wanted.to_numpy(dtype=bool), columns]
    run, names = pd.factorize(rows["run_id"])
    workers = runs.set_index("run_id")["workers"].reindex(list(names)).to_numpy(dtype=np.int64)[run]
    rank, peer = rows["rank"].to_numpy(dtype=np.int64), rows["peer"].to_numpy(dtype=np.int64)
    ranks = int(max(rank.max(initial=0), peer.max(initial=0))) + 1
    group = run * ranks + rank
    version = rows["version_read"].to_numpy(dtype=np.int64)
    ends = to_ns(rows["t1_s"].to_numpy(dtype=np.float64))
    is_gradient, serves = ((rows["kind"] == name).to_numpy(dtype=bool) for name in ("gradient", "serve"))
    applies = ~is_gradient & ~serves & (rows["staleness_updates"].to_numpy() >= 0)

    gradient, own = np.flatnonzero(is_gradient), np.flatnonzero(applies & (rank < workers))
    source = np.full(len(rows), -1, dtype=np.int64)  # row of the gradient that each row applied
    source[own] = _by_version(group, version, own, gradient)
    on_server = np.flatnonzero((applies | serves) & (rank >= workers))
    asked = _next_answer(group, ends, on_server, serves)
    at_server = np.flatnonzero(applies & (rank >= workers))
    answered = asked[at_server]
    source[at_server] = _last_before(group, ends, run[at_server] * ranks + peer[answered], ends[at_server], gradient)
    source[at_server[answered < 0]] = -1

    chosen = np.flatnonzero(applies)
    origin = source[chosen]
    t1_s, t0_s = rows["t1_s"].to_numpy(dtype=np.float64)[chosen], rows["t0_s"].to_numpy(dtype=np.float64)
    return pd.DataFrame(
        {
            "run_id": rows["run_id"].iloc[chosen].array,
            "rank": rank[chosen],
            "worker": np.where(origin < 0, -1, rank[origin]),
            "t_s": t1_s,
            "staleness_updates": rows["staleness_updates"].to_numpy()[chosen],
            "staleness_s": np.where(origin < 0, np.nan, t1_s - t0_s[origin]),
        }
    )


def over_time(applied: pd.DataFrame, runs: pd.DataFrame, windows: int = 20) -> pd.DataFrame:
    """The distribution of the ages in each of so many equal parts of a run's duration.

    Args:
        applied: what `applied_gradients` gives.
        runs: rows of `bench.records.RUNS`.
        windows: parts of each run.

    Returns:
        One row per run and window in which a gradient was applied, in order: the columns of `distribution` by `run_id`
        and `window` (from 0), and the window's `t0_s` and `t1_s` [s].

    Source: as for `applied_gradients`.

    Example:
        >>> applied = pd.DataFrame({"run_id": "a", "t_s": [0.5, 1.5, 2.0], "staleness_updates": [0, 2, 4]})
        >>> found = over_time(applied, pd.DataFrame({"run_id": ["a"], "duration_s": [2.0]}), windows=2)
        >>> found[["t0_s", "t1_s", "updates_mean"]].to_numpy().tolist()
        [[0.0, 1.0, 0.0], [1.0, 2.0, 3.0]]
    """
    duration = runs.set_index("run_id")["duration_s"]
    length = applied["run_id"].map(duration).to_numpy(dtype=np.float64) / windows
    with np.errstate(divide="ignore", invalid="ignore"):
        part = applied["t_s"].to_numpy(dtype=np.float64) / length
    known = np.isfinite(part)
    # The last update ends the run, and so belongs to the last window; a server may go on a little longer.
    window = np.clip(np.nan_to_num(part).astype(np.int64), 0, windows - 1)
    table = distribution(applied.assign(window=window)[known], ("run_id", "window"))
    table = table.sort_values(["run_id", "window"], ignore_index=True)
    width = table["run_id"].map(duration).to_numpy(dtype=np.float64) / windows
    return table.assign(t0_s=table["window"] * width, t1_s=(table["window"] + 1) * width)


def _by_version(group: Index, version: Index, applies: Index, gradients: Index) -> Index:
    """For each apply the k-th gradient of its rank that was read at its version, where it is the k-th apply of it."""
    scale = int(version.max(initial=0)) + 2
    key = group * scale + version
    order = gradients[np.argsort(key[gradients], kind="stable")]
    known, wanted = key[order], key[applies]
    sequence = np.argsort(wanted, kind="stable")
    in_order = wanted[sequence]
    occurrence = np.empty(len(applies), dtype=np.int64)
    occurrence[sequence] = np.arange(len(applies)) - np.searchsorted(in_order, in_order, side="left")
    first, behind = np.searchsorted(known, wanted, side="left"), np.searchsorted(known, wanted, side="right")
    at = np.minimum(first + occurrence, behind - 1)  # one gradient applied in several parts stays one gradient
    return np.where(behind > first, order[np.maximum(at, 0)] if len(order) else -1, -1)


def _next_answer(group: Index, ends: Index, rows: Index, serves: NDArray[np.bool_]) -> Index:
    """For each row of a server the answer during which it was written: the next one to end; -1 elsewhere [all rows]."""
    order = rows[np.lexsort((rows, ends[rows], group[rows]))]
    none = len(order)
    place = np.where(serves[order], np.arange(none), none)
    coming = np.minimum.accumulate(place[::-1])[::-1]
    found = np.append(order, -1)[coming]
    found[(found >= 0) & (group[found] != group[order])] = -1
    answer = np.full(len(group), -1, dtype=np.int64)
    answer[order] = found
    return answer


def _last_before(group: Index, ends: Index, of: Index, until: Index, gradients: Index) -> Index:
    """The last of the gradients of the groups `of` that had ended at the times `until`; -1 if there is none."""
    if not len(gradients):
        return np.full(len(of), -1, dtype=np.int64)
    width = int(ends.max(initial=0)) + 1
    line = group[gradients] * width + ends[gradients]
    order = np.argsort(line, kind="stable")
    at = np.searchsorted(line[order], of * width + until, side="right") - 1
    found = gradients[order][np.maximum(at, 0)]
    return np.where((at >= 0) & (group[found] == of), found, -1)
