"""Which frames are searched and in which the faces are only followed.

Every stride-th frame and the last one are searched. Between two of them that hold the same faces
at about the same place, each face is measured where a straight line between its boxes passes; a
face that is not found there, or no longer apart from another, has the whole gap searched.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from erray.faces.associate import Detections, link
from erray.faces.boxes import uncovered
from erray.faces.shots import is_cut, thumbnail


class Detector(Protocol):
    """What finds faces, see :class:`erray.faces.detect.MtcnnDetector`."""

    def __call__(self, images: Sequence[NDArray[np.uint8]], /) -> list[Detections]:
        """Search each image."""

    def follow(
        self, images: Sequence[NDArray[np.uint8]], boxes_px: Sequence[NDArray[np.floating]], /
    ) -> list[Detections]:
        """Measure faces near the given boxes of each image: as many, in their order."""


@dataclass
class Frame:
    """One frame of a clip; ``found`` is None until it has been searched or followed."""

    tick: int
    time_s: float
    image_HWC: NDArray[np.uint8]
    new_shot: bool
    found: Detections | None = None


class KeyFrames:
    """Frames of one clip in, the same frames with their faces out, in order.

    Args:
        detector: searches and follows.
        stride: ticks between key frames.
        steady_iou: least overlap of a face in successive key frames for it to be followed.
        lost_score: least score of a followed face.
    """

    def __init__(
        self, detector: Detector, *, stride: int, steady_iou: float, lost_score: float
    ) -> None:
        self._detector = detector
        self._stride = stride
        self._steady_iou = steady_iou
        self._lost_score = lost_score
        self._pending: list[Frame] = []
        self._last_key: Frame | None = None
        self._thumbnail: NDArray[np.float32] | None = None
        self._last_time_s = -np.inf
        self._shape: tuple[int, ...] = ()
        self._num_frames = 0
        self.num_searched = 0

    @property
    def frame_size_px(self) -> tuple[int, int]:
        """Width and height of the frames; (0, 0) before the first."""
        return (self._shape[1], self._shape[0]) if self._shape else (0, 0)

    def add(self, block: Sequence[tuple[float, NDArray[np.uint8]]]) -> list[Frame]:
        """Take the next frames; return those up to the last key frame among them.

        Raises:
            ValueError: frames of different sizes, or times that do not increase.
        """
        self._pending += [self._frame(time_s, image_HWC) for time_s, image_HWC in block]
        return self._advance([f for f in self._pending if f.tick % self._stride == 0])

    def finish(self) -> list[Frame]:
        """Return the frames after the last key frame; the very last one is searched."""
        return self._advance(self._pending[-1:])

    def _frame(self, time_s: float, image_HWC: NDArray[np.uint8]) -> Frame:
        if time_s <= self._last_time_s:
            raise ValueError(f"expected a time after {self._last_time_s} s, found {time_s} s")
        if self._shape and image_HWC.shape != self._shape:
            raise ValueError(f"expected frames of {self._shape}, found {image_HWC.shape}")
        small = thumbnail(image_HWC)
        new_shot = self._thumbnail is not None and is_cut(self._thumbnail, small)
        frame = Frame(self._num_frames, time_s, image_HWC, new_shot)
        self._thumbnail, self._last_time_s, self._shape = small, time_s, image_HWC.shape
        self._num_frames += 1
        return frame

    def _advance(self, keys: list[Frame]) -> list[Frame]:
        if not keys:
            return []
        self._search(keys)
        bounds = keys if self._last_key is None else [self._last_key, *keys]
        gaps = [(before, self._between(before, after), after) for before, after in pairwise(bounds)]
        self._follow([gap for gap in gaps if self._is_steady(*gap)])
        self._search([frame for _, between, _ in gaps for frame in between if frame.found is None])
        self._last_key = keys[-1]
        done = [frame for frame in self._pending if frame.tick <= keys[-1].tick]
        self._pending = self._pending[len(done) :]
        return done

    def _between(self, before: Frame, after: Frame) -> list[Frame]:
        first = self._pending[0].tick
        return self._pending[max(0, before.tick + 1 - first) : after.tick - first]

    def _search(self, frames: list[Frame]) -> None:
        if not frames:
            return
        found = self._detector([frame.image_HWC for frame in frames])
        for frame, detections in zip(frames, found, strict=True):
            frame.found = detections
        self.num_searched += len(frames)

    def _is_steady(self, before: Frame, between: list[Frame], after: Frame) -> bool:
        """Tell whether both key frames hold the same faces, little moved, in one shot."""
        if any(frame.new_shot for frame in [*between, after]):
            return False
        assert before.found is not None and after.found is not None
        pairs = link(before.found.boxes_px_N4, after.found.boxes_px_N4, self._steady_iou)
        return len(pairs) == len(before.found) == len(after.found)

    def _follow(self, gaps: list[tuple[Frame, list[Frame], Frame]]) -> None:
        """Measure the faces of steady gaps, all in one batch; leave a gap alone that lost one."""
        frames = [frame for _, between, _ in gaps for frame in between]
        boxes = [box for gap in gaps for box in self._predicted(*gap)]
        found = iter(self._detector.follow([f.image_HWC for f in frames], boxes))
        for _, between, _ in gaps:
            followed = [next(found) for _ in between]
            if any(self._lost(detections) for detections in followed):
                continue
            for frame, detections in zip(between, followed, strict=True):
                frame.found = detections

    def _predicted(
        self, before: Frame, between: list[Frame], after: Frame
    ) -> list[NDArray[np.float32]]:
        assert before.found is not None and after.found is not None
        old_N4, new_N4 = before.found.boxes_px_N4, after.found.boxes_px_N4
        pairs = link(old_N4, new_N4, self._steady_iou)
        old_N4 = old_N4[[i for i, _ in pairs]]
        new_N4 = new_N4[[j for _, j in pairs]]
        duration_s = after.time_s - before.time_s
        shares = [(frame.time_s - before.time_s) / duration_s for frame in between]
        return [old_N4 + np.float32(share) * (new_N4 - old_N4) for share in shares]

    def _lost(self, found: Detections) -> bool:
        apart = uncovered(found.boxes_px_N4.astype(np.float64), found.scores_N.astype(np.float64))
        return len(apart) < len(found) or bool((found.scores_N < self._lost_score).any())
