"""Before step 1: speech to words, for clips whose corpus does not know them or their times."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from erray.flow.context import Flow
from erray.flow.corpus import unheard_corpus
from erray.media import Decoder
from erray.store import hold
from erray.transcription import (
    make_recogniser,
    recogniser_fingerprint,
    require_recogniser,
    transcribe,
)

_SAY_EVERY_CLIPS = 100


def transcribe_step(flow: Flow) -> dict[str, Any]:
    """Bring the table of transcripts up to date; return counts of clips.

    Raises:
        UserError: the recipe names no model, it is not on this machine, or the extra is missing;
            another process writes to the tables.
    """
    settings = flow.recipe.transcribe
    require_recogniser(settings)
    recogniser = make_recogniser(settings)

    def on_clip(through: int, total: int) -> None:
        if through % _SAY_EVERY_CLIPS == 0 or through == total:
            flow.say(f"transcribed {through} of {total} clips")

    with (
        hold(flow.tables.root),
        flow.record.time("transcribe"),
        Decoder(flow.plan.limits) as decoder,
    ):
        counts = transcribe(
            unheard_corpus(flow.recipe, flow.out).clips,
            root=flow.recipe.corpus.root,
            table=flow.tables.transcripts,
            recogniser=recogniser,
            print_=recogniser_fingerprint(recogniser),
            decoder=decoder,
            shard_clips=flow.recipe.extract.shard_clips,
            on_clip=on_clip,
        )
    return asdict(counts)
