"""Grouped folds: no group in two splits, every clip tested once, the same every time."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.corpora.folds import UNSPLIT, grouped_fold
from erray.errors import UserError
from erray.records import Clip


def clips_of(labels_and_groups):
    return [
        Clip(clip_id=f"c{i:03}", media="m", split=UNSPLIT, group=f"g{group}", label=label)
        for i, (label, group) in enumerate(labels_and_groups)
    ]


def splits_of(clips, **options):
    return {clip.clip_id: clip.split for clip in grouped_fold(clips, **options)}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), min_size=12, max_size=60),
    st.integers(2, 5),
)
def test_no_group_is_in_two_splits_and_every_clip_is_tested_once(pairs, num_folds):
    clips = clips_of(pairs)
    tested = Counter()
    try:
        for fold in range(num_folds):
            found = grouped_fold(clips, fold=fold, num_folds=num_folds)
            groups = {s: {c.group for c in found if c.split == s} for s in ("train", "val", "test")}
            assert all(groups.values())
            assert sum(map(len, groups.values())) == len({clip.group for clip in clips})
            assert {clip.clip_id for clip in found} == {clip.clip_id for clip in clips}
            tested.update(clip.clip_id for clip in found if clip.split == "test")
    except UserError as error:
        assert "lower corpus.num_folds" in str(error)
    else:
        assert set(tested.values()) == {1} and len(tested) == len(clips)


def test_the_order_of_the_clips_changes_nothing():
    clips = clips_of([("ab"[i % 2], i // 3) for i in range(60)])
    shuffled = random.Random(1).sample(clips, len(clips))
    options = {"fold": 1, "num_folds": 4}
    assert splits_of(clips, **options) == splits_of(shuffled, **options)
    assert splits_of(clips, **options) == splits_of(clips, **options)


def test_classes_keep_their_shares():
    """Classes of 120 and 60 clips over 60 videos: a fifth of each, give or take a video."""
    clips = clips_of([("aab"[i % 3], i // 3) for i in range(180)])
    found = grouped_fold(clips, fold=0, num_folds=5)
    counts = Counter((clip.split, clip.label) for clip in found)
    for split, share in (("test", 0.2), ("val", 0.2), ("train", 0.6)):
        assert counts[split, "a"] == pytest.approx(120 * share, abs=2)
        assert counts[split, "b"] == pytest.approx(60 * share, abs=1)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("a", 0)] * 10, "found 1 groups and at most 10 clips"),
        ([("abcdef"[i], i) for i in range(6)], "found 6 groups and at most 1 clips"),
        ([], "found 0 groups and at most 0 clips"),
    ],
)
def test_too_few_groups_or_clips_are_refused(pairs, message):
    with pytest.raises(UserError, match=message):
        grouped_fold(clips_of(pairs), fold=0, num_folds=3)
