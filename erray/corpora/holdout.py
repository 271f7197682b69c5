"""The share of val that chooses nothing: whole groups, set apart before anything is trained.

Val chooses epoch, settings, temperature and the run that is registered, so its scores favour what
was chosen by it. Promotion is judged on the holdout, which nothing of this has seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256

from erray.config import Corpus
from erray.records import Clip

VAL, HOLDOUT = "val", "holdout"
MIN_GROUPS = 6
"""Groups below which a paired test over groups gives no verdict; the rest of val keeps as many."""


def set_apart(config: Corpus, clips: Sequence[Clip]) -> tuple[list[Clip], str]:
    """Move the share ``config.holdout_share`` of val's groups to the split ``holdout``.

    Groups are taken in the order of the hash of their names: every recipe over one corpus sets the
    same ones apart, whatever its seed, and a smaller share is part of a larger one. Only groups
    with a labelled clip count, and only those that lie in val alone.

    Returns:
        All clips in their order, and a line that says what was set apart, or why nothing was;
        empty for a corpus without val.
    """
    own = [clip for clip in clips if clip.split == HOLDOUT]
    if own:
        return list(clips), (
            f"holdout: {_counts(own)} groups, the corpus' own split: promotion is judged on them "
            f"alone, and they choose nothing"
        )
    groups = _labelled_groups(clips)
    share = 0.0 if config.protocol == "published" else config.holdout_share
    chosen = set(groups[: _number(len(groups), share)])
    found = [replace(c, split=HOLDOUT) if c.group in chosen else c for c in clips]
    if not any(clip.split == VAL for clip in clips):
        return found, ""
    if not chosen:
        why = _why_nothing(config, len(groups))
        return found, f"holdout: nothing of val is set apart ({why}): promotion is optimistic"
    taken = _counts([clip for clip in found if clip.split == HOLDOUT])
    return found, (
        f"holdout: {taken} of {len(groups)} groups of val are set apart and choose nothing: "
        f"promotion is judged on them alone"
    )


def with_whole_val(clips: Iterable[Clip]) -> list[Clip]:
    """The clips as the corpus has them: those that were set apart are of val again."""
    return [replace(clip, split=VAL) if clip.split == HOLDOUT else clip for clip in clips]


def _labelled_groups(clips: Sequence[Clip]) -> list[str]:
    elsewhere = {clip.group for clip in clips if clip.split != VAL}
    labelled = {clip.group for clip in clips if clip.split == VAL and clip.label is not None}
    return sorted(labelled - elsewhere, key=lambda name: sha256(name.encode()).hexdigest())


def _number(num_groups: int, share: float) -> int:
    """Groups to set apart: the share, at least six, and at least six stay; else none."""
    if share == 0 or num_groups < 2 * MIN_GROUPS:
        return 0
    return min(max(round(share * num_groups), MIN_GROUPS), num_groups - MIN_GROUPS)


def _why_nothing(config: Corpus, num_groups: int) -> str:
    if config.protocol == "published":
        return "protocol: published keeps val as it was published"
    if config.holdout_share == 0:
        return "corpus.holdout_share is 0"
    return (
        f"{num_groups} labelled groups are in val alone, {2 * MIN_GROUPS} are needed for "
        f"{MIN_GROUPS} on either side"
    )


def _counts(clips: Sequence[Clip]) -> str:
    return f"{len(clips)} clips in {len({clip.group for clip in clips})}"
