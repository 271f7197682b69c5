"""Smoothing of a face's boxes and landmarks over time. Pure numpy.

What the detector measures on one resting face differs from frame to frame by about half a per cent
of the distance of the eyes, on a blurred one by more, which makes aligned crops tremble. A line
fitted around every tick takes half of that away without lag and without pulling a moving face back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from erray.faces.associate import Observation

REACH = 2.0  # observations further than this many smooth_s away weigh nothing


def smooth(
    seen: Sequence[Observation], index: int, smooth_s: float, frame_size_px: tuple[int, int]
) -> Observation:
    """Return observation ``index`` on the line fitted to its neighbours in time.

    Weighted least squares of degree one with Gaussian weights of deviation ``smooth_s``, cut at
    twice that (local linear regression, Cleveland 1979). Boxes stay within the frame; scores are
    left alone. With a single neighbour or none the observation comes back as it is.

    Args:
        seen: one track's observations in order of time.
        index: the observation wanted.
        smooth_s: deviation of the weights in seconds; 0 changes nothing.
        frame_size_px: width and height of the frame.
    """
    centre = seen[index]
    near = _within_reach(seen, index, smooth_s * REACH)
    if len(near) < 3:
        return centre
    offset_s_K = np.array([one.time_s - centre.time_s for one in near])
    share_K = _weights(offset_s_K, smooth_s)
    box_px_4 = share_K @ np.stack([one.box_px_4 for one in near])
    limits = np.array([*frame_size_px, *frame_size_px])
    points = np.stack([one.landmarks_px_52 for one in near])
    return replace(
        centre,
        box_px_4=np.clip(box_px_4, 0, limits).astype(np.float32),
        landmarks_px_52=np.tensordot(share_K, points, axes=1).astype(np.float32),
    )


def _within_reach(seen: Sequence[Observation], index: int, reach_s: float) -> Sequence[Observation]:
    first = last = index
    time_s = seen[index].time_s
    while first > 0 and time_s - seen[first - 1].time_s <= reach_s:
        first -= 1
    while last + 1 < len(seen) and seen[last + 1].time_s - time_s <= reach_s:
        last += 1
    return seen[first : last + 1]


def _weights(offset_s_K: NDArray[np.float64], smooth_s: float) -> NDArray[np.float64]:
    """Weights whose sum with the values is the fitted line at offset 0; they add up to 1."""
    kernel_K = np.exp(-0.5 * (offset_s_K / smooth_s) ** 2)
    s0, s1, s2 = (float(np.sum(kernel_K * offset_s_K**power)) for power in range(3))
    return np.asarray(kernel_K * (s2 - s1 * offset_s_K) / (s0 * s2 - s1 * s1))
