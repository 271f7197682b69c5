"""Boxes of single frames to tracks over time, and the choice of a clip's main track. Pure numpy.

Linking is the assignment of largest total overlap (Hungarian method) between the boxes last seen
and the boxes found now. It knows nothing of appearance: a cut of the picture ends every track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from erray.errors import UserError
from erray.records import FaceTrack


@dataclass(frozen=True)
class Detections:
    """The N faces of one frame, in pixels of that frame; boxes are [left, top, right, bottom].

    Landmarks are (x, y) of left eye, right eye, nose tip, left and right corner of the mouth, as
    seen in the picture; a pixel's centre has whole coordinates. Scores are in [0, 1].
    """

    boxes_px_N4: NDArray[np.float32]
    landmarks_px_N52: NDArray[np.float32]
    scores_N: NDArray[np.float32]

    def __post_init__(self) -> None:
        num = len(self.scores_N)
        assert self.boxes_px_N4.shape == (num, 4), self.boxes_px_N4.shape
        assert self.landmarks_px_N52.shape == (num, 5, 2), self.landmarks_px_N52.shape

    def __len__(self) -> int:
        return len(self.scores_N)


@dataclass(frozen=True)
class LinkConfig:
    """When two boxes are the same face.

    Attributes:
        min_iou: least overlap of boxes in successive detected frames.
        max_gap_s: longest time for which the detector may miss a face without ending its track.
        bridge_iou: least overlap of the boxes at both ends of such a gap: the same place.
    """

    min_iou: float = 0.3
    max_gap_s: float = 0.4
    bridge_iou: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_iou", "bridge_iou"):
            if not 0.0 < getattr(self, name) <= 1.0:
                raise UserError(
                    f"faces: expected {name} above 0, at most 1, found {getattr(self, name)}"
                )
        if not self.max_gap_s >= 0.0:
            raise UserError(f"faces: expected max_gap_s of 0 or more, found {self.max_gap_s}")


@dataclass(frozen=True)
class Observation:
    """One face in one detected frame."""

    tick: int
    time_s: float
    box_px_4: NDArray[np.float32]
    landmarks_px_52: NDArray[np.float32]
    score: float

    def blend(self, other: Observation, tick: int, time_s: float) -> Observation:
        """Return the face at a time between this observation and a later one, linear in time."""
        share = np.float32((time_s - self.time_s) / (other.time_s - self.time_s))
        return Observation(
            tick,
            time_s,
            self.box_px_4 + share * (other.box_px_4 - self.box_px_4),
            self.landmarks_px_52 + share * (other.landmarks_px_52 - self.landmarks_px_52),
            float(self.score + share * (other.score - self.score)),
        )


def iou_matrix(boxes_N4: NDArray[np.floating], boxes_M4: NDArray[np.floating]) -> NDArray:
    """Return intersection over union [N, M]; a box without area overlaps nothing."""
    a, b = boxes_N4[:, None].astype(np.float64), boxes_M4[None].astype(np.float64)
    size_NM2 = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared_NM = np.prod(np.maximum(size_NM2, 0.0), axis=-1)
    area_N1 = np.prod(np.maximum(a[..., 2:] - a[..., :2], 0.0), axis=-1)
    area_1M = np.prod(np.maximum(b[..., 2:] - b[..., :2], 0.0), axis=-1)
    union_NM = area_N1 + area_1M - shared_NM
    return np.divide(shared_NM, union_NM, out=np.zeros_like(shared_NM), where=union_NM > 0)


def link(
    previous_boxes_N4: NDArray[np.floating], boxes_M4: NDArray[np.floating], min_iou: float
) -> list[tuple[int, int]]:
    """Return pairs (previous, new) of largest total overlap, each overlapping by ``min_iou``."""
    iou_NM = iou_matrix(previous_boxes_N4, boxes_M4)
    # what may not be linked weighs nothing, so that it never displaces an allowed pair
    rows, columns = linear_sum_assignment(np.where(iou_NM >= min_iou, iou_NM, 0.0), maximize=True)
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if iou_NM[r, c] >= min_iou]


class Linker:
    """Turns the detections of successive frames into tracks with ids 0, 1, ... as they appear."""

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        self._last_seen: dict[int, Observation] = {}
        self._previous_tick = -1
        self._num_tracks = 0

    def step(
        self, tick: int, time_s: float, detections: Detections, *, new_shot: bool = False
    ) -> list[tuple[int, Observation | None, Observation]]:
        """Take the next detected frame; return (track id, observation before, observation now).

        The observation before is None where a track begins. A face that was missed in frames
        between is linked only within ``max_gap_s`` and to a box of ``bridge_iou`` overlap.
        ``new_shot``: the picture was cut since the frame before, every track has ended.
        """
        found = [
            Observation(tick, time_s, box, points, float(score))
            for box, points, score in zip(
                detections.boxes_px_N4,
                detections.landmarks_px_N52,
                detections.scores_N,
                strict=True,
            )
        ]
        oldest_s = time_s - self.config.max_gap_s
        self._last_seen = {
            track_id: last
            for track_id, last in self._last_seen.items()
            if not new_shot and (last.tick == self._previous_tick or last.time_s >= oldest_s)
        }
        track_of = self._match(found, missed=False)
        track_of |= self._match(found, missed=True, taken=track_of)
        steps: list[tuple[int, Observation | None, Observation]] = []
        for index, observation in enumerate(found):
            if index not in track_of:
                track_of[index] = self._num_tracks
                self._num_tracks += 1
            track_id = track_of[index]
            steps.append((track_id, self._last_seen.get(track_id), observation))
            self._last_seen[track_id] = observation
        self._previous_tick = tick
        return steps

    def open_tracks(self) -> set[int]:
        """Return the ids of the tracks that a later frame may still continue."""
        return set(self._last_seen)

    def _match(
        self, found: list[Observation], *, missed: bool, taken: dict[int, int] | None = None
    ) -> dict[int, int]:
        """Link open tracks, seen or missed in the frame before, to detections not yet taken."""
        taken = taken or {}
        tracks = [
            track_id
            for track_id, last in self._last_seen.items()
            if (last.tick != self._previous_tick) == missed and track_id not in taken.values()
        ]
        free = [index for index in range(len(found)) if index not in taken]
        if not tracks or not free:
            return {}
        before = np.stack([self._last_seen[track_id].box_px_4 for track_id in tracks])
        now = np.stack([found[index].box_px_4 for index in free])
        min_iou = self.config.bridge_iou if missed else self.config.min_iou
        return {free[column]: tracks[row] for row, column in link(before, now, min_iou)}


def main_track(tracks: Sequence[FaceTrack]) -> int | None:
    """Return the id of a clip's main track, None without tracks.

    The rule: the largest sum over present ticks of score times the side of the box (the square
    root of its area), that is duration times size times score; of equals the lowest id.
    """
    if not tracks:
        return None
    return min(tracks, key=lambda track: (-_weight(track), track.track_id)).track_id


def _weight(track: FaceTrack) -> float:
    boxes_P4 = track.boxes_px_T4[track.present_T].astype(np.float64)
    side_P = np.sqrt(np.prod(boxes_P4[:, 2:] - boxes_P4[:, :2], axis=1))
    return float(np.sum(track.scores_T[track.present_T] * side_P))
