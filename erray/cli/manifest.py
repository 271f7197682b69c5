"""``erray corpus manifest``: films in folders to a manifest, with splits."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer

from erray.cli.display import print_json, print_plainly, say_plainly, table
from erray.cli.options import JsonOption
from erray.errors import UserError

if TYPE_CHECKING:
    from erray.corpora.label_folders import LabelFolders
    from erray.records import Clip

MANIFEST = "manifest.csv"
_SPLITS = ("train", "val", "test")
_SHARES = "60/20/20"


def manifest(
    folder: Annotated[Path, typer.Argument(help="Folder of the films, in folders per class.")],
    labels: Annotated[str, typer.Option(help="Label set: basic7, cexpr7 or cexpr8.")] = "basic7",
    shares: Annotated[
        str | None,
        typer.Option(
            metavar="TRAIN/VAL/TEST",
            help=f"Percent of the films of each split, {_SHARES} if left out. Not for films in "
            "folders called train, val and test.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Finds the group in a film's path, as its (parenthesis); if left out, the "
            "folders that are neither class nor split, or a part that the films' names share.",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Another seed than 0 draws other splits.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write manifest.csv for a folder of films that lie in folders named after their class."""
    from erray.corpora.label_folders import read_label_folders, write_manifest
    from erray.corpora.shares import complete_splits
    from erray.labels import LABEL_SETS

    if labels not in LABEL_SETS:
        raise UserError(f"--labels {labels}: expected one of {', '.join(LABEL_SETS)}")
    found = read_label_folders(folder, LABEL_SETS[labels], group=_pattern(group))
    _say_all(_about_groups(found))  # before splits are drawn: too few groups are refused then
    given = {clip.split for clip in found.clips} & set(_SPLITS)
    if "val" in given and (shares, seed) != (None, None):
        raise UserError("--shares and --seed draw nothing: the films lie in folders of splits")
    clips = complete_splits(found.clips, _shares(shares or _SHARES), seed=seed or 0)
    write_manifest(folder / MANIFEST, clips)
    warnings = _warnings(clips)
    _show_manifest(clips, found.others, LABEL_SETS[labels].names)
    if given:
        drawn = "" if "val" in given else "; val was drawn from the films of train"
        print_plainly(f"splits: those of the folders{drawn}")
    _say_all(warnings)
    print_plainly(f"Manifest: {folder / MANIFEST}")
    if as_json:
        print_json(
            _counts(clips)
            | {"manifest": str(folder / MANIFEST), "others": found.others}
            | {"guessed_group": found.guessed and found.guessed.pattern, "warnings": warnings}
        )


def _say_all(lines: list[str]) -> None:
    for line in lines:
        say_plainly(line)


def _about_groups(found: LabelFolders) -> list[str]:
    if found.guessed is None:
        return []
    clip = found.clips[0]
    num_groups = len({clip.group for clip in found.clips})
    return [
        f"groups: {num_groups} found in the films' names, such as {clip.group} in "
        f"{PurePosixPath(clip.media).stem}; --group REGEX finds others"
    ]


def _warnings(clips: list[Clip]) -> list[str]:
    """What may make the scores of such a corpus too high."""
    splits_of: dict[str, set[str]] = {}
    for clip in clips:
        splits_of.setdefault(clip.group, set()).add(clip.split)
    across = [group for group, splits in splits_of.items() if len(splits) > 1]
    if across:
        where = " and ".join(sorted(splits_of[across[0]]))
        return [
            f"warning: {len(across)} of {len(splits_of)} groups are in several splits, such as "
            f"{across[0]} in {where}, which `erray corpus check` refuses: move their films, or "
            f"where the name means different people, find the groups with --group REGEX"
        ]
    if len(splits_of) == len(clips):
        return [
            "warning: no two films share a group, so one person may be in train and in test, and "
            "scores too high: put the films into a folder per person, or find the person in their "
            "names with --group REGEX"
        ]
    return []


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        raise UserError(f"--group {text!r}: expected a regular expression: {error}") from None


def _shares(text: str) -> dict[str, float]:
    """The share of every split; one of 0 % is none."""
    parts = text.split("/")
    if not all(part.strip().isdecimal() for part in parts) or len(parts) != len(_SPLITS):
        raise UserError(f"--shares {text}: expected three whole numbers, such as 60/20/20")
    percent = dict(zip(_SPLITS, map(int, parts), strict=True))
    if sum(percent.values()) != 100 or 0 in (percent["train"], percent["val"]):
        raise UserError(
            f"--shares {text}: expected numbers that add up to 100, train and val above 0"
        )
    return {split: value / 100 for split, value in percent.items() if value}


def _counts(clips: list[Clip]) -> dict[str, Any]:
    """Clips and groups, and clips of every class in every split."""
    by_class: dict[str, Counter[str]] = {}
    for clip in clips:
        by_class.setdefault(str(clip.label), Counter())[clip.split] += 1
    num_groups = len({clip.group for clip in clips})
    return {"clips": len(clips), "groups": num_groups, "classes": by_class}


def _show_manifest(clips: list[Clip], others: list[str], names: tuple[str, ...]) -> None:
    counts = _counts(clips)
    num_said = sum(clip.transcript is not None for clip in clips)
    print_plainly(
        f"{counts['clips']} films of {counts['groups']} groups, {num_said} with their words"
    )
    splits = [split for split in _SPLITS if any(clip.split == split for clip in clips)]
    by_class = counts["classes"]
    rows = [[name, *(str(by_class[name][s]) for s in splits)] for name in names if name in by_class]
    table("", ["class", *splits], rows)
    if absent := [name for name in names if name not in by_class]:
        print_plainly(f"without films: {', '.join(absent)}")
    if others:
        more = "" if len(others) == 1 else f" and {len(others) - 1} more"
        print_plainly(f"left out, no films: {others[0]}{more}")
