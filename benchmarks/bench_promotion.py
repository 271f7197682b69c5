"""Promotion: how often the best of equal models is promoted, and how often a better one is.

A made-up val, its clips in groups. A model's answer to a clip is right by chance alone, with a part
that all models share (hard clips), one of the model in the group, and one of the model in the clip.
Some candidates, as those of a search or of several recipes, are ranked by weighted F1; the first
goes against a champion, by erray's own comparison and verdict.

1. ``on_val``: all clips rank the candidates and decide, as before there was a holdout.
2. ``on_holdout``: clips that erray sets apart decide, the others rank.

``equal`` candidates are as good as the champion: a promotion is a mistake, nominally 2.5 %, at
most ``MOST``. ``better`` ones are right in ``GAIN`` more of the clips: a promotion is what is
wanted, and its rate the rule's power; ``alone`` is that of one candidate without a ranking, by the
holdout.

    .venv/bin/python benchmarks/bench_promotion.py [--repeats 400] [--save]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from measure import report
from numpy.typing import NDArray
from saving import add_save

from erray.config import Corpus
from erray.corpora.holdout import HOLDOUT, VAL, set_apart
from erray.flow.promotion import compare_kept, verdict
from erray.labels import CEXPR_7
from erray.metrics import score
from erray.records import Clip
from erray.scoring import prediction_row

NUM_CANDIDATES, MOST = 20, 0.04
NUM_GROUPS, CLIPS_PER_GROUP = (40, 110), 10  # the second as large as MELD's val
ACCURACY, GAIN = 0.6, 0.1
SHARED, OF_GROUP = 0.5, 0.1  # shares of the variance; the rest is of the model in the clip
METRIC, NAMES = "weighted_f1", ("candidate", "champion")

Answers = NDArray[np.int64]
"""Class ids [clips], or [models, clips]."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=400, help="made-up vals of equal models")
    add_save(parser)
    options = parser.parse_args()
    start_s, fewer = time.monotonic(), max(options.repeats // 4, 1)
    equal = rates(NUM_GROUPS[0], ("on_val", "on_holdout"), gain=0.0, repeats=options.repeats)
    content = {
        "candidates": NUM_CANDIDATES,
        "clips_per_group": CLIPS_PER_GROUP,
        "accuracy": ACCURACY,
        "gain": GAIN,
        "repeats": {"equal": options.repeats, "better": fewer},
        "standard_error_at_2.5_percent": round(math.sqrt(0.025 * 0.975 / options.repeats), 4),
        "most": MOST,
        "holds": equal["on_holdout"] <= MOST,
        "promoted": {
            "equal": {NUM_GROUPS[0]: equal},
            "better": {
                num_groups: rates(num_groups, ("on_holdout", "alone"), gain=GAIN, repeats=fewer)
                for num_groups in NUM_GROUPS
            },
        },
        "seconds": round(time.monotonic() - start_s),
    }
    report("promotion", content, save=options.save)


def rates(num_groups: int, rules: Sequence[str], *, gain: float, repeats: int) -> dict[str, float]:
    """Share of made-up vals of so many groups in which the candidate is promoted, by each rule."""
    clips = make_clips(num_groups)
    label_N = np.array([CEXPR_7.index(str(clip.label)) for clip in clips])
    apart_N = np.array([clip.split == HOLDOUT for clip in clips])
    whole_N = np.ones(len(clips), bool)
    counts = dict.fromkeys(rules, 0)
    for seed in range(repeats):
        champion_N, *candidates = draw_answers(label_N, num_groups, gain=gain, seed=seed)
        for rule in rules:
            ranking_N, deciding_N = (whole_N, whole_N) if rule == "on_val" else (~apart_N, apart_N)
            alone = rule == "alone"
            chosen_N = candidates[0] if alone else best(candidates, label_N, ranking_N)
            counts[rule] += promoted(clips, chosen_N, champion_N, deciding_N)
    return {rule: round(count / repeats, 4) for rule, count in counts.items()}


def make_clips(num_groups: int) -> list[Clip]:
    """Val of a corpus whose holdout is set apart."""
    clips = [
        Clip(
            clip_id=f"clip{i:05d}",
            media="m",
            split=VAL,
            group=f"film{i // CLIPS_PER_GROUP}",
            label=CEXPR_7.names[i % len(CEXPR_7)],
        )
        for i in range(num_groups * CLIPS_PER_GROUP)
    ]
    return set_apart(Corpus(), clips)[0]


def draw_answers(label_N: Answers, num_groups: int, *, gain: float, seed: int) -> Answers:
    """Answers of the champion, then of the candidates; a wrong one is of any other class."""
    rng, num_models, num_clips = np.random.default_rng(seed), 1 + NUM_CANDIDATES, len(label_N)
    group_N = np.arange(num_clips) // CLIPS_PER_GROUP
    skill_MN = (
        math.sqrt(SHARED) * rng.standard_normal(num_clips)
        + math.sqrt(OF_GROUP) * rng.standard_normal((num_models, num_groups))[:, group_N]
        + math.sqrt(1 - SHARED - OF_GROUP) * rng.standard_normal((num_models, num_clips))
    )
    accuracy_M1 = np.full((num_models, 1), ACCURACY + gain)
    accuracy_M1[0] = ACCURACY
    right_MN = 0.5 * (1 + np.vectorize(math.erf)(skill_MN / math.sqrt(2))) < accuracy_M1
    wrong_MN = (label_N + rng.integers(1, len(CEXPR_7), skill_MN.shape)) % len(CEXPR_7)
    return np.where(right_MN, label_N, wrong_MN)


def best(candidates: Sequence[Answers], label_N: Answers, ranking_N: NDArray[np.bool_]) -> Answers:
    """The candidate with the highest score on the clips that rank."""
    scores = [score(METRIC, label_N[ranking_N], a[ranking_N], len(CEXPR_7)) for a in candidates]
    return candidates[int(np.argmax(scores))]


def promoted(
    clips: list[Clip], candidate_N: Answers, champion_N: Answers, deciding_N: NDArray[np.bool_]
) -> bool:
    """Whether the verdict on the deciding clips, taken as a holdout, is for the candidate."""
    kept = [
        replace(c, split=HOLDOUT) for c, decides in zip(clips, deciding_N, strict=True) if decides
    ]
    rows = [
        [row(clip, int(k)) for clip, k in zip(kept, answer_N[deciding_N], strict=True)]
        for answer_N in (candidate_N, champion_N)
    ]
    judged = compare_kept(rows[0], rows[1], names=NAMES, metrics=[METRIC])
    return verdict(judged, METRIC, names=NAMES)[0]


def row(clip: Clip, answer: int) -> dict[str, Any]:
    """A row of a predictions table whose only tick gives the answer."""
    return prediction_row(
        np.eye(len(CEXPR_7), dtype=np.float32)[[answer]],
        clip_id=clip.clip_id,
        split=clip.split,
        group=clip.group,
        label=clip.label,
        times_s_T=np.zeros(1),
        classes=CEXPR_7.names,
        clip_rule="mean_logits",
        temperature=1.0,
        model_name="made up",
        model_version="0",
    )


if __name__ == "__main__":
    main()
