"""The study file: typed, validated as a whole before anything starts, expanded to a list of runs (cells).

A study is a TOML file::

    name = "demo"
    seeds = [0, 1]
    workers = [4]
    transports = ["mpi", "simulated"]

    [testbed]                    # may be left out: hosts and links that `paceline testbed run` makes for it
    hosts = 4
    rate_Gbit_per_s = 1

    [budget]
    seconds = 5

    [[workload]]
    name = "digits-mlp"          # its own settings stand here too; label, optimizer, budget, compute, network and
                                 # target_loss may; "my_model.py:my_net" is one of your own

    [[algorithm]]
    name = "easgd"               # its own settings stand here too; label, transports, workloads and tuning may
    period = 4
    tuning = { trials = 12, searched = "lr in 0.01..1" }   # what was spent on choosing the settings
    grid = { "optimizer.lr" = [0.01, 0.1] }                # one entry for each value (see bench.grid)
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from algorithms.interface import Algorithm, Layer, Need
from algorithms.optim import OptimizerSettings
from algorithms.registry import algorithm_class
from algorithms.registry import names as algorithm_names
from bench.budget import Budget
from bench.cluster import Compute, Network
from bench.grid import expanded
from bench.settings import StudyError, build, convert, nearest, plain, show
from bench.testbed.settings import Testbed
from bench.workloads.registry import SIZES, WorkloadSettings, settings_class
from bench.workloads.registry import known as workload_names

Transport = Literal["mpi", "horovod", "simulated"]
Gradients = Literal["auto", "batched", "single", "none"]

# What each transport can do. Horovod has collectives only; point-to-point comes from mpi4py on the same ranks.
CAN: dict[str, frozenset[Need]] = {
    "mpi": frozenset({"collectives", "point-to-point", "server"}),
    "horovod": frozenset({"collectives", "point-to-point", "server"}),
    "simulated": frozenset({"collectives", "point-to-point", "server"}),
}

# The pieces in which `mean_gradient` reduces, where the study says nothing. On MPI as large as
# DistributedDataParallel's: a piece that overlaps uses MPI's slower, non-blocking all-reduce. Horovod's thread gains by
# an early start.
BUCKET_MiB: dict[str, float] = {"mpi": 25.0, "horovod": 4.0, "simulated": 25.0}

STUDIES = Path(__file__).parent / "studies"


@dataclass(frozen=True, kw_only=True)
class StudyTable:
    """The top level of a study file."""

    name: str
    description: str = ""
    seeds: tuple[int, ...] = (0,)
    workers: tuple[int, ...] = (4,)
    transports: tuple[Transport, ...] = ("mpi",)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    bucket_MiB: float | None = None  # pieces in which mean_gradient reduces; 0: all at the end; None: BUCKET_MiB
    poll: Literal["sleep", "spin"] = "sleep"  # spin: never sleep while waiting, for ranks with a core of their own
    rate_Gbit_per_s: float | None = None  # mpi: each rank sends at most this, through a token bucket; None: no limit
    testbed: Testbed | None = None  # hosts and links of `paceline testbed run`; None: the ones that there are
    timeout_s: float = 120.0  # longest time a rank may wait without anything happening
    save: Literal["none", "evaluated", "replicas"] = "evaluated"  # which snapshots are kept on disk
    budget: Budget = field(default_factory=lambda: Budget(seconds=10.0))
    network: Network = field(default_factory=Network)
    compute: Compute = field(default_factory=Compute)
    gradients: Gradients = "auto"  # simulated: many in one call, one by one, or none: time and bytes only
    workload: tuple[dict[str, Any], ...]
    algorithm: tuple[dict[str, Any], ...]

    def __post_init__(self) -> None:
        for name in ("seeds", "workers", "transports", "workload", "algorithm"):
            values = getattr(self, name)
            if not values:
                raise ValueError(f"{name} must not be empty")
            if name in ("seeds", "workers", "transports") and len(set(values)) < len(values):
                raise ValueError(f"{name} names something twice: {list(values)}")
        if min(self.workers) < 1:
            raise ValueError(f"workers must be at least 1: got {min(self.workers)}")
        for seed in self.seeds:
            if not 0 <= seed < 1 << 63:
                raise ValueError(f"seeds must lie in 0..2^63-1: got {seed}")
        if not self.timeout_s > 0:
            raise ValueError(f"timeout_s must be > 0: got {self.timeout_s}")
        if self.bucket_MiB is not None and not 0 <= self.bucket_MiB < math.inf:
            raise ValueError(f"bucket_MiB must be finite and >= 0 (0 switches buckets off): got {self.bucket_MiB}")
        if self.rate_Gbit_per_s is not None and not 0 < self.rate_Gbit_per_s < math.inf:
            raise ValueError(
                f"rate_Gbit_per_s must be > 0 and finite (leave it out for no limit): got {self.rate_Gbit_per_s}"
            )
        if self.rate_Gbit_per_s is not None and "horovod" in self.transports:
            raise ValueError(
                "rate_Gbit_per_s cannot limit Horovod, whose own thread moves the bytes: got it with transports "
                f"{list(self.transports)} (leave horovod out)"
            )
        if not _is_file_name(self.name):
            raise ValueError(f"name must be usable as a file name, short and without spaces: got {show(self.name)}")


@dataclass(frozen=True, kw_only=True)
class WorkloadEntry:
    """One `[[workload]]`: the workload's settings, and what the study says about it.

    `name` is the label that the study gave, else the registered name. A budget, compute or network of its own stands
    in place of the study's.
    """

    name: str
    settings: WorkloadSettings
    optimizer: OptimizerSettings | None
    target_loss: float | None
    budget: Budget
    compute: Compute
    network: Network
    gradient_time: str = ""  # where compute.gradient_s comes from, if the workload's own settings can say one


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What was spent on choosing an algorithm's settings, as the user states it; it stands beside the results.

    It changes no result, so it is no part of a run's id: change it before the runs are made.
    """

    trials: int  # runs made to choose the settings; 0: taken as they are, from a paper or the defaults
    searched: str = ""  # what was varied, in words, such as "lr in 0.01..1, period in 1, 4, 16"

    def __post_init__(self) -> None:
        if not 0 <= self.trials < 1 << 31:
            raise ValueError(f"trials must lie in 0..2^31-1: got {self.trials} (0 if nothing was tried)")
        if self.searched and not self.trials:
            raise ValueError(
                f"searched says {show(self.searched)}, but trials is 0: say how many runs were made for it"
            )
        if len(self.searched) > 500 or not all(c.isprintable() for c in self.searched):
            raise ValueError(f"searched must be one line of at most 500 characters: got {show(self.searched)}")


