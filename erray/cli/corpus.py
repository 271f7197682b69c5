"""Commands about the corpus of a recipe."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from erray.cli.display import (
    print_json,
    print_line,
    print_plainly,
    say_plainly,
    table,
    wrapped_table,
)
from erray.cli.options import JsonOption, OutOption, OverrideOption, RecipeOption, resolve
from erray.errors import UserError

if TYPE_CHECKING:
    from erray.corpora import CorpusClips
    from erray.corpora.findings import Finding
    from erray.corpora.label_folders import LabelFolders
    from erray.records import Clip

corpus_app = typer.Typer(help="Make a corpus of films, and look at it before it is extracted.")
MANIFEST = "manifest.csv"
_SPLITS = ("train", "val", "test")
_SHARES = "60/20/20"
_STYLES = {"error": "red", "warning": "yellow"}


@corpus_app.callback()
def corpus() -> None:
    """Make a corpus of films, and look at it before it is extracted."""


@corpus_app.command()
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


@corpus_app.command()
def check(
    recipe: RecipeOption,
    override: OverrideOption = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is wrong with a corpus. Exit code 2 where an extraction would refuse it."""
    from erray.corpora.check import check_corpus
    from erray.corpora.findings import ERROR
    from erray.flow.corpus import recipe_corpus

    loaded, folder = resolve(recipe, override, out)
    found = recipe_corpus(loaded, folder)
    findings = check_corpus(loaded.corpus, found)
    _show(found, findings)
    if as_json:
        print_json(_result(found, findings))
    if any(finding.level == ERROR for finding in findings):
        raise typer.Exit(2)


def _show(corpus: CorpusClips, findings: list[Finding]) -> None:
    splits = Counter(clip.split for clip in corpus.clips)
    shares = ", ".join(f"{split} {count}" for split, count in splits.items())
    groups = len({clip.group for clip in corpus.clips})
    print_line(f"[bold]{len(corpus.clips)}[/] clips ({shares}) of {groups} groups")
    _show_media(corpus)
    for count, reason in _reasons(corpus):
        print_plainly(f"{count} left out, {reason}")
    if corpus.holdout:
        print_plainly(corpus.holdout)
    if not findings:
        print_line("[green]nothing is wrong")
        return
    columns = ["level", "finding", "count", "what, and what to do"]
    wrapped_table(columns, [_row(finding) for finding in findings])


def _show_media(corpus: CorpusClips) -> None:
    if corpus.media is None:
        print_line("no stream reads the media: they were not looked at")
        return
    there = [medium for medium in corpus.media.values() if medium is not None]
    minutes = sum(medium.duration_s or 0.0 for medium in there) / 60
    num_mb = sum(medium.num_bytes for medium in there) / 1e6
    print_line(
        f"{len(there)} of {len(corpus.media)} media are there: {num_mb:.1f} MB, {minutes:.1f} min"
    )


def _row(finding: Finding) -> list[Text]:
    words = Text(finding.words())
    if finding.advice:
        words.append(f"\n{finding.advice}", style="dim")
    level = Text(finding.level, style=_STYLES[finding.level])
    return [level, Text(finding.code), Text(str(finding.count)), words]


def _reasons(corpus: CorpusClips) -> list[tuple[int, str]]:
    """How many clips are left out for which reason, with the words of the first of them."""
    codes = Counter(reason.partition(":")[0] for _, reason in corpus.excluded)
    first = {reason.partition(":")[0]: reason for _, reason in reversed(corpus.excluded)}
    return [(count, first[code]) for code, count in codes.items()]


def _result(corpus: CorpusClips, findings: list[Finding]) -> dict[str, Any]:
    return {
        "clips": dict(Counter(clip.split for clip in corpus.clips)),
        "holdout": corpus.holdout,
        "excluded": [{"clip_id": clip.clip_id, "reason": why} for clip, why in corpus.excluded],
        "findings": [asdict(finding) for finding in findings],
    }
