"""How far trainings and searches are: live bars on a terminal, a line per epoch in a log.

A run or a trial that has ended leaves one line behind on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn
from rich.table import Column

from erray.cli.display import console, say_plainly
from erray.cli.progress import as_time

if TYPE_CHECKING:
    from rich.progress import TaskID

    from erray.training.events import EpochEnd
    from erray.tuning.events import TrialNews

_RUNNING = "running"
_WIDE = 100
"""Columns from which a terminal has room for bars beside what is said of a run."""


@dataclass
class RunFacts:
    """What is known of a run that trains: when it began, what its epochs took."""

    start_s: float
    seconds: list[float] = field(default_factory=list)
    last: EpochEnd | None = None

    def add(self, event: EpochEnd) -> None:
        """Note one more epoch."""
        self.seconds.append(event.seconds)
        self.last = event

    def words(self, *, score: str, short: bool = False) -> str:
        """Scores, loss, time left and speed after the last epoch; ``score`` names the score.

        ``short``: without the words that a line of 80 columns has no room for.
        """
        event = self.last
        assert event is not None, "no epoch has ended"
        parts = [f"{score} {event.score:.3f}", f"best {event.best:.3f}", f"loss {event.loss:.3f}"]
        num_left = event.num_epochs - event.epoch - 1
        if num_left:
            left_s = num_left * sum(self.seconds) / len(self.seconds)
            parts.append(f"{'' if short else 'up to '}{as_time(left_s)} left")
        on = " " if short else " on "
        return ", ".join([*parts, f"{event.clips_per_s:.3g} clips/s{on}{event.device}"])

    def result(self, run: str, now_s: float) -> str:
        """What is left to say of a run that has ended."""
        took = as_time(now_s - self.start_s)
        if self.last is None:  # it was trained before, and had only to be written
            return f"  {run}: written in {took}"
        event = self.last
        early = "" if event.epoch + 1 == event.num_epochs else f" of {event.num_epochs}"
        return (
            f"  {run}: trained {event.epoch + 1}{early} epochs in {took}, "
            f"best {metric_words(event.metric)} {event.best:.3f}"
        )


class TrainingDisplay:
    """Shows the runs that train side by side, and the trials of a search."""

    def __init__(self) -> None:
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._facts: dict[str, RunFacts] = {}
        self._num_runs = self._num_finished = 0
        self._trials: dict[int, TrialNews] = {}

    def begin(self, runs: Mapping[str, int]) -> None:
        """Trainings start: the name of every run to its number of epochs at most."""
        self.close()
        now_s = monotonic()
        self._facts = {name: RunFacts(now_s) for name in runs}
        self._num_runs, self._num_finished = len(runs), 0
        if console.is_terminal:
            if len(runs) > 1:
                self._bar("runs", len(runs), "starting")
            else:
                for name, num_epochs in runs.items():
                    self._bar(name, num_epochs, "epochs, starting")
        else:
            names = next(iter(runs)) if len(runs) == 1 else f"{len(runs)} runs"
            say_plainly(f"  training {names}, up to {max(runs.values(), default=0)} epochs")

    def epoch(self, event: EpochEnd) -> None:
        """An epoch of one of them has ended."""
        facts = self._facts.get(event.run)
        if facts is None:  # a shared folder showed it late: the run has its last line
            return
        facts.add(event)
        num_done = event.epoch + 1
        if console.is_terminal:
            # the line that the run leaves has the whole name of the score
            words = facts.words(score="val", short=True)
            self._bar(event.run, event.num_epochs, words, completed=num_done)
        else:
            words = facts.words(score=metric_words(event.metric))
            say_plainly(f"  {event.run}: epoch {num_done}/{event.num_epochs}, {words}")

    def finish(self, run: str) -> None:
        """A run is trained, and what it leaves is written."""
        self._num_finished += 1
        facts = self._facts.pop(run, None)
        self._drop(run)
        if facts is not None:
            many = f" ({self._num_finished}/{self._num_runs} runs)" if self._num_runs > 1 else ""
            say_plainly(facts.result(run, monotonic()) + many)
        if self._num_finished >= self._num_runs:
            self.close()
        elif console.is_terminal:
            self._bar("runs", self._num_runs, "", completed=self._num_finished)

    def trial(self, event: TrialNews) -> None:
        """A trial of a search has trained one more epoch, or has ended."""
        best = "" if event.best is None else f", best {event.best:.3f} (trial {event.best_number})"
        if event.state == _RUNNING:
            self._trials[event.number] = event
        else:
            self._trials.pop(event.number, None)
            counts = f"{event.num_ended}/{event.num_trials} trials{best}"
            say_plainly(f"{trial_words(event)}; {counts}")
        if not console.is_terminal:
            return
        running = [f"{t.number} ({t.epochs}/{t.num_epochs})" for t in self._trials.values()]
        words = f"trials{best}" + (f", running: {', '.join(running)}" if running else "")
        self._bar("search", event.num_trials, words, completed=event.num_ended)
        if event.num_ended >= event.num_trials and not running:
            self.close()

    def close(self) -> None:
        """Take what is still live off the screen."""
        if self._bars is not None:
            for name in list(self._tasks):
                self._drop(name)
            self._bars.stop()
        self._bars, self._facts, self._trials = None, {}, {}

    def _bar(self, name: str, total: int, words: str, *, completed: int = 0) -> None:
        """Show a bar, or bring it up to date."""
        if self._bars is None:
            columns = _columns(bars=console.width >= _WIDE)
            self._bars = Progress(*columns, console=console, transient=True, expand=True)
            self._bars.start()
        if name not in self._tasks:
            self._tasks[name] = self._bars.add_task(
                name, total=total, completed=completed, words=words
            )
        self._bars.update(self._tasks[name], completed=completed, words=words, refresh=True)

    def _drop(self, name: str) -> None:
        task = self._tasks.pop(name, None)
        if task is not None and self._bars is not None:
            self._bars.remove_task(task)


def trial_words(event: TrialNews) -> str:
    """How a trial ended."""
    value = "" if event.value is None else f", val {event.value:.3f}"
    why = "" if event.reason is None else f": {event.reason}"
    return f"  trial {event.number} {event.state} after {event.epochs} epochs{value}{why}"


def metric_words(metric: str) -> str:
    """The name of a score as people say it."""
    return metric.replace("_", " ").replace("f1", "F1")


def _columns(*, bars: bool) -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("  {task.description:<8}", markup=False),
        *([BarColumn(bar_width=8)] if bars else []),
        MofNCompleteColumn(),
        # takes what is left of the line: a narrow terminal cuts its end off, never its start
        TextColumn(
            "{task.fields[words]}",
            markup=False,
            table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),
        ),
    )


@contextmanager
def training_display() -> Iterator[TrainingDisplay]:
    """Show the trainings and searches in the block."""
    display = TrainingDisplay()
    try:
        yield display
    finally:
        display.close()