@dataclass(frozen=True, kw_only=True)
class AlgorithmEntry:
    """One `[[algorithm]]`: the algorithm, its label, where it runs (empty: everywhere), and how it was tuned (None: not
    stated)."""

    algorithm: Algorithm
    label: str
    transports: tuple[Transport, ...]
    workloads: tuple[str, ...]
    tuning: Tuning | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: an algorithm on a transport with a number of workers, a workload and a seed."""

    study: str
    entry: AlgorithmEntry
    workload: WorkloadEntry
    transport: Transport
    workers: int
    seed: int
    network: Network
    device: str
    bucket_nbytes: int
    poll: str
    rate_Gbit_per_s: float | None
    timeout_s: float
    save: str
    gradients: Gradients | Literal[""]  # "" if measured
    testbed: Testbed | None = None  # None if simulated, too

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm with its settings."""
        return self.entry.algorithm

    @property
    def ranks(self) -> int:
        """Workers and server."""
        return self.workers + self.algorithm.server_ranks(self.workers)

    @property
    def run_id(self) -> str:
        """Readable, and unique to everything that can change the result."""
        resolved = {
            "algorithm": [self.algorithm.name, plain(self.algorithm)],
            "workload": [self.workload.settings.title, plain(self.workload.settings), plain(self.workload.optimizer)],
            "budget": plain(self.workload.budget),
            "model": [plain(self.network), plain(self.workload.compute)] if self.transport == "simulated" else [],
            "rate": self.rate_Gbit_per_s,
            "run": [self.transport, self.workers, self.seed, self.device, self.bucket_nbytes, self.poll, self.save],
        }
        if self.gradients not in ("", "auto"):  # came later, and "auto" decides by speed alone
            resolved["gradients"] = self.gradients
        if self.testbed is not None:
            resolved["testbed"] = plain(self.testbed)
        digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()[:8]
        return f"{self.entry.label}.{self.transport}.n{self.workers}.s{self.seed}.{self.workload.name}-{digest}"


