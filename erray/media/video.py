"""Frames of a medium in presentation order, upright, with their times."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.media.container import SEEK_MARGIN_S, Reach, is_cover_picture, opened
from erray.media.limits import MediaLimits


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
            ``decode_failed``) or exceeds the limits (``too_large``, ``too_long``, ``no_memory``).
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
        for time_s, view_HWC in self.views():
            yield time_s, np.array(view_HWC)

    def views(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield what iterating yields, but images that hold only until the next one.

        They are read-only views, not contiguous where the picture is turned: for callers that
        copy anyway.
        """
        scaler = VideoReformatter()  # one for all frames: it keeps its tables
        size_px: tuple[int, int] | None = None
        for time_s, frame in self._frames():
            size_px = size_px or (frame.width, frame.height)
            yield time_s, _upright_view(scaler, frame, size_px)

    def times_s(self) -> Iterator[float]:
        """Yield the frames' times alone; spares the conversion of the pictures."""
        for time_s, _ in self._frames():
            yield time_s

    def _frames(self) -> Iterator[tuple[float, Any]]:
        self.note = None
        with opened(self.path, self.limits) as container:
            stream = self._video_stream(container)
            yield from self._checked(_FrameSource(container, stream, self.start_s, self.end_s))

    def _video_stream(self, container: Any) -> Any:
        streams = [s for s in container.streams.video if not is_cover_picture(s)]
        if not streams:
            raise MediaError("no_video: the medium has no video stream")
        stream = streams[0]
        codec = stream.codec_context
        if codec is None:
            raise MediaError("no_decoder: the video's codec is unknown")
        if codec.width * codec.height == 0:
            # what FFmpeg makes of a size beyond max_pixels, for some codecs
            raise MediaError(
                f"too_large: frames without a size or of more than {self.limits.max_pixels} pixels"
            )
        if codec.width * codec.height > self.limits.max_pixels:
            raise MediaError(
                f"too_large: frames of {codec.width}x{codec.height} pixels, "
                f"expected at most {self.limits.max_pixels} pixels"
            )
        codec.options = {"max_pixels": str(self.limits.max_pixels)}
        codec.thread_count = self.num_threads
        return stream

    def _checked(self, source: _FrameSource) -> Iterator[tuple[float, Any]]:
        """Drop repeated times, hold the limits, note at the end what is missing."""
        first_s = last_s = -np.inf
        num_frames = 0
        for frame in source:
            time_s = frame.time
            if time_s <= last_s:
                continue
            if num_frames == 0:
                first_s = time_s
            if num_frames >= self.limits.max_frames:
                raise MediaError(f"too_long: more than {self.limits.max_frames} frames")
            if time_s - first_s > self.limits.max_duration_s:
                raise MediaError(f"too_long: more than {self.limits.max_duration_s:g} s")
            last_s, num_frames = time_s, num_frames + 1
            yield time_s, frame
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
        self._reach = Reach(container)

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
        for packet in self._packets():
            self._reach.see(packet)
            if packet.stream.index != self._stream.index:
                continue
            self._num_packets += packet.size > 0
            try:
                frames = packet.decode()
            except av.error.MemoryError as error:
                # not damage, and more memory would help: half a clip must not pass for the whole
                raise MediaError("no_memory: a frame takes more memory than there is") from error
            except av.FFmpegError as error:
                self._error = error
                return
            for frame in frames:
                if frame.time is None:
                    self._num_without_time += 1
                else:
                    yield frame

    def _packets(self) -> Iterator[Any]:
        try:
            # sound too, undecoded: it tells whether the medium goes on where the pictures end
            yield from self._container.demux(self._stream, *self._container.streams.audio)
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
        packets that end before its length, or an error of the decoder, are.
        """
        whole = self._start_s <= 0 and np.isinf(self._end_s)
        in_header = self._stream.frames
        cut = self._reached_end and (
            self._reach.falls_short(self._end_s) or (whole and self._num_packets < in_header)
        )
        if self._error is None and not cut:
            return None
        if whole and in_header:
            return f"truncated {num_frames}/{in_header}"
        return f"truncated after {last_s:.3f} s"


def _upright_view(
    scaler: VideoReformatter, frame: Any, size_px: tuple[int, int]
) -> NDArray[np.uint8]:
    """Return the frame as RGB, scaled to ``size_px`` and turned by its display matrix.

    The matrix has fixed-point entries [a b u, c d v, x y w]; a pixel (x, y), y downwards, goes to
    (a x + c y, b x + d y). Only quarter turns and mirrors occur in practice, others are rounded
    to the nearest of the eight.
    """
    width_px, height_px = size_px
    rgb = scaler.reformat(frame, width=width_px, height=height_px, format="rgb24", threads=1)
    plane = rgb.planes[0]
    rows_HS = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    image_HWC = rows_HS[:height_px, : width_px * 3].reshape(height_px, width_px, 3)
    matrix = frame.side_data.get(SideData.DISPLAYMATRIX)
    if matrix is None:
        return image_HWC
    a, b, _, c, d = np.frombuffer(bytes(matrix), dtype=np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        image_HWC = image_HWC.transpose(1, 0, 2)
        a, d = c, b
    return image_HWC[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
