"""A function of tensors, recorded as the operations it comes to, and replayed without the function.

torch.func.vmap and grad find out anew in every call which operations they come to: 1.5 ms for a small network, of which
the operations themselves need a tenth. What they come to depends on shapes and types alone, so it is recorded once. On
the way out go views of memory that is known by the same shape already, products with 1, what is computed twice, what
nobody uses, and what is the same in every call.

    digits-mlp, 16 samples, one core, us a gradient: one by one 235
    replicas in one call                              4     8    16    32    64   128   256
    vmap                                            270   150   104    70    50    48    50
    torch.fx's make_fx, which records all                  82    57    43    34    33    36
    replayed                                         88    62    43    34    28    25    25

Of the 25, a third are the matrix products, and a third is memory: 36 kB of parameters come into the cache and 36 kB of
gradient go out. Writing each matrix's gradient into its place of the flat vector in the first place, instead of joining
them at the end, gains nothing.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

CONSTANT_NBYTES = 2**20  # larger ones are computed in each call
NARROW = 16  # classes, fewer than a vector register holds; see `log_softmax`

# Their values depend on the shape and type of the first argument alone.
FILLED = (aten.zeros_like.default, aten.ones_like.default, aten.full_like.default,
          aten.new_zeros.default, aten.new_ones.default, aten.new_full.default)  # fmt: skip


class NotReplayable(Exception):
    """The function does something that a list of operations does not say."""


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it every operation that is carried out is added to a graph.

    A tensor is known by its memory, shape and strides, so that what is the same by another name needs no operation. All
    are kept, so that memory is one tensor's for good.
    """

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.graph = Graph()
        self.constants: dict[str, Tensor] = {}
        self._kept: list[Tensor] = []
        self._node: dict[object, Node] = {}  # by memory, shape and strides
        self._made: dict[str, Node] = {}  # by operation and arguments
        self._views: Counter[int] = Counter()  # by memory: how many ways to look at it are known
        for k, tensor in enumerate(inputs):
            self._know_from_outside(tensor, self.graph.placeholder(f"input_{k}"))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = tensors_in((args, kwargs))
        nodes = [self.of(tensor) for tensor in given]
        if func._schema.is_mutable:
            return self._change(func, args, kwargs)
        out = func(*args, **kwargs)
        places = self._places((args, kwargs))
        if isinstance(out, Tensor):
            self._add(func, args, places, nodes, out)
        else:
            several = self.graph.call_function(func, *places)
            for k, one in enumerate(out):
                if isinstance(one, Tensor):
                    self._know(one, self.graph.call_function(operator.getitem, (several, k)))
        return out

    def _add(self, func: Any, args: Any, places: Any, nodes: list[Node], out: Tensor) -> None:
        key = f"{func} {places}"
        seeded = torch.Tag.nondeterministic_seeded in func.tags
        fixed = func in FILLED or all(node.op == "get_attr" for node in nodes)
        if _seen(out) in self._node:
            return
        if func is aten.mul.Scalar and args[1] == 1 and out.dtype == args[0].dtype:
            self._know(out, nodes[0])
        elif fixed and not seeded and out.numel() * out.element_size() <= CONSTANT_NBYTES:
            self._know(out, self._constant(out.clone()))
        elif key in self._made and not seeded:
            self._know(out, self._made[key])
        else:
            self._made[key] = self.graph.call_function(_better(func, args), *places)
            self._know(out, self._made[key])

    def _change(self, func: Any, args: Any, kwargs: Any) -> Any:
        """What an operation changes in place becomes a new tensor: the same, if nothing else looks at its memory."""
        changed, name = args[0], func._schema.name.removeprefix("aten::")
        instead = getattr(getattr(aten, name.removesuffix("_"), None), func._overloadname, None)
        if not (name.endswith("_") and isinstance(changed, Tensor) and instead is not None):
            raise NotReplayable(f"{func} has no counterpart that changes nothing")
        shared = self._views[changed.untyped_storage().data_ptr()] > 1
        if shared and torch.Tag.inplace_view not in func.tags:
            raise NotReplayable(f"{func} changes memory that something else may look at")
        node = self.graph.call_function(instead, *self._places((args, kwargs)))
        out = func(*args, **kwargs)
        self._know(changed, node)
        return out

    def of(self, tensor: Tensor) -> Node:
        """Where the tensor comes from; one that no operation made is the function's own, the same in every call."""
        if _seen(tensor) not in self._node:
            if tensor.untyped_storage().data_ptr() in self._views:
                raise NotReplayable("a tensor shares the memory of another, and no operation says how")
            self._know_from_outside(tensor, self._constant(tensor))
        return self._node[_seen(tensor)]

    def _places(self, arguments: Any) -> Any:
        return map_aggregate(arguments, lambda a: self.of(a) if isinstance(a, Tensor) else a)

    def _know(self, tensor: Tensor, node: Node) -> None:
        self._kept.append(tensor)
        if _seen(tensor) not in self._node:
            self._views[tensor.untyped_storage().data_ptr()] += 1
        self._node[_seen(tensor)] = node

    def _know_from_outside(self, tensor: Tensor, node: Node) -> None:
        self._know(tensor, node)
        self._views[tensor.untyped_storage().data_ptr()] += 1  # somebody has it

    def _constant(self, tensor: Tensor) -> Node:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = tensor
        return self.graph.get_attr(name)


