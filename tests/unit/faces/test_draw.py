"""Pictures for people: what is drawn is where the face is, and nothing else is touched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from erray.faces.annotated import SOUND_RATE_HZ, write_annotated
from erray.faces.draw import colour_of, draw_tracks
from erray.faces.sheet import MARGIN_PX, contact_sheet, sheet_ticks
from erray.faces.track import ClipFaces
from erray.media import VideoReader, Waveform, read_waveform
from tests.unit.faces.squares_world import HEIGHT_PX, WIDTH_PX, frame, track

FRAMES = [frame((60, 30), (110, 40))] * 6 + [frame((60, 30))] * 6


@pytest.fixture(scope="module")
def faces() -> ClipFaces:
    return track(FRAMES)


def pixels_of(picture: np.ndarray, colour: str) -> np.ndarray:
    return (np.abs(picture.astype(int) - ImageColor.getrgb(colour)) <= 2).all(axis=-1)


def test_a_box_is_drawn_for_each_face_that_is_present(faces):
    drawn = draw_tracks(FRAMES[0], 0, faces.tracks)
    assert np.array_equal(FRAMES[0], frame((60, 30), (110, 40))), "the frame itself is left alone"
    main, other = faces.tracks
    assert main.is_main
    assert pixels_of(drawn, colour_of(main))[30, 60:84].all()
    assert pixels_of(drawn, colour_of(other))[40:64, 110].all()
    later = draw_tracks(FRAMES[8], 8, faces.tracks)
    assert not pixels_of(later, colour_of(other)).any()


def test_lines_and_labels_suit_the_size_of_the_copy(faces):
    small, large = (draw_tracks(FRAMES[0], 0, faces.tracks, width_px=w) for w in (160, 1600))
    assert large.shape == (900, 1600, 3)
    colour = colour_of(faces.tracks[0])
    rows = [pixels_of(picture, colour).any(axis=1).sum() for picture in (small, large)]
    assert rows[1] > 5 * rows[0]
    # the box is ten times as large, and its line several pixels thick
    assert pixels_of(large, colour)[450, 590:616].sum() >= 4


@pytest.mark.parametrize("corner", [(0, 0), (136, 0), (0, 66), (136, 66)])
def test_a_label_stays_within_the_picture(corner):
    faces = track([frame(corner)] * 2)
    drawn = draw_tracks(frame(corner), 0, faces.tracks)
    black = (drawn == 0).all(axis=-1)
    assert black.any(), "the letters are black, all else is brighter"
    found = pixels_of(drawn, colour_of(faces.tracks[0]))
    assert found.sum() > 3 * 24


def test_the_ticks_of_a_sheet_are_spread_from_first_to_last():
    assert sheet_ticks(1) == [0] and sheet_ticks(5) == [0, 1, 2, 3, 4]
    ticks = sheet_ticks(1000)
    assert len(ticks) == 12 and (ticks[0], ticks[-1]) == (0, 999)
    assert set(np.diff(ticks)) <= {90, 91}


def test_a_sheet_shows_frames_crops_and_when_a_track_is_present(tmp_path, faces):
    images = {tick: FRAMES[tick] for tick in sheet_ticks(len(FRAMES), 5)}
    contact_sheet(tmp_path / "sheet.png", images, faces)
    with Image.open(tmp_path / "sheet.png") as file:
        sheet = np.asarray(file.convert("RGB"))
    # two rows of cells (frame 320x180, crops below), then a row for each of two tracks
    timeline = sheet[2 * (180 + 84 + MARGIN_PX) + MARGIN_PX :]
    main, other = (pixels_of(timeline, colour_of(one)).any(axis=0).sum() for one in faces.tracks)
    assert other == pytest.approx(main * 5 / 11, abs=4), "ticks 0 to 5 of 0 to 11"


def test_a_sheet_of_a_clip_without_faces_and_with_very_many(tmp_path):
    contact_sheet(tmp_path / "none.png", {0: frame()}, track([frame()] * 3))
    one = track([frame((60, 30))] * 3)
    many = [replace(one.tracks[0], track_id=i, is_main=i == 0) for i in range(40)]
    contact_sheet(tmp_path / "many.png", {0: frame()}, replace(one, tracks=many))
    heights = [Image.open(tmp_path / f"{name}.png").height for name in ("none", "many")]
    assert heights[1] - heights[0] == 12 * 16, "twelve rows at most"


@pytest.mark.parametrize(("height", "width"), [(HEIGHT_PX, WIDTH_PX), (89, 159)])
def test_an_annotated_video_keeps_times_size_and_sound(tmp_path: Path, height, width):
    """Variable frame rate, a start that is not 0, odd sides, sound that begins earlier."""
    times_s = [2.0, 2.04, 2.05, 2.3, 2.31, 2.9]
    frames = [frame((60, 30))[:height, :width]] * 6
    faces = track(frames, times_s)
    tone_N = np.sin(np.arange(SOUND_RATE_HZ) / 20).astype(np.float32) / 2
    sound = Waveform(tone_N, SOUND_RATE_HZ, start_s=1.9)
    write_annotated(tmp_path / "a.mp4", zip(times_s, frames, strict=True), faces, sound)
    read = list(VideoReader(tmp_path / "a.mp4"))
    assert [t for t, _ in read] == pytest.approx(np.array(times_s) - 2.0, abs=1e-4)
    even = (height + height % 2, width + width % 2, 3)
    assert all(image.shape == even for _, image in read)
    near = np.abs(read[3][1][40, 55:65].astype(int) - ImageColor.getrgb(colour_of(faces.tracks[0])))
    assert near.sum(axis=-1).min() < 120, "the left edge of the box, after compression"
    heard = read_waveform(tmp_path / "a.mp4", rate_hz=16_000)
    assert heard is not None
    assert heard.start_s + len(heard.samples_N) / 16_000 == pytest.approx(0.9, abs=0.03)


def test_an_annotated_video_may_be_silent(tmp_path):
    faces = track([frame()] * 3)
    path = tmp_path / "a.mp4"
    write_annotated(path, [(i / 25, frame()) for i in range(3)], faces, None)
    assert read_waveform(path, rate_hz=16_000) is None and len(list(VideoReader(path))) == 3
