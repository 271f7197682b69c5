"""Corpora: one file per corpus; each reader returns the clips of its corpus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from erray.config import Corpus
from erray.corpora.manifest import read_manifest
from erray.corpora.media_root import file_sha256s
from erray.records import Clip

READERS: dict[str, Callable[[Corpus], list[Clip]]] = {"manifest": read_manifest}


def read_clips(config: Corpus) -> list[Clip]:
    """Read the corpus and add the sha256 of every medium's content (None where it is missing).

    Raises:
        UserError: what the corpus' reader refuses, for instance bad rows with line numbers.
    """
    clips = READERS[config.kind](config)
    sha256s = file_sha256s(config.root, {clip.media for clip in clips})
    return [replace(clip, file_sha256=sha256s[clip.media]) for clip in clips]
