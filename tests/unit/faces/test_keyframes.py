"""Which frames are searched, and what is followed in the others, in a world of squares."""

import numpy as np
import pytest

from erray.faces.associate import Detections
from erray.faces.keyframes import KeyFrames
from tests.unit.faces.squares_world import SquareDetector, frame, track


class Expecting(SquareDetector):
    """Answers with the boxes it was told to look at."""

    def follow(self, images: list[np.ndarray], boxes_px: list[np.ndarray]) -> list[Detections]:
        found = super().follow(images, boxes_px)
        return [
            Detections(boxes_N4, one.landmarks_px_N52, one.scores_N)
            for boxes_N4, one in zip(boxes_px, found, strict=True)
        ]


def seen(frames: list[np.ndarray], times_s: list[float], detector: SquareDetector, stride: int = 5):
    keys = KeyFrames(detector, stride=stride, steady_iou=0.3, lost_score=0.7)
    done = keys.add(list(zip(times_s, frames, strict=True))) + keys.finish()
    assert [one.tick for one in done] == list(range(len(frames)))
    return [one.found.boxes_px_N4 for one in done], keys.num_searched


def test_a_face_is_expected_where_even_motion_in_time_takes_it():
    """Even motion in time, frames at uneven times: the index would be wrong by pixels."""
    times_s = list(np.cumsum([0.04, 0.01, 0.07, 0.02, 0.06, 0.04, 0.03, 0.05, 0.01, 0.07, 0.04]))
    frames = [frame((round(20 + 50 * (t - times_s[0])), 30)) for t in times_s]
    boxes, num_searched = seen(frames, times_s, Expecting())
    assert num_searched == 3
    left_T = np.concatenate(boxes)[:, 0]
    np.testing.assert_allclose(left_T, 20 + 50 * (np.array(times_s) - times_s[0]), atol=1.0)


def test_a_followed_face_is_measured_where_it_is():
    """It wobbles between the key frames, which a straight line between them cannot know."""
    wobble = [0, 5, -3, 6, -2, 0, 4, -6, 3, -4, 0]
    frames = [frame((60 + x, 30)) for x in wobble]
    boxes, num_searched = seen(frames, [i / 25 for i in range(11)], SquareDetector())
    assert num_searched == 3
    np.testing.assert_array_equal(np.concatenate(boxes)[:, 0], 60 + np.array(wobble))


@pytest.mark.parametrize(
    ("corners", "num_searched"),
    [
        ([(60 + i, 30) for i in range(11)], 3),
        ([(5 + 10 * i, 30) for i in range(11)], 11),
        ([(60, 30)] * 7 + [None] + [(60, 30)] * 3, 7),
        ([(60, 30)] * 3 + [None] * 8, 7),
    ],
    ids=["slow", "too fast to be followed", "lost on the way", "gone"],
)
def test_a_gap_is_searched_where_a_face_cannot_be_followed(corners, num_searched):
    frames = [frame(corner) if corner else frame() for corner in corners]
    boxes, searched = seen(frames, [i / 25 for i in range(11)], SquareDetector())
    assert searched == num_searched
    for boxes_N4, corner in zip(boxes, corners, strict=True):
        assert boxes_N4[:, :2].tolist() == ([list(corner)] if corner else [])


def test_two_faces_that_become_one_have_their_gap_searched():
    """Both are expected to stay, both are found at one place: that may not be taken for two."""
    frames = [frame((50, 30), (80, 30))] * 11
    frames[3] = frame((65, 30))
    boxes, searched = seen(frames, [i / 25 for i in range(11)], SquareDetector())
    assert searched == 7 and [len(boxes_N4) for boxes_N4 in boxes] == [2, 2, 2, 1] + [2] * 7


def test_stride_1_follows_nothing():
    detector = SquareDetector()
    _, searched = seen([frame((60, 30))] * 9, [i / 25 for i in range(9)], detector, stride=1)
    assert searched == 9 and detector.num_followed == 0


def test_faces_in_another_order_at_the_next_key_frame_keep_their_ids():
    """The detector lists the best score first, so the order may change at any frame."""

    class Turning(SquareDetector):
        def __call__(self, images: list[np.ndarray]) -> list[Detections]:
            self.turn = not getattr(self, "turn", False)
            found = super().__call__(images)
            order = slice(None, None, -1 if self.turn else 1)
            return [
                Detections(f.boxes_px_N4[order], f.landmarks_px_N52[order], f.scores_N[order])
                for f in found
            ]

    frames = [frame((40, 30), (100, 40))] * 21
    boxes = [sorted(b.tolist()) for b in seen(frames, [i / 25 for i in range(21)], Turning())[0]]
    assert boxes == [boxes[0]] * 21
    assert len(track(frames).tracks) == 2
