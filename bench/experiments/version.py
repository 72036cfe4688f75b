"""Which source an experiment's table was made by, so that a table of an earlier one is not taken for today's."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from bench.experiments.base import Experiment, Scale

PACKAGE = __name__.rpartition(".")[0]


def version(experiment: Experiment, scale: Scale) -> str:
    """The scale, and a digest of the experiment's module and of the modules of this package that it imports.

    Comments, docstrings and layout do not count. Neither do the algorithms and the simulator that it drives: whoever
    changes those wants the runs of whole studies anew as well, and chooses another folder.
    """
    found: dict[str, str] = {}
    todo = [experiment.__module__]
    while todo:
        name = todo.pop()
        source = None if name in found else _source(name)
        if source is not None:
            tree = ast.parse(source.read_text(encoding="utf-8"))
            found[name] = ast.unparse(_without_docstrings(tree))
            todo += _imported(tree)
    told = "\n".join(f"{name}\n{found[name]}" for name in sorted(found))
    return f"{scale} {hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _source(name: str) -> Path | None:
    """Where a module is written; None for a package, which only gathers experiments, and for what is no module."""
    spec = find_spec(name)
    if spec is None or spec.origin is None or spec.submodule_search_locations is not None:
        return None
    return Path(spec.origin)


def _imported(tree: ast.Module) -> Iterator[str]:
    """The modules of this package, and what might be one, that a module imports; also inside its functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and f"{node.module}.".startswith(f"{PACKAGE}."):
            package = find_spec(node.module)
            if package is not None and package.submodule_search_locations is not None:
                yield from (f"{node.module}.{alias.name}" for alias in node.names)
            else:
                yield node.module


def _without_docstrings(tree: ast.Module) -> ast.Module:
    """The same module without its docstrings, those of constants too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            kept = [it for it in node.body if not (isinstance(it, ast.Expr) and isinstance(it.value, ast.Constant))]
            node.body = kept or [ast.Pass()]
    return tree
