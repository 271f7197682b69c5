"""Intervals against scipy and a resampling written out, coverage; tests against enumeration."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from erray.errors import UserError
from erray.evaluation.scores import f1_of
from erray.metrics import accuracy, confusion, macro_f1, weighted_f1
from erray.statistics import (
    EXACT_BELOW,
    MIN_GROUPS,
    Interval,
    PairedDifference,
    Resamples,
    bootstrap_interval,
    corrected,
    holm,
    mcnemar,
    paired_difference,
)


def make_predictions(num_clips, *, right, seed, num_classes=5):
    """Labels, and predictions of which about the share ``right`` is kept right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, num_classes, num_clips)
    guesses = random.integers(0, num_classes, num_clips)
    return labels, np.where(random.random(num_clips) < right, labels, guesses)


def tails(num_groups, level):
    """The percentiles of an expanded percentile interval, by its formula."""
    t = scipy.stats.t.ppf((1 + level) / 2, num_groups - 1)
    tail = scipy.stats.norm.cdf(-np.sqrt(num_groups / (num_groups - 1)) * t)
    return [tail, 1 - tail]


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
    expected = np.nanquantile(samples, tails(20 if grouped else 120, 0.9))
    ours = bootstrap_interval(
        metric,
        labels,
        predictions,
        5,
        groups=groups if grouped else None,
        num_samples=10000,
        level=0.9,
    )
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), abs=8e-3)


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


@pytest.mark.parametrize("metric", [accuracy, weighted_f1, macro_f1])
def test_a_perfect_model_has_no_spread(metric):
    """Twelve groups of one class each: many resamples lack a class."""
    labels = np.arange(12) // 2
    interval = bootstrap_interval(metric, labels, labels, 7)
    assert (interval.low, interval.value, interval.high) == (1, 1, 1)


def test_a_class_that_a_resample_lacks_is_skipped_in_it():
    """Class 1 has two of 30 clips, both right: without it the mean is the F1 of class 0."""
    labels = np.array([0] * 28 + [1] * 2)
    predictions = np.array([0] * 20 + [1] * 8 + [1] * 2)
    random, samples = np.random.default_rng(0), []
    for _ in range(4000):
        drawn = random.integers(0, 30, 30)
        counts = confusion(labels[drawn], predictions[drawn], 2)
        f1 = 2 * np.diag(counts) / (counts.sum(0) + counts.sum(1))
        samples.append(f1[counts.sum(1) > 0].mean())
    ours = bootstrap_interval(macro_f1, labels, predictions, 2, num_samples=10000)
    assert (ours.low, ours.high) == pytest.approx(np.quantile(samples, tails(30, 0.95)), abs=0.01)


