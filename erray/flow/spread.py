"""Scores of runs that differ in seed and fold only: each one's, their spread, and all together.

Pure functions of predictions tables. A fold's score depends on which clips were tested, a seed's on
chance alone: their spreads are told apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.labels import LabelSet
from erray.metrics import METRICS, confusion
from erray.records import tensor_from_columns
from erray.statistics import bootstrap_interval
from erray.training.runs import TrainingRun

LEVELS = ("clip", "frame")

Scores = dict[str, dict[str, float]]
"""Level to metric to score."""


@dataclass(frozen=True)
class Predicted:
    """Labels and predictions of the labelled clips of one split, a value per clip or per frame.

    Attributes:
        clips: ``(label [N], prediction [N], group [N])`` by the run's clip rule.
        frames: the same for every frame of these clips; a frame has its clip's label.
    """

    clips: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]
    frames: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]
    num_classes: int

    def level(self, name: str) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
        return {"clip": self.clips, "frame": self.frames}[name]

    @cached_property
    def scores(self) -> Scores:
        """Every metric at both levels."""
        return {
            level: {
                name: float(metric(confusion(*self.level(level)[:2], self.num_classes)))
                for name, metric in METRICS.items()
            }
            for level in LEVELS
        }


def predicted(run: TrainingRun, labels: LabelSet) -> dict[str, Predicted]:
    """Split name to what a finished run predicted there; splits without a label are left out."""
    rows = [row for row in run.predictions.read().to_pylist() if row["label"] is not None]
    splits = dict.fromkeys(row["split"] for row in rows)
    return {split: _predicted([r for r in rows if r["split"] == split], labels) for split in splits}


def spread(scores: Mapping[tuple[int | None, int], Scores]) -> dict[str, Any]:
    """Mean and standard deviations of scores by ``(fold, seed)``: level to metric to numbers.

    ``std`` is over all runs, ``std_seeds`` over the seeds' means over folds, ``std_folds`` over the
    folds' means over seeds; each with n - 1 below, None of fewer than two.
    """
    folds = list(dict.fromkeys(fold for fold, _ in scores))
    seeds = list(dict.fromkeys(seed for _, seed in scores))
    found: dict[str, Any] = {}
    for level in LEVELS:
        found[level] = {}
        for metric in METRICS:
            value_FS = np.array([[scores[f, s][level][metric] for s in seeds] for f in folds])
            found[level][metric] = {
                "mean": float(value_FS.mean()),
                "std": _std(value_FS.ravel()),
                "std_seeds": _std(value_FS.mean(axis=0)),
                "std_folds": _std(value_FS.mean(axis=1)),
            }
    return found


def pooled(parts: Sequence[Predicted], *, num_bootstrap: int) -> dict[str, Any]:
    """Scores of all predictions together with intervals: level to metric to value, low, high.

    With folds these are out-of-fold predictions: each was made by a model that had not seen the
    clip. Groups are resampled: a clip predicted with several seeds does not count as several.
    """
    found: dict[str, Any] = {"predictions": sum(len(part.clips[0]) for part in parts)}
    for level in LEVELS:
        label_N, predicted_N, group_N = (
            np.concatenate([part.level(level)[i] for part in parts]) for i in range(3)
        )
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
            found[level][name] = {
                "value": interval.value,
                "low": interval.low,
                "high": interval.high,
            }
    return found


def _predicted(rows: Sequence[Mapping[str, Any]], labels: LabelSet) -> Predicted:
    label_N = np.array([labels.index(row["label"]) for row in rows])
    group_N = np.array([row["group"] for row in rows])
    frames = [
        tensor_from_columns(row["logits"], row["shape"], row["dtype"]).argmax(-1) for row in rows
    ]
    lengths = [len(frame_T) for frame_T in frames]
    return Predicted(
        clips=(label_N, np.array([labels.index(row["predicted"]) for row in rows]), group_N),
        frames=(label_N.repeat(lengths), np.concatenate(frames), group_N.repeat(lengths)),
        num_classes=len(labels),
    )


def _std(values: NDArray[np.float64]) -> float | None:
    return float(values.std(ddof=1)) if len(values) > 1 else None
