"""How long a worker takes for its gradients, and when it computes nothing: the settings and the stream of times."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice, pairwise
from typing import Literal

import numpy as np

from bench.cluster.schedule import Outages
from bench.cluster.trace import digest_of, read_trace
from bench.workloads.base import seed_sequence

BLOCK = 64
"""Times that are drawn at once: a call of numpy costs more than a number."""

DEFAULT_GRADIENT_S = 0.01

COSTS_S = (
    "step_s", "exchange_s", "aside_s", "aside_idle_s", "busy_s", "taken_s", "cold_s", "cold_long_s", "cold_reduce_s",
)  # fmt: skip
"""What a step costs beside its gradient, by a setting of `Compute` each."""

LONG_WAIT_S = 0.02
"""Of a rank that sleeps: longer waits count as this one, though after 64 ms gradients were seen to be longer still."""


@dataclass(frozen=True, kw_only=True)
class Stragglers:
    """Workers that are slower by chance.

    Attributes:
        probability: that a gradient, or with `persistent` a worker, is slow.
        factor: by which it is slower.
        kind: "per-step" draws for each gradient anew, "persistent" once per worker, for the whole run. A worker that is
            slow with one probability is slow with every higher one.
    """

    probability: float
    factor: float
    kind: Literal["per-step", "persistent"] = "per-step"

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in 0..1: got {self.probability}")
        if not 1 <= self.factor < math.inf:
            raise ValueError(f"factor must be finite and >= 1, since stragglers are slower: got {self.factor}")


@dataclass(frozen=True, kw_only=True)
class Pause:
    """A worker's processor stands still from `at_s` on for `for_s`; the gradient under way goes on afterwards.

    Messages to it are taken and answered meanwhile, as by a thread of their own.
    """

    worker: int
    at_s: float
    for_s: float

    def __post_init__(self) -> None:
        _check_worker(self.worker)
        if not (0 <= self.at_s < math.inf and 0 < self.for_s < math.inf):
            raise ValueError(f"a pause needs finite at_s >= 0 and for_s > 0: got at_s={self.at_s}, for_s={self.for_s}")


@dataclass(frozen=True, kw_only=True)
class Absence:
    """A worker is dead from `from_s` to `to_s` and returns with the state that it had.

    The gradient under way is lost and computed anew, from its beginning, on the same model and data. What arrives
    meanwhile waits and is delivered on return, in order; an all-reduce that it takes part in stands still meanwhile.
    """

    worker: int
    from_s: float
    to_s: float

    def __post_init__(self) -> None:
        _check_worker(self.worker)
        if not 0 <= self.from_s < self.to_s < math.inf:
            raise ValueError(
                f"an absence needs 0 <= from_s < to_s, both finite: got from_s={self.from_s}, to_s={self.to_s} "
                "(a to_s after the budget's end keeps the run waiting until then)"
            )


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How long a worker takes for one gradient.

    `constant`: gradient_s. `lognormal`: with that median and `sigma` (standard deviation of the logarithm).
    `exponential`: memoryless, with that mean. `shifted-exponential`: with that mean, of which the share `shift` is
    constant and the rest memoryless (Lee et al., Speeding up distributed machine learning using codes,
    arXiv:1512.02673). `trace`: measured times, from a file. All times the worker's factor in `slow` and a straggler's.

    The k-th time of a worker depends on (study seed, worker, k) alone, so it is the same for every algorithm.

    Attributes:
        trace: file with a gradient's time [s] a line; `resample` draws from them, `replay` takes them in order,
            round and round, from a place that the seed says.
        times_s: the measured times themselves [s], in place of a file.
        trace_sha256: of the times; filled in, and if given, checked.
        slow: worker -> factor by which it is slower.
        stragglers: slow by chance.
        pause: processors that stand still for a while.
        absent: workers that die and return.
        step_s: a step's work beside its gradient: the optimiser, the mini-batch, records. Done before the gradient.
        exchange_s: the same for each message that the step sent: copies, mixing. Done before the next gradient.
        aside_s: by which a gradient takes longer in a thread beside the one that handles messages.
        aside_idle_s: the same where a core is idle, on which that thread then wakes up; not less than aside_s.
        busy_s: by which a message is taken later while a gradient is computed beside; waiting, not work.
        taken_s: what a message that is taken meanwhile costs the rank that computes, before its next gradient.
        cold_s: by which a gradient takes longer after a message: the processor has slept, and its caches are cold.
        cold_long_s: the same after a wait of LONG_WAIT_S or more, and between the two after a shorter one; not less
            than cold_s.
        cold_reduce_s: the same after an all-reduce.
        cold_lasts: share of that which the next gradient still feels, and of this the one after, and so on.
        cores_per_node: cores that the ranks of a node share; 0 = each rank has enough of its own.
        nodes_per_machine: nodes whose ranks share these cores: the hosts of a testbed, which are one machine's.
        sharing: share of the cores' work that is left when more threads have work than there are cores.

    A worker that is slow by name, where cores are shared, gets that share of one and no more: the others gain by it.
    """

    gradient_s: float = DEFAULT_GRADIENT_S
    distribution: Literal["constant", "lognormal", "exponential", "shifted-exponential", "trace"] = "constant"
    sigma: float = 0.0
    slow: dict[str, float] = field(default_factory=dict)
    # What came later is no part of a run's id while it has its default; a trace is known by its hash, not by its place.
    shift: float = field(default=0.0, metadata={"in_id": "if set"})
    trace: str = field(default="", metadata={"in_id": "never"})
    times_s: tuple[float, ...] = field(default=(), metadata={"in_id": "never"})
    trace_order: Literal["resample", "replay"] = field(default="resample", metadata={"in_id": "if set"})
    trace_sha256: str = field(default="", metadata={"in_id": "if set"})
    stragglers: Stragglers | None = field(default=None, metadata={"in_id": "if set"})
    pause: tuple[Pause, ...] = field(default=(), metadata={"in_id": "if set"})
    absent: tuple[Absence, ...] = field(default=(), metadata={"in_id": "if set"})
    step_s: float = field(default=0.0, metadata={"in_id": "if set"})
    exchange_s: float = field(default=0.0, metadata={"in_id": "if set"})
    aside_s: float = field(default=0.0, metadata={"in_id": "if set"})
    aside_idle_s: float = field(default=0.0, metadata={"in_id": "if set"})
    busy_s: float = field(default=0.0, metadata={"in_id": "if set"})
    taken_s: float = field(default=0.0, metadata={"in_id": "if set"})
    cold_s: float = field(default=0.0, metadata={"in_id": "if set"})
    cold_long_s: float = field(default=0.0, metadata={"in_id": "if set"})
    cold_reduce_s: float = field(default=0.0, metadata={"in_id": "if set"})
    cold_lasts: float = field(default=0.0, metadata={"in_id": "if set"})
    cores_per_node: int = field(default=0, metadata={"in_id": "if set"})
    nodes_per_machine: int = field(default=1, metadata={"in_id": "if set"})
    sharing: float = field(default=1.0, metadata={"in_id": "if set"})

    def __post_init__(self) -> None:
        if not (self.gradient_s >= 0 and math.isfinite(self.gradient_s)):
            raise ValueError(f"gradient_s must be a finite time >= 0: got {self.gradient_s}")
        if not 0 <= self.sigma < math.inf or (self.sigma and self.distribution != "lognormal"):
            raise ValueError(f'sigma must be finite and >= 0 and needs distribution = "lognormal": got {self.sigma}')
        if not 0 <= self.shift < 1 or (self.shift and self.distribution != "shifted-exponential"):
            raise ValueError(f'shift must lie in 0..1 and needs distribution = "shifted-exponential": got {self.shift}')
        if not 0 <= self.cold_lasts < 1:
            raise ValueError(f"cold_lasts must lie in 0..1: got {self.cold_lasts}")
        for name in COSTS_S:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite time >= 0: got {getattr(self, name)}")
        if self.cores_per_node < 0:
            raise ValueError(f"cores_per_node must be >= 0 (0: each rank has its own): got {self.cores_per_node}")
        if self.nodes_per_machine < 1 or (self.nodes_per_machine > 1 and not self.cores_per_node):
            raise ValueError(
                "nodes_per_machine must be at least 1 and needs cores_per_node, the cores that the nodes share: got "
                f"{self.nodes_per_machine}"
            )
        if not 0 < self.sharing <= 1 or (self.sharing < 1 and not self.cores_per_node):
            raise ValueError(f"sharing must lie in 0..1 and needs cores_per_node: got {self.sharing}")
        if self.cores_per_node and (self.pause or self.absent):
            raise ValueError("pause and absent are not modelled on shared cores: leave cores_per_node out, or them")
        for worker, factor in self.slow.items():
            # One spelling per worker ("1", not "01"): a name that no rank has would be ignored without a word.
            if not (worker.isascii() and worker.isdigit() and worker == str(int(worker))) or not 0 < factor < math.inf:
                raise ValueError(f"slow maps a worker to a factor > 0, such as {{1 = 6.0}}: got {worker!r} = {factor}")
        self._check_trace()
        for named in self.named_workers:
            windows = self._windows(named)
            for (_, to_s, _), (from_s, _, _) in pairwise(windows):
                if from_s < to_s:
                    raise ValueError(
                        f"pause and absent of worker {named} overlap: one begins at {from_s} s, before the other ends "
                        f"at {to_s} s (make them one)"
                    )

    def _check_trace(self) -> None:
        if self.distribution != "trace":
            for name, default in (("trace", ""), ("times_s", ()), ("trace_order", "resample"), ("trace_sha256", "")):
                if getattr(self, name) != default:
                    raise ValueError(f'{name} needs distribution = "trace": got {self.distribution!r}')
            return
        if bool(self.trace) == bool(self.times_s):
            raise ValueError(
                'distribution = "trace" needs trace, a file with a gradient time [s] a line, or times_s, the times: '
                f"got {'both' if self.trace else 'none'}"
            )
        if self.gradient_s != DEFAULT_GRADIENT_S:
            raise ValueError(
                f"gradient_s and trace both say how long a gradient takes: got gradient_s={self.gradient_s} "
                "(leave it out; slow makes single workers slower)"
            )
        if not all(0 < time_s < math.inf for time_s in self.times_s):
            wrong = next(time_s for time_s in self.times_s if not 0 < time_s < math.inf)
            raise ValueError(f"times_s must be finite times > 0 in seconds: got {wrong}")
        digest = digest_of(self.traced_s)
        if self.trace_sha256 not in ("", digest):
            raise ValueError(
                f"{self.trace or 'times_s'} is not the trace that was meant: its trace_sha256 is {digest!r}, got "
                f"{self.trace_sha256!r} (leave it out to take the file as it is)"
            )
        object.__setattr__(self, "trace_sha256", digest)

    @cached_property
    def traced_s(self) -> np.ndarray:
        """The measured times, in the order of the file [s]; empty without a trace."""
        return read_trace(self.trace) if self.trace else np.array(self.times_s, dtype=np.float64)

    def cold_after_s(self, waited_s: float) -> float:
        """By how much a gradient takes longer after such a wait for a message [s].

        Example:
            >>> compute = Compute(cold_s=1e-4, cold_long_s=5e-4)
            >>> [round(compute.cold_after_s(waited_s), 6) for waited_s in (0.0, LONG_WAIT_S / 4, 1.0)]
            [0.0001, 0.0002, 0.0005]
        """
        more_s = max(0.0, self.cold_long_s - self.cold_s)
        return self.cold_s + more_s * min(1.0, waited_s / LONG_WAIT_S)

    @property
    def beside(self) -> float:
        """What a step with a message costs beside its gradient, as a share of the gradient.

        Example:
            >>> Compute(gradient_s=1e-3, step_s=1e-4, exchange_s=1e-4).beside
            0.2
        """
        gradient_s = float(np.median(self.traced_s)) if len(self.traced_s) else self.gradient_s
        return (self.step_s + self.exchange_s + self.aside_s + self.cold_s) / gradient_s

    @property
    def named_workers(self) -> list[int]:
        """Workers that any setting names."""
        return sorted({*map(int, self.slow), *(p.worker for p in self.pause), *(a.worker for a in self.absent)})

    def check(self, workers: int) -> None:
        """Refuse outages of workers that do not exist. A speed of one is nobody's, and left to the study to refuse.

        Raises:
            ValueError: a worker is named that does not exist.
        """
        outages: tuple[Pause | Absence, ...] = (*self.pause, *self.absent)
        for outage in outages:
            if outage.worker >= workers:
                kind = "pause" if isinstance(outage, Pause) else "absent"
                raise ValueError(f"{kind} names worker {outage.worker}: allowed are 0..{workers - 1}")

    def times(self, seed: int, rank: int) -> ComputeTimes:
        """The stream of this worker's compute times."""
        return ComputeTimes(self, seed, rank)

    def outages(self, worker: int) -> Outages | None:
        """When this worker computes nothing; None if it always does."""
        windows = self._windows(worker)
        return Outages(windows) if windows else None

    def absences(self, worker: int) -> Outages | None:
        """When this worker is dead; None if it never is."""
        windows = [window for window in self._windows(worker) if window[2]]
        return Outages(windows) if windows else None

    def _windows(self, worker: int) -> list[tuple[float, float, bool]]:
        pauses = [(p.at_s, p.at_s + p.for_s, False) for p in self.pause if p.worker == worker]
        return sorted(pauses + [(a.from_s, a.to_s, True) for a in self.absent if a.worker == worker])


