"""What a person sees while a step runs (on standard error), and results as tables or JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

# results go to standard output, all that is for people while they wait to standard error
console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """One line for people; never broken in two, so that a path or command can be copied."""
    console.print(text, soft_wrap=True)


def say_plainly(text: str) -> None:
    """One line for people that may hold brackets, such as the name of a file."""
    console.print(text, soft_wrap=True, markup=False)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A small table for people; the first column is text, the others are numbers."""
    view = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1))
    for i, name in enumerate(columns):
        view.add_column(name, justify="left" if i == 0 else "right", header_style="dim")
    for row in rows:
        view.add_row(*row)
    console.print(view)


def with_limits(found: Mapping[str, float]) -> str:
    """A score with its interval, short enough for several in a row."""
    return f"{found['value']:.3f} {found['low']:.2f}-{found['high']:.2f}"


def paired(gap: Mapping[str, float]) -> str:
    """A paired difference with its interval."""
    return f"{gap['difference']:+.3f} {gap['low']:+.2f} to {gap['high']:+.2f}"


def wrapped_table(columns: list[str], rows: list[list[Text]]) -> None:
    """A table of sentences, broken to the width of the screen."""
    view = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        view.add_column(name, header_style="dim", overflow="fold")
    for row in rows:
        view.add_row(*row)
    console.print(view)


def print_json(result: Mapping[str, Any]) -> None:
    """The result as one JSON object on standard output."""
    json.dump(result, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
