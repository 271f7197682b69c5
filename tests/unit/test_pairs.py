"""The pair rule, against the probabilities written out class by class."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from erray.labels import BASIC_7, CEXPR_7
from erray.pairs import compound_logits

PAIRS = {
    "Fearfully Surprised": ("Fear", "Surprise"),
    "Happily Surprised": ("Happiness", "Surprise"),
    "Sadly Surprised": ("Sadness", "Surprise"),
    "Disgustedly Surprised": ("Disgust", "Surprise"),
    "Angrily Surprised": ("Anger", "Surprise"),
    "Sadly Fearful": ("Sadness", "Fear"),
    "Sadly Angry": ("Sadness", "Anger"),
}
LOGITS_TC = np.random.default_rng(0).normal(0, 2, (20, 7)).astype(np.float32)


@pytest.mark.parametrize(("rule", "combined"), [("sum", np.add), ("product", np.multiply)])
def test_a_compound_class_is_its_two_probabilities_combined(rule, combined):
    basic_TC = softmax(LOGITS_TC.astype(float), axis=1)
    of = dict(zip(BASIC_7.names, basic_TC.T, strict=True))
    scores_TC = np.stack([combined(of[a], of[b]) for a, b in PAIRS.values()], axis=1)
    expected_TC = scores_TC / scores_TC.sum(1, keepdims=True)
    found_TC = softmax(compound_logits(LOGITS_TC, rule), axis=1)
    assert tuple(PAIRS) == CEXPR_7.names
    np.testing.assert_allclose(found_TC, expected_TC, rtol=1e-5)


@pytest.mark.parametrize("rule", ["sum", "product"])
@pytest.mark.parametrize("name", CEXPR_7.names)
def test_two_certain_emotions_are_their_compound(rule, name):
    logits_TC = np.full((1, 7), -8.0)
    logits_TC[0, [BASIC_7.index(part) for part in PAIRS[name]]] = 4
    assert CEXPR_7.names[int(compound_logits(logits_TC, rule).argmax())] == name


def test_the_sum_takes_one_certain_emotion_for_a_pair_and_the_product_wants_both():
    basic_C = np.array([0.0, 0.02, 0.02, 0.6, 0.18, 0.02, 0.16])  # fear; some anger and sadness
    fearful, angry = CEXPR_7.index("Fearfully Surprised"), CEXPR_7.index("Sadly Angry")
    scores = {r: compound_logits(np.log(basic_C + 1e-9)[None], r)[0] for r in ("sum", "product")}
    assert scores["sum"][fearful] > scores["sum"][angry]
    assert scores["product"][fearful] < scores["product"][angry]


@pytest.mark.parametrize("rule", ["sum", "product"])
def test_logits_of_any_size_stay_numbers(rule):
    logits_TC = np.array([[900.0, -900, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 900.0]])
    found_TC = compound_logits(logits_TC, rule)
    assert np.isfinite(found_TC).all()
    np.testing.assert_allclose(softmax(found_TC, axis=1).sum(1), 1, rtol=1e-5)
