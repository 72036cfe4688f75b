"""The rules of the house, read from the syntax tree of every file: who may import whom, and what an algorithm may do.

A rule is a function from files to complaints. Each has snippets that break it (`BREAKS`), so that no rule can pass
because it sees nothing.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

from algorithms.registry import algorithm_class, names

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("algorithms", "bench", "analysis", "reports")
LONGEST_BODY, MEDIAN_BODY = 60, 25  # lines of `worker` and `server`
LONGEST_ALGORITHM = 150  # lines; a file that needs more has helpers that belong elsewhere

# Files of algorithms/ that are no algorithm. Any other file there must be in the registry, and then obeys its rules.
HELPERS = {
    "__init__", "interface", "replica", "optim", "schedule", "topology", "matcha", "gossip", "push_sum", "pathsearch",
    "ring", "center", "compression", "sparsify", "fragments", "exchange", "shared", "formula", "registry",
    "group_generator", "delayed_nesterov", "outer", "low_rank",
}  # fmt: skip

ALGORITHMS = {
    cls.__module__.replace(".", "/") + ".py"
    for cls in map(algorithm_class, names())
    if cls.__module__.startswith("algorithms.")
}

# Functions outside the transports that open MPI: both are what an MPI rank runs and nothing else.
OPENS_MPI = {("bench/cli.py", "_run_inside"), ("bench/session.py", "on_mpi")}

# Only tables of names may import by name; elsewhere an import by name would hide from the rules.
IMPORTS_BY_NAME = {"paceline.py", "algorithms/registry.py", "bench/workloads/registry.py"}

# What an import can stand in.
STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)

# Programs for a child process, kept as text so that asking them can neither hang nor kill the asker.
CHILD_PROGRAMS = {"bench/doctor.py", "bench/build_horovod.py"}


@dataclass(frozen=True)
class Import:
    """One imported module."""

    module: str
    line: int
    typing_only: bool  # under `if TYPE_CHECKING`
    function: str  # innermost function it stands in; "" at the top of the file

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


@dataclass(frozen=True)
class File:
    """A file: its path below the root, and its text."""

    path: str
    text: str

    @property
    def module(self) -> str:
        return self.path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    @property
    def is_algorithm(self) -> bool:
        return self.path in ALGORITHMS

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def imports(self) -> list[Import]:
        return list(self._imports(self.tree, typing_only=False, function=""))

    def _imports(self, node: ast.AST, *, typing_only: bool, function: str) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, typing_only, function) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                origin = self._origin(child)
                # "from package import name" may name a module or something in the package; the caller resolves it.
                yield from (
                    Import(f"{origin}.{alias.name}", child.lineno, typing_only, function) for alias in child.names
                )
            elif isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
                for statement in child.body:
                    yield from self._imports(ast.Module([statement], []), typing_only=True, function=function)
                for statement in child.orelse:
                    yield from self._imports(ast.Module([statement], []), typing_only=typing_only, function=function)
            elif isinstance(child, STATEMENTS):
                inner = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
                yield from self._imports(child, typing_only=typing_only, function=inner)

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        package = self.module.split(".")
        package = package if self.path.endswith("__init__.py") else package[:-1]
        base = package[: len(package) - node.level + 1]
        return ".".join([*base, node.module] if node.module else base)

    def complain(self, line: int, what: str) -> str:
        return f"{self.path}:{line}: {what}"


def sources() -> list[File]:
    paths = [ROOT / "paceline.py", ROOT / "setup.py"]
    for folder in (*PACKAGES, "slurm", "tests"):
        paths += sorted((ROOT / folder).rglob("*.py"))
    return [File(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def product(files: Sequence[File]) -> Iterator[File]:
    """What is shipped: all but the tests."""
    return (file for file in files if file.top != "tests")


def inside(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


# -- who may import whom -----------------------------------------------------------------------------------------------

OURS = (*PACKAGES, "paceline", "tests", "slurm")
OPEN_TO_ALL_ABOVE = ("bench.records", "bench.workloads")  # the tables, and the models that probes need

# What every floor may import must not drag the rest of bench along: module -> all of ours that it may import.
WORDS = ("bench.settings", "bench.meanings")
LEAVES = {
    "bench.records": (),
    "bench.workloads": ("bench.data", *WORDS),
    "bench.data": ("bench.settings", "bench.workloads.registry"),  # which workloads read a set
    "bench.settings": (),
    "bench.meanings": (),
}

# package -> what of ours it may import; every arrow points down.
FLOORS: dict[str, tuple[str, ...]] = {
    "algorithms": ("algorithms",),
    "bench": ("bench", "algorithms"),
    "analysis": ("analysis", *OPEN_TO_ALL_ABOVE),
    "reports": ("reports", "analysis", *OPEN_TO_ALL_ABOVE),
    "slurm": ("slurm", "bench", "algorithms"),
    "paceline": PACKAGES,
    "setup": (),
    "tests": OURS,
}

# A package's cli.py may reach further down: to open a transport, or to start runs.
CLI_FLOORS = {
    "analysis": ("analysis", "bench", "algorithms"),
    "reports": ("reports", "analysis", "bench", "algorithms"),
}


def floors(files: Sequence[File]) -> Iterator[str]:
    for file in files:
        allowed = FLOORS[file.top]
        if file.path.endswith("/cli.py"):
            allowed = CLI_FLOORS.get(file.top, allowed)
        for found in file.imports:
            if inside(found.module, *OURS) and not inside(found.module, *allowed):
                yield file.complain(found.line, f"{file.top} must not import {found.module}")


def leaves(files: Sequence[File]) -> Iterator[str]:
    """Some modules may import little of ours."""
    for file in files:
        for leaf, allowed in LEAVES.items():
            if inside(file.module, leaf):
                for found in file.imports:
                    if inside(found.module, *OURS) and not inside(found.module, leaf, *allowed):
                        yield file.complain(found.line, f"{leaf} is a leaf: it must not import {found.module}")


def cycles(files: Sequence[File]) -> Iterator[str]:
    """Files that import each other, through any number of others; imports for type checkers do not count."""
    modules = {file.module for file in files}

    def target(module: str) -> str | None:
        while module and module not in modules:
            module = module.rpartition(".")[0]
        return module or None

    graph = {
        file.module: sorted(
            {t for i in file.imports if not i.typing_only and (t := target(i.module)) and t != file.module}
        )
        for file in files
    }
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> Iterator[str]:
        if module in path:
            yield "import cycle: " + " -> ".join([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for other in graph[module]:
            yield from walk(other, [*path, module])
        done.add(module)

    for module in graph:
        yield from walk(module, [])


def lazy_command(files: Sequence[File]) -> Iterator[str]:
    """`paceline --help` imports nothing but the standard library."""
    for file in files:
        if file.path == "paceline.py":
            for found in file.imports:
                if not found.function and not found.typing_only and found.top not in sys.stdlib_module_names:
                    yield file.complain(found.line, f"paceline.py must import {found.module} only when it is needed")


def imports_by_name(files: Sequence[File]) -> Iterator[str]:
    for file in product(files):
        for found in file.imports:
            if inside(found.module, "importlib.import_module") and file.path not in IMPORTS_BY_NAME:
                yield file.complain(found.line, "only a table of names may import by name")
        for name, line in dotted(file):
            if name in ("importlib.import_module", "__import__") and file.path not in IMPORTS_BY_NAME:
                yield file.complain(line, "only a table of names may import by name")


def mpi(files: Sequence[File]) -> Iterator[str]:
    at_the_top = ("bench/transports/mpi.py", "bench/transports/mpi_world.py", "bench/transports/horovod.py")
    for file in product(files):
        for found in file.imports:
            if found.top != "mpi4py" or file.path in at_the_top or inside(file.module, "bench.micro"):
                continue
            if found.typing_only and file.top == "bench":
                continue
            if (file.path, found.function) not in OPENS_MPI:
                yield file.complain(found.line, "mpi4py belongs into bench/transports/mpi.py")


def horovod(files: Sequence[File]) -> Iterator[str]:
    for file in product(files):
        for found in file.imports:
            allowed = file.path == "bench/transports/horovod.py" or inside(file.module, "bench.micro")
            if found.top == "horovod" and not allowed:
                yield file.complain(found.line, "horovod belongs into bench/transports/horovod.py")


def programs_as_text(files: Sequence[File]) -> Iterator[str]:
    """Text that imports MPI or Horovod would go round the two rules above."""
    wanted = re.compile(r"^\s*(import|from) (mpi4py|horovod)\b", re.MULTILINE)
    for file in product(files):
        if file.path in CHILD_PROGRAMS or inside(file.module, "bench.micro"):
            continue
        for node in file.nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and wanted.search(node.value):
                yield file.complain(node.lineno, "a program as text that imports MPI or Horovod")


def plotting(files: Sequence[File]) -> Iterator[str]:
    for file in product(files):
        for found in file.imports:
            if found.top in ("matplotlib", "seaborn") and file.top != "reports":
                yield file.complain(found.line, f"{found.top} belongs into reports/")


def tables(files: Sequence[File]) -> Iterator[str]:
    for file in product(files):
        for found in file.imports:
            if found.top == "pandas" and (file.top == "algorithms" or file.path == "bench/kernel.py"):
                yield file.complain(found.line, "no pandas here")


def kernel_knows_nothing(files: Sequence[File]) -> Iterator[str]:
    """The kernel and the clocks run coroutines; neither torch nor MPI nor an algorithm."""
    for file in files:
        if file.path in ("bench/kernel.py", "bench/clock.py"):
            for found in file.imports:
                known = found.top in sys.stdlib_module_names or inside(found.module, "numpy", "bench.clock")
                if not known:
                    yield file.complain(found.line, f"{file.path} must not know {found.module}")


def algorithm_imports(files: Sequence[File]) -> Iterator[str]:
    allowed = {"torch", "numpy", "networkx", "algorithms"}
    for file in files:
        if file.top == "algorithms":
            for found in file.imports:
                if found.top not in allowed and found.top not in sys.stdlib_module_names:
                    yield file.complain(found.line, f"algorithms import torch, numpy and networkx, not {found.module}")


# -- what an algorithm may do ------------------------------------------------------------------------------------------


def dotted(file: File) -> Iterator[tuple[str, int]]:
    """Every name and every dotted name (a.b.c) that the code uses, with its line."""
    for node in file.nodes:
        if isinstance(node, ast.Name):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node), node.lineno


def registered(files: Sequence[File]) -> Iterator[str]:
    for file in files:
        known = file.is_algorithm or Path(file.path).stem in HELPERS
        if file.top == "algorithms" and not known:
            yield file.complain(1, "neither a helper nor in algorithms/registry.py")


def short(files: Sequence[File]) -> Iterator[str]:
    for file in files:
        lines = file.text.count("\n")
        if file.is_algorithm and lines > LONGEST_ALGORITHM:
            yield file.complain(lines, f"an algorithm has at most {LONGEST_ALGORITHM} lines")


def bodies(files: Sequence[File]) -> dict[str, int]:
    """ "file:line" of every algorithm's `worker` and `server` -> lines of its body, the docstring not counted."""
    found = {}
    for file in files:
        for node in file.nodes if file.is_algorithm else []:
            if isinstance(node, ast.AsyncFunctionDef) and node.name in ("worker", "server"):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                assert body[-1].end_lineno is not None
                found[f"{file.path}:{node.lineno}"] = body[-1].end_lineno - body[0].lineno + 1
    return found


