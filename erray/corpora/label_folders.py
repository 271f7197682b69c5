"""Films in folders named after their class: the clips that a manifest of them lists.

``films/Anger/anna/1.mp4`` and ``films/anna/Anger/1.mp4`` are both a clip of the class Anger and of
the group ``anna``. ``1.txt`` beside it holds what is said in it.
"""

from __future__ import annotations

import csv
import os
import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from erray.corpora.folds import UNSPLIT
from erray.corpora.media_root import FILM_SUFFIXES, clip_ids, resolve_media
from erray.corpora.rows import BadRows
from erray.errors import UserError
from erray.labels import LabelSet
from erray.records import Clip

_COLUMNS = ("clip_id", "media", "split", "group", "label", "transcript")


@dataclass(frozen=True)
class LabelFolders:
    """What lies below a folder.

    Attributes:
        clips: the films in the order of their paths, not yet split.
        others: files that are neither films nor what is said in one, as paths below the folder.
    """

    clips: list[Clip]
    others: list[str]


def read_label_folders(
    root: Path, labels: LabelSet, *, group: re.Pattern[str] | None = None
) -> LabelFolders:
    """Find the films below ``root``; hidden files and folders are passed over.

    Args:
        group: searched for in a film's path below ``root`` without its suffix; what its first
            parenthesis finds is the group. None: the folders that are no class, or the film itself
            where there are none.

    Raises:
        UserError: no folder, no films, or films that have no class, two, or no group: the first
            ten of them.
    """
    if not root.is_dir():
        raise UserError(f"expected a folder of films, {str(root)!r} is none")
    if group is not None and group.groups != 1:
        raise UserError(f"the pattern {group.pattern!r} of groups needs one parenthesis (...)")
    names = sorted(path.relative_to(root).as_posix() for path in _visible_files(root))
    films = [name for name in names if PurePosixPath(name).suffix.lower() in FILM_SUFFIXES]
    if not films:
        raise UserError(f"{root} holds no film: expected files that end in {_words(FILM_SUFFIXES)}")
    clips, bad, said = [], BadRows(root), set()
    for clip_id, name in zip(clip_ids(films), films, strict=True):
        try:
            label, group_name = _label(name, labels), _group(name, labels, group)
            resolve_media(str(root), name)
            transcript = _transcript(root / name)
        except ValueError as error:
            bad.add(name, error)
            continue
        if transcript is not None:
            said.add(str(PurePosixPath(name).with_suffix(".txt")))
        clips.append(Clip(clip_id, name, UNSPLIT, group_name, label=label, transcript=transcript))
    bad.refuse()
    return LabelFolders(clips, sorted(set(names) - set(films) - said))


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write ``clips`` as a manifest, a row for each; under a hidden name first, so that a kill
    leaves no half of one.

    Raises:
        UserError: the file is there: it may have been corrected by hand.
    """
    hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with hidden.open("x", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            writer.writerows([getattr(clip, name) for name in _COLUMNS] for clip in clips)
        os.link(hidden, path)  # refuses a name that is there, which a rename would not
    except FileExistsError:
        raise UserError(f"{path} is there already: delete it, or move it away") from None
    finally:
        hidden.unlink(missing_ok=True)


def _visible_files(root: Path) -> Iterable[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not hidden:
            yield path


def _label(name: str, labels: LabelSet) -> str:
    folders = PurePosixPath(name).parent.parts
    found = [folder for folder in folders if folder in labels.names]
    if len(found) != 1:
        expected = f"one folder that is called as a class of {labels.name} ({_words(labels.names)})"
        raise ValueError(f"expected {expected}, found {_words(found or folders) or 'no folder'}")
    return found[0]


def _group(name: str, labels: LabelSet, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        others = [part for part in PurePosixPath(name).parent.parts if part not in labels.names]
        return "/".join(others) or name
    found = pattern.search(str(PurePosixPath(name).with_suffix("")))
    if found is None or not found[1]:
        raise ValueError(f"the pattern {pattern.pattern!r} finds no group in its path")
    return found[1]


def _transcript(film: Path) -> str | None:
    """The words of the text file beside a film, None without one."""
    path = film.with_suffix(".txt")
    if not path.is_file():
        return None
    try:
        return " ".join(path.read_text(encoding="utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not UTF-8 text (byte {error.start})") from None


def _words(names: Iterable[str]) -> str:
    return ", ".join(names)
