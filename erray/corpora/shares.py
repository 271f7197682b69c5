"""Splits drawn by group: each has its share of every class, as near as whole groups allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from erray.corpora.folds import UNSPLIT
from erray.errors import UserError
from erray.records import Clip


def complete_splits(clips: Sequence[Clip], shares: Mapping[str, float], *, seed: int) -> list[Clip]:
    """Return the labelled ``clips``, ordered by id, with a split each.

    Clips without a split get one of ``shares``. Those that have one keep it; where none is in val,
    it is drawn from train, in the proportion that the two have in ``shares``.

    Raises:
        UserError: a split would be empty, or there are splits and none is train.
    """
    there = {clip.split for clip in clips}
    if there == {UNSPLIT}:
        return draw_splits(clips, shares, seed=seed)
    if "train" not in there:
        found = ", ".join(sorted(there))
        raise UserError(f"expected films below a folder called train, found only {found}")
    if "val" not in there:
        both = shares["train"] + shares["val"]
        parts = {split: shares[split] / both for split in ("train", "val")}
        drawn = draw_splits([c for c in clips if c.split == "train"], parts, seed=seed)
        clips = [*drawn, *(clip for clip in clips if clip.split != "train")]
    return sorted(clips, key=lambda clip: clip.clip_id)


def draw_splits(clips: Sequence[Clip], shares: Mapping[str, float], *, seed: int) -> list[Clip]:
    """Return the labelled ``clips``, ordered by id, with a split each.

    The largest groups go first, groups of one size in an order that ``seed`` draws; each goes to
    the split that lacks most of its classes, and of clips at all. No group is in two splits. The
    order of ``clips`` changes nothing.

    Args:
        shares: split to its share of the clips, above 0; they add up to 1.

    Raises:
        UserError: a split would be empty.
    """
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    groups = sorted({clip.group for clip in ordered})
    classes = sorted({str(clip.label) for clip in ordered})
    counts_GC = np.zeros((len(groups), len(classes)))
    group_index = {group: i for i, group in enumerate(groups)}
    for clip in ordered:
        counts_GC[group_index[clip.group], classes.index(str(clip.label))] += 1
    splits = list(shares)
    chosen_G = _choose(counts_GC, np.array([shares[split] for split in splits]), seed)
    empty = [splits[i] for i in range(len(splits)) if not (chosen_G == i).any()]
    if empty:
        raise UserError(
            f"split {empty[0]} would be empty: expected at least a group for each of "
            f"{', '.join(splits)}, {len(groups)} groups are too few or too uneven: change the "
            f"shares or the groups"
        )
    return [replace(c, split=splits[chosen_G[group_index[c.group]]]) for c in ordered]


def _choose(counts_GC: np.ndarray, shares_S: np.ndarray, seed: int) -> np.ndarray:
    """Number of the split of every group."""
    num_groups = len(counts_GC)
    # all clips as one more class: else the second clip of every rare class would go to one split
    counts_GC = np.column_stack([counts_GC, counts_GC.sum(1)])
    total_C = counts_GC.sum(0)
    lacking_SC = shares_S[:, None] * total_C
    drawn_G = np.random.default_rng(seed).permutation(num_groups)
    order_G = drawn_G[np.argsort(-counts_GC[drawn_G, -1], kind="stable")]
    chosen_G = np.empty(num_groups, int)
    for group in order_G:
        # rare classes count as much as frequent ones; rounding must not decide between splits
        need_S = np.round((lacking_SC / total_C) @ counts_GC[group], 9)
        chosen_G[group] = int(np.argmax(need_S))
        lacking_SC[chosen_G[group]] -= counts_GC[group]
    return chosen_G
