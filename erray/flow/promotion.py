"""Which version an alias names: two versions compared, a verdict, a move, and the way back.

Val chose epoch, settings and run of every version, so a score on it favours what was chosen from
more candidates. A verdict is of the holdout (:mod:`erray.corpora.holdout`), which chose nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erray.corpora.holdout import HOLDOUT, VAL
from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.evaluation.comparison import Comparison, compare, require_same_clips
from erray.flow.version_folder import kept_rows
from erray.registry import BACK, BETTER, FIRST, FORCED, Move, Registry, Version
from erray.statistics import LEVEL, MIN_GROUPS, p_text, undecided

VAL_TAG = "erray.val_fingerprint"
_NUM_BOOTSTRAP, _SEED = 2000, 0
_ALREADY = "it has the alias already"

Rows = Sequence[Mapping[str, Any]]
"""Rows of predictions tables."""


@dataclass(frozen=True)
class Decision:
    """Whether an alias moved, and why.

    Attributes:
        move: None where it did not.
        why: one line.
    """

    version: Version
    alias: str
    move: Move | None
    why: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Two versions on the clips that both keep.

    Attributes:
        split: ``holdout``, or ``val`` where neither keeps a holdout.
        seen: how many of the clips are val of the first and of the second, and so chose its epoch
            and settings: they favour it.
    """

    split: str
    seen: tuple[int, int]
    found: Comparison


def promote(
    registry: Registry, version: Version, alias: str, *, metric: str, forced: str | None = None
) -> Decision:
    """Let ``alias`` name ``version`` if it is better than the version named now.

    Better is: a higher ``metric`` on the same labelled clips, p below ``erray.statistics.LEVEL`` in
    the paired test over groups, and none of the clips chose anything of ``version``
    (:func:`verdict`). The first version of an alias is not compared.

    Args:
        forced: a person's reason to move the alias without a comparison.

    Raises:
        UserError: an alias that MLflow does not take; files that are not those registered; another
            promotion at the same time.
    """
    with registry.deciding():
        current = registry.alias(version.name, alias)
        if current is not None and current.version == version.version:
            return Decision(version, alias, None, _ALREADY)
        better, why = _better(registry, version, current, metric)
        how = FIRST if current is None else BETTER
        if forced is not None:
            better, how, why = True, FORCED, f"{forced} ({why})"
        if not better:
            return Decision(version, alias, None, why)
        move = registry.move_alias(version, alias, before=current, how=how, why=why)
    return Decision(version, alias, move, why)


def roll_back(registry: Registry, model_name: str, alias: str, *, why: str) -> Move:
    """Let ``alias`` name again what it named before its last promotion.

    Raises:
        UserError: no such model or alias, or nothing before.
    """
    with registry.deciding():
        current = registry.alias(model_name, alias)
        target = registry.before(model_name, alias)
        return registry.move_alias(target, alias, before=current, how=BACK, why=why)


def compare_versions(
    registry: Registry, a: Version, b: Version, *, metrics: Sequence[str], rule: str | None = None
) -> Judged:
    """Compare the labelled clips that two versions keep, see :func:`compare_kept`.

    Raises:
        UserError: a version without predictions, other clips, labels or contents.
    """
    names = (a.called, b.called)
    with tempfile.TemporaryDirectory(prefix="erray-compare-") as scratch:
        kept = [kept_rows(registry.fetch(v.uri, Path(scratch)).folder) for v in (a, b)]
    prints = [version.tags.get(VAL_TAG) for version in (a, b)]
    if all(kept) and prints[0] != prints[1]:
        raise UserError(
            f"{names[0]} and {names[1]} were validated on other data (fingerprints "
            f"{prints[0]} and {prints[1]})"
        )
    return compare_kept(kept[0], kept[1], names=names, metrics=metrics, rule=rule)


