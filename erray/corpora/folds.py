"""Folds whose splits share no group and have about the same share of every class."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from erray.errors import UserError
from erray.records import Clip

UNSPLIT = "none"
"""Split of a clip until the folds are made, and of one that is left out of them."""

_SEED = 0  # the same folds for every seed of a training: seeds are compared on equal data


def grouped_fold(clips: Sequence[Clip], *, fold: int, num_folds: int) -> list[Clip]:
    """Return the labelled ``clips``, ordered by id, with the splits of one fold.

    Fold ``fold`` of ``num_folds`` is test. The others are divided once more in the same way: one
    part of ``num_folds - 1`` (of two, where that is one) is val, which chooses the epoch, and the
    rest is train. No group is in two splits, and over all folds every clip is tested once. The
    order of ``clips`` changes nothing.

    Raises:
        UserError: too few groups or clips for so many folds.
    """
    ordered = sorted(clips, key=lambda clip: clip.clip_id)
    is_test_N = _fold_of(ordered, num_folds) == fold
    rest = [clip for clip, is_test in zip(ordered, is_test_N, strict=True) if not is_test]
    inner_of = _fold_of(rest, max(num_folds - 1, 2))
    val_ids = {clip.clip_id for clip, inner in zip(rest, inner_of, strict=True) if inner == 0}
    return [
        replace(clip, split="test" if is_test else "val" if clip.clip_id in val_ids else "train")
        for clip, is_test in zip(ordered, is_test_N, strict=True)
    ]


def _fold_of(clips: Sequence[Clip], num_folds: int) -> np.ndarray:
    """Number of the fold of every clip; no fold is empty."""
    labels, groups = [str(c.label) for c in clips], [c.group for c in clips]
    num_groups, most = len(set(groups)), max(Counter(labels).values(), default=0)
    if num_groups < num_folds or most < num_folds:
        raise UserError(
            f"expected at least {num_folds} groups and a class with {num_folds} clips for "
            f"{num_folds} folds, found {num_groups} groups and at most {most} clips: lower "
            f"corpus.num_folds"
        )
    from sklearn.model_selection import StratifiedGroupKFold  # noqa: PLC0415 - seconds, for few

    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=_SEED)
    fold_N = np.full(len(clips), -1)
    with warnings.catch_warnings():
        # a class with fewer clips than folds: the check of the corpus says what it leads to
        warnings.simplefilter("ignore", UserWarning)
        for number, (_, chosen) in enumerate(folds.split(labels, labels, groups)):
            fold_N[chosen] = number
    empty = set(range(num_folds)) - set(fold_N.tolist())
    if empty:
        raise UserError(
            f"fold {min(empty)} of {num_folds} would be empty: {num_groups} groups are too few or "
            f"too uneven: lower corpus.num_folds"
        )
    return fold_N
