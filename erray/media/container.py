"""Opening of a medium: every door but a local file of an allowed format is shut.

What is refused before a byte is decoded: anything but a local file, formats outside
:data:`FORMATS` (play lists and concat lists open other files) and pictures above a size limit
(a small file can ask for gigabytes).
"""

from __future__ import annotations

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


@contextmanager
def opened(path: Path, limits: MediaLimits) -> Iterator[Any]:
    """Yield the open container of a local medium.

    Raises:
        MediaError: ``no_media`` (no such file), ``empty``, ``not_media``.
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
    except av.FFmpegError as error:
        raise MediaError(f"not_media: {error.strerror}") from error
    with container:
        yield container


def is_cover_picture(stream: Any) -> bool:
    """Tell a picture that belongs to sound (an album's cover) from a video stream."""
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
