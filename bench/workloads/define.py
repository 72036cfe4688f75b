"""`@workload`: a model of one's own as a function that returns a problem.

    @workload("my-net", optimizer={"name": "momentum", "lr": 0.1})
    def my_net(*, width: int = 64, batch_size: int = 32) -> Problem:
        ...

The function's parameters, all with defaults, are the settings of a study file's `[[workload]]`; those that every
workload has (batch_size, dtype, precision, partition) may be among them, to be known or to have a default of their
own. docs/adding-a-workload.md has a whole example.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

from bench.workloads.problem import Problem
from bench.workloads.settings import ModuleSettings


def workload(
    name: str, *, optimizer: Mapping[str, Any], grouping: str = "", labelled: bool = False, data: tuple[str, ...] = ()
) -> Callable[[Callable[..., Problem]], type[ModuleSettings]]:
    """Make a settings class of a function that returns a `Problem`.

    Args:
        name: what tables call it; fit for a file's name.
        optimizer: the default one, as a study file would give it: { "name": "momentum", "lr": 0.1 }.
        grouping, labelled, data: see `ModuleSettings`.

    Raises:
        ValueError: a parameter of the function has no default, no type or is not a named one.
    """

    def settings_class(function: Callable[..., Problem]) -> type[ModuleSettings]:
        parameters = inspect.signature(function).parameters.values()
        hints = get_type_hints(function)
        for p in parameters:
            if p.kind not in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD) or p.default is p.empty or p.name not in hints:
                raise ValueError(
                    f"workload {name!r}: every parameter of {function.__name__} needs a name, a type and a default: "
                    f"got {p} (write it like width: int = 64)"
                )
        names = [p.name for p in parameters]

        def problem(self: ModuleSettings) -> Problem:
            return function(**{key: getattr(self, key) for key in names})

        fields = [(p.name, hints[p.name], dataclasses.field(default=p.default)) for p in parameters]
        namespace = {
            "__doc__": inspect.getdoc(function) or f"Settings of {name}.",
            "__module__": function.__module__,
            "title": name,
            "default_optimizer": dict(optimizer),
            "grouping": grouping,
            "labelled": labelled,
            "data": data,
            "problem": problem,
        }
        return dataclasses.make_dataclass(
            function.__name__, fields, bases=(ModuleSettings,), namespace=namespace, frozen=True, kw_only=True
        )

    return settings_class
