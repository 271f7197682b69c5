"""Metrics against scikit-learn; clip rules by hand."""

import warnings

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from erray.errors import UserError
from erray.metrics import (
    CLIP_RULES,
    METRICS,
    UNLABELLED,
    accuracy,
    challenge_f1,
    class_scores,
    clip_logits,
    clip_prediction,
    confusion,
    macro_f1,
    macro_f1_rule,
    score,
    weighted_f1,
)

NUM_CLASSES = 4
pairs = st.lists(
    st.tuples(st.integers(0, NUM_CLASSES - 1), st.integers(0, NUM_CLASSES - 1)),
    min_size=1,
    max_size=40,
)


@given(pairs)
def test_same_as_scikit_learn(items):
    labels, predictions = np.array(items).T
    classes = list(range(NUM_CLASSES))
    counts = confusion(labels, predictions, NUM_CLASSES)
    np.testing.assert_array_equal(
        counts, sklearn.metrics.confusion_matrix(labels, predictions, labels=classes)
    )
    assert accuracy(counts) == pytest.approx(sklearn.metrics.accuracy_score(labels, predictions))
    for ours, average in ((weighted_f1, "weighted"), (challenge_f1, "macro")):
        theirs = sklearn.metrics.f1_score(
            labels, predictions, labels=classes, average=average, zero_division=0
        )
        assert ours(counts) == pytest.approx(theirs)
    skipped = sklearn.metrics.f1_score(
        labels, predictions, labels=sorted(set(labels)), average="macro", zero_division=0
    )
    assert macro_f1(counts) == pytest.approx(skipped)
    theirs = sklearn.metrics.precision_recall_fscore_support(
        labels, predictions, labels=classes, zero_division=0
    )
    ours = class_scores(counts)
    for a, b in zip((ours.precision, ours.recall, ours.f1, ours.support), theirs, strict=True):
        np.testing.assert_allclose(a, b)


@given(pairs, st.randoms(use_true_random=False))
def test_what_is_masked_or_unlabelled_is_as_if_it_were_not_there(items, random):
    labels, predictions = np.array(items).T
    kept = np.array([random.random() < 0.5 for _ in items])
    alone = confusion(labels[kept], predictions[kept], NUM_CLASSES)
    np.testing.assert_array_equal(confusion(labels, predictions, NUM_CLASSES, kept), alone)
    unlabelled = np.where(kept, labels, UNLABELLED)
    np.testing.assert_array_equal(confusion(unlabelled, predictions, NUM_CLASSES), alone)


def test_an_absent_class_does_not_shift_the_others():
    """Class 1 has no label: it stays in its place, and counts by the challenge's rule alone."""
    counts = confusion([0, 0, 2], [0, 0, 2], 3)
    assert class_scores(counts).f1.tolist() == [1, 0, 1]
    assert macro_f1(counts) == 1
    assert challenge_f1(counts) == pytest.approx(2 / 3)
    assert weighted_f1(counts) == 1


