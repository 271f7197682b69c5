"""Scores of runs that differ in seed and fold only: each one's, their spread, and all together.

Pure functions of predictions. A fold's score depends on which clips were tested, a seed's on chance
alone: their spreads are told apart.

There are two levels, ``clip`` by the run's clip rule and ``frame``; where Other is a class, also
``clip_without_other`` and ``frame_without_other``: its clips and its logits left out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.evaluation.clips import LabelledClips
from erray.metrics import METRICS, confusion, macro_f1_rule
from erray.statistics import bootstrap_interval
from erray.training.runs import TrainingRun

Scores = dict[str, dict[str, float]]
"""Level to metric to score."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a run said at one level: class ids of N clips or frames, and their groups."""

    label_N: NDArray[np.int64]
    predicted_N: NDArray[np.int64]
    group_N: NDArray[np.str_]
    num_classes: int


def answers(run: TrainingRun, *, without: Collection[str] = ()) -> dict[str, dict[str, Answers]]:
    """Split to level to what a finished run said; splits without a label are left out.

    Args:
        without: clips that are left out, such as those that another run has rejected.
    """
    rows = [row for row in run.predictions.read().to_pylist() if row["clip_id"] not in without]
    found = {}
    for split in dict.fromkeys(row["split"] for row in rows):
        clips = LabelledClips.from_rows(row for row in rows if row["split"] == split)
        if clips is not None:
            found[split] = levels(clips)
    return found


def levels(clips: LabelledClips) -> dict[str, Answers]:
    """Level to what was said."""
    found = {}
    for suffix, part in (("", clips), ("_without_other", clips.without_other())):
        if part is not None:
            predicted_N = part.predicted(part.clip_rule)
            of_clips = part.label_N, predicted_N, np.array(part.groups)
            found[f"clip{suffix}"] = Answers(*of_clips, len(part.classes))
            found[f"frame{suffix}"] = Answers(*part.frames(), len(part.classes))
    return found


def scores(said: Mapping[str, Answers]) -> Scores:
    """Every metric at every level."""
    return {
        level: {
            name: float(metric(confusion(a.label_N, a.predicted_N, a.num_classes)))
            for name, metric in METRICS.items()
        }
        for level, a in said.items()
    }


def spread(of_runs: Mapping[tuple[int | None, int], Scores]) -> dict[str, Any]:
    """Mean and standard deviations of scores by ``(fold, seed)``: level to metric to numbers.

    ``std`` is over all runs, ``std_seeds`` over the seeds' means over folds, ``std_folds`` over the
    folds' means over seeds; each with n - 1 below, None of fewer than two.
    """
    folds = list(dict.fromkeys(fold for fold, _ in of_runs))
    seeds = list(dict.fromkeys(seed for _, seed in of_runs))
    found: dict[str, Any] = {}
    for level in _shared(list(of_runs.values())):
        found[level] = {}
        for metric in METRICS:
            value_FS = np.array([[of_runs[f, s][level][metric] for s in seeds] for f in folds])
            found[level][metric] = {
                "mean": float(value_FS.mean()),
                "std": _std(value_FS.ravel()),
                "std_seeds": _std(value_FS.mean(axis=0)),
                "std_folds": _std(value_FS.mean(axis=1)),
            }
    return found


def pooled(of_runs: Sequence[Mapping[str, Answers]], *, num_bootstrap: int) -> dict[str, Any]:
    """Scores of all predictions together: level to metric to value, low, high and groups.

    With folds these are out-of-fold predictions: each was made by a model that had not seen the
    clip. Groups are resampled: a clip predicted with several seeds does not count as several.
    ``macro_f1_rule`` says which classes macro F1 of the clips is the mean over.
    """
    labels = np.concatenate([said["clip"].label_N for said in of_runs])
    rule = macro_f1_rule(labels, of_runs[0]["clip"].num_classes)
    found: dict[str, Any] = {"predictions": len(labels), "macro_f1_rule": rule}
    for level in _shared(of_runs):
        parts = [said[level] for said in of_runs]
        label_N = np.concatenate([part.label_N for part in parts])
        predicted_N = np.concatenate([part.predicted_N for part in parts])
        group_N = np.concatenate([part.group_N for part in parts])
        found[level] = {}
        for name, metric in METRICS.items():
            interval = bootstrap_interval(
                metric,
                label_N,
                predicted_N,
                parts[0].num_classes,
                groups=group_N,
                num_samples=num_bootstrap,
            )
            found[level][name] = asdict(interval)
    return found


def _shared(of_runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Levels that every run has: a fold's test may hold nothing but Other."""
    return [level for level in of_runs[0] if all(level in said for said in of_runs)]


def _std(values: NDArray[np.float64]) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
