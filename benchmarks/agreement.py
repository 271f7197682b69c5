"""How well two trackings of one clip agree, face by face."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from erray.faces.associate import iou_matrix
from erray.faces.track import ClipFaces

# A face is steady at a tick if it is there for a stride before and after, and no edge of its box
# is further than this share of its side from where it is at that tick.
STEADY_SHARE = 0.2


@dataclass(frozen=True)
class Agreement:
    """One value per face of every tick of the denser tracking.

    Attributes:
        iou_F: overlap with the best box of the other; 0: none there.
        mean_error_F, worst_error_F: mean and largest distance of its five landmarks, in distances
            of the eyes.
        steady_F: see ``STEADY_SHARE``.
    """

    iou_F: np.ndarray
    mean_error_F: np.ndarray
    worst_error_F: np.ndarray
    steady_F: np.ndarray


def compare_tracks(dense: ClipFaces, sparse: ClipFaces, stride: int) -> Agreement:
    """Compare each face of ``dense`` with the face of ``sparse`` that overlaps it most."""
    rows = []
    for track in dense.tracks:
        for tick in np.flatnonzero(track.present_T).tolist():
            steady = is_steady(track.boxes_px_T4, track.present_T, tick, stride)
            others = [other for other in sparse.tracks if other.present_T[tick]]
            if not others:
                rows.append((0.0, np.inf, np.inf, steady))
                continue
            boxes_N4 = np.stack([other.boxes_px_T4[tick] for other in others])
            iou_N = iou_matrix(track.boxes_px_T4[tick][None], boxes_N4)[0]
            points_52 = track.landmarks_px_T52[tick]
            off_52 = points_52 - others[int(iou_N.argmax())].landmarks_px_T52[tick]
            eyes_px = np.linalg.norm(points_52[0] - points_52[1])
            error_5 = np.linalg.norm(off_52, axis=1) / eyes_px
            rows.append((iou_N.max(), error_5.mean(), error_5.max(), steady))
    table = np.array(rows, np.float64).reshape(-1, 4)
    return Agreement(table[:, 0], table[:, 1], table[:, 2], table[:, 3] == 1)


def is_steady(boxes_T4: np.ndarray, present_T: np.ndarray, tick: int, stride: int) -> bool:
    """Tell whether a face hardly moves around a tick; at an end of the clip, on its one side."""
    near = slice(max(tick - stride, 0), tick + stride + 1)
    side_px = np.sqrt(np.prod(boxes_T4[tick, 2:] - boxes_T4[tick, :2]))
    moved_px = np.abs(boxes_T4[near] - boxes_T4[tick]).max()
    return bool(present_T[near].all() and moved_px <= STEADY_SHARE * side_px)
