"""Tracks of a made-up world of squares."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import erray.faces.track
from erray.errors import UserError
from erray.faces import growing
from erray.faces.track import ClipFaces, FaceTracker, TrackerConfig
from tests.unit.faces.squares_world import (
    HEIGHT_PX,
    WIDTH_PX,
    SquareDetector,
    frame,
    track,
)


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


def test_the_larger_longer_face_is_main_and_the_crops_of_both_are_there():
    frames = [frame((20, 30), (100, 50)) if i < 20 else frame((100, 50)) for i in range(40)]
    faces = track(frames)
    assert [t.is_main for t in faces.tracks] == [False, True]
    assert sorted(faces.crops) == [0, 1]
    crop = np.asarray(Image.open(io.BytesIO(faces.crops[1][1][7])))
    assert crop.shape == (32, 32, 3) and crop[8:24, 8:24].min() > 240


@pytest.mark.parametrize(("block_frames", "gap_frames"), [(10, 64), (3, 4)])
def test_the_buffer_stays_small(block_frames, gap_frames, monkeypatch):
    """Frames are counted while they are alive; a long gap and smoothing hold some back."""
    frame_bytes = frame().nbytes
    monkeypatch.setattr(erray.faces.track, "BLOCK_BYTES", block_frames * frame_bytes)
    monkeypatch.setattr(erray.faces.track, "GAP_BYTES", gap_frames * frame_bytes)
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

    FaceTracker(SquareDetector(), TrackerConfig()).track(frames())
    # a gap of up to 0.4 s, or its bound; the block; the stride; smoothing
    assert block_frames <= most[0] <= min(11, gap_frames) + 2 * block_frames + 10


def test_the_same_clip_twice_and_in_other_blocks_is_the_same(monkeypatch):
    frames = [frame((40 + i // 3, 30)) if i % 37 else frame() for i in range(80)]
    first = track(frames, smooth_s=0.06)
    others = [track(frames, smooth_s=0.06, block_ticks=block) for block in (30, 7, 1)]
    monkeypatch.setattr(erray.faces.track, "BLOCK_BYTES", 2 * frames[0].nbytes)
    for other in (*others, track(frames, smooth_s=0.06)):
        np.testing.assert_array_equal(first.tracks[0].boxes_px_T4, other.tracks[0].boxes_px_T4)
        assert list(first.crops[0][1]) == list(other.crops[0][1])


@pytest.mark.parametrize("smooth_s", [0.0, 0.06, 0.5])
def test_what_a_long_track_forgets_changes_nothing(monkeypatch, smooth_s):
    frames = [
        frame((20 + i % 50, 30), (100, 50)) if i % 70 < 63 else frame((100, 50)) for i in range(200)
    ]
    whole = track(frames, smooth_s=smooth_s)
    monkeypatch.setattr(growing, "_TRIM_TICKS", 1)
    trimmed = track(frames, smooth_s=smooth_s)
    assert len(whole.tracks) > 1
    for a, b in zip(whole.tracks, trimmed.tracks, strict=True):
        np.testing.assert_array_equal(a.boxes_px_T4, b.boxes_px_T4)
        np.testing.assert_array_equal(a.landmarks_px_T52, b.landmarks_px_T52)
        np.testing.assert_array_equal(a.scores_T, b.scores_T)
        assert list(whole.crops[a.track_id][1]) == list(trimmed.crops[b.track_id][1])


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
    [
        {"stride": 0},
        {"jpeg_quality": 96},
        {"smooth_s": 2.0},
        {"min_iou": 2.0},
        {"lost_score": -1.0},
    ],
)
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        TrackerConfig(**options)
