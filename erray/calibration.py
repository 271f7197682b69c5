"""Whether a model is as sure as it is right: calibration error, reliability bins, temperature.

A clip's confidence is its highest probability. Temperature scaling (Guo et al. 2017, section 4.2)
divides the logarithms of the probabilities by one number T > 0 that val chooses, and normalises
again: T above 1 makes a model less sure. For the mean of logits this is softmax(logits / T). The
order of the classes stays, so a temperature changes how sure a prediction is, never what it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

NUM_BINS = 15
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
"""Limits of a fitted temperature."""


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The clips whose confidence lies in (low, high]; 0 belongs to the first bin."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean confidence; None without a clip."""
    accuracy: float | None
    """Share of clips that are right; None without a clip."""


def reliability_bins(
    probabilities_NC: npt.ArrayLike, labels: npt.ArrayLike, *, num_bins: int = NUM_BINS
) -> list[ReliabilityBin]:
    """Confidence and accuracy in bins of equal width over 0 to 1; all labels are class ids."""
    values_NC = np.asarray(probabilities_NC, np.float64)
    confidence_N = values_NC.max(-1)
    right_N = values_NC.argmax(-1) == np.asarray(labels, np.int64)
    edges = np.linspace(0, 1, num_bins + 1)
    bin_N = np.clip(np.searchsorted(edges, confidence_N, side="left") - 1, 0, num_bins - 1)
    bins = []
    for i in range(num_bins):
        inside_N = bin_N == i
        count = int(inside_N.sum())
        bins.append(
            ReliabilityBin(
                low=float(edges[i]),
                high=float(edges[i + 1]),
                count=count,
                confidence=float(confidence_N[inside_N].mean()) if count else None,
                accuracy=float(right_N[inside_N].mean()) if count else None,
            )
        )
    return bins


def calibration_error(
    probabilities_NC: npt.ArrayLike, labels: npt.ArrayLike, *, num_bins: int = NUM_BINS
) -> float:
    """Expected calibration error: mean gap between confidence and accuracy of the bins.

    Bins count by their clips (Naeini et al. 2015; Guo et al. 2017, equation 3). NaN without a clip.
    """
    total = gaps = 0.0
    for part in reliability_bins(probabilities_NC, labels, num_bins=num_bins):
        if part.confidence is not None and part.accuracy is not None:
            total += part.count
            gaps += part.count * abs(part.confidence - part.accuracy)
    return gaps / total if total else float("nan")


def log_likelihood(
    log_probabilities_NC: npt.ArrayLike, labels: npt.ArrayLike, *, temperature: float = 1.0
) -> float:
    """Mean log-likelihood of the labels at a temperature; NaN without a clip."""
    scaled_NC = log_softmax(np.asarray(log_probabilities_NC, np.float64) / temperature, axis=-1)
    label_N = np.asarray(labels, np.int64)
    if not len(label_N):
        return float("nan")
    return float(scaled_NC[np.arange(len(label_N)), label_N].mean())


def fit_temperature(log_probabilities_NC: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """The T that makes the labels most likely, within ``MIN_TEMPERATURE`` and ``MAX_TEMPERATURE``.

    Where no clip is wrong T is 1: the smaller the likelier without end, and how sure a model may be
    is not to be learned from clips that it has all right.

    Args:
        log_probabilities_NC: of clips; any logits of the same probabilities do.
        labels: class ids [N].
    """
    values_NC = np.asarray(log_probabilities_NC, np.float64)
    if (values_NC.argmax(-1) == np.asarray(labels, np.int64)).all():
        return 1.0
    # the likelihood is concave in 1 / T, so that in log T it has one maximum
    found = minimize_scalar(
        lambda log_t: -log_likelihood(values_NC, labels, temperature=float(np.exp(log_t))),
        bounds=(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))
