"""Models in the layout of the Hugging Face hub, as they lie on this machine.

A model is a folder, or the name of one that the hub's own cache holds. Nothing here opens a
connection. What shapes a model's values is hashed file by file, so that a model that was moved or
fetched again keeps its hash and one that was changed does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from erray.errors import UserError


def local_model(name: str, *, needs: Sequence[str], advice: str) -> Path:
    """Return the folder of a model.

    Args:
        name: a folder, or a name such as ``google-bert/bert-base-uncased``.
        needs: patterns of file names, each of which must fit at least one file.
        advice: what to do where the model is not here, the end of one line.

    Raises:
        UserError: the model is not on this machine, or a file of it is missing.
    """
    folder = Path(name).expanduser()
    if not folder.is_dir():
        folder = _cached(name, advice)
    missing = [pattern for pattern in needs if not _files(folder, [pattern])]
    if missing:
        raise UserError(
            f"{name}: expected {' and '.join(needs)} in {folder}, found no {missing[0]}: {advice}"
        )
    return folder


def model_sha256(folder: Path, patterns: Sequence[str]) -> str:
    """Return the hash of the names and contents of the files that fit one of ``patterns``."""
    lines = []
    for path in _files(folder, patterns):
        state = path.stat()
        lines.append(f"{path.name} {_file_sha256(path, state.st_size, state.st_mtime_ns)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _cached(name: str, advice: str) -> Path:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - half a second, for few
    from huggingface_hub.errors import (  # noqa: PLC0415
        HFValidationError,
        LocalEntryNotFoundError,
    )

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        raise UserError(f"expected a model on this machine, found no {name!r}: {advice}") from None


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    return [folder / name for name in names if any(fnmatch(name, p) for p in patterns)]


@lru_cache(maxsize=64)
def _file_sha256(path: Path, num_bytes: int, mtime_ns: int) -> str:
    """Hash a file once per process and state of the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
