"""Curvature as something to multiply with: products of the Hessian or of the Gauss-Newton matrix with vectors.

The samples are shared out over ranks: a product costs each rank its own samples and one all-reduce.

    hessian   H = d2L/dx2: the gradient's derivative along v
    ggn       G = J^T (d2l/dz2) J: what is left of H without the model's own curvature; positive semi-definite where
              the loss is convex in z, and equal to H where z is linear in x

A product needs nothing but a backward pass through the graph of the first derivative. That graph is the same for every
vector, so it is built once and kept, as far as a bound on memory allows; the micro-batches that it leaves out are
differentiated anew for each product, one at a time.

Symbols: N samples of all ranks, x parameters [P], z = f(x) logits, l loss of the logits, L mean loss over N samples,
J = dz/dx.

Source: Pearlmutter, Fast Exact Multiplication by the Hessian, Neural Computation 6 (1994). Schraudolph, Fast Curvature
Matrix-Vector Products for Second-Order Gradient Descent, Neural Computation 14 (2002). J v without forward-mode
derivatives, as the derivative of u -> J^T u: Townsend, A New Trick for Calculating Jacobian Vector Products (2017).
"""

from __future__ import annotations

from contextlib import ExitStack
from types import TracebackType
from typing import Literal, Protocol, Self, get_args

import torch
from torch import Tensor

from analysis.probes.probe_set import Batches, Sum, alone
from bench.workloads.objective import Objective

Kind = Literal["hessian", "ggn"]

KEEP_GRAPH_NBYTES = 4 << 30  # shakespeare-gpt 1M takes 6 MiB a sequence of 64 characters in float32


class Operator(Protocol):
    """A symmetric matrix [P, P] that is known by its products."""

    parameters: int  # P
    dtype: torch.dtype  # that products are computed in
    device: torch.device
    products: int  # computed so far

    def apply(self, v: Tensor) -> Tensor:
        """The product with v [P]: [P]."""
        ...

    def apply_block(self, block: Tensor) -> Tensor:
        """The products with each row of block [k, P]: [k, P]."""
        ...


