"""What a training tells while it runs: an event at the end of every epoch.

A worker appends its events to a file of the run's folder, which workers and driver share anyway;
the driver reads on while it waits. So every epoch arrives within a second, however seldom a
checkpoint is reported, and no process more is needed.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from erray.store import append_line
from erray.training.validation import selection_key

if TYPE_CHECKING:
    from erray.training.loop import TrainingLoop

FILE_NAME = "epochs.jsonl"
POLL_S = 0.5


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """An epoch of a training run has ended.

    Attributes:
        run: name of the run, unique among those that train together.
        epoch: counted from 0.
        num_epochs: how many there will be at most.
        loss: mean over the epoch's steps.
        metric: name of the score that chooses the epoch, such as ``val_weighted_f1``.
        score: its value after this epoch.
        best: its best value so far, this epoch's included.
        best_epoch: the epoch that has it.
        seconds: that training and validating took.
        device: where the run computes, such as ``cpu``.
        clips_per_s: clips that were trained on, of all workers, per second of the epoch.
        time_s: when the epoch ended, in seconds since 1970 by the clock of the worker.
        row: the epoch's row of the history, with every score.
    """

    run: str
    epoch: int
    num_epochs: int
    loss: float
    metric: str
    score: float
    best: float
    best_epoch: int
    seconds: float
    device: str
    clips_per_s: float
    time_s: float
    row: Mapping[str, float]


OnEpoch = Callable[[EpochEnd], None]


def tell_nobody(event: EpochEnd) -> None:
    """Ignore."""


class TrainingProgress(Protocol):
    """Who is told how far trainings are."""

    def begin(self, runs: Mapping[str, int]) -> None:
        """Trainings start: the name of every run to its number of epochs at most."""

    def epoch(self, event: EpochEnd) -> None:
        """An epoch of one of them has ended."""

    def finish(self, run: str) -> None:
        """A run is trained, and what it leaves is written."""


class NoTrainingProgress:
    """Tells nobody."""

    def begin(self, runs: Mapping[str, int]) -> None:
        """Ignore."""

    def epoch(self, event: EpochEnd) -> None:
        """Ignore."""

    def finish(self, run: str) -> None:
        """Ignore."""


def epoch_end(loop: TrainingLoop, row: Mapping[str, float], *, run: str) -> EpochEnd:
    """The event of the epoch that ``loop`` has just ended, whose row of the history is ``row``."""
    job, key = loop.job, selection_key(loop.job.settings)
    return EpochEnd(
        run=run,
        epoch=int(row["epoch"]),
        num_epochs=job.settings.epochs,
        loss=row["train_loss"],
        metric=key,
        score=row[key],
        best=loop.best.metric,
        best_epoch=loop.best.epoch,
        seconds=row["seconds"],
        device=str(loop.device),
        clips_per_s=sum(job.class_counts) / row["seconds"],
        time_s=time.time(),
        row=dict(row),
    )


class EpochFile:
    """Where the worker of a run writes its events, a line each, and the driver reads them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE_NAME
        self._offset, self._last_epoch = 0, -1

    def clear(self) -> None:
        """Forget what an earlier driver's workers wrote."""
        self.path.unlink(missing_ok=True)

    def append(self, event: EpochEnd) -> None:
        """Write one more event.

        Raises:
            UserError: the disk is full, or fails in another way.
        """
        append_line(self.path, json.dumps(asdict(event)))

    def new(self) -> Iterator[EpochEnd]:
        """Yield what came since the last call.

        A worker that was replaced trains some epochs a second time, to the same result: they are
        not told again.
        """
        if not self.path.is_file():
            return
        with self.path.open("rb") as file:
            file.seek(self._offset)
            *lines, _ = file.read().split(b"\n")  # the last one is empty, or not whole yet
        for line in lines:
            self._offset += len(line) + 1
            try:
                event = EpochEnd(**json.loads(line))
            except ValueError:  # between two lines, or cut off by the death of its worker
                continue
            if event.epoch > self._last_epoch:
                self._last_epoch = event.epoch
                yield event


class EpochNews:
    """Tells ``on_epoch`` of every epoch of the runs in ``folders``; made before they start."""

    def __init__(self, folders: Sequence[Path], on_epoch: OnEpoch) -> None:
        self._files = [EpochFile(folder) for folder in folders]
        self._on_epoch = on_epoch
        for file in self._files:
            file.clear()

    def tell(self) -> None:
        """Tell what came since the last call."""
        for file in self._files:
            for event in file.new():
                self._on_epoch(event)

    @contextmanager
    def while_waiting(self) -> Iterator[None]:
        """Tell from a thread of its own while the block waits; at its end all is told."""
        ended = threading.Event()

        def keep_telling() -> None:
            while not ended.wait(POLL_S):
                self.tell()

        with ThreadPoolExecutor(1) as pool:
            teller = pool.submit(keep_telling)
            try:
                yield
            finally:
                ended.set()
            teller.result()  # what on_epoch raised must not be lost
        self.tell()
