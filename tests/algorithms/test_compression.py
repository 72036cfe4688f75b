"""Wire formats and compressors: exact bytes, E3M0 against a scalar reference, error bounds, contraction."""

from __future__ import annotations

import math
import struct
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from algorithms.compression import E3M0, WireName, e3m0_decode, e3m0_encode, pack, unpack, wire_format
from algorithms.sparsify import CompressorName, LowBit, RandomK, TopK, compressor

FORMATS = get_args(WireName)
SCALED = ("fp8-e4m3", "fp8-e5m2", "int8", "e3m0", "e3m0-nozero")
COMPRESSORS = get_args(CompressorName)
LENGTHS = (0, 1, 2, 3, 7, 8, 9, 255, 256, 257, 511, 512, 513, 1000)
DTYPES = (torch.float32, torch.float64)

ALL_CODES = torch.arange(16, dtype=torch.uint8)
VALUES = [0, 0.25, 0.5, 1, 2, 4, 8, 16]


def draw(length, dtype=torch.float32, seed=0):
    """Gaussian values of many magnitudes [length]."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(length, generator=generator, dtype=torch.float64)
    return (x * torch.randn(length, generator=generator, dtype=torch.float64).mul(3).exp()).to(dtype)


def there_and_back(v, name, block=256, dtype=None):
    form = wire_format(name, block)
    return form.decode(form.encode(v), v.numel(), dtype or v.dtype)


def vectors(largest, width=32):
    """Vectors of 0 to 40 values that are zero or in [1e-30, largest] in magnitude, as tensors."""
    magnitudes = st.just(0.0) | st.floats(float(np.float32(1e-30)), float(np.float32(largest)), width=width)
    elements = st.builds(math.copysign, magnitudes, st.sampled_from([1.0, -1.0]))
    dtype = np.float32 if width == 32 else np.float64
    return arrays(dtype, st.integers(0, 40), elements=elements).map(torch.from_numpy)


# -- E3M0 --------------------------------------------------------------------------------------------------------------


def test_the_16_codes_of_e3m0():
    decoded = e3m0_decode(ALL_CODES)
    assert decoded.tolist() == VALUES + [-x for x in VALUES]
    assert len(set(decoded.tolist())) == 15
    assert decoded.signbit().tolist() == [False] * 8 + [True] * 8  # -0 is not 0
    assert e3m0_decode(ALL_CODES, zero_code=False).abs().tolist() == [0.125, *VALUES[1:]] * 2


@pytest.mark.parametrize("zero_code", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_code_of_e3m0_survives_a_round_trip(dtype, zero_code):
    values = e3m0_decode(ALL_CODES, dtype, zero_code=zero_code)
    codes = e3m0_encode(values, zero_code=zero_code)
    assert codes.dtype == torch.uint8 and torch.equal(codes, ALL_CODES)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_ties_of_e3m0_go_to_the_even_exponent(dtype, sign):
    ties = torch.tensor([0.125, 0.375, 0.75, 1.5, 3, 6, 12], dtype=dtype) * sign
    want = torch.tensor([0, 0.5, 0.5, 2, 2, 8, 8], dtype=dtype) * sign
    assert torch.equal(e3m0_decode(e3m0_encode(ties), dtype), want)
    # One rounding error beside a tie the nearer value wins.
    below, above = ties.nextafter(torch.zeros_like(ties)), ties.nextafter(sign * torch.full_like(ties, torch.inf))
    assert torch.equal(e3m0_decode(e3m0_encode(below), dtype), torch.tensor(VALUES[:-1], dtype=dtype) * sign)
    assert torch.equal(e3m0_decode(e3m0_encode(above), dtype), torch.tensor(VALUES[1:], dtype=dtype) * sign)


def test_without_a_zero_code_the_lowest_midpoint_moves():
    x = torch.tensor([0.0, -0.0, 0.125, 0.1875, 0.1876, 0.25])
    assert e3m0_encode(x, zero_code=False).tolist() == [0, 8, 0, 0, 1, 1]


def test_e3m0_saturates_at_16():
    x = torch.tensor([12.001, 16, 17, 1e30, torch.inf, -12.001, -1e30, -torch.inf])
    assert e3m0_decode(e3m0_encode(x)).tolist() == [16] * 5 + [-16] * 3


def test_codes_are_packed_low_nibble_first():
    assert pack(torch.tensor([1, 2, 15], dtype=torch.uint8)).tolist() == [0x21, 0x0F]
    assert unpack(torch.tensor([0x21, 0x0F], dtype=torch.uint8), 3).tolist() == [1, 2, 15]
    assert pack(torch.tensor([1, 2, 3, 0, 1], dtype=torch.uint8), bits=2).tolist() == [0b00111001, 1]


@given(st.sampled_from([1, 2, 4, 8]), st.lists(st.integers(0, 255), max_size=40))
def test_packing_is_undone(bits, numbers):
    codes = torch.tensor([number % 2**bits for number in numbers], dtype=torch.uint8)
    packed = pack(codes, bits)
    assert packed.numel() == math.ceil(len(numbers) * bits / 8)
    assert torch.equal(unpack(packed, len(numbers), bits), codes)


def e3m0_reference(x, block):
    """One value at a time: the wire (bytes) and the decoded values (list of numpy.float32) of float32 values x."""
    scales, codes, decoded = b"", [], []
    for start in range(0, len(x), block):
        part = x[start : start + block]
        largest = max(abs(value) for value in part)
        scale = largest / np.float32(16) if largest > 0 else np.float32(1)
        scales += struct.pack("=f", scale)
        for value in part:
            ratio = float(abs(value) / scale)
            e = min(range(8), key=lambda e: (abs(ratio - VALUES[e]), e % 2))
            codes.append((8 if np.signbit(value) else 0) + e)
            decoded.append(np.float32(math.copysign(VALUES[e], value)) * scale)
    if len(codes) % 2:
        codes.append(0)
    return scales + bytes(low + 16 * high for low, high in zip(codes[::2], codes[1::2], strict=True)), decoded


@pytest.mark.parametrize(("length", "block"), [(1, 256), (37, 8), (256, 32), (301, 256), (64, 1)])
def test_e3m0_is_the_scalar_reference_bit_by_bit(length, block):
    x = draw(length, seed=length)
    x[length // 2] = 0.0
    wire, decoded = e3m0_reference(list(x.numpy()), block)
    form = wire_format("e3m0", block)
    assert bytes(form.encode(x).tolist()) == wire
    assert form.decode(form.encode(x), length, x.dtype).tolist() == [float(value) for value in decoded]


def test_mean_of_dequantised_vectors_is_the_scalar_reference():
    workers, length, block = 5, 300, 64
    deltas = [draw(length, seed=worker) for worker in range(workers)]
    form = wire_format("e3m0", block)
    total = torch.zeros(length)
    for delta in deltas:
        total += form.decode(form.encode(delta), length, torch.float32)

    rows = [e3m0_reference(list(delta.numpy()), block)[1] for delta in deltas]
    want = []
    for column in zip(*rows, strict=True):
        sum_ = np.float32(0)
        for value in column:
            sum_ += value
        want.append(float(sum_ / np.float32(workers)))
    assert (total / workers).tolist() == want


def test_e3m0_shrinks_log_uniform_values_by_the_closed_form():
    # (1 / ln 2) (1/3 + 1/3) = 0.9618; six whole octaves; standard error 2e-4.
    x = torch.from_numpy(np.exp2(np.random.default_rng(0).uniform(-2, 4, 1_000_000)))
    ratio = e3m0_decode(e3m0_encode(x), x.dtype) / x
    assert float(ratio.mean()) == pytest.approx(2 / 3 / math.log(2), abs=1e-3)
    assert float((ratio - 1).abs().max()) <= 1 / 3


def test_e3m0_on_a_gaussian_with_one_scale():
    # The published figures are of a sample whose largest value is 5.29: P(|x| < 5.29 / 128) = 3.3 %.
    largest = 5.29
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1)).clamp_(-largest, largest)
    x[0] = largest
    q = there_and_back(x, "e3m0", block=x.numel())
    assert float((q - x).norm() / x.norm()) == pytest.approx(0.196, abs=5e-4)
    assert float(torch.nn.functional.cosine_similarity(q, x, dim=0)) == pytest.approx(0.981, abs=5e-4)
    zeros = float((q == 0).double().mean())
    assert zeros == pytest.approx(0.033, abs=5e-4)
    assert zeros == pytest.approx(math.erf(largest / 128 / math.sqrt(2)), abs=1e-3)


@given(vectors(1e30))
def test_e3m0_of_what_e3m0_gave_is_the_same(v):
    once = there_and_back(v, "e3m0", block=8)
    assert torch.equal(there_and_back(once, "e3m0", block=8), once)


# -- all formats -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMATS)
def test_bytes_that_travel(name, dtype):
    per_value = {"float32": dtype.itemsize, "bfloat16": 2, "float16": 2, "e3m0": 0.5, "e3m0-nozero": 0.5}
    for block in (1, 5, 256, 10**12):
        form = wire_format(name, block)
        assert form.name == name
        for length in LENGTHS:
            wire = form.encode(draw(length, dtype))
            assert wire.dim() == 1 and wire.is_contiguous()
            assert wire.dtype == torch.uint8 or name not in SCALED
            scales = 4 * math.ceil(length / block) if name in SCALED else 0
            assert (
                wire.nbytes
                == form.nbytes(length, dtype.itemsize)
                == math.ceil(length * per_value.get(name, 1)) + scales
            )
            decoded = form.decode(wire, length, dtype)
            assert decoded.shape == (length,) and decoded.dtype == dtype


@pytest.mark.parametrize("name", FORMATS)
def test_encoding_and_decoding_are_deterministic_and_change_nothing(name):
    v = draw(301)
    form, before = wire_format(name, 32), v.clone()
    wire = form.encode(v)
    sent = wire.clone()
    assert torch.equal(form.encode(v), wire)
    assert torch.equal(form.decode(wire, 301, v.dtype), form.decode(wire, 301, v.dtype))
    assert torch.equal(wire, sent) and torch.equal(v, before)


@pytest.mark.parametrize("name", SCALED)
def test_a_wire_may_be_a_part_of_a_longer_buffer(name):
    v, form = draw(77), wire_format(name, 16)
    wire = form.encode(v)
    gathered = torch.cat([torch.zeros(1, dtype=torch.uint8), wire, wire])[1 : 1 + wire.numel()]
    assert torch.equal(form.decode(gathered, 77, v.dtype), form.decode(wire, 77, v.dtype))


@pytest.mark.parametrize("name", FORMATS)
def test_a_wire_of_another_length_is_refused(name):
    form = wire_format(name, 16)
    with pytest.raises(ValueError, match="wire must hold"):
        form.decode(form.encode(draw(40)), 42, torch.float32)


@pytest.mark.parametrize("name", FORMATS)
def test_zeros_stay_zeros_with_their_sign(name):
    v = torch.tensor([0.0, -0.0, 0.0, 0.0, -0.0])
    decoded = there_and_back(v, name, block=2)
    assert torch.equal(decoded, v)
    assert torch.equal(decoded.signbit(), v.signbit()) or name == "int8"  # a whole number has no -0


def test_scale_of_a_zero_block():
    for zero_code, scale in ((True, 1.0), (False, 0.0)):
        wire = E3M0(block=4, zero_code=zero_code).encode(torch.zeros(6))
        assert wire[:8].view(torch.float32).tolist() == [scale, scale] and wire[8:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_not_finite_never_becomes_finite(name, dtype, bad):
    v = draw(11, dtype, seed=3)
    v[5] = bad
    decoded = there_and_back(v, name, block=4)
    if name in SCALED:
        assert decoded.isnan().tolist() == [4 <= i < 8 for i in range(11)]
    else:
        assert decoded.isfinite().tolist() == [i != 5 for i in range(11)]
        assert decoded[5].isnan() or float(decoded[5]) == bad


@pytest.mark.parametrize("name", SCALED)
def test_values_beyond_the_range_of_the_scale(name):
    v = torch.tensor([1e300, 1.0, -1e-300, 1e-300], dtype=torch.float64)
    decoded = there_and_back(v, name, block=2)
    assert decoded[:2].isnan().all() and (decoded[2:] == 0).all()
    assert (there_and_back(torch.tensor([1e-44, -1e-45]), name) == 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_float32_travels_in_its_own_type_exactly(dtype):
    v = draw(100, dtype)
    assert wire_format("float32").encode(v).dtype == dtype
    assert torch.equal(there_and_back(v, "float32"), v)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_16_bit_formats_are_the_casts_of_torch(kind, dtype):
    v = draw(1000, dtype)
    name = str(kind).removeprefix("torch.")
    assert torch.equal(there_and_back(v, name), v.to(kind).to(dtype))


def test_bfloat16_rounds_to_nearest_ties_to_even():
    ulp = 2**-7  # of a bfloat16 in [1, 2)
    v = 1 + ulp * torch.tensor([0.5, 0.51, 1.49, 1.5, 2.5])
    assert ((there_and_back(v, "bfloat16") - 1) / ulp).tolist() == [0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("name", "code", "largest"),
    [("fp8-e4m3", 0x7E, 448), ("fp8-e5m2", 0x7B, 57344), ("int8", 127, 127), ("e3m0", 7, 16)],
)
def test_the_largest_value_of_a_block_gets_the_largest_code(name, code, largest):
    v = draw(400, torch.float64)
    form = wire_format(name, 100)
    wire = form.encode(v)
    scales = wire[:16].view(torch.float32)
    assert torch.equal(scales, (v.view(4, 100).abs().amax(1) / largest).to(torch.float32))
    codes = unpack(wire[16:], 400) & 7 if name == "e3m0" else wire[16:]
    sign = 0 if name == "e3m0" else 128
    for row, at in enumerate(v.view(4, 100).abs().argmax(1).tolist()):
        negative = bool(v.view(4, 100)[row, at] < 0)
        got = int(codes[100 * row + at])
        assert got == (256 - code if name == "int8" else code | sign) if negative else got == code
    decoded = form.decode(wire, 400, torch.float64)
    assert decoded.view(4, 100).abs().amax(1).tolist() == (scales.double() * largest).tolist()


# name: (largest relative error, largest error as a share of the block's scale); one of the two holds.
BOUNDS = {
    "fp8-e4m3": (2**-4, 2**-10),
    "fp8-e5m2": (2**-3, 2**-17),
    "int8": (0, 1 / 2),
    "e3m0": (1 / 3, 1 / 8),
    "e3m0-nozero": (1 / 3, 1 / 8),
}
PEAKS = {"fp8-e4m3": 448, "fp8-e5m2": 57344, "int8": 127, "e3m0": 16, "e3m0-nozero": 16}


@pytest.mark.thorough
@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("name", SCALED)
def test_error_of_the_formats_with_scales(name, width):
    @given(vectors(1e36, width))
    def bounded(v):
        decoded = there_and_back(v, name, block=8, dtype=torch.float64)
        exact = v.double()
        padded = torch.nn.functional.pad(exact, (0, -len(v) % 8)).view(-1, 8)
        scale = (padded.abs().amax(1) / PEAKS[name]).repeat_interleave(8)[: len(v)]
        relative, absolute = BOUNDS[name]
        # float32's rounding of the scale, of the division and, for float64, of the cast's way through float32.
        rounding = 1e-6 * (exact.abs() + scale)
        assert ((decoded - exact).abs() <= torch.maximum(relative * exact.abs(), absolute * scale) + rounding).all()

    bounded()


@given(vectors(6e4))
def test_error_of_the_16_bit_formats(v):
    for name, relative, absolute in (("bfloat16", 2**-8, 0), ("float16", 2**-11, 2**-25)):
        error = (there_and_back(v, name) - v).abs()
        assert (error <= torch.maximum(relative * v.abs(), torch.tensor(absolute))).all()


def test_unknown_formats_and_blocks_are_refused():
    with pytest.raises(ValueError, match="wire format must be one of"):
        wire_format("fp4")
    with pytest.raises(ValueError, match="block must be at least 1"):
        wire_format("e3m0", 0)


# -- compressors -------------------------------------------------------------------------------------------------------

SETTINGS = {
    "identity": [{}],
    "top-k": [{"fraction": f} for f in (0.01, 0.3, 1.0)],
    "low-bit": [{"bits": b} for b in (2, 4, 8)],
}
SETTINGS["random-k"] = SETTINGS["top-k"]
EVERY = [(name, settings) for name in COMPRESSORS for settings in SETTINGS[name]]


class Constant:
    """A generator whose every number is u."""

    def __init__(self, u):
        self.u = u

    def random(self, length, dtype):
        return np.full(length, self.u, dtype)


def compressed(v, chosen, rng=None):
    wire = chosen.encode(v, rng or np.random.default_rng(0))
    return chosen.decode(wire, v.numel(), v.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_bytes_of_the_compressors(name, settings, dtype):
    chosen = compressor(name, **settings)
    for length in LENGTHS:
        wire = chosen.encode(draw(length, dtype), np.random.default_rng(0))
        assert wire.dtype == torch.uint8 and wire.dim() == 1 and wire.is_contiguous()
        k = min(length, max(1, round(settings.get("fraction", 1) * length)))
        want = {
            "identity": dtype.itemsize * length,
            "top-k": k * (dtype.itemsize + 4),
            "random-k": k * (dtype.itemsize + 4),
            "low-bit": math.ceil(length * settings.get("bits", 0) / 8) + 4,
        }[name]
        assert wire.nbytes == chosen.nbytes(length, dtype.itemsize) == want
        decoded = chosen.decode(wire, length, dtype)
        assert decoded.shape == (length,) and decoded.dtype == dtype


@pytest.mark.parametrize(("name", "settings"), EVERY)
def test_the_same_random_numbers_give_the_same_bytes(name, settings):
    v, chosen = draw(301), compressor(name, **settings)
    first, second = (chosen.encode(v, np.random.default_rng(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(chosen.decode(first, 301, v.dtype), chosen.decode(first, 301, v.dtype))
    gathered = torch.cat([torch.zeros(1, dtype=torch.uint8), first])[1:]
    assert torch.equal(chosen.decode(gathered, 301, v.dtype), chosen.decode(first, 301, v.dtype))
    with pytest.raises(ValueError, match="wire must hold"):
        chosen.decode(torch.cat([first, first]), 301, v.dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_compressors_that_keep_everything_are_exact(dtype):
    v = draw(100, dtype)
    for chosen in (compressor("identity"), TopK(fraction=1.0), RandomK(fraction=1.0)):
        assert torch.equal(compressed(v, chosen), v) and chosen.omega(100) == 1


@given(vectors(1e15, 64), st.floats(0.01, 1))
def test_top_k_keeps_the_largest_and_contracts(v, fraction):
    chosen = TopK(fraction=fraction)
    q, k = compressed(v, chosen), chosen.count(len(v))
    assert ((q == v) | (q == 0)).all()
    assert torch.equal(q.abs().sort(descending=True).values[:k], v.abs().sort(descending=True).values[:k])
    assert float((q - v).square().sum()) <= (1 - chosen.omega(len(v))) * float(v.square().sum()) * (1 + 1e-12)


def test_random_k_chooses_every_place_equally_often():
    length, draws = 20, 4000
    v, chosen, rng = draw(length, torch.float64), RandomK(fraction=0.3), np.random.default_rng(0)
    q = torch.stack([compressed(v, chosen, rng) for _ in range(draws)])
    kept = q != 0
    assert torch.equal(q[kept], v.expand(draws, -1)[kept])
    assert (kept.sum(1) == 6).all()
    share = kept.double().mean(0)
    assert (share - 0.3).abs().max() < 5 * math.sqrt(0.3 * 0.7 / draws)
    # Hence the contraction in expectation, with equality: E |Q(v) - v|^2 = (1 - k/L) |v|^2.
    error = (q - v).square().sum(1)
    expected = (1 - chosen.omega(length)) * float(v.square().sum())
    assert abs(float(error.mean()) - expected) < 5 * float(error.std()) / math.sqrt(draws)


@pytest.mark.thorough
@given(vectors(1e15, 64), st.sampled_from([2, 4, 8]))
def test_low_bit_contracts_in_expectation(v, bits):
    # All values share the random number u, which does not change the expectation of a sum over values; the mean over
    # u on a grid is that expectation up to one grid step per value.
    chosen, grid = LowBit(bits=bits), 32
    q = torch.stack([compressed(v, chosen, Constant((i + 0.5) / grid)) for i in range(grid)])
    norm = float(v.norm())
    step = norm / chosen.levels / grid
    unbiased = q.mean(0) / chosen.omega(len(v))
    assert ((unbiased - v).abs() <= step + 1e-6 * norm).all()
    error = float((q - v).square().sum(1).mean())
    slack = len(v) * (norm / chosen.levels) ** 2 / grid
    assert error <= (1 - chosen.omega(len(v))) * norm**2 + slack + 1e-6 * norm**2


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("shape", ["gaussian", "equal", "one"])
def test_low_bit_contracts_with_real_random_numbers(bits, shape):
    length, draws, chosen = 200, 500, LowBit(bits=bits)
    v = {"gaussian": torch.randn(length, generator=torch.Generator().manual_seed(0)), "equal": torch.ones(length)}.get(
        shape, torch.eye(length)[3]
    )
    rng = np.random.default_rng(1)
    q = torch.stack([compressed(v, chosen, rng) for _ in range(draws)])
    error = (q - v).square().sum(1)
    bound = (1 - chosen.omega(length)) * float(v.square().sum())
    assert float(error.mean()) <= bound + 5 * float(error.std()) / math.sqrt(draws) + 1e-6
    # Unbiased before the factor omega: a value is a step up or down, up with probability p; Bernstein's bound, since
    # five standard errors are too few where p is nearly 0 or 1.
    step = float(v.norm()) / chosen.levels
    p = v.abs() / step % 1
    bound = 5 * (p * (1 - p) / draws).sqrt() + 10 / draws
    assert ((q.mean(0) / chosen.omega(length) - v).abs() <= step * bound + 1e-5).all()


def test_low_bit_levels():
    # One value: it is the norm, so it gets the highest level; its sign travels.
    for bits in (2, 4, 8):
        chosen = LowBit(bits=bits)
        wire = chosen.encode(torch.tensor([-3.0]), np.random.default_rng(0))
        assert wire[:4].view(torch.float32).tolist() == [3.0] and wire[4:].tolist() == [2**bits - 1]
        tau = 1 + min(1 / chosen.levels**2, 1 / chosen.levels)
        assert float(chosen.decode(wire, 1, torch.float32)) == pytest.approx(-3 / tau)
    assert LowBit(bits=4).omega(2000) == pytest.approx(1 / (1 + math.sqrt(2000) / 7))


def test_what_is_not_finite_in_compressors():
    v = draw(50, torch.float64)
    v[7] = torch.nan
    assert compressed(v, TopK(fraction=0.02))[7].isnan()
    assert compressed(v, LowBit()).isnan().all()
    assert compressed(v, compressor("identity"))[7].isnan()
    assert compressed(torch.full((3,), 1e30), LowBit(bits=8)).isfinite().all()  # squares would overflow in float32
    assert (compressed(torch.zeros(9), LowBit()) == 0).all()


def test_compressors_refuse_bad_settings():
    with pytest.raises(ValueError, match="compressor must be one of"):
        compressor("top_k")
    for fraction in (0, -0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"fraction must be in \(0, 1\]"):
            compressor("random-k", fraction=fraction)
    with pytest.raises(ValueError, match="bits must be 2, 4 or 8"):
        compressor("low-bit", bits=3)
