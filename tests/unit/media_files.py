"""Tiny media whose every frame, time and sample is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TIME_BASE = Fraction(1, 1000)


def gray_of(index: int) -> int:
    return 20 + 5 * (index % 40)


def write_video(
    path: Path,
    times_ms: list[int],
    *,
    size_px: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    tone: tuple[int, int, float, float] | None = None,
) -> Path:
    """Frame i is plain gray ``gray_of(i)`` with a white top left corner.

    ``tone``: (rate_hz, channels, start_s, end_s) of a 440 Hz tone beside the picture.
    """
    width, height = size_px
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.time_base = TIME_BASE
        sound = None
        if tone:
            codec_name = "pcm_s16le" if path.suffix == ".mkv" else "aac"
            layout = {1: "mono", 2: "stereo"}[tone[1]]
            sound = out.add_stream(codec_name, rate=tone[0], layout=layout)
        for index, time_ms in enumerate(times_ms):
            image = np.full((height, width, 3), gray_of(index), np.uint8)
            image[: height // 3, : width // 3] = 255
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = time_ms, TIME_BASE
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if tone and sound is not None:
            mux_tone(out, sound, *tone)
    return path


def mux_tone(out, sound, rate_hz: int, channels: int, start_s: float, end_s: float) -> None:
    layout = {1: "mono", 2: "stereo"}[channels]
    t = np.arange(round((end_s - start_s) * rate_hz)) / rate_hz
    wave = (0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    samples = np.stack([wave] + [np.zeros_like(wave)] * (channels - 1))
    fmt = sound.codec_context.format.name
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
    frame.sample_rate = rate_hz
    frame.pts, frame.time_base = round(start_s * rate_hz), Fraction(1, rate_hz)
    resampler = av.AudioResampler(
        format=fmt, layout=layout, rate=rate_hz, frame_size=sound.codec_context.frame_size or None
    )
    for piece in [*resampler.resample(frame), *resampler.resample(None)]:
        out.mux(sound.encode(piece))
    out.mux(sound.encode(None))


def write_wav(path: Path, samples_CN: np.ndarray, rate_hz: int) -> Path:
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(samples_CN)]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("pcm_f32le", rate=rate_hz, layout=layout)
        packed = np.ascontiguousarray(samples_CN.T.reshape(1, -1), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate = rate_hz
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def cut_file(path: Path, source: Path) -> Path:
    """The first half of the media bytes of ``source`` (an mp4 with its header in front)."""
    data = source.read_bytes()
    media_at = data.index(b"mdat")
    path.write_bytes(data[: media_at + (len(data) - media_at) // 2])
    return path


def write_images(path: Path, images: list[np.ndarray], *, rate_hz: int = 25) -> Path:
    """One frame per image [H, W, 3] at a constant rate; sides are even."""
    height, width = images[0].shape[:2]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate_hz, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in images:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        out.mux(stream.encode(None))
    return path
