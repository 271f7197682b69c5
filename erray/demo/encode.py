"""Frames and a waveform into an mp4 file (H.264 and AAC) whose bytes depend on nothing else."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

FRAME_RATE_HZ = 25
SAMPLE_RATE_HZ = 16_000
_AUDIO_BLOCK_SAMPLES = 1024


def _write_video(
    container: av.container.OutputContainer, frames: Iterable[NDArray[np.uint8]]
) -> int:
    # x264 gives the same bytes everywhere only on a single thread.
    options: dict[str, object] = {"preset": "superfast", "crf": "22", "threads": "1"}
    stream: av.VideoStream | None = None
    num_frames = 0
    for picture_HW3 in frames:
        if stream is None:
            stream = container.streams.video[0]
            stream.height, stream.width = picture_HW3.shape[:2]
            stream.pix_fmt, stream.options = "yuv420p", options
        frame = av.VideoFrame.from_ndarray(picture_HW3, format="rgb24")
        frame.pts, frame.time_base = num_frames, Fraction(1, FRAME_RATE_HZ)
        container.mux(stream.encode(frame))
        num_frames += 1
    assert stream is not None, "a clip has at least one frame"
    container.mux(stream.encode(None))
    return num_frames


def _write_audio(container: av.container.OutputContainer, waveform_N: NDArray[np.float32]) -> None:
    stream = container.streams.audio[0]
    for start in range(0, len(waveform_N), _AUDIO_BLOCK_SAMPLES):
        block = np.ascontiguousarray(waveform_N[None, start : start + _AUDIO_BLOCK_SAMPLES])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SAMPLE_RATE_HZ, start
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_mp4(
    path: Path, frames: Iterable[NDArray[np.uint8]], waveform_N: NDArray[np.float32]
) -> int:
    """Write frames ([H, W, 3] uint8 RGB, 25 per second) and mono sound (16 kHz, [-1, 1]).

    Returns the number of frames written.
    """
    with av.open(str(path), "w", format="mp4") as container:
        container.add_stream("libx264", rate=FRAME_RATE_HZ)
        # The coder's default search for quantisers takes twice the time and gains nothing here.
        sound = container.add_stream("aac", rate=SAMPLE_RATE_HZ, layout="mono", bit_rate=64_000)
        sound.options = {"aac_coder": "fast"}
        num_frames = _write_video(container, frames)
        _write_audio(container, waveform_N)
    return num_frames
