"""The clock of a clip: when its ticks are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.media import Decoder
from erray.records import Clip

WAVEFORM_RATE_HZ = 16_000
_ROUNDING_S = 1e-6  # a tick that falls on a frame must not miss it by a rounding error


def on_clock(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], clock_hz: float
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the picture on screen at ticks ``first + k / clock_hz`` up to the last frame."""
    tick, first_s, last_s, shown = 0, 0.0, 0.0, None
    for time_s, image in frames:
        if shown is None:
            first_s = time_s
        while shown is not None and first_s + tick / clock_hz < time_s - _ROUNDING_S:
            yield first_s + tick / clock_hz, shown
            tick += 1
        last_s, shown = time_s, image
    if shown is not None and first_s + tick / clock_hz <= last_s + _ROUNDING_S:
        yield first_s + tick / clock_hz, shown


def ticks_on_clock(times_s_T: NDArray[np.float64], clock_hz: float) -> NDArray[np.float64]:
    """Return the times that :func:`on_clock` yields for frames at ``times_s_T``."""
    length_s = times_s_T[-1] - times_s_T[0]
    num_ticks = int(np.floor((length_s + _ROUNDING_S) * clock_hz)) + 1
    return times_s_T[0] + np.arange(num_ticks) / clock_hz


def sound_ticks(decoder: Decoder, clip: Clip, path: str, clock_hz: float) -> NDArray[np.float64]:
    """Return the ticks of a medium without pictures: as long as its sound.

    Raises:
        MediaError: ``no_clock``: there is no sound either, or the medium cannot be read.
    """
    wave = decoder.waveform(path, start_s=clip.start_s, end_s=clip.end_s, rate_hz=WAVEFORM_RATE_HZ)
    num_samples = 0 if wave is None else len(wave.samples_N)
    num_ticks = int(np.ceil(num_samples * clock_hz / WAVEFORM_RATE_HZ))
    if wave is None or num_ticks == 0:
        raise MediaError("no_clock: the medium has neither frames nor sound")
    return wave.start_s + np.arange(num_ticks) / clock_hz


def stated_ticks(clip: Clip, clock_hz: float | None) -> NDArray[np.float64]:
    """Return the ticks of a clip whose medium nobody reads: as long as the corpus says.

    Raises:
        MediaError: ``no_clock``: the corpus states no length, or there is no clock.
    """
    start_s, duration_s = clip.start_s or 0.0, clip.duration_s
    if duration_s is None and clip.end_s is not None:
        duration_s = clip.end_s - start_s
    if duration_s is None or clock_hz is None:
        lacking = (
            "corpus.clock_hz" if duration_s is not None else "duration_s, or start_s and end_s"
        )
        raise MediaError(f"no_clock: no stream reads the medium; words alone need {lacking}")
    return start_s + np.arange(max(1, int(np.ceil(duration_s * clock_hz)))) / clock_hz
