"""The real detector on a real portrait that scikit-image carries, and on what is no face."""

import numpy as np
import pytest
from facenet_pytorch import MTCNN
from skimage.data import astronaut

import erray.faces.detect
from erray.errors import UserError
from erray.faces.associate import Detections, iou_matrix
from erray.faces.detect import DetectorConfig, MtcnnDetector, mtcnn_weights_sha256

FACE_BOX = np.array([56, 22, 150, 138])  # of the portrait, by hand, to some ten pixels
LEFT_EYE, RIGHT_EYE, NOSE = (85, 61), (127, 64), (104, 87)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    return np.ascontiguousarray(astronaut()[40:240, 120:320])


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return MtcnnDetector(DetectorConfig(batch_size=3))


def assert_same(a, b, atol: float = 1e-2) -> None:
    assert len(a) == len(b)
    np.testing.assert_allclose(a.boxes_px_N4, b.boxes_px_N4, atol=atol)
    np.testing.assert_allclose(a.landmarks_px_N52, b.landmarks_px_N52, atol=atol)
    np.testing.assert_allclose(a.scores_N, b.scores_N, atol=1e-3)


def test_finds_the_face_and_its_landmarks(detector, portrait):
    (found,) = detector([portrait])
    assert len(found) == 1 and found.scores_N[0] > 0.99
    assert np.abs(found.boxes_px_N4[0] - FACE_BOX).max() < 15
    points = found.landmarks_px_N52[0]
    for point, expected in zip(points[:3], (LEFT_EYE, RIGHT_EYE, NOSE), strict=True):
        assert np.linalg.norm(point - expected) < 8
    assert points[3, 0] < points[4, 0] and points[3:, 1].min() > points[2, 1]


def test_batch_equals_one_by_one(detector, portrait):
    """Frames with none, one and two faces in one batch, and one more than a batch."""
    empty = np.full_like(portrait, 90)
    two = np.concatenate([portrait[:, 20:190], portrait[:, 20:190]], axis=1)
    one = np.concatenate([portrait[:, ::-1], empty], axis=1)[:, : two.shape[1]]
    images = [one, np.full_like(two, 90), two, two[:, ::-1].copy(), np.zeros_like(two)]
    batch = detector(images)
    assert [len(found) for found in batch] == [1, 0, 2, 2, 0]
    for image, found in zip(images, batch, strict=True):
        assert_same(detector([image])[0], found)
    assert all(np.all(np.diff(found.scores_N) <= 0) for found in batch)


def test_boxes_are_clipped_to_the_frame(detector, portrait):
    part = np.ascontiguousarray(portrait[40:, 70:])
    (found,) = detector([part])
    assert len(found) == 1
    left, top, right, bottom = found.boxes_px_N4[0]
    assert 0 <= left < right <= 130 and 0 <= top < bottom <= 160
    assert (left, top) == (0, 0)


def test_a_scaled_down_search_answers_in_pixels_of_the_frame(portrait):
    small = MtcnnDetector(DetectorConfig(frame_side_px=150))
    (full,) = MtcnnDetector()([portrait])
    (found,) = small([portrait])
    assert np.abs(found.boxes_px_N4 - full.boxes_px_N4).max() < 10
    assert np.abs(found.landmarks_px_N52 - full.landmarks_px_N52).max() < 5


def test_smallest_face_is_respected(portrait):
    frame = np.full((400, 400, 3), 90, np.uint8)
    frame[100:200, 150:250] = portrait[::2, ::2]
    found = [len(MtcnnDetector(DetectorConfig(min_face_px=px))([frame])[0]) for px in (30, 120)]
    assert found == [1, 0]
    # the face has 50 pixels in the frame and 25 in the frame as it is searched
    halved = [DetectorConfig(min_face_px=px, frame_side_px=200) for px in (20, 60)]
    assert [len(MtcnnDetector(config)([frame])[0]) for config in halved] == [1, 0]


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((120, 160, 3), np.uint8),
        np.full((64, 64, 3), 255, np.uint8),
        np.zeros((20, 20, 3), np.uint8),
        np.zeros((1, 500, 3), np.uint8),
        np.zeros((41, 300, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (90, 90, 3), dtype=np.uint8),
    ],
    ids=["black", "white", "tiny", "line", "strip", "noise"],
)
def test_what_is_no_face_gives_no_face(detector, image):
    (found,) = detector([image])
    assert len(found) == 0 and found.boxes_px_N4.shape == (0, 4)
    assert found.landmarks_px_N52.shape == (0, 5, 2)


