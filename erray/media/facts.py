"""What a medium's header says, without decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av

from erray.media.container import is_cover_picture, opened
from erray.media.limits import MediaLimits


@dataclass(frozen=True)
class MediaFacts:
    """The header of a medium; it may be wrong about the frames that really come.

    Attributes:
        duration_s: None where the header has no duration.
        num_video: video streams; cover pictures do not count.
        num_audio: sound streams.
        start_s: first time on the medium's own clock, 0 where the header has none.
    """

    duration_s: float | None
    num_video: int
    num_audio: int
    start_s: float = 0.0


def read_facts(path: str | Path, *, limits: MediaLimits | None = None) -> MediaFacts:
    """Read a medium's header.

    Raises:
        MediaError: the medium cannot be opened.
    """
    with opened(Path(path), limits or MediaLimits()) as container:
        duration_s = None if container.duration is None else container.duration / av.time_base
        num_video = sum(not is_cover_picture(stream) for stream in container.streams.video)
        start_s = (container.start_time or 0) / av.time_base
        return MediaFacts(duration_s, num_video, len(container.streams.audio), start_s)
