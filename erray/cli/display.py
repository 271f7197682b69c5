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
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

# results go to standard output, all that is for people while they wait to standard error
console = Console(stderr=True, highlight=False)


class ExtractionDisplay:
    """A live bar for the stage that runs: clips done, rejected, time left."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._rejected = 0

    def begin(self, stage: str, total: int) -> None:
        """Show the bar of a stage."""
        self._rejected = 0
        self._bar = Progress(*_columns(), console=console)
        self._bar.start()
        self._bar.add_task(stage, total=total, note="")

    def advance(self, stage: str, *, done: int, rejected: int) -> None:
        """Move the bar; a full one stays on the screen as it is."""
        assert self._bar is not None, f"stage {stage!r} was not begun"
        self._rejected += rejected
        note = f"[red]{self._rejected} rejected" if self._rejected else ""
        self._bar.update(self._bar.task_ids[0], advance=done + rejected, note=note)
        if self._bar.finished:
            self.close()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.stop()


def _columns() -> tuple[ProgressColumn, ...]:
    return (
        TextColumn("  {task.description:<8}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("clips"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[note]}"),
    )


@contextmanager
def extraction_display() -> Iterator[ExtractionDisplay]:
    """Show bars for the stages of extractions in the block."""
    display = ExtractionDisplay()
    try:
        yield display
    finally:
        display.close()


def say(text: str) -> None:
    """One line for people; never broken in two, so that a path or command can be copied."""
    console.print(text, soft_wrap=True)


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
