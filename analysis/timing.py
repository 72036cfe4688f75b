"""Where each rank's time went: computing, waiting for stragglers, for the wire, serving, applying, done, the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis import intervals
from analysis.intervals import Intervals, Nanoseconds
from bench.records import KINDS

PARTS = (
    "gradient_s", "exposed_straggler_s", "exposed_transfer_s", "serve_s", "apply_s", "idle_s", "finished_s", "other_s",
)  # fmt: skip
"""The parts of `time_split`; they add up to the duration. `other_s` is what the harness costs: no row covers it."""

NOT_COMMUNICATION = ("records",)
"""Labels of waits that are no communication (writing rows to disk); their time is "other"."""


@dataclass(frozen=True)
class _Line:
    """All ranks of all runs laid one after the other on one line of time, so that one sweep handles them together."""

    base: Nanoseconds  # left border of each (run, rank) [groups]
    start: Nanoseconds  # of each row, clipped to its run's duration, on the line [rows]
    end: Nanoseconds  # [rows]

    def of(self, rows: NDArray[np.bool_]) -> Intervals:
        return intervals.union(self.start[rows], self.end[rows])


@dataclass(frozen=True)
class Times:
    """Which stretches of time each rank of each run spent on what, all ranks one after the other on one line.

    Attributes:
        run_id, rank, on_server: of each rank of each run that has events [groups].
        base: where its time 0 lies on the line, ns [groups].
        duration: of its run, ns [groups].
        last: end of its last row, ns since its time 0 [groups].
        parts: the first five of `PARTS` -> stretches on the line; no two parts overlap.
        exposed: both parts of exposed communication.
        busy: all parts.
        in_flight: sends, receives, collectives and exposed waits.
    """

    run_id: NDArray[np.object_]
    rank: NDArray[np.int64]
    on_server: NDArray[np.bool_]
    base: Nanoseconds
    duration: Nanoseconds
    last: Nanoseconds
    parts: Mapping[str, Intervals]
    exposed: Intervals
    busy: Intervals
    in_flight: Intervals

    def seconds(self, a: Intervals) -> NDArray[np.float64]:
        """Length of the stretches of each rank [groups]."""
        return intervals.lengths(a, self.base)


def time_split(events: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Seconds that each rank of each run spent on what; the parts add up to the run's duration.

    A moment that belongs to several rows counts once, for the first of: gradient, exposed communication, serve, apply.
    A server is idle whenever it neither serves nor applies. A worker has finished when its last row has ended: fast
    workers do their steps sooner than the run's last one. What remains is "other": drawing batches, the harness, and
    waiting for a processor core that ranks share. Exposed communication is waiting that is not hidden
    behind this rank's own gradient: the union of its wait rows minus the union of its gradient rows. Of that, the
    straggler part is the time before the last participant had joined:

    - a collective is the k-th row with its label on every worker; the straggler part runs from this rank's own t0 to
      the latest t0 of all workers. If a worker lacks the row, nothing is attributed.
    - in a lock-step run, neighbours that send to each other with one label are such a pair: from this rank's k-th send
      to the peer until the peer's k-th send to this rank.

    The rest is transfer: on the wire, in the library, or until a peer answered.

    Args:
        events: rows of `bench.records.EVENTS`, any order; rows are clipped to [0, duration_s].
        runs: rows of `bench.records.RUNS`.

    Returns:
        One row per run and rank that has events, sorted: `run_id`, `rank`, `role` (worker | server), the `PARTS` [s],
        `exposed_comm_s` (both exposed parts), `comm_in_flight_s` (union of sends, receives, collectives and exposed
        waits), `hidden_comm_s` (in flight but not exposed), `overlap_fraction` (hidden / in flight; NaN if nothing was
        in flight), `duration_s`.

    Source: exposed communication and overlap as in `exposed_comm_s`, `overlap_fraction` of the glossary.

    Example:
        Two workers compute for 1 s and 3 s, then all-reduce until 4 s, and the run is over at 5 s. The first waits 2 s
        for the second:

        >>> rows = [(0, "gradient", 0.0, 1.0), (1, "gradient", 0.0, 3.0), (0, "allreduce", 1.0, 4.0),
        ...     (1, "allreduce", 3.0, 4.0), (0, "wait", 1.0, 4.0), (1, "wait", 3.0, 4.0)]
        >>> events = pd.DataFrame(rows, columns=["rank", "kind", "t0_s", "t1_s"]).assign(
        ...     run_id="a", label="g", peer=-1)
        >>> runs = pd.DataFrame({"run_id": ["a"], "duration_s": [5.0], "workers": [2], "lockstep": [True]})
        >>> split = time_split(events, runs)
        >>> split[["gradient_s", "exposed_straggler_s", "exposed_transfer_s", "finished_s"]].to_numpy().tolist()
        [[1.0, 2.0, 1.0, 1.0], [3.0, 0.0, 1.0, 1.0]]
    """
    times = lay_out(events, runs)
    duration = times.duration / 1e9
    finished_s = np.where(times.on_server, 0.0, duration - times.last / 1e9)
    rest_s = _exact(duration - times.seconds(times.busy) - finished_s)
    in_flight_s = times.seconds(times.in_flight)
    hidden_s = times.seconds(intervals.subtract(times.in_flight, times.exposed))
    with np.errstate(divide="ignore", invalid="ignore"):
        overlap = hidden_s / in_flight_s
    table = pd.DataFrame(
        {
            "run_id": times.run_id,
            "rank": times.rank,
            "role": np.where(times.on_server, "server", "worker"),
            **{part: times.seconds(stretches) for part, stretches in times.parts.items()},
            "idle_s": np.where(times.on_server, rest_s, 0.0),
            "finished_s": _exact(finished_s),
            "other_s": np.where(times.on_server, 0.0, rest_s),
            "exposed_comm_s": times.seconds(times.exposed),
            "comm_in_flight_s": in_flight_s,
            "hidden_comm_s": hidden_s,
            "overlap_fraction": overlap,
            "duration_s": duration,
        }
    )
    return table.sort_values(["run_id", "rank"], ignore_index=True)


