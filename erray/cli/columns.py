"""Tables that are wider than the screen: where they are folded.

A cell of a number column, such as a score with its interval, stays on one line. Space is made in
this order: headers in several lines, names of the first column folded, columns moved to a second
table below with the names repeated.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

PADDING = 2  # one cell on each side of a column
_LEAST_NAME = 16  # names are not folded to fewer cells than that,
_LEAST_OF_ALL = 6  # save beside a single number that would not fit
_UNIT = re.compile(r"\S+ %|\S+ [\[(][^\])]*[\])]|p [<=] \S+")
_BREAKS = re.compile(r"[^\s/+,_-]+[\s/+,_-]*|[\s/+,_-]+")


@dataclass(frozen=True)
class Block:
    """Columns that stand beside each other: their indices and widths in cells, names first."""

    indices: tuple[int, ...]
    widths: tuple[int, ...]


def blocks(columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int) -> Iterator[Block]:
    """Spread the columns over as few tables of ``width`` cells as hold them unbroken."""
    cells = [[cell_len(row[i]) for row in rows] for i in range(len(columns))]
    whole = [max([cell_len(name), *cells[i]]) for i, name in enumerate(columns)]
    if sum(whole) + PADDING * len(whole) <= width:
        yield Block(tuple(range(len(whole))), tuple(whole))
        return
    words = [max(map(cell_len, wrapped(name, 1))) for name in columns]
    narrow = [max([words[i], *cells[i]]) for i in range(len(columns))]
    least = min(narrow[0], _LEAST_NAME)
    room = width - least - PADDING
    start = 1
    while start < len(columns) or start == 1:
        end, used = start, 0
        while end < len(columns) and (end == start or used + narrow[end] + PADDING <= room):
            used += narrow[end] + PADDING
            end += 1
        most = max(1, width - _LEAST_OF_ALL - 2 * PADDING)
        numbers = [min(narrow[i], most) for i in range(start, end)]
        names = width - sum(numbers) - PADDING * (len(numbers) + 1)
        yield Block((0, *range(start, end)), (min(whole[0], names), *numbers))
        start = max(end, start + 1)


def wrapped(text: str, width: int) -> list[str]:
    """Lines of whole words; a number with its interval, ``0.71 [0.64, 0.78]``, counts as one."""
    held = _UNIT.sub(lambda unit: unit[0].replace(" ", "\u00a0"), text)
    lines = textwrap.wrap(held, max(width, 1), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\u00a0", " ") for line in lines] or [""]


def folded(text: str, width: int) -> str:
    """A name in lines of at most ``width`` cells, broken after a space or sign where it has one."""
    lines = [""]
    for part in _BREAKS.findall(text):
        if lines[-1] and cell_len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
        while cell_len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.rstrip() for line in lines)
