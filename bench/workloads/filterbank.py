"""Logarithmic mel filter-bank energies of a recording: what a speech recogniser's network sees of it.

A Hann window of 25 ms every 10 ms, the power spectrum of each, triangular filters evenly spaced on the mel scale
(Davis and Mermelstein 1980, without their cosine transform), the logarithm. Only numpy.

Axes: n samples, F frames, L samples of a window, K = fft / 2 + 1 frequencies, M filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FilterBank:
    """What is computed; the defaults are for recordings at 8 kHz.

    Attributes:
        rate: samples per second.
        window: samples of a window (200 are 25 ms).
        hop: samples from one window to the next (80 are 10 ms).
        fft: points of the Fourier transform; a shorter window is padded with zeros.
        filters: M.
        lowest, highest: edges of the first and the last filter [Hz].
        emphasis: each sample has this times the one before subtracted, to lift high frequencies; 0 leaves it as it is.
        floor: energies below it are taken for it, so that silence has a logarithm. A full-scale tone at a filter's
            centre has about (window / 4)^2: 94 dB more.
    """

    rate: int = 8000
    window: int = 200
    hop: int = 80
    fft: int = 256
    filters: int = 40
    lowest: float = 0.0
    highest: float = 4000.0
    emphasis: float = 0.97
    floor: float = 1e-6

    def log_energies(self, signal: Floats) -> Floats:
        """The logarithm [F, M] of each frame's energy in each filter [nat] of a signal [n] in [-1, 1].

        There is a frame wherever a whole window fits; a signal shorter than one is padded with zeros to one.
        """
        energies = power_spectrum(self.frames(signal), self.fft) @ self.weights().T
        return np.asarray(np.log(np.maximum(energies, self.floor)))

    def frames(self, signal: Floats) -> Floats:
        """The windowed pieces [F, L] of a signal [n], after pre-emphasis."""
        signal = np.append(signal[:1], signal[1:] - self.emphasis * signal[:-1])
        signal = np.pad(signal, (0, max(0, self.window - len(signal))))
        return np.asarray(sliding_window_view(signal, self.window)[:: self.hop] * hann(self.window))

    def weights(self) -> Floats:
        """The triangular filters [M, K], each 1 at its centre and 0 at its neighbours' centres."""
        edges = from_mel(np.linspace(to_mel(self.lowest), to_mel(self.highest), self.filters + 2))
        low, centre, high = (edges[k : len(edges) - 2 + k, None] for k in range(3))
        frequency = np.arange(self.fft // 2 + 1) * self.rate / self.fft
        rising, falling = (frequency - low) / (centre - low), (high - frequency) / (high - centre)
        return np.asarray(np.maximum(0.0, np.minimum(rising, falling)))


def to_mel(frequency: float | Floats) -> Floats:
    """The pitch [mel] of a frequency [Hz]: linear at first, logarithmic above (O'Shaughnessy 1987)."""
    return np.asarray(2595.0 * np.log10(1.0 + np.asarray(frequency) / 700.0))


def from_mel(pitch: float | Floats) -> Floats:
    """The frequency [Hz] of a pitch [mel]."""
    return np.asarray(700.0 * (10.0 ** (np.asarray(pitch) / 2595.0) - 1.0))


def hann(length: int) -> Floats:
    """The periodic Hann window [length]: shifted copies half a window apart add up to 1."""
    return np.asarray(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length))


def power_spectrum(frames: Floats, fft: int) -> Floats:
    """The squared modulus [F, K] of the Fourier transform of frames [F, L], L at most `fft`."""
    spectrum = np.fft.rfft(frames, fft)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


def fit_frames(features: Floats, frames: int) -> Floats:
    """The first `frames` of features [F, M], or all of them followed by zeros: [frames, M]."""
    return np.pad(features[:frames], ((0, max(0, frames - len(features))), (0, 0)))
