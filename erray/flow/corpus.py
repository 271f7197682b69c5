"""The corpus of a recipe: its clips, what their media hold, and what is wrong with it."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from erray.config import Recipe
from erray.corpora import CorpusClips, read_corpus
from erray.corpora.scan import header_probe
from erray.encoders import make_encoder


def needs_media(recipe: Recipe) -> bool:
    """Whether a stream reads the media; a recipe that names no streams yet may come to."""
    modalities = {make_encoder(name, opts).modality for name, opts in recipe.streams.items()}
    return modalities != {"text"}


def recipe_corpus(recipe: Recipe, out: Path, *, touch: bool = True) -> CorpusClips:
    """Read the recipe's corpus; media that the run in ``out`` has seen are not read again.

    Args:
        touch: open media for their length, and keep what is found in ``out``; without, nothing on
            the disk changes.

    Raises:
        UserError: what the corpus' reader refuses.
    """
    with header_probe() if touch else nullcontext() as probe:
        return read_corpus(
            recipe.corpus,
            needs_media=needs_media(recipe),
            probe=probe,
            cache=out / "cache" / "media.parquet",
            keep=touch,
        )
