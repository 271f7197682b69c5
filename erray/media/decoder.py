"""The parent's side of decoding in a child process: a medium can end the child, never the parent.

One child serves any number of media and decodes ahead while its parent works on the frames. It is
replaced after a medium that ended it: by a crash of the codec, by its limit on memory, or by the
parent because it stalled.

    parent   request ->          <- shape, frame 0, frame 1 ...   credit ->      <- end
    child             decodes, writes pixels into the ring, waits when it is full
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.media.child import CREDIT, num_slots
from erray.media.child_process import ChildProcess
from erray.media.facts import MediaFacts
from erray.media.limits import MediaLimits
from erray.media.sound import Waveform


class Decoder:
    """Decodes media in a child process within limits; start-up costs about 0.3 s, once.

    Every method raises :class:`erray.errors.MediaError` for a medium that cannot be decoded or
    exceeds the limits, with the codes of :class:`erray.media.VideoReader` and besides
    ``decoder_died`` (the codec crashed), ``timeout`` and ``no_memory``. These three reject the
    medium whole: how far they come depends on the machine.

    A decoder serves one caller at a time. Used as a context manager it ends its child at the end
    of the block, else with itself.
    """

    def __init__(self, limits: MediaLimits | None = None) -> None:
        self.limits = limits or MediaLimits()
        self._child: ChildProcess | None = None

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next call would start another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def probe(self, path: str | Path) -> MediaFacts:
        """Return what the medium's header says."""
        return MediaFacts(**self._request("facts", path).end())

    def waveform(
        self,
        path: str | Path,
        *,
        start_s: float | None = None,
        end_s: float | None = None,
        rate_hz: int = 16000,
    ) -> Waveform | None:
        """Return the sound of a span, see :func:`erray.media.read_waveform`."""
        answer = self._request("waveform", path, start_s=start_s, end_s=end_s, rate_hz=rate_hz)
        return answer.waveform()

    def frames(
        self, path: str | Path, *, start_s: float | None = None, end_s: float | None = None
    ) -> DecodedFrames:
        """Return the frames of a span, see :class:`erray.media.VideoReader`."""
        return DecodedFrames(self, path, start_s, end_s)

    def times(
        self, path: str | Path, *, start_s: float | None = None, end_s: float | None = None
    ) -> tuple[NDArray[np.float64], str | None]:
        """Return the times of the frames of a span alone, and the note, without the pictures."""
        end = self._request("times", path, start_s=start_s, end_s=end_s).end()
        return np.array(end["times_s"]), end["note"]

    def _request(self, job: str, path: str | Path, **span: Any) -> _Answer:
        if self._child is None or self._child.ended:
            self._child = ChildProcess(self.limits)
        self._child.send({"job": job, "path": str(path), **span})
        return _Answer(self._child, self.limits)


class DecodedFrames:
    """Frames of a span of a medium in presentation order, as :class:`erray.media.VideoReader`'s.

    Attributes:
        note: after an iteration, None or what is missing.
    """

    def __init__(
        self, decoder: Decoder, path: str | Path, start_s: float | None, end_s: float | None
    ) -> None:
        self._decoder, self._path = decoder, path
        self._start_s, self._end_s = start_s, end_s
        self.note: str | None = None

    def __iter__(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        self.note = None
        answer = self._decoder._request(
            "frames", self._path, start_s=self._start_s, end_s=self._end_s
        )
        try:
            yield from answer.frames()
        finally:
            answer.abandon()
        self.note = answer.note


class _Answer:
    """What the child replies to one request, and how long that may take."""

    def __init__(self, process: ChildProcess, limits: MediaLimits) -> None:
        self._child, self._limits = process, limits
        self._waited_s = 0.0
        self._media_s = 0.0
        self._complete = False
        self.note: str | None = None

    def end(self) -> Any:
        """Return the last reply."""
        while (reply := self._next())[0] == "heard":
            self._media_s = reply[1]
        assert reply[0] == "end", reply[0]
        return reply[1]

    def frames(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield the frames; the note is in :attr:`note` afterwards."""
        _, shape = self._next()
        frame_bytes = math.prod(shape)
        count = num_slots(len(self._child.ring), frame_bytes)
        ring = np.frombuffer(self._child.ring, np.uint8, count * frame_bytes)
        slots_SHWC = ring.reshape(count, *shape)
        number, first_s = 0, 0.0
        while (reply := self._next())[0] != "end":
            time_s = reply[1]
            first_s = first_s if number else time_s
            self._media_s = time_s - first_s
            image_HWC = slots_SHWC[number % count].copy()
            self._child.send(CREDIT)
            number += 1
            yield time_s, image_HWC
        self.note = reply[1]["note"]

    def waveform(self) -> Waveform | None:
        """Return the sound, None where there is none."""
        while (reply := self._next())[0] == "heard":
            self._media_s = reply[1]
        if reply[0] == "end":
            return None
        samples_N, filled = np.empty(reply[1], np.float32), 0
        while filled < len(samples_N):
            _, count = self._next()
            samples_N[filled : filled + count] = np.frombuffer(self._child.ring, np.float32, count)
            filled += count
            self._child.send(CREDIT)
        return Waveform(samples_N, **self.end())

    def abandon(self) -> None:
        """End a child that would go on with frames nobody waits for."""
        if not self._complete:
            self._child.end()

    def _next(self) -> tuple[str, Any]:
        allowed_s = self._limits.stall_s + self._media_s / self._limits.min_speed
        patience_s = min(self._limits.stall_s, allowed_s - self._waited_s)
        start_s = time.monotonic()
        try:
            kind, value = self._child.receive(patience_s)
        except TimeoutError:
            raise MediaError(
                f"timeout: decoding came no further than {self._media_s:.3f} s in "
                f"{self._waited_s + time.monotonic() - start_s:.0f} s"
            ) from None
        self._waited_s += time.monotonic() - start_s
        self._complete = kind in ("end", "rejected")
        if kind == "rejected":
            raise MediaError(value)
        return kind, value
