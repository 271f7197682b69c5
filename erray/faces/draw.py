"""Tracks drawn onto a frame: boxes, landmarks and labels that can be read at any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from erray.records import FaceTrack

# By track id; each is told from its neighbours by people who do not see red or green.
COLOURS = ("#ffb000", "#648fff", "#fe6100", "#dc267f", "#00b7a8", "#b48cff")
MIN_FONT_PX = 11


def colour_of(track: FaceTrack) -> str:
    """Return the colour that stands for a track, as #rrggbb."""
    return COLOURS[track.track_id % len(COLOURS)]


def label_of(track: FaceTrack) -> str:
    """Return what a track is called in a picture."""
    return f"{track.track_id} (main)" if track.is_main else str(track.track_id)


def draw_tracks(
    image_HWC: NDArray[np.uint8],
    tick: int,
    tracks: Sequence[FaceTrack],
    *,
    width_px: int | None = None,
) -> NDArray[np.uint8]:
    """Return a copy of a frame with box, landmarks and label of every track present at ``tick``.

    The main track has the thicker lines and is drawn last.

    Args:
        image_HWC: uint8 RGB.
        tick: of this frame.
        tracks: of the clip, in pixels of this frame.
        width_px: width of the copy; None: that of the frame. What is drawn suits the copy.
    """
    picture = Image.fromarray(image_HWC)
    scale = 1.0 if width_px is None else width_px / picture.width
    if width_px is not None:
        picture = picture.resize((width_px, max(1, round(picture.height * scale))))
    for track in sorted(tracks, key=lambda track: track.is_main):
        if track.present_T[tick]:
            _draw_face(picture, track, tick, scale)
    return np.asarray(picture)


def font_for(picture: Image.Image) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return a font in proportion to a picture, never too small to be read."""
    return ImageFont.load_default(max(MIN_FONT_PX, min(picture.size) / 22))


def _draw_face(picture: Image.Image, track: FaceTrack, tick: int, scale: float) -> None:
    pen = ImageDraw.Draw(picture)
    colour = colour_of(track)
    line_px = max(1, round(min(picture.size) / 240)) * (2 if track.is_main else 1)
    box_4 = (track.boxes_px_T4[tick] * scale).tolist()
    pen.rectangle(box_4, outline=colour, width=line_px)
    dot_px = max(1.5, (box_4[2] - box_4[0]) / 36)
    for x, y in (track.landmarks_px_T52[tick] * scale).tolist():
        pen.ellipse((x - dot_px, y - dot_px, x + dot_px, y + dot_px), fill=colour, outline="black")
    draw_tag(picture, box_4, label_of(track), colour)


def draw_tag(picture: Image.Image, box_4: Sequence[float], text: str, colour: str) -> None:
    """Write ``text`` above a box, or within it where the picture ends."""
    pen, font = ImageDraw.Draw(picture), font_for(picture)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width_px, height_px = right + 6, bottom + 4
    x = max(0, min(max(0, box_4[0]), picture.width - width_px))
    y = box_4[1] - height_px if box_4[1] >= height_px else max(0, box_4[1])
    pen.rectangle((x, y, x + width_px, y + height_px), fill=colour)
    pen.text((x + 3 - left / 2, y + 2 - top / 2), text, fill="black", font=font)
