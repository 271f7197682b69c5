"""The child process of a :class:`erray.media.decoder.Decoder`: decodes one medium after another.

Requests come through standard input, replies leave through what was standard output, a JSON object
a line; a frame's pixels go to slot ``number % num_slots`` of a ring in shared memory, and a line
that says ``"credit"`` gives a slot back.

Before the first medium is opened the process takes its own rights away: memory and file sizes are
limited, and one single file descriptor is left to open, the medium's. Another file, a socket or
a library's surprise finds none.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

# PyAV loads these when a medium has such a stream: too late, once no file may be opened
import av.audio.codeccontext
import av.audio.stream
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext
import av.video.stream  # noqa: F401
import numpy as np
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.media.facts import read_facts
from erray.media.limits import MediaLimits
from erray.media.sound import read_waveform
from erray.media.video import VideoReader

CREDIT = "credit"
MAX_SLOTS = 16
_SOUND_PIECE = 1 << 18  # samples written to the ring at a time
_PROGRESS_S = 1.0
_GRACE_S = 10  # the parent ends a child that stalls; an orphan ends itself this much later


def num_slots(ring_bytes: int, frame_bytes: int) -> int:
    """Frames of a size that lie in the ring at a time."""
    return min(MAX_SLOTS, ring_bytes // frame_bytes)


def main() -> None:
    """Serve requests until the parent closes the pipe."""
    limits = MediaLimits(**json.loads(sys.argv[1]))
    ring = mmap.mmap(int(sys.argv[2]), 0)
    os.close(int(sys.argv[2]))
    child = _Child(limits, ring, replies=_private_stdout())
    _take_rights_away(limits)
    child.reply("ready", None)
    child.serve()


def _private_stdout() -> int:
    """Keep standard output for replies: what a library prints goes nowhere."""
    replies = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return replies


def _take_rights_away(limits: MediaLimits) -> None:
    lowest_free = os.dup(0)
    os.close(lowest_free)
    for what, most in (
        (resource.RLIMIT_NOFILE, lowest_free + 1),
        (resource.RLIMIT_DATA, limits.max_memory_bytes),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


class _Child:
    def __init__(self, limits: MediaLimits, ring: mmap.mmap, *, replies: int) -> None:
        self._limits, self._ring, self._replies = limits, ring, replies
        self._requests = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        self._told_s = 0.0

    def reply(self, kind: str, value: Any) -> None:
        """Send one line."""
        line = json.dumps({kind: value}).encode() + b"\n"
        while line:
            line = line[os.write(self._replies, line) :]

    def serve(self) -> None:
        """Answer one request after another; a refused medium is an answer too."""
        jobs: dict[str, Callable[..., Any]] = {
            "frames": self._frames,
            "times": self._times,
            "waveform": self._waveform,
            "facts": self._facts,
        }
        while line := self._requests.readline():
            request = json.loads(line)
            if request == CREDIT:
                continue  # of frames that needed none
            self._postpone_end()
            try:
                self.reply("end", jobs[request.pop("job")](**request))
            except MediaError as error:
                self.reply("rejected", str(error))
            except MemoryError:
                # what is left of the heap is of no use to the next medium
                self.reply("no_memory", None)
                return
            except BaseException:
                self.reply("defect", traceback.format_exc())
                raise
            signal.alarm(0)

    def _postpone_end(self) -> None:
        """Die if nothing happens for long, even when the parent is not there to notice."""
        signal.alarm(round(self._limits.stall_s) + _GRACE_S)

    def _await_credit(self) -> None:
        signal.alarm(0)  # waiting for the parent is no stall
        if not self._requests.readline():
            sys.exit(0)  # the parent has gone
        self._postpone_end()

    def _facts(self, path: str) -> dict[str, Any]:
        return asdict(read_facts(path, limits=self._limits))

    def _frames(self, path: str, start_s: float | None, end_s: float | None) -> dict[str, Any]:
        reader = VideoReader(path, start_s=start_s, end_s=end_s, limits=self._limits)
        slots_SHWC: NDArray[np.uint8] = np.zeros((0, 0, 0, 0), np.uint8)
        for number, (time_s, view_HWC) in enumerate(reader.views()):
            if number == 0:
                slots_SHWC = self._slots(view_HWC.shape)
                self.reply("shape", view_HWC.shape)
            if number >= len(slots_SHWC):
                self._await_credit()
            slots_SHWC[number % len(slots_SHWC)] = view_HWC
            self.reply("frame", time_s)
            self._postpone_end()
        return {"note": reader.note}

    def _times(self, path: str, start_s: float | None, end_s: float | None) -> dict[str, Any]:
        reader = VideoReader(path, start_s=start_s, end_s=end_s, limits=self._limits)
        times_s = []
        for time_s in reader.times_s():
            times_s.append(time_s)
            self._heard(time_s - times_s[0])
        return {"times_s": times_s, "note": reader.note}

    def _slots(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        frame_bytes = math.prod(shape)
        count = num_slots(len(self._ring), frame_bytes)
        if count == 0:
            raise MediaError(f"too_large: frames of {shape[1]}x{shape[0]} pixels")
        return np.frombuffer(self._ring, np.uint8, count * frame_bytes).reshape(count, *shape)

    def _waveform(
        self, path: str, start_s: float | None, end_s: float | None, rate_hz: int
    ) -> dict[str, Any] | None:
        wave = read_waveform(
            path,
            start_s=start_s,
            end_s=end_s,
            rate_hz=rate_hz,
            limits=self._limits,
            heard=self._heard,
        )
        if wave is None:
            return None
        self.reply("samples", len(wave.samples_N))
        piece_N = np.frombuffer(self._ring, np.float32, _SOUND_PIECE)
        for first in range(0, len(wave.samples_N), _SOUND_PIECE):
            part_N = wave.samples_N[first : first + _SOUND_PIECE]
            piece_N[: len(part_N)] = part_N
            self.reply("piece", len(part_N))
            self._await_credit()
        return {"rate_hz": wave.rate_hz, "start_s": wave.start_s, "note": wave.note}

    def _heard(self, duration_s: float) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s > _PROGRESS_S:
            self._told_s = now_s
            self._postpone_end()
            self.reply("heard", duration_s)


if __name__ == "__main__":
    main()
