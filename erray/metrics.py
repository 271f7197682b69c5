"""Scores of predicted classes, and the rules that make one class of a clip's frames.

Everything is computed from a confusion matrix over the given class list (row: label, column:
prediction), so a class that nobody has or predicts never shifts the others. Functions of a
confusion matrix work on stacks of them: [..., C, C] to [...].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax, logsumexp, softmax

from erray.errors import UserError
from erray.finite import require_finite

UNLABELLED = -1
"""The label of a clip without one; never counted."""

CLIP_RULES = ("majority", "mean_probabilities", "mean_logits")

Metric = Callable[[npt.NDArray[Any]], npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores per class, each [..., C]; 0 where the denominator is 0."""

    precision: npt.NDArray[np.float64]
    recall: npt.NDArray[np.float64]
    f1: npt.NDArray[np.float64]
    support: npt.NDArray[np.float64]
    """Number of labels."""


def confusion(
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    mask: npt.ArrayLike | None = None,
) -> npt.NDArray[np.int64]:
    """Count [C, C]: entry (i, j) is how often label i was predicted as j.

    Labels and predictions have one shape (any); entries whose label is ``UNLABELLED``, or where
    ``mask`` is False, are left out.
    """
    label = np.asarray(labels, np.int64)
    predicted = np.asarray(predictions, np.int64)
    assert label.shape == predicted.shape, (label.shape, predicted.shape)
    counted = label != UNLABELLED
    if mask is not None:
        counted &= np.asarray(mask, bool)
    label, predicted = label[counted], predicted[counted]
    assert all(((x >= 0) & (x < num_classes)).all() for x in (label, predicted)), "no such class"
    cells = label * num_classes + predicted
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def class_scores(confusion_CC: npt.NDArray[Any]) -> ClassScores:
    """Precision, recall, F1 and support of every class.

    Columns after the last class count what has no answer: a miss of its label, no class's error.
    """
    counts = np.asarray(confusion_CC, np.float64)
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    support, predicted = counts.sum(-1), counts.sum(-2)[..., : counts.shape[-2]]
    return ClassScores(
        precision=_ratio(hits, predicted),
        recall=_ratio(hits, support),
        f1=_ratio(2 * hits, support + predicted),
        support=support,
    )