class Matrix:
    """A matrix that is known entry by entry, as an `Operator`.

    Args:
        values: symmetric [P, P].

    Example:
        >>> Matrix(torch.diag(torch.tensor([1.0, 2.0]))).apply(torch.tensor([3.0, 4.0])).tolist()
        [3.0, 8.0]
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values
        self.parameters, self.dtype, self.device = len(values), values.dtype, values.device
        self.products = 0

    def apply(self, v: Tensor) -> Tensor:
        """The product with v [P]: [P]."""
        return self.apply_block(v[None])[0]

    def apply_block(self, block: Tensor) -> Tensor:
        """The products with each row of block [k, P]: [k, P]."""
        self.products += len(block)
        return (block.to(self.device, self.dtype) @ self._values).to(block.device, block.dtype)


class Curvature:
    """The Hessian or Gauss-Newton matrix [P, P] of the mean loss at x: an `Operator`, to be used in a `with` block.

    Within the block batch norm holds the statistics of x (one block at a time for such a model), and graphs are kept;
    on leaving it all of that is freed. Products are deterministic on a CPU: the same vector gives the same bits.
    Micro-batches and ranks change the order of sums and nothing else.

    Args:
        objective: whose loss.
        x: [P]; copied.
        batches: this rank's micro-batches.
        samples: N over all ranks; a micro-batch of B samples counts B / N.
        kind: which matrix.
        total: sums over ranks, in the objective's type; called once when the block is entered, and once for each
            product or block of products.
        keep_graph_nbytes: how much memory the graphs that are kept between products may take; 0 keeps none. A
            micro-batch's own graph comes on top of it, and so does what a backward pass takes.

    Attributes:
        products: products computed so far.
        loss: L(x) [nat].
        gradient: dL/dx [P].
        kept: the number of this rank's micro-batches whose graph is kept.

    Raises:
        ValueError: x is no vector [P], N is less than this rank's samples, an unknown kind, use outside the block, or a
            loss or gradient at x that is not finite.

    Example:
        >>> from analysis.probes.probe_set import probe_set
        >>> from bench.workloads.quadratic import Quadratic
        >>> workload = Quadratic(dimension=3, condition=100).build(torch.device("cpu"), 1)
        >>> chosen = probe_set(workload.objective(), samples=None)
        >>> x = workload.initial(0)
        >>> with Curvature(workload.objective(), x, chosen.batches, samples=chosen.samples) as hessian:
        ...     [round(v, 12) for v in hessian.apply(torch.ones(3).double()).tolist()]
        [0.01, 0.1, 1.0]
    """

    def __init__(
        self,
        objective: Objective,
        x: Tensor,
        batches: Batches,
        *,
        samples: int,
        kind: Kind = "hessian",
        total: Sum = alone,
        keep_graph_nbytes: int = KEEP_GRAPH_NBYTES,
    ) -> None:
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be hessian or ggn: got {kind!r} (choose one of these)")
        if tuple(x.shape) != (objective.parameters,):
            raise ValueError(
                f"x must be a vector of the objective's {objective.parameters} parameters: got shape {tuple(x.shape)} "
                "(take the snapshot of this workload with these settings)"
            )
        mine = sum(len(targets) for _, targets in batches)
        if samples < max(1, mine):
            raise ValueError(
                f"samples must count those of all ranks: got {samples}, and this rank alone has {mine} "
                "(take ProbeSet.samples)"
            )
        self.parameters, self.dtype, self.device = objective.parameters, objective.dtype, objective.device
        self.kind: Kind = kind
        self.products = 0
        self.loss = float("nan")
        self.gradient = torch.empty(0)
        self.kept = 0
        self._objective, self._batches, self._samples, self._total = objective, batches, samples, total
        self._keep = keep_graph_nbytes
        self._at = x.detach().to(self.device, self.dtype, copy=True).requires_grad_(True)
        self._graphs: list[_Graph] = []
        self._held: ExitStack | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._objective.at(self._at.detach()))
            stack.callback(self._forget)
            self._look()
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._held is not None
        held, self._held = self._held, None
        held.close()

    def apply(self, v: Tensor) -> Tensor:
        """The product with v [P]: [P], in v's type and on its device."""
        return self.apply_block(v[None])[0]

    def apply_block(self, block: Tensor) -> Tensor:
        """The products with each row of block [k, P]: [k, P], by one all-reduce; graphs that are not kept serve all k.

        It takes three blocks of memory: the two of the interface, and one row more.
        """
        if self._held is None:
            raise ValueError(
                "curvature has products within its `with` block only: got a call outside (use with ... as)"
            )
        if block.dim() != 2 or block.shape[1] != self.parameters:
            raise ValueError(
                f"a vector must have {self.parameters} entries, a block one vector in each row: got shape "
                f"{tuple(block.shape)} (transpose the block?)"
            )
        vectors = block.to(self.device, self.dtype)
        whole = torch.zeros_like(vectors)
        for number, (inputs, targets) in enumerate(self._batches):
            graph = self._graphs[number] if number < self.kept else self._graph(inputs, targets)
            for row, v in zip(whole, vectors, strict=True):
                row.add_(graph.product(v), alpha=len(targets) / self._samples)
        self.products += len(block)
        return self._total(whole).to(block.device, block.dtype)

    def _look(self) -> None:
        """Loss and gradient, and the graphs that are kept."""
        whole = torch.zeros(self.parameters + 1, dtype=torch.float64, device=self.device)
        room = float(self._keep)
        each = self._graph_nbytes() if self._keep > 0 and self._batches else float("inf")  # a sample
        for inputs, targets in self._batches:
            share = len(targets) / self._samples
            graph = self._graph(inputs, targets)
            whole[:-1].add_(graph.gradient, alpha=share)
            whole[-1].add_(graph.loss, alpha=share)
            room -= len(targets) * each
            if room >= 0:  # and so of all before: those kept are the first ones
                self._graphs.append(graph)
        self.kept = len(self._graphs)
        whole = self._total(whole)
        self.gradient, self.loss = whole[:-1].to(self.dtype), float(whole[-1])
        if not bool(whole.isfinite().all()):
            raise ValueError(
                f"loss and gradient must be finite: got a loss of {self.loss} (take a snapshot from before it diverged)"
            )

    def _graph(self, inputs: Tensor, targets: Tensor) -> _Graph:
        build = _HessianGraph if self.kind == "hessian" else _GaussNewtonGraph
        with torch.enable_grad():
            return build(self._objective, self._at, inputs, targets)

    def _graph_nbytes(self) -> float:
        """What the graph of a sample keeps in memory, from the first micro-batch."""
        inputs, targets = self._batches[0]
        given = {t.untyped_storage().data_ptr() for t in (self._at, inputs, targets)}
        sizes: dict[int, int] = {}

        def see(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in given:
                sizes[storage.data_ptr()] = storage.nbytes()
            return tensor.detach()  # itself would be a cycle through the graph, which would never be freed

        with torch.autograd.graph.saved_tensors_hooks(see, lambda tensor: tensor):
            self._graph(inputs, targets)
        return sum(sizes.values()) / len(targets)

    def _forget(self) -> None:
        self._graphs, self.kept = [], 0


class _Graph(Protocol):
    """The graph of one micro-batch's first derivative."""

    loss: Tensor  # 0-d, mean over the micro-batch
    gradient: Tensor  # [P]

    def product(self, v: Tensor) -> Tensor: ...


class _HessianGraph:
    """Of the gradient: H v is its vector-Jacobian product with v, since H is symmetric."""

    def __init__(self, objective: Objective, x: Tensor, inputs: Tensor, targets: Tensor) -> None:
        loss = objective.loss(objective.logits(x, inputs), targets)
        (self._gradient,) = torch.autograd.grad(loss, x, create_graph=True)
        self._x = x
        self.loss, self.gradient = loss.detach(), self._gradient.detach()

    def product(self, v: Tensor) -> Tensor:
        return _backward(self._gradient, self._x, v)


class _GaussNewtonGraph:
    """Of u -> J^T u (any u: it is linear), of the loss's gradient in z, and of z: G v in three backward passes."""

    def __init__(self, objective: Objective, x: Tensor, inputs: Tensor, targets: Tensor) -> None:
        self._x, self._logits = x, objective.logits(x, inputs)
        self._u = torch.zeros_like(self._logits, requires_grad=True)
        (self._pulled,) = torch.autograd.grad(self._logits, x, self._u, create_graph=True)
        self._z = self._logits.detach().requires_grad_(True)
        loss = objective.loss(self._z, targets)
        (self._slope,) = torch.autograd.grad(loss, self._z, create_graph=True)
        self.loss, self.gradient = loss.detach(), _backward(self._logits, x, self._slope.detach())

    def product(self, v: Tensor) -> Tensor:
        pushed = _backward(self._pulled, self._u, v)
        return _backward(self._logits, self._x, _backward(self._slope, self._z, pushed))


def _backward(output: Tensor, at: Tensor, v: Tensor) -> Tensor:
    """v^T d(output)/d(at), in the shape of `at`; the graph stays. What does not depend on `at` has derivative 0."""
    if not output.requires_grad:
        return torch.zeros_like(at)
    (product,) = torch.autograd.grad(output, at, v, retain_graph=True, materialize_grads=True)
    return product
