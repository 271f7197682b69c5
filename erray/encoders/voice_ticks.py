"""From the frames of a voice encoder's own rate to the ticks of a clip, by time.

Shared by the voice encoders. A tick stands for the time around it, up to the middle between it and
its neighbours, so that a stream is neither early nor late against the pictures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from erray.records import VoiceSample


def within_sound(sample: VoiceSample) -> NDArray[np.bool_]:
    """Return [T], true for the ticks in [start, end) of the clip's sound; all false without any."""
    times_s_T = sample.frame_times_s_T
    if sample.waveform_N is None:
        return np.zeros(len(times_s_T), np.bool_)
    end_s = sample.start_s + len(sample.waveform_N) / sample.rate_hz
    return np.asarray((times_s_T >= sample.start_s) & (times_s_T < end_s))


def tick_edges(times_s_T: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the [T + 1] borders between ticks: the middles, and as far beyond the outer ticks.

    A single tick has no length.
    """
    if len(times_s_T) < 2:
        return np.repeat(times_s_T, 2)
    middles_s = (times_s_T[1:] + times_s_T[:-1]) / 2
    first_s, last_s = 2 * times_s_T[0] - middles_s[0], 2 * times_s_T[-1] - middles_s[-1]
    return np.concatenate([[first_s], middles_s, [last_s]])


def frames_to_ticks(
    frames_FD: NDArray[np.float32],
    centres_s_F: NDArray[np.float64],
    times_s_T: NDArray[np.float64],
) -> NDArray[np.float32]:
    """Return [T, D]: the mean of the frames whose centre a tick's time holds, else the nearest.

    ``centres_s_F`` increase and there is at least one frame.
    """
    edges_s = tick_edges(times_s_T)
    first_T = np.searchsorted(centres_s_F, edges_s[:-1])
    last_T = np.searchsorted(centres_s_F, edges_s[1:])
    after_T = np.searchsorted(centres_s_F, times_s_T).clip(0, len(centres_s_F) - 1)
    before_T = (after_T - 1).clip(0)
    nearer = np.abs(times_s_T - centres_s_F[before_T]) <= np.abs(centres_s_F[after_T] - times_s_T)
    values_TD = frames_FD[np.where(nearer, before_T, after_T)]
    for tick in np.flatnonzero(last_T - first_T > 1):
        values_TD[tick] = frames_FD[first_T[tick] : last_T[tick]].mean(axis=0, dtype=np.float64)
    single = last_T - first_T == 1
    values_TD[single] = frames_FD[first_T[single]]
    return values_TD
