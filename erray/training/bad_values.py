"""Values that are not finite: which windows have them, how many there may be, what keeps them out.

A window with such features, or with such a loss, is left out of its step. A step whose gradients
are not finite is left out as a whole. Neither reaches weights, averages or statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from erray.errors import UserError
from erray.training.arrays import FeatureArrays
from erray.training.workers import Workers
from erray.windows import Batch

_NAMED_CLIPS = 8


class BadWindows:
    """What was left out of one epoch; more than ``limit`` ends the run, on all workers alike.

    Windows are noted by the worker that had them, skipped steps by every worker.
    """

    def __init__(self, arrays: FeatureArrays, limit: int, workers: Workers) -> None:
        self.arrays, self.limit, self.workers = arrays, limit, workers
        self.num_windows = 0
        """Windows left out so far, on all workers."""
        self.num_skipped = 0
        """Steps left out as a whole, for another reason than the scale of fp16."""
        self._mine: list[int] = []
        self._of_steps: list[int] = []

    @property
    def num_mine(self) -> int:
        """Windows that this worker left out."""
        return len(self._mine)

    def note(self, batch: Batch, bad_B: Tensor) -> None:
        """Note the windows of this worker's batch where ``bad_B`` is True."""
        self._mine += batch.clip_B[bad_B.cpu()].tolist()

    def skip(self, batches: Sequence[Batch]) -> None:
        """Note a step that was left out as a whole.

        Raises:
            UserError: as :meth:`update`.
        """
        self.num_skipped += 1
        self._of_steps += [clip for batch in batches for clip in batch.clip_B.tolist()]
        self._check()

    def update(self, num_windows: int) -> None:
        """Tell the number of all workers' noted windows.

        Raises:
            UserError: too many windows and steps were left out; their clips are named.
        """
        self.num_windows = num_windows
        self._check()

    def _check(self) -> None:
        if self.num_windows + self.num_skipped <= self.limit:
            return
        clips = sorted(set(self.workers.joined(self._mine + self._of_steps)))
        names = ", ".join(self.arrays.clips[clip].clip_id for clip in clips[:_NAMED_CLIPS])
        more = f" and {len(clips) - _NAMED_CLIPS} more" if len(clips) > _NAMED_CLIPS else ""
        raise UserError(
            f"{self.num_windows} windows and {self.num_skipped} steps of one epoch have features, "
            f"losses or gradients that are not finite, more than train.max_bad_windows="
            f"{self.limit}, in clips {names}{more}: extract these clips anew, or lower "
            f"train.optimiser.lr"
        )


def with_bad_features(batch: Batch) -> Tensor:
    """Windows [B] with a value that is not finite at a valid tick where its stream is present."""
    bad_B = torch.zeros(len(batch), dtype=torch.bool)
    for name, x_BTD in batch.streams.items():
        if torch.isfinite(x_BTD.sum()):
            continue  # one pass instead of three; what is not finite makes a sum that is not
        counted_BT = batch.present[name] & batch.valid_BT
        bad_B |= (~torch.isfinite(x_BTD).all(-1) & counted_BT).any(1)
    return bad_B


def without(batch: Batch, bad_B: Tensor) -> Batch:
    """The same batch, in which the windows of ``bad_B`` are padding from end to end."""
    if not bad_B.any():
        return batch
    bad_B11 = bad_B[:, None, None]
    return replace(
        batch,
        streams={name: torch.where(bad_B11, 0, x_BTD) for name, x_BTD in batch.streams.items()},
        present={name: mask_BT & ~bad_B[:, None] for name, mask_BT in batch.present.items()},
        valid_BT=batch.valid_BT & ~bad_B[:, None],
    )


class Statistics:
    """The buffers of a model as they were before a step, to be put back if it is left out."""

    def __init__(self, model: nn.Module) -> None:
        self.buffers = list(model.buffers())
        self._before = [x.clone() for x in self.buffers]

    def restore(self) -> None:
        for x, before in zip(self.buffers, self._before, strict=True):
            x.copy_(before)

    def finite(self) -> Tensor:
        """Whether they are all finite now, one bool."""
        return torch.stack([torch.isfinite(x).all() for x in self.buffers]).all()
