"""Rows of annotation files: read strictly, refused together, each with its place.

A corpus with one bad row is not read at all: a clip that silently goes missing is found months
later, in a score.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from erray.errors import UserError

_MAX_SHOWN = 10
_WRONG_WIDTH = "\0"  # marks a row whose number of fields differs; no header can hold it


class BadRows:
    """Collects what is wrong with the rows of a file or folder."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._problems: list[str] = []

    def add(self, where: str, problem: object) -> None:
        """Note a problem of the row at ``where``."""
        self._problems.append(f"{where}: {problem}")

    def refuse(self) -> None:
        """Do nothing if every row was good.

        Raises:
            UserError: there were bad rows; the first ten are named.
        """
        if not self._problems:
            return
        count = len(self._problems)
        more = f"; and {count - _MAX_SHOWN} more" if count > _MAX_SHOWN else ""
        shown = "; ".join(self._problems[:_MAX_SHOWN])
        raise UserError(f"{self._source}: {count} bad rows, nothing was read: {shown}{more}")


def csv_rows(
    path: Path, check_header: Callable[[Sequence[str]], None]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``line N`` and the fields of every row of a CSV file with a header.

    Args:
        path: the file, UTF-8 with or without a byte order mark.
        check_header: told the column names before the first row.

    Raises:
        UserError: the file is not UTF-8 or no CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            check_header(reader.fieldnames or [])
            for record in reader:
                wrong = None in record or None in record.values()
                yield f"line {reader.line_num}", {_WRONG_WIDTH: ""} if wrong else record
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except csv.Error as error:
        line = reader.reader.line_num  # DictReader counts only the rows that it returned
        raise UserError(f"{path}, line {line}: not CSV: {error}") from None


def plain_csv_rows(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield ``line N`` and the cells of every row of a CSV file without a header.

    Raises:
        UserError: the file is not UTF-8 or no CSV.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                yield f"line {reader.line_num}", cells
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield ``line N`` and the text of every line that is not blank.

    Raises:
        UserError: the file is not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield f"line {number}", line.removesuffix("\r")


def check_width(row: Mapping[str, object]) -> None:
    """Check a row of :func:`csv_rows`.

    Raises:
        ValueError: it has more or fewer fields than the header.
    """
    if _WRONG_WIDTH in row:
        raise ValueError("number of fields differs from the header")


def _not_utf8(path: Path, error: UnicodeDecodeError) -> UserError:
    return UserError(f"{path} is not UTF-8 text (byte {error.start})")
