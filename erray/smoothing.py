"""Probabilities over time, smoothed: each tick becomes a weighted mean of its neighbours.

Weights depend on how far the neighbours are away in time, not on how many ticks lie between, so
that frames with uneven times count as they should; where a clip ends, those that are there share
the weight. A mean of probabilities is a probability again: every row still sums to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from erray.finite import require_finite

BOX, GAUSSIAN = "box", "gaussian"
GAUSSIAN_REACH = 4.0
"""Standard deviations beyond which a neighbour counts no more (its weight would be 3e-4)."""
_ROUNDING = 1e-6
"""A neighbour at exactly the window's end must not be lost by a rounding error."""


def smoothed(
    x_TC: NDArray[np.float64], times_T: NDArray[np.float64], *, kind: str, width: float
) -> NDArray[np.float64]:
    """Return ``x_TC`` smoothed over time.

    Args:
        x_TC: a row per tick.
        times_T: times of the ticks, ascending; pass ``arange(T)`` to count in ticks.
        kind: ``box``: the mean of all ticks at most ``width / 2`` away; ``gaussian``: weights
            exp(-d^2 / (2 width^2)) for a distance d, up to four times ``width``.
        width: above 0, in the unit of ``times_T``.

    Raises:
        NotFiniteError: a value that is not finite; its neighbours would not be either.
    """
    assert x_TC.shape[:1] == times_T.shape and width > 0, (x_TC.shape, times_T.shape, width)
    require_finite(x_TC, "probabilities")
    if kind == BOX:
        return _box(x_TC, times_T, width / 2 + _ROUNDING)
    assert kind == GAUSSIAN, kind
    return _gaussian(x_TC, times_T, width)


def _box(
    x_TC: NDArray[np.float64], times_T: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    first_T = np.searchsorted(times_T, times_T - reach, side="left")
    stop_T = np.searchsorted(times_T, times_T + reach, side="right")
    sums_TC = np.concatenate([np.zeros((1, x_TC.shape[1])), np.cumsum(x_TC, axis=0)])
    mean_TC = (sums_TC[stop_T] - sums_TC[first_T]) / (stop_T - first_T)[:, None]
    return np.asarray(np.clip(mean_TC, x_TC.min(), x_TC.max()))  # differences of sums may stray


def _gaussian(
    x_TC: NDArray[np.float64], times_T: NDArray[np.float64], width: float
) -> NDArray[np.float64]:
    sum_TC, weight_T = x_TC.astype(np.float64), np.ones(len(x_TC))
    for step in range(1, len(x_TC)):  # all pairs that are so many ticks apart
        distance_N = (times_T[step:] - times_T[:-step]) / width
        near_N = distance_N <= GAUSSIAN_REACH
        if not near_N.any():
            break
        share_N = np.exp(-0.5 * distance_N**2) * near_N
        sum_TC[step:] += share_N[:, None] * x_TC[:-step]
        sum_TC[:-step] += share_N[:, None] * x_TC[step:]
        weight_T[step:] += share_N
        weight_T[:-step] += share_N
    return np.asarray(sum_TC / weight_T[:, None])
