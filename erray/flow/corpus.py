"""The corpus of a recipe: its clips, and what their media hold."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from erray.config import Recipe
from erray.corpora import CorpusClips, read_corpus
from erray.corpora.scan import header_probe
from erray.plan import Plan
from erray.store import RunFolder
from erray.transcription import make_recogniser, recogniser_fingerprint, with_words


def recipe_corpus(recipe: Recipe, out: Path, *, touch: bool = True) -> CorpusClips:
    """Read the recipe's corpus; media that the run in ``out`` has seen are not read again.

    Where the recipe names a speech recogniser, clips take the words that it wrote for them.

    Args:
        touch: open media for their length, and keep what is found in ``out``; without, nothing on
            the disk changes.

    Raises:
        UserError: what the corpus' reader refuses; a recogniser that is not on this machine.
    """
    corpus = unheard_corpus(recipe, out, touch=touch)
    if recipe.transcribe.model is None:
        return corpus
    print_ = recogniser_fingerprint(make_recogniser(recipe.transcribe))
    clips, lacking = with_words(corpus.clips, RunFolder.of(recipe, out).transcripts, print_)
    warnings = list(corpus.warnings)
    if lacking:
        warnings.append(f"{lacking} clips are not transcribed: run `erray transcribe` first")
    return replace(corpus, clips=clips, warnings=warnings)


def unheard_corpus(recipe: Recipe, out: Path, *, touch: bool = True) -> CorpusClips:
    """Read the recipe's corpus without what a recogniser wrote; see :func:`recipe_corpus`."""
    plan = Plan(recipe)
    # a recipe that names no streams yet may come to read the media, and a recogniser hears them
    needs_media = plan.reads_media or not recipe.streams or recipe.transcribe.model is not None
    with header_probe(plan.limits) if touch else nullcontext() as probe:
        return read_corpus(
            recipe.corpus,
            needs_media=needs_media,
            probe=probe,
            cache=out / "cache" / "media.parquet",
            keep=touch,
        )
