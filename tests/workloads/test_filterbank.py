"""The mel filter bank against closed forms of tones, windows and triangles."""

import math

import numpy as np
import pytest

from bench.workloads.filterbank import FilterBank, fit_frames, from_mel, hann, power_spectrum, to_mel

PLAIN = FilterBank(emphasis=0.0)


def tone(frequency, seconds=0.5, rate=8000, phase=0.3):
    return np.sin(2 * np.pi * frequency * np.arange(int(seconds * rate)) / rate + phase)


def noise(count, seed=0):
    return np.random.default_rng(seed).standard_normal(count)


def centres(bank):
    return from_mel(np.linspace(to_mel(bank.lowest), to_mel(bank.highest), bank.filters + 2))[1:-1]


def test_mel_scale_is_its_own_inverse_and_1000_hz_are_1000_mel():
    frequencies = np.linspace(0, 4000, 50)
    np.testing.assert_allclose(from_mel(to_mel(frequencies)), frequencies, rtol=1e-12, atol=1e-9)
    assert to_mel(1000.0) == pytest.approx(1000, abs=0.05)
    assert to_mel(0.0) == 0


def test_hann_windows_half_a_window_apart_add_up_to_one():
    window = hann(200)
    np.testing.assert_allclose(window[:100] + window[100:], 1, rtol=1e-12)
    assert window[0] == 0 and window[100] == 1
    assert np.sum(window**2) == pytest.approx(3 * 200 / 8)


def test_power_spectrum_keeps_the_energy():
    frames = noise(5 * 200).reshape(5, 200)
    power = power_spectrum(frames, 256)
    both_sides = power[:, 0] + 2 * power[:, 1:-1].sum(1) + power[:, -1]
    np.testing.assert_allclose(both_sides / 256, (frames**2).sum(1), rtol=1e-12)


def test_a_full_scale_tone_has_a_quarter_of_the_window_squared():
    power = power_spectrum(PLAIN.frames(tone(1000)), PLAIN.fft)
    np.testing.assert_allclose(power[:, 1000 * 256 // 8000], (200 / 4) ** 2, rtol=1e-3)


def test_neighbouring_triangles_add_up_to_one_between_the_outer_centres():
    weights, frequency = PLAIN.weights(), np.arange(129) * 8000 / 256
    inside = (frequency >= centres(PLAIN)[0]) & (frequency <= centres(PLAIN)[-1])
    np.testing.assert_allclose(weights.sum(0)[inside], 1, rtol=1e-9)
    assert weights.min() >= 0 and weights.max() <= 1
    assert (weights.max(1) > 0).all()  # no filter falls between two frequencies


def test_a_triangle_ends_where_its_neighbours_peak():
    weights, frequency = PLAIN.weights(), np.arange(129) * 8000 / 256
    peaks = centres(PLAIN)
    for m in range(1, PLAIN.filters - 1):
        outside = (frequency <= peaks[m - 1]) | (frequency >= peaks[m + 1])
        assert not weights[m, outside].any() and weights[m, ~outside].all()


@pytest.mark.parametrize("m", range(0, 40, 3))
def test_a_tone_is_loudest_in_the_filter_at_its_frequency(m):
    loudest = PLAIN.log_energies(tone(centres(PLAIN)[m])).argmax(1)
    # A window of 25 ms tells frequencies 40 Hz apart; the lowest filters lie 33 Hz apart and are wider than that.
    assert (abs(loudest - m) <= (1 if m < 10 else 0)).all()


def test_a_louder_signal_adds_a_constant_to_every_logarithm():
    bank, signal = FilterBank(), noise(2000)
    difference = bank.log_energies(7 * signal) - bank.log_energies(signal)
    np.testing.assert_allclose(difference, 2 * math.log(7), rtol=1e-9)


def test_silence_has_the_floors_logarithm():
    assert (FilterBank(floor=1e-3).log_energies(np.zeros(400)) == math.log(1e-3)).all()


@pytest.mark.parametrize("frequency", [250, 1000, 3500])
def test_emphasis_has_the_response_of_its_filter(frequency):
    bank, k = FilterBank(emphasis=0.9), frequency * 256 // 8000
    ratio = (
        power_spectrum(bank.frames(tone(frequency)), 256)[1:, k]
        / power_spectrum(PLAIN.frames(tone(frequency)), 256)[1:, k]
    )
    response = abs(1 - 0.9 * np.exp(-2j * np.pi * frequency / 8000)) ** 2
    np.testing.assert_allclose(ratio, response, rtol=0.01)


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (199, 1), (200, 1), (279, 1), (280, 2), (8000, 98)])
def test_a_frame_wherever_a_whole_window_fits(samples, frames):
    assert PLAIN.log_energies(noise(samples)).shape == (frames, 40)


def test_frames_start_one_hop_apart():
    click = np.zeros(600)
    click[330] = 1.0
    window = hann(200)
    # The click is sample 330 - 80 k of frame k.
    expected = [window[330 - 80 * k] if 0 <= 330 - 80 * k < 200 else 0 for k in range(6)]
    np.testing.assert_allclose(PLAIN.frames(click).sum(1), expected)


def test_frames_are_cut_or_followed_by_zeros():
    features = noise(12).reshape(4, 3)
    np.testing.assert_array_equal(fit_frames(features, 2), features[:2])
    long = fit_frames(features, 6)
    np.testing.assert_array_equal(long[:4], features)
    assert long.shape == (6, 3) and not long[4:].any()