def like_the_paper(files: Sequence[File]) -> Iterator[str]:
    """A body that reads like pseudocode is short."""
    found = bodies(files)
    for place, lines in found.items():
        if lines > LONGEST_BODY:
            yield f"{place}: the body has {lines} lines, at most {LONGEST_BODY}"
    if found and statistics.median(found.values()) > MEDIAN_BODY:
        yield f"algorithms/: the bodies' median is {statistics.median(found.values())} lines, at most {MEDIAN_BODY}"


def silent(files: Sequence[File]) -> Iterator[str]:
    """No timer, no logger, no print: the handle records."""
    for file in files:
        if file.is_algorithm:
            for found in file.imports:
                if found.top in ("time", "datetime", "logging", "warnings"):
                    yield file.complain(found.line, f"an algorithm must not import {found.top}")
            for name, line in dotted(file):
                if name in ("print", "sys.stdout", "sys.stderr"):
                    yield file.complain(line, f"an algorithm must not use {name}")


WIRE = re.compile(
    r"(MPI|mpi4py|horovod|hvd|COMM_WORLD|comm|[Cc]omm_world"
    r"|I?(send|recv)_?into|I(send|recv|allreduce|barrier|probe)|[A-Z]?[a-z]*probe|Allreduce|Bcast|Sendrecv)"
)


