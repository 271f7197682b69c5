"""Decoding of one local medium: frames with presentation times, and its sound as a mono waveform.

Times are the container's presentation time stamps in seconds; nothing is derived from a frame's
index and an average rate, which is wrong for variable-rate and for cut files. This file imports
only numpy and PyAV, so that a child process which decodes untrusted files stays small.

What is refused before a byte is decoded: anything but a local file, formats outside
:data:`FORMATS` (play lists and concat lists open other files) and pictures above a size limit
(a small file can ask for gigabytes).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from numpy.typing import NDArray

from erray.errors import MediaError

# Names of FFmpeg demuxers. Left out on purpose: hls, dash, concat, sdp and image sequences, which
# open other files, and raw streams, which have no clock.
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,aiff,flac,mp3,aac,amr"

# A decoder needs data from before the first wanted frame or sample: B-frames whose key frame
# lies behind their time stamp, the bit reservoir of MP3, the overlap of AAC and Opus.
SEEK_MARGIN_S = 1.0
# Time stamps of sound jitter by a few samples; only a longer hole is kept as silence.
AUDIO_GAP_S = 0.05


@dataclass(frozen=True)
class MediaLimits:
    """What one medium may ask for.

    Attributes:
        max_pixels: width times height of a frame; 8K (7680 x 4320) is above the default.
        max_frames: frames of one span.
        max_duration_s: time between the first and the last frame or sample of one span.
    """

    max_pixels: int = 4096 * 2304
    max_frames: int = 400_000
    max_duration_s: float = 2 * 3600.0


@dataclass(frozen=True)
class Waveform:
    """Mono sound; sample n is at ``start_s + n / rate_hz`` of the medium's clock.

    Attributes:
        samples_N: float32 in [-1, 1]; empty where the span holds no sound.
        note: None, or ``sound ends at ... s: ...`` where decoding broke off.
    """

    samples_N: NDArray[np.float32]
    rate_hz: int
    start_s: float
    note: str | None = None


class VideoReader:
    """Frames of a span of a medium in presentation order.

    Iterating yields ``(time_s, image_HWC)``: strictly increasing presentation times, uint8 RGB
    images turned upright by the container's display matrix, all of the first frame's size. Each
    iteration reads the file anew and holds one frame at a time.

    Args:
        path: a local file.
        start_s: first time of the half-open span on the medium's clock; None: from the start.
        end_s: first time after the span; None: to the end.
        limits: see :class:`MediaLimits`.
        num_threads: decoder threads. One keeps memory low and runs equal.

    Attributes:
        note: after an iteration, None or what is missing, for instance ``truncated 28/50``
            (frames decoded, frames in the header).

    Raises:
        MediaError: while iterating, when the medium yields no frame (``no_media``, ``empty``,
            ``not_media``, ``no_video``, ``no_decoder``, ``no_frames``, ``no_clock``,
            ``decode_failed``) or exceeds the limits (``too_large``, ``too_long``).
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        limits: MediaLimits | None = None,
        num_threads: int = 1,
    ) -> None:
        self.path = Path(path)
        self.start_s = start_s
        self.end_s = end_s
        self.limits = limits or MediaLimits()
        self.num_threads = num_threads
        self.note: str | None = None

    def __iter__(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        self.note = None
        with _opened(self.path, self.limits) as container:
            stream = self._video_stream(container)
            yield from self._checked(_FrameSource(container, stream, self.start_s, self.end_s))

    def _video_stream(self, container: Any) -> Any:
        streams = [s for s in container.streams.video if not _is_cover_picture(s)]
        if not streams:
            raise MediaError("no_video: the medium has no video stream")
        stream = streams[0]
        codec = stream.codec_context
        if codec is None:
            raise MediaError("no_decoder: the video's codec is unknown")
        if codec.width * codec.height > self.limits.max_pixels:
            raise MediaError(
                f"too_large: frames of {codec.width}x{codec.height} pixels, "
                f"expected at most {self.limits.max_pixels} pixels"
            )
        codec.options = {"max_pixels": str(self.limits.max_pixels)}
        codec.thread_count = self.num_threads
        return stream

    def _checked(self, source: _FrameSource) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        first_s = last_s = -np.inf
        num_frames, size_px = 0, (0, 0)
        for frame in source:
            time_s = frame.time
            if time_s <= last_s:
                continue
            if num_frames == 0:
                first_s, size_px = time_s, (frame.width, frame.height)
            if num_frames >= self.limits.max_frames:
                raise MediaError(f"too_long: more than {self.limits.max_frames} frames")
            if time_s - first_s > self.limits.max_duration_s:
                raise MediaError(f"too_long: more than {self.limits.max_duration_s:g} s")
            last_s, num_frames = time_s, num_frames + 1
            yield time_s, _upright_image(frame, size_px)
        if num_frames == 0:
            raise MediaError(source.reason_for_nothing())
        self.note = source.missing(num_frames, last_s)


class _FrameSource:
    """Decoded frames of [start_s, end_s) in decoder order, and why they ended."""

    def __init__(
        self, container: Any, stream: Any, start_s: float | None, end_s: float | None
    ) -> None:
        self._container = container
        self._stream = stream
        self._start_s = -np.inf if start_s is None else start_s
        self._end_s = np.inf if end_s is None else end_s
        self._error: av.FFmpegError | None = None
        self._reached_end = False
        self._num_packets = 0
        self._num_without_time = 0

    def __iter__(self) -> Iterator[Any]:
        sought = self._start_s > SEEK_MARGIN_S and self._seek(self._start_s - SEEK_MARGIN_S)
        frames = self._decode()
        first = next(frames, None)
        if sought and (first is None or first.time > self._start_s):
            # An index that points too far would lose frames of the span: read from the start.
            self._error, self._num_packets = None, 0
            self._seek(-SEEK_MARGIN_S)
            frames = self._decode()
            first = next(frames, None)
        while first is not None and first.time < self._end_s:
            if first.time >= self._start_s:
                yield first
            first = next(frames, None)

    def _seek(self, time_s: float) -> bool:
        try:
            self._container.seek(int(time_s / self._stream.time_base), stream=self._stream)
        except av.FFmpegError:
            return False  # not every format can; the frames before the span are then decoded
        self._stream.codec_context.flush_buffers()
        return True

    def _decode(self) -> Iterator[Any]:
        try:
            for packet in self._container.demux(self._stream):
                self._num_packets += packet.size > 0
                for frame in packet.decode():
                    if frame.time is None:
                        self._num_without_time += 1
                    else:
                        yield frame
            self._reached_end = True
        except av.FFmpegError as error:
            self._error = error

    def reason_for_nothing(self) -> str:
        """Say why not a single frame came out."""
        if self._error is not None:
            return f"decode_failed: {self._error.strerror}"
        if self._num_without_time:
            return "no_clock: the frames carry no presentation times"
        return "no_frames: the video stream yields no frame in the span"

    def missing(self, num_frames: int, last_s: float) -> str | None:
        """Say how much of what the header promised was decoded; None when nothing is missing.

        A header that counts more frames than were decoded is no proof of loss: edit lists hide
        frames on purpose, and these still pass as packets. Packets fewer than the header counts,
        or an error of the decoder, are.
        """
        whole = self._start_s <= 0 and np.isinf(self._end_s)
        in_header = self._stream.frames
        cut = self._reached_end and whole and self._num_packets < in_header
        if self._error is None and not cut:
            return None
        if whole and in_header:
            return f"truncated {num_frames}/{in_header}"
        return f"truncated after {last_s:.3f} s"


def read_waveform(
    path: str | Path,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    rate_hz: int = 16000,
    limits: MediaLimits | None = None,
) -> Waveform | None:
    """Return the sound of [start_s, end_s) as the mean of its channels at ``rate_hz``.

    The first sound stream is read. Holes between its time stamps become silence, so that a
    sample's index is its time. Sound that breaks off keeps what was decoded, with a note.

    Returns:
        None where the medium has no sound stream that can be decoded.

    Raises:
        MediaError: the medium cannot be opened, or lasts longer than the limits allow.
    """
    limits = limits or MediaLimits()
    span_start_s = -np.inf if start_s is None else start_s
    span_end_s = np.inf if end_s is None else end_s
    with _opened(Path(path), limits) as container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            return None
        stream = container.streams.audio[0]
        if span_start_s > SEEK_MARGIN_S:
            try:
                container.seek(
                    int((span_start_s - SEEK_MARGIN_S) / stream.time_base), stream=stream
                )
            except av.FFmpegError:
                container.seek(0)
        sound = _Sound(rate_hz)
        note = None
        try:
            for frame in container.decode(stream):
                if frame.time is not None and frame.time >= span_end_s:
                    break
                sound.add(frame)
                if sound.duration_s > limits.max_duration_s:
                    raise MediaError(f"too_long: more than {limits.max_duration_s:g} s of sound")
        except av.FFmpegError as error:
            note = f"sound ends at {sound.end_s:.3f} s: {error.strerror}"
        return sound.cut(span_start_s, span_end_s, note)


class _Sound:
    """Collects decoded sound in runs without holes, each resampled by itself."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._runs: list[tuple[float, list[NDArray[np.float32]]]] = []
        self._resampler: Any = None
        self._form: tuple[Any, ...] = ()
        self.end_s = 0.0

    @property
    def duration_s(self) -> float:
        return self.end_s - self._runs[0][0] if self._runs else 0.0

    def add(self, frame: Any) -> None:
        """Append one decoded frame; a frame without a time stamp follows the one before."""
        time_s = self.end_s if frame.time is None else frame.time
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or form != self._form or time_s > self.end_s + AUDIO_GAP_S:
            self._flush()
            self._resampler = av.AudioResampler(format="fltp", rate=self._rate_hz)
            self._form = form
            self._runs.append((time_s, []))
            self.end_s = time_s
        self.end_s += frame.samples / frame.sample_rate
        frame.pts = None  # the resampler would fill or drop samples where stamps jitter
        self._append(self._resampler.resample(frame))

    def _flush(self) -> None:
        if self._resampler is not None:
            self._append(self._resampler.resample(None))
            self._resampler = None

    def _append(self, frames: list[Any]) -> None:
        chunks = self._runs[-1][1]
        chunks.extend(f.to_ndarray().mean(axis=0, dtype=np.float32) for f in frames)

    def cut(self, start_s: float, end_s: float, note: str | None) -> Waveform:
        """Join the runs and keep the samples whose times lie in [start_s, end_s)."""
        self._flush()
        if not self._runs:
            return Waveform(np.zeros(0, np.float32), self._rate_hz, max(start_s, 0.0), note)
        rate_hz, origin_s = self._rate_hz, self._runs[0][0]
        parts: list[NDArray[np.float32]] = []
        num_samples = 0
        for run_s, chunks in self._runs:
            hole = max(0, round((run_s - origin_s) * rate_hz) - num_samples)
            parts += [np.zeros(hole, np.float32), *chunks]
            num_samples += hole + sum(len(chunk) for chunk in chunks)
        samples_N = np.nan_to_num(np.concatenate(parts), nan=0.0, posinf=0.0, neginf=0.0)
        first = 0 if start_s <= origin_s else _first_index(start_s - origin_s, rate_hz)
        last = num_samples if np.isinf(end_s) else _first_index(end_s - origin_s, rate_hz)
        samples_N = np.clip(samples_N[first : max(first, last)], -1.0, 1.0)
        return Waveform(samples_N, rate_hz, origin_s + first / rate_hz, note)


def _first_index(time_s: float, rate_hz: int) -> int:
    """Index of the first sample at or after ``time_s``, safe from rounding of whole samples."""
    return max(0, int(np.ceil(time_s * rate_hz - 1e-6)))


@contextmanager
def _opened(path: Path, limits: MediaLimits) -> Iterator[Any]:
    """Open a local medium with every door but the allowed formats shut."""
    if not path.is_file():
        raise MediaError(f"no_media: {path} is not a file")
    if path.stat().st_size == 0:
        raise MediaError(f"empty: {path} has no bytes")
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "file",
        "max_pixels": str(limits.max_pixels),
    }
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        raise MediaError(f"not_media: {error.strerror}") from error
    with container:
        yield container


def _is_cover_picture(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _upright_image(frame: Any, size_px: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the frame as RGB, scaled to ``size_px`` and turned by its display matrix.

    The matrix has fixed-point entries [a b u, c d v, x y w]; a pixel (x, y), y downwards, goes to
    (a x + c y, b x + d y). Only quarter turns and mirrors occur in practice, others are rounded
    to the nearest of the eight.
    """
    image_HWC = frame.to_ndarray(format="rgb24", width=size_px[0], height=size_px[1])
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return image_HWC
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        image_HWC = image_HWC.transpose(1, 0, 2)
        a, d = c, b
    image_HWC = image_HWC[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(image_HWC)
