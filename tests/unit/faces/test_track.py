"""The tracker on drawn pictures: a detector that finds bright squares stands for the real one.

It reads the pixels it is given, so a wrong frame, a wrong order or a frame never asked for show.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import find_objects, label

from erray.errors import UserError
from erray.faces.align import REFERENCE_52
from erray.faces.associate import Detections, Observation, iou_matrix
from erray.faces.crops import decode_crops
from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.draw import contact_sheet, draw_tracks
from erray.faces.shots import is_cut
from erray.faces.smooth import smooth
from erray.faces.track import ClipFaces, FaceTracker, TrackerConfig
from erray.media import VideoReader

CLIPS = Path(__file__).parents[4] / "shared" / "clips"
SIDE_PX = 24
HEIGHT_PX, WIDTH_PX = 90, 160


class SquareDetector:
    """Every bright square is a face, its landmarks at the reference points of the square."""

    def __init__(self) -> None:
        self.num_images = 0

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        self.num_images += len(images)
        return [self._one(image) for image in images]

    def follow(self, images: list[np.ndarray], boxes_px: list[np.ndarray]) -> list[Detections]:
        """The square that overlaps the expected box most; nothing there: a score of 0."""
        followed = []
        for image, boxes_N4 in zip(images, boxes_px, strict=True):
            seen = self._one(image)
            iou_NM = np.hstack(
                [iou_matrix(boxes_N4, seen.boxes_px_N4), np.zeros((len(boxes_N4), 1))]
            )
            nearest_N = iou_NM.argmax(axis=1)
            lost_N = iou_NM.max(axis=1) == 0
            found = [
                b if lost else seen.boxes_px_N4[i]
                for b, i, lost in zip(boxes_N4, nearest_N, lost_N, strict=True)
            ]
            boxes = np.array(found, np.float32).reshape(-1, 4)
            points = boxes[:, None, :2] + REFERENCE_52[None] * SIDE_PX / 112
            followed.append(
                Detections(boxes, points.astype(np.float32), np.where(lost_N, 0, 0.95).astype("f4"))
            )
        return followed

    def _one(self, image: np.ndarray) -> Detections:
        places = find_objects(label(image[..., 0] > 200)[0])
        boxes = [[x.start, y.start, x.stop, y.stop] for y, x in places]
        boxes_N4 = np.array(boxes, np.float32).reshape(-1, 4)
        points = boxes_N4[:, None, :2] + REFERENCE_52[None] * SIDE_PX / 112
        return Detections(boxes_N4, points.astype(np.float32), np.full(len(boxes), 0.95, "f4"))


def frame(*corners: tuple[int, int], background: int = 40) -> np.ndarray:
    image = np.full((HEIGHT_PX, WIDTH_PX, 3), background, np.uint8)
    for x, y in corners:
        image[y : y + SIDE_PX, x : x + SIDE_PX] = 255
    return image


def track(frames: list[np.ndarray], times_s: list[float] | None = None, **options) -> ClipFaces:
    times_s = times_s or [i / 25 for i in range(len(frames))]
    options = {"smooth_s": 0.0, "crop_size_px": 32} | options
    tracker = FaceTracker(SquareDetector(), TrackerConfig(**options))
    return tracker.track(zip(times_s, frames, strict=True))


def ticks_of(faces: ClipFaces) -> list[list[int]]:
    return [np.flatnonzero(t.present_T).tolist() for t in faces.tracks]


@pytest.mark.parametrize("stride", [1, 3, 5, 7])
@pytest.mark.parametrize("num", [1, 2, 31, 47])
def test_a_steady_face_is_present_at_every_tick(stride, num):
    faces = track([frame((60, 30))] * num, stride=stride)
    assert ticks_of(faces) == [list(range(num))]
    assert faces.tracks[0].is_main and faces.frame_size_px == (WIDTH_PX, HEIGHT_PX)
    assert faces.num_detected == len({*range(0, num, stride), num - 1})
    np.testing.assert_array_equal(faces.tracks[0].boxes_px_T4, [[60, 30, 84, 54]] * num)
    ticks, jpegs = faces.crops[0]
    assert ticks.tolist() == list(range(num)) and len(jpegs) == num


@given(first=st.integers(1, 60), length=st.integers(6, 60), block=st.sampled_from([4, 30, 64]))
@settings(max_examples=25, deadline=None)
def test_presence_is_right_to_the_frame(first, length, block):
    """A face that stays for more than a stride is seen from its first to its last frame."""
    shown = range(first, min(first + length, 75))
    frames = [frame((60, 30)) if i in shown else frame() for i in range(80)]
    assert ticks_of(track(frames, stride=5, block_ticks=block)) == [list(shown)] * bool(shown)


def test_motion_between_key_frames_follows_the_clock_not_the_index():
    """Even motion in time, frames at uneven times: interpolation must use the times."""
    times_s = list(np.cumsum([0.04, 0.01, 0.07, 0.02, 0.06, 0.04, 0.03, 0.05, 0.01, 0.07, 0.04]))
    frames = [frame((round(20 + 50 * (t - times_s[0])), 30)) for t in times_s]
    faces = track(frames, times_s, stride=5, steady_iou=0.1)
    assert faces.num_detected == 3
    left_T = faces.tracks[0].boxes_px_T4[:, 0]
    np.testing.assert_allclose(left_T, 20 + 50 * (np.array(times_s) - times_s[0]), atol=1.0)


def test_a_fast_face_is_detected_on_every_frame():
    frames = [frame((min(4 * i, 130), 30)) for i in range(30)]
    faces = track(frames, stride=5)
    assert len(faces.tracks) == 1 and faces.num_detected == 30
    np.testing.assert_array_equal(
        faces.tracks[0].boxes_px_T4[:, 0], [min(4 * i, 130) for i in range(30)]
    )


def test_a_short_miss_is_bridged_a_long_one_is_not():
    def frames(num_missed: int) -> list[np.ndarray]:
        return [frame((60, 30))] * 10 + [frame()] * num_missed + [frame((62, 30))] * 10

    bridged = track(frames(8), stride=1)
    assert ticks_of(bridged) == [list(range(28))]
    assert 60 < bridged.tracks[0].boxes_px_T4[13, 0] < 62
    assert bridged.crops[0][0].tolist() == list(range(28)), "the missed frames have crops too"
    assert ticks_of(track(frames(11), stride=1)) == [list(range(10)), list(range(21, 31))]


@pytest.mark.parametrize("stride", [1, 5])
def test_a_cut_ends_a_track_even_in_place(stride):
    x = np.tile(np.arange(WIDTH_PX), (HEIGHT_PX, 1))
    scenes = [(x * 199 // WIDTH_PX), 199 - (x * 199 // WIDTH_PX)]
    frames = []
    for i in range(33):
        image = np.repeat(scenes[i >= 13][..., None], 3, axis=-1).astype(np.uint8)
        image[30:54, 60:84] = 255
        frames.append(image)
    assert ticks_of(track(frames, stride=stride)) == [list(range(13)), list(range(13, 33))]


def test_a_flash_is_no_cut_a_new_picture_is():
    generator = np.random.default_rng(0)
    a, b = generator.uniform(0, 150, (2, 24, 40)).astype(np.float32)
    assert not is_cut(a, a) and not is_cut(a, a + 80) and is_cut(a, b)
    assert not is_cut(a, a + generator.normal(0, 4, a.shape).astype(np.float32))
    assert is_cut(a, np.zeros_like(a)) and not is_cut(np.zeros_like(a), np.zeros_like(a))


def test_the_larger_longer_face_is_main_and_its_crops_are_kept():
    frames = [frame((20, 30), (100, 50)) if i < 20 else frame((100, 50)) for i in range(40)]
    faces = track(frames)
    assert [t.is_main for t in faces.tracks] == [False, True]
    assert list(faces.crops) == [1]
    assert sorted(track(frames, crops="all").crops) == [0, 1]
    crop = np.asarray(Image.open(io.BytesIO(faces.crops[1][1][7])))
    assert crop.shape == (32, 32, 3) and crop[8:24, 8:24].min() > 240


def test_the_buffer_stays_small():
    """Frames are counted while they are alive; a long gap and smoothing hold some back."""
    alive, most = [0], [0]

    class Counted(np.ndarray):
        def __del__(self) -> None:
            if self.base is None or not isinstance(self.base, Counted):
                alive[0] -= 1

    def frames():
        for i in range(600):
            image = frame((60, 30)) if i % 90 < 60 else frame()
            counted = image.view(Counted)
            alive[0] += 1
            most[0] = max(most[0], alive[0])
            yield i / 25, counted

    FaceTracker(SquareDetector(), TrackerConfig(block_ticks=10)).track(frames())
    assert 10 <= most[0] <= 45


def test_the_same_clip_twice_and_in_other_blocks_is_the_same():
    frames = [frame((40 + i // 3, 30)) if i % 37 else frame() for i in range(80)]
    first = track(frames, smooth_s=0.06)
    for other in (track(frames, smooth_s=0.06), track(frames, smooth_s=0.06, block_ticks=7)):
        np.testing.assert_array_equal(first.tracks[0].boxes_px_T4, other.tracks[0].boxes_px_T4)
        assert list(first.crops[0][1]) == list(other.crops[0][1])


def test_no_frames_and_no_faces():
    nothing = track([])
    assert nothing.tracks == [] and len(nothing.frame_times_s_T) == 0
    assert track([frame()] * 9).tracks == []


def test_frames_that_cannot_be_a_clip():
    with pytest.raises(ValueError, match="expected a time after"):
        track([frame()] * 2, [0.1, 0.1])
    with pytest.raises(ValueError, match="expected frames of"):
        track([frame(), frame()[:50]])


@pytest.mark.parametrize(
    "options",
    [{"stride": 0}, {"jpeg_quality": 96}, {"crops": "some"}, {"min_iou": 2.0}, {"smooth_s": -1.0}],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        TrackerConfig(**options)


def line(noise: float, num: int = 41) -> list[Observation]:
    generator = np.random.default_rng(1)
    seen = []
    for i in range(num):
        box = np.array([50 + 2 * i, 40, 80 + 2 * i, 70]) + generator.normal(0, noise, 4)
        points = REFERENCE_52 + np.array([2 * i, 0]) + generator.normal(0, noise, (5, 2))
        seen.append(Observation(i, i / 25, box.astype("f4"), points.astype("f4"), 0.9))
    return seen


def test_smoothing_keeps_even_motion_and_takes_off_noise():
    clean, noisy = line(0.0), line(1.0)
    for index, exact in enumerate(clean):
        kept = smooth(clean, index, 0.06, (500, 500))
        np.testing.assert_allclose(kept.box_px_4, exact.box_px_4, atol=1e-3)
        np.testing.assert_allclose(kept.landmarks_px_52, exact.landmarks_px_52, atol=1e-3)
    before = [n.box_px_4 - c.box_px_4 for n, c in zip(noisy, clean, strict=True)]
    after = [smooth(noisy, i, 0.06, (500, 500)).box_px_4 - c.box_px_4 for i, c in enumerate(clean)]
    assert np.std(after) < 0.65 * np.std(before)
    assert smooth(noisy, 3, 0.0, (500, 500)) is noisy[3]


def test_crops_come_back_from_rows_in_order():
    faces = track([frame((60, 30))] * 7)
    ticks, jpegs = faces.crops[0]
    rows = [
        {"ticks": ticks[4:].tolist(), "jpegs": jpegs[4:]},
        {"ticks": ticks[:4].tolist(), "jpegs": jpegs[:4]},
    ]
    found_ticks, crops = decode_crops(rows)
    assert found_ticks.tolist() == list(range(7)) and found_ticks.dtype == np.int32
    assert crops.shape == (7, 32, 32, 3) and crops.dtype == np.uint8
    assert decode_crops([])[1].shape[0] == 0


def test_drawing_marks_the_face_and_leaves_the_frame_alone(tmp_path):
    frames = [frame((60, 30), (110, 40))] * 6 + [frame((60, 30))] * 6
    faces = track(frames)
    drawn = draw_tracks(frames[0], 0, faces.tracks, ["0", "1"])
    assert np.array_equal(frames[0], frame((60, 30), (110, 40)))
    changed = (drawn != frames[0]).any(axis=-1)
    assert changed[30, 60:84].all() and changed[40:64, 110].all()
    assert not (draw_tracks(frames[8], 8, faces.tracks, ["0", "1"]) != frames[8])[:, 100:].any()
    contact_sheet(tmp_path / "sheet.png", frames, faces, num_frames=5, num_columns=2)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (640, 3 * (180 + 106))


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the folder shared/clips with real media is missing")
def test_presence_on_a_real_clip():
    """A face in frames 0 to 71 of 169, then none; variable frame rate."""
    detector = MtcnnDetector(DetectorConfig(min_face_px=100, frame_side_px=320))
    faces = FaceTracker(detector).track(VideoReader(CLIPS / "pyfeat_face_noface.mov"))
    seen_T = np.any([t.present_T for t in faces.tracks], axis=0)
    assert len(seen_T) == 169
    assert np.mean(seen_T == (np.arange(169) < 72)) >= 0.98


@pytest.mark.skipif(not CLIPS.is_dir(), reason="the folder shared/clips with real media is missing")
def test_stride_5_follows_stride_1_on_a_real_face():
    detector = MtcnnDetector(DetectorConfig(min_face_px=60))
    reader = VideoReader(CLIPS / "pyfeat_single_face.mp4", end_s=0.8)
    sparse, dense = (
        FaceTracker(detector, TrackerConfig(stride=stride)).track(reader) for stride in (5, 1)
    )
    assert sparse.num_detected < dense.num_detected / 3
    (a,), (b,) = sparse.tracks, dense.tracks
    assert a.present_T.all() and b.present_T.all()
    iou_T = np.diag(iou_matrix(a.boxes_px_T4, b.boxes_px_T4))
    assert np.mean(iou_T >= 0.9) >= 0.99
    off_T = np.linalg.norm(a.landmarks_px_T52 - b.landmarks_px_T52, axis=-1).mean(axis=1)
    eyes_T = np.linalg.norm(b.landmarks_px_T52[:, 0] - b.landmarks_px_T52[:, 1], axis=-1)
    assert (off_T / eyes_T).max() <= 0.03
