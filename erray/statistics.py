"""How sure a score is: bootstrap intervals and paired comparisons.

A resample draws clips with replacement; with groups (source videos, dialogues) it draws whole
groups, because clips of one group are not independent (cluster bootstrap, Davison & Hinkley 1997,
section 3.8). A score depends on a resample only through its confusion matrix, so what is drawn is
how often each distinct contribution to that matrix occurs: one multinomial draw per resample,
the same distribution as drawing the items one by one, and thousands of resamples take milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from erray.errors import UserError

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


def bootstrap_interval(
    metric: Metric,
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    *,
    groups: Sequence[str] | npt.NDArray[np.generic] | None = None,
    num_samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of ``metric`` over clips [N], for instance ``erray.metrics.weighted_f1``.

    Unlabelled clips (a negative label) are left out. The same seed gives the same interval.

    Raises:
        UserError: no labelled clip.
    """
    counts_GK = _contributions(labels, [predictions], num_classes, groups)
    shape = (num_classes, num_classes)
    samples_S = metric(_resample(counts_GK, num_samples, seed).reshape(-1, *shape))
    low, high = _percentiles(samples_S, level)
    return Interval(float(metric(counts_GK.sum(0).reshape(shape))), low, high)


def paired_bootstrap(
    metric: Metric,
    labels: npt.ArrayLike,
    predictions_a: npt.ArrayLike,
    predictions_b: npt.ArrayLike,
    num_classes: int,
    *,
    groups: Sequence[str] | npt.NDArray[np.generic] | None = None,
    num_samples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> PairedDifference:
    """Compare two models on the same clips [N]: both are scored on every resample.

    ``p_value`` is two-sided: twice the smaller share of resamples whose difference is <= 0 or
    >= 0, the observed data counted as one more resample so that it is never 0, at most 1. It falls
    below 1 - level about where the interval leaves 0 out.

    Raises:
        UserError: no labelled clip.
    """
    counts_GK = _contributions(labels, [predictions_a, predictions_b], num_classes, groups)
    shape = (2, num_classes, num_classes)
    scores_S2 = metric(_resample(counts_GK, num_samples, seed).reshape(-1, *shape))
    differences_S = scores_S2[:, 0] - scores_S2[:, 1]
    low, high = _percentiles(differences_S, level)
    score_a, score_b = metric(counts_GK.sum(0).reshape(shape))
    smaller = min((differences_S <= 0).sum(), (differences_S >= 0).sum())
    p_value = min(1.0, 2 * float(smaller + 1) / (num_samples + 1))
    return PairedDifference(float(score_a - score_b), low, high, p_value)


def _contributions(
    labels: npt.ArrayLike,
    predictions: Sequence[npt.ArrayLike],
    num_classes: int,
    groups: Sequence[str] | npt.NDArray[np.generic] | None,
) -> npt.NDArray[np.int64]:
    """What each group (or clip) adds to the confusion matrices: [G, P * C * C], flattened."""
    label_N = np.asarray(labels, np.int64)
    labelled = label_N >= 0
    if not labelled.any():
        raise UserError("no labelled clip to score: expected labels of at least one clip")
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
