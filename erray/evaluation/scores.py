"""Every score of one run: clips by each rule and frames, classes, confusion, calibration."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.calibration import ReliabilityBin, calibration_error, log_likelihood, reliability_bins
from erray.evaluation.clips import LabelledClips
from erray.labels import CEXPR_7
from erray.metrics import (
    CHALLENGE_F1,
    CLIP_RULES,
    METRICS,
    class_scores,
    confusion,
    macro_f1_rule,
)
from erray.statistics import Interval, Metric, Resamples

Intervals = dict[str, Interval]
"""Name of a metric to its value and interval."""


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class; ``support`` counts its labels, ``f1`` is None without any."""

    name: str
    precision: float
    recall: float
    f1: Interval | None
    support: int


@dataclass(frozen=True, slots=True)
class LevelScores:
    """Scores of clips by one rule, or of frames; ``confusion``: row label, column prediction.

    ``metrics`` are those of ``erray.metrics.METRICS``, and ``challenge_f1`` where the classes are
    the challenge's.
    """

    metrics: Intervals
    per_class: list[ClassScore]
    confusion: list[list[int]]


@dataclass(frozen=True, slots=True)
class Calibration:
    """How sure the run's clip rule is, before and after its temperature.

    ``error`` is the expected calibration error over bins of equal width, ``loss`` the mean negative
    log-likelihood; the loss of votes is None, as a label without a vote has no logarithm.
    """

    temperature: float
    error_before: float
    error_after: float
    loss_before: float | None
    loss_after: float | None
    bins_before: list[ReliabilityBin]
    bins_after: list[ReliabilityBin]


@dataclass(frozen=True, slots=True)
class RunScores:
    """All scores of a run on the labelled clips of one split."""

    classes: tuple[str, ...]
    num_clips: int
    num_groups: int
    num_frames: int
    macro_f1_rule: str
    """Which classes macro F1 is the mean over."""
    clip_rule: str
    clips: dict[str, LevelScores]
    """By every clip rule."""
    frames: LevelScores
    calibration: Calibration
    without_other: RunScores | None
    """The same with the class Other ignored; None where it is no class."""


def score_run(clips: LabelledClips, *, num_bootstrap: int, seed: int) -> RunScores:
    """Score a run; every interval is a bootstrap over groups of clips."""
    num_classes = len(clips.classes)
    resamples = partial(Resamples, num_samples=num_bootstrap, seed=seed)
    answers = [clips.predicted(rule) for rule in CLIP_RULES]
    of_clips = resamples(clips.label_N, answers, num_classes, groups=clips.groups)
    frame_label, frame_predicted, frame_group = clips.frames()
    of_frames = resamples(frame_label, [frame_predicted], num_classes, groups=frame_group)
    rest = clips.without_other()
    return RunScores(
        classes=clips.classes,
        num_clips=len(clips),
        num_groups=clips.num_groups,
        num_frames=len(frame_label),
        macro_f1_rule=macro_f1_rule(clips.label_N, num_classes),
        clip_rule=clips.clip_rule,
        clips={
            rule: _level(
                of_clips,
                i,
                confusion(clips.label_N, answers[i], num_classes),
                clips.classes,
            )
            for i, rule in enumerate(CLIP_RULES)
        },
        frames=_level(
            of_frames, 0, confusion(frame_label, frame_predicted, num_classes), clips.classes
        ),
        calibration=_calibration(clips),
        without_other=(
            None if rest is None else score_run(rest, num_bootstrap=num_bootstrap, seed=seed)
        ),
    )


def plain(scores: RunScores) -> dict[str, Any]:
    """Return the scores as mappings, lists and numbers, as JSON takes them."""
    return asdict(scores)


def f1_of(class_id: int) -> Metric:
    """The F1 of one class, as a metric; not a number where nothing has the label."""

    def f1(confusion_CC: NDArray[Any]) -> NDArray[np.float64]:
        found = class_scores(confusion_CC)
        return np.where(found.support > 0, found.f1, np.nan)[..., class_id]

    return f1


def _level(
    resamples: Resamples, model: int, matrix_CC: NDArray[np.int64], names: tuple[str, ...]
) -> LevelScores:
    found = class_scores(matrix_CC)
    metrics = {name: resamples.interval(metric, model) for name, metric in METRICS.items()}
    if names == CEXPR_7.names:
        # the same sum of F1 over all classes; resamples that lack a class stay out of its interval
        share = float((found.support > 0).mean())
        metrics[CHALLENGE_F1] = _scaled(metrics["macro_f1"], share)
    return LevelScores(
        metrics=metrics,
        per_class=[
            ClassScore(
                name=name,
                precision=float(found.precision[i]),
                recall=float(found.recall[i]),
                f1=resamples.interval(f1_of(i), model, label=i) if found.support[i] else None,
                support=int(found.support[i]),
            )
            for i, name in enumerate(names)
        ],
        confusion=matrix_CC.tolist(),
    )


def _scaled(found: Interval, share: float) -> Interval:
    low, high = (None if end is None else share * end for end in (found.low, found.high))
    return replace(found, value=share * found.value, low=low, high=high)


def _calibration(clips: LabelledClips) -> Calibration:
    temperatures = (1.0, clips.temperature)
    before_NC, after_NC = (clips.probabilities(temperature=t) for t in temperatures)
    losses: list[float | None] = [None, None]
    if clips.clip_rule != "majority":
        values_NC = clips.clip_logits()
        losses = [-log_likelihood(values_NC, clips.label_N, temperature=t) for t in temperatures]
    return Calibration(
        temperature=clips.temperature,
        error_before=calibration_error(before_NC, clips.label_N),
        error_after=calibration_error(after_NC, clips.label_N),
        loss_before=losses[0],
        loss_after=losses[1],
        bins_before=reliability_bins(before_NC, clips.label_N),
        bins_after=reliability_bins(after_NC, clips.label_N),
    )
