"""Operations on vectors without values, each looked up instead of done once its like has been done.

What an operation on meta tensors gives follows from shapes, types and whole numbers alone. Torch works that out in
Python for most operations, which takes 50 to 800 us; to find it in a table takes 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Quick as they are, being done in C++.
QUICK = frozenset(
    {
        Tensor.clone, Tensor.detach, Tensor.__getitem__, Tensor.copy_, Tensor.view, Tensor.zero_, Tensor.fill_,
        torch.empty,
    }
)  # fmt: skip


class Unlike(Exception):
    """What an operation gives does not follow from its arguments' shapes."""


class RememberedShapes(TorchFunctionMode):
    """While it is entered, operations on meta tensors that have been done before, on others of these shapes, are not
    done again: what they give is made like what they gave.

    Example:
        >>> x, y = torch.empty(2, 5, device="meta"), torch.empty(5, device="meta")
        >>> with RememberedShapes():
        ...     [(x - y).shape, (x - y).shape]
        [torch.Size([2, 5]), torch.Size([2, 5])]
    """

    def __init__(self) -> None:
        super().__init__()
        self._given: dict[Any, Any] = {}
        self._direct: set[Any] = set(QUICK)  # operations that are simply done

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        more = kwargs or {}
        if func in self._direct:
            return func(*args, **more)
        try:
            key = (func, _like(args), _like(tuple(more.items())))
            known = self._given.get(key)
        except (Unlike, TypeError):  # of values, or of what cannot be looked up
            return func(*args, **more)
        if known is not None:
            return known(args, more)
        result = func(*args, **more)
        given = _again(result, args, more)
        if given is None:
            self._direct.add(func)
        else:
            self._given[key] = given
        return result


def _like(value: Any) -> Any:
    """What shapes can depend on: of a tensor without values its shape and type, of a real number nothing."""
    if isinstance(value, Tensor):
        if not value.is_meta:
            raise Unlike
        return value.shape, value.dtype
    if isinstance(value, list | tuple):
        return tuple(map(_like, value))
    if isinstance(value, slice):
        return slice, value.start, value.stop, value.step
    return float if isinstance(value, float) else (type(value), value)


def _again(result: Any, args: tuple[Any, ...], more: Mapping[str, Any]) -> Callable[[Any, Any], Any] | None:
    """How to give the like once more; None if it is not a matter of shapes."""
    if args and result is args[0]:
        return lambda args, more: args[0]
    if "out" in more and result is more["out"]:
        return lambda args, more: more["out"]
    if isinstance(result, Tensor) and result.is_meta:
        return lambda args, more: result.clone()
    if isinstance(result, tuple | list) and result and all(isinstance(v, Tensor) and v.is_meta for v in result):
        kind: Callable[[list[Tensor]], Any] = type(result)  # which may have names for its parts
        return lambda args, more: kind([part.clone() for part in result])
    return None
