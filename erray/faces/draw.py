"""Tracks drawn onto frames, and a contact sheet of a clip, to look at with one's own eyes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from erray.faces.track import ClipFaces
from erray.records import FaceTrack

COLOURS = ("#00c853", "#ff6d00", "#2979ff", "#d500f9", "#ffd600", "#00e5ff")  # by track id
MARK_PX = 2


def draw_tracks(
    image_HWC: NDArray[np.uint8], tick: int, tracks: Sequence[FaceTrack], labels: Sequence[str]
) -> NDArray[np.uint8]:
    """Return a copy of a frame with box, landmarks and label of every track present at ``tick``."""
    picture = Image.fromarray(image_HWC)
    pen = ImageDraw.Draw(picture)
    for track, label in zip(tracks, labels, strict=True):
        if not track.present_T[tick]:
            continue
        colour = COLOURS[track.track_id % len(COLOURS)]
        left, top, right, bottom = track.boxes_px_T4[tick].tolist()
        pen.rectangle((left, top, right, bottom), outline=colour, width=3 if track.is_main else 1)
        pen.text((left + 2, max(0.0, top - 12)), label, fill=colour)
        for x, y in track.landmarks_px_T52[tick].tolist():
            pen.ellipse((x - MARK_PX, y - MARK_PX, x + MARK_PX, y + MARK_PX), outline=colour)
    return np.asarray(picture)


def contact_sheet(
    path: Path,
    images: Sequence[NDArray[np.uint8]],
    faces: ClipFaces,
    *,
    num_frames: int = 12,
    num_columns: int = 4,
    cell_width_px: int = 320,
) -> None:
    """Write a PNG of evenly spaced frames with their tracks, each over its main track's crop.

    Args:
        path: the PNG file.
        images: all frames of the clip, one per tick of ``faces``.
        faces: the clip's tracks and crops.
        num_frames: frames on the sheet, fewer if the clip has fewer.
        num_columns: frames in a row.
        cell_width_px: width of a frame on the sheet.
    """
    assert len(images) == len(faces.frame_times_s_T), (len(images), len(faces.frame_times_s_T))
    ticks = np.unique(np.linspace(0, len(images) - 1, num_frames).round().astype(int))
    width_px, height_px = faces.frame_size_px
    frame_height_px = round(height_px * cell_width_px / width_px)
    crop_px = cell_width_px // 3
    cell_height_px = frame_height_px + crop_px
    num_rows = -(-len(ticks) // num_columns)
    sheet = Image.new("RGB", (num_columns * cell_width_px, num_rows * cell_height_px), "#202020")
    labels = [f"{track.track_id}{'*' if track.is_main else ''}" for track in faces.tracks]
    pen = ImageDraw.Draw(sheet)
    for place, tick in enumerate(ticks.tolist()):
        left = place % num_columns * cell_width_px
        top = place // num_columns * cell_height_px
        drawn = Image.fromarray(draw_tracks(images[tick], tick, faces.tracks, labels))
        sheet.paste(drawn.resize((cell_width_px, frame_height_px)), (left, top))
        for column, jpeg in enumerate(_crops_at(faces, tick)[:2]):
            crop = Image.open(io.BytesIO(jpeg)).resize((crop_px, crop_px))
            sheet.paste(crop, (left + column * crop_px, top + frame_height_px))
        text = f"tick {tick}\n{faces.frame_times_s_T[tick]:.2f} s"
        pen.text((left + 2 * crop_px + 4, top + frame_height_px + 4), text, fill="white")
    sheet.save(path, "PNG")


def _crops_at(faces: ClipFaces, tick: int) -> list[bytes]:
    """Crops at a tick, of the main track first."""
    order = sorted(faces.tracks, key=lambda track: (not track.is_main, track.track_id))
    found = []
    for track in order:
        ticks_N, jpegs = faces.crops.get(track.track_id, (np.zeros(0, np.int32), []))
        found += [jpegs[i] for i in np.flatnonzero(ticks_N == tick).tolist()]
    return found
