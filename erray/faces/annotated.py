"""The annotated video: a clip's frames with something drawn on, its own times, its sound."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from erray.faces.draw import draw_tracks
from erray.faces.track import ClipFaces
from erray.media import Waveform
from erray.store import replacing

CLOCK_HZ = 90_000  # ticks of the file's clock: what MPEG uses, every common rate fits
NOMINAL_RATE_HZ = 30  # what the encoder plans its bits with; frames keep their own times
SOUND_BLOCK_SAMPLES = 1024
SOUND_RATE_HZ = 48_000


def write_annotated(
    path: Path,
    frames: Iterable[tuple[float, NDArray[np.uint8]]],
    faces: ClipFaces,
    sound: Waveform | None,
) -> None:
    """Write an mp4 file of frames with the tracks that were found in them.

    Args:
        path: the file.
        frames: those that were tracked: time in seconds and uint8 RGB image.
        faces: their tracks.
        sound: mono, at ``SOUND_RATE_HZ``; None: silent.
    """
    drawn = (
        (time_s, draw_tracks(image_HWC, tick, faces.tracks))
        for tick, (time_s, image_HWC) in enumerate(frames)
    )
    write_video(path, drawn, sound)


def write_video(
    path: Path, pictures: Iterable[tuple[float, NDArray[np.uint8]]], sound: Waveform | None
) -> int:
    """Write an mp4 file (H.264 and AAC) whose first picture is at 0 s; return the pictures' number.

    Args:
        path: the file; whole or absent.
        pictures: time in seconds and uint8 RGB image, all of one size; at least one.
        sound: mono, at ``SOUND_RATE_HZ``, on the pictures' clock; None: silent.
    """
    remaining = iter(pictures)
    start_s, first_HWC = next(remaining)
    count = 0
    with replacing(path) as hidden, av.open(str(hidden), "w", format="mp4") as container:
        picture = _picture_stream(container, first_HWC)
        voice: Any = None
        if sound is not None and len(sound.samples_N):
            voice = container.add_stream("aac", rate=sound.rate_hz, layout="mono")
        for time_s, image_HWC in chain([(start_s, first_HWC)], remaining):
            height_px, width_px, _ = image_HWC.shape
            even = np.pad(image_HWC, ((0, height_px % 2), (0, width_px % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame.pts, frame.time_base = round((time_s - start_s) * CLOCK_HZ), picture.time_base
            container.mux(picture.encode(frame))
            count += 1
        container.mux(picture.encode(None))
        if voice is not None and sound is not None:
            _write_sound(container, voice, sound, start_s)
    return count


def _picture_stream(container: Any, image_HWC: NDArray[np.uint8]) -> Any:
    height_px, width_px, _ = image_HWC.shape
    stream = container.add_stream("libx264", rate=NOMINAL_RATE_HZ)
    # chroma is stored at half the size, for which sides are even
    stream.width, stream.height = width_px + width_px % 2, height_px + height_px % 2
    stream.pix_fmt, stream.options = "yuv420p", {"preset": "veryfast", "crf": "20"}
    stream.time_base = stream.codec_context.time_base = Fraction(1, CLOCK_HZ)
    return stream


def _write_sound(container: Any, stream: Any, sound: Waveform, start_s: float) -> None:
    offset = round((sound.start_s - start_s) * sound.rate_hz)
    samples_N = sound.samples_N[max(0, -offset) :]
    for first in range(0, len(samples_N), SOUND_BLOCK_SAMPLES):
        block = np.ascontiguousarray(samples_N[None, first : first + SOUND_BLOCK_SAMPLES])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sound.rate_hz, max(0, offset) + first
        frame.time_base = Fraction(1, sound.rate_hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