def no_wire(files: Sequence[File]) -> Iterator[str]:
    for file in files:
        if file.is_algorithm:
            for name, line in dotted(file):
                if WIRE.fullmatch(name.rpartition(".")[2]):
                    yield file.complain(line, f"an algorithm does not know its wire: {name}")


DRAWS = re.compile(r"torch\.(rand\w*|normal|bernoulli|multinomial|poisson|seed|manual_seed|random\..*)")
DRAWS_IN_PLACE = {"normal_", "uniform_", "random_", "bernoulli_", "exponential_", "cauchy_", "log_normal_"}


def own_randomness(files: Sequence[File]) -> Iterator[str]:
    """Random numbers come from w.rng, or from a generator made from it; never from a global state."""
    for file in files:
        if not file.is_algorithm:
            continue
        for found in file.imports:
            global_numpy = inside(found.module, "numpy.random") and found.module != "numpy.random.Generator"
            if found.top == "random" or global_numpy or inside(found.module, "torch.random"):
                yield file.complain(found.line, f"global random numbers: {found.module}")
        for node in file.nodes:
            if isinstance(node, ast.Attribute) and re.match(r"(np|numpy)\.random\.(?!Generator\b)", ast.unparse(node)):
                yield file.complain(node.lineno, f"global random numbers: {ast.unparse(node)}")
            if isinstance(node, ast.Call) and not any(keyword.arg == "generator" for keyword in node.keywords):
                called = ast.unparse(node.func)
                if DRAWS.fullmatch(called) or called.rpartition(".")[2] in DRAWS_IN_PLACE:
                    yield file.complain(node.lineno, f"global random numbers: {called} without generator=")


