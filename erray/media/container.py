"""Opening of a medium: every door but a local file of an allowed format is shut.

What is refused before a byte is decoded: anything but a local file, formats outside
:data:`FORMATS` (play lists and concat lists open other files) and pictures above a size limit
(a small file can ask for gigabytes).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av

from erray.errors import MediaError
from erray.media.limits import MediaLimits

# Names of FFmpeg demuxers. Left out on purpose: hls, dash, concat, sdp and image sequences, which
# open other files, and raw streams, which have no clock.
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,ogg,wav,w64,aiff,flac,mp3,aac,amr"

# A decoder needs data from before the first wanted frame or sample: B-frames whose key frame
# lies behind their time stamp, the bit reservoir of MP3, the overlap of AAC and Opus.
SEEK_MARGIN_S = 1.0
# A medium that ends this much before the length in its header has been cut.
CUT_S = 0.5
# Formats without a length of their own: FFmpeg guesses it from the size of the file.
_GUESSED_LENGTH = ("mp3", "aac", "amr")


@contextmanager
def opened(path: Path, limits: MediaLimits) -> Iterator[Any]:
    """Yield the open container of a local medium.

    Raises:
        MediaError: ``no_media`` (no such file), ``empty``, ``not_media``, ``no_memory``.
    """
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
    except av.error.MemoryError as error:
        raise MediaError("no_memory: the header takes more memory than there is") from error
    except av.FFmpegError as error:
        raise MediaError(f"not_media: {error.strerror}") from error
    with container:
        yield container


def is_cover_picture(stream: Any) -> bool:
    """Tell a picture that belongs to sound (an album's cover) from a video stream."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


class Reach:
    """How far the packets of all streams reach, against the length in the header.

    A cut Matroska, WebM or FLAC file ends without an error. One stream may well end before the
    others, so all of them count.
    """

    def __init__(self, container: Any) -> None:
        start_s = (container.start_time or 0) / av.time_base
        known = container.duration is not None and container.format.name not in _GUESSED_LENGTH
        self._header_end_s = start_s + container.duration / av.time_base if known else None
        self._end_s = -math.inf

    def see(self, packet: Any) -> None:
        """Take note of one packet."""
        if packet.pts is not None:
            end = packet.pts + (packet.duration or 0)
            self._end_s = max(self._end_s, float(end * packet.time_base))

    def falls_short(self, end_s: float) -> bool:
        """Whether the packets ended clearly before ``end_s`` and before the header's end."""
        if self._header_end_s is None:
            return False
        return self._end_s < min(end_s, self._header_end_s) - CUT_S
