"""A linear ramp of the learning rate in front of any schedule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from erray.config import Train
from erray.training.schedules import Schedule, make_schedule


@dataclass(frozen=True, slots=True)
class WarmUp(Schedule):
    """A ramp from near 0 to the first rate of ``then``, step by step over ``epochs`` epochs.

    The epochs of ``then`` count from the end of the ramp, so none of its rates is passed over.
    """

    epochs: int
    then: Schedule

    def lr(self, epoch: int, batch: int = 0, num_batches: int = 1) -> float:
        if epoch >= self.epochs:
            return self.then.lr(epoch - self.epochs, batch, num_batches)
        step = batch + 1 + epoch * num_batches
        return self.then.lr(0) * step / (self.epochs * num_batches)

    def end_epoch(self, metric: float) -> None:
        self.then.end_epoch(metric)

    def state_dict(self) -> dict[str, Any]:
        return self.then.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.then.load_state_dict(state)


def run_schedule(settings: Train) -> Schedule:
    """The rate of every step of a run: the recipe's schedule, behind its warm-up if it has one.

    Raises:
        UserError: see :func:`erray.training.schedules.make_schedule`.
    """
    lr = settings.optimiser.lr
    schedule = make_schedule(settings.schedule.name, lr, settings.schedule.options)
    if settings.warmup_epochs == 0:
        return schedule
    return WarmUp(base_lr=lr, epochs=settings.warmup_epochs, then=schedule)
