"""C-EXPR-DB: compound expressions, from the published split files or from the annotation itself.

The annotation folder holds one of the two:

- ``split-<k>/{train,val,test}.txt``, a line per cut clip: id, class number, transcript; and
  ``class_id.yaml``, class name to number. An id such as ``Sadly-Fearful/24_Sadly-Fearful_0`` names
  the class, the source video and a number.
- ``<video>.csv``, one per source video: see :mod:`erray.corpora.cexpr_spans`.

The group is the source video. ``protocol: strict`` makes grouped folds of all clips; ``published``
takes a split folder as it is and says what leaks.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import yaml

from erray.config import Corpus
from erray.corpora.cexpr_spans import read_spans
from erray.corpora.clips import CorpusClips
from erray.corpora.folds import UNSPLIT, grouped_fold
from erray.corpora.media_root import corpus_root, resolve_media
from erray.corpora.rows import BadRows, text_lines
from erray.errors import UserError
from erray.labels import CEXPR_8
from erray.records import Clip

_OTHER = "Other"
_SPLITS = ("train", "val", "test")


def read_cexpr(config: Corpus) -> CorpusClips:
    """Read the clips and their splits.

    Raises:
        UserError: neither kind of annotation or both, ``protocol: published`` without split
            files, a fold that is not there, too few source videos, or bad rows.
    """
    folder = _annotations(config)
    split_folders = _split_folders(folder)
    spans = sorted(folder.glob("*.csv"))
    if bool(split_folders) == bool(spans):
        found = "both" if spans else "neither"
        raise UserError(
            f"{folder}: expected the published split folders (split-0/train.txt ...) or the "
            f"annotation files (<video>.csv), found {found}: set corpus.annotations"
        )
    if config.protocol == "published":
        return _published(config, folder, split_folders)
    if spans:
        clips, warnings = read_spans(config.root, spans)
    else:
        clips, warnings = _unsplit(config, folder, split_folders), []
    used, excluded = _without_other(config, clips)
    return CorpusClips(
        grouped_fold(used, fold=config.fold, num_folds=config.num_folds), excluded, warnings
    )


def fold_numbers(config: Corpus) -> list[int]:
    """Every number that ``corpus.fold`` may be: those made, or the published split folders."""
    if config.protocol == "strict":
        return list(range(config.num_folds))
    return sorted(_split_folders(_annotations(config)))


def _annotations(config: Corpus) -> Path:
    return corpus_root(config) / (config.annotations or "")


def _split_folders(folder: Path) -> dict[int, Path]:
    return {
        int(path.name.removeprefix("split-")): path
        for path in folder.glob("split-*")
        if path.name.removeprefix("split-").isdecimal()
    }


def _published(config: Corpus, folder: Path, split_folders: dict[int, Path]) -> CorpusClips:
    if not split_folders:
        raise UserError(
            f"protocol published needs the published split folders, found annotation files in "
            f"{folder}: set corpus.protocol to strict"
        )
    if config.fold not in split_folders:
        known = ", ".join(map(str, sorted(split_folders)))
        raise UserError(f"corpus.fold {config.fold}: {folder} has the folds {known}")
    names = _class_names(folder, split_folders[config.fold])
    splits = {
        split: _read_split(config, split_folders[config.fold] / f"{split}.txt", names, split)
        for split in _SPLITS
    }
    listed = {clip.clip_id for split in ("train", "val") for clip in splits[split]}
    # test.txt repeats val.txt: the same content under an id of its own, so that ids stay unique
    splits["test"] = [
        replace(clip, clip_id=f"{clip.clip_id}#test") if clip.clip_id in listed else clip
        for clip in splits["test"]
    ]
    used, excluded = _without_other(config, [clip for found in splits.values() for clip in found])
    return CorpusClips(used, excluded, [_leaks(used)])


def _unsplit(config: Corpus, folder: Path, split_folders: dict[int, Path]) -> list[Clip]:
    """Every clip that any of the split files lists, once."""
    clips: dict[str, Clip] = {}
    for number, split_folder in sorted(split_folders.items()):
        names = _class_names(folder, split_folder)
        for split in _SPLITS:
            for clip in _read_split(config, split_folder / f"{split}.txt", names, UNSPLIT):
                known = clips.setdefault(clip.clip_id, clip)
                if known.label != clip.label:
                    raise UserError(
                        f"{clip.clip_id} is {known.label} in one split file of {folder} and "
                        f"{clip.label} in split-{number}/{split}.txt: correct one"
                    )
    return list(clips.values())


def _read_split(config: Corpus, path: Path, names: dict[int, str], split: str) -> list[Clip]:
    if not path.is_file():
        raise UserError(
            f"no split file {path}: expected {', '.join(f'{s}.txt' for s in _SPLITS)} in "
            f"{path.parent}: copy it there, or set corpus.annotations to another folder"
        )
    clips: list[Clip] = []
    bad_rows = BadRows(path)
    for where, line in text_lines(path):
        try:
            clips.append(_clip(line, config.root, names, split))
        except ValueError as error:
            bad_rows.add(where, error)
    bad_rows.refuse()
    return clips


def _clip(line: str, root: str, names: dict[int, str], split: str) -> Clip:
    clip_id, *rest = (part if i == 2 else part.strip() for i, part in enumerate(line.split(",", 2)))
    if len(rest) != 2:
        raise ValueError("expected <clip_id>,<class number>,<transcript>")
    number, transcript = rest
    if not number.isdecimal() or int(number) not in names:
        known = ", ".join(map(str, sorted(names)))
        raise ValueError(f"class number is {number!r}, expected one of {known}")
    media = f"{clip_id}.mp4"
    resolve_media(root, media)
    return Clip(
        clip_id=clip_id,
        media=media,
        split=split,
        group=_source_video(clip_id),
        label=names[int(number)],
        transcript=transcript,
    )


def _source_video(clip_id: str) -> str:
    """``24`` of ``Sadly-Fearful/24_Sadly-Fearful_0``."""
    found = re.fullmatch(r"(?P<class>[^/]+)/(?P<video>.+)_(?P=class)_[0-9]+", clip_id)
    if not found:
        raise ValueError(
            f"clip id is {clip_id!r}, expected <class>/<source video>_<class>_<number>"
        )
    return found["video"]


def _class_names(*folders: Path) -> dict[int, str]:
    """Class number to name, from the first ``class_id.yaml`` there is."""
    path = next((f / "class_id.yaml" for f in folders if (f / "class_id.yaml").is_file()), None)
    if path is None:
        raise UserError(
            f"no class_id.yaml in {' or '.join(map(str, folders))}: copy it there from the "
            f"published split files"
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    known = {_plain(name): name for name in CEXPR_8.names}
    names = {}
    for name, number in data.items() if isinstance(data, dict) else ():
        if _plain(str(name)) not in known or not isinstance(number, int):
            raise UserError(
                f"{path}: {name!r}: {number!r}, expected a number for each of "
                f"{', '.join(CEXPR_8.names)}"
            )
        names[number] = known[_plain(str(name))]
    if len(set(names.values())) < len(CEXPR_8) - 1:
        raise UserError(f"{path}: expected a number for each of {', '.join(CEXPR_8.names)}")
    return names


def _plain(name: str) -> str:
    return re.sub(r"[-_\s]+", " ", name).strip().casefold()


def _without_other(config: Corpus, clips: list[Clip]) -> tuple[list[Clip], list[tuple[Clip, str]]]:
    if _OTHER in config.label_set.names:
        return clips, []
    reason = "excluded_other: the class Other is not in the label set cexpr7"
    return (
        [clip for clip in clips if clip.label != _OTHER],
        [(clip, reason) for clip in clips if clip.label == _OTHER],
    )


def _leaks(clips: list[Clip]) -> str:
    """What a score under the published protocol does not say about new videos."""
    groups = {split: {c.group for c in clips if c.split == split} for split in _SPLITS}
    val = [clip for clip in clips if clip.split == "val"]
    shared = sum(clip.group in groups["train"] for clip in val)
    repeated = {c.media for c in clips if c.split == "test"} & {c.media for c in val}
    num_test = sum(clip.split == "test" for clip in clips)
    return (
        f"protocol published leaks: {shared} of {len(val)} val clips share a source video with "
        f"train, and {len(repeated)} of {num_test} test clips are val clips, which choose the "
        f"epoch: scores are too high for videos that the model has not seen"
    )