@dataclass(frozen=True, kw_only=True)
class Study:
    """A validated study: `raw` is the table it came from, with the command line's changes."""

    raw: dict[str, Any]
    table: StudyTable
    workloads: tuple[WorkloadEntry, ...]
    algorithms: tuple[AlgorithmEntry, ...]
    without: tuple[str, ...] = ()  # transports that the command line leaves out

    def cells(self) -> Iterator[Cell]:
        """All runs. Seeds vary slowest, so that an interrupted study has whole comparisons."""
        t = self.table
        for seed in t.seeds:
            for workload in self.workloads:
                for workers in t.workers:
                    for transport in t.transports:
                        for entry in self.algorithms:
                            if transport in self.without:
                                continue
                            if entry.transports and transport not in entry.transports:
                                continue
                            if entry.workloads and workload.name not in entry.workloads:
                                continue
                            yield Cell(
                                study=t.name, entry=entry, workload=workload, transport=transport, workers=workers,
                                seed=seed, network=workload.network, device=t.device,
                                bucket_nbytes=bucket_nbytes(t.bucket_MiB, transport), poll=t.poll,
                                rate_Gbit_per_s=t.rate_Gbit_per_s if transport == "mpi" else None,
                                timeout_s=t.timeout_s, save=t.save,
                                gradients=t.gradients if transport == "simulated" else "",
                                testbed=t.testbed if transport != "simulated" else None,
                            )  # fmt: skip


@runtime_checkable
class KnowsItsTime(Protocol):
    """A workload's settings that can say how long a gradient takes."""

    def gradient_time(self) -> tuple[float, str]:
        """How long [s], and where that comes from, in words.

        Raises:
            ValueError: the settings do not say.
        """
        ...


def bucket_nbytes(bucket: float | None, transport: str) -> int:
    """The study's bucket size, or the transport's own [byte]."""
    return round((BUCKET_MiB[transport] if bucket is None else bucket) * (1 << 20))


def find(name: str) -> Path:
    """The file of a study: a path, or the name of one that Paceline ships.

    Raises:
        StudyError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = STUDIES / f"{name}.toml"
    if "/" not in name and shipped.is_file():
        return shipped
    known = sorted(p.stem for p in STUDIES.glob("*.toml"))
    raise StudyError(f"no such study: {name!r} is neither a file nor one that Paceline ships{nearest(name, known)}")


def read(
    path: Path,
    *,
    workers: tuple[int, ...] = (),
    only: tuple[str, ...] = (),
    without: tuple[str, ...] = (),
    testbed: Testbed | None = None,
) -> Study:
    """Read and validate a study file.

    Args:
        workers: replaces the file's (`-n`).
        only: labels or names of the algorithms to keep (`--only`); empty keeps all.
        without: transports to leave out (`--without`).
        testbed: where the study is run, instead of the file's; its name then says so, since what was measured on one
            bed is not to be averaged with what was measured on another.

    Raises:
        StudyError: the file cannot be used; the message is one line.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not valid TOML: {error}") from error
    if workers:
        raw["workers"] = list(workers)
    if testbed is not None:
        raw["testbed"] = plain(testbed)
        if isinstance(raw.get("name"), str):
            raw["name"] = f"{raw['name']}-{testbed.suffix}"
    _absolute(raw, path.parent)
    return resolve(raw, only=only, without=without, where=str(path))