def lay_out(events: pd.DataFrame, runs: pd.DataFrame) -> Times:
    """Which stretches of time each rank of each run spent on what, by the rules of `time_split`.

    Args:
        events: rows of `bench.records.EVENTS`, any order; rows are clipped to [0, duration_s].
        runs: rows of `bench.records.RUNS`.

    Source: as for `time_split`.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "rank": [0, 0], "kind": ["gradient", "apply"], "t0_s": [0.0, 2.0],
        ...     "t1_s": [2.0, 3.0], "label": "", "peer": -1})
        >>> runs = pd.DataFrame({"run_id": ["a"], "duration_s": [4.0], "workers": [1], "lockstep": [True]})
        >>> times = lay_out(events, runs)
        >>> times.parts["apply_s"].start.tolist(), times.last.tolist()
        ([2000000000], [3000000000])
    """
    # Not all columns of all rows: there may be millions.
    needed = ["run_id", "rank", "kind", "t0_s", "t1_s", "label", "peer"]
    known_runs = events["run_id"].isin(runs["run_id"]).to_numpy(dtype=bool)
    events = events[needed] if known_runs.all() else events.loc[known_runs, needed]
    known = runs.set_index("run_id")
    run_code, run_names = pd.factorize(events["run_id"])
    order_of_runs = known.loc[run_names]
    duration_ns = intervals.to_ns(order_of_runs["duration_s"].fillna(0).to_numpy(dtype=np.float64))
    workers = order_of_runs["workers"].to_numpy(dtype=np.int64)
    lockstep = order_of_runs["lockstep"].to_numpy(dtype=bool)

    rank = events["rank"].to_numpy(dtype=np.int64)
    ranks = int(rank.max()) + 1 if len(rank) else 1
    code = run_code.astype(np.int64) * ranks + rank
    there = np.bincount(code, minlength=1) > 0
    keys, group = np.flatnonzero(there), (np.cumsum(there) - 1)[code]
    group_run, group_rank = keys // ranks, keys % ranks
    widths = duration_ns[group_run] + 1  # one empty nanosecond between neighbours: no interval crosses a border
    base = np.concatenate([[0], np.cumsum(widths)[:-1]]).astype(np.int64) if len(keys) else np.zeros(0, np.int64)

    t0, t1 = intervals.to_ns(events["t0_s"].to_numpy()), intervals.to_ns(events["t1_s"].to_numpy())
    limit, border = duration_ns[run_code], base[group]
    start, end = np.clip(t0, 0, limit), np.clip(t1, 0, limit, out=t1)
    start += border
    end += border
    line = _Line(base, start, end)

    of_kind = {name: (events["kind"] == name).to_numpy(dtype=bool) for name in KINDS}
    on_server = rank >= workers[run_code]
    waiting = of_kind["wait"] & ~on_server & ~events["label"].isin(NOT_COMMUNICATION).to_numpy(dtype=bool)

    gradient = line.of(of_kind["gradient"])
    serve, apply = line.of(of_kind["serve"]), line.of(of_kind["apply"])
    exposed = intervals.subtract(line.of(waiting), gradient)
    late = _waiting_for_the_last(events, of_kind, run_code, group, base, line, t0, workers, lockstep)
    straggler = intervals.intersect(exposed, late)
    transfer = intervals.subtract(exposed, straggler)
    busy = intervals.merge(gradient, exposed)
    serve_only = intervals.subtract(serve, busy)
    busy = intervals.merge(busy, serve)
    apply_only = intervals.subtract(apply, busy)
    busy = intervals.merge(busy, apply)
    ends = base.copy()
    np.maximum.at(ends, group, line.end)
    return Times(
        run_id=np.asarray(run_names, dtype=object)[group_run],
        rank=group_rank,
        on_server=group_rank >= workers[group_run],
        base=base,
        duration=duration_ns[group_run],
        last=ends - base,
        parts=dict(zip(PARTS[:5], (gradient, straggler, transfer, serve_only, apply_only), strict=True)),
        exposed=exposed,
        busy=busy,
        in_flight=intervals.merge(line.of(of_kind["send"] | of_kind["recv"] | of_kind["allreduce"]), exposed),
    )


