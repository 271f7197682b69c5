"""Voice stream of pooled log-mel energies; needs no weights.

The front end is that of VGGish (Hershey et al. 2017): 16 kHz, window 400, hop 160, FFT 512,
periodic Hann, magnitude, 64 mel bands from 125 to 7500 Hz, ln(x + 0.01).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from erray.encoders.voice_ticks import within_sound
from erray.errors import UserError
from erray.records import Stream, VoiceSample

RATE_HZ = 16000
WINDOW_LENGTH, HOP_LENGTH, FFT_LENGTH = 400, 160, 512
NUM_BANDS, LOWEST_HZ, HIGHEST_HZ = 64, 125.0, 7500.0
LOG_OFFSET = 0.01
ROWS_PER_CHUNK = 8192  # bounds the memory of a long medium's spectra to some 50 MB


@cache
def mel_weights() -> NDArray[np.float64]:
    """Return the [257, 64] filter bank: triangles linear in mel = 1127 ln(1 + f / 700)."""

    def mel(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1127.0 * np.log1p(frequency_hz / 700.0))

    bins_mel = mel(np.linspace(0.0, RATE_HZ / 2, FFT_LENGTH // 2 + 1))[:, None]
    low_mel, high_mel = mel(np.array([LOWEST_HZ, HIGHEST_HZ]))
    edges_mel = np.linspace(low_mel, high_mel, NUM_BANDS + 2)
    left, centre, right = edges_mel[:-2], edges_mel[1:-1], edges_mel[2:]
    rising = (bins_mel - left) / (centre - left)
    falling = (right - bins_mel) / (right - centre)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0  # the DC bin belongs to no band
    return weights


def log_mel(waveform_N: NDArray[np.floating], rate_hz: int = RATE_HZ) -> NDArray[np.float64]:
    """Return log-mel rows [R, 64] of a mono waveform; row r covers samples 160 r to 160 r + 400.

    Computed in float64 whatever the input's type. R = 1 + (N - 400) // 160, or 0 when N < 400.

    Raises:
        ValueError: a rate other than 16 kHz.
    """
    if rate_hz != RATE_HZ:
        raise ValueError(f"expected a waveform at {RATE_HZ} Hz, found {rate_hz} Hz")
    if len(waveform_N) < WINDOW_LENGTH:
        return np.zeros((0, NUM_BANDS))
    frames_RN = sliding_window_view(waveform_N, WINDOW_LENGTH)[::HOP_LENGTH]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW_LENGTH) / WINDOW_LENGTH)
    rows = []
    for first in range(0, len(frames_RN), ROWS_PER_CHUNK):
        chunk = frames_RN[first : first + ROWS_PER_CHUNK].astype(np.float64)
        magnitude = np.abs(np.fft.rfft(chunk * hann, FFT_LENGTH))
        rows.append(np.log(magnitude @ mel_weights() + LOG_OFFSET))
    return np.concatenate(rows)


@dataclass(frozen=True)
class LogmelConfig:
    """How rows become ticks.

    Attributes:
        pool_s: width of the window centred on a tick. Half a second holds a syllable or two.
        deviation: besides the mean of each band keep its standard deviation in the window.
    """

    pool_s: float = 0.5
    deviation: bool = True

    def __post_init__(self) -> None:
        if not 0.02 <= self.pool_s <= 30.0:
            raise UserError(f"expected pool_s from 0.02 to 30, found {self.pool_s}")


class LogmelEncoder:
    """Sound of a clip to the mean (and deviation) of its log-mel rows around every tick.

    A tick is present when it lies within the sound and the window around it holds the centre of
    at least one row; ticks before the sound starts or after it ends are absent.
    """

    name = "logmel"
    version = 1
    modality = "voice"
    config_type = LogmelConfig
    licence: str | None = None
    source: str | None = None
    weights_sha256: str | None = None

    def __init__(self, config: LogmelConfig | None = None) -> None:
        self.config = config or LogmelConfig()

    @property
    def width(self) -> int:
        """Values per tick."""
        return NUM_BANDS * (2 if self.config.deviation else 1)

    def __call__(self, batch: list[VoiceSample]) -> list[Stream]:
        return [self._stream(sample) for sample in batch]

    def _stream(self, sample: VoiceSample) -> Stream:
        times_s_T = sample.frame_times_s_T
        values_TD = np.zeros((len(times_s_T), self.width), np.float32)
        present_T = within_sound(sample)
        if sample.waveform_N is None:
            return Stream(values_TD, present_T)
        rows_RD = log_mel(sample.waveform_N, sample.rate_hz)
        centres_s_R = sample.start_s + (
            (np.arange(len(rows_RD)) * HOP_LENGTH + WINDOW_LENGTH / 2) / RATE_HZ
        )
        first_T = np.searchsorted(centres_s_R, times_s_T - self.config.pool_s / 2)
        last_T = np.searchsorted(centres_s_R, times_s_T + self.config.pool_s / 2)
        present_T &= last_T > first_T
        for tick in np.flatnonzero(present_T):
            window_RD = rows_RD[first_T[tick] : last_T[tick]]
            values_TD[tick, :NUM_BANDS] = window_RD.mean(axis=0)
            if self.config.deviation:
                values_TD[tick, NUM_BANDS:] = window_RD.std(axis=0)
        return Stream(values_TD, present_T)
