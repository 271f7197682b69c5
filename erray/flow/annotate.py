"""A medium with what a model says of it drawn on, its sound kept."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.errors import MediaError
from erray.faces.annotated import SOUND_RATE_HZ, write_video
from erray.faces.draw_emotion import EmotionPanel
from erray.flow.context import Flow
from erray.media import Decoder
from erray.plan import TRACKS
from erray.records import Clip
from erray.timelines import Timeline

_ROUNDING_S = 1e-6
Picture = tuple[float, NDArray[np.uint8]]


def annotate(flow: Flow, clip: Clip, timeline: Timeline, target: Path, *, heading: str) -> bool:
    """Write the annotated video of a clip; the frames are decoded once more.

    Args:
        timeline: of the clip.
        target: an .mp4 file, made whole or not at all.
        heading: what is said of the whole clip.

    Returns:
        Whether it was written: a medium without pictures has none.
    """
    path = str(Path(flow.recipe.corpus.root) / clip.media)
    with Decoder(flow.plan.limits) as decoder:
        frames = decoder.frames(path, start_s=clip.start_s, end_s=clip.end_s)
        try:
            pictures = _pictures(iter(frames), timeline, _main_track(flow, clip), heading)
        except MediaError as error:
            if not str(error).startswith("no_video"):
                raise
            return False
        with Decoder(flow.plan.limits) as listener:
            sound = listener.waveform(
                path, start_s=clip.start_s, end_s=clip.end_s, rate_hz=SOUND_RATE_HZ
            )
        write_video(target, pictures, sound)
    return True


def _main_track(flow: Flow, clip: Clip) -> dict[str, Any] | None:
    """The row of the track that the face encoders read; None where there is none."""
    tracks = flow.tables.tracks.read(keys=[flow.plan.key(TRACKS, clip)]).to_pylist()
    return next((row for row in tracks if row["is_main"]), None)


def _pictures(
    frames: Iterator[Picture], timeline: Timeline, track: dict[str, Any] | None, heading: str
) -> Iterator[Picture]:
    """Read the first frame, so that a medium without any says so now; return all, drawn."""
    first_s, image_HWC = next(frames)
    size_px = (image_HWC.shape[1], image_HWC.shape[0])
    panel = EmotionPanel(size_px, timeline.classes, heading=heading)

    def drawn() -> Iterator[Picture]:
        time_s, image = first_s, image_HWC
        while True:
            tick = tick_at(timeline.times_s_T, time_s)
            there = track is not None and track["present"][tick]
            box = np.array(track["boxes_px"][tick], np.float32) if track and there else None
            values_C = timeline.probabilities_TC[tick]
            yield time_s, panel.draw(image, values_C, box_px_4=box, time_s=time_s - first_s)
            following = next(frames, None)
            if following is None:
                return
            time_s, image = following

    return drawn()


def tick_at(times_s_T: NDArray[np.float64], time_s: float) -> int:
    """The tick that holds at ``time_s``: the last one that is not later; the first before it."""
    place = int(np.searchsorted(times_s_T, time_s + _ROUNDING_S, side="right")) - 1
    return max(0, place)