def suspends(node: ast.AST) -> bool:
    """Whether other tasks can run inside this node."""
    return any(isinstance(inner, ast.Await | ast.AsyncFor | ast.AsyncWith) for inner in ast.walk(node))


def await_in_augmented_assignment(files: Sequence[File]) -> Iterator[str]:
    """`x += await ...` reads x before the wait and writes it after: what was written meanwhile is lost."""
    for file in product(files):
        for node in file.nodes:
            if isinstance(node, ast.AugAssign) and suspends(node.value):
                yield file.complain(node.lineno, f"await on the right of {ast.unparse(node)}")


def await_in_torch_context(files: Sequence[File]) -> Iterator[str]:
    """torch's contexts belong to the thread, not to the coroutine: other tasks would run inside them."""
    for file in product(files):
        for node in file.nodes:
            if isinstance(node, ast.With) and any(suspends(statement) for statement in node.body):
                for item in node.items:
                    if ast.unparse(item.context_expr).startswith("torch."):
                        yield file.complain(node.lineno, f"await inside with {ast.unparse(item.context_expr)}")


def intervals_by_monotonic_clocks(files: Sequence[File]) -> Iterator[str]:
    """time.time() jumps when the clock is set."""
    for file in product(files):
        for found in file.imports:
            if found.module in ("time.time", "time.time_ns"):
                yield file.complain(found.line, "use time.perf_counter_ns")
        for name, line in dotted(file):
            if name in ("time.time", "time.time_ns"):
                yield file.complain(line, "use time.perf_counter_ns")


