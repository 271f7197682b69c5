"""The panel: bars as long as the probabilities, the box where the face is, legible at any size."""

import numpy as np
import pytest
from PIL import ImageColor

from erray.faces.annotated import write_video
from erray.faces.draw_emotion import MIN_SIDE_PX, OTHER, TROUGH, WINNER, EmotionPanel
from erray.labels import BASIC_7, CEXPR_8
from erray.media import VideoReader

GREY = np.full((180, 240, 3), 120, np.uint8)
VALUES_C = np.array([0.05, 0.6, 0.1, 0.05, 0.1, 0.05, 0.05])


def pixels_of(picture, colour):
    return (np.abs(picture.astype(int) - ImageColor.getrgb(colour)) <= 2).all(axis=-1)


def panel(frame_size_px=(240, 180), classes=BASIC_7.names):
    return EmotionPanel(frame_size_px, classes, heading="Happiness 55%")


def draw(made, image=GREY, values_C=VALUES_C, box=None):
    return made.draw(image, values_C, box_px_4=box, time_s=61.24)


def test_bars_are_as_long_as_the_probabilities():
    made = panel()
    beside = draw(made)[:, made.left_px :]
    winner, other = pixels_of(beside, WINNER), pixels_of(beside, OTHER)
    full_px = (winner | other | pixels_of(beside, TROUGH)).sum(axis=1).max()
    assert winner.sum(axis=1).max() == pytest.approx(0.6 * full_px, abs=2)
    lengths = sorted({int(n) for n in other.sum(axis=1)} - {0})
    assert lengths == pytest.approx([0.05 * full_px, 0.1 * full_px], abs=2)


def test_the_box_is_around_the_face_and_says_what_the_winner_is():
    made = panel()
    with_face = draw(made, box=np.array([60, 50, 120, 130], np.float32))
    frame = with_face[:, : made.left_px]
    found = pixels_of(frame, WINNER)
    left, right, bottom = (round(side * made.scale) for side in (60, 120, 130))
    assert found[150:250, left].all() and found[150:250, right].all()
    assert found[bottom, left:right].all()
    assert (frame[: round(50 * made.scale)] == 0).all(axis=-1).any(), "letters above the box"
    without = draw(made)
    assert not pixels_of(without[:, : made.left_px], WINNER).any()
    assert np.abs(without[:, : made.left_px].astype(int) - 120).max() <= 1, "the picture is left"


@pytest.mark.parametrize("size", [(96, 64), (240, 180), (641, 361), (1080, 1920), (3840, 2160)])
@pytest.mark.parametrize("classes", [BASIC_7.names, CEXPR_8.names])
def test_every_size_can_be_read_and_nothing_leaves_the_picture(size, classes):
    made = panel(size, classes)
    picture = draw(made, np.zeros((size[1], size[0], 3), np.uint8), np.full(len(classes), 0.125))
    assert picture.shape == (made.size_px[1], made.size_px[0], 3)
    assert min(made.left_px, made.size_px[1]) >= min(MIN_SIDE_PX, min(size) * made.scale) - 1
    assert made.font.size >= 10
    trough = pixels_of(picture, TROUGH).sum(axis=1)  # a few pixels of every letter have its colour
    last_bar = np.flatnonzero(trough > made.panel_px / 3).max()
    assert last_bar < picture.shape[0] - 1.5 * made.line_px, "room for the time below the bars"


def test_probabilities_of_nothing_and_of_all_are_drawn():
    made = panel()
    beside = draw(made, values_C=np.eye(7)[3])[:, made.left_px :]
    assert pixels_of(beside, WINNER).any() and not pixels_of(beside, OTHER).any()


def test_a_video_of_panels_is_read_back(tmp_path):
    made = panel((241, 179))
    image = np.zeros((179, 241, 3), np.uint8)
    pictures = [(5 + i / 25, draw(made, image)) for i in range(4)]
    assert write_video(tmp_path / "a.mp4", pictures, None) == 4
    read = list(VideoReader(tmp_path / "a.mp4"))
    assert [t for t, _ in read] == pytest.approx([0, 0.04, 0.08, 0.12], abs=1e-4)
    width_px, height_px = made.size_px
    assert read[0][1].shape == (height_px + height_px % 2, width_px + width_px % 2, 3)
