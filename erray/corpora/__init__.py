"""Corpora: one file per corpus; each reader returns the clips of its corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from erray.config import Corpus
from erray.corpora.cexpr import read_cexpr
from erray.corpora.challenge import read_challenge
from erray.corpora.clips import CorpusClips
from erray.corpora.holdout import set_apart
from erray.corpora.manifest import read_manifest
from erray.corpora.meld import check_media_folders, read_meld
from erray.corpora.scan import Probe, ScannedMedium, scan_media
from erray.records import Clip

READERS: dict[str, Callable[[Corpus], CorpusClips]] = {
    "manifest": read_manifest,
    "meld": read_meld,
    "cexpr": read_cexpr,
    "cexpr-challenge": read_challenge,
}


def read_corpus(
    config: Corpus,
    *,
    needs_media: bool,
    probe: Probe | None = None,
    cache: Path | None = None,
    keep: bool = True,
) -> CorpusClips:
    """Read the corpus, set its holdout apart, and, if anything needs its media, see what they hold.

    Args:
        config: the recipe's corpus.
        needs_media: a stream reads media; without, files are neither hashed nor missed.
        probe: reads the length in a medium's header; None: lengths stay unknown.
        cache: file of what was scanned before.
        keep: write what is scanned now to ``cache``.

    Returns:
        Clips with the sha256 of their medium's content, None where it is missing or not needed.

    Raises:
        UserError: what the corpus' reader refuses, for instance bad rows with line numbers.
    """
    corpus = READERS[config.kind](config)
    clips, holdout = set_apart(config, corpus.clips)
    corpus = replace(corpus, clips=clips, holdout=holdout)
    if not needs_media:
        return corpus
    if config.kind == "meld":
        check_media_folders(config)
    names = {clip.media for clip in corpus.clips} | {clip.media for clip, _ in corpus.excluded}
    media = scan_media(config.root, names, probe=probe, cache=cache, keep=keep)
    return replace(
        corpus,
        clips=[_with_hash(clip, media) for clip in corpus.clips],
        excluded=[(_with_hash(clip, media), reason) for clip, reason in corpus.excluded],
        media=media,
    )


def _with_hash(clip: Clip, media: dict[str, ScannedMedium | None]) -> Clip:
    medium = media[clip.media]
    return clip if medium is None else replace(clip, file_sha256=medium.sha256)
