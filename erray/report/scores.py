"""Scores of the test clips: three clip rules, single streams, paired differences, classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.metrics import (
    CLIP_RULES,
    METRICS,
    class_scores,
    clip_prediction,
    confusion,
    score,
    weighted_f1,
)
from erray.records import Clip
from erray.report.sources import FUSION, TUNED, ClipPrediction
from erray.statistics import (
    Interval,
    Metric,
    PairedDifference,
    bootstrap_interval,
    paired_bootstrap,
)

METRIC_NAMES = {"weighted_f1": "Weighted F1", "macro_f1": "Macro F1", "accuracy": "Accuracy"}
assert set(METRIC_NAMES) == set(METRICS)
RULE_NAMES = {
    "mean_logits": "Mean of logits",
    "mean_probabilities": "Mean of probabilities",
    "majority": "Majority of frames",
}
assert set(RULE_NAMES) == set(CLIP_RULES)

Intervals = dict[str, Interval]
"""Metric to its value and interval."""


@dataclass(frozen=True)
class Scores:
    """All numbers of the page.

    ``fused`` is keyed by run (``fusion``, ``tuned``) and clip rule; ``main`` is the run that the
    confusion matrix and the classes are of. ``differences`` are weighted F1, fusion minus a stream,
    and ``tuned_gain`` is tuned minus fusion. ``baseline`` is what always answering the most
    frequent training class would score.
    """

    num_clips: int
    num_groups: int
    clip_rule: str
    classes: tuple[str, ...]
    main: str
    fused: dict[str, dict[str, Intervals]]
    streams: dict[str, Intervals]
    differences: dict[str, PairedDifference]
    tuned_gain: PairedDifference | None
    baseline: dict[str, float] | None
    baseline_class: str | None
    confusion_CC: NDArray[np.int64]
    per_class: list[dict[str, Any]]

    @property
    def rules(self) -> dict[str, Intervals]:
        """Scores of the main run by clip rule."""
        return self.fused[self.main]


class Scorer:
    """Scores runs over one list of labelled test clips.

    Args:
        clips: predictions of any run, for ids, groups and labels.
        num_bootstrap: resamples of every interval.
        seed: of the resampling.
    """

    def __init__(self, clips: list[ClipPrediction], *, num_bootstrap: int, seed: int) -> None:
        self.classes = clips[0].classes
        self.labels_N = np.array([self.classes.index(p.label or "") for p in clips])
        self.groups = [p.group for p in clips]
        self._resampling: dict[str, Any] = {
            "groups": self.groups,
            "num_samples": num_bootstrap,
            "seed": seed,
        }

    def predicted(self, clips: Iterable[ClipPrediction], rule: str) -> NDArray[np.int64]:
        """Return the class id of every clip by ``rule``."""
        return np.array([clip_prediction(p.logits_TC, rule)[0] for p in clips], dtype=np.int64)

    def intervals(self, predicted_N: NDArray[np.int64]) -> Intervals:
        """Return every metric with its bootstrap interval over groups of clips."""
        return {name: self.interval(METRICS[name], predicted_N) for name in METRIC_NAMES}

    def interval(self, metric: Metric, predicted_N: NDArray[np.int64]) -> Interval:
        """Return ``metric`` (a function of confusion matrices) with its bootstrap interval."""
        num = len(self.classes)
        return bootstrap_interval(metric, self.labels_N, predicted_N, num, **self._resampling)

    def difference(self, a_N: NDArray[np.int64], b_N: NDArray[np.int64]) -> PairedDifference:
        """Return weighted F1 of a minus that of b on the same resamples."""
        num = len(self.classes)
        return paired_bootstrap(weighted_f1, self.labels_N, a_N, b_N, num, **self._resampling)


def score_run(
    test: dict[str, list[ClipPrediction]],
    clips: Iterable[Clip],
    *,
    main: str,
    clip_rule: str,
    num_bootstrap: int,
    seed: int,
) -> Scores:
    """Score every run of ``test`` (same clips in the same order), fused ones by every clip rule."""
    scorer = Scorer(test[FUSION], num_bootstrap=num_bootstrap, seed=seed)
    answers = {name: scorer.predicted(rows, clip_rule) for name, rows in test.items()}
    streams = {name: found for name, found in answers.items() if name not in (FUSION, TUNED)}
    matrix_CC = confusion(scorer.labels_N, answers[main], len(scorer.classes))
    frequent = _most_frequent(clips, scorer.classes)
    tuned_N = answers.get(TUNED)
    return Scores(
        num_clips=len(scorer.labels_N),
        num_groups=len(set(scorer.groups)),
        clip_rule=clip_rule,
        classes=scorer.classes,
        main=main,
        fused={name: _by_rule(scorer, test[name]) for name in (FUSION, TUNED) if name in test},
        streams={name: scorer.intervals(found_N) for name, found_N in streams.items()},
        differences={n: scorer.difference(answers[FUSION], x_N) for n, x_N in streams.items()},
        tuned_gain=None if tuned_N is None else scorer.difference(tuned_N, answers[FUSION]),
        baseline=None if frequent is None else _constant(scorer, frequent),
        baseline_class=None if frequent is None else scorer.classes[frequent],
        confusion_CC=matrix_CC,
        per_class=_per_class(scorer, matrix_CC, answers[main]),
    )


def metrics_json(scores: Scores) -> dict[str, Any]:
    """Return the scores as plain numbers; intervals and differences lie beside them."""
    values = {run: _each(_values, rules) for run, rules in scores.fused.items()}
    limits = {run: _each(_limits, rules) for run, rules in scores.fused.items()}
    gain = scores.tuned_gain
    return {
        **values,
        "streams": _each(_values, scores.streams),
        "intervals": {**limits, "streams": _each(_limits, scores.streams)},
        "fusion_minus_stream": {name: asdict(d) for name, d in scores.differences.items()},
        "tuned_minus_fusion": None if gain is None else asdict(gain),
        "baseline": scores.baseline,
        "num_test_clips": scores.num_clips,
        "clip_rule": scores.clip_rule,
    }


def _by_rule(scorer: Scorer, rows: list[ClipPrediction]) -> dict[str, Intervals]:
    return {rule: scorer.intervals(scorer.predicted(rows, rule)) for rule in RULE_NAMES}


def _each(plain: Callable[[Intervals], Any], found: dict[str, Intervals]) -> dict[str, Any]:
    return {name: plain(intervals) for name, intervals in found.items()}


def _values(found: Intervals) -> dict[str, float]:
    return {metric: interval.value for metric, interval in found.items()}


def _limits(found: Intervals) -> dict[str, list[float]]:
    return {metric: [interval.low, interval.high] for metric, interval in found.items()}


def _most_frequent(clips: Iterable[Clip], classes: tuple[str, ...]) -> int | None:
    """Class id that train has most often (of equals the first); None without labels in train."""
    counts = Counter(clip.label for clip in clips if clip.split == "train" and clip.label)
    known = [(counts[name], -i) for i, name in enumerate(classes) if counts[name]]
    return -max(known)[1] if known else None


def _constant(scorer: Scorer, class_id: int) -> dict[str, float]:
    constant_N = np.full(len(scorer.labels_N), class_id)
    num = len(scorer.classes)
    return {metric: score(metric, scorer.labels_N, constant_N, num) for metric in METRIC_NAMES}


def _per_class(
    scorer: Scorer, matrix_CC: NDArray[np.int64], predicted_N: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Precision, recall, F1 with its interval, and support of every class."""
    found = class_scores(matrix_CC)
    columns = ("precision", "recall", "support")
    rows = []
    for i, name in enumerate(scorer.classes):

        def f1(stack: NDArray[Any], i: int = i) -> NDArray[np.float64]:
            return np.asarray(class_scores(stack).f1[..., i])

        numbers = {column: float(getattr(found, column)[i]) for column in columns}
        f1_interval = scorer.interval(f1, predicted_N)
        rows.append({"name": name, "class_id": i, "f1": f1_interval, **numbers})
    return rows
