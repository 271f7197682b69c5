"""How sure a score is: bootstrap intervals, paired comparisons, McNemar's test.

A resample draws clips with replacement; with groups (source videos, dialogues) it draws whole
groups, because clips of one group are not independent (cluster bootstrap, Davison & Hinkley 1997,
section 3.8). A score depends on a resample only through its confusion matrix, so what is drawn is
how often each distinct contribution to that matrix occurs: one multinomial draw per resample,
the same distribution as drawing the items one by one, and thousands of resamples take milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import bdtr, chdtrc

from erray.errors import UserError

EXACT_BELOW = 25
"""Discordant clips below which McNemar's test is the exact binomial one."""

Groups = Sequence[str] | npt.NDArray[np.generic]
Metric = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]
"""Confusion matrices [..., C, C] (row: label, column: prediction) to scores [...]."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile interval around a score."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Score of a minus score of b on the same clips."""

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class McNemar:
    """McNemar's test: are the clips that one of two models alone has right shared evenly?"""

    only_a: int
    """Clips that a has right and b has wrong."""
    only_b: int
    p_value: float
    """Two-sided."""
    method: Literal["exact", "chi_square"]


class Resamples:
    """Several predictions of the same clips [N], all scored on the same resamples.

    Unlabelled clips (a negative label) are left out. The same seed gives the same resamples.

    Args:
        predictions: of P models, each [N].
        groups: name of each clip's group, [N]; None: every clip is its own.

    Raises:
        UserError: no labelled clip.
    """

    def __init__(
        self,
        labels: npt.ArrayLike,
        predictions: Sequence[npt.ArrayLike],
        num_classes: int,
        *,
        groups: Groups | None = None,
        num_samples: int = 2000,
        seed: int = 0,
    ) -> None:
        counts_GK = _contributions(labels, predictions, num_classes, groups)
        shape = (len(predictions), num_classes, num_classes)
        self._counts_PCC = counts_GK.sum(0).reshape(shape)
        self._samples_SPCC = _resample(counts_GK, num_samples, seed).reshape(-1, *shape)

    def interval(self, metric: Metric, model: int = 0, *, level: float = 0.95) -> Interval:
        """Percentile interval of ``metric``, for instance ``erray.metrics.weighted_f1``."""
        low, high = _percentiles(metric(self._samples_SPCC[:, model]), level)
        return Interval(float(metric(self._counts_PCC[model])), low, high)

    def difference(
        self, metric: Metric, a: int = 0, b: int = 1, *, level: float = 0.95
    ) -> PairedDifference:
        """``metric`` of model ``a`` minus that of ``b``, both on every resample.

        ``p_value`` is two-sided: twice the smaller share of resamples whose difference is <= 0 or
        >= 0, the observed data counted as one more resample so that it is never 0, at most 1. It
        falls below 1 - level about where the interval leaves 0 out.
        """
        differences_S = metric(self._samples_SPCC[:, a]) - metric(self._samples_SPCC[:, b])
        low, high = _percentiles(differences_S, level)
        observed = metric(self._counts_PCC[a]) - metric(self._counts_PCC[b])
        smaller = min((differences_S <= 0).sum(), (differences_S >= 0).sum())
        p_value = min(1.0, 2 * float(smaller + 1) / (len(differences_S) + 1))
        return PairedDifference(float(observed), low, high, p_value)


def bootstrap_interval(
    metric: Metric,
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    *,
    groups: Groups | None = None,
    num_samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Interval of one score of one model, see :class:`Resamples`.

    Raises:
        UserError: no labelled clip.
    """
    resamples = Resamples(
        labels, [predictions], num_classes, groups=groups, num_samples=num_samples, seed=seed
    )
    return resamples.interval(metric, level=level)


def paired_bootstrap(
    metric: Metric,
    labels: npt.ArrayLike,
    predictions_a: npt.ArrayLike,
    predictions_b: npt.ArrayLike,
    num_classes: int,
    *,
    groups: Groups | None = None,
    num_samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedDifference:
    """Compare one score of two models, see :meth:`Resamples.difference`.

    Raises:
        UserError: no labelled clip.
    """
    resamples = Resamples(
        labels,
        [predictions_a, predictions_b],
        num_classes,
        groups=groups,
        num_samples=num_samples,
        seed=seed,
    )
    return resamples.difference(metric, level=level)


def mcnemar(
    labels: npt.ArrayLike, predictions_a: npt.ArrayLike, predictions_b: npt.ArrayLike
) -> McNemar:
    """McNemar's test of two models on the same labelled clips [N].

    With fewer than ``EXACT_BELOW`` discordant clips the p-value is the exact two-sided binomial
    one, from there on that of chi-square with Edwards' continuity correction,
    (|b - c| - 1)^2 / (b + c) with one degree of freedom; with no discordant clip it is 1. The test
    takes clips as independent: it knows no groups, the paired bootstrap does.

    Raises:
        UserError: no labelled clip.
    """
    label_N = np.asarray(labels, np.int64)
    labelled = _labelled(label_N)
    right_a, right_b = (
        (np.asarray(x, np.int64) == label_N)[labelled] for x in (predictions_a, predictions_b)
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


def _labelled(label_N: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    labelled = label_N >= 0
    if not labelled.any():
        raise UserError("no labelled clip to score: expected labels of at least one clip")
    return labelled


def _contributions(
    labels: npt.ArrayLike,
    predictions: Sequence[npt.ArrayLike],
    num_classes: int,
    groups: Groups | None,
) -> npt.NDArray[np.int64]:
    """What each group (or clip) adds to the confusion matrices: [G, P * C * C], flattened."""
    label_N = np.asarray(labels, np.int64)
    labelled = _labelled(label_N)
    label_N = label_N[labelled]
    if groups is None:
        group_N, num_groups = np.arange(len(label_N)), len(label_N)
    else:
        names, group_N = np.unique(np.asarray(groups)[labelled], return_inverse=True)
        num_groups = len(names)
    shape = (num_groups, len(predictions), num_classes, num_classes)
    counts = np.zeros(np.prod(shape), np.int64)
    for model, values in enumerate(predictions):
        predicted_N = np.asarray(values, np.int64)[labelled]
        cells = np.ravel_multi_index(
            (group_N, np.full_like(group_N, model), label_N, predicted_N), shape
        )
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(num_groups, -1)


def _resample(
    counts_GK: npt.NDArray[np.int64], num_samples: int, seed: int
) -> npt.NDArray[np.float64]:
    """Summed contributions of ``num_samples`` draws of G groups with replacement: [S, K]."""
    distinct_UK, num_alike = np.unique(counts_GK, axis=0, return_counts=True)
    num_groups = len(counts_GK)
    rng = np.random.default_rng(seed)
    drawn_SU = rng.multinomial(num_groups, num_alike / num_groups, size=num_samples)
    # float64: integers have no fast matrix product, and counts this small are exact
    return drawn_SU.astype(np.float64) @ distinct_UK.astype(np.float64)


def _percentiles(samples_S: npt.NDArray[np.float64], level: float) -> tuple[float, float]:
    assert 0 < level < 1, level
    tail = (1 - level) / 2
    low, high = np.quantile(samples_S, [tail, 1 - tail])
    return float(low), float(high)