def test_a_class_needs_six_groups_for_an_interval():
    labels = np.repeat([0, 1], 20)
    groups = np.concatenate([np.arange(20) // 2, np.arange(20) // 4])
    wrong = np.arange(40) % 4 == 0
    resamples = Resamples(labels, [labels ^ wrong, labels], 2, groups=groups)
    assert resamples.interval(f1_of(0), label=0).low is not None
    few = resamples.interval(f1_of(1), label=1)
    assert (few.low, few.high, few.num_groups) == (None, None, 5)
    gap = resamples.difference(f1_of(1), label=1)
    assert (gap.low, gap.p_value, gap.num_groups) == (None, None, 5)
    # a metric that is no number in some resamples: class 2 is nowhere, class 1 in some
    assert np.isfinite(resamples.interval(f1_of(1)).low)


def test_equal_models_do_not_differ():
    labels, predictions = make_predictions(80, right=0.5, seed=7)
    same = paired_difference(weighted_f1, labels, predictions, predictions, 5)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_a_clear_difference_is_found_and_has_a_sign():
    labels, good = make_predictions(300, right=0.8, seed=8)
    poor = np.where(np.arange(300) % 3 == 0, (labels + 1) % 5, good)
    better = paired_difference(accuracy, labels, good, poor, 5)
    worse = paired_difference(accuracy, labels, poor, good, 5)
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
    paired = paired_difference(accuracy, labels, a, b, 5)
    assert paired.low > 0
    # 12 discordant clips, all for a: the number drawn is close to Poisson with variance 12
    assert (paired.high - paired.low) * 400 == pytest.approx(2 * 1.96 * np.sqrt(12), rel=0.15)


def with_right(num_right, num_clips=10):
    labels = np.arange(num_clips) % 5
    return labels, np.where(np.arange(num_clips) < num_right, labels, (labels + 1) % 5)


@pytest.mark.parametrize("num_groups", [1, 2, MIN_GROUPS - 1])
def test_six_against_five_of_ten_right_in_few_groups_is_not_decided(num_groups):
    labels, a = with_right(6)
    _, b = with_right(5)
    groups = np.arange(10) % num_groups
    found = paired_difference(accuracy, labels, a, b, 5, groups=groups)
    assert found == PairedDifference(pytest.approx(0.1), None, None, None, num_groups)
    assert found.better is None
    alone = bootstrap_interval(accuracy, labels, a, 5, groups=groups)
    assert alone == Interval(0.6, None, None, num_groups)


def test_two_seeds_of_one_recipe_on_two_groups_are_not_decided():
    """One seed is right a little more often in both groups, as chance has it."""
    labels, a = make_predictions(180, right=0.7, seed=20)
    _, b = make_predictions(180, right=0.6, seed=20)
    found = paired_difference(weighted_f1, labels, a, b, 5, groups=np.arange(180) // 90)
    assert found.difference > 0.05
    assert (found.low, found.high, found.p_value, found.num_groups) == (None, None, None, 2)


def swapped_one_by_one(metric, labels, a, b, groups, num_classes):
    """The two-sided p-value, by scoring the clips of every swap of groups."""

    def gap(x, y):
        return metric(confusion(labels, x, num_classes)) - metric(confusion(labels, y, num_classes))

    names = np.unique(groups)
    found = []
    for swap in itertools.product([False, True], repeat=len(names)):
        swapped = np.isin(groups, names[np.array(swap)])
        found.append(abs(gap(np.where(swapped, b, a), np.where(swapped, a, b))))
    return np.mean(np.array(found) >= abs(gap(a, b)) - 1e-12)


@pytest.mark.parametrize("metric", [accuracy, weighted_f1, macro_f1])
@pytest.mark.parametrize("num_groups", [6, 9])
def test_the_p_value_is_that_of_all_swaps_of_groups(metric, num_groups):
    labels, a = make_predictions(72, right=0.75, seed=21)
    _, b = make_predictions(72, right=0.55, seed=22)
    b = np.where(np.arange(72) % 3, b, labels)
    groups = np.arange(72) % num_groups
    expected = swapped_one_by_one(metric, labels, a, b, groups, 5)
    found = paired_difference(metric, labels, a, b, 5, groups=groups)
    assert found.p_value == pytest.approx(expected) and 0 < expected < 1
    # a group in which the models agree is not swapped, and doubles nothing
    agreed = [np.concatenate([x, labels[:12]]) for x in (labels, a, b)]
    more = paired_difference(metric, *agreed, 5, groups=np.concatenate([groups, [99] * 12]))
    assert more.num_groups == num_groups + 1
    assert more.p_value == pytest.approx(
        swapped_one_by_one(metric, *agreed, np.concatenate([groups, [99] * 12]), 5)
    )


def test_drawn_swaps_are_those_of_scipy():
    """Accuracy over groups of one size is a mean of paired differences."""
    labels, a = make_predictions(200, right=0.68, seed=23)
    b = np.where(np.random.default_rng(24).random(200) < 0.68, labels, (labels + 1) % 5)
    groups = np.arange(200) // 10
    hits = ((a == labels) * 1.0 - (b == labels)).reshape(20, 10).mean(1)
    theirs = scipy.stats.permutation_test(
        (hits,), np.mean, permutation_type="samples", n_resamples=20000,
        rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    ours = paired_difference(accuracy, labels, a, b, 5, groups=groups, num_samples=20000)
    assert ours.p_value == pytest.approx(theirs, abs=0.015) and 0.02 < theirs < 0.9
    turned = paired_difference(accuracy, labels, b, a, 5, groups=groups, num_samples=20000)
    assert turned.p_value == ours.p_value


@pytest.mark.parametrize("num_groups", [6, 12, 25])
def test_p_is_below_a_level_no_oftener_than_the_level_when_nothing_differs(num_groups):
    """Groups of ten clips that are hard or easy for each model by chance; 400 cases."""
    p_values = []
    for seed in range(400):
        random = np.random.default_rng(seed)
        labels = random.integers(0, 5, num_groups * 10)
        skills = random.beta(2, 2, (2, num_groups)).repeat(10, axis=1)
        a, b = (np.where(random.random(len(x)) < x, labels, (labels + 1) % 5) for x in skills)
        groups = np.arange(num_groups).repeat(10)
        found = paired_difference(accuracy, labels, a, b, 5, groups=groups, num_samples=199)
        p_values.append(found.p_value)
    p_values = np.array(p_values)
    # three standard errors above the level
    for level in (0.05, 0.2):
        assert (p_values < level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 400)
    assert p_values.min() < 0.05


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1, and never falling
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.6, 0.7]) == [1, 1] and holm([0.3]) == [0.3] and holm([]) == []


def test_only_decided_differences_are_corrected_for():
    clear = PairedDifference(0.2, 0.1, 0.3, 0.02, 9)
    unclear = PairedDifference(-0.1, -0.2, 0.01, 0.04, 9)
    undecided = PairedDifference(0.1, None, None, None, 5)
    found = corrected([clear, undecided, unclear])
    assert [gap.p_holm for gap in found] == [0.04, None, 0.04]
    assert [gap.better for gap in found] == [True, None, False]
    (third, *_) = corrected([clear, unclear, unclear])
    assert third.p_holm == pytest.approx(0.06) and third.better is None
    # a file of before groups were kept: its p-value is not believed
    assert PairedDifference(0.2, 0.1, 0.3, 0.001).better is None


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
    ours = paired_difference(metric, labels, a, b, 5, groups=groups, num_samples=10000)
    expected = np.nanquantile(samples, tails(18, 0.95))
    assert (ours.low, ours.high) == pytest.approx(tuple(expected), abs=0.015)
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
    assert paired_difference(weighted_f1, labels, a, b, 5, groups=groups) == paired_difference(
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
