"""The annotated video: a clip's frames with their tracks drawn on, its own times, its sound."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from erray.faces.draw import draw_tracks
from erray.faces.track import ClipFaces
from erray.media import Waveform

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
    """Write an mp4 file (H.264 and AAC).

    Args:
        path: the file.
        frames: those that were tracked: time in seconds and uint8 RGB image.
        faces: their tracks.
        sound: mono, at ``SOUND_RATE_HZ``; None: silent.
    """
    start_s = float(faces.frame_times_s_T[0])
    width_px, height_px = faces.frame_size_px
    with av.open(str(path), "w", format="mp4") as container:
        picture: Any = container.add_stream("libx264", rate=NOMINAL_RATE_HZ)
        # chroma is stored at half the size, for which sides are even
        picture.width, picture.height = width_px + width_px % 2, height_px + height_px % 2
        picture.pix_fmt, picture.options = "yuv420p", {"preset": "veryfast", "crf": "20"}
        picture.time_base = picture.codec_context.time_base = Fraction(1, CLOCK_HZ)
        voice: Any = None
        if sound is not None and len(sound.samples_N):
            voice = container.add_stream("aac", rate=sound.rate_hz, layout="mono")
        for tick, (time_s, image_HWC) in enumerate(frames):
            drawn = draw_tracks(image_HWC, tick, faces.tracks)
            drawn = np.pad(drawn, ((0, height_px % 2), (0, width_px % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(drawn, format="rgb24")
            frame.pts, frame.time_base = round((time_s - start_s) * CLOCK_HZ), picture.time_base
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        if voice is not None and sound is not None:
            _write_sound(container, voice, sound, start_s)


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
