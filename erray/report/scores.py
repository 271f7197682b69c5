"""Scores of the test clips: fused runs in full, single streams, paired differences, a baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from erray.evaluation.clips import LabelledClips
from erray.evaluation.scores import Intervals, RunScores, plain
from erray.evaluation.scores import score_run as score_clips
from erray.metrics import CLIP_RULES, METRICS, score, weighted_f1
from erray.records import Clip
from erray.report.sources import FUSION, TUNED, ClipPrediction
from erray.statistics import PairedDifference, Resamples, corrected

METRIC_NAMES = {"weighted_f1": "Weighted F1", "macro_f1": "Macro F1", "accuracy": "Accuracy"}
assert set(METRIC_NAMES) == set(METRICS)
RULE_NAMES = {
    "mean_logits": "Mean of logits",
    "mean_probabilities": "Mean of probabilities",
    "majority": "Majority of frames",
}
assert set(RULE_NAMES) == set(CLIP_RULES)


@dataclass(frozen=True)
class Scores:
    """All numbers of the page.

    ``fused`` is keyed by run (``fusion``, ``tuned``); ``main`` is the one that the page is about.
    ``differences`` are weighted F1, fusion minus a stream; ``tuned_gain`` is tuned minus fusion;
    all are of the same resamples, their p-values corrected for their number. ``baseline`` is what
    always answering the most frequent training class would score.
    """

    main: str
    fused: dict[str, RunScores]
    streams: dict[str, Intervals]
    differences: dict[str, PairedDifference]
    tuned_gain: PairedDifference | None
    baseline: dict[str, float] | None
    baseline_class: str | None

    @property
    def shown(self) -> RunScores:
        """Scores of the main run."""
        return self.fused[self.main]


def score_run(
    test: Mapping[str, list[ClipPrediction]],
    clips: Iterable[Clip],
    *,
    main: str,
    clip_rule: str,
    temperatures: Mapping[str, float],
    num_bootstrap: int,
    seed: int,
) -> Scores:
    """Score every run of ``test``: same labelled clips in the same order.

    Args:
        temperatures: of the runs' models; a run that is not named has 1.
    """
    runs = {
        name: labelled_clips(rows, clip_rule, temperatures.get(name, 1.0))
        for name, rows in test.items()
    }
    names, first = list(runs), runs[FUSION]
    resamples = Resamples(
        first.label_N,
        [run.predicted(clip_rule) for run in runs.values()],
        len(first.classes),
        groups=first.groups,
        num_samples=num_bootstrap,
        seed=seed,
    )
    fused = [name for name in (FUSION, TUNED) if name in runs]
    streams = {name: names.index(name) for name in runs if name not in fused}

    pairs = [(FUSION, name) for name in streams]
    if TUNED in runs:
        pairs.append((TUNED, FUSION))
    gaps = corrected(
        [resamples.difference(weighted_f1, names.index(a), names.index(b)) for a, b in pairs]
    )
    frequent = _most_frequent(clips, first.classes)
    return Scores(
        main=main,
        fused={n: score_clips(runs[n], num_bootstrap=num_bootstrap, seed=seed) for n in fused},
        streams={
            name: {key: resamples.interval(metric, i) for key, metric in METRICS.items()}
            for name, i in streams.items()
        },
        differences=dict(zip(streams, gaps, strict=False)),
        tuned_gain=gaps[-1] if TUNED in runs else None,
        baseline=None if frequent is None else _constant(first, frequent),
        baseline_class=None if frequent is None else first.classes[frequent],
    )


def labelled_clips(rows: list[ClipPrediction], clip_rule: str, temperature: float) -> LabelledClips:
    """Return the predictions of labelled clips, at least one, in the form that is scored."""
    classes = rows[0].classes
    return LabelledClips(
        clip_ids=tuple(p.clip_id for p in rows),
        groups=tuple(p.group for p in rows),
        classes=classes,
        label_N=np.array([classes.index(p.label or "") for p in rows], np.int64),
        logits=tuple(p.logits_TC for p in rows),
        clip_rule=clip_rule,
        temperature=temperature,
    )


def metrics_json(scores: Scores) -> dict[str, Any]:
    """Return the scores as plain numbers.

    At the top those of clips by rule, their intervals and the differences; under ``scores`` all of
    the fused runs: frames, classes, confusion matrices, calibration, and without Other.
    """
    by_rule = {
        run: {
            rule: {metric: level.metrics[metric] for metric in METRICS}
            for rule, level in found.clips.items()
        }
        for run, found in scores.fused.items()
    }
    gain = scores.tuned_gain
    return {
        **{run: _each(_values, rules) for run, rules in by_rule.items()},
        "streams": _each(_values, scores.streams),
        "intervals": {
            **{run: _each(_limits, rules) for run, rules in by_rule.items()},
            "streams": _each(_limits, scores.streams),
        },
        "fusion_minus_stream": {name: asdict(d) for name, d in scores.differences.items()},
        "tuned_minus_fusion": None if gain is None else asdict(gain),
        "baseline": scores.baseline,
        "num_test_clips": scores.shown.num_clips,
        "clip_rule": scores.shown.clip_rule,
        "macro_f1_rule": scores.shown.macro_f1_rule,
        "scores": {run: plain(found) for run, found in scores.fused.items()},
    }


def _each(part: Callable[[Intervals], Any], found: dict[str, Intervals]) -> dict[str, Any]:
    return {name: part(intervals) for name, intervals in found.items()}


def _values(found: Intervals) -> dict[str, float]:
    return {metric: interval.value for metric, interval in found.items()}


def _limits(found: Intervals) -> dict[str, list[float | None]]:
    return {metric: [interval.low, interval.high] for metric, interval in found.items()}


def _most_frequent(clips: Iterable[Clip], classes: tuple[str, ...]) -> int | None:
    """Class id that train has most often (of equals the first); None without labels in train."""
    counts = Counter(clip.label for clip in clips if clip.split == "train" and clip.label)
    known = [(counts[name], -i) for i, name in enumerate(classes) if counts[name]]
    return -max(known)[1] if known else None


def _constant(clips: LabelledClips, class_id: int) -> dict[str, float]:
    constant_N = np.full(len(clips), class_id)
    num = len(clips.classes)
    return {metric: score(metric, clips.label_N, constant_N, num) for metric in METRICS}
