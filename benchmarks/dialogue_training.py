"""Training with a label per step: a dialogue as a sequence of utterances, each with its emotion.

erray's own loop has one label per clip, so here is a loop for labels per step. Arrays, batches,
model, loss, optimiser, schedule and averaged weights are erray's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from erray.metrics import score
from erray.models.fusion import FusionModel
from erray.training.arrays import FeatureArrays
from erray.training.averaging import WeightAverage
from erray.training.batches import epoch_batches
from erray.training.job import TrainJob
from erray.training.losses import ClassCounts, TrainingLoss
from erray.training.optimiser import make_optimiser
from erray.training.validation import score_split
from erray.training.warmup import run_schedule
from erray.windows import collate


def train_steps(
    job: TrainJob,
    train_labels: Sequence[NDArray[np.int64]],
    val_labels: Sequence[NDArray[np.int64]],
) -> FusionModel:
    """Return the averaged weights of the epoch with the best val score of steps.

    Args:
        job: its arrays hold a dialogue per clip; the clips' own labels are not read.
        train_labels, val_labels: classes of every clip's steps.
    """
    settings = job.settings
    model, schedule = job.make_model(), run_schedule(settings)
    counts = np.bincount(np.concatenate(train_labels), minlength=job.num_classes).tolist()
    loss, optimiser = (
        TrainingLoss(settings.loss, ClassCounts(counts, counts, counts)),
        make_optimiser(model, settings.optimiser),
    )
    assert settings.average_decay is not None
    average = WeightAverage(model, settings.average_decay)
    lengths = [len(labels) for labels in train_labels]
    best, weights = -1.0, average.model.state_dict()
    for epoch in range(settings.epochs):
        torch.manual_seed(job.seed * 1000 + epoch)
        model.train()
        steps = epoch_batches(lengths, settings.batch_size, seed=job.seed, epoch=epoch)
        for number, members in enumerate(steps):
            for group in optimiser.param_groups:
                group["lr"] = schedule.lr(epoch, number, len(steps))
            batch = collate([whole(job.train, i, list(job.streams)) for i in members])
            logits_BTC = model(batch.streams, batch.present, batch.valid_BT)
            label_N = torch.from_numpy(np.concatenate([train_labels[i] for i in members]))
            # every step as a window of one tick
            logits_N1C = logits_BTC[batch.valid_BT][:, None]
            losses_N, _ = loss(logits_N1C, label_N, torch.ones(len(label_N), 1, dtype=torch.bool))
            optimiser.zero_grad()
            losses_N.mean().backward()
            optimiser.step()
            average.update(model)
        probabilities_NC = step_probabilities(average.model, job.val, job)
        found = score(
            settings.select.metric,
            np.concatenate(val_labels),
            probabilities_NC.argmax(-1),
            job.num_classes,
        )
        if found > best:
            best = found
            weights = {k: v.clone() for k, v in average.model.state_dict().items()}
    model.load_state_dict(weights)
    return model.eval()


def step_probabilities(
    model: FusionModel, arrays: FeatureArrays, job: TrainJob
) -> NDArray[np.float64]:
    """Probabilities of the steps of all clips, one clip after the other, [N, C]."""
    return np.concatenate(
        [
            softmax(logits_TC.astype(np.float64), axis=-1)
            for _, logits_TC in score_split(model, arrays, job)
        ]
    )


def whole(arrays: FeatureArrays, clip: int, streams: list[str]) -> Any:
    return arrays.window(clip, 0, arrays.clips[clip].num_ticks, streams)
