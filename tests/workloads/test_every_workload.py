"""Every workload: the checks that all must pass, what the registry says of it, and every algorithm on it."""

import tomllib

import pytest
import torch

from bench.run import run_cell
from bench.settings import build
from bench.study import STUDIES, resolve
from bench.workloads.check import CHECKS, Subject
from bench.workloads.registry import NAMES, settings_class
from tests.support.datasets import folder

CPU = torch.device("cpu")

# Narrow, and with small held-out sets: what is true of these is true of the usual ones.
SMALL = {
    "a9a-logistic": {},
    "cifar10-easgd7": {"train_batches": 1, "batch_size": 2, "heldout_images": 8},
    "cifar10-resnet18": {"train_batches": 1, "width": 4, "batch_size": 2, "heldout_images": 8},
    "cifar10-vgg13": {"train_batches": 1, "width": 4, "batch_size": 2, "heldout_images": 8},
    "digits-mlp": {},
    "fashion-convnet": {"width": 4, "batch_size": 4},
    "mnist-mlp": {"width": 10, "batch_size": 8},
    "quadratic": {"heterogeneity": 0.5},
    "shakespeare-gpt": {"width": 16, "depth": 2, "heads": 2, "context": 12, "batch_size": 4},
    "shakespeare-lstm": {"width": 12, "context": 10, "batch_size": 4},
    "speech-lstm": {"width": 8, "batch_size": 4},
    "wikitext2-lstm": {"width": 4, "context": 5, "batch_size": 2},
}
LARGE = {"cifar10-easgd7", "cifar10-resnet18", "cifar10-vgg13", "speech-lstm", "wikitext2-lstm"}  # even so
# What differs in kind from the usual.
OTHERS = [
    ("cifar10-resnet18", {**SMALL["cifar10-resnet18"], "norm": "batch"}),
    ("cifar10-resnet18", {**SMALL["cifar10-resnet18"], "norm": "layer", "augment": False}),
    ("cifar10-vgg13", {**SMALL["cifar10-vgg13"], "norm": "batch"}),
    ("cifar10-vgg13", {**SMALL["cifar10-vgg13"], "norm": "none"}),
    ("cifar10-easgd7", {**SMALL["cifar10-easgd7"], "augment": False}),
    ("mnist-mlp", {**SMALL["mnist-mlp"], "partition": {"by": "dirichlet", "alpha": 0.3}}),
    ("speech-lstm", {**SMALL["speech-lstm"], "partition": {"by": "speaker"}}),
    ("shakespeare-lstm", {**SMALL["shakespeare-lstm"], "partition": {"by": "role"}}),
    ("wikitext2-lstm", {**SMALL["wikitext2-lstm"], "partition": {"by": "article"}}),
]
ALGORITHMS = tomllib.loads((STUDIES / "every-algorithm.toml").read_text())["algorithm"]

subjects: dict[str, Subject] = {}


def subject(name, table):
    key = f"{name} {table}"
    if key not in subjects:
        subjects[key] = Subject(build(settings_class(name), table, name))
    return subjects[key]


def of(name, *values, **more):
    """A case that is left out where the workload's data are not, and among the thorough ones if it takes long."""
    marks = [pytest.mark.skipif(bool(NAMES[name].data) and folder() is None, reason=f"no data sets here for {name}")]
    if name in LARGE:
        marks.append(pytest.mark.thorough)
    return pytest.param(name, *values, marks=marks, **more)


def test_every_workload_is_tried():
    assert set(SMALL) == set(NAMES)


TRIED = [of(n, t, id=f"{n}-{k}") for k, (n, t) in enumerate([*SMALL.items(), *OTHERS])]


@pytest.mark.parametrize(("name", "table"), TRIED)
def test_it_passes_every_check(name, table, data_folder):
    for check in CHECKS:
        check(subject(name, table))


@pytest.mark.parametrize("name", [of(name) for name in NAMES])
def test_the_registry_tells_the_truth(name, data_folder):
    entry, cls = NAMES[name], settings_class(name)
    table = {"train_batches": 1} if "train_batches" in SMALL[name] else {}  # the five files make no other model
    built = cls(**table).build(CPU, 4)
    assert cls.title == name and cls.data == entry.data
    assert (built.parameters, built.metric) == (entry.parameters, entry.metric)
    assert built.flops_per_sample == pytest.approx(entry.flops_per_sample, rel=0.01)
    assert built.target_loss > 0 and f"{built.target_loss:g}" in entry.target


def cell(name, algorithm, tmp_path):
    study = resolve(
        {
            "name": "matrix", "workers": 4, "transports": ["simulated"], "save": "none",
            "budget": {"seconds": 2.5, "snapshots": 1}, "compute": {"gradient_s": 0.5, "slow": {"3": 2.0}},
            "workload": [{"name": name, **SMALL[name], "optimizer": {"name": "sgd", "lr": 1e-3}}],
            "algorithm": [{**algorithm, "label": "tried"}],
        }
    )  # fmt: skip
    (only,) = study.cells()
    return run_cell(only, tmp_path, world=None)


# In the fast tests each workload meets some of the algorithms, and each algorithm some workload.
MATRIX = [(name, algorithm) for algorithm in ALGORITHMS for name in NAMES]
FEW = [(sorted(NAMES)[k % len(NAMES)], algorithm) for k, algorithm in enumerate(ALGORITHMS)]


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "algorithm"), [of(n, a, id=f"{n}-{a['name']}") for n, a in FEW])
def test_some_algorithm_runs_on_it(name, algorithm, data_folder, tmp_path):
    verdict = cell(name, algorithm, tmp_path)
    assert verdict.status == "completed", verdict.text


@pytest.mark.slow
@pytest.mark.parametrize(("name", "algorithm"), [of(n, a, id=f"{n}-{a['name']}") for n, a in MATRIX])
def test_every_algorithm_runs_on_it(name, algorithm, data_folder, tmp_path):
    verdict = cell(name, algorithm, tmp_path)
    assert verdict.status == "completed", verdict.text
