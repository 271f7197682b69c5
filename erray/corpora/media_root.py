"""The folder that holds a corpus' media: nothing outside it is ever read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from erray.config import Corpus
from erray.errors import UserError

FILM_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".m4v")


def corpus_root(config: Corpus) -> Path:
    """Return the folder of the corpus.

    Raises:
        UserError: it is not set, or not there.
    """
    if not config.root:
        raise UserError("corpus.root is not set: give the folder of the media, -o corpus.root=DIR")
    root = Path(config.root)
    if not root.is_dir():
        raise UserError(
            f"corpus.root {config.root!r} is not a folder: give that of the media, "
            f"-o corpus.root=DIR"
        )
    return root


def resolve_media(root: str, media: str) -> Path:
    """Return the path of ``media`` below ``root``, links followed.

    Raises:
        UserError: an absolute path, a URL, a path (or link) that leads outside ``root``, or a
            name that the file system or UTF-8 refuses.
    """
    if Path(media).is_absolute() or ":" in media.split("/", 1)[0]:
        raise UserError(f"media {media!r} must be a path relative to the corpus root")
    base = Path(root).resolve()
    try:
        path = (base / media).resolve()
        path.exists()
    except (OSError, RuntimeError) as error:  # a name that is too long, links in a circle
        raise UserError(f"media {media!r} is not a usable path: {error}") from None
    if not path.is_relative_to(base):
        raise UserError(f"media {media!r} leads outside the corpus root: put it below")
    try:
        str(path).encode()
    except UnicodeEncodeError:  # bytes that no table can hold
        raise UserError(f"media {media!r}: its path is not UTF-8 text: rename it") from None
    return path


def find_medium(root: str, stems: Sequence[str]) -> str:
    """Return the first file that exists of ``stems`` with a suffix of a film.

    Where there is none: the first stem as an .mp4 file, which is then reported as missing.

    Raises:
        UserError: as :func:`resolve_media`.
    """
    for stem in stems:
        for suffix in FILM_SUFFIXES:
            if resolve_media(root, stem + suffix).is_file():
                return stem + suffix
    return stems[0] + FILM_SUFFIXES[0]


def clip_ids(names: list[str]) -> list[str]:
    """Names for files by their paths: stems; where two share one, paths without suffix; or paths.

    Args:
        names: paths below one folder, with slashes.
    """
    paths = [PurePosixPath(name) for name in names]
    for ids in ([p.stem for p in paths], [p.with_suffix("").as_posix() for p in paths]):
        if len(set(ids)) == len(ids):
            return ids
    return names
