"""Bootstrap intervals against scipy and a resampling written out, coverage, and paired tests."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from erray.errors import UserError
from erray.metrics import accuracy, confusion, macro_f1, weighted_f1
from erray.statistics import EXACT_BELOW, Resamples, bootstrap_interval, mcnemar, paired_bootstrap


def make_predictions(num_clips, *, right, seed, num_classes=5):
    """Labels, and predictions of which about the share ``right`` is kept right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, num_clips)
    guesses = random.integers(0, num_classes, num_clips)
    return labels, np.where(random.random(num_clips) < right, labels, guesses)


def test_accuracy_interval_is_scipys():
    labels, predictions = make_predictions(400, right=0.6, seed=0)
    ours = bootstrap_interval(accuracy, labels, predictions, 5, num_samples=20000)
    theirs = scipy.stats.bootstrap(
        ((labels == predictions).astype(float),),
        np.mean,
        n_resamples=20000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.value == (labels == predictions).mean()
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=4e-3)


@pytest.mark.parametrize("metric", [weighted_f1, macro_f1])
@pytest.mark.parametrize("grouped", [False, True])
def test_same_distribution_as_drawing_clips_or_groups_one_by_one(metric, grouped):
    labels, predictions = make_predictions(120, right=0.5, seed=2)
    groups = np.arange(120) // 6 if grouped else np.arange(120)
    predictions = np.where(groups % 3 == 0, labels, predictions)  # groups differ in difficulty
    random = np.random.default_rng(3)
    samples = []
    for _ in range(3000):
        drawn = random.choice(np.unique(groups), len(np.unique(groups)))
        clips = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        samples.append(metric(confusion(labels[clips], predictions[clips], 5)))
    expected = np.quantile(samples, [0.05, 0.95])
    ours = bootstrap_interval(
        metric,
        labels,
        predictions,
        5,
        groups=groups if grouped else None,
        num_samples=10000,
        level=0.9,
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), abs=6e-3)


def test_dependent_clips_widen_the_interval():
    """Ten equal clips per group carry the information of one."""
    labels, predictions = make_predictions(60, right=0.5, seed=4)
    labels, predictions = np.repeat(labels, 10), np.repeat(predictions, 10)
    groups = [f"video {i // 10}" for i in range(600)]
    alone = bootstrap_interval(accuracy, labels, predictions, 5)
    clustered = bootstrap_interval(accuracy, labels, predictions, 5, groups=groups)
    ratio = (clustered.high - clustered.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(10), rel=0.15)
    assert alone.value == clustered.value


def test_the_interval_covers_as_often_as_it_says():
    hits = 0
    for seed in range(300):
        labels, predictions = make_predictions(150, right=0.5, seed=1000 + seed)
        interval = bootstrap_interval(accuracy, labels, predictions, 5, num_samples=400, level=0.9)
        hits += interval.low <= 0.5 + 0.5 / 5 <= interval.high
    assert 0.84 <= hits / 300 <= 0.95


def test_unlabelled_clips_do_not_count():
    labels, predictions = make_predictions(50, right=0.5, seed=5)
    groups = np.arange(50) // 5
    more = np.concatenate([labels, [-1] * 7])
    same = bootstrap_interval(
        weighted_f1,
        more,
        np.concatenate([predictions, [0] * 7]),
        5,
        groups=np.concatenate([groups, [99] * 7]),
    )
    assert same == bootstrap_interval(weighted_f1, labels, predictions, 5, groups=groups)
    with pytest.raises(UserError, match="no labelled clip"):
        bootstrap_interval(accuracy, [-1, -1], [0, 1], 5)


