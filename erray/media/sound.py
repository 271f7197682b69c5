"""The sound of a medium as a mono waveform on the medium's own clock."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.media.container import SEEK_MARGIN_S, Reach, opened
from erray.media.limits import MediaLimits

# Time stamps of sound jitter by a few samples; only a longer hole is kept as silence.
AUDIO_GAP_S = 0.05
_SAMPLE_BYTES = 4


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


def read_waveform(
    path: str | Path,
    *,
    start_s: float | None = None,
    end_s: float | None = None,
    rate_hz: int = 16000,
    limits: MediaLimits | None = None,
    heard: Callable[[float], None] | None = None,
) -> Waveform | None:
    """Return the sound of [start_s, end_s) as the mean of its channels at ``rate_hz``.

    The first sound stream is read. Holes between its time stamps become silence, so that a
    sample's index is its time. Sound that breaks off keeps what was decoded, with a note.

    Args:
        heard: told after every frame how many seconds are decoded.

    Returns:
        None where the medium has no sound stream that can be decoded.

    Raises:
        MediaError: the medium cannot be opened, lasts longer than the limits allow, or takes more
            memory than there is.
    """
    limits = limits or MediaLimits()
    span_start_s = -np.inf if start_s is None else start_s
    span_end_s = np.inf if end_s is None else end_s
    with opened(Path(path), limits) as container:
        if not container.streams.audio or container.streams.audio[0].codec_context is None:
            return None
        stream = container.streams.audio[0]
        if span_start_s > SEEK_MARGIN_S:
            _seek(container, stream, span_start_s - SEEK_MARGIN_S)
        sound = _Sound(rate_hz, span_start_s, span_end_s, limits.max_duration_s)
        reach, note = Reach(container), None
        try:
            for frame in _frames(container, stream, reach):
                if frame.time is not None and frame.time >= span_end_s:
                    break
                sound.add(frame)
                if heard is not None:
                    heard(sound.duration_s)
            else:
                if reach.falls_short(span_end_s):
                    note = f"sound ends at {sound.end_s:.3f} s: the medium is cut"
        except av.error.MemoryError as error:
            raise MediaError("no_memory: the sound takes more memory than there is") from error
        except av.FFmpegError as error:
            note = f"sound ends at {sound.end_s:.3f} s: {error.strerror}"
        return sound.cut(span_start_s, span_end_s, note)


def _frames(container: Any, stream: Any, reach: Reach) -> Iterator[Any]:
    """Decode ``stream``; the packets of pictures only tell how far the medium reaches."""
    for packet in container.demux(stream, *container.streams.video):
        reach.see(packet)
        if packet.stream.index == stream.index:
            yield from packet.decode()


def _seek(container: Any, stream: Any, time_s: float) -> None:
    try:
        container.seek(int(time_s / stream.time_base), stream=stream)
    except av.FFmpegError:
        container.seek(0)


class _Sound:
    """Collects decoded sound in runs without holes, each resampled by itself."""

    def __init__(self, rate_hz: int, start_s: float, end_s: float, max_duration_s: float) -> None:
        self._rate_hz = rate_hz
        self._start_s, self._end_s = start_s, end_s
        self._max_duration_s = max_duration_s
        self._origin_s: float | None = None
        # grows in place: an hour of sound takes 230 MB, once
        self._samples = io.BytesIO()
        self._resampler: Any = None
        self._form: tuple[Any, ...] = ()
        self.end_s = 0.0

    @property
    def duration_s(self) -> float:
        return 0.0 if self._origin_s is None else self.end_s - self._origin_s

    def _is_early(self, end_s: float) -> bool:
        """Whether a frame lies so far before the span that a seek would have skipped it."""
        return self._origin_s is None and end_s < self._start_s - SEEK_MARGIN_S

    def add(self, frame: Any) -> None:
        """Append one decoded frame; a frame without a time stamp follows the one before.

        Raises:
            MediaError: the sound lasts longer than allowed.
        """
        time_s = self.end_s if frame.time is None else frame.time
        if self._is_early(time_s + frame.samples / frame.sample_rate):
            self.end_s = time_s + frame.samples / frame.sample_rate
            return
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None or form != self._form or time_s > self.end_s + AUDIO_GAP_S:
            self._begin_run(time_s)
            self._form = form
        self.end_s += frame.samples / frame.sample_rate
        self._check_duration(self.end_s)
        frame.pts = None  # the resampler would fill or drop samples where stamps jitter
        self._append(self._resampler.resample(frame))

    def _begin_run(self, time_s: float) -> None:
        """Start a resampler of its own at ``time_s``, after silence up to there."""
        self._flush()
        if self._origin_s is None:
            self._origin_s = time_s
        self._check_duration(time_s)
        num_samples = self._samples.tell() // _SAMPLE_BYTES
        hole = max(0, round((time_s - self._origin_s) * self._rate_hz) - num_samples)
        self._samples.write(bytes(hole * _SAMPLE_BYTES))
        self._resampler = av.AudioResampler(format="fltp", rate=self._rate_hz)
        self.end_s = time_s

    def _check_duration(self, end_s: float) -> None:
        assert self._origin_s is not None
        length_s = min(end_s, self._end_s) - max(self._origin_s, self._start_s)
        if length_s > self._max_duration_s:
            raise MediaError(f"too_long: more than {self._max_duration_s:g} s of sound")

    def _flush(self) -> None:
        if self._resampler is not None:
            self._append(self._resampler.resample(None))
            self._resampler = None

    def _append(self, frames: list[Any]) -> None:
        for frame in frames:
            self._samples.write(frame.to_ndarray().mean(axis=0, dtype=np.float32).tobytes())

    def cut(self, start_s: float, end_s: float, note: str | None) -> Waveform:
        """Return the samples whose times lie in [start_s, end_s)."""
        self._flush()
        rate_hz, origin_s = self._rate_hz, self._origin_s
        if origin_s is None:
            return Waveform(np.zeros(0, np.float32), rate_hz, max(start_s, 0.0), note)
        samples_N = np.frombuffer(self._samples.getbuffer(), np.float32)
        first = 0 if start_s <= origin_s else _first_index(start_s - origin_s, rate_hz)
        last = len(samples_N) if np.isinf(end_s) else _first_index(end_s - origin_s, rate_hz)
        samples_N = samples_N[first : max(first, last)]
        np.nan_to_num(samples_N, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
        np.clip(samples_N, -1.0, 1.0, out=samples_N)
        return Waveform(samples_N, rate_hz, origin_s + first / rate_hz, note)


def _first_index(time_s: float, rate_hz: int) -> int:
    """Index of the first sample at or after ``time_s``, safe from rounding of whole samples."""
    return max(0, int(np.ceil(time_s * rate_hz - 1e-6)))
