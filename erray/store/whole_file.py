"""Single files that are whole or absent: JSON, text, CSV, and what a library writes to a path.

Besides one that grows line by line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from erray.errors import UserError, refusal
from erray.store.folder import Folder


def write_json(path: Path, data: Any) -> None:
    """Write ``data`` as the file ``path``, replacing one that is there.

    Raises:
        UserError: the storage fails three times; so do the others here.
    """
    write_text(path, json.dumps(data, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8, replacing a file that is there; its folder is made."""
    Folder(str(path.parent)).write(path.name, lambda file: file.write(text.encode()))


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as :func:`write_text` does."""
    write_text(path, csv_text(header, rows))


def append_line(path: Path, line: str) -> None:
    """Add a line to a file that readers read on from; they pass over empty and broken lines."""
    folder = Folder(str(path.parent))
    folder.create()

    def append() -> None:
        with path.open("a", encoding="utf-8") as file:
            # a line of its own, also behind what a lost process left half written
            file.write(f"\n{line}\n")

    folder.attempt(f"write {path.name} to", append)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header and rows as the text of a CSV file."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()


@contextmanager
def replacing(path: Path, *, only_new: bool = False) -> Iterator[Path]:
    """Yield a hidden path beside ``path`` to write to; at the end of the block it is ``path``.

    For libraries that open files themselves. When the block fails nothing is left of it.

    Args:
        only_new: refuse a file that is there.

    Raises:
        UserError: the system refuses, as it does on a full disk; or a file is there.
    """
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield hidden
        with hidden.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure could keep the name and lose the content
        if only_new:
            os.link(hidden, path)  # refuses a name that is there, which a rename would not
        else:
            hidden.replace(path)
    except FileExistsError:
        raise UserError(f"{path} is there already: delete it, or move it away") from None
    except OSError as error:
        if (known := refusal(error)) is None:
            raise
        raise UserError(f"{path}: {known[0]}: {known[1]}") from None
    finally:
        hidden.unlink(missing_ok=True)
