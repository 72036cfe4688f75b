"""How much was computed and moved per second: samples, payload, bytes on the wire, and the wire's peak."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BIT_PER_BYTE = 8
GIGA = 1e9  # decimal, as usual for networks
Numbers = NDArray[np.float64]
T = TypeVar("T", float, NDArray[np.float64])


def throughput(runs: pd.DataFrame, events: pd.DataFrame, window_s: float = 0.1) -> pd.DataFrame:
    """Rates of each run, over all ranks and the run's whole duration.

    All workers' samples are counted, never n times those of rank 0: a straggler must show.

    Args:
        runs: rows of `bench.records.RUNS`.
        events: rows of `bench.records.EVENTS`; only the peak needs them.
        window_s: width of the windows for the peak [s].

    Returns:
        One row per run, in the order of `runs`: `run_id`, `samples_per_s`, `goodput_Gbit_per_s` (payload),
        `wire_Gbit_per_s` (bytes on the wire), `peak_wire_Gbit_per_s` (busiest window of all ranks together; NaN without
        rows of sends or collectives). 1 Gbit = 1e9 bit.

    Source: Patarasuk and Yuan, Bandwidth optimal all-reduce algorithms for clusters of workstations, Journal of
    Parallel and Distributed Computing 69 (2009), for the bytes that a ring all-reduce puts on the wire.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "samples": [300], "nbytes": [250_000_000],
        ...     "wire_nbytes": [500_000_000], "duration_s": [2.0]})
        >>> events = pd.DataFrame({"run_id": ["a"], "kind": ["send"], "t0_s": [0.05], "t1_s": [0.25],
        ...     "wire_nbytes": [100_000_000]})
        >>> throughput(runs, events).iloc[0, 1:].tolist()
        [150.0, 1.0, 2.0, 4.0]
    """
    duration = runs["duration_s"].to_numpy(dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = pd.DataFrame(
            {
                "run_id": runs["run_id"].to_numpy(),
                "samples_per_s": runs["samples"].to_numpy(dtype=np.float64) / duration,
                "goodput_Gbit_per_s": Gbit(runs["nbytes"].to_numpy(dtype=np.float64)) / duration,
                "wire_Gbit_per_s": Gbit(runs["wire_nbytes"].to_numpy(dtype=np.float64)) / duration,
            }
        )
    moved = events.loc[_leaves(events), ["run_id", "t0_s", "t1_s", "wire_nbytes"]]
    peaks = {run_id: _peak(rows, window_s) for run_id, rows in moved.groupby("run_id", sort=False, observed=True)}
    rates["peak_wire_Gbit_per_s"] = [peaks.get(run_id, float("nan")) for run_id in rates["run_id"]]
    return rates.replace([np.inf, -np.inf], np.nan)


def rank_throughput(runs: pd.DataFrame, events: pd.DataFrame, window_s: float = 0.1) -> pd.DataFrame:
    """Rates of each rank of each run: who is the bottleneck of the wire.

    A rank has the network interface of its node, alone or with the node's other ranks; a server's shows here first.

    Args:
        runs: rows of `bench.records.RUNS`.
        events: rows of `bench.records.EVENTS`.
        window_s: width of the windows for the peak [s].

    Returns:
        One row per run and rank that sent, received or took part in a collective, sorted: `run_id`, `rank`,
        `goodput_Gbit_per_s` (payload it asked to move), `wire_Gbit_per_s` and `peak_wire_Gbit_per_s` (bytes it put on
        the wire), `received_Gbit_per_s` (payload of messages it got; of a ring all-reduce as much arrives as leaves,
        and that is not in it). All over the run's duration.

    Source: as for `throughput`.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "duration_s": [2.0]})
        >>> events = pd.DataFrame({"run_id": "a", "rank": [0, 1], "kind": ["send", "recv"], "t0_s": [0.0, 0.0],
        ...     "t1_s": [0.1, 0.1], "nbytes": 250_000_000, "wire_nbytes": [250_000_000, 0]})
        >>> rank_throughput(runs, events).iloc[:, 2:].to_numpy().tolist()
        [[1.0, 1.0, 20.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
    """
    leaves = _leaves(events)
    arrives = (events["kind"] == "recv").to_numpy(dtype=bool)
    known = (leaves | arrives) & events["run_id"].isin(runs["run_id"]).to_numpy(dtype=bool)
    rows = events.loc[known, ["run_id", "rank", "t0_s", "t1_s", "nbytes", "wire_nbytes"]].assign(arrives=arrives[known])
    duration = dict(zip(runs["run_id"], runs["duration_s"], strict=True))
    found = []
    for (run_id, rank), own in rows.groupby(["run_id", "rank"], observed=True, sort=True):
        got, sent = own[own["arrives"]], own[~own["arrives"]]
        per_s = 1 / float(duration[run_id]) if duration[run_id] > 0 else float("nan")
        found.append(
            {
                "run_id": run_id,
                "rank": rank,
                "goodput_Gbit_per_s": Gbit(float(sent["nbytes"].sum())) * per_s,
                "wire_Gbit_per_s": Gbit(float(sent["wire_nbytes"].sum())) * per_s,
                "peak_wire_Gbit_per_s": _peak(sent, window_s) if len(sent) else 0.0,
                "received_Gbit_per_s": Gbit(float(got["nbytes"].sum())) * per_s,
            }
        )
    names = ["goodput_Gbit_per_s", "wire_Gbit_per_s", "peak_wire_Gbit_per_s", "received_Gbit_per_s"]
    return pd.DataFrame(found, columns=["run_id", "rank", *names])


def wire_over_time(runs: pd.DataFrame, events: pd.DataFrame, window_s: float = 0.1) -> pd.DataFrame:
    """Gbit/s on the wire over each run, all ranks together, in windows that begin with the run.

    A row's bytes are spread evenly over its time, as for the peak of `throughput`: the largest value of the whole
    windows is that peak, unless it lies in the window in which the run ends.

    Args:
        runs: rows of `bench.records.RUNS`.
        events: rows of `bench.records.EVENTS`.
        window_s: width of the windows [s].

    Returns:
        One row per run and window that lies wholly within the run (at least one), in order: `run_id`, `t0_s`, `t1_s`
        [s], `wire_Gbit_per_s`. Runs that put nothing on the wire have zeros.

    Source: as for `throughput`.

    Example:
        >>> runs = pd.DataFrame({"run_id": ["a"], "duration_s": [0.3]})
        >>> events = pd.DataFrame({"run_id": ["a"], "kind": ["send"], "t0_s": [0.05], "t1_s": [0.25],
        ...     "wire_nbytes": [100_000_000]})
        >>> wire_over_time(runs, events)["wire_Gbit_per_s"].tolist()
        [2.0, 4.0, 2.0]
    """
    moved = events.loc[_leaves(events), ["run_id", "t0_s", "t1_s", "wire_nbytes"]]
    by_run = {str(run_id): rows for run_id, rows in moved.groupby("run_id", sort=False, observed=True)}
    parts = []
    for run_id, duration_s in zip(runs["run_id"], runs["duration_s"], strict=True):
        if not duration_s > 0:
            continue
        whole = max(1, int(round(float(duration_s) / window_s, 9)))
        filled = np.zeros(whole)
        if run_id in by_run:
            t0_s, t1_s, nbytes = (by_run[run_id][c].to_numpy(np.float64) for c in ("t0_s", "t1_s", "wire_nbytes"))
            found = _per_window(t0_s, t1_s, nbytes, window_s)[:whole]
            filled[: len(found)] = found
        edges = window_s * np.arange(whole + 1)
        rate = Gbit(filled) / window_s
        parts.append(pd.DataFrame({"run_id": run_id, "t0_s": edges[:-1], "t1_s": edges[1:], "wire_Gbit_per_s": rate}))
    if not parts:
        return pd.DataFrame(columns=["run_id", "t0_s", "t1_s", "wire_Gbit_per_s"])
    return pd.concat(parts, ignore_index=True)


def Gbit(nbytes: T) -> T:
    """Bytes as 1e9 bits.

    Source: the decimal prefixes of the International System of Units.

    Example:
        >>> Gbit(250_000_000.0)
        2.0
    """
    return nbytes * BIT_PER_BYTE / GIGA


def _leaves(events: pd.DataFrame) -> NDArray[np.bool_]:
    """Rows that put bytes on the wire."""
    return events["kind"].isin(["send", "allreduce"]).to_numpy(dtype=bool)


def _peak(rows: pd.DataFrame, window_s: float) -> float:
    t0_s, t1_s, nbytes = (rows[name].to_numpy(dtype=np.float64) for name in ("t0_s", "t1_s", "wire_nbytes"))
    return Gbit(float(_per_window(t0_s, t1_s, nbytes, window_s).max())) / window_s


def _per_window(t0_s: Numbers, t1_s: Numbers, nbytes: Numbers, window_s: float) -> Numbers:
    """Bytes in each window [0, w), [w, 2w), ...; each row's bytes are spread evenly over its time."""
    start, end = np.maximum(t0_s, 0) / window_s, np.maximum(t1_s, 0) / window_s  # in windows
    # Times are whole nanoseconds; without the rounding 0.3 / 0.1 would fall into the window before.
    start, end = np.round(start, 9), np.round(end, 9)
    first, last = np.floor(start).astype(np.int64), np.floor(end).astype(np.int64)
    windows = int(last.max()) + 2
    inside = first == last
    filled = _sums(first[inside], nbytes[inside], windows)
    start, end, first, last, nbytes = start[~inside], end[~inside], first[~inside], last[~inside], nbytes[~inside]
    rate = nbytes / (end - start)  # bytes per window
    filled += _sums(first, rate * (first + 1 - start), windows) + _sums(last, rate * (end - last), windows)
    # The windows in between are full: a step up, a step down, summed.
    return filled + np.cumsum(_sums(first + 1, rate, windows) - _sums(last, rate, windows))


def _sums(window: NDArray[np.int64], weights: Numbers, windows: int) -> Numbers:
    return np.bincount(window, weights=weights, minlength=windows).astype(np.float64)