def _exact(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Differences of whole nanoseconds are whole nanoseconds; take the rounding off."""
    return np.round(seconds, 9) + 0.0


def _waiting_for_the_last(
    events: pd.DataFrame,
    of_kind: dict[str, NDArray[np.bool_]],
    run_code: NDArray[np.intp],
    group: NDArray[np.intp],
    base: Nanoseconds,
    line: _Line,
    t0: Nanoseconds,
    workers: NDArray[np.int64],
    lockstep: NDArray[np.bool_],
) -> Intervals:
    """For each collective (or exchange of two neighbours) and rank: from its own start to the start of the last one."""
    rank, peer = events["rank"].to_numpy(dtype=np.int64), events["peer"].to_numpy(dtype=np.int64)
    label_code = pd.factorize(events["label"])[0]
    collective = of_kind["allreduce"]
    exchange = of_kind["send"] & lockstep[run_code] & (rank < workers[run_code]) & (peer < workers[run_code])
    parts = []
    for rows, needed, pair in (
        (collective, workers[run_code], np.zeros(len(rank), dtype=np.int64)),
        # The pair {rank, peer}, whichever of the two wrote the row.
        (exchange, np.full(len(rank), 2), np.minimum(rank, peer) * (1 + rank.max(initial=0)) + np.maximum(rank, peer)),
    ):
        if not rows.any():
            continue
        together = np.stack([run_code[rows], label_code[rows], pair[rows]])
        codes = _numbered(together)
        occurrence = _occurrence(codes, group[rows], t0[rows])
        # Rows of one exchange side by side: the latest start of each, and whether everybody is there.
        order = np.lexsort((occurrence, codes))
        exchange_code = _numbered(np.stack([codes, occurrence]))[order]
        first = np.flatnonzero(np.diff(exchange_code, prepend=-1))
        size = np.diff(np.append(first, len(order)))
        last = np.repeat(np.maximum.reduceat(t0[rows][order], first), size)
        whole = np.repeat(size, size) == needed[rows][order]
        chosen, last = np.flatnonzero(rows)[order][whole], last[whole]
        # The last start lies on another rank's piece of the line: carry it over by its distance from this rank's t0.
        border = base[group[chosen]]
        next_border = np.append(base, np.iinfo(np.int64).max)[group[chosen] + 1]
        parts.append(intervals.union(line.start[chosen], np.minimum(border + last, next_border - 1)))
    return intervals.merge(*parts) if parts else intervals.union(np.zeros(0, np.int64), np.zeros(0, np.int64))


def _numbered(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same number for equal columns of [k, n], different ones for different columns; in their order [n]."""
    code = np.zeros(columns.shape[1], dtype=np.int64)
    for row in columns:
        low, high = int(row.min(initial=0)), int(row.max(initial=0))
        code = code * (high - low + 1) + (row - low)
        code = np.unique(code, return_inverse=True)[1]  # small again, so that the product never overflows
    return code


def _occurrence(code: NDArray[np.int64], group: NDArray[np.int64], t0: Nanoseconds) -> NDArray[np.int64]:
    """The how manieth row with its code and group each is, by time, from 0 [n]."""
    order = np.lexsort((t0, group, code))
    changed = (np.diff(code[order], prepend=-1) != 0) | (np.diff(group[order], prepend=-1) != 0)
    first = np.flatnonzero(changed)
    found = np.empty(len(code), dtype=np.int64)
    found[order] = np.arange(len(code)) - np.repeat(first, np.diff(np.append(first, len(code))))
    return found
