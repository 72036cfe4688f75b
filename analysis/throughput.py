"""How much was computed and moved per second: samples, payload, bytes on the wire, and the wire's peak."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

BIT_PER_BYTE = 8
GIGA = 1e9  # decimal, as usual for networks


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
                "goodput_Gbit_per_s": runs["nbytes"].to_numpy(dtype=np.float64) * BIT_PER_BYTE / GIGA / duration,
                "wire_Gbit_per_s": runs["wire_nbytes"].to_numpy(dtype=np.float64) * BIT_PER_BYTE / GIGA / duration,
            }
        )
    moved = events[events["kind"].isin(["send", "allreduce"])]
    peaks = {}
    for run_id, rows in moved.groupby("run_id", sort=False):
        filled = _per_window(
            rows["t0_s"].to_numpy(dtype=np.float64),
            rows["t1_s"].to_numpy(dtype=np.float64),
            rows["wire_nbytes"].to_numpy(dtype=np.float64),
            window_s,
        )
        peaks[run_id] = float(filled.max()) * BIT_PER_BYTE / GIGA / window_s
    rates["peak_wire_Gbit_per_s"] = [peaks.get(run_id, float("nan")) for run_id in rates["run_id"]]
    return rates.replace([np.inf, -np.inf], np.nan)


def _per_window(
    t0_s: NDArray[np.float64], t1_s: NDArray[np.float64], nbytes: NDArray[np.float64], window_s: float
) -> NDArray[np.float64]:
    """Bytes in each window [0, w), [w, 2w), ...; each row's bytes are spread evenly over its time."""
    start, end = np.maximum(t0_s, 0) / window_s, np.maximum(t1_s, 0) / window_s  # in windows
    # Times are whole nanoseconds; without the rounding 0.3 / 0.1 would fall into the window before.
    start, end = np.round(start, 9), np.round(end, 9)
    first, last = np.floor(start).astype(np.int64), np.floor(end).astype(np.int64)
    filled = np.zeros(int(last.max()) + 2)
    inside = first == last
    np.add.at(filled, first[inside], nbytes[inside])
    start, end, first, last, nbytes = start[~inside], end[~inside], first[~inside], last[~inside], nbytes[~inside]
    rate = nbytes / (end - start)  # bytes per window
    np.add.at(filled, first, rate * (first + 1 - start))
    np.add.at(filled, last, rate * (end - last))
    steps = np.zeros(len(filled) + 1)  # the windows in between are full: a step up, a step down, summed
    np.add.at(steps, first + 1, rate)
    np.add.at(steps, last, -rate)
    return filled + np.cumsum(steps)[:-1]
