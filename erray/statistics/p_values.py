"""Tests of two models on the same clips: sign flips by group, McNemar's; Holm's correction.

If two models are equally good, it is chance which of the two gave which answers in a group: with
the answers of any groups swapped the difference of their scores is as likely as the observed one
(approximate randomization, Noreen 1989; Dror et al. 2018). This keeps its level with any number
of groups, where a bootstrap of few groups takes chance for certain. A swap changes a confusion
matrix by a difference of counts, so thousands of them are one matrix product, whatever the metric.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, chdtrc

from erray.errors import UserError

LEVEL = 0.05
"""A difference with a p-value below this is not taken for chance."""
EXACT_BELOW = 25
"""Discordant clips below which McNemar's test is the exact binomial one."""
EXACT_GROUPS = 12
"""Up to so many groups that the two models answer differently, every swap is computed."""

_TIE = 1e-9  # equal scores of different matrices differ by rounding

Metric = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]
"""Confusion matrices [..., C, C] (row: label, column: prediction) to scores [...]."""


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test: are the clips that one of two models alone has right shared evenly?"""

    only_a: int
    """Clips that a has right and b has wrong."""
    only_b: int
    p_value: float
    """Two-sided."""
    method: Literal["exact", "chi_square"]


class Swaps:
    """Two models on the same groups, with the answers of some groups swapped, many times.

    Up to ``EXACT_GROUPS`` groups with different answers all 2^G swaps count, above that
    ``num_samples`` drawn ones and the observed data. The same seed gives the same swaps, whichever
    of the two models comes first.

    Args:
        counts_a_GCC: confusion matrix of every group by model a.
    """

    def __init__(
        self,
        counts_a_GCC: npt.NDArray[np.int64],
        counts_b_GCC: npt.NDArray[np.int64],
        *,
        num_samples: int,
        seed: int,
    ) -> None:
        self._sum_CC = (counts_a_GCC + counts_b_GCC).sum(0)
        self._observed_CC = (counts_a_GCC - counts_b_GCC).sum(0)
        gap_GK = (counts_a_GCC - counts_b_GCC).reshape(len(counts_a_GCC), -1)
        gap_GK = gap_GK[gap_GK.any(axis=1)]
        # a group and its mirror image are one when signs are drawn
        leading_G = np.take_along_axis(gap_GK, (gap_GK != 0).argmax(1)[:, None], axis=1)
        gap_GK = np.sign(leading_G) * gap_GK
        self._exact = len(gap_GK) <= EXACT_GROUPS
        flipped_SK = _all_signs(gap_GK) if self._exact else _drawn_signs(gap_GK, num_samples, seed)
        self._flipped_SCC = flipped_SK.reshape(-1, *self._sum_CC.shape)

    def p_value(self, metric: Metric) -> float:
        """Two-sided: the share of swaps that part the models at least as much as the data do.

        A swap whose score is not a number counts as one that does.
        """
        observed = abs(self._gap(metric, self._observed_CC))
        extreme = ~(np.abs(self._gap(metric, self._flipped_SCC)) < observed - _TIE)
        if self._exact:
            return float(extreme.mean())
        return float(extreme.sum() + 1) / (len(extreme) + 1)

    def _gap(self, metric: Metric, gap_CC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        a, b = (metric((self._sum_CC + sign * gap_CC) / 2) for sign in (1, -1))
        return np.asarray(a - b)


def mcnemar(
    labels: npt.ArrayLike, predictions_a: npt.ArrayLike, predictions_b: npt.ArrayLike
) -> McNemar:
    """McNemar's test of two models on the same labelled clips [N].

    With fewer than ``EXACT_BELOW`` discordant clips the p-value is the exact two-sided binomial
    one, from there on that of chi-square with Edwards' continuity correction,
    (|b - c| - 1)^2 / (b + c) with one degree of freedom; with no discordant clip it is 1. The test
    takes clips as independent: it knows no groups, the test of a paired difference does.

    Raises:
        UserError: no labelled clip.
    """
    label_N = np.asarray(labels, np.int64)
    kept = labelled(label_N)
    right_a, right_b = (
        (np.asarray(x, np.int64) == label_N)[kept] for x in (predictions_a, predictions_b)
    )
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = only_a + only_b
    if discordant == 0:
        return McNemar(0, 0, 1.0, "exact")
    if discordant < EXACT_BELOW:
        # both tails of a symmetric distribution; an even split would count its middle twice
        both_tails = min(1.0, 2 * float(bdtr(min(only_a, only_b), discordant, 0.5)))
        return McNemar(only_a, only_b, both_tails, "exact")
    statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / discordant
    return McNemar(only_a, only_b, float(chdtrc(1, statistic)), "chi_square")


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct the p-values of several comparisons (Holm 1979), in their order.

    The chance that any of them falls below a level without a real difference is at most the level.
    """
    p_N = np.asarray(p_values, np.float64)
    order_N = np.argsort(p_N, kind="stable")
    steps_N = p_N[order_N] * np.arange(len(p_N), 0, -1)
    found_N = np.empty_like(p_N)
    found_N[order_N] = np.minimum(1.0, np.maximum.accumulate(steps_N))
    return [float(p) for p in found_N]


def labelled(label_N: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Where there is a label.

    Raises:
        UserError: nowhere.
    """
    found = label_N >= 0
    if not found.any():
        raise UserError("no labelled clip to score: expected labels of at least one clip")
    return found


def _all_signs(gap_GK: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Sums of the groups' gaps with all signs but those of the last group: a mirror image."""
    num_groups = len(gap_GK)
    numbers_S = np.arange(2 ** max(num_groups - 1, 0))
    signs_SG = 1 - 2 * ((numbers_S[:, None] >> np.arange(num_groups)) & 1)
    return _sums(signs_SG, gap_GK)


def _drawn_signs(
    gap_GK: npt.NDArray[np.int64], num_samples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Sums of the groups' gaps with random signs, equal groups drawn together."""
    distinct_UK, num_alike_U = np.unique(gap_GK, axis=0, return_counts=True)
    positive_SU = np.random.default_rng(seed).binomial(
        num_alike_U, 0.5, size=(num_samples, len(num_alike_U))
    )
    return _sums(2 * positive_SU - num_alike_U, distinct_UK)


def _sums(
    signs_SG: npt.NDArray[np.int64], gap_GK: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    # float64: integers have no fast matrix product, and counts this small are exact
    return np.asarray(signs_SG.astype(np.float64) @ gap_GK.astype(np.float64))
