"""The training loop: plain torch, in one process or in several that torch.distributed connects.

Every worker makes the same model, walks the same list of batches and takes its slice of each; the
loss of a step is the sum over the valid frames of all workers divided by their number, so that
one and two workers take the same steps. Random draws are seeded anew in every epoch: a resumed run
repeats the epochs of an undisturbed one bit for bit (CPU).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from erray.config import Optimiser
from erray.metrics import METRICS, clip_prediction, confusion
from erray.scoring import score_clips
from erray.training.arrays import FeatureArrays
from erray.training.batches import Span, epoch_batches, epoch_views, rank_slice, training_spans
from erray.training.job import TrainJob
from erray.training.schedules import make_schedule
from erray.windows import UNLABELLED, Batch, WindowSample, collate, cut

SELECTION_METRIC = "val_weighted_f1"


@dataclass
class Best:
    """The weights that val chose so far; ties keep the earlier epoch."""

    epoch: int = -1
    metric: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)


class TrainingLoop:
    """One run of a job; iterate :meth:`run`, keep :meth:`state_dict` after any epoch.

    Args:
        job: what to train.
        device: where this worker computes.
    """

    def __init__(self, job: TrainJob, *, device: torch.device | str = "cpu") -> None:
        self.job, self.device = job, torch.device(device)
        connected = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if connected else 0
        self.world_size = dist.get_world_size() if connected else 1
        self.model = job.make_model().to(self.device)
        self.optimiser = make_optimiser(self.model, job.settings.optimiser)
        schedule = job.settings.schedule
        self.schedule = make_schedule(schedule.name, job.settings.optimiser.lr, schedule.options)
        self.spans = training_spans(job.train, window=job.settings.window, hop=job.settings.hop)
        self.epoch = 0
        self._views: dict[str, NDArray[np.int64]] = {}
        self.best = Best()
        self.history: list[dict[str, float]] = []

    @property
    def finished(self) -> bool:
        """All epochs are done, or val has not improved for ``patience`` epochs."""
        settings = self.job.settings
        waited = self.epoch - 1 - self.best.epoch
        stopped = self.epoch >= settings.min_epochs and waited >= settings.patience
        return self.epoch >= settings.epochs or (self.epoch > 0 and stopped)

    def run(self) -> Iterator[dict[str, float]]:
        """Train epoch after epoch until finished; yield each epoch's row of the history.

        Raises:
            FloatingPointError: the loss of a step is not finite.
        """
        wrapped = self._wrapped()
        while not self.finished:
            start = time.perf_counter()
            row = {"epoch": self.epoch, **self._train_epoch(wrapped), **self._validate()}
            row["seconds"] = time.perf_counter() - start
            self.schedule.end_epoch(row[SELECTION_METRIC])
            if row[SELECTION_METRIC] > self.best.metric:
                weights = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
                self.best = Best(self.epoch, row[SELECTION_METRIC], weights)
            self.epoch += 1
            self.history.append(row)
            yield row

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on after the last finished epoch."""
        return {
            "job": self.job.fingerprint,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best_epoch": self.best.epoch,
            "best_metric": self.best.metric,
            "best_weights": self.best.weights,
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken; it must be of this very job."""
        assert state["job"] == self.job.fingerprint, "the state of another job"
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        self.best = Best(state["best_epoch"], state["best_metric"], state["best_weights"])
        self.history = list(state["history"])

    def _wrapped(self) -> nn.Module:
        if self.world_size == 1:
            return self.model
        # the statistics of the norms are summed over the workers: buffers are equal already
        return DistributedDataParallel(self.model, broadcast_buffers=False)

    def _train_epoch(self, model: nn.Module) -> dict[str, float]:
        settings, seed = self.job.settings, self.job.seed
        draws = np.random.SeedSequence([seed, self.epoch, self.rank])
        torch.manual_seed(int(draws.generate_state(1)[0]))
        lengths = [len(span) for span in self.spans]
        batches = epoch_batches(lengths, settings.batch_size, seed=seed, epoch=self.epoch)
        train = self.job.train
        num_views = {name: train.num_views(name) for name in self.job.streams}
        self._views = epoch_views(len(train.clips), num_views, seed=seed, epoch=self.epoch)
        self.model.train()
        total_loss, total_frames, lr = 0.0, 0.0, 0.0
        for number, positions in enumerate(batches):
            lr = self.schedule.lr(self.epoch, number, len(batches))
            for group in self.optimiser.param_groups:
                group["lr"] = lr
            loss, frames = self._step(model, positions)
            if not np.isfinite(loss):
                raise FloatingPointError(f"loss is {loss} in epoch {self.epoch}, step {number}")
            total_loss += loss * frames
            total_frames += frames
        return {"train_loss": total_loss / total_frames, "lr": lr}

    def _step(self, model: nn.Module, positions: list[int]) -> tuple[float, float]:
        """One optimiser step; return the mean loss over all workers' frames and their number."""
        batch = self._batch(positions).to(self.device)
        logits_BTC = model(batch.streams, batch.present, batch.valid_BT)
        counted_BT = batch.valid_BT & (batch.label_B != UNLABELLED)[:, None]
        label_BT = batch.label_B[:, None].expand_as(counted_BT)
        loss_sum = F.cross_entropy(logits_BTC[counted_BT], label_BT[counted_BT], reduction="sum")
        frames = self._summed(counted_BT.sum())
        # gradients are averaged over workers, so the mean over all frames needs their number
        loss = loss_sum * self.world_size / frames
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.job.settings.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.job.settings.max_grad_norm)
        self.optimiser.step()
        return float(self._summed(loss_sum.detach()) / frames), float(frames)

    def _batch(self, positions: list[int]) -> Batch:
        """This worker's slice; a worker without a share takes one window and counts none of it."""
        mine = rank_slice(positions, self.rank, self.world_size)
        batch = collate([self._window(self.spans[i]) for i in mine or positions[:1]])
        return batch if mine else replace(batch, valid_BT=torch.zeros_like(batch.valid_BT))

    def _window(self, span: Span) -> WindowSample:
        views = {name: int(view[span.clip]) for name, view in self._views.items()}
        streams = list(self.job.streams)
        return self.job.train.window(span.clip, span.start, span.stop, streams, views=views)

    def _summed(self, x: Tensor) -> Tensor:
        x = x.to(torch.float64)
        if self.world_size > 1:
            dist.all_reduce(x)
        return x

    def _validate(self) -> dict[str, float]:
        """Exact val scores: every clip once, whatever the number of workers."""
        val, settings = self.job.val, self.job.settings
        labelled = [i for i, place in enumerate(val.clips) if place.label != UNLABELLED]
        mine = rank_slice(labelled, self.rank, self.world_size)
        predictions = {
            clip: clip_prediction(logits_TC, settings.clip_rule)[0]
            for clip, logits_TC in score_split(
                self.model, val, self.job, clips=mine, device=self.device
            )
        }
        if self.world_size > 1:
            parts: list[dict[int, int] | None] = [None] * self.world_size
            dist.all_gather_object(parts, predictions)
            predictions = {k: v for part in parts if part for k, v in part.items()}
        labels = [val.clips[i].label for i in labelled]
        matrix = confusion(labels, [predictions[i] for i in labelled], self.job.num_classes)
        return {f"val_{name}": float(metric(matrix)) for name, metric in METRICS.items()}


def score_split(
    model: Any,
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


def make_optimiser(model: nn.Module, settings: Optimiser) -> torch.optim.Optimizer:
    """Build the optimiser of the recipe over all parameters of ``model``."""
    parameters = model.parameters()
    if settings.name == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.lr,
            momentum=settings.momentum,
            nesterov=settings.nesterov,
            weight_decay=settings.weight_decay,
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.name]
    return kind(
        parameters,
        lr=settings.lr,
        betas=(settings.beta1, settings.beta2),
        weight_decay=settings.weight_decay,
    )
