"""Calibration error written out, planted temperatures, and what must not change either."""

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from erray.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    NUM_BINS,
    calibration_error,
    fit_temperature,
    log_likelihood,
    reliability_bins,
)

logits = st.integers(1, 30).flatmap(
    lambda num: arrays(np.float64, (num, 4), elements=st.floats(-30, 30))
)


def draw(num_clips, *, seed, scale=1.0, num_classes=5):
    """Logits, and labels drawn from the softmax of the logits / ``scale``."""
    random = np.random.default_rng(seed)
    logits_NC = random.normal(size=(num_clips, num_classes)) * 2
    probabilities_NC = scipy.special.softmax(logits_NC, axis=-1)
    labels_N = (probabilities_NC.cumsum(-1) > random.random((num_clips, 1))).argmax(-1)
    return logits_NC * scale, labels_N


def by_hand(probabilities_NC, labels_N, num_bins):
    """The definition, a clip at a time."""
    bins = {}
    for probabilities_C, label in zip(probabilities_NC, labels_N, strict=True):
        confidence = probabilities_C.max()
        number = max(int(np.ceil(confidence * num_bins)) - 1, 0)
        bins.setdefault(number, []).append((confidence, probabilities_C.argmax() == label))
    gaps = [
        len(clips) * abs(np.mean([c for c, _ in clips]) - np.mean([r for _, r in clips]))
        for clips in bins.values()
    ]
    return sum(gaps) / len(labels_N)


@pytest.mark.parametrize("num_bins", [NUM_BINS, 4])
@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_error_is_the_definition(scale, num_bins):
    logits_NC, labels_N = draw(500, seed=1, scale=scale)
    probabilities_NC = scipy.special.softmax(logits_NC, axis=-1)
    found = calibration_error(probabilities_NC, labels_N, num_bins=num_bins)
    assert found == pytest.approx(by_hand(probabilities_NC, labels_N, num_bins))


def test_four_clips_worked_out():
    probabilities_NC = [[0.9, 0.1], [0.92, 0.08], [0.6, 0.4], [0.5, 0.5]]
    labels_N = [0, 1, 0, 1]
    # bins of 1/15: 0.9 and 0.92 share (13/15, 14/15]; 0.6 and 0.5 have their own
    expected = (2 * abs(0.91 - 0.5) + abs(0.6 - 1) + abs(0.5 - 0)) / 4
    assert calibration_error(probabilities_NC, labels_N) == pytest.approx(expected)
    shown = [
        (b.count, b.confidence, b.accuracy) for b in reliability_bins(probabilities_NC, labels_N)
    ]
    assert [found for found in shown if found[0]] == [
        (1, 0.5, 0.0),
        (1, 0.6, 1.0),
        (2, pytest.approx(0.91), 0.5),
    ]
    assert shown.count((0, None, None)) == NUM_BINS - 3


@given(logits, st.randoms(use_true_random=False))
def test_the_error_is_a_share_and_knows_no_order(logits_NC, random):
    probabilities_NC = scipy.special.softmax(logits_NC, axis=-1)
    labels_N = np.array([random.randrange(4) for _ in logits_NC])
    error = calibration_error(probabilities_NC, labels_N)
    assert 0 <= error <= 1
    order = random.sample(range(len(labels_N)), len(labels_N))
    assert calibration_error(probabilities_NC[order], labels_N[order]) == pytest.approx(error)
    bins = reliability_bins(probabilities_NC, labels_N)
    assert sum(part.count for part in bins) == len(labels_N)
    for part in bins:
        if part.confidence is not None:
            assert part.low - 1e-12 <= part.confidence <= part.high + 1e-12


def test_labels_drawn_from_the_probabilities_are_calibrated():
    logits_NC, labels_N = draw(40000, seed=2)
    assert calibration_error(scipy.special.softmax(logits_NC, axis=-1), labels_N) < 0.012
    sure_NC = scipy.special.softmax(3 * logits_NC, axis=-1)
    assert calibration_error(sure_NC, labels_N) > 0.1


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_a_planted_temperature_is_found_and_calibrates(scale):
    logits_NC, labels_N = draw(20000, seed=3, scale=scale)
    temperature = fit_temperature(logits_NC, labels_N)
    assert temperature == pytest.approx(scale, rel=0.03)
    fresh_NC, fresh_N = draw(20000, seed=4, scale=scale)
    after = calibration_error(scipy.special.softmax(fresh_NC / temperature, axis=-1), fresh_N)
    assert after < 0.015


@given(st.integers(0, 50), st.floats(0.3, 5))
def test_no_other_temperature_is_likelier(seed, scale):
    logits_NC, labels_N = draw(60, seed=seed, scale=scale)
    fitted = fit_temperature(logits_NC, labels_N)  # some of 60 drawn labels are always wrong
    grid = np.exp(np.linspace(np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE), 400))
    likelihoods = [log_likelihood(logits_NC, labels_N, temperature=t) for t in grid]
    assert log_likelihood(logits_NC, labels_N, temperature=fitted) >= max(likelihoods) - 1e-6
    order = np.random.default_rng(seed).permutation(60)
    assert fit_temperature(logits_NC[order], labels_N[order]) == pytest.approx(fitted, rel=1e-4)


def test_the_likelihood_is_that_of_scikit_learn():
    from sklearn.metrics import log_loss

    logits_NC, labels_N = draw(100, seed=5)
    probabilities_NC = scipy.special.softmax(logits_NC / 1.7, axis=-1)
    expected = -log_loss(labels_N, probabilities_NC, labels=range(5))
    assert log_likelihood(logits_NC, labels_N, temperature=1.7) == pytest.approx(expected)


def test_the_temperature_has_limits_and_is_1_where_nothing_is_wrong():
    right_NC = np.eye(3) * 2
    assert fit_temperature(right_NC, [0, 1, 2]) == 1
    assert fit_temperature(right_NC, [1, 2, 0]) == pytest.approx(MAX_TEMPERATURE, rel=1e-3)
    barely_NC, labels_N = np.tile([[1e-4, 0.0]], (1000, 1)), np.zeros(1000, int)
    labels_N[0] = 1
    assert fit_temperature(barely_NC, labels_N) == pytest.approx(MIN_TEMPERATURE, rel=1e-3)


def test_without_a_clip_nothing_is_known():
    nothing_NC = np.zeros((0, 3))
    assert fit_temperature(nothing_NC, []) == 1
    assert np.isnan(calibration_error(nothing_NC, []))
    assert np.isnan(log_likelihood(nothing_NC, []))
