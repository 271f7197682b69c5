"""Bootstrap intervals of scores and of paired differences.

A resample draws clips with replacement; with groups (source videos, dialogues) it draws whole
groups, because clips of one group are not independent (cluster bootstrap, Davison & Hinkley 1997,
section 3.8). A score depends on a resample only through its confusion matrix, so what is drawn is
how often each distinct contribution to that matrix occurs: one multinomial draw per resample,
the same distribution as drawing the items one by one, and thousands of resamples take milliseconds.

Percentiles of few groups are too narrow: the tails are those of the expanded percentile interval,
Phi(-sqrt(G / (G - 1)) t) with the t quantile of G - 1 degrees of freedom (Hesterberg 2015, "What
Teachers Should Know About the Bootstrap", section 5.3). Below ``MIN_GROUPS`` groups there is no
interval and no verdict. Where interval and p-value disagree about 0, the p-value decides: the test
keeps its level with any number of groups, an interval covers about as often as it says.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, stdtrit

from erray.statistics.p_values import Metric, Swaps, labelled
from erray.statistics.results import MIN_GROUPS, Interval, PairedDifference

Groups = Sequence[str] | npt.NDArray[np.generic]


class Resamples:
    """Several predictions of the same clips [N], all scored on the same resamples.

    Unlabelled clips (a negative label) are left out. The same seed gives the same resamples.

    Args:
        predictions: of P models, each [N].
        groups: name of each clip's group, [N]; None: every clip is its own.
        num_samples: resamples of an interval, and swaps of a test where not all are computed.

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
        self._counts_GPCC = _contributions(labels, predictions, num_classes, groups)
        self._num_samples, self._seed = num_samples, seed
        self._samples_SPCC: npt.NDArray[np.float64] | None = None
        self._swaps: dict[tuple[int, int], Swaps] = {}

    def interval(
        self, metric: Metric, model: int = 0, *, label: int | None = None, level: float = 0.95
    ) -> Interval:
        """Interval of ``metric``, for instance ``erray.metrics.weighted_f1``.

        Resamples in which the metric is not a number are left out.

        Args:
            label: a class that the metric is about: only groups that have it count.
        """
        value = float(metric(self._counts_GPCC[:, model].sum(0)))
        num_groups = self._num_groups(label)
        if num_groups < MIN_GROUPS:
            return Interval(value, None, None, num_groups)
        low, high = _percentiles(metric(self._samples()[:, model]), num_groups, level)
        return Interval(value, low, high, num_groups)

    def difference(
        self,
        metric: Metric,
        a: int = 0,
        b: int = 1,
        *,
        label: int | None = None,
        level: float = 0.95,
    ) -> PairedDifference:
        """``metric`` of model ``a`` minus that of ``b``: interval, and p-value by swaps of groups.

        Args:
            label: as in :meth:`interval`.
        """
        of_a, of_b = (metric(self._counts_GPCC[:, model].sum(0)) for model in (a, b))
        num_groups = self._num_groups(label)
        if num_groups < MIN_GROUPS:
            return PairedDifference(float(of_a - of_b), None, None, None, num_groups)
        samples_SPCC = self._samples()
        differences_S = metric(samples_SPCC[:, a]) - metric(samples_SPCC[:, b])
        low, high = _percentiles(differences_S, num_groups, level)
        if (a, b) not in self._swaps:
            self._swaps[a, b] = Swaps(
                self._counts_GPCC[:, a],
                self._counts_GPCC[:, b],
                num_samples=self._num_samples,
                seed=self._seed,
            )
        p_value = self._swaps[a, b].p_value(metric)
        return PairedDifference(float(of_a - of_b), low, high, p_value, num_groups)

    def _num_groups(self, label: int | None) -> int:
        if label is None:
            return len(self._counts_GPCC)
        return int(self._counts_GPCC[:, 0, label].any(axis=-1).sum())

    def _samples(self) -> npt.NDArray[np.float64]:
        if self._samples_SPCC is None:
            counts_GK = self._counts_GPCC.reshape(len(self._counts_GPCC), -1)
            samples_SK = _resample(counts_GK, self._num_samples, self._seed)
            self._samples_SPCC = samples_SK.reshape(-1, *self._counts_GPCC.shape[1:])
        return self._samples_SPCC


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


def paired_difference(
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


def _contributions(
    labels: npt.ArrayLike,
    predictions: Sequence[npt.ArrayLike],
    num_classes: int,
    groups: Groups | None,
) -> npt.NDArray[np.int64]:
    """What each group (or clip) adds to the confusion matrices: [G, P, C, C]."""
    label_N = np.asarray(labels, np.int64)
    kept = labelled(label_N)
    label_N = label_N[kept]
    if groups is None:
        group_N, num_groups = np.arange(len(label_N)), len(label_N)
    else:
        names, group_N = np.unique(np.asarray(groups)[kept], return_inverse=True)
        num_groups = len(names)
    shape = (num_groups, len(predictions), num_classes, num_classes)
    counts = np.zeros(np.prod(shape), np.int64)
    for model, values in enumerate(predictions):
        predicted_N = np.asarray(values, np.int64)[kept]
        cells = np.ravel_multi_index(
            (group_N, np.full_like(group_N, model), label_N, predicted_N), shape
        )
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(shape)


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


def _percentiles(
    samples_S: npt.NDArray[np.float64], num_groups: int, level: float
) -> tuple[float, float]:
    assert 0 < level < 1, level
    t = -stdtrit(num_groups - 1, (1 - level) / 2)
    tail = float(ndtr(-t * np.sqrt(num_groups / (num_groups - 1))))
    low, high = np.nanquantile(samples_S, [tail, 1 - tail])
    return float(low), float(high)