def paper(files: Sequence[File]) -> Iterator[str]:
    """An algorithm opens with where it comes from, what it does, and what is different here."""
    for file in files:
        if file.is_algorithm:
            text = ast.get_docstring(file.tree) or ""
            for part in ("Source:", "Symbols:", "Update", "Differences from the paper:"):
                if not re.search(rf"^{re.escape(part)}", text, re.MULTILINE):
                    yield file.complain(1, f"the module's docstring has no {part!r}")


# -- docstrings --------------------------------------------------------------------------------------------------------

TINY = 5  # statements; a shorter method of a documented class says what it does by its name and code


def documented(files: Sequence[File]) -> Iterator[str]:
    """Modules, public classes, public functions and public methods say what they are.

    Left out: what a leading underscore or a function hides; methods of a Protocol, and methods that `Algorithm`, a
    Protocol of ours or torch's Module declares (they are described there); methods of at most `TINY` statements.
    """
    declared = {"forward"} | {
        method.name
        for file in files
        for cls in file.nodes
        if isinstance(cls, ast.ClassDef) and (is_protocol(cls) or cls.name == "Algorithm")
        for method in cls.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    for file in files:
        if file.top not in ("algorithms", "bench", "analysis"):
            continue
        if not ast.get_docstring(file.tree):
            yield file.complain(1, "the module has no docstring")
        for node in file.tree.body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node):
                yield file.complain(node.lineno, f"{node.name} has no docstring")
            if not isinstance(node, ast.ClassDef) or is_protocol(node):
                continue
            for method in node.body:
                if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) or method.name.startswith("_"):
                    continue
                tiny = sum(isinstance(inner, ast.stmt) for inner in ast.walk(method)) - 1 <= TINY
                if not ast.get_docstring(method) and method.name not in declared and not tiny:
                    yield file.complain(method.lineno, f"{node.name}.{method.name} has no docstring")


def is_protocol(cls: ast.ClassDef) -> bool:
    return any(ast.unparse(base).partition("[")[0] in ("Protocol", "typing.Protocol") for base in cls.bases)


# -- the tests ---------------------------------------------------------------------------------------------------------

Rule = Callable[[Sequence[File]], Iterator[str]]

GOOD_PAPER = '"""Name.\n\nSource: s\nSymbols: x\nUpdate:\n    x\nDifferences from the paper: none.\n"""\n'
AN_ALGORITHM = sorted(ALGORITHMS)[0]

