"""Two runs on the same clips: scores, paired differences, who is right where the other is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.evaluation.scores import f1_of
from erray.metrics import find_metric, macro_f1_rule
from erray.statistics import (
    Interval,
    McNemar,
    Metric,
    PairedDifference,
    Resamples,
    corrected,
    mcnemar,
)

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Compared:
    """One score of a and of b with their intervals, and a minus b, all on the same resamples."""

    a: Interval
    b: Interval
    difference: PairedDifference


@dataclass(frozen=True, slots=True)
class ClassChange:
    """F1 of one class; ``support`` counts its labels."""

    name: str
    support: int
    f1: Compared


@dataclass(frozen=True, slots=True)
class Comparison:
    """Run a against run b.

    Attributes:
        rules: clip rule of a and of b.
        clips: metric to scores of clips.
        frames: metric to scores of frames; None where the runs have other clocks.
        agreement: share of the clips that both give one class, right or wrong.
        both_right: clips.
        both_wrong: clips, whatever their classes.
        macro_f1_rule: which classes macro F1 is the mean over.
        classes: those with labels that differ most first; p-values corrected for their number.
        without_other: the same with the class Other ignored; None where it is no class.
    """

    num_clips: int
    num_groups: int
    class_names: tuple[str, ...]
    rules: tuple[str, str]
    macro_f1_rule: str
    clips: dict[str, Compared]
    frames: dict[str, Compared] | None
    mcnemar: McNemar
    agreement: float
    both_right: int
    both_wrong: int
    classes: list[ClassChange]
    without_other: Comparison | None


def compare(
    a: LabelledClips,
    b: LabelledClips,
    *,
    metrics: Sequence[str],
    rule: str | None,
    num_bootstrap: int,
    seed: int,
) -> Comparison:
    """Compare two runs over the same clips, see :func:`require_same_clips`.

    Args:
        metrics: names of ``erray.metrics.METRICS``.
        rule: clip rule of both; None: each run's own.

    Raises:
        UserError: an unknown metric or rule.
    """
    rules = (rule or a.clip_rule, rule or b.clip_rule)
    chosen = {name: find_metric(name) for name in metrics}
    answers = [a.predicted(rules[0]), b.predicted(rules[1])]
    hits_a, hits_b = (answer_N == a.label_N for answer_N in answers)
    settings: dict[str, Any] = {
        "num_classes": len(a.classes),
        "num_samples": num_bootstrap,
        "seed": seed,
    }
    of_clips = Resamples(a.label_N, answers, groups=a.groups, **settings)
    rest_a, rest_b = a.without_other(), b.without_other()
    return Comparison(
        num_clips=len(a),
        num_groups=a.num_groups,
        class_names=a.classes,
        rules=rules,
        macro_f1_rule=macro_f1_rule(a.label_N, len(a.classes)),
        clips={name: _compared(of_clips, metric) for name, metric in chosen.items()},
        frames=_frames(a, b, chosen, settings),
        mcnemar=mcnemar(a.label_N, *answers),
        agreement=float((answers[0] == answers[1]).mean()),
        both_right=int((hits_a & hits_b).sum()),
        both_wrong=int((~hits_a & ~hits_b).sum()),
        classes=_classes(a, of_clips),
        without_other=(
            None
            if rest_a is None or rest_b is None
            else compare(
                rest_a, rest_b, metrics=metrics, rule=rule, num_bootstrap=num_bootstrap, seed=seed
            )
        ),
    )


def common_clips(
    a: LabelledClips, b: LabelledClips, *, names: tuple[str, str]
) -> tuple[LabelledClips, LabelledClips]:
    """Return both with only the clips that both have.

    Raises:
        UserError: no clip is in both.
    """
    shared = set(a.clip_ids) & set(b.clip_ids)
    if not shared:
        raise UserError(f"{names[0]} and {names[1]} have no labelled clip in common")
    return a.only(shared), b.only(shared)


def require_same_clips(
    a: LabelledClips, b: LabelledClips, *, names: tuple[str, str], remedy: str
) -> None:
    """Refuse what cannot be compared.

    Args:
        names: of a and b, for the message.
        remedy: what to do about other clips, for the message.

    Raises:
        UserError: other classes, clips, labels or groups.
    """
    if a.classes != b.classes:
        raise UserError(
            f"{names[0]} and {names[1]} have different label sets: "
            f"{', '.join(a.classes)} against {', '.join(b.classes)}"
        )
    if a.clip_ids != b.clip_ids:
        counts = []
        for name, mine, other in ((names[0], a, b), (names[1], b, a)):
            alone = sorted(set(mine.clip_ids) - set(other.clip_ids))
            if alone:
                counts.append(f"{len(alone)} only in {name} ({_few(alone)})")
        raise UserError(
            f"{names[0]} and {names[1]} cover different labelled clips: {'; '.join(counts)}; "
            f"{remedy}"
        )
    for what, value_a, value_b in (
        ("label", [a.classes[i] for i in a.label_N], [b.classes[i] for i in b.label_N]),
        ("group", a.groups, b.groups),
    ):
        rows = zip(a.clip_ids, value_a, value_b, strict=True)
        unequal = [f"{clip_id} ({x} against {y})" for clip_id, x, y in rows if x != y]
        if unequal:
            raise UserError(
                f"{names[0]} and {names[1]} have another {what} for {len(unequal)} clips: "
                f"{_few(unequal)}; compare runs of one corpus"
            )


def _frames(
    a: LabelledClips, b: LabelledClips, metrics: dict[str, Metric], settings: dict[str, Any]
) -> dict[str, Compared] | None:
    if [len(x_TC) for x_TC in a.logits] != [len(x_TC) for x_TC in b.logits]:
        return None
    label_F, predicted_F, group_F = a.frames()
    of_frames = Resamples(label_F, [predicted_F, b.frames()[1]], groups=group_F, **settings)
    return {name: _compared(of_frames, metric) for name, metric in metrics.items()}


def _compared(resamples: Resamples, metric: Metric, *, label: int | None = None) -> Compared:
    return Compared(
        a=resamples.interval(metric, 0, label=label),
        b=resamples.interval(metric, 1, label=label),
        difference=resamples.difference(metric, 0, 1, label=label),
    )


def _classes(clips: LabelledClips, resamples: Resamples) -> list[ClassChange]:
    counts = np.bincount(clips.label_N, minlength=len(clips.classes))
    compared = {i: _compared(resamples, f1_of(i), label=i) for i in np.flatnonzero(counts).tolist()}
    gaps = corrected([found.difference for found in compared.values()])
    changes = [
        ClassChange(clips.classes[i], int(counts[i]), replace(found, difference=gap))
        for (i, found), gap in zip(compared.items(), gaps, strict=True)
    ]
    return sorted(changes, key=lambda change: -abs(change.f1.difference.difference))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