def _seen(tensor: Tensor) -> object:
    """Memory and how it is looked at."""
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(), tensor.is_conj(), tensor.is_neg()


def tensors_in(arguments: Any) -> list[Tensor]:
    """The tensors among an operation's arguments or results, and in lists of these."""
    found: list[Tensor] = []
    map_aggregate(arguments, lambda a: found.append(a) if isinstance(a, Tensor) else None)
    return found


Replay = Callable[..., tuple[Tensor, ...]]
"""(out, *inputs) -> results; the first of them is written into `out`."""


def recorded(function: Callable[..., tuple[Tensor, ...]], inputs: Sequence[Tensor]) -> Replay:
    """The function as the operations it comes to, for inputs of these shapes, strides and types.

    What is returned gives what the function gives, to rounding, outside autograd. Tensors that the function has from
    elsewhere are constants.

    Raises:
        NotReplayable: the function cannot be stated so.
    """
    with _Recorder(inputs) as recorder:
        results = function(*inputs)
    graph, nodes = recorder.graph, [recorder.of(result) for result in results]
    with graph.inserting_before(next(iter(graph.nodes))):
        out = graph.placeholder("out")
    first = nodes[0]
    if first.target is aten.cat.default and len(first.users) == 0:
        nodes[0] = graph.call_function(aten.cat.out, first.args, {**first.kwargs, "out": out})
    else:
        nodes[0] = graph.call_function(aten.copy_.default, (out, first))
    graph.output(tuple(nodes))
    graph.eliminate_dead_code()
    run = GraphModule(recorder.constants, graph).forward

    def replay(*tensors: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return run(*tensors)  # type: ignore[no-any-return]

    return replay


def _better(func: Any, args: tuple[Any, ...]) -> Any:
    """The operation itself, or what is faster or more reliable for these arguments."""
    if func is aten.bmm.default and args[0].is_cpu and 1 in (args[0].shape[1], args[1].shape[2]):
        return bmm_of_vectors
    if func not in NARROW_SOFTMAX or len(args) < 3:
        return func
    x, dim = args[0], args[-2]
    narrow = x.is_cpu and x.dtype in (torch.float32, torch.float64) and x.shape[dim] < NARROW
    return NARROW_SOFTMAX[func] if narrow else func


def bmm_of_vectors(a: Tensor, b: Tensor) -> Tensor:
    """a [k, m, n] times b [k, n, p], where m or p is 1.

    On some processors what MKL makes of a vector times a matrix depends, in the last bit, on where in memory they lie,
    and so on which others of the k go with them.
    """
    if a.shape[1] == 1:
        return (a.mT * b).sum(1, keepdim=True)
    return (a * b.mT).sum(2, keepdim=True)


def log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    """torch's own takes 2.3 us for 16 rows of 10 classes, these lines 0.5; from 16 classes on it is as fast."""
    assert not half_to_float
    shifted = x - x.amax(dim, keepdim=True)
    return shifted - shifted.exp().sum(dim, keepdim=True).log_()


def log_softmax_backward(gradient: Tensor, output: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """The same for its derivative: 1.1 us against 0.3."""
    assert dtype == gradient.dtype
    return gradient - output.exp().mul_(gradient.sum(dim, keepdim=True))


NARROW_SOFTMAX = {
    aten._log_softmax.default: log_softmax,
    aten._log_softmax_backward_data.default: log_softmax_backward,
}
