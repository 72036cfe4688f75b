"""Asynchrony as runs recorded it: whose gradients were how stale, against what speeds let expect, and its momentum.

Every run with a server records the staleness of each write. That gives `implicit_momentum`: E tau / (1 + E tau), which
is a momentum if the law is near geometric, and the variance tells whether it is. More cannot be said from what a run
keeps: `analysis.asynchrony.measured` needs the center after every write, and planned snapshots are some writes apart,
at times that differ from seed to seed.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774; `analysis.asynchrony.waiting` for
    what is expected.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.asynchrony.law import WARM_UP, momentum_of_staleness
from analysis.asynchrony.waiting import expected_staleness
from analysis.statistics import mean_over_runs

BY_WORKER = (
    "run_id", "server", "worker", "gradients", "share", "compute_s", "staleness_mean", "staleness_by_share",
    "staleness_by_compute", "staleness_variance", "variance_memoryless", "zero_share", "zero_share_memoryless",
)  # fmt: skip

KEYS = ("study", "workload", "workers", "transport", "label")
"""Runs that differ only in their seed share a row of `implicit_momentum`."""


def center_writes(events: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Every write to a center, with the worker whose message it was.

    A server's `apply` row does not say whose gradient it was; the row of the message that brought it, the next `serve`
    or `recv` row of that server, does. Where several messages make one write, it is the last one's.

    Args:
        events: rows of `bench.records.EVENTS`, those of each part of a rank's file in the order of recording.
        runs: rows of `bench.records.RUNS`; ranks from `workers` on are servers.

    Returns:
        One row per write, by run and server, in order: `run_id`, `server` (rank), `worker` (rank; of a group its
        first), `t_s`, `staleness_updates` [writes]. Runs without a server have none.

    Example:
        >>> events = pd.DataFrame({"run_id": "a", "rank": 2, "kind": ["apply", "serve", "recv", "apply", "serve"],
        ...     "t1_s": [0.1, 0.1, 0.1, 0.3, 0.3], "peer": [-1, 1, 1, -1, 0], "staleness_updates": [0, -1, -1, 1, -1]})
        >>> center_writes(events, pd.DataFrame({"run_id": ["a"], "workers": [2]}))["worker"].tolist()
        [1, 0]
    """
    columns = ["run_id", "rank", "kind", "t1_s", "peer", "staleness_updates"]
    rows = events.loc[events["kind"].isin(["apply", "serve", "recv"]), columns]
    run, run_ids = pd.factorize(rows["run_id"])
    first_server = runs.set_index("run_id")["workers"].reindex(np.asarray(run_ids)).to_numpy(dtype=np.float64)
    here = rows["rank"].to_numpy() >= first_server[run]  # never true of a run that is not in the table
    rows, run = rows[here], run[here]
    rank = rows["rank"].to_numpy()
    order = np.lexsort((np.arange(len(rows)), rank, run))
    rows, run, rank = rows.iloc[order], run[order], rank[order]
    applied = (rows["kind"] == "apply").to_numpy()
    writes, messages = np.flatnonzero(applied), np.flatnonzero(~applied)
    following = np.searchsorted(messages, writes)
    writes, following = writes[following < len(messages)], following[following < len(messages)]
    message = messages[following]
    known = (run[writes] == run[message]) & (rank[writes] == rank[message])
    writes, message = writes[known], message[known]
    # Parts of a rank's rows may have been read in another order than they were written in.
    order = np.lexsort((np.arange(len(writes)), rows["t1_s"].to_numpy()[writes], rank[writes], run[writes]))
    writes, message = writes[order], message[order]
    at = rows.iloc[writes]
    return pd.DataFrame(
        {
            "run_id": at["run_id"].to_numpy(),
            "server": rank[writes],
            "worker": rows["peer"].to_numpy()[message],
            "t_s": at["t1_s"].to_numpy(),
            "staleness_updates": at["staleness_updates"].to_numpy(),
        }
    )


