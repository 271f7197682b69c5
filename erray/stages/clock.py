"""The clock of a clip: when its ticks are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.media import Decoder
from erray.records import Clip

WAVEFORM_RATE_HZ = 16_000
SECONDS_PER_WORD = 0.4  # 150 words a minute, the pace of a conversation
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


def sound_ticks(
    decoder: Decoder, clip: Clip, path: str, clock_hz: float
) -> tuple[NDArray[np.float64], str | None]:
    """Return the ticks of a medium without pictures, as long as its sound, and what is missing.

    Raises:
        MediaError: ``no_clock``: there is no sound either, or the medium cannot be read.
    """
    wave = decoder.waveform(path, start_s=clip.start_s, end_s=clip.end_s, rate_hz=WAVEFORM_RATE_HZ)
    num_samples = 0 if wave is None else len(wave.samples_N)
    num_ticks = int(np.ceil(num_samples * clock_hz / WAVEFORM_RATE_HZ))
    if wave is None or num_ticks == 0:
        raise MediaError("no_clock: the medium has neither frames nor sound")
    return wave.start_s + np.arange(num_ticks) / clock_hz, wave.note


def stated_ticks(clip: Clip, clock_hz: float | None) -> tuple[NDArray[np.float64], str | None]:
    """Return the ticks of a clip whose medium nobody reads, and a note where they are a guess.

    The clip is as long as the corpus says; where it says nothing, it ends with the last word, or
    where no times are known, after as long as its words take.

    Raises:
        MediaError: ``no_clock``: there is no clock.
    """
    if clock_hz is None:
        raise MediaError("no_clock: no stream reads the medium; words alone need corpus.clock_hz")
    length_s, note = clip.stated_s, None
    if length_s is None and clip.heard_until_s is not None:
        length_s = clip.heard_until_s - (clip.start_s or 0.0)
        note = "length guessed from the end of the last word"
    elif length_s is None:
        length_s = len((clip.transcript or "").split()) * SECONDS_PER_WORD
        note = "length guessed from the number of words"
    num_ticks = max(1, int(np.ceil(length_s * clock_hz)))
    return (clip.start_s or 0.0) + np.arange(num_ticks) / clock_hz, note