class ComputeTimes:
    """One worker's compute times: the k-th call of `next` gives its k-th gradient's time.

    Chance and stragglers have a generator each, so that the same times are multiplied whoever is slow.
    """

    def __init__(self, model: Compute, seed: int, rank: int) -> None:
        self._model, self._seed, self._rank = model, seed, rank
        self.seek(0)

    @property
    def drawn(self) -> int:
        """How many times have been drawn."""
        return self._drawn

    def seek(self, drawn: int) -> None:
        """Go to where that many have been drawn."""
        self._stream = chain.from_iterable(self._blocks())
        self._drawn = drawn
        next(islice(self._stream, drawn, drawn), None)

    def next(self) -> float:
        """Seconds of computing that the next gradient takes."""
        self._drawn += 1
        return next(self._stream)

    def _generator(self, purpose: str) -> np.random.Generator:
        return np.random.default_rng(seed_sequence(self._seed, self._rank, purpose))

    def _blocks(self) -> Iterator[list[float]]:
        """Times, `BLOCK` at once, for ever."""
        stragglers, factor = self._model.stragglers, self._model.slow.get(str(self._rank), 1.0)
        if stragglers is None:
            return self._plain(factor)
        if stragglers.kind == "per-step":
            return self._with_stragglers(factor, stragglers)
        slow = self._generator("straggler").random() < stragglers.probability
        return self._plain(factor * stragglers.factor if slow else factor)

    def _with_stragglers(self, factor: float, stragglers: Stragglers) -> Iterator[list[float]]:
        rng = self._generator("straggler-steps")
        for block in self._plain(factor):
            slow = (rng.random(BLOCK) < stragglers.probability).tolist()
            yield [
                time_s * stragglers.factor if is_slow else time_s for time_s, is_slow in zip(block, slow, strict=True)
            ]

    def _plain(self, factor: float) -> Iterator[list[float]]:
        """Times without stragglers; bit for bit what single draws give."""
        model, rng = self._model, self._generator("compute-time")
        typical_s = model.gradient_s * factor
        match model.distribution:
            case "constant":
                while True:
                    yield [typical_s] * BLOCK
            case "lognormal":
                while True:
                    yield [typical_s * math.exp(model.sigma * z) for z in rng.standard_normal(BLOCK).tolist()]
            case "exponential":
                while True:
                    yield (typical_s * rng.standard_exponential(BLOCK)).tolist()
            case "shifted-exponential":
                while True:
                    yield (typical_s * (model.shift + (1 - model.shift) * rng.standard_exponential(BLOCK))).tolist()
            case "trace":
                count = len(model.traced_s)
                begin = int(rng.integers(count))
                while True:
                    replayed = model.trace_order == "replay"
                    chosen = (begin + np.arange(BLOCK)) % count if replayed else rng.integers(count, size=BLOCK)
                    begin = (begin + BLOCK) % count
                    yield (factor * model.traced_s[chosen]).tolist()


def _check_worker(worker: int) -> None:
    if worker < 0:
        raise ValueError(f"worker must be 0 or more: got {worker}")
