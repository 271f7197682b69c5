"""The batches of an epoch as this worker takes them: its windows, their views, what is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from erray.training.batches import (
    Span,
    dropped_streams,
    epoch_steps,
    epoch_views,
    rank_slice,
    training_spans,
)
from erray.training.job import TrainJob
from erray.training.workers import Workers
from erray.windows import Batch, WindowSample, collate


class Feed:
    """Windows of a job's train split, epoch by epoch; every draw is of the seed and the epoch."""

    def __init__(self, job: TrainJob, workers: Workers) -> None:
        self.job, self.workers = job, workers
        settings = job.settings
        self.spans = training_spans(
            job.train, window=settings.window, hop=settings.hop, clips=job.train_clips
        )
        self._epoch = 0
        self._views: dict[str, NDArray[np.int64]] = {}

    def start_epoch(self, epoch: int) -> list[list[list[int]]]:
        """Draw the views of ``epoch``; return its steps, each of batches for :meth:`batch`."""
        job, settings, seed = self.job, self.job.settings, self.job.seed
        num_views = {name: job.train.num_views(name) for name in job.streams}
        self._epoch = epoch
        self._views = epoch_views(len(job.train.clips), num_views, seed=seed, epoch=epoch)
        lengths = [len(span) for span in self.spans]
        size, accumulate = settings.batch_size, settings.accumulate
        return epoch_steps(lengths, size, accumulate, seed=seed, epoch=epoch)

    def batch(self, positions: list[int]) -> Batch:
        """This worker's slice; a worker without a share takes one window and counts none of it."""
        mine = rank_slice(positions, self.workers.rank, self.workers.size)
        batch = collate([self._window(self.spans[i]) for i in mine or positions[:1]])
        return batch if mine else replace(batch, valid_BT=torch.zeros_like(batch.valid_BT))

    def _window(self, span: Span) -> WindowSample:
        job, chance = self.job, self.job.settings.modality_dropout
        views = {name: int(view[span.clip]) for name, view in self._views.items()}
        window = job.train.window(span.clip, span.start, span.stop, list(job.streams), views=views)
        if chance == 0:
            return window
        has_data = {name: bool(mask_T.any()) for name, mask_T in window.present.items()}
        dropped = dropped_streams(has_data, chance, span, seed=job.seed, epoch=self._epoch)
        present = {
            name: np.zeros_like(mask_T) if name in dropped else mask_T
            for name, mask_T in window.present.items()
        }
        return replace(window, present=present)
