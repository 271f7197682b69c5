"""How far an extraction is: a live bar on a terminal, a line every half minute in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from erray.cli.display import console, say
from erray.records import REJECTED

LOG_EVERY_S = 30.0


@dataclass
class StageCounts:
    """What is known of the stage that runs."""

    stage: str
    total: int
    start_s: float
    clips: int = 0
    rejected: int = 0
    frames: int = 0

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Count the status rows of clips that are done or rejected."""
        self.clips += len(rows)
        self.rejected += sum(row["state"] == REJECTED for row in rows)
        self.frames += sum(len(row["frame_times_s"] or ()) for row in rows)

    def rates(self, now_s: float) -> str:
        """Clips and frames per second, time left, rejects; empty before the first clip."""
        if not self.clips or now_s <= self.start_s:
            return ""
        per_s = self.clips / (now_s - self.start_s)
        parts = [f"{per_s:.3g} clips/s"]
        if self.frames:
            parts.append(f"{self.frames / (now_s - self.start_s):.0f} frames/s")
        if self.clips < self.total:
            parts.append(f"{as_time((self.total - self.clips) / per_s)} left")
        else:
            parts.append(f"in {as_time(now_s - self.start_s)}")
        if self.rejected:
            parts.append(f"{self.rejected} rejected")
        return ", ".join(parts)


class ExtractionDisplay:
    """Shows the stage that runs; a full bar stays on the screen as it is."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._counts = StageCounts("", 0, 0.0)
        self._logged_s = 0.0

    def begin(self, stage: str, total: int) -> None:
        """A stage starts with ``total`` clips to do."""
        self.close()
        self._counts = StageCounts(stage, total, monotonic())
        self._logged_s = self._counts.start_s
        if console.is_terminal:
            self._bar = Progress(*_columns(), console=console)
            self._bar.start()
            self._bar.add_task(stage, total=total, rates="")

    def advance(self, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """More clips are done or rejected: their status rows."""
        assert stage == self._counts.stage, f"stage {stage!r} was not begun"
        self._counts.add(rows)
        now_s, finished = monotonic(), self._counts.clips >= self._counts.total
        if self._bar is not None:
            rates = self._counts.rates(now_s)
            self._bar.update(self._bar.task_ids[0], advance=len(rows), rates=rates)
            if finished:
                self.close()
        elif finished or now_s - self._logged_s >= LOG_EVERY_S:
            self._logged_s = now_s
            counts = self._counts
            say(f"  {stage}: {counts.clips}/{counts.total} clips, {counts.rates(now_s)}")

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def as_time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("  {task.description:<8}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("clips  {task.fields[rates]}"),
    )


@contextmanager
def extraction_display() -> Iterator[ExtractionDisplay]:
    """Show the stages of extractions in the block."""
    display = ExtractionDisplay()
    try:
        yield display
    finally:
        display.close()