def test_the_seed_decides():
    labels, predictions = make_predictions(80, right=0.5, seed=6)
    first, again, other = (
        bootstrap_interval(weighted_f1, labels, predictions, 5, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first.low < first.value < first.high


def test_a_perfect_model_has_no_spread():
    interval = bootstrap_interval(accuracy, [0, 1, 2], [0, 1, 2], 3)
    assert (interval.low, interval.value, interval.high) == (1, 1, 1)


def test_equal_models_do_not_differ():
    labels, predictions = make_predictions(80, right=0.5, seed=7)
    same = paired_bootstrap(weighted_f1, labels, predictions, predictions, 5)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_a_clear_difference_is_found_and_has_a_sign():
    labels, good = make_predictions(300, right=0.8, seed=8)
    poor = np.where(np.arange(300) % 3 == 0, (labels + 1) % 5, good)
    better = paired_bootstrap(accuracy, labels, good, poor, 5)
    worse = paired_bootstrap(accuracy, labels, poor, good, 5)
    assert better.difference == -worse.difference > 0
    assert 0 < better.low < better.high
    assert better.p_value < 0.01


def test_pairing_cancels_what_both_share():
    """Models that differ on 12 of 400 clips: intervals overlap, the paired one excludes 0."""
    labels, a = make_predictions(400, right=0.5, seed=9)
    right = np.flatnonzero(a == labels)[:12]
    b = a.copy()
    b[right] = (labels[right] + 1) % 5
    of_a, of_b = (bootstrap_interval(accuracy, labels, p, 5) for p in (a, b))
    assert of_a.low < of_b.high
    paired = paired_bootstrap(accuracy, labels, a, b, 5)
    assert paired.low > 0
    # 12 discordant clips, all for a: the number drawn is close to Poisson with variance 12
    assert (paired.high - paired.low) * 400 == pytest.approx(2 * 1.96 * np.sqrt(12), rel=0.15)


def test_the_p_value_is_uniform_when_nothing_differs():
    p_values = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 5, 120)
        a, b = (np.where(random.random(120) < 0.6, labels, (labels + 1) % 5) for _ in range(2))
        p_values.append(paired_bootstrap(accuracy, labels, a, b, 5, num_samples=500).p_value)
    assert 0.02 <= np.mean(np.array(p_values) < 0.1) <= 0.2


@pytest.mark.parametrize("metric", [accuracy, weighted_f1, macro_f1])
def test_a_paired_difference_is_that_of_groups_drawn_one_by_one(metric):
    labels, a = make_predictions(90, right=0.7, seed=11)
    _, b = make_predictions(90, right=0.4, seed=12)
    b = np.where(np.arange(90) % 2, a, b)
    groups = np.arange(90) // 5
    random = np.random.default_rng(13)
    samples = []
    for _ in range(3000):
        drawn = random.integers(0, 18, 18)
        clips = np.concatenate([np.flatnonzero(groups == group) for group in drawn])
        score_a, score_b = (metric(confusion(labels[clips], p[clips], 5)) for p in (a, b))
        samples.append(score_a - score_b)
    ours = paired_bootstrap(metric, labels, a, b, 5, groups=groups, num_samples=10000)
    expected = np.quantile(samples, [0.025, 0.975])
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), abs=0.01)
    scores = [metric(confusion(labels, p, 5)) for p in (a, b)]
    assert ours.difference == pytest.approx(scores[0] - scores[1])


def test_models_of_one_object_share_their_resamples():
    """If a is right exactly where b is wrong, the scores of every resample add up to 1."""
    labels, a = make_predictions(100, right=0.5, seed=14)
    b = np.where(a == labels, (labels + 1) % 5, labels)
    resamples = Resamples(labels, [a, b], 5, groups=np.arange(100) // 4)
    of_a, of_b = (resamples.interval(accuracy, model) for model in (0, 1))
    assert of_a.value + of_b.value == pytest.approx(1)
    assert of_a.low + of_b.high == pytest.approx(1)
    assert of_a.high + of_b.low == pytest.approx(1)


def test_the_order_of_clips_changes_nothing():
    labels, a = make_predictions(100, right=0.5, seed=15)
    _, b = make_predictions(100, right=0.5, seed=16)
    groups = np.arange(100) // 4
    order = np.random.default_rng(17).permutation(100)
    assert paired_bootstrap(weighted_f1, labels, a, b, 5, groups=groups) == paired_bootstrap(
        weighted_f1, labels[order], a[order], b[order], 5, groups=groups[order]
    )
    assert mcnemar(labels, a, b) == mcnemar(labels[order], a[order], b[order])


def discordant(only_a, only_b, *, both=3, neither=2):
    """Labels and two predictions with these counts of clips."""
    right_a = [True] * only_a + [False] * only_b + [True] * both + [False] * neither
    right_b = [False] * only_a + [True] * only_b + [True] * both + [False] * neither
    labels = np.arange(len(right_a)) % 5
    return labels, *(np.where(right, labels, (labels + 1) % 5) for right in (right_a, right_b))


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_binomial_or_the_corrected_chi_square_test(only_a, only_b):
    found = mcnemar(*discordant(only_a, only_b))
    assert (found.only_a, found.only_b) == (only_a, only_b)
    total = only_a + only_b
    if total == 0:
        expected = 1.0
    elif total < EXACT_BELOW:
        expected = scipy.stats.binomtest(only_a, total).pvalue
    else:
        statistic = max(abs(only_a - only_b) - 1, 0) ** 2 / total
        expected = scipy.stats.chi2.sf(statistic, 1)
    assert found.method == ("exact" if total < EXACT_BELOW else "chi_square")
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    labels, a, b = discordant(only_a, only_b)
    assert mcnemar(labels, b, a).p_value == found.p_value


def test_mcnemars_two_methods_meet_and_unlabelled_clips_do_not_count():
    exact = scipy.stats.binomtest(20, 30).pvalue
    assert mcnemar(*discordant(20, 10)).p_value == pytest.approx(exact, abs=0.01)
    labels, a, b = discordant(9, 2)
    more = [np.concatenate([x, y]) for x, y in ((labels, [-1, -1]), (a, [0, 1]), (b, [1, 0]))]
    assert mcnemar(*more) == mcnemar(labels, a, b)
    with pytest.raises(UserError, match="no labelled clip"):
        mcnemar([-1], [0], [1])