def _absolute(raw: dict[str, Any], folder: Path) -> None:
    """The user's own files, workloads and traces, are named from where the study file is; ranks may run elsewhere."""
    entries = raw.get("workload", [])
    entries = [entries] if isinstance(entries, dict) else entries
    for part in [raw, *entries]:
        compute = part.get("compute") if isinstance(part, dict) else None
        if isinstance(compute, dict) and isinstance(compute.get("trace"), str) and compute["trace"]:
            compute["trace"] = str((folder / Path(compute["trace"]).expanduser()).resolve())
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        if isinstance(name, str) and ".py:" in name:
            file, _, function = name.rpartition(":")
            entry["name"] = f"{(folder / Path(file).expanduser()).resolve()}:{function}"


def resolve(
    raw: Mapping[str, Any], *, only: tuple[str, ...] = (), without: tuple[str, ...] = (), where: str = "study"
) -> Study:
    """Validate a study given as a table; see `read`."""
    raw = dict(raw)
    for key in ("workload", "algorithm"):
        if isinstance(raw.get(key), dict):  # a single [workload] is a list of one
            raw[key] = [raw[key]]
    for key in ("workers", "seeds"):
        if isinstance(raw.get(key), int):
            raw[key] = [raw[key]]
    given = dict(raw)  # grids stay as they are in what is kept beside the results
    if isinstance(raw.get("algorithm"), list | tuple):
        raw["algorithm"] = expanded(raw["algorithm"], where)
    table = build(StudyTable, raw, where)
    compute = raw.get("compute", {})
    workloads = tuple(
        _workload(entry, table, compute, f"{where}: workload[{i}]") for i, entry in enumerate(table.workload)
    )
    algorithms = tuple(
        _algorithm(entry, table, workloads, f"{where}: algorithm[{i}]") for i, entry in enumerate(table.algorithm)
    )
    _no_twins([w.name for w in workloads], f"{where}: workload", "give each a label of its own")
    _no_twins([a.label for a in algorithms], f"{where}: algorithm", "give each a label of its own")
    if only:
        names = {a.label for a in algorithms} | {a.algorithm.name for a in algorithms}
        for name in only:
            if name not in names:
                raise StudyError(f"--only: the study has no algorithm {name!r}{nearest(name, names)}")
        algorithms = tuple(a for a in algorithms if {a.label, a.algorithm.name} & set(only))
    study = Study(raw=given, table=table, workloads=workloads, algorithms=algorithms, without=without)
    _check_cells(study, where)
    return study


def workload_label(entry: Mapping[str, Any]) -> str:
    """What a `[[workload]]` that resolves is called, in results and in a cluster file."""
    return str(entry.get("label", settings_class(entry["name"]).title))


def algorithm_label(entry: Mapping[str, Any]) -> str:
    """What an `[[algorithm]]` that resolves is called in results."""
    return str(entry.get("label", entry["name"]))