def test_nothing_counted_is_not_a_number():
    nothing = confusion([UNLABELLED], [0], 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(np.isnan(metric(nothing)) for metric in METRICS.values())
        assert np.isnan(challenge_f1(nothing))


@pytest.mark.parametrize("name", METRICS)
def test_stacks_are_scored_one_by_one(name):
    stack = np.random.default_rng(0).integers(0, 5, (2, 6, 3, 3))
    scores = METRICS[name](stack)
    assert scores.shape == (2, 6)
    for index in np.ndindex(2, 6):
        assert scores[index] == METRICS[name](stack[index])


def test_score_finds_metrics_by_name():
    assert score("accuracy", [[0, 1], [2, 1]], [[0, 1], [2, 2]], 3) == 0.75
    assert score("accuracy", [0, 1], [0, 0], 3, [True, False]) == 1
    assert score("challenge_f1", [0, 0], [0, 0], 7) == pytest.approx(1 / 7)
    with pytest.raises(UserError, match=r"'f1'.*accuracy, weighted_f1, macro_f1, challenge_f1"):
        score("f1", [0], [0], 3)


def test_macro_f1_says_which_classes_it_is_over():
    assert macro_f1_rule([0, 1, 2, UNLABELLED, 0], 3) == "macro F1 over all 3 classes"
    expected = "macro F1 over the 2 of 7 classes that have labelled clips"
    assert macro_f1_rule([5, 1, UNLABELLED, 5], 7) == expected


@pytest.mark.parametrize("values", [[3], [-2]])
def test_classes_outside_the_list_are_our_mistake(values):
    with pytest.raises(AssertionError, match="no such class"):
        confusion(values, [0], 3)
    with pytest.raises(AssertionError, match="no such class"):
        confusion([0], values, 3)


def log(*rows):
    return np.log(np.array(rows))


def test_clip_rules_differ_where_they_should():
    """One sure frame for class 0 against two unsure ones for class 1."""
    logits_TC = log([0.98, 0.01, 0.01], [0.3, 0.4, 0.3], [0.3, 0.4, 0.3])
    assert clip_prediction(logits_TC, "majority")[0] == 1
    assert clip_prediction(logits_TC, "mean_probabilities")[0] == 0
    # the mean of logarithms: 0.98 * 0.3 * 0.3 against 0.01 * 0.4 * 0.4
    assert clip_prediction(logits_TC, "mean_logits")[0] == 0
    logits_TC = log([0.9, 0.0999, 0.0001], [0.0001, 0.0999, 0.9])
    assert clip_prediction(logits_TC, "mean_logits")[0] == 1
    np.testing.assert_allclose(
        clip_prediction(logits_TC, "mean_probabilities")[1], [0.45005, 0.0999, 0.45005]
    )


def test_majority_shares_and_ties():
    even = log([0.5, 0.3, 0.2], [0.3, 0.6, 0.1])  # one vote each, class 1 is surer
    best, probabilities_C = clip_prediction(even, "majority")
    assert (best, probabilities_C.tolist()) == (1, [0.5, 0.5, 0])
    for rule in CLIP_RULES:
        assert clip_prediction(np.zeros((2, 3)), rule)[0] == 0  # all equal: the lowest id


@given(
    st.lists(
        st.lists(st.floats(-800, 800), min_size=3, max_size=3),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from(CLIP_RULES),
)
def test_clip_probabilities_are_probabilities(rows, rule):
    best, probabilities_C = clip_prediction(np.array(rows), rule)
    assert probabilities_C.sum() == pytest.approx(1)
    assert (probabilities_C >= 0).all()
    assert probabilities_C[best] == probabilities_C.max()


many_frames = st.lists(
    st.lists(st.floats(-60, 60), min_size=3, max_size=3), min_size=1, max_size=6
).map(np.array)


@given(many_frames, st.sampled_from(CLIP_RULES), st.floats(0.05, 20))
def test_a_temperature_changes_how_sure_a_clip_is_and_never_its_class(logits_TC, rule, temperature):
    best, plain_C = clip_prediction(logits_TC, rule)
    scaled, found_C = clip_prediction(logits_TC, rule, temperature=temperature)
    assert scaled == best and found_C[best] == found_C.max()
    if rule == "majority":
        expected_C = plain_C
    elif rule == "mean_logits":
        expected_C = scipy.special.softmax(logits_TC.mean(0) / temperature)
    else:
        powers_C = scipy.special.softmax(logits_TC, axis=-1).mean(0) ** (1 / temperature)
        expected_C = powers_C / powers_C.sum()
    np.testing.assert_allclose(found_C, expected_C, atol=1e-9)


@given(many_frames, st.sampled_from(["mean_probabilities", "mean_logits"]))
def test_clip_logits_have_the_rules_probabilities(logits_TC, rule):
    np.testing.assert_allclose(
        scipy.special.softmax(clip_logits(logits_TC, rule)),
        clip_prediction(logits_TC, rule)[1],
        atol=1e-12,
    )


def test_unknown_clip_rule_lists_the_known():
    with pytest.raises(UserError, match=r"'vote'.*majority, mean_probabilities, mean_logits"):
        clip_prediction(np.zeros((1, 2)), "vote")


def test_no_answer_is_a_miss_of_its_label_and_no_class_false_alarm():
    labels, answers = [0, 0, 1, 1, 2, 2, 2], [0, 3, 1, 0, 2, 3, 1]
    matrix = np.zeros((3, 4), int)
    np.add.at(matrix, (labels, answers), 1)
    expected = sklearn.metrics.f1_score(
        labels, answers, labels=[0, 1, 2], average=None, zero_division=0
    )
    np.testing.assert_allclose(class_scores(matrix).f1, expected)
    assert accuracy(matrix) == pytest.approx(3 / 7)
    assert weighted_f1(matrix) == pytest.approx(np.average(expected, weights=[2, 2, 3]))
    assert macro_f1(matrix) == pytest.approx(expected.mean())