# rule, and files (path, text) that break it in one place each
BREAKS: list[tuple[Rule, tuple[str, str], str]] = [
    (floors, ("algorithms/x.py", "from bench.kernel import Kernel"), "algorithms must not import bench.kernel.Kernel"),
    (floors, ("algorithms/x.py", "import paceline"), "algorithms must not import paceline"),
    (floors, ("bench/x.py", "from analysis import targets"), "bench must not import analysis.targets"),
    (floors, ("bench/cli.py", "def f():\n    import reports.build"), "bench must not import reports.build"),
    (floors, ("bench/micro/x.py", "if TYPE_CHECKING:\n    import reports.cli"), "must not import reports.cli"),
    (floors, ("analysis/x.py", "from bench import kernel"), "analysis must not import bench.kernel"),
    (floors, ("analysis/x.py", "from algorithms.optim import Optimizer"), "analysis must not import algorithms"),
    (floors, ("analysis/cli.py", "import reports"), "analysis must not import reports"),
    (floors, ("reports/x.py", "def f():\n    from bench.launch import Job"), "reports must not import bench.launch"),
    (floors, ("bench/x.py", "from tests.support import synthetic"), "bench must not import tests.support"),
    (floors, ("setup.py", "import bench"), "setup must not import bench"),
    (leaves, ("bench/records.py", "from bench.settings import StudyError"), "bench.records is a leaf"),
    (leaves, ("bench/workloads/x.py", "from bench.worker import RankHandle"), "bench.workloads is a leaf"),
    (leaves, ("bench/data/x.py", "from bench.workloads.base import Batches"), "bench.data is a leaf"),
    (lazy_command, ("paceline.py", "import bench.settings"), "only when it is needed"),
    (imports_by_name, ("bench/x.py", "import importlib\nimportlib.import_module('reports')"), "import by name"),
    (imports_by_name, ("bench/x.py", "from importlib import import_module"), "import by name"),
    (imports_by_name, ("bench/x.py", "__import__('reports')"), "import by name"),
    (mpi, ("bench/launch.py", "from mpi4py import MPI"), "mpi4py belongs"),
    (mpi, ("bench/cli.py", "def main_run():\n    from mpi4py import MPI"), "mpi4py belongs"),
    (mpi, ("bench/session.py", "import mpi4py.MPI"), "mpi4py belongs"),
    (mpi, ("analysis/x.py", "if TYPE_CHECKING:\n    from mpi4py import MPI"), "mpi4py belongs"),
    (horovod, ("bench/transports/mpi.py", "def f():\n    import horovod.torch as hvd"), "horovod belongs"),
    (programs_as_text, ("bench/x.py", "P = '''\nimport json\nfrom mpi4py import MPI\n'''"), "as text"),
    (plotting, ("analysis/x.py", "def f():\n    import matplotlib.pyplot as plt"), "matplotlib belongs"),
    (plotting, ("bench/x.py", "from seaborn import lineplot"), "seaborn belongs"),
    (tables, ("algorithms/x.py", "import pandas as pd"), "no pandas"),
    (tables, ("bench/kernel.py", "def f():\n    from pandas import DataFrame"), "no pandas"),
    (kernel_knows_nothing, ("bench/kernel.py", "import torch"), "must not know torch"),
    (kernel_knows_nothing, ("bench/clock.py", "from bench.worker import x"), "must not know bench.worker"),
    (algorithm_imports, ("algorithms/x.py", "import scipy.linalg"), "not scipy.linalg"),
    (registered, ("algorithms/forgotten.py", GOOD_PAPER), "neither a helper nor"),
    (short, (AN_ALGORITHM, GOOD_PAPER + "\n" * LONGEST_ALGORITHM), "at most 150 lines"),
    (
        like_the_paper,
        (AN_ALGORITHM, "async def worker(self, w):\n" + "    x = 1\n" * (LONGEST_BODY + 1)),
        "the body has 61 lines",
    ),
    (silent, (AN_ALGORITHM, "import time"), "must not import time"),
    (silent, (AN_ALGORITHM, "def f():\n    from logging import getLogger"), "must not import logging"),
    (silent, (AN_ALGORITHM, "print('x')"), "must not use print"),
    (no_wire, (AN_ALGORITHM, "def f(w):\n    w.comm.Isend(1)"), "does not know its wire"),
    (no_wire, (AN_ALGORITHM, "MPI.COMM_WORLD"), "does not know its wire"),
    (own_randomness, (AN_ALGORITHM, "import random"), "global random numbers: random"),
    (own_randomness, (AN_ALGORITHM, "from numpy.random import default_rng"), "numpy.random.default_rng"),
    (own_randomness, (AN_ALGORITHM, "y = np.random.rand(3)"), "np.random.rand"),
    (own_randomness, (AN_ALGORITHM, "y = torch.randperm(3)"), "torch.randperm"),
    (own_randomness, (AN_ALGORITHM, "y = torch.rand_like(x)"), "torch.rand_like"),
    (own_randomness, (AN_ALGORITHM, "x.data.normal_(0, 1)"), "x.data.normal_"),
    (await_in_augmented_assignment, ("algorithms/x.py", "async def f():\n    a.b[0] -= 2 * await g()"), "a.b[0] -="),
    (await_in_torch_context, ("bench/x.py", "async def f():\n    with torch.no_grad():\n        await g()"), "no_grad"),
    (
        await_in_torch_context,
        (AN_ALGORITHM, "async def f(w):\n    with a, torch.inference_mode():\n        async for _ in w.steps(): ..."),
        "inference_mode",
    ),
    (intervals_by_monotonic_clocks, ("reports/x.py", "import time\nt = time.time()"), "perf_counter_ns"),
    (intervals_by_monotonic_clocks, ("bench/x.py", "from time import time"), "perf_counter_ns"),
    (paper, (AN_ALGORITHM, GOOD_PAPER.replace("Source:", "By:")), "no 'Source:'"),
    (paper, (AN_ALGORITHM, GOOD_PAPER.replace("Symbols:", "with")), "no 'Symbols:'"),
    (paper, (AN_ALGORITHM, GOOD_PAPER.replace("Update", "Step")), "no 'Update'"),
    (paper, (AN_ALGORITHM, GOOD_PAPER.replace("Differences from the paper:", "")), "no 'Differences"),
    (documented, ("bench/x.py", "x = 1"), "the module has no docstring"),
    (documented, ("analysis/x.py", '"""M."""\ndef f(): ...'), "f has no docstring"),
    (documented, ("algorithms/x.py", '"""M."""\nclass C:\n    x = 1'), "C has no docstring"),
    (
        documented,
        ("bench/x.py", '"""M."""\nclass C:\n    """C."""\n    def m(self):\n' + "        x = 1\n" * 6),
        "C.m has no docstring",
    ),
]  # fmt: skip

