import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from skimage.transform import SimilarityTransform

from erray.faces.align import REFERENCE_52, crop_face, similarity


def placed(scale: float, angle: float, x: float, y: float) -> np.ndarray:
    """The reference points scaled and turned about their centre, then moved to (x, y)."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * (REFERENCE_52 - REFERENCE_52.mean(axis=0)) @ turn.T + [x, y]


places = st.tuples(
    st.floats(0.1, 8.0), st.floats(-np.pi, np.pi), st.floats(-300, 300), st.floats(-300, 300)
)


@given(places, st.integers(0, 2**32 - 1))
def test_similarity_agrees_with_scikit_image(place, seed):
    landmarks = placed(*place) + np.random.default_rng(seed).normal(0, 0.05, (5, 2))
    expected = SimilarityTransform.from_estimate(landmarks, REFERENCE_52).params[:2]
    np.testing.assert_allclose(similarity(landmarks, REFERENCE_52), expected, rtol=1e-6, atol=1e-6)


@given(places)
def test_similarity_inverts_an_exact_placement(place):
    landmarks = placed(*place)
    matrix = similarity(landmarks, REFERENCE_52)
    np.testing.assert_allclose(
        landmarks @ matrix[:, :2].T + matrix[:, 2], REFERENCE_52, rtol=0, atol=1e-6
    )


def test_a_mirrored_face_is_not_mirrored_back():
    matrix = similarity(REFERENCE_52 * [-1, 1], REFERENCE_52)
    assert np.linalg.det(matrix[:, :2]) > 0


@pytest.mark.parametrize(
    ("landmarks", "message"),
    [
        (np.full((5, 2), 30.0), "apart"),
        (np.full((5, 2), np.nan), "finite"),
        (np.zeros((4, 2)), "shape"),
    ],
)
def test_landmarks_without_a_face_are_refused(landmarks, message):
    with pytest.raises(ValueError, match=message):
        crop_face(np.zeros((60, 60, 3), np.uint8), landmarks, 112)


def smooth_picture(height: int = 260, width: int = 300) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 23 + c) + np.cos(y / 17 - c) + np.sin((x + y) / 31) for c in range(3)]
    return np.clip(128 + 40 * np.stack(waves, axis=-1), 0, 255).astype(np.uint8)


def sampled(image: np.ndarray, landmarks: np.ndarray, size_px: int) -> np.ndarray:
    """The same warp with scipy: bilinear, pixel centres at whole numbers, black outside."""
    reference = (REFERENCE_52 + 0.5) * size_px / 112 - 0.5
    inverse = np.linalg.inv(SimilarityTransform.from_estimate(landmarks, reference).params)
    y, x = np.mgrid[:size_px, :size_px]
    at = inverse @ np.stack([x.ravel(), y.ravel(), np.ones(x.size)])
    channels = [
        map_coordinates(image[..., c].astype(float), [at[1], at[0]], order=1, cval=0.0)
        for c in range(3)
    ]
    return np.stack(channels, axis=-1).reshape(size_px, size_px, 3)


@pytest.mark.parametrize("size_px", [48, 112, 160])
@pytest.mark.parametrize(
    ("scale", "angle"), [(1.0, 0.0), (0.6, 0.4), (1.4, -0.8), (0.3, 3.0), (1.0, 1.6)]
)
def test_crop_agrees_with_scipy(size_px, scale, angle):
    image = smooth_picture()
    scale *= size_px / 112
    landmarks = placed(scale, angle, 150, 130)
    difference = np.abs(crop_face(image, landmarks, size_px) - sampled(image, landmarks, size_px))
    assert np.quantile(difference, 0.99) <= 1.5, "one gray level of rounding"


def test_landmarks_arrive_at_the_reference_points():
    image = np.zeros((400, 400, 3), np.uint8)
    landmarks = placed(2.0, 0.5, 200, 190)
    for x, y in np.round(landmarks).astype(int):
        image[y - 3 : y + 4, x - 3 : x + 4] = 255
    crop = crop_face(image, landmarks, 112).astype(float).mean(axis=-1)
    for x, y in np.round(REFERENCE_52).astype(int):
        patch = crop[y - 5 : y + 6, x - 5 : x + 6]
        centre = [(patch * axis).sum() / patch.sum() for axis in np.mgrid[-5:6, -5:6]]
        assert np.abs(centre).max() < 0.8, "marks and reference points are rounded to pixels"


def test_a_large_face_is_reduced_without_aliasing():
    """One-pixel stripes average to gray; without reduction they deviate by more than 60."""
    image = np.zeros((1200, 1200, 3), np.uint8)
    image[:, ::2] = 255
    crop = crop_face(image, placed(8.0, 0.0, 600, 600), 112)
    assert crop.std() < 20 and abs(crop.mean() - 127.5) < 3


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_outside_the_frame_is_black(scale):
    image = np.full((200, 200, 3), 200, np.uint8)
    half = crop_face(image, placed(scale, 0.0, 0, 100), 112)
    assert half.shape == (112, 112, 3) and half.dtype == np.uint8
    assert not half[:, :30].any()
    if scale == 1.0:
        assert (half[20:90, 70:] == 200).all()
    assert not crop_face(image, placed(scale, 0.0, 5000, 100), 112).any()
