"""Squares cut out of frames and brought to one small size: what the nets of the detector look at.

Pillow does it on the CPU, also for a detector on a GPU: a frame has few faces, a square costs tens
of microseconds, and frames of any size never have to become floating point numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# A large square is first reduced by whole factors as long as it stays this much larger than what
# is wanted: several times faster on large faces, and hardly to be seen in the result.
REDUCING_GAP = 2.0


def cut_squares(
    images: Sequence[NDArray[np.uint8]],
    image_of_K: Sequence[int] | NDArray[np.integer],
    squares_K4: NDArray[np.floating],
    side_px: int,
) -> NDArray[np.uint8]:
    """Return RGB patches [K, side_px, side_px, 3]; what lies outside of a frame is black.

    Args:
        images: uint8 RGB frames.
        image_of_K: which frame each square is cut from.
        squares_K4: left, top, right, bottom in pixels; edges, so that (0, 0, w, h) is the frame.
        side_px: of the patches.
    """
    patches = np.empty((len(squares_K4), side_px, side_px, 3), np.uint8)
    for k, (n, square_4) in enumerate(zip(image_of_K, squares_K4, strict=True)):
        patches[k] = _cut(images[n], square_4, side_px)
    return patches


def _cut(
    image_HWC: NDArray[np.uint8], square_4: NDArray[np.floating], side_px: int
) -> NDArray[np.uint8]:
    height_px, width_px = image_HWC.shape[:2]
    left, top = np.floor(square_4[:2]).astype(int)
    right, bottom = np.ceil(square_4[2:]).astype(int)
    region = np.zeros((bottom - top, right - left, 3), np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(right, width_px), min(bottom, height_px)
    if x0 < x1 and y0 < y1:
        region[y0 - top : y1 - top, x0 - left : x1 - left] = image_HWC[y0:y1, x0:x1]
    within = tuple((square_4 - [left, top, left, top]).tolist())
    patch = Image.fromarray(region).resize(
        (side_px, side_px), Image.Resampling.BOX, box=within, reducing_gap=REDUCING_GAP
    )
    return np.asarray(patch)
