"""The implicit momentum of an ensemble of trajectories, by every way of measuring it, side by side.

Source: Mitliagkas, Zhang, Hadjis, Re, Asynchrony begets Momentum, arXiv 1605.09774; each way's own file.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from analysis.asynchrony.ensemble import fit_momentum
from analysis.asynchrony.law import WARM_UP, momentum_of_staleness
from analysis.asynchrony.sensor import read
from analysis.asynchrony.server import Array, Counts
from analysis.statistics import mean_over_runs


def measured_momentum(
    paths: Array, gradients: Array, staleness: Counts, *, lr: float, momentum: float = 0.0, workers: int
) -> pd.DataFrame:
    """The implicit momentum of several seeds, measured in every way; no unit.

    Args:
        paths: the center after each write, all seeds from one start [S, T + 1, P], S at least 3. (`simulate` has them,
            and so has whoever watches the server's replica in the simulator of `paceline run`.)
        gradients: of the loss, without noise, at these points [S, T, P] or [S, T + 1, P].
        staleness: of each write [S, T].
        lr: learning rate.
        momentum: explicit momentum of the server.
        workers: M.

    Returns:
        One row per way: `way`, `implicit`, `low`, `high`, `n` [seeds], `expected` (1 - 1/M), `about` (what to make of
        it). The ways: "ensemble", the one to believe; "ensemble, products of means", drawn towards 0 by noise;
        "ensemble, explicit fitted too"; "sensor", over the second half of each run, right only if the gradients that
        were applied had no noise; "staleness", of the mean staleness after the warm-up.

    Raises:
        ValueError: shapes that do not fit, or too few seeds or writes.

    Example:
        >>> from analysis.asynchrony.server import quadratic, simulate
        >>> runs = simulate(quadratic([0.5, 1.0]), [1.0, 1.0], workers=4, writes=99, lr=0.1, replicas=99, seed=1)
        >>> table = measured_momentum(runs.path, runs.path * [0.5, 1.0], runs.staleness, lr=0.1, workers=4)
        >>> bool((table.set_index("way")["implicit"] - 0.75).abs()[["ensemble", "staleness"]].max() < 0.02)
        True
    """
    expected = 1 - 1 / workers
    across = fit_momentum(paths, gradients, lr=lr, explicit=momentum).implicit
    means = fit_momentum(paths, gradients, lr=lr, explicit=momentum, moments="of-means").implicit
    fitted = fit_momentum(paths, gradients, lr=lr, explicit=None).implicit
    half = (paths.shape[1] - 2) // 2
    readings = [
        float(np.nanmean(read(path, slope, lr=lr, momentum=momentum).implicit[half:]))
        for path, slope in zip(paths, gradients, strict=True)
    ]
    sensor = mean_over_runs(readings)
    late = staleness[:, WARM_UP * workers :]
    tau = mean_over_runs([float(m) for m in momentum_of_staleness(late.mean(1))] if late.size else [])
    rows = [
        ("ensemble", across.value, across.low, across.high, across.seeds, "least squares, products of different seeds"),
        ("ensemble, products of means", means.value, means.low, means.high, means.seeds, "drawn towards 0 by noise"),
        ("ensemble, explicit fitted too", fitted.value, fitted.low, fitted.high, fitted.seeds, "three terms"),
        ("sensor", sensor.mean, sensor.low, sensor.high, sensor.n, "right only without gradient noise"),
        ("staleness", tau.mean, tau.low, tau.high, tau.n, "of the mean; a momentum only if the law is geometric"),
    ]
    table = pd.DataFrame(rows, columns=["way", "implicit", "low", "high", "n", "about"])
    table.insert(5, "expected", expected)
    return table
