"""Pitch of speech by normalised autocorrelation (Boersma 1993) and the cheapest path.

Every 10 ms the windowed sound's autocorrelation is divided by the window's own, so that its peaks
say how well the sound repeats after a lag, 1 for a perfect repetition. The best few peaks of a
frame and the possibility that it is unvoiced are its candidates; the path through all frames that
gains most in height and pays for jumps and changes of voicing is the pitch. Constants are those of
the paper, as used for speech.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

RATE_HZ = 16000
STEP_LENGTH = 160
FRAME_S = STEP_LENGTH / RATE_HZ
PERIODS = 3  # of the lowest pitch in a window
NUM_CANDIDATES = 5  # voiced ones
OCTAVE_COST, OCTAVE_JUMP_COST, VOICING_COST = 0.01, 0.35, 0.14  # per frame of 10 ms
VOICING_HEIGHT, SILENCE_HEIGHT = 0.45, 0.03
FRAMES_PER_CHUNK = 1024  # bounds the memory to some 60 MB


def track_pitch(
    waveform_N: NDArray[np.floating], *, min_hz: float, max_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the pitch in Hz (NaN: unvoiced) and the periodicity (0 to 1) of every 10 ms.

    Frame f is centred on sample 160 f of a waveform at 16 kHz; F = 1 + (N - 1) // 160.
    """
    length = int(PERIODS * RATE_HZ / min_hz) // 2 * 2
    padded = np.pad(waveform_N, length // 2)
    frames_FN = sliding_window_view(padded, length)[:-1:STEP_LENGTH]
    loudest = float(np.abs(waveform_N).max(initial=0.0))
    lags, heights, peaks = [], [], []
    for first in range(0, len(frames_FN), FRAMES_PER_CHUNK):
        chunk_FN = frames_FN[first : first + FRAMES_PER_CHUNK].astype(np.float64)
        chunk_FN -= chunk_FN.mean(axis=1, keepdims=True)
        peaks.append(np.abs(chunk_FN).max(axis=1))
        lag_FK, height_FK = _candidates(chunk_FN, min_hz, max_hz)
        lags.append(lag_FK)
        heights.append(height_FK)
    if not lags:
        return np.zeros(0), np.zeros(0)
    hz_FK = RATE_HZ / np.concatenate(lags)
    height_FK = np.concatenate(heights)
    relative_F = np.concatenate(peaks) / max(loudest, 1e-4)  # below that, all is silence
    unvoiced_F = VOICING_HEIGHT + np.maximum(
        0.0, 2.0 - relative_F * (1 + VOICING_HEIGHT) / SILENCE_HEIGHT
    )
    # high pitches gain a little, or every period would be as good as two
    gain_FK = np.where(height_FK > 0, height_FK + OCTAVE_COST * np.log2(hz_FK / min_hz), -np.inf)
    path_F = _best_path(np.column_stack([unvoiced_F, gain_FK]), np.log2(hz_FK))
    chosen_F = np.maximum(path_F - 1, 0)
    pitch_hz_F = np.where(path_F > 0, hz_FK[np.arange(len(hz_FK)), chosen_F], np.nan)
    return pitch_hz_F, height_FK.max(axis=1).clip(0.0, 1.0)


def _candidates(
    frames_FN: NDArray[np.float64], min_hz: float, max_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return lags in samples and heights [F, K] of the highest peaks; height 0: no more peaks."""
    length = frames_FN.shape[1]
    window_N = np.hanning(length + 2)[1:-1]
    size = 2 ** int(np.ceil(np.log2(1.5 * length)))  # lags up to half the window do not wrap
    own = np.fft.irfft(np.abs(np.fft.rfft(window_N, size)) ** 2)
    power = np.abs(np.fft.rfft(frames_FN * window_N, size)) ** 2
    longest = int(RATE_HZ / min_hz) + 1
    correlation_FL = np.fft.irfft(power)[:, : longest + 1]
    energy_F1 = correlation_FL[:, :1]
    silent_F1 = energy_F1 <= 1e-12
    correlation_FL = correlation_FL / np.where(silent_F1, 1.0, energy_F1)
    correlation_FL *= own[0] / own[: longest + 1]
    left, middle, right = (correlation_FL[:, i : longest - 1 + i] for i in range(3))
    lag_L = np.arange(1, longest)
    is_peak = (middle > left) & (middle >= right) & ~silent_F1 & (lag_L >= RATE_HZ / max_hz - 1)
    top_FK = np.argsort(np.where(is_peak, -middle, 0.0), axis=1, kind="stable")[:, :NUM_CANDIDATES]
    a, b, c = (np.take_along_axis(x, top_FK, axis=1) for x in (left, middle, right))
    found = np.take_along_axis(is_peak, top_FK, axis=1) & (b > 0)
    curvature = np.where(found, a - 2 * b + c, -1.0)
    shift = np.where(found, (a - c) / (2 * curvature), 0.0)
    lag_FK = np.asarray(lag_L[top_FK] + shift, np.float64)
    height_FK = np.where(found, b - (a - c) * shift / 4, 0.0)
    # a peak above 1 comes from a lag near half the window, where little is left to compare
    height_FK = np.where(height_FK > 1, 1 / np.maximum(height_FK, 1), height_FK)
    outside = (RATE_HZ / lag_FK < min_hz) | (RATE_HZ / lag_FK > max_hz)
    return lag_FK, np.where(outside, 0.0, height_FK)


def _best_path(gain_FC: NDArray[np.float64], log2_hz_FK: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the candidate of every frame; candidate 0 is unvoiced, c + 1 has log2_hz_FK[:, c]."""
    num_frames, num_candidates = gain_FC.shape
    total_C = gain_FC[0]
    from_FC = np.zeros((num_frames, num_candidates), np.int64)
    cost_PC = np.zeros((num_candidates, num_candidates))
    cost_PC[0, 1:] = cost_PC[1:, 0] = VOICING_COST
    for frame in range(1, num_frames):
        jump_KK = np.abs(log2_hz_FK[frame - 1][:, None] - log2_hz_FK[frame])
        cost_PC[1:, 1:] = OCTAVE_JUMP_COST * jump_KK
        paths_PC = total_C[:, None] - cost_PC
        from_FC[frame] = paths_PC.argmax(axis=0)
        total_C = paths_PC.max(axis=0) + gain_FC[frame]
    path_F = np.zeros(num_frames, np.int64)
    path_F[-1] = total_C.argmax()
    for frame in range(num_frames - 1, 0, -1):
        path_F[frame - 1] = from_FC[frame, path_F[frame]]
    return path_F
