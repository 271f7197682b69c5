"""What a search tells while it runs: an event for every epoch and every end of a trial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

RUNNING = "running"


@dataclass(frozen=True, slots=True)
class TrialNews:
    """A trial has trained one more epoch, or has ended.

    Attributes:
        number: of the trial.
        state: ``running``, or how it ended: ``complete``, ``pruned`` or ``failed``.
        epochs: that it has trained, of ``num_epochs`` at most.
        value: the best epoch's value so far; None without an epoch.
        seconds: that its epochs took.
        num_ended: trials of the search that have ended, of ``num_trials``.
        best: value of the best complete trial, whose number is ``best_number``; None before one is.
        reason: why it failed.
    """

    number: int
    state: str
    epochs: int
    num_epochs: int
    value: float | None
    seconds: float
    num_ended: int
    num_trials: int
    best: float | None
    best_number: int | None
    reason: str | None = None


OnTrial = Callable[[TrialNews], None]


def tell_nobody(event: TrialNews) -> None:
    """Ignore."""
