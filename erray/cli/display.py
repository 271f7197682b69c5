"""What a person sees: results on standard output, what is said while they wait on standard error.

With ``--json`` the one JSON document has standard output to itself, and results for people go to
standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from erray.cli.columns import blocks, folded, wrapped

console = Console(stderr=True, highlight=False)
"""Progress, notes and errors."""

results = Console(highlight=False)
"""What the command was run for."""


def leave_output_to_json(as_json: bool) -> bool:
    """Send results for people to standard error where standard output is for JSON."""
    results.stderr = as_json
    return as_json


def say(text: str) -> None:
    """A note for people; never broken in two, so that a path or command can be copied."""
    console.print(text, soft_wrap=True)


def say_plainly(text: str) -> None:
    """A note for people that may hold brackets, such as the name of a file."""
    console.print(text, soft_wrap=True, markup=False)


def print_line(text: str) -> None:
    """One line of a result; never broken in two, so that a path or command can be copied."""
    results.print(text, soft_wrap=True)


def print_plainly(text: str) -> None:
    """One line of a result that may hold brackets, such as the name of a file."""
    results.print(text, soft_wrap=True, markup=False)


def print_hanging(lead: Text, text: str) -> None:
    """A sentence of a result behind ``lead``, folded between words and indented below it."""
    width = max(results.width - lead.cell_len, 20)
    for i, line in enumerate(wrapped(text, width)):
        start = lead if i == 0 else Text(" " * lead.cell_len)
        results.print(start + Text(line), soft_wrap=True)


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """A table of results; the first column is text, the others are numbers that stay whole."""
    if title:
        results.print(Text(title, style="bold"))
    for block in blocks(columns, rows, width=results.width):
        view = Table(box=None, padding=(0, 1))
        for i, width in zip(block.indices, block.widths, strict=True):
            side: Literal["right", "left"] = "right" if i else "left"
            header = Text("\n".join(wrapped(columns[i], width)))
            view.add_column(header, justify=side, header_style="dim", width=width)
        for row in rows:
            name = folded(row[0], block.widths[0])
            view.add_row(*(Text(row[i] if i else name) for i in block.indices))
        results.print(view)


def with_limits(found: Mapping[str, Any]) -> str:
    """A score with its interval, short enough for several in a row."""
    if found["low"] is None:
        return f"{found['value']:.3f} {_undecided(found)}"
    return f"{found['value']:.3f} {found['low']:.2f}-{found['high']:.2f}"


def paired(gap: Mapping[str, Any]) -> str:
    """A paired difference with its interval."""
    if gap["low"] is None:
        return f"{gap['difference']:+.3f} {_undecided(gap)}"
    return f"{gap['difference']:+.3f} {gap['low']:+.2f} to {gap['high']:+.2f}"


def _undecided(found: Mapping[str, Any]) -> str:
    from erray.statistics import undecided

    return undecided(found["num_groups"])


def p_value(p: float | None) -> str:
    """A p-value; nothing where there is none."""
    from erray.statistics import p_text

    return "" if p is None else p_text(p)


def wrapped_table(columns: list[str], rows: list[list[Text]]) -> None:
    """A table of sentences, broken to the width of the screen."""
    view = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in columns:
        view.add_column(name, header_style="dim", overflow="fold")
    for row in rows:
        view.add_row(*row)
    results.print(view)


def print_json(result: Mapping[str, Any]) -> None:
    """The result as one JSON object on standard output."""
    json.dump(result, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")
