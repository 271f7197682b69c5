"""Splits by group with their shares of every class: bounds, seeds, and what cannot be split."""

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.corpora.folds import UNSPLIT
from erray.corpora.shares import complete_splits, draw_splits
from erray.errors import UserError
from erray.records import Clip

SHARES = {"train": 0.6, "val": 0.2, "test": 0.2}


def clips_of(labels_and_groups):
    return [
        Clip(clip_id=f"c{i:03}", media="m", split=UNSPLIT, group=f"g{group}", label=label)
        for i, (label, group) in enumerate(labels_and_groups)
    ]


@settings(max_examples=60, deadline=None)
@given(st.text("abc", min_size=12, max_size=60), st.integers(0, 9))
def test_single_clips_are_shared_to_less_than_two_of_each_class(labels, seed):
    clips = draw_splits(clips_of(zip(labels, range(60), strict=False)), SHARES, seed=seed)
    counts, totals = Counter((clip.split, clip.label) for clip in clips), Counter(labels)
    for split, share in SHARES.items():
        for label, total in totals.items():
            assert abs(counts[split, label] - share * total) < 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=1, max_size=60),
    st.integers(0, 9),
)
def test_no_group_is_in_two_splits_and_no_clip_is_lost(pairs, seed):
    clips = clips_of(pairs)
    try:
        found = draw_splits(clips, SHARES, seed=seed)
    except UserError as error:
        assert "would be empty" in str(error)
        return
    groups = {split: {c.group for c in found if c.split == split} for split in SHARES}
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len({clip.group for clip in clips})
    assert [clip.clip_id for clip in found] == [clip.clip_id for clip in clips]


def test_groups_of_several_clips_keep_the_shares():
    clips = clips_of([("aab"[i % 3], i // 4) for i in range(240)])
    counts = Counter((c.split, c.label) for c in draw_splits(clips, SHARES, seed=0))
    for label, total in (("a", 160), ("b", 80)):
        for split, share in SHARES.items():
            assert abs(counts[split, label] - share * total) <= 4


def test_classes_of_two_clips_leave_no_split_empty():
    clips = draw_splits(clips_of([("abcdefg"[i % 7], i) for i in range(14)]), SHARES, seed=0)
    assert Counter(clip.split for clip in clips) == {"train": 8, "val": 3, "test": 3}


def test_a_seed_draws_the_same_splits_from_any_order_and_another_one_others():
    clips = clips_of([("ab"[i % 2], i // 2) for i in range(40)])
    found = draw_splits(clips, SHARES, seed=3)
    assert draw_splits(random.Random(1).sample(clips, 40), SHARES, seed=3) == found
    assert draw_splits(clips, SHARES, seed=4) != found


def test_fewer_groups_than_splits_are_refused():
    with pytest.raises(UserError, match=r"split test would be empty.*2 groups are too few"):
        draw_splits(clips_of([("a", 0), ("b", 1), ("a", 1)]), SHARES, seed=0)


def in_folders(**counts):
    """Clips whose splits are given, of two classes and groups of two."""
    splits = [split for split, count in counts.items() for _ in range(count)]
    clips = clips_of([("ab"[i % 2], i // 2) for i in range(len(splits))])
    return [replace(clip, split=split) for clip, split in zip(clips, splits, strict=True)]


def test_splits_that_are_given_are_kept_whatever_their_sizes():
    clips = in_folders(test=30, train=6, val=20)
    assert complete_splits(clips, SHARES, seed=3) == clips
    unsplit = [replace(clip, split=UNSPLIT) for clip in clips]
    assert complete_splits(unsplit, SHARES, seed=3) == draw_splits(unsplit, SHARES, seed=3)


@pytest.mark.parametrize("seed", range(3))
def test_val_is_drawn_from_train_and_test_is_never_touched(seed):
    clips = in_folders(train=40, test=60)
    found = complete_splits(clips, SHARES, seed=seed)
    assert Counter(clip.split for clip in found) == {"train": 30, "val": 10, "test": 60}
    assert [c.clip_id for c in found if c.split == "test"] == [c.clip_id for c in clips[40:]]
    groups = {split: {c.group for c in found if c.split == split} for split in SHARES}
    assert not groups["train"] & groups["val"]


def test_a_corpus_without_train_is_refused():
    with pytest.raises(UserError, match="a folder called train, found only test, val"):
        complete_splits(in_folders(test=4, val=4), SHARES, seed=0)
