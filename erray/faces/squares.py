"""Squares cut out of frames and brought to one small size: what the nets of the detector look at.

Pillow does it on the CPU, also for a detector on a GPU: a frame has few faces, a square costs tens
of microseconds, and frames of any size never have to become floating point numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Large regions are first reduced by a whole factor as long as a square stays this much larger than
# what is wanted: several times faster on large faces, and hardly to be seen in the result.
REDUCING_GAP = 2.0


def cut_squares(
    images: Sequence[NDArray[np.uint8]],
    image_of_K: Sequence[int] | NDArray[np.integer],
    squares_KJ4: NDArray[np.floating],
    side_px: int,
) -> NDArray[np.uint8]:
    """Return RGB patches [K, J, side_px, side_px, 3]; what lies outside of a frame is black.

    Args:
        images: uint8 RGB frames.
        image_of_K: which frame each group of squares is cut from.
        squares_KJ4: J squares near each other: left, top, right, bottom in pixels, as edges.
        side_px: of the patches.
    """
    num_groups, num_squares, _ = squares_KJ4.shape
    patches = np.empty((num_groups, num_squares, side_px, side_px, 3), np.uint8)
    for k, (n, squares_J4) in enumerate(zip(image_of_K, squares_KJ4, strict=True)):
        left, top = np.floor(squares_J4[:, :2].min(axis=0)).astype(int)
        right, bottom = np.ceil(squares_J4[:, 2:].max(axis=0)).astype(int)
        region = Image.fromarray(_region(images[n], left, top, right, bottom))
        smallest_px = (squares_J4[:, 2] - squares_J4[:, 0]).min()
        factor = max(1, int(smallest_px / (REDUCING_GAP * side_px)))
        if factor > 1:
            region = region.reduce(factor)
        within_J4 = (squares_J4 - [left, top, left, top]) / factor
        for j, box_4 in enumerate(within_J4.tolist()):
            patch = region.resize((side_px, side_px), Image.Resampling.BOX, box=tuple(box_4))
            patches[k, j] = np.asarray(patch)
    return patches


def _region(
    image_HWC: NDArray[np.uint8], left: int, top: int, right: int, bottom: int
) -> NDArray[np.uint8]:
    height_px, width_px = image_HWC.shape[:2]
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width_px), min(bottom, height_px)
    if (x0, y0, x1, y1) == (left, top, right, bottom):
        return np.ascontiguousarray(image_HWC[top:bottom, left:right])
    region = np.zeros((bottom - top, right - left, 3), np.uint8)
    if x0 < x1 and y0 < y1:
        region[y0 - top : y1 - top, x0 - left : x1 - left] = image_HWC[y0:y1, x0:x1]
    return region
