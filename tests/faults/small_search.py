"""A search of seconds, and features that let a kill find its trials in the middle of an epoch."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erray.config import Recipe, parse_recipe
from erray.training.arrays import FeatureArrays
from erray.training.batches import training_spans
from erray.training.job import TrainJob
from erray.windows import WindowSample
from tests.unit.training.conftest import NUM_CLASSES, WIDTHS, write_arrays

NUM_TRIALS, EPOCHS = 6, 4
WINDOW = {"window": 16, "hop": 8}


@dataclass(frozen=True)
class SlowArrays(FeatureArrays):
    """Every process that reads a window notes it and rests ``pause_s``.

    Same content, same folder name, same study as without.
    """

    notes: Path
    pause_s: float

    def window(self, clip: int, start: int, stop: int, *more: Any, **views: Any) -> WindowSample:
        note(self.notes / f"reader-{os.getpid()}")
        time.sleep(self.pause_s)
        return super().window(clip, start, stop, *more, **views)

    @property
    def num_read(self) -> int:
        """Windows that were read by all processes together."""
        return sum(path.stat().st_size for path in self.notes.glob("reader-*"))


@dataclass(frozen=True)
class FatalArrays(FeatureArrays):
    """Kill the process that reads ``fatal`` windows of ``length_ticks`` or more."""

    notes: Path
    length_ticks: int
    fatal: int

    def window(self, clip: int, start: int, stop: int, *more: Any, **views: Any) -> WindowSample:
        if stop - start >= self.length_ticks:
            num_read = note(self.notes / f"long-{os.getpid()}")
            if num_read == self.fatal:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().window(clip, start, stop, *more, **views)


def note(path: Path) -> int:
    """Add a mark to the file; return how many it has."""
    with path.open("ab") as file:
        file.write(b".")
        return file.tell()


def make_recipe(folder: Path, space: str, *, storage: str | None = None) -> Recipe:
    """Trials of which none is stopped early."""
    file = folder / "space.py"
    file.write_text(space, encoding="utf-8")
    tune = {"num_trials": NUM_TRIALS, "epochs": EPOCHS, "grace_epochs": EPOCHS}
    return parse_recipe(
        {
            "model": {"options": {"channels": {"hog": [8, 8], "logmel": [8, 8]}}},
            "train": {"batch_size": 5, **WINDOW},
            "tune": tune | {"space": str(file), "storage": storage},
        }
    )


def make_job(folder: Path, recipe: Recipe) -> TrainJob:
    return TrainJob(
        train=write_arrays(folder / "train", num_clips=23, seed=1),
        val=write_arrays(folder / "val", num_clips=9, seed=2),
        streams=WIDTHS,
        num_classes=NUM_CLASSES,
        model=recipe.model,
        settings=recipe.train,
        seed=0,
    )


def windows_of_a_trial(job: TrainJob) -> int:
    return EPOCHS * len(training_spans(job.train, **WINDOW))