def test_no_images_and_images_of_two_sizes(detector):
    assert detector([]) == []
    with pytest.raises(ValueError, match="one size"):
        detector([np.zeros((50, 60, 3), np.uint8), np.zeros((60, 50, 3), np.uint8)])


def test_identity_for_fingerprints(detector):
    assert (detector.name, detector.version) == ("mtcnn", 2)
    assert detector.weights_sha256 == mtcnn_weights_sha256()
    assert len(detector.weights_sha256) == 64


@pytest.mark.parametrize(
    "options",
    [{"min_face_px": 5}, {"confidence": 1.0}, {"frame_side_px": 10}, {"batch_size": 0}],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        DetectorConfig(**options)


def test_the_search_agrees_with_that_of_facenet_pytorch(detector, portrait):
    """The same nets searched by their package: the same faces, boxes within its own jitter."""
    wide = np.concatenate([portrait, portrait[:, ::-1]], axis=1)
    theirs = MTCNN(keep_all=True, min_face_size=40, thresholds=[0.6, 0.7, 0.9], device="cpu")
    for image in (portrait, wide):
        answers = theirs.detect(image, landmarks=True)
        boxes, scores, points = (np.asarray(answer, np.float32) for answer in answers)
        (found,) = detector([image])
        assert len(found) == len(boxes)
        iou_NM = iou_matrix(found.boxes_px_N4, boxes)
        nearest_N = iou_NM.argmax(axis=1)
        assert iou_NM.max(axis=1).min() > 0.8
        off_N5 = np.linalg.norm(found.landmarks_px_N52 - points[nearest_N], axis=-1)
        eyes_px = np.linalg.norm(
            found.landmarks_px_N52[:, 0] - found.landmarks_px_N52[:, 1], axis=-1
        )
        assert (off_N5.mean(axis=1) / eyes_px).max() < 0.08
        np.testing.assert_allclose(found.scores_N, scores[nearest_N], atol=0.01)


def test_following_hardly_depends_on_where_it_begins(detector, portrait):
    (found,) = detector([portrait])
    box_4 = found.boxes_px_N4[0]
    side_px = box_4[3] - box_4[1]
    shifts_K2 = np.array([[0, 0], [0.1, 0], [-0.1, 0.05], [0, -0.1], [0.05, 0.1]]) * side_px
    followed = detector.follow(
        [portrait] * 5, [box_4[None] + np.tile(shift, 2) for shift in shifts_K2]
    )
    eyes_px = np.linalg.norm(found.landmarks_px_N52[0, 0] - found.landmarks_px_N52[0, 1])
    for one in followed:
        assert len(one) == 1 and one.scores_N[0] > 0.95
        assert iou_matrix(one.boxes_px_N4, box_4[None])[0, 0] > 0.9
        off_5 = np.linalg.norm(one.landmarks_px_N52[0] - found.landmarks_px_N52[0], axis=-1)
        assert off_5.max() < 0.05 * eyes_px


def test_following_answers_for_every_box_in_order(detector, portrait):
    """Where there is no face the score says so; images without boxes have no answers."""
    (found,) = detector([portrait])
    nowhere = np.array([[2.0, 150.0, 42.0, 190.0]])
    both = np.concatenate([nowhere, found.boxes_px_N4])
    first, none, last = detector.follow([portrait] * 3, [both, np.zeros((0, 4)), found.boxes_px_N4])
    assert [len(one) for one in (first, none, last)] == [2, 0, 1]
    assert first.scores_N[0] < 0.5 < 0.95 < first.scores_N[1]
    assert_same(
        last,
        Detections(
            *(part[1:] for part in (first.boxes_px_N4, first.landmarks_px_N52, first.scores_N))
        ),
    )
    assert detector.follow([], []) == []


def test_a_large_frame_is_searched_in_smaller_batches(detector, portrait, monkeypatch):
    images = [portrait, portrait[:, ::-1].copy(), portrait]
    together = detector(images)
    monkeypatch.setattr(erray.faces.detect, "SEARCH_PIXELS", portrait[..., 0].size)
    for one, expected in zip(detector(images), together, strict=True):
        assert_same(one, expected)
