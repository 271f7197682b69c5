"""The marks of the face stage, on pictures and clips whose faces are known."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.agreement import compare_tracks
from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.track import FaceTracker, TrackerConfig
from erray.media import VideoReader

SHARED = Path(__file__).parents[4] / "shared"
CLIPS = SHARED / "clips"
EXPECTED_FILE = SHARED / "reference" / "faces_expected.json"
EXPECTED = json.loads(EXPECTED_FILE.read_text()) if EXPECTED_FILE.is_file() else {"missing": {}}

pytestmark = pytest.mark.skipif(
    not CLIPS.is_dir(), reason="the folder shared/clips with real media is missing"
)


@pytest.fixture(scope="module")
def detector() -> MtcnnDetector:
    return MtcnnDetector(DetectorConfig(device="cpu"))


@pytest.mark.parametrize("name", EXPECTED)
def test_faces_of_a_picture(detector, name):
    """Detectors draw a face's box each in its own way: by a tenth of its side, or half its area."""
    expected = EXPECTED[name]
    image = np.asarray(Image.open(CLIPS / "faces" / name).convert("RGB"))
    (found,) = detector([image])
    assert len(found) == expected["n"]
    height_px, width_px = image.shape[:2]
    assert (found.boxes_px_N4 >= 0).all()
    assert (found.boxes_px_N4 <= [width_px, height_px, width_px, height_px]).all()
    if expected["n"] != 1:
        return
    left, top, right, bottom = found.boxes_px_N4[0]
    tenth_px = 0.1 * (bottom - top)
    if "x_range" in expected:
        for edge, (low, high) in ((left, expected["x_range"]), (top, expected["y_range"])):
            assert low - tenth_px <= edge <= high + tenth_px
    if "nose_tip" in expected:
        off_px = np.linalg.norm(found.landmarks_px_N52[0, 2] - expected["nose_tip"])
        assert off_px <= tenth_px
    if "box" in expected:
        x0, y0, x1, y1 = expected["box"]
        shared = (min(right, x1) - max(left, x0)) * (min(bottom, y1) - max(top, y0))
        either = (right - left) * (bottom - top) + (x1 - x0) * (y1 - y0) - shared
        assert shared / either >= 0.5


def test_presence_is_right_on_a_clip_with_a_face_and_without():
    """A face in frames 0 to 71 of 169, then none; variable frame rate; recipe as delivered."""
    tracker = FaceTracker(MtcnnDetector(DetectorConfig(device="cpu")))
    faces = tracker.track(VideoReader(CLIPS / "pyfeat_face_noface.mov"))
    seen_T = np.any([track.present_T for track in faces.tracks], axis=0)
    assert len(seen_T) == 169
    assert np.mean(seen_T == (np.arange(169) < 72)) >= 0.98


def test_stride_5_agrees_with_stride_1(detector):
    """All clips: benchmarks/bench_agreement.py."""
    reader = VideoReader(CLIPS / "pyfeat_single_face.mp4", end_s=0.8)
    sparse, dense = (
        FaceTracker(detector, TrackerConfig(stride=stride)).track(reader) for stride in (5, 1)
    )
    assert sparse.num_detected < dense.num_detected / 3
    found = compare_tracks(dense, sparse, 5)
    assert len(found.iou_F) == 24 and found.steady_F.all()
    assert np.mean(found.iou_F >= 0.9) >= 0.99
    assert np.mean(found.worst_error_F <= 0.03) >= 0.99
