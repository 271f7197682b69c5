"""What a trial trains: the recipe with the suggested settings, on one split or on several folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from erray.config import Recipe, with_settings
from erray.training.job import TrainJob
from erray.training.loop import TrainingLoop
from erray.training.validation import selection_key


class Epoch(NamedTuple):
    """One epoch of a trial: the value that is searched for, and the seconds that it took."""

    value: float
    seconds: float


@dataclass(frozen=True)
class FoldTrial:
    """Trains settings on every job, epoch by epoch side by side; a fold's job, or the only one.

    It travels to the trial's process: jobs hold folders of memory-mapped features, not values.

    Attributes:
        recipe: as long as a trial, see :func:`erray.tuning.length.trial_recipe`.
    """

    recipe: Recipe
    jobs: Sequence[TrainJob]
    device: str

    def __call__(self, settings: Mapping[str, Any]) -> Iterator[Epoch]:
        """Yield every epoch's mean over the jobs of the score that chooses a run's epoch.

        Raises:
            UserError: settings that do not fit the model, features or weights not finite.
        """
        jobs = [trial_job(self.recipe, job, settings) for job in self.jobs]
        loops = [TrainingLoop(job, device=self.device) for job in jobs]
        key = selection_key(jobs[0].settings)
        for rows in zip(*(loop.run() for loop in loops), strict=True):
            value = sum(row[key] for row in rows) / len(rows)
            yield Epoch(value, sum(row["seconds"] for row in rows))


def trial_job(recipe: Recipe, job: TrainJob, settings: Mapping[str, Any]) -> TrainJob:
    """Return ``job`` with the model and training of ``recipe``, changed by dotted recipe keys."""
    changed = with_settings(recipe, settings)
    return replace(job, model=changed.model, settings=changed.train)
