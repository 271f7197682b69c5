"""A world in which every bright square is a face, and a detector that sees it so."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import find_objects, label

from erray.faces.align import REFERENCE_52
from erray.faces.associate import Detections, iou_matrix
from erray.faces.track import ClipFaces, FaceTracker, TrackerConfig

SIDE_PX = 24
HEIGHT_PX, WIDTH_PX = 90, 160


class SquareDetector:
    """Every bright square is a face, its landmarks at the reference points of the square."""

    def __init__(self) -> None:
        self.num_followed = 0

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        return [detections(boxes_of(image)) for image in images]

    def follow(self, images: list[np.ndarray], boxes_px: list[np.ndarray]) -> list[Detections]:
        """The square that overlaps an expected box most; where there is none a score of 0."""
        self.num_followed += len(images)
        return [self._follow(*pair) for pair in zip(images, boxes_px, strict=True)]

    def _follow(self, image: np.ndarray, expected_N4: np.ndarray) -> Detections:
        seen_M4 = boxes_of(image)
        boxes, scores = [], []
        for box_4 in expected_N4:
            iou_M = iou_matrix(box_4[None], seen_M4)[0]
            there = len(iou_M) > 0 and iou_M.max() > 0
            boxes.append(seen_M4[iou_M.argmax()] if there else box_4)
            scores.append(0.95 if there else 0.0)
        return detections(np.array(boxes).reshape(-1, 4), np.array(scores))


def boxes_of(image: np.ndarray) -> np.ndarray:
    places = find_objects(label(image[..., 0] > 200)[0])
    return np.array([[x.start, y.start, x.stop, y.stop] for y, x in places], "f4").reshape(-1, 4)


def detections(boxes_N4: np.ndarray, scores_N: np.ndarray | float = 0.95) -> Detections:
    boxes_N4 = boxes_N4.astype(np.float32)
    points_N52 = boxes_N4[:, None, :2] + REFERENCE_52[None] * SIDE_PX / 112
    scores_N = np.broadcast_to(scores_N, len(boxes_N4)).astype(np.float32)
    return Detections(boxes_N4, points_N52.astype(np.float32), scores_N)


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
