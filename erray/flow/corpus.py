"""The corpus of a recipe: its clips, and what their media hold."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from erray.config import Recipe
from erray.corpora import CorpusClips, read_corpus
from erray.corpora.scan import header_probe
from erray.plan import Plan


def recipe_corpus(recipe: Recipe, out: Path, *, touch: bool = True) -> CorpusClips:
    """Read the recipe's corpus; media that the run in ``out`` has seen are not read again.

    Args:
        touch: open media for their length, and keep what is found in ``out``; without, nothing on
            the disk changes.

    Raises:
        UserError: what the corpus' reader refuses.
    """
    plan = Plan(recipe)
    # a recipe that names no streams yet may come to read the media
    needs_media = plan.reads_media or not recipe.streams
    with header_probe(plan.limits) if touch else nullcontext() as probe:
        return read_corpus(
            recipe.corpus,
            needs_media=needs_media,
            probe=probe,
            cache=out / "cache" / "media.parquet",
            keep=touch,
        )
