"""The warp moves the points it is told to move, and nothing far from the face."""

import numpy as np
import pytest

from erray.demo.expression import ACTION_UNITS, EMOTION_UNITS, draw_activation
from erray.demo.portrait import Portrait, load_portraits
from erray.demo.warp import FaceField, warp_face

PORTRAITS = pytest.mark.parametrize("portrait", load_portraits(), ids=lambda p: p.name)


def _shift_at(face: FaceField, frame: int, place_px: np.ndarray) -> np.ndarray:
    column, row = np.round((place_px - np.asarray(face.origin_px)) / face.step_px).astype(int)
    return face.field_T3hw[frame, :2, row, column]


@PORTRAITS
def test_every_facial_point_lies_on_the_opaque_part_of_the_portrait(portrait: Portrait) -> None:
    height, width = portrait.pixels_4HW.shape[1:]
    for name, (x, y) in portrait.points_px.items():
        assert 0 <= x < width and 0 <= y < height, name
        assert portrait.pixels_4HW[3, round(y), round(x)] > 0.95, name


@PORTRAITS
def test_no_activation_leaves_the_photograph_or_makes_it_neutral(portrait: Portrait) -> None:
    face = warp_face(portrait, {}, 5)
    assert np.array_equal(face.field_T3hw[0], face.field_T3hw[4])
    if not portrait.rest:
        assert np.abs(face.field_T3hw[:, :2]).max() < 0.6


@PORTRAITS
def test_the_warp_fetches_a_mouth_corner_from_where_it_was(portrait: Portrait) -> None:
    """Independent of the spline: the target's shift is minus the unit's own displacement."""
    face = warp_face(portrait, {"AU12": np.full(5, 1.0 - portrait.rest.get("AU12", 0.0))}, 5)
    outward, down = np.array(ACTION_UNITS["AU12"]["corner"]) * portrait.eye_distance_px
    for side, sign in (("l", -1), ("r", 1)):
        moved = np.array([sign * outward, down])
        shift = _shift_at(face, 2, portrait.points_px[f"corner_{side}"] + moved)
        assert shift == pytest.approx(-moved, abs=2.0)


@PORTRAITS
@pytest.mark.parametrize("emotion", EMOTION_UNITS)
def test_the_warp_ends_before_its_grid_does(portrait: Portrait, emotion: str) -> None:
    times_s = np.arange(30) / 25
    activation = draw_activation(np.random.default_rng(0), times_s, emotion)
    face = warp_face(portrait, activation, 30)
    border = np.concatenate(
        [face.field_T3hw[..., 0, :], face.field_T3hw[..., -1, :],
         face.field_T3hw[..., :, 0], face.field_T3hw[..., :, -1]], axis=-1,
    )  # fmt: skip
    assert np.abs(border).max() == 0
    assert face.field_T3hw.shape[0] == 30
    assert np.isfinite(face.field_T3hw).all()


@PORTRAITS
def test_movement_is_smooth_in_time(portrait: Portrait) -> None:
    times_s = np.arange(50) / 25
    activation = draw_activation(np.random.default_rng(1), times_s, "surprise")
    field = warp_face(portrait, activation, 50).field_T3hw[:, :2]
    # A jaw that drops 20 px in a quarter of a second moves about 3 px a frame.
    assert np.abs(np.diff(field, axis=0)).max() < 6


def test_only_an_open_mouth_shows_its_inside() -> None:
    _, hopper = load_portraits()
    closed = warp_face(hopper, {}, 5).field_T3hw[:, 2]
    opened = warp_face(hopper, {"AU26": np.ones(5)}, 5).field_T3hw[:, 2]
    assert closed.max() < 0.3
    assert opened.max() == pytest.approx(1.0)