RULES: list[Rule] = [*dict.fromkeys(rule for rule, _, _ in BREAKS), cycles]


@pytest.fixture(scope="module")
def files() -> list[File]:
    return sources()


def test_all_of_the_product_is_looked_at(files: list[File]) -> None:
    found = {file.path for file in files}
    assert {"paceline.py", "setup.py", "bench/kernel.py", "bench/transports/mpi.py", "reports/build.py"} <= found
    assert found >= ALGORITHMS and len(ALGORITHMS) >= 5
    strays = {path.name for path in ROOT.glob("*.py")} - {"paceline.py", "setup.py"}
    assert not strays, f"python files outside the five floors: {strays}"
    assert {file.top for file in files} <= set(FLOORS)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule, files: list[File]) -> None:
    assert list(rule(files)) == []


@pytest.mark.parametrize(
    ("rule", "snippet", "complaint"), BREAKS, ids=[f"{r.__name__}-{i}" for i, (r, _, _) in enumerate(BREAKS)]
)
def test_a_rule_sees_what_breaks_it(rule: Rule, snippet: tuple[str, str], complaint: str) -> None:
    path, text = snippet
    complaints = list(rule([File(path, text)]))
    assert complaints and complaint in complaints[0]
    assert complaints[0].startswith(f"{path}:")


def test_cycles_are_found_through_lazy_and_relative_imports() -> None:
    files = [
        File("bench/a.py", "def f():\n    from bench import b"),
        File("bench/b.py", "from .c import name"),
        File("bench/c.py", "import bench.a"),
    ]
    assert list(cycles(files)) == ["import cycle: bench.a -> bench.b -> bench.c -> bench.a"]
    for_type_checkers = File("bench/c.py", "if TYPE_CHECKING:\n    import bench.a")
    assert list(cycles([*files[:2], for_type_checkers])) == []


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (floors, "reports/cli.py", "from bench.launch import Job"),
        (floors, "analysis/x.py", "from bench.records import Results\nimport bench.workloads.registry"),
        (mpi, "bench/session.py", "def on_mpi():\n    from mpi4py import MPI"),
        (mpi, "bench/run.py", "if TYPE_CHECKING:\n    from mpi4py import MPI"),
        (own_randomness, AN_ALGORITHM, "y = torch.randperm(3, generator=g)\nfrom numpy.random import Generator"),
        (own_randomness, AN_ALGORITHM, "j = w.rng.choice(3) + w.rng.normal()"),
        (no_wire, AN_ALGORITHM, "async def f(w):\n    w.send(1, 't', v)\n    await w.allreduce_mean(v, label='a')"),
        (await_in_augmented_assignment, AN_ALGORITHM, "async def f():\n    d = await g()\n    x += d"),
        (await_in_torch_context, AN_ALGORITHM, "async def f():\n    with torch.no_grad(): ...\n    await g()"),
        (documented, "bench/x.py", '"""M."""\nclass _C:\n    def m(self):\n' + "        x = 1\n" * 9),
        (paper, AN_ALGORITHM, GOOD_PAPER),
    ],
)  # fmt: skip
def test_a_rule_lets_what_is_right_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule([File(path, text)])) == []
