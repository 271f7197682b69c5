"""A contact sheet: one picture from which to judge how the faces of a whole clip were tracked."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from erray.faces.draw import colour_of, draw_tracks, label_of
from erray.faces.track import ClipFaces
from erray.records import FaceTrack
from erray.store import replacing

NUM_COLUMNS = 4
CELL_WIDTH_PX = 320
MARGIN_PX = 6
CROP_PX = 76  # four of them under a frame
MAX_CROPS = 4
ROW_PX = 16  # of the timeline
MAX_ROWS = 12
LABEL_WIDTH_PX = 64
BACKGROUND, TEXT, RULE = "#202124", "#e8eaed", "#5f6368"


def sheet_ticks(num_ticks: int, num_frames: int = 12) -> list[int]:
    """Return evenly spaced ticks, the first and the last among them."""
    spaced = np.linspace(0, num_ticks - 1, min(num_frames, num_ticks))
    return np.unique(spaced.round().astype(int)).tolist()


def contact_sheet(path: Path, images: Mapping[int, NDArray[np.uint8]], faces: ClipFaces) -> None:
    """Write a PNG of frames with their faces, the crops of each, and when each track is present.

    Args:
        path: the PNG file.
        images: the frames to show by tick, at least one; see :func:`sheet_ticks`.
        faces: the clip's tracks and crops.
    """
    ticks = sorted(images)
    cells = [_cell(images[tick], tick, faces) for tick in ticks]
    width_px = NUM_COLUMNS * (CELL_WIDTH_PX + MARGIN_PX) + MARGIN_PX
    cell_height_px = cells[0].height + MARGIN_PX
    num_rows = -(-len(cells) // NUM_COLUMNS)
    timeline = _timeline(faces, ticks, width_px - 2 * MARGIN_PX)
    height_px = num_rows * cell_height_px + timeline.height + 2 * MARGIN_PX
    sheet = Image.new("RGB", (width_px, height_px), BACKGROUND)
    for place, cell in enumerate(cells):
        row, column = divmod(place, NUM_COLUMNS)
        left = MARGIN_PX + column * (CELL_WIDTH_PX + MARGIN_PX)
        sheet.paste(cell, (left, MARGIN_PX + row * cell_height_px))
    sheet.paste(timeline, (MARGIN_PX, MARGIN_PX + num_rows * cell_height_px))
    with replacing(path) as hidden:
        sheet.save(hidden, "PNG")


def _cell(image_HWC: NDArray[np.uint8], tick: int, faces: ClipFaces) -> Image.Image:
    """One frame, its time, and under it the crops of its faces, of the main track first."""
    drawn = Image.fromarray(draw_tracks(image_HWC, tick, faces.tracks, width_px=CELL_WIDTH_PX))
    cell = Image.new("RGB", (CELL_WIDTH_PX, drawn.height + CROP_PX + 8), BACKGROUND)
    cell.paste(drawn)
    pen = ImageDraw.Draw(cell)
    text, font = f"{faces.frame_times_s_T[tick]:.2f} s", ImageFont.load_default(13)
    _, _, right, bottom = pen.textbbox((0, 0), text, font=font)
    corner = (CELL_WIDTH_PX - right - 8, drawn.height - bottom - 6)
    pen.rectangle((*corner, CELL_WIDTH_PX, drawn.height), fill=BACKGROUND)
    pen.text((corner[0] + 4, corner[1] + 2), text, fill=TEXT, font=font)
    for column, (track, jpeg) in enumerate(_crops_at(faces, tick)[:MAX_CROPS]):
        left, top = column * (CROP_PX + 5), drawn.height + 4
        crop = Image.open(io.BytesIO(jpeg)).resize((CROP_PX - 4, CROP_PX - 4))
        pen.rectangle((left, top, left + CROP_PX - 1, top + CROP_PX - 1), fill=colour_of(track))
        cell.paste(crop, (left + 2, top + 2))
    return cell


def _timeline(faces: ClipFaces, shown: Sequence[int], width_px: int) -> Image.Image:
    """A row per track, coloured where it is present; rules mark the frames shown."""
    tracks = _main_first(faces)[:MAX_ROWS]
    left_out = len(faces.tracks) - len(tracks)
    strip = Image.new("RGB", (width_px, (len(tracks) + 2) * ROW_PX), BACKGROUND)
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(12)
    first_s, last_s = faces.frame_times_s_T[[0, -1]].tolist()
    per_s = (width_px - LABEL_WIDTH_PX - 1) / max(last_s - first_s, 1e-3)
    x_T = LABEL_WIDTH_PX + (faces.frame_times_s_T - first_s) * per_s
    bottom = len(tracks) * ROW_PX
    for x in x_T[list(shown)].tolist():
        pen.line((x, 0, x, bottom + 4), fill=RULE)
    for row, track in enumerate(tracks):
        top = row * ROW_PX
        pen.text((0, top), label_of(track), fill=TEXT, font=font)
        for first, last in _runs(track.present_T):
            bar = (x_T[first], top + 2, max(x_T[last], x_T[first] + 1), top + ROW_PX - 4)
            pen.rectangle(bar, fill=colour_of(track))
    ends = f"{first_s:.2f} s", f"{last_s:.2f} s"
    pen.text((LABEL_WIDTH_PX, bottom + 6), ends[0], fill=TEXT, font=font)
    pen.text((width_px, bottom + 6), ends[1], fill=TEXT, font=font, anchor="ra")
    text = f"tracks: {len(faces.tracks)}" + (f", {left_out} of them not shown" if left_out else "")
    pen.text((width_px / 2, bottom + 6), text, fill=TEXT, font=font, anchor="ma")
    return strip


def _runs(present_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return first and last tick of every unbroken presence."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], present_T, [False]]).astype(int)))
    return [(int(first), int(end) - 1) for first, end in edges.reshape(-1, 2)]


def _main_first(faces: ClipFaces) -> list[FaceTrack]:
    """The main track, then the others, the longest first."""
    order = [
        (not track.is_main, -int(track.present_T.sum()), track.track_id) for track in faces.tracks
    ]
    return [track for _, track in sorted(zip(order, faces.tracks, strict=True))]


def _crops_at(faces: ClipFaces, tick: int) -> list[tuple[FaceTrack, bytes]]:
    found = []
    for track in _main_first(faces):
        if track.track_id in faces.crops:
            ticks_N, jpegs = faces.crops[track.track_id]
            found += [(track, jpegs[i]) for i in np.flatnonzero(ticks_N == tick).tolist()]
    return found
