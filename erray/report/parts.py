"""Scores of parts of the test clips: of every group, and by how long a clip is.

A mean over a corpus hides whom a model serves badly. Groups are what the corpus keeps together:
source videos, dialogues, speakers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.evaluation.clips import LabelledClips
from erray.metrics import METRICS, score
from erray.statistics import Interval, Resamples

FEWEST = 10
"""Clips of a group, groups of a length: with fewer to draw from there is no interval."""
FEWEST_LISTED = 3
"""Clips of a group that is ranked where there are many: a clip alone is always best or worst."""

_NUM_LENGTHS, _FEWEST_OF_LENGTH = 4, 5
_NUM_LISTED = 6


@dataclass(frozen=True, slots=True)
class PartScore:
    """A score of a part; ``interval`` None: too few to draw from."""

    value: float
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class Part:
    """Clips that have something in common; ``scores`` by name of the metric."""

    name: str
    num_clips: int
    num_groups: int
    scores: dict[str, PartScore]


@dataclass(frozen=True, slots=True)
class LengthPart:
    """Clips of ``low_s`` to below ``high_s`` seconds; the last part holds its upper end too."""

    low_s: float
    high_s: float
    part: Part


@dataclass(frozen=True)
class Parts:
    """The test clips in parts.

    Attributes:
        metrics: names of the scores of every part: the recipe's, then accuracy.
        groups: lowest score first; empty where there is one group, or a group per clip.
        lengths: shortest first; empty where clips are too few, or of one length.
    """

    metrics: list[str]
    groups: list[Part]
    lengths: list[LengthPart]

    @property
    def worst(self) -> list[Part]:
        """The groups to look at first: all of them where they are few."""
        return self.ranked[:_NUM_LISTED] if self.many else self.groups

    @property
    def best(self) -> list[Part]:
        """The best groups, lowest first; none where ``worst`` holds all."""
        return self.ranked[_NUM_LISTED:][-_NUM_LISTED:] if self.many else []

    @property
    def many(self) -> bool:
        """Whether there are more groups than fit beside each other."""
        return len(self.groups) > 2 * _NUM_LISTED

    @property
    def ranked(self) -> list[Part]:
        """The groups that worst and best are taken from, lowest first."""
        large = [part for part in self.groups if part.num_clips >= FEWEST_LISTED]
        return large or self.groups


def make_parts(
    clips: LabelledClips,
    lengths_s: Sequence[float],
    *,
    metric: str,
    num_bootstrap: int,
    seed: int,
) -> Parts:
    """Score every group and every range of lengths by the clips' own rule.

    The interval of a group resamples its clips, that of a length its groups.

    Args:
        lengths_s: of each clip.
        metric: name in ``erray.metrics.METRICS``.
    """
    metrics = list(dict.fromkeys([metric, "accuracy"]))
    scorer = _Scorer(clips, metrics, num_bootstrap, seed)
    groups: list[Part] = []
    if 1 < clips.num_groups < len(clips):
        names = sorted(set(clips.groups))
        groups = [scorer.part(name, scorer.group_N == name, within_group=True) for name in names]
        groups.sort(key=lambda part: (part.scores[metric].value, -part.num_clips, part.name))
    return Parts(metrics, groups, _by_length(scorer, np.asarray(lengths_s, np.float64)))


def parts_json(parts: Parts) -> dict[str, Any]:
    """Return the scores as plain numbers: ``by_group`` and ``by_length``."""
    return {
        "by_group": [{"group": part.name, **_plain(part)} for part in parts.groups],
        "by_length": [
            {"low_s": found.low_s, "high_s": found.high_s, **_plain(found.part)}
            for found in parts.lengths
        ],
    }


class _Scorer:
    """Scores any of the clips, each part on resamples of its own."""

    def __init__(
        self, clips: LabelledClips, metrics: list[str], num_bootstrap: int, seed: int
    ) -> None:
        self.clips, self.metrics = clips, metrics
        self.num_bootstrap, self.seed = num_bootstrap, seed
        self.answer_N = clips.predicted(clips.clip_rule)
        self.group_N = np.array(clips.groups)

    def part(self, name: str, chosen_N: NDArray[np.bool_], *, within_group: bool) -> Part:
        label_n, answer_n = self.clips.label_N[chosen_N], self.answer_N[chosen_N]
        group_n = self.group_N[chosen_N]
        num_classes, num_groups = len(self.clips.classes), len(set(group_n.tolist()))
        resamples = None
        if (len(label_n) if within_group else num_groups) >= FEWEST:
            resamples = Resamples(
                label_n,
                [answer_n],
                num_classes,
                groups=None if within_group else group_n,
                num_samples=self.num_bootstrap,
                seed=self.seed,
            )
        scores = {
            metric: PartScore(
                score(metric, label_n, answer_n, num_classes),
                None if resamples is None else resamples.interval(METRICS[metric]),
            )
            for metric in self.metrics
        }
        return Part(name, len(label_n), num_groups, scores)


def _by_length(scorer: _Scorer, length_s_N: NDArray[np.float64]) -> list[LengthPart]:
    """Cut the lengths at their quantiles; equal borders are one."""
    num = min(_NUM_LENGTHS, len(length_s_N) // _FEWEST_OF_LENGTH)
    if num < 2:
        return []
    borders_s = np.unique(np.quantile(length_s_N, np.linspace(0, 1, num + 1)))
    if len(borders_s) < 3:
        return []
    bin_N = np.searchsorted(borders_s[1:-1], length_s_N, side="right")
    places = 1 if np.diff(borders_s).min() >= 0.1 else 2
    parts = []
    for i, (low_s, high_s) in enumerate(pairwise(borders_s.tolist())):
        name = f"{low_s:.{places}f} to {high_s:.{places}f} s"
        part = scorer.part(name, bin_N == i, within_group=False)
        parts.append(LengthPart(low_s, high_s, part))
    return parts


def _plain(part: Part) -> dict[str, Any]:
    scores = {
        metric: {
            "value": found.value,
            "low": found.interval and found.interval.low,
            "high": found.interval and found.interval.high,
        }
        for metric, found in part.scores.items()
    }
    return {"num_clips": part.num_clips, "num_groups": part.num_groups, **scores}