def compare_kept(
    a: Rows,
    b: Rows,
    *,
    names: tuple[str, str],
    metrics: Sequence[str],
    rule: str | None = None,
) -> Judged:
    """Compare what two versions predict of the holdout of both, or of the one that has one.

    Where neither has one it is all of val.

    Args:
        a, b: predictions of val and of the holdout.
        names: of the versions, for messages.

    Raises:
        UserError: no predictions, other clips, classes or labels.
    """
    clips_a, clips_b = LabelledClips.from_rows(a), LabelledClips.from_rows(b)
    if clips_a is None or clips_b is None:
        raise UserError(
            f"{names[1 if clips_a else 0]} keeps no predictions of val: train it again with `erray "
            f"train`, or move the alias by hand with `erray registry promote --force --why TEXT`"
        )
    remedy = "only versions with the same clips of val are compared"
    require_same_clips(clips_a, clips_b, names=names, remedy=remedy)
    own = [{row["clip_id"] for row in rows if row["split"] == HOLDOUT} for rows in (a, b)]
    # shares of one val are parts of each other: the smaller one is fair to both
    apart = own[0] & own[1] or own[0] or own[1]
    if apart:
        clips_a, clips_b = clips_a.only(apart), clips_b.only(apart)
    seen = [
        sum(row["split"] == VAL and (not apart or row["clip_id"] in apart) for row in rows)
        for rows in (a, b)
    ]
    return Judged(
        split=HOLDOUT if apart else VAL,
        seen=(seen[0], seen[1]),
        found=compare(
            clips_a, clips_b, metrics=metrics, rule=rule, num_bootstrap=_NUM_BOOTSTRAP, seed=_SEED
        ),
    )


def verdict(judged: Judged, metric: str, *, names: tuple[str, str]) -> tuple[bool, str]:
    """Whether the first version is better than the second by ``metric``, and why.

    Clips that chose the first one's epoch or settings prove nothing for it: the verdict is then
    "optimistic", and the second stays. Clips that chose the second's make it the harder to beat,
    so a first version that is better all the same is. Fewer than ``MIN_GROUPS`` groups decide
    nothing.
    """
    scores = judged.found.clips[metric]
    gap = scores.difference
    why = (
        f"{metric.replace('_', ' ')} on {judged.found.num_clips} {judged.split} clips "
        f"{scores.a.value:.3f}, {names[1]} has {scores.b.value:.3f}: difference "
        f"{gap.difference:+.3f}"
    )
    if gap.p_value is None:
        why += f", {undecided(judged.found.num_groups)}"
    else:
        why += f" ({gap.low:+.3f} to {gap.high:+.3f}), p {p_text(gap.p_value)}"
    if judged.seen[0]:
        return False, (
            f"optimistic: {why}, but these clips chose epoch and settings of {names[0]}: set some "
            f"of val apart (corpus.holdout_share, at least {2 * MIN_GROUPS} groups in val) and "
            f"train again"
        )
    if judged.seen[1]:
        why += f"; {judged.seen[1]} of these clips chose the epoch of {names[1]}, which favours it"
    if gap.p_value is None:
        return False, f"{why}; the test of a difference needs {MIN_GROUPS} groups"
    better = gap.better is True
    return better, why if better else f"{why}; promotion needs p below {LEVEL}"


def told(decision: Decision) -> str:
    """A decision as one line for people."""
    version, alias, move = decision.version, decision.alias, decision.move
    if move is not None:
        before = f", before {version.name} version {move.before}" if move.before else ""
        return f"{version.called} is {alias} now{before}: {decision.why}"
    by_hand = f"erray registry promote {version.uri} --alias {alias} --force --why REASON"
    rest = "" if decision.why == _ALREADY else f"; `{by_hand}` moves it anyway"
    return f"{version.called} is not promoted to {alias}: {decision.why}{rest}"


def _better(
    registry: Registry, version: Version, current: Version | None, metric: str
) -> tuple[bool, str]:
    if current is None:
        return True, "no version had the alias"
    try:
        judged = compare_versions(registry, version, current, metrics=[metric])
    except UserError as error:
        return False, f"it cannot be compared with {current.called}: {error}"
    return verdict(judged, metric, names=(version.called, current.called))
