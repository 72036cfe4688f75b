"""Compressors for gossip on differences (CHOCO-SGD): what remains of a vector, as one uint8 vector that travels.

Source: Koloskova, Stich, Jaggi, Decentralized stochastic optimization and gossip algorithms with compressed
communication, ICML 2019, arXiv 1902.00340, section 3.2; low-bit: QSGD of Alistarh et al., NeurIPS 2017, arXiv
1610.02132.

Symbols: x [L] = vector, Q(x) = decode(encode(x)), k = max(1, round(fraction L)). Each is a contraction:
E |Q(x) - x|^2 <= (1 - omega) |x|^2.

    identity    x, exactly                                              omega = 1
    top-k       the k values of largest magnitude, zero elsewhere       omega = k/L
    random-k    k values drawn without replacement, zero elsewhere      omega = k/L
    low-bit     |x| sign(x_i) l_i / (s tau), l_i in 0 .. s              omega = 1/tau

low-bit: l_i is s |x_i| / |x| rounded up or down at random so that its mean is right; s = 2^(bits-1) - 1, as one of the
`bits` bits is the sign; tau = 1 + min(L/s^2, sqrt(L)/s). Without 1/tau it would be unbiased but no contraction; for
the same reason random-k is not scaled up by L/k. (Published settings of QSGD often do not count the sign: their
"4 bits" has s = 15.)

What is not finite: top-k takes NaN first; low-bit then decodes to NaN everywhere; random-k shows it where it is drawn.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from algorithms.compression import (
    SCALE_NBYTES,
    as_bytes,
    check_length,
    float32_scale,
    pack,
    reinterpret,
    unpack,
    usable,
)
from algorithms.shared import for_each

CompressorName = Literal["identity", "top-k", "random-k", "low-bit"]

DEFAULT_FRACTION = 0.01
DEFAULT_BITS = 4
INDEX_NBYTES = 4  # an int32
MOST_PLACES = 1 << 31


class Compressor(Protocol):
    """A lossy map of vectors to bytes. The bytes lie where the vector does."""

    def encode(self, v: Tensor, rng: Generator) -> Tensor:
        """One uint8 vector for v [L]; it may share v's memory. `rng` is the sender's own."""
        ...

    def decode(self, wire: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        """Q(v) [length], dense, in `dtype`, the type of v.

        Raises:
            ValueError: this is not the wire of `length` values of that type.
        """
        ...

    def nbytes(self, length: int, itemsize: int) -> int:
        """Bytes that travel for `length` values of `itemsize` bytes; exact."""
        ...

    def omega(self, length: int) -> float:
        """Contraction: E |Q(x) - x|^2 <= (1 - omega) |x|^2 for every x [length]; in (0, 1]."""
        ...


def compressor(name: CompressorName, *, fraction: float = DEFAULT_FRACTION, bits: int = DEFAULT_BITS) -> Compressor:
    """The compressor called `name`.

    Args:
        fraction: of the values that travel, in (0, 1]; for "top-k" and "random-k".
        bits: per value, the sign included: 2, 4 or 8; for "low-bit".

    Raises:
        ValueError: no such compressor, or the setting it uses is out of range.
    """
    if name not in get_args(CompressorName):
        raise ValueError(
            f"compressor must be one of {', '.join(get_args(CompressorName))}: got {name!r} (choose one of these)"
        )
    if name == "low-bit":
        return LowBit(bits=bits)
    if name == "identity":
        return Identity()
    return TopK(fraction=fraction) if name == "top-k" else RandomK(fraction=fraction)


@dataclass(frozen=True)
class Identity:
    """All values, exactly."""

    def encode(self, v: Tensor, rng: Generator) -> Tensor:
        return as_bytes(v)

    def decode(self, wire: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        check_length(wire.numel(), self.nbytes(length, dtype.itemsize), f"bytes for {length} values of {dtype}")
        return reinterpret(wire, dtype)

    def nbytes(self, length: int, itemsize: int) -> int:
        return length * itemsize

    def omega(self, length: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Sparse(ABC):
    """Base: k of the values in their own type, then their places as int32 (so L is at most 2^31)."""

    fraction: float = DEFAULT_FRACTION

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction must be in (0, 1]: got {self.fraction} (default {DEFAULT_FRACTION})")

    def count(self, length: int) -> int:
        """k."""
        return min(length, max(1, round(self.fraction * length)))

    def encode(self, v: Tensor, rng: Generator) -> Tensor:
        chosen = self._choose(v, self.count(v.numel()), rng)
        return torch.cat([as_bytes(v[chosen]), as_bytes(chosen.to(torch.int32))])

    def decode(self, wire: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        check_length(wire.numel(), self.nbytes(length, dtype.itemsize), f"bytes for {length} values of {dtype}")
        values, chosen = wire.tensor_split([self.count(length) * dtype.itemsize])
        dense = torch.zeros(length, dtype=dtype, device=wire.device)
        dense[reinterpret(chosen, torch.int32)] = reinterpret(values, dtype)
        return dense

    def nbytes(self, length: int, itemsize: int) -> int:
        return self.count(length) * (itemsize + INDEX_NBYTES)

    def omega(self, length: int) -> float:
        return self.count(length) / length if length else 1.0

    @abstractmethod
    def _choose(self, v: Tensor, k: int, rng: Generator) -> Tensor:
        """The k places [k] of v [L] that travel."""


@dataclass(frozen=True, kw_only=True)
class TopK(Sparse):
    """The k values of largest magnitude; among equal ones, any."""

    def _choose(self, v: Tensor, k: int, rng: Generator) -> Tensor:
        return v.abs().topk(k, sorted=False).indices


@dataclass(frozen=True, kw_only=True)
class RandomK(Sparse):
    """k values, every set of k places equally likely."""

    def _choose(self, v: Tensor, k: int, rng: Generator) -> Tensor:
        if v.is_meta:  # places among which numpy would choose may not fit into memory
            return torch.empty(k, dtype=torch.int64, device=v.device)
        return torch.from_numpy(rng.choice(v.numel(), k, replace=False, shuffle=False)).to(v.device)


@dataclass(frozen=True, kw_only=True)
class LowBit:
    """QSGD: the norm as float32, then per value its sign and level in `bits` bits; scaled to be a contraction."""

    bits: int = DEFAULT_BITS

    def __post_init__(self) -> None:
        if self.bits not in (2, 4, 8):
            raise ValueError(f"bits must be 2, 4 or 8, the sign included: got {self.bits} (default {DEFAULT_BITS})")

    @property
    def levels(self) -> int:
        """s."""
        return (1 << self.bits - 1) - 1

    def encode(self, v: Tensor, rng: Generator) -> Tensor:
        # Squares of float32 numbers overflow in float32; so does their sum.
        norm = float32_scale(torch.linalg.vector_norm(v, dtype=torch.float64).view(1))
        exact = (v.abs() / usable(norm).to(v.dtype) * self.levels).clamp(max=self.levels)
        below = exact.floor()
        chance = for_each(v, lambda length: rng.random(length, dtype=np.float32))
        level = (below + (chance < exact - below)).to(torch.uint8)
        codes = (v.signbit().to(torch.uint8) << self.bits - 1) | level
        return torch.cat([as_bytes(norm), pack(codes, self.bits)])

    def decode(self, wire: Tensor, length: int, dtype: torch.dtype) -> Tensor:
        check_length(wire.numel(), self.nbytes(length, 0), f"bytes for {length} values of {self.bits} bits")
        norm, packed = wire.tensor_split([SCALE_NBYTES])
        codes = unpack(packed, length, self.bits)
        level, negative = (codes & self.levels).to(dtype), codes > self.levels
        unit = reinterpret(norm, torch.float32).to(dtype) * (self.omega(length) / self.levels)
        return torch.where(negative, -level, level).mul_(unit)

    def nbytes(self, length: int, itemsize: int) -> int:
        return SCALE_NBYTES + -(-length * self.bits // 8)

    def omega(self, length: int) -> float:
        return 1 / (1 + min(length / self.levels**2, math.sqrt(length) / self.levels))
