"""What a person sees while a step runs (on standard error), and results as tables or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# results go to standard output, all that is for people while they wait to standard error
console = Console(stderr=True, highlight=False)


class ExtractionDisplay:
    """One bar per stage: clips done, rejected, time left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, Any] = {}
        self._rejected: dict[str, int] = {}

    def begin(self, stage: str, total: int) -> None:
        """Add the bar of a stage."""
        self._tasks[stage] = self._progress.add_task(stage, total=total, note="")
        self._rejected[stage] = 0

    def advance(self, stage: str, *, done: int, rejected: int) -> None:
        """Move the bar of a stage."""
        self._rejected[stage] += rejected
        note = f"[red]{self._rejected[stage]} rejected" if self._rejected[stage] else ""
        self._progress.update(self._tasks[stage], advance=done + rejected, note=note)


@contextmanager
def extraction_display() -> Iterator[ExtractionDisplay]:
    """Show bars for the stages of an extraction while the block runs."""
    columns = (
        TextColumn("  {task.description:<8}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield ExtractionDisplay(progress)


def say(text: str) -> None:
    """One line for people."""
    console.print(text)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A small table for people; the first column is text, the others are numbers."""
    view = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2))
    for i, name in enumerate(columns):
        view.add_column(name, justify="left" if i == 0 else "right", header_style="dim")
    for row in rows:
        view.add_row(*row)
    console.print(view)


def print_json(result: Mapping[str, Any]) -> None:
    """The result as one JSON object on standard output."""
    json.dump(result, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