def accuracy(confusion_CC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Share of correct predictions; NaN when nothing is counted."""
    counts = np.asarray(confusion_CC, np.float64)
    return _ratio(np.trace(counts, axis1=-2, axis2=-1), counts.sum((-2, -1)), empty=np.nan)


def weighted_f1(confusion_CC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean F1 of the classes weighted by support; NaN when nothing is counted."""
    scores = class_scores(confusion_CC)
    return _ratio((scores.f1 * scores.support).sum(-1), scores.support.sum(-1), empty=np.nan)


def macro_f1(confusion_CC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean F1 of the classes that have labels; NaN when nothing is counted.

    A class without a label has no F1: it is skipped, and so it is in every resample that lacks it.
    """
    scores = class_scores(confusion_CC)
    num_labelled = (scores.support > 0).sum(-1).astype(np.float64)
    return _ratio(scores.f1.sum(-1), num_labelled, empty=np.nan)


def challenge_f1(confusion_CC: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Mean F1 of all classes, one without a label counts as 0; NaN when nothing is counted.

    The rule of the ABAW challenge over its seven compound classes.
    """
    scores = class_scores(confusion_CC)
    num_classes = scores.support.shape[-1] * (scores.support > 0).any(-1).astype(np.float64)
    return _ratio(scores.f1.sum(-1), num_classes, empty=np.nan)


def macro_f1_rule(labels: npt.ArrayLike, num_classes: int) -> str:
    """Say which classes macro F1 of these labels is the mean over, to stand beside the number."""
    found = np.unique(np.asarray(labels, np.int64))
    num_labelled = int((found != UNLABELLED).sum())
    if num_labelled == num_classes:
        return f"macro F1 over all {num_classes} classes"
    return f"macro F1 over the {num_labelled} of {num_classes} classes that have labelled clips"


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "weighted_f1": weighted_f1,
    "macro_f1": macro_f1,
}
"""What every run is scored by."""
CHALLENGE_F1 = "challenge_f1"
"""Scored beside the others where the classes are those of the challenge."""


def score(
    metric: str,
    labels: npt.ArrayLike,
    predictions: npt.ArrayLike,
    num_classes: int,
    mask: npt.ArrayLike | None = None,
) -> float:
    """One number: ``metric`` (see :func:`find_metric`) of labels and predictions of one shape.

    Raises:
        UserError: an unknown metric.
    """
    return float(find_metric(metric)(confusion(labels, predictions, num_classes, mask)))


def find_metric(name: str) -> Metric:
    """The function of a confusion matrix behind a name: of ``METRICS``, or ``challenge_f1``.

    Raises:
        UserError: an unknown metric.
    """
    known = {**METRICS, CHALLENGE_F1: challenge_f1}
    if name not in known:
        raise UserError(f"no metric named {name!r}; expected one of: {', '.join(known)}")
    return known[name]


def clip_prediction(
    logits_TC: npt.ArrayLike, rule: str, *, temperature: float = 1.0
) -> tuple[int, npt.NDArray[np.float64]]:
    """Class of a clip and its probabilities [C], from the logits of its (valid) frames.

    - ``majority``: the class that is highest in most frames; probabilities are the shares of votes.
    - ``mean_probabilities``: mean of the frames' softmax.
    - ``mean_logits``: softmax of the frames' mean logits.

    The class has the highest of these probabilities; of equals the one with the higher mean
    softmax, then the lower id. ``temperature`` then divides the logarithms of the probabilities
    (for ``mean_logits`` the mean logits): no class changes by it, and no share of votes.

    Raises:
        UserError: an unknown rule.
        NotFiniteError: a logit that is not finite.
    """
    logits_TC = np.asarray(logits_TC, np.float64)
    assert logits_TC.ndim == 2 and len(logits_TC), logits_TC.shape
    require_finite(logits_TC, "logits")
    mean_C = softmax(logits_TC, axis=-1).mean(0)
    if rule == "majority":
        votes_C = np.bincount(logits_TC.argmax(-1), minlength=logits_TC.shape[-1])
        probabilities_C = votes_C / len(logits_TC)
    elif rule == "mean_probabilities":
        probabilities_C = mean_C
    elif rule == "mean_logits":
        probabilities_C = softmax(logits_TC.mean(0))
    else:
        raise UserError(f"no clip rule named {rule!r}; expected one of: {', '.join(CLIP_RULES)}")
    best = np.lexsort((-mean_C, -probabilities_C))[0]  # stable: equals stay in order of id
    if rule != "majority" and temperature != 1:
        probabilities_C = softmax(clip_logits(logits_TC, rule) / temperature)
    return int(best), probabilities_C


def clip_logits(logits_TC: npt.ArrayLike, rule: str) -> npt.NDArray[np.float64]:
    """Values [C] whose softmax is a clip's probabilities by any rule but ``majority``.

    The mean logits, or the logarithms of the mean probabilities.

    Raises:
        NotFiniteError: a logit that is not finite.
    """
    logits_TC = np.asarray(logits_TC, np.float64)
    require_finite(logits_TC, "logits")
    assert rule in CLIP_RULES and rule != "majority", rule
    if rule == "mean_logits":
        return np.asarray(logits_TC.mean(0))
    # in logarithms throughout: a probability may be smaller than any float
    summed_C = logsumexp(log_softmax(logits_TC, axis=-1), axis=0)
    return np.asarray(summed_C - np.log(len(logits_TC)))


def _ratio(
    numerator: npt.NDArray[np.float64], denominator: npt.NDArray[np.float64], *, empty: float = 0.0
) -> npt.NDArray[np.float64]:
    filled = np.full(np.shape(numerator), empty)
    return np.divide(numerator, denominator, out=filled, where=np.asarray(denominator) > 0)
