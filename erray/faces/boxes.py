"""Arithmetic of boxes that a detector needs: squares around them, corrections, duplicates. Pure.

Boxes are [left, top, right, bottom] in pixels, as edges: (0, 0, width, height) is the whole frame.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of two faces, one of which covers so much of the smaller, the one of better score is kept.
COVERED_SHARE = 0.7


def square_up(boxes_N4: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return squares around the same centres, as wide as the longer side of each box."""
    boxes_N4 = boxes_N4.astype(np.float64)
    centre_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    half_N1 = (boxes_N4[:, 2:] - boxes_N4[:, :2]).max(axis=1, keepdims=True) / 2
    return np.hstack([centre_N2 - half_N1, centre_N2 + half_N1])


def moved(boxes_K4: NDArray[np.float64], shift_K4: NDArray[np.floating]) -> NDArray[np.float64]:
    """Shift each edge by a share of the box's size, as the nets say it."""
    size_K2 = boxes_K4[:, 2:] - boxes_K4[:, :2]
    return np.asarray(boxes_K4 + shift_K4 * np.tile(size_K2, 2))


def uncovered(boxes_N4: NDArray[np.float64], scores_N: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the places of one image's boxes that no box of better score covers, best first.

    The share that counts is that of the smaller box: part of a face within the face is dropped.
    """
    kept: list[int] = []
    for n in np.argsort(-scores_N, kind="stable").tolist():
        if not kept or _covered(boxes_N4[n], boxes_N4[kept]).max() <= COVERED_SHARE:
            kept.append(n)
    return np.array(kept, np.int64)


def _covered(box_4: NDArray[np.float64], boxes_N4: NDArray[np.float64]) -> NDArray[np.float64]:
    size_N2 = np.minimum(box_4[2:], boxes_N4[:, 2:]) - np.maximum(box_4[:2], boxes_N4[:, :2])
    area = np.prod(box_4[2:] - box_4[:2])
    area_N = np.prod(boxes_N4[:, 2:] - boxes_N4[:, :2], axis=1)
    return np.asarray(np.prod(np.maximum(size_N2, 0), axis=1) / np.minimum(area, area_N))
