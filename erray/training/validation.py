"""Scores of val after an epoch: every clip once, by every rule and by frames, on all workers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from erray.config import Train
from erray.errors import UserError
from erray.metrics import CLIP_RULES, METRICS, clip_prediction, confusion
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
    ``val_frame_<metric>`` of frames.

    Raises:
        UserError: logits of a clip are not finite.
    """
    labelled = [i for i in job.val_clips if job.val.clips[i].label != UNLABELLED]
    mine = rank_slice(labelled, workers.rank, workers.size)
    num_classes = job.num_classes
    found: list[tuple[int, list[int] | None, list[int]]] = []
    for clip, logits_TC in score_split(model, job.val, job, clips=mine, device=device):
        if not np.isfinite(logits_TC).all():
            found.append((clip, None, []))
            continue
        by_rule = [clip_prediction(logits_TC, rule)[0] for rule in CLIP_RULES]
        frames_C = np.bincount(logits_TC.argmax(-1), minlength=num_classes)
        found.append((clip, by_rule, frames_C.tolist()))
    found = workers.joined(found)
    _refuse_bad(job, sorted(clip for clip, by_rule, _ in found if by_rule is None))
    labels = [job.val.clips[clip].label for clip, _, _ in found]
    matrices = {
        rule: confusion(labels, [by_rule[k] for _, by_rule, _ in found if by_rule], num_classes)
        for k, rule in enumerate(CLIP_RULES)
    }
    matrices["frame"] = np.zeros_like(matrices[CLIP_RULES[0]])
    for label, (_, _, frames) in zip(labels, found, strict=True):
        matrices["frame"][label] += frames
    scores = {"": matrices[job.settings.clip_rule]} | {f"{k}_": m for k, m in matrices.items()}
    return {
        f"val_{kind}{name}": float(metric(matrix_CC))
        for kind, matrix_CC in scores.items()
        for name, metric in METRICS.items()
    }


def _refuse_bad(job: TrainJob, clips: list[int]) -> None:
    if clips:
        names = ", ".join(job.val.clips[clip].clip_id for clip in clips[:_NAMED_CLIPS])
        raise UserError(
            f"{len(clips)} val clips have logits that are not finite ({names}): extract them anew "
            f"if a few, lower train.optimiser.lr if all"
        )
