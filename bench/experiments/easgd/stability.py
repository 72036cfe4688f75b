"""Where EASGD, ADMM and DOWNPOUR stop shrinking on a quadratic: the registered algorithms, run and watched.

Source: Zhang, Choromanska, LeCun, Deep learning with Elastic Averaging SGD, NeurIPS 2015, arXiv 1412.6651, section 4.
"""

from __future__ import annotations

import numpy as np

from algorithms.admm import ADMM
from algorithms.downpour import Downpour
from algorithms.easgd import EASGD
from bench.budget import Budget
from bench.cluster import Compute
from bench.cluster.compute import Pause
from bench.experiments.base import Rows, Scale
from bench.experiments.quadratics import centred, curvatures, models, prepared

ETA = 2.1
"""Learning rate of the map: with curvatures up to 1 it is the largest eta h."""
DIMENSION, CONDITION = 48, 40.0
ALPHAS = {"quick": 25, "full": 49}
EARLY, LATE = 100, 300
"""Rounds between which growth is measured."""


def easgd_map(scale: Scale) -> Rows:
    """Growth of round-robin EASGD with period 1 over a grid: one row per workers, alpha and eta h."""
    rates = np.linspace(0.04, 1.0, ALPHAS[scale])
    rows: Rows = []
    for workers in (1, 3, 8) if scale == "quick" else (1, 3, 8, 16):
        workload = centred(workers, dimension=DIMENSION, condition=CONDITION)
        for alpha in rates:
            away = []
            for rounds in (EARLY, LATE):
                algorithm = EASGD(period=1, moving_rate=float(alpha))
                run = prepared(algorithm, workload, workers=workers, lr=ETA)
                run.run(Budget(seconds=rounds - 0.5, snapshots=1))
                away.append(np.linalg.norm(models(run), axis=0))
            for h, early, late in zip(curvatures(DIMENSION, CONDITION), *away, strict=True):
                growth = (late / early) ** (1 / (LATE - EARLY))
                rows.append({"workers": workers, "alpha": alpha, "eta_h": ETA * h, "growth_per_round": growth})
    return rows


ADMM_ETA, ADMM_RHO, ADMM_START = 0.001, 2.5, 1000.0
APART = 50
"""Rounds between the states from which the growth of ADMM is fitted."""


def admm_rounds(scale: Scale) -> Rows:
    """Growth of round-robin ADMM at the paper's example, after 10 000 rounds from 1000: one row per workers.

    Late states s of a leading pair of eigenvalues, of modulus m, obey s_{t+2k} = a s_{t+k} - m^{2k} s_t; both numbers
    are fitted to all models. If one real eigenvalue leads, the fit has two and the larger root is it.
    """
    rounds = 10_000
    rows: Rows = []
    for workers in (2, 3) if scale == "quick" else (2, 3, 8):
        workload = centred(workers, dimension=1)
        run = prepared(ADMM(rho=ADMM_RHO), workload, workers=workers, lr=ADMM_ETA, start=ADMM_START)
        states = []
        for k in (2, 1, 0):
            run.run(Budget(steps=rounds - k * APART, snapshots=1))
            states.append(models(run).ravel())
        first, second, third = states
        (a, b), *_ = np.linalg.lstsq(np.stack([second, -first], 1), third, rcond=None)
        modulus = float(np.abs(np.roots([1.0, -a, b])).max())
        rows.append(
            {
                "workers": workers,
                "eta": ADMM_ETA,
                "rho": ADMM_RHO,
                "rounds": rounds,
                "growth_per_round": modulus ** (1 / APART),
                "start": ADMM_START,
                "distance": float(np.abs(third).max()),
            }
        )
    return rows


PERIODS = {(4, 0.01): 58, (4, 0.05): 11, (4, 0.1): 5, (8, 0.01): 23, (8, 0.05): 4, (8, 0.1): 2, (16, 0.05): 2}
"""(workers, eta h) -> the shorter of the two periods that are tried; the other is one more."""
WINDOW = 0.25


def downpour_periods(scale: Scale) -> Rows:
    """Growth of DOWNPOUR with evenly staggered workers at two neighbouring periods: one row per workers, eta h, period.

    The largest distance of the center in the last quarter of the run over that in the quarter before the middle.
    """
    rows: Rows = []
    for (workers, eta), shorter in PERIODS.items():
        for period in (shorter, shorter + 1):
            late = tuple(Pause(worker=k, at_s=0.0, for_s=k * period / workers) for k in range(1, workers))
            workload = centred(workers, dimension=1)
            run = prepared(
                Downpour(period=period),
                workload,
                workers=workers,
                lr=eta,
                compute=Compute(gradient_s=1.0, pause=late),
            )
            seconds = float((400 if scale == "quick" else 1000) * period)
            run.run(Budget(seconds=seconds, snapshots=1000))
            center = np.array([[s.t_s, abs(float(s.x[0]))] for s in run.server.snapshots])
            part = center[:, 0] / seconds
            early = center[(part > 0.5 - WINDOW) & (part <= 0.5), 1].max()
            last = center[part > 1 - WINDOW, 1].max()
            rows.append({"workers": workers, "eta_h": eta, "period": period, "growth": last / early})
    return rows
