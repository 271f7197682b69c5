"""What a reader returns: the clips to use, and those it leaves out, so that none is just gone."""

from __future__ import annotations

from dataclasses import dataclass, field

from erray.corpora.scan import ScannedMedium
from erray.records import Clip


@dataclass(frozen=True)
class CorpusClips:
    """The clips of a corpus.

    Attributes:
        clips: what a run uses.
        excluded: clips that the corpus holds and the recipe or the reader leaves out, each with
            its reason: a code that begins with ``excluded_``, a colon, and words for people.
        warnings: what somebody should know of the corpus, a sentence each.
        media: file name relative to the root to what the file holds, None where there is no such
            file; None as a whole where no stream reads media.
        holdout: a line on what of val is set apart, see :mod:`erray.corpora.holdout`; empty
            without val.
    """

    clips: list[Clip]
    excluded: list[tuple[Clip, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    media: dict[str, ScannedMedium | None] | None = None
    holdout: str = ""


def some(names: list[str], *, limit: int = 3) -> str:
    """The first ``names``, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
