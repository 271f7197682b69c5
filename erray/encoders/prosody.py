"""Voice stream of named prosodic measures: pitch, voicing, level, tilt, onsets; needs no weights.

What a listener would call melody, loudness, effort and tempo. Measures of 10 ms frames are pooled
around every tick; the frames' pitch comes from ``erray.encoders.pitch``. Nothing is learned and
every column has a unit, so that a figure or a linear model of them can be read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import find_peaks

from erray.encoders.pitch import FRAME_S, RATE_HZ, STEP_LENGTH, track_pitch
from erray.encoders.voice_ticks import within_sound
from erray.errors import UserError
from erray.records import Stream, VoiceSample

COLUMNS = (
    "pitch_st",
    "pitch_deviation_st",
    "pitch_slope_st_per_s",
    "voiced_fraction",
    "periodicity",
    "level_db",
    "level_deviation_db",
    "tilt_db_per_octave",
    "onsets_hz",
)
REFERENCE_HZ = 27.5  # semitones count from this tone, the lowest A of a piano
SILENCE_DB = -100.0
WINDOW_LENGTH, FFT_LENGTH = 400, 512
OCTAVES = 2.0 ** np.arange(7, 13)  # 128 Hz to 4096 Hz, and the octave above the last
ONSET_DIP_DB = 3.0  # between two onsets the level falls by at least so much
ONSET_RANGE_DB = 25.0  # below the clip's loudest frame
SMOOTHING_FRAMES = 7
SLOPE_SPAN_S = 0.1  # from the first voiced frame to the last; over less, jitter is no melody


@dataclass(frozen=True)
class ProsodyConfig:
    """Windows around a tick, and where pitch is looked for.

    Attributes:
        pool_s: width of the window of all columns but the last.
        tempo_s: width of the window in which onsets are counted.
        min_pitch_hz: lowest pitch.
        max_pitch_hz: highest pitch.
    """

    pool_s: float = 0.5
    tempo_s: float = 2.0
    min_pitch_hz: float = 65.0
    max_pitch_hz: float = 600.0

    def __post_init__(self) -> None:
        if not (0.02 <= self.pool_s <= 30.0 and 0.1 <= self.tempo_s <= 30.0):
            raise UserError(
                "expected pool_s from 0.02 and tempo_s from 0.1 to 30, "
                f"found {self.pool_s} and {self.tempo_s}"
            )
        if not 40.0 <= self.min_pitch_hz < self.max_pitch_hz <= 2000.0:
            raise UserError(
                "expected 40 <= min_pitch_hz < max_pitch_hz <= 2000, "
                f"found {self.min_pitch_hz} and {self.max_pitch_hz}"
            )


@dataclass(frozen=True)
class Frames:
    """Measures every 10 ms; frame f is centred on f times 10 ms after the sound's start.

    Attributes:
        pitch_st_F: semitones above 27.5 Hz; NaN where unvoiced.
        periodicity_F: height of the autocorrelation's peak, 0 to 1.
        level_db_F: mean square of 25 ms over that of full scale, at least -100 dB.
        tilt_F: slope of the spectral density's level over the octaves, dB per octave.
        onset_F: true at the peak of every rise in level.
    """

    pitch_st_F: NDArray[np.float64]
    periodicity_F: NDArray[np.float64]
    level_db_F: NDArray[np.float64]
    tilt_F: NDArray[np.float64]
    onset_F: NDArray[np.bool_]


def measure(waveform_N: NDArray[np.floating], config: ProsodyConfig) -> Frames:
    """Measure a mono waveform at 16 kHz; F = 1 + (N - 1) // 160."""
    pitch_hz_F, periodicity_F = track_pitch(
        waveform_N, min_hz=config.min_pitch_hz, max_hz=config.max_pitch_hz
    )
    level_db_F, tilt_F = levels_and_tilts(waveform_N)
    return Frames(
        12 * np.log2(pitch_hz_F / REFERENCE_HZ),
        periodicity_F,
        level_db_F,
        tilt_F,
        find_onsets(level_db_F),
    )