def _workload(entry: dict[str, Any], table: StudyTable, own: Mapping[str, Any], where: str) -> WorkloadEntry:
    """Args:
    own: the study's own [compute], as it was given.
    """
    entry = dict(entry)
    given = entry.get("name")
    cls = settings_class(
        entry.pop("name")
        if isinstance(given, str) and ".py:" in given
        else _name(entry, [*workload_names(), *SIZES], "workload", where)
    )
    label = _file_name(entry.pop("label", cls.title), f"{where}.label")
    optimizer = entry.pop("optimizer", None)
    target = entry.pop("target_loss", None)
    budget = entry.pop("budget", None)
    compute, network = entry.pop("compute", None), entry.pop("network", None)
    settings = build(cls, entry, f"{where} ({cls.title})")
    times = table.compute if compute is None else build(Compute, compute, f"{where}.compute")
    source = ""
    if isinstance(settings, KnowsItsTime):
        if times.distribution == "trace" or "gradient_s" in (own if compute is None else compute):
            source = "as [compute] says"
        else:
            try:
                gradient_s, source = settings.gradient_time()
            except ValueError as error:
                raise StudyError(f"{where} ({cls.title}): {error}") from error
            times = replace(times, gradient_s=gradient_s)
    return WorkloadEntry(
        name=label,
        optimizer=None if optimizer is None else build(OptimizerSettings, optimizer, f"{where}.optimizer"),
        target_loss=None if target is None else convert(target, float, f"{where}.target_loss"),
        budget=table.budget if budget is None else build(Budget, budget, f"{where}.budget"),
        compute=times,
        network=table.network if network is None else build(Network, network, f"{where}.network"),
        settings=settings,
        gradient_time=source,
    )


def _algorithm(
    entry: dict[str, Any], table: StudyTable, workloads: tuple[WorkloadEntry, ...], where: str
) -> AlgorithmEntry:
    entry = dict(entry)
    name = _name(entry, algorithm_names(), "algorithm", where)
    label = _file_name(entry.pop("label", name), f"{where}.label")
    transports = convert(entry.pop("transports", ()), tuple[Transport, ...], f"{where}.transports")
    for transport in transports:
        if transport not in table.transports:
            raise StudyError(
                f"{where}.transports: {transport!r} is not among the study's ({', '.join(table.transports)})"
            )
    chosen = convert(entry.pop("workloads", ()), tuple[str, ...], f"{where}.workloads")
    known = [w.name for w in workloads]
    for workload in chosen:
        if workload not in known:
            raise StudyError(f"{where}.workloads: the study has no workload {workload!r}{nearest(workload, known)}")
    tuning = entry.pop("tuning", None)
    try:
        cls = algorithm_class(name)
    except ImportError as error:
        raise StudyError(f"{where}: algorithm {name!r}: {error}") from error
    return AlgorithmEntry(
        algorithm=build(cls, entry, f"{where} ({name})"),
        label=label,
        transports=transports,
        workloads=chosen,
        tuning=None if tuning is None else build(Tuning, tuning, f"{where}.tuning"),
    )


def _name(entry: dict[str, Any], known: Any, what: str, where: str) -> str:
    if "name" not in entry:
        raise StudyError(f"{where}: missing key 'name' (known: {', '.join(known)})")
    name = entry.pop("name")
    if not isinstance(name, str) or name not in known:
        raise StudyError(f"{where}: unknown {what} {show(name)}{nearest(str(name), known)}")
    return name


def _file_name(label: Any, where: str) -> str:
    text = convert(label, str, where)
    if not _is_file_name(text):
        raise StudyError(f"{where}: must be usable as a file name, short and without spaces: got {show(text)}")
    assert isinstance(text, str)
    return text


def _is_file_name(name: str) -> bool:
    """Whether a study or label may be called so: it becomes part of file names and run ids, which white space parts."""
    printable = name.isprintable() and not any(c in "/\\" or c.isspace() for c in name)
    return printable and name not in ("", ".", "..") and len(name.encode()) <= 100


