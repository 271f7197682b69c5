"""The training loop: plain torch, in one process or in several that torch.distributed connects.

Every worker makes the same model, walks the same list of steps and takes its slice of each batch,
so that one and two workers take the same steps. Random draws are seeded anew in every epoch: a
resumed run repeats the epochs of an undisturbed one bit for bit (CPU).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erray.errors import UserError
from erray.metrics import CLIP_RULES
from erray.models.fusion import FusionModel
from erray.training.averaging import WeightAverage
from erray.training.bad_values import BadWindows
from erray.training.feed import Feed
from erray.training.job import TrainJob
from erray.training.losses import TrainingLoss
from erray.training.step import Stepper
from erray.training.validation import rule_key, selection_key, val_scores
from erray.training.warmup import run_schedule
from erray.training.workers import Workers
from erray.windows import UNLABELLED


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

    Raises:
        UserError: an option that does not fit the job or this machine; no labels to train on, or
            to choose the epoch by.
    """

    def __init__(self, job: TrainJob, *, device: torch.device | str = "cpu") -> None:
        _require_labels(job)
        self.job, self.device = job, torch.device(device)
        self.workers = Workers.connected()
        settings = job.settings
        self.model = job.make_model().to(self.device)
        self.loss = TrainingLoss(settings.loss, job.loss_counts, device=self.device)
        self.stepper = Stepper(
            self.model, self.loss, settings, device=self.device, workers=self.workers
        )
        decay = settings.average_decay
        self.average = None if decay is None else WeightAverage(self.model, decay)
        self.schedule = run_schedule(settings)
        self.feed = Feed(job, self.workers)
        self.epoch = 0
        self.best = Best()
        self.best_by_rule = {rule: Best() for rule in CLIP_RULES}
        self.history: list[dict[str, float]] = []

    @property
    def rank(self) -> int:
        """Number of this worker."""
        return self.workers.rank

    @property
    def scored_model(self) -> FusionModel:
        """The model whose weights are validated and kept: the averaged one where there is one."""
        return self.model if self.average is None else self.average.model

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
            UserError: too many windows, or weights, or logits of val that are not finite.
        """
        while not self.finished:
            start = time.perf_counter()
            row = {"epoch": self.epoch, **self._train_epoch()}
            row |= val_scores(self.scored_model, self.job, device=self.device, workers=self.workers)
            row["seconds"] = time.perf_counter() - start
            self.schedule.end_epoch(row[selection_key(self.job.settings)])
            self._choose(row)
            self.epoch += 1
            self.history.append(row)
            yield row

    def state_dict(self) -> dict[str, Any]:
        """All that :meth:`load_state_dict` needs to go on after the last finished epoch.

        ``best_weights`` are those that the recipe's selection chose; ``best_by_rule`` holds, for
        every clip rule, ``epoch``, ``metric`` and ``weights`` by ``train.select.metric`` of clips.
        """
        return {
            "job": self.job.fingerprint,
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "optimiser": self.stepper.optimiser.state_dict(),
            "precision": self.stepper.precision.state_dict(),
            "schedule": self.schedule.state_dict(),
            "best_epoch": self.best.epoch,
            "best_metric": self.best.metric,
            "best_weights": self.best.weights,
            "best_by_rule": {rule: dict(vars(best)) for rule, best in self.best_by_rule.items()},
            "history": self.history,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where ``state`` was taken; it must be of this very job."""
        assert state["job"] == self.job.fingerprint, "the state of another job"
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.stepper.optimiser.load_state_dict(state["optimiser"])
        self.stepper.precision.load_state_dict(state["precision"])
        self.schedule.load_state_dict(state["schedule"])
        self.best = Best(state["best_epoch"], state["best_metric"], state["best_weights"])
        self.best_by_rule = {rule: Best(**best) for rule, best in state["best_by_rule"].items()}
        self.history = list(state["history"])

    def _train_epoch(self) -> dict[str, float]:
        job, seed = self.job, self.job.seed
        draws = np.random.SeedSequence([seed, self.epoch, self.rank])
        torch.manual_seed(int(draws.generate_state(1)[0]))
        steps = self.feed.start_epoch(self.epoch)
        bad = BadWindows(job.train, job.settings.max_bad_windows, self.workers)
        self.model.train()
        totals, num_steps, lr = [0.0] * 4, 0, 0.0
        for number, batches in enumerate(steps):
            lr = self.schedule.lr(self.epoch, number, len(steps))
            self.stepper.set_lr(lr)
            sums = self.stepper.step([self.feed.batch(positions) for positions in batches], bad)
            if sums is None:
                continue
            totals = [total + x for total, x in zip(totals, sums, strict=True)]
            num_steps += 1
            if self.average is not None:
                self.average.update(self.model)
        self._check_weights(num_steps)
        return {
            "train_loss": self.loss.mean(*totals),
            "lr": lr,
            "bad_windows": bad.num_windows,
            "skipped_steps": len(steps) - num_steps,
        }

    def _check_weights(self, num_steps: int) -> None:
        if num_steps == 0:
            raise UserError(
                f"no step of epoch {self.epoch} could be taken: the features, losses or gradients "
                f"of all train windows are not finite; lower train.optimiser.lr"
            )
        if not all(torch.isfinite(x).all() for x in self.scored_model.state_dict().values()):
            raise UserError(
                f"the weights are not finite after epoch {self.epoch}: lower train.optimiser.lr, "
                f"or set train.max_grad_norm"
            )

    def _choose(self, row: Mapping[str, float]) -> None:
        """Keep the weights of this epoch wherever it is the best so far."""
        settings = self.job.settings
        weights: dict[str, Tensor] = {}
        chosen = [(self.best, row[selection_key(settings)])]
        chosen += [(best, row[rule_key(settings, k)]) for k, best in self.best_by_rule.items()]
        for best, metric in chosen:
            if metric > best.metric:
                # one copy for all that choose this epoch
                weights = weights or {
                    k: v.detach().cpu().clone() for k, v in self.scored_model.state_dict().items()
                }
                best.epoch, best.metric, best.weights = self.epoch, metric, weights


def _require_labels(job: TrainJob) -> None:
    for name, split, clips in (
        ("train", job.train, job.train_clips),
        ("val", job.val, job.val_clips),
    ):
        if all(split.clips[i].label == UNLABELLED for i in clips):
            raise UserError(
                f"expected labelled clips in split {name}, found {len(clips)} clips with features, "
                f"none of them with a label: `erray corpus check` says what the corpus has, "
                f"tables/rejects which clips could not be used"
            )
