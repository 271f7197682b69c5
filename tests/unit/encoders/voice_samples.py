"""Sounds that the tests of the voice encoders are given."""

from __future__ import annotations

import numpy as np

from erray.records import VoiceSample


def sample_of(times_s, waveform, start_s: float = 0.0) -> VoiceSample:
    waveform = None if waveform is None else np.asarray(waveform, np.float32)
    return VoiceSample(np.asarray(times_s, np.float64), waveform, 16000, start_s)


def noise(duration_s: float, seed: int = 0) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(int(duration_s * 16000))


def voice(hz, duration_s: float, harmonics: int = 5) -> np.ndarray:
    """A buzz with a constant pitch, or with one given for every sample."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hz, int(duration_s * 16000)) / 16000)
    return 0.1 * sum(np.sin(k * phase) / k for k in range(1, harmonics + 1))
