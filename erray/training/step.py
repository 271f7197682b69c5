"""One optimiser step over the batches of a step, without what is not finite.

The loss of a step is the sum over the frames (or clips) of all its batches and all workers divided
by their number, so that neither the number of workers nor ``train.accumulate`` changes a step.
Whether a value is finite is agreed among the workers before any of them goes on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from erray.config import Train
from erray.errors import UserError
from erray.models.fusion import FusionModel
from erray.training.bad_values import BadWindows, Statistics, with_bad_features, without
from erray.training.losses import TrainingLoss
from erray.training.optimiser import Precision, make_optimiser
from erray.training.workers import Workers
from erray.windows import UNLABELLED, Batch


class Sums(NamedTuple):
    """Of one step, over all workers: losses summed, and the number of what was counted."""

    frames: float
    clips: float
    num_frames: float
    num_clips: float


class Stepper:
    """Takes the steps of a run on ``model``; holds the optimiser and the gradients' scale.

    Raises:
        UserError: a precision or a compilation that this machine does not offer.
    """

    def __init__(
        self,
        model: FusionModel,
        loss: TrainingLoss,
        settings: Train,
        *,
        device: torch.device,
        workers: Workers,
    ) -> None:
        self.model, self.loss, self.device, self.workers = model, loss, device, workers
        self.optimiser = make_optimiser(model, settings.optimiser)
        self.precision = Precision(settings.precision, device)
        self.max_grad_norm = settings.max_grad_norm
        self._forward = _wrapped(model, workers, compiled=settings.compile, device=device)

    def set_lr(self, lr: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = lr

    def step(self, batches: Sequence[Batch], bad: BadWindows) -> Sums | None:
        """Take one step; None when it was left out.

        Raises:
            UserError: more was left out of this epoch than there may be.
        """
        kept = [self._without_bad_features(batch, bad).to(self.device) for batch in batches]
        statistics = Statistics(self.model)
        while True:
            counts = self._counts(kept, bad)
            if counts[0] == 0:
                return None
            sums = self._backward(kept, counts)
            if sums is not None:
                break
            statistics.restore()
            kept, blamed = self._without_bad_losses(kept, bad)
            if not blamed:  # no window is to blame alone
                bad.skip(batches)
                return None
        if not self._apply(statistics):
            statistics.restore()
            if not self.precision.skip():
                bad.skip(batches)
            return None
        return sums

    def _backward(self, batches: Sequence[Batch], counts: Tensor) -> Sums | None:
        """Fill the gradients; None as soon as a window's loss is not finite on any worker."""
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros(2, dtype=torch.float64, device=self.device)
        for number, batch in enumerate(batches):
            with self._gradients(sent=number == len(batches) - 1):
                with self.precision.autocast():
                    logits_BTC = self._forward(batch.streams, batch.present, batch.valid_BT)
                frames_B, clips_B = self.loss(logits_BTC, batch.label_B, batch.valid_BT)
                sums = torch.stack([frames_B.sum(), clips_B.sum()])
                # of all workers: what one of them adds is finite only where all of them are
                batch_sums = self.workers.summed(sums.detach())
                if not torch.isfinite(batch_sums).all():
                    return None
                total += batch_sums
                # gradients are averaged over workers, so the mean over all needs their number
                mean = self.loss.mean(sums[0], sums[1], counts[0], counts[1])
                self.precision.backward((mean * self.workers.size).float())
        return Sums(*total.tolist(), *counts.tolist())

    def _apply(self, statistics: Statistics) -> bool:
        """Take the optimiser's step, unless gradients or the norms' statistics are not finite."""
        self.precision.unscale(self.optimiser)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not (torch.isfinite(norm) & statistics.finite()):
            return False
        if self.max_grad_norm is not None:
            nn.utils.clip_grads_with_norm_(parameters, self.max_grad_norm, norm)
        self.precision.step(self.optimiser)
        return True

    def _counts(self, batches: Sequence[Batch], bad: BadWindows) -> Tensor:
        """Frames and clips [2] of all workers' batches; tells how many windows were left out."""
        counts = torch.zeros(3, device=self.device)
        for batch in batches:
            counted_BT = batch.valid_BT & (batch.label_B != UNLABELLED)[:, None]
            counts[0] += counted_BT.sum()
            counts[1] += counted_BT.any(1).sum()
        counts[2] = bad.num_mine
        totals = self.workers.summed(counts)
        bad.update(int(totals[2]))
        return totals[:2]

    def _without_bad_features(self, batch: Batch, bad: BadWindows) -> Batch:
        bad_B = with_bad_features(batch)
        bad.note(batch, bad_B)
        return without(batch, bad_B)

    @torch.no_grad()
    def _without_bad_losses(
        self, batches: Sequence[Batch], bad: BadWindows
    ) -> tuple[list[Batch], int]:
        """Leave out windows whose own loss is not finite; also their number on all workers.

        In training the norm's statistics spread a bad window over its batch; in eval mode the
        loss of a window is its own.
        """
        self.model.eval()
        kept, num_blamed = [], 0
        for batch in batches:
            with self.precision.autocast():
                logits_BTC = self.model(batch.streams, batch.present, batch.valid_BT)
            frames_B, clips_B = self.loss(logits_BTC, batch.label_B, batch.valid_BT)
            bad_B = ~torch.isfinite(frames_B + clips_B)
            bad.note(batch, bad_B)
            num_blamed += int(bad_B.sum())
            kept.append(without(batch, bad_B))
        self.model.train()
        return kept, int(self.workers.summed(torch.tensor(num_blamed)))

    def _gradients(self, *, sent: bool) -> contextlib.AbstractContextManager[None]:
        """Context of a backward pass; workers exchange gradients once, in a step's last one."""
        if sent or not isinstance(self._forward, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._forward.no_sync()


def _wrapped(
    model: FusionModel, workers: Workers, *, compiled: bool, device: torch.device
) -> nn.Module:
    module: nn.Module = model
    if compiled:
        _check_compiler(device)
        # dynamic: batches differ in size and length
        module = cast(nn.Module, torch.compile(model, dynamic=True))
    if workers.size > 1:
        # the statistics of the norms are summed over the workers: buffers are equal already
        module = DistributedDataParallel(module, broadcast_buffers=False)
    return module


def _check_compiler(device: torch.device) -> None:
    default = "clang++" if sys.platform == "darwin" else "g++"
    name = os.environ.get("CXX", default) if device.type == "cpu" else os.environ.get("CC", "gcc")
    if shutil.which(name) is None:
        raise UserError(
            f"train.compile needs a compiler, expected the command {name}, found none: install "
            f"it, name another in {'CXX' if device.type == 'cpu' else 'CC'}, or set "
            f"train.compile to false"
        )