def _no_twins(names: list[str], where: str, remedy: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise StudyError(f"{where}: {name!r} stands there {names.count(name)} times ({remedy})")


def _check_cells(study: Study, where: str) -> None:
    """Everything about the combinations that would otherwise be found out in the middle of the night."""
    cells = list(study.cells())
    if not cells:
        raise StudyError(f"{where}: no run is left (transports and workloads of the algorithms exclude each other)")
    for number, workload in enumerate(study.workloads):
        most = max((cell.ranks for cell in cells if cell.workload is workload), default=0)
        place = where if workload.network is study.table.network else f"{where}: workload[{number}]"
        for i, link in enumerate(workload.network.link if most else ()):
            if max(link.src, link.dst) >= most:
                raise StudyError(
                    f"{place}.network.link[{i}]: no run has a rank {max(link.src, link.dst)} (ranks are 0..{most - 1}, "
                    "a server comes after the workers)"
                )
    measured = sorted({cell.transport for cell in cells} - {"simulated"})
    if measured and study.table.gradients == "none":
        raise StudyError(
            f'{where}: gradients = "none" is for the simulator: got it with {", ".join(measured)} '
            f"(add {' '.join(f'--without {name}' for name in measured)}, or leave gradients out)"
        )
    for cell in cells:
        place = f"{where}: {cell.entry.label} on {cell.transport} with {cell.workers} workers"
        if cell.testbed is not None and cell.ranks > cell.testbed.ranks:
            server = "" if cell.ranks == cell.workers else ", its server included"
            raise StudyError(
                f"{place}: it has {cell.ranks} ranks{server}, and {cell.testbed.hosts} hosts take "
                f"{cell.testbed.ranks} (say --hosts {cell.ranks}, or more --ranks-per-host)"
            )
        lacking = cell.algorithm.needs - CAN[cell.transport]
        if lacking:
            raise StudyError(f"{place}: the transport has no {', '.join(sorted(lacking))}")
        if cell.workload.budget.steps is not None and not cell.algorithm.lockstep:
            raise StudyError(
                f"{place}: a budget in steps makes asynchronous results meaningless (fast ranks would freeze); "
                "give budget.seconds, or leave this algorithm out"
            )
        try:
            cell.algorithm.validate(cell.workers)
        except ValueError as error:
            raise StudyError(f"{place}: {error}") from error
        _check_gradients(cell, place)
        if type(cell.algorithm).check_model is not Algorithm.check_model:
            try:
                cell.algorithm.check_model(_layers(cell.workload.settings))
            except ValueError as error:
                raise StudyError(f"{place}: on {cell.workload.name}: {error}") from error
        given = cell.algorithm.optimizer or cell.workload.optimizer
        if cell.algorithm.plain_sgd:
            resolved = given.name if given else cell.workload.settings.optimizer_table()["name"]
            if resolved != "sgd":
                raise StudyError(
                    f'{place}: it brings its own momentum, so its optimizer must be "sgd": got {resolved!r} '
                    f'(add optimizer = {{ name = "sgd", lr = ... }} to it or to the workload)'
                )
        slow = [int(w) for w in cell.workload.compute.slow]
        if slow and max(slow) >= cell.workers:
            raise StudyError(f"{place}: compute.slow names worker {max(slow)} (workers are 0..{cell.workers - 1})")
        try:
            cell.workload.compute.check(cell.workers)
        except ValueError as error:
            raise StudyError(f"{place}: compute: {error}") from error
        target = cell.workload.target_loss
        if target is not None and not math.isfinite(target):
            raise StudyError(f"{place}: target_loss must be a finite number: got {target}")


def _check_gradients(cell: Cell, place: str) -> None:
    """Refuse to compute what has no values, and to decide by values that are not computed."""
    if cell.gradients != "none":
        if getattr(cell.workload.settings, "cost_only", False):
            raise StudyError(
                f"{place}: {cell.workload.name} is a size without values, so no gradient of it can be computed "
                '(set gradients = "none" and transports = ["simulated"])'
            )
    elif reason := cell.algorithm.decides_by_values():
        raise StudyError(
            f'{place}: {reason}, so it cannot run without gradients: got gradients = "none" (leave it out)'
        )


@functools.lru_cache(maxsize=16)
def _layers(settings: WorkloadSettings) -> list[Layer]:
    """The layers of a workload's model, which must be built to be known."""
    import torch

    from bench.layers import layers_of

    return layers_of(settings.build(torch.device("cpu"), 1).layers)
