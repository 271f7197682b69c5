import numpy as np
import pytest

from erray.faces.boxes import square_up, uncovered
from erray.faces.squares import cut_squares

PICTURE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.mark.parametrize("factor", [1, 2, 4, 6])
def test_whole_factors_are_means_of_pixels(factor):
    side_px = 8
    reach_px = side_px * factor
    square = np.array([[[11, 3, 11 + reach_px, 3 + reach_px]]], float)
    (patch,) = cut_squares([PICTURE], [0], square, side_px)[0]
    region = PICTURE[3 : 3 + reach_px, 11 : 11 + reach_px].astype(float)
    expected = region.reshape(side_px, factor, side_px, factor, 3).mean(axis=(1, 3))
    assert np.abs(patch - expected).max() < 2, "rounded at each step"


def test_squares_of_a_group_are_cut_as_if_alone():
    squares_KJ4 = np.array(
        [[[1.5, 2, 21.5, 22], [4, 3.5, 26, 25.5]], [[40, 10, 70, 40], [41, 11, 69, 39]]]
    )
    y, x = np.mgrid[:60, :90]
    smooth = np.stack([2 * x, 3 * y, x + y], axis=-1).astype(np.uint8)
    images = [smooth, smooth[::-1].copy()]
    together = cut_squares(images, [1, 0], squares_KJ4, 12)
    for k, image in enumerate((images[1], images[0])):
        for j in range(2):
            (alone,) = cut_squares([image], [0], squares_KJ4[k, j][None, None], 12)[0]
            assert np.abs(together[k, j].astype(int) - alone).max() <= 3, "a pixel of the frame"


def test_outside_the_frame_is_black():
    white = np.full((40, 40, 3), 255, np.uint8)
    squares = np.array([[[-20, -20, 20, 20]], [[30, 10, 50, 30]], [[100, 100, 140, 140]]], float)
    corner, right, away = cut_squares([white], [0, 0, 0], squares, 20)[:, 0, ..., 0]
    assert not corner[:10].any() and not corner[:, :10].any() and (corner[10:, 10:] == 255).all()
    assert (right[:, :10] == 255).all() and not right[:, 10:].any() and not away.any()


def test_squares_keep_the_centre_and_the_longer_side():
    squares = square_up(np.array([[10, 20, 30, 60], [0, 0, 8, 2]], np.float32))
    np.testing.assert_array_equal(squares, [[0, 20, 40, 60], [0, -3, 8, 5]])


def test_of_boxes_that_cover_each_other_the_best_score_stays():
    boxes = np.array([[0, 0, 10, 10], [2, 2, 8, 8], [50, 0, 60, 10], [7, 0, 17, 10]], float)
    assert uncovered(boxes, np.array([0.8, 0.9, 0.7, 0.95])).tolist() == [3, 1, 2]
    assert uncovered(boxes, np.array([0.9, 0.8, 0.7, 0.95])).tolist() == [3, 0, 2]
    assert uncovered(boxes[:0], np.zeros(0)).tolist() == []
