"""Scores of val after an epoch: every clip once, by every rule and by frames, on all workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from erray.config import Train
from erray.errors import UserError
from erray.finite import NotFiniteError
from erray.metrics import CLIP_RULES, METRICS, clip_prediction
from erray.models.fusion import FusionModel
from erray.scoring import score_clips
from erray.training.arrays import FeatureArrays
from erray.training.batches import rank_slice
from erray.training.job import TrainJob
from erray.training.workers import Workers
from erray.windows import UNLABELLED, cut

_NAMED_CLIPS = 8


def selection_key(settings: Train) -> str:
    """Name, in a row of the history, of the score that chooses the epoch."""
    level = "frame_" if settings.select.level == "frame" else ""
    return f"val_{level}{settings.select.metric}"


def rule_key(settings: Train, rule: str) -> str:
    """Name of the score that chooses the epoch of the model for the clip rule ``rule``."""
    return f"val_{rule}_{settings.select.metric}"


def score_split(
    model: FusionModel,
    arrays: FeatureArrays,
    job: TrainJob,
    *,
    clips: list[int] | None = None,
    device: torch.device | str = "cpu",
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield ``(position, logits [T, C])`` of the clips at ``clips`` (None: all) of a split."""
    windows = (
        arrays.window(i, start, stop, list(job.streams))
        for i in (range(len(arrays.clips)) if clips is None else clips)
        for start, stop in cut(arrays.clips[i].num_ticks, job.settings.window, job.settings.hop)
    )
    return score_clips(model, windows, device=device)


def val_scores(
    model: FusionModel, job: TrainJob, *, device: torch.device | str, workers: Workers
) -> dict[str, float]:
    """Every metric of val's labelled clips, whatever the number of workers.

    ``val_<metric>`` is of clips by the recipe's clip rule, ``val_<rule>_<metric>`` by each rule,
    ``val_frame_<metric>`` of frames. A clip whose logits are not finite has no class: it is counted
    in ``bad_val_clips``, and wrong in every score, so that no epoch gains by it.

    Raises:
        UserError: there are more of those than ``train.max_bad_windows``, or no others.
    """
    labelled = [i for i in job.val_clips if job.val.clips[i].label != UNLABELLED]
    mine = rank_slice(labelled, workers.rank, workers.size)
    votes = (
        _votes(clip, logits_TC, job.num_classes)
        for clip, logits_TC in score_split(model, job.val, job, clips=mine, device=device)
    )
    found = workers.joined(list(votes))
    bad = sorted(vote.clip for vote in found if vote.is_bad)
    _refuse_bad(job, bad, of=len(found))
    shape = (job.num_classes, job.num_classes + 1)
    matrices = {kind: np.zeros(shape, np.int64) for kind in (*CLIP_RULES, "frame")}
    for vote in found:
        label = job.val.clips[vote.clip].label
        for rule, answer in zip(CLIP_RULES, vote.by_rule, strict=True):
            matrices[rule][label, answer] += 1
        matrices["frame"][label] += vote.frames
    scores = {"": matrices[job.settings.clip_rule]} | {f"{k}_": m for k, m in matrices.items()}
    named = {
        f"val_{kind}{name}": float(metric(matrix))
        for kind, matrix in scores.items()
        for name, metric in METRICS.items()
    }
    return named | {"bad_val_clips": len(bad)}


class _Votes(NamedTuple):
    """What is said of a clip; the class after the last one is no answer."""

    clip: int
    is_bad: bool
    by_rule: list[int]
    frames: list[int]
    """Frames by class."""


def _votes(clip: int, logits_TC: NDArray[np.float32], num_classes: int) -> _Votes:
    frames = np.full(len(logits_TC), num_classes)
    try:
        by_rule = [clip_prediction(logits_TC, rule)[0] for rule in CLIP_RULES]
    except NotFiniteError:
        by_rule = [num_classes] * len(CLIP_RULES)
    else:
        frames = logits_TC.argmax(-1)
    counted = np.bincount(frames, minlength=num_classes + 1).tolist()
    return _Votes(clip, num_classes in by_rule, by_rule, counted)


def _refuse_bad(job: TrainJob, clips: list[int], *, of: int) -> None:
    limit = job.settings.max_bad_windows
    if len(clips) > limit or (clips and len(clips) == of):
        names = ", ".join(job.val.clips[clip].clip_id for clip in clips[:_NAMED_CLIPS])
        raise UserError(
            f"{len(clips)} of {of} val clips have logits that are not finite, "
            f"train.max_bad_windows={limit} may have ({names}): extract them anew if a few, lower "
            f"train.optimiser.lr if all"
        )
