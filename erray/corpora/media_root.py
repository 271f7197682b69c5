"""The folder that holds a corpus' media: nothing outside it is ever read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_THREADS = 8


def resolve_media(root: str, media: str) -> Path:
    """Return the path of ``media`` below ``root``, links followed.

    Raises:
        ValueError: an absolute path, a URL, a path (or link) that leads outside ``root``, or a
            name that the file system refuses.
    """
    if Path(media).is_absolute() or ":" in media.split("/", 1)[0]:
        raise ValueError(f"media {media!r} must be a path relative to the corpus root")
    base = Path(root).resolve()
    try:
        path = (base / media).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
        raise ValueError(f"media {media!r} is not a usable path: {error}") from None
    if not path.is_relative_to(base):
        raise ValueError(f"media {media!r} leads outside the corpus root")
    return path


def file_sha256s(root: str, media: Iterable[str]) -> dict[str, str | None]:
    """Hash the content of every medium; None for one that does not exist."""
    names = sorted(media)
    with ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: _sha256(root, name), names), strict=True))


def _sha256(root: str, media: str) -> str | None:
    path = resolve_media(root, media)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
