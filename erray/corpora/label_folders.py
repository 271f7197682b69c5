"""Films in folders named after their class: the clips that a manifest of them lists.

``films/Anger/anna/1.mp4`` and ``films/anna/Anger/1.mp4`` are both a clip of the class Anger and of
the group ``anna``; below ``films/test`` it is one of the split test. ``1.txt`` beside it holds
what is said in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from erray.corpora.folds import UNSPLIT
from erray.corpora.media_root import FILM_SUFFIXES, clip_ids, resolve_media
from erray.corpora.name_groups import guess_group
from erray.corpora.rows import BadRows
from erray.errors import UserError
from erray.labels import LabelSet
from erray.records import Clip
from erray.store import csv_text, replacing

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Name of a folder, in any case, to the split that it is."""
_COLUMNS = ("clip_id", "media", "split", "group", "label", "transcript")


class _Place(NamedTuple):
    """What the folders of a film say; an empty group: nothing of it."""

    label: str
    split: str
    group: str


@dataclass(frozen=True)
class LabelFolders:
    """What lies below a folder.

    Attributes:
        clips: the films in the order of their paths; without folders of splits not yet split.
        others: files that are neither films nor what is said in one, as paths below the folder.
        guessed: the pattern that found the groups in the films' names where nobody gave one.
    """

    clips: list[Clip]
    others: list[str]
    guessed: re.Pattern[str] | None


def read_label_folders(
    root: Path, labels: LabelSet, *, group: re.Pattern[str] | None = None
) -> LabelFolders:
    """Find the films below ``root``; hidden files and folders are passed over.

    Args:
        group: searched for in a film's path below ``root`` without its suffix; what its first
            parenthesis finds is the group. None: the folders that are neither class nor split;
            where no film lies in such, what :func:`erray.corpora.name_groups.guess_group`
            finds; or the film itself.

    Raises:
        UserError: no folder, no films, or films that have no class, two, or no group, or stand
            outside the splits' folders: the first ten of them.
    """
    if not root.is_dir():
        raise UserError(f"expected a folder of films, {str(root)!r} is none")
    if group is not None and group.groups != 1:
        raise UserError(f"the pattern {group.pattern!r} of groups needs one parenthesis (...)")
    names = sorted(path.relative_to(root).as_posix() for path in _visible_files(root))
    films = [name for name in names if PurePosixPath(name).suffix.lower() in FILM_SUFFIXES]
    if not films:
        raise UserError(f"{root} holds no film: expected files that end in {_words(FILM_SUFFIXES)}")
    bad = BadRows(root)
    places = _places(films, labels, bad)
    guessed = None
    if group is None and not any(place.group for place in places.values()):
        class_of = {name: place.label for name, place in places.items()}
        guessed = guess_group(class_of, other_words=SPLIT_FOLDERS)
    ids = dict(zip(films, clip_ids(films), strict=True))
    clips = _clips(root, ids, places, group or guessed, bad)
    bad.refuse()
    spoken = [clip.media for clip in clips if clip.transcript is not None]
    said = {str(PurePosixPath(name).with_suffix(".txt")) for name in spoken}
    return LabelFolders(clips, sorted(set(names) - set(films) - said), guessed)


def write_manifest(path: Path, clips: Iterable[Clip]) -> None:
    """Write ``clips`` as a manifest, a row for each; under a hidden name first, so that a kill
    leaves no half of one.

    Raises:
        UserError: the file is there: it may have been corrected by hand; or it cannot be written.
    """
    text = csv_text(_COLUMNS, ([getattr(clip, name) for name in _COLUMNS] for clip in clips))
    with replacing(path, only_new=True) as hidden:
        hidden.write_text(text, encoding="utf-8")


def _visible_files(root: Path) -> Iterable[Path]:
    for path in root.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.is_file() and not hidden:
            yield path


def _places(films: Iterable[str], labels: LabelSet, bad: BadRows) -> dict[str, _Place]:
    """What the folders of every film say; films of which they do not say enough are ``bad``."""
    places = {}
    for name in films:
        try:
            places[name] = _place(name, labels)
        except ValueError as error:
            bad.add(name, error)
    outside = [name for name, place in places.items() if place.split == UNSPLIT]
    if len(outside) < len(places):
        for name in outside:
            bad.add(name, "expected it in a folder of a split (train, val, test), as other films")
    return places


def _place(name: str, labels: LabelSet) -> _Place:
    folders = PurePosixPath(name).parent.parts
    found = [folder for folder in folders if folder in labels.names]
    if len(found) != 1:
        expected = f"one folder that is called as a class of {labels.name} ({_words(labels.names)})"
        raise ValueError(f"expected {expected}, found {_words(found or folders) or 'no folder'}")
    splits = [folder for folder in folders if folder.lower() in SPLIT_FOLDERS]
    if len(splits) > 1:
        raise ValueError(f"expected one folder that is called as a split, found {_words(splits)}")
    split = SPLIT_FOLDERS[splits[0].lower()] if splits else UNSPLIT
    others = [folder for folder in folders if folder not in (*found, *splits)]
    return _Place(found[0], split, "/".join(others))


def _clips(
    root: Path,
    ids: Mapping[str, str],
    places: Mapping[str, _Place],
    pattern: re.Pattern[str] | None,
    bad: BadRows,
) -> list[Clip]:
    clips = []
    for name, place in places.items():
        try:
            group = place.group or name if pattern is None else _group(name, pattern)
            resolve_media(str(root), name)
            said = _transcript(root / name)
        except ValueError as error:
            bad.add(name, error)
            continue
        clips.append(Clip(ids[name], name, place.split, group, label=place.label, transcript=said))
    return clips


def _group(name: str, pattern: re.Pattern[str]) -> str:
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
