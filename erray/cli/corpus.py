"""Commands about the corpus of a recipe."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from erray.cli.display import print_json, print_line, print_plainly, wrapped_table
from erray.cli.manifest import manifest
from erray.cli.options import JsonOption, OutOption, OverrideOption, RecipeOption, resolve

if TYPE_CHECKING:
    from erray.corpora import CorpusClips
    from erray.corpora.findings import Finding

corpus_app = typer.Typer(help="Make a corpus of films, and look at it before it is extracted.")
corpus_app.command()(manifest)
_STYLES = {"error": "red", "warning": "yellow"}


@corpus_app.callback()
def corpus() -> None:
    """Make a corpus of films, and look at it before it is extracted."""


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
    from erray.corpora.purpose import check_purpose
    from erray.flow.corpus import recipe_corpus
    from erray.flow.preflight import wordless_streams

    loaded, folder, _ = resolve(recipe, override, out)
    found = recipe_corpus(loaded, folder)
    findings = check_corpus(loaded.corpus, found)
    findings += check_purpose(
        found.clips,
        training=None,
        predicted=loaded.predict.split,
        text=wordless_streams(loaded),
    )
    findings.sort(key=lambda finding: finding.level != ERROR)
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
