"""One worker, one core, three seeds: the papers' models learn what they should. Slow, and for a quiet machine."""

import math

import pytest

import paceline
from bench.records import load
from tests.support.datasets import needs_data

# Largest held-out error (1 - accuracy), or loss in nat, at the best of a run's snapshots.
LARGEST = {
    "mnist-mlp": ("error", 0.03),
    "fashion-convnet": ("error", 0.11),
    "cifar10-easgd7-10k": ("error", 0.42),
    "shakespeare-gpt-1M": ("loss", 1.90),
    "speech-lstm": ("error", 0.05),
    "a9a-logistic": ("error", 0.153),
}


@needs_data
@pytest.mark.slow
@pytest.mark.mpi
@pytest.mark.timeout(5400)
def test_the_papers_models_reach_their_targets(tmp_path, data_folder):
    assert paceline.main(["run", "single-worker", "--out", str(tmp_path)]) == 0
    results = load(tmp_path)
    curves = results.heldout.merge(results.runs[["run_id", "workload", "seed", "target_loss"]], on="run_id")
    best = curves.groupby(["workload", "seed"]).agg(
        loss=("heldout_loss", "min"), accuracy=("heldout_metric", "max"), target=("target_loss", "first")
    )
    print(best)
    for workload, (kind, largest) in LARGEST.items():
        own = best.loc[workload]
        assert len(own) == 3
        reached = own["loss"] if kind == "loss" else 1 - own["accuracy"]
        assert reached.max() <= largest, (workload, reached)
    assert all(row.loss <= row.target or math.isnan(row.target) for row in best.itertuples())