def levels_and_tilts(
    waveform_N: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return level in dB and tilt in dB per octave of every frame.

    The tilt is the slope of a straight line through the mean spectral density of six octaves from
    128 Hz to 8 kHz: 0 for white noise, -3 for pink, -6 for brown; silence has 0.
    """
    window_N = np.hanning(WINDOW_LENGTH + 2)[1:-1]
    half = WINDOW_LENGTH // 2
    frames_FN = sliding_window_view(np.pad(waveform_N, (half, half)), WINDOW_LENGTH)[:-1]
    frames_FN = frames_FN[::STEP_LENGTH]
    level_db_F, tilt_F = np.zeros(len(frames_FN)), np.zeros(len(frames_FN))
    bin_hz = np.fft.rfftfreq(FFT_LENGTH, 1 / RATE_HZ)
    octaves = [(bin_hz >= low_hz) & (bin_hz < 2 * low_hz) for low_hz in OCTAVES]
    means_KO = np.stack([inside / inside.sum() for inside in octaves], axis=1)
    centred_O = np.arange(len(OCTAVES)) - (len(OCTAVES) - 1) / 2
    for first in range(0, len(frames_FN), 8192):  # bounds the memory of a long medium
        chunk = slice(first, first + 8192)
        windowed = frames_FN[chunk].astype(np.float64) * window_N
        square = (windowed**2).sum(axis=1) / (window_N**2).sum()
        level_db_F[chunk] = 10 * np.log10(square + 10 ** (SILENCE_DB / 10))
        density_FO = np.abs(np.fft.rfft(windowed, FFT_LENGTH)) ** 2 @ means_KO
        # silence that is 100 dB below full scale is flat
        density_db_FO = 10 * np.log10(density_FO + 10 ** (SILENCE_DB / 10))
        tilt_F[chunk] = density_db_FO @ centred_O / (centred_O**2).sum()
    return level_db_F, tilt_F


def find_onsets(level_db_F: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return [F], true where the smoothed level peaks: about once per syllable.

    After de Jong and Wempe 2009: a peak counts when the level falls by 3 dB on both sides before
    it rises above the peak, and when it is at most 25 dB below the clip's loudest frame.
    """
    smoothing = np.hanning(SMOOTHING_FRAMES + 2)[1:-1]
    padded = np.pad(level_db_F, SMOOTHING_FRAMES // 2, mode="edge")
    smooth_F = np.convolve(padded, smoothing / smoothing.sum(), mode="valid")
    # silence around the sound, so that a first and a last syllable fall on both sides as well
    quiet = np.concatenate([[SILENCE_DB], smooth_F, [SILENCE_DB]])
    # of peaks of one height the last is the highest, or each would fall as far as the others
    quiet += 1e-9 * np.arange(len(quiet))
    lowest_db = max(smooth_F.max() - ONSET_RANGE_DB, SILENCE_DB + ONSET_RANGE_DB)
    peaks, _ = find_peaks(quiet, height=lowest_db, prominence=ONSET_DIP_DB)
    onset_F = np.zeros(len(level_db_F), np.bool_)
    onset_F[peaks - 1] = True
    return onset_F


class ProsodyEncoder:
    """Sound of a clip to the columns of ``columns`` at every tick within the sound.

    Pitch columns are 0 where the window holds no voiced frame (a slope needs 0.1 s of them);
    ``voiced_fraction`` tells such a 0 from a low voice.
    """

    name = "prosody"
    version = 1
    modality = "voice"
    config_type = ProsodyConfig
    licence: str | None = None
    source: str | None = None
    weights_sha256: str | None = None
    columns = COLUMNS
    width = len(COLUMNS)

    def __init__(self, config: ProsodyConfig | None = None) -> None:
        self.config = config or ProsodyConfig()

    def __call__(self, batch: list[VoiceSample]) -> list[Stream]:
        return [self._stream(sample) for sample in batch]

    def _stream(self, sample: VoiceSample) -> Stream:
        present_T = within_sound(sample)
        values_TD = np.zeros((len(present_T), self.width), np.float32)
        if not present_T.any():
            return Stream(values_TD, present_T)
        assert sample.waveform_N is not None  # no tick lies within no sound
        if sample.rate_hz != RATE_HZ:
            raise ValueError(f"expected a waveform at {RATE_HZ} Hz, found {sample.rate_hz} Hz")
        frames = measure(sample.waveform_N, self.config)
        for tick in np.flatnonzero(present_T):
            values_TD[tick] = self._pool(frames, sample.frame_times_s_T[tick] - sample.start_s)
        return Stream(values_TD, present_T)

    def _pool(self, frames: Frames, time_s: float) -> list[float]:
        num_frames = len(frames.level_db_F)
        here = _around(time_s, self.config.pool_s, num_frames)
        pitch_st = frames.pitch_st_F[here]
        voiced = np.flatnonzero(~np.isnan(pitch_st))
        pitch_st = pitch_st[voiced]
        slope = 0.0
        if len(voiced) > 1 and (voiced[-1] - voiced[0]) * FRAME_S >= SLOPE_SPAN_S:
            centred_s = (voiced - voiced.mean()) * FRAME_S
            slope = float(centred_s @ pitch_st / (centred_s @ centred_s))
        near = _around(time_s, self.config.tempo_s, num_frames)
        level_db = frames.level_db_F[here]
        return [
            float(pitch_st.mean()) if len(voiced) else 0.0,
            float(pitch_st.std()) if len(voiced) else 0.0,
            slope,
            len(voiced) / (here.stop - here.start),
            float(frames.periodicity_F[here].mean()),
            float(level_db.mean()),
            float(level_db.std()),
            float(frames.tilt_F[here].mean()),
            float(frames.onset_F[near].sum()) / ((near.stop - near.start) * FRAME_S),
        ]


def _around(time_s: float, width_s: float, num_frames: int) -> slice:
    """Frames in the window around a time, as far as there is sound; at least one."""
    first = int(np.ceil((time_s - width_s / 2) / FRAME_S))
    last = int(np.floor((time_s + width_s / 2) / FRAME_S))
    first = min(max(first, 0), num_frames - 1)
    return slice(first, max(min(last + 1, num_frames), first + 1))