def staleness_by_worker(events: pd.DataFrame, runs: pd.DataFrame, *, warm_up: int = WARM_UP) -> pd.DataFrame:
    """Staleness of each worker's gradients beside what its speed lets expect.

    Three numbers for each worker's mean: measured; from its share of the writes, (1 - p) / p, which must be the same
    but for the ends of the run (else writes were lost or staleness miscounted); and from the compute times alone, from
    which messages and a busy server lead away. The variance and the share of fresh gradients are those of memoryless
    workers with these shares.

    Args:
        events: as `center_writes`.
        runs: rows of `bench.records.RUNS`.
        warm_up: writes per worker left out at the beginning.

    Returns:
        One row per run, server and worker: `run_id`, `server`, `worker`, `gradients`, `share` (of all writes),
        `compute_s` (mean of its gradients; NaN if unknown), `staleness_mean`, `staleness_by_share`,
        `staleness_by_compute` [writes] (NaN if a worker's compute time is unknown, or workers compute in groups),
        `staleness_variance`, `variance_memoryless` [writes^2], `zero_share`, `zero_share_memoryless`.

    Source: `analysis.asynchrony.waiting`.

    Example:
        Two workers in turn, one write each per second:

        >>> n = 60
        >>> kinds = pd.DataFrame({"run_id": "a", "rank": 2, "kind": ["apply", "serve"] * n, "t0_s": 0.0,
        ...     "t1_s": np.repeat(np.arange(n) / 2, 2), "peer": np.ravel([(-1, k % 2) for k in range(n)]),
        ...     "staleness_updates": np.ravel([(min(k, 1), -1) for k in range(n)])})
        >>> found = staleness_by_worker(kinds, pd.DataFrame({"run_id": ["a"], "workers": [2]}))
        >>> found[["staleness_mean", "staleness_by_share", "staleness_variance"]].to_numpy().tolist()
        [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]
    """
    gradients = events.loc[events["kind"] == "gradient", ["run_id", "rank", "t0_s", "t1_s"]]
    compute = (gradients["t1_s"] - gradients["t0_s"]).groupby([gradients["run_id"], gradients["rank"]], observed=True)
    compute_s = compute.mean().to_dict()
    workers_of = runs.set_index("run_id")["workers"].to_dict()
    parts = []
    for (run_id, server), writes in center_writes(events, runs).groupby(
        ["run_id", "server"], observed=True, sort=False
    ):
        kept = writes.iloc[warm_up * writes["worker"].nunique() :]
        if kept.empty:
            continue
        tau = kept.groupby("worker")["staleness_updates"]
        count = tau.size()
        ranks = count.index.to_numpy()
        expected = expected_staleness(count.to_numpy(dtype=np.float64))
        seconds = np.array([compute_s.get((run_id, k), np.nan) for k in ranks])
        alone = len(ranks) == workers_of[run_id] and bool((seconds > 0).all())  # NaN is not
        parts.append(
            pd.DataFrame(
                {
                    "run_id": run_id,
                    "server": server,
                    "worker": ranks,
                    "gradients": count.to_numpy(),
                    "share": expected["share"],
                    "compute_s": seconds,
                    "staleness_mean": tau.mean().to_numpy(),
                    "staleness_by_share": expected["staleness_mean"],
                    "staleness_by_compute": expected_staleness(1 / seconds)["staleness_mean"] if alone else np.nan,
                    "staleness_variance": tau.var(ddof=0).to_numpy(),
                    "variance_memoryless": expected["staleness_variance"],
                    "zero_share": (kept["staleness_updates"] == 0).groupby(kept["worker"]).mean().to_numpy(),
                    "zero_share_memoryless": expected["zero_share"],
                }
            )
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(BY_WORKER))


def implicit_momentum(events: pd.DataFrame, runs: pd.DataFrame, *, warm_up: int = WARM_UP) -> pd.DataFrame:
    """The implicit momentum that the staleness of real runs amounts to, with intervals over seeds; no unit.

    Args:
        events: as `center_writes`.
        runs: rows of `bench.records.RUNS`; completed ones count.
        warm_up: writes per worker left out at the beginning.

    Returns:
        One row per setting (`KEYS`) with a server: `momentum` = mean over runs of E tau / (1 + E tau), `low`, `high`,
        `n`, `interval` (see `mean_over_runs`); `momentum_expected` = 1 - 1/M, M = how many workers (or groups) wrote;
        `variance_ratio` = var tau / (E tau (1 + E tau)), mean over runs: near 1 the law may be geometric and `momentum`
        is one, near 0 workers write in turn and it says no more than the mean staleness.

    Source: arXiv 1605.09774, theorems 3 and 5; see `momentum_of_staleness` for what it is not.

    Example:
        >>> n = 60
        >>> events = pd.DataFrame({"run_id": "a", "rank": 2, "kind": ["apply", "serve"] * n, "t1_s": 0.0,
        ...     "peer": np.ravel([(-1, k % 2) for k in range(n)]),
        ...     "staleness_updates": np.ravel([(min(k, 1), -1) for k in range(n)])})
        >>> runs = pd.DataFrame({"run_id": ["a"], "workers": [2], "status": ["completed"], "study": ["s"],
        ...     "workload": ["w"], "transport": ["mpi"], "label": ["async-sgd"]})
        >>> implicit_momentum(events, runs)[["momentum", "momentum_expected", "variance_ratio"]].to_numpy().tolist()
        [[0.5, 0.5, 0.0]]
    """
    rows = []
    for run_id, writes in center_writes(events, runs).groupby("run_id", observed=True, sort=False):
        writers = writes["worker"].nunique()
        number = writes.groupby("server").cumcount()  # each server has all workers' warm-up
        tau = writes.loc[number >= warm_up * writers, "staleness_updates"].to_numpy(dtype=np.float64)
        if len(tau):
            geometric = tau.mean() * (1 + tau.mean())
            ratio = tau.var() / geometric if geometric > 0 else np.nan
            rows.append((run_id, float(momentum_of_staleness(tau.mean())), 1 - 1 / writers, ratio))
    found = pd.DataFrame(rows, columns=["run_id", "momentum", "momentum_expected", "variance_ratio"])
    found = runs.loc[runs["status"] == "completed", ["run_id", *KEYS]].merge(found, on="run_id")
    summary = []
    for setting, group in found.groupby(list(KEYS), sort=False, observed=True):
        mean = mean_over_runs(group["momentum"].to_numpy(dtype=np.float64))
        expected, ratio = (float(group[name].mean()) for name in ("momentum_expected", "variance_ratio"))
        summary.append((*setting, mean.mean, mean.low, mean.high, mean.n, mean.interval, expected, ratio))
    names = ["momentum", "low", "high", "n", "interval", "momentum_expected", "variance_ratio"]
    return pd.DataFrame(summary, columns=[*KEYS, *names])
