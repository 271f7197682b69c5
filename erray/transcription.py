"""Transcripts that a recogniser wrote: which clips need one, the table of them, and the join.

A row's key is made of the medium's content, the span and the recogniser (settings, weights,
version): another model writes other rows. A medium that cannot be read gets no row; the extraction
is where it is rejected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from erray.config import Transcribe, fingerprint
from erray.corpora.media_root import resolve_media
from erray.errors import MediaError, UserError
from erray.media import Decoder, Waveform
from erray.records import Clip, Word
from erray.speech import Recognition, WhisperConfig, WhisperRecogniser, timed_words
from erray.speech.whisper import NOTHING_SAID, RATE_HZ, require_package
from erray.store import Table, row_key


class Recogniser(Protocol):
    """What :class:`erray.speech.WhisperRecogniser` is."""

    def __call__(self, wave: Waveform) -> Recognition: ...


@dataclass(frozen=True)
class Transcribed:
    """Counts of a transcription: wanted = known before + written + unreadable."""

    wanted: int
    written: int
    unreadable: int


def make_recogniser(settings: Transcribe) -> WhisperRecogniser:
    """Return the recogniser of the recipe's section; its model is named."""
    assert settings.model is not None
    return WhisperRecogniser(
        WhisperConfig(settings.model, settings.language, settings.beam_size, settings.device)
    )


def require_recogniser(settings: Transcribe) -> None:
    """See that speech can be recognised here, without loading the model.

    Raises:
        UserError: the section names no model, it is not on this machine, or the extra is missing.
    """
    if settings.model is None:
        raise UserError(
            "transcribe.model is not set: name a model of faster-whisper, "
            "-o transcribe.model=Systran/faster-whisper-small, or its folder"
        )
    recogniser_fingerprint(make_recogniser(settings))
    require_package()


def recogniser_fingerprint(recogniser: WhisperRecogniser) -> str:
    """Return the name of all that shapes a transcript besides the sound.

    Raises:
        UserError: the model is not on this machine.
    """
    return fingerprint(
        {
            "version": recogniser.version,
            "weights": recogniser.weights_sha256,
            "language": recogniser.config.language,
            "beam_size": recogniser.config.beam_size,
        }
    )


def needs_words(clip: Clip) -> bool:
    """Whether somebody may speak in the clip, and nobody knows when; its medium is there."""
    return clip.words is None and clip.transcript != "" and clip.file_sha256 is not None


def transcript_key(print_: str, clip: Clip) -> str:
    """Return the key of a clip's transcript by the recogniser with the fingerprint ``print_``."""
    return row_key(print_, clip.file_sha256, clip.start_s, clip.end_s)


def transcribe(
    clips: Iterable[Clip],
    *,
    root: str,
    table: Table,
    recogniser: Recogniser,
    print_: str,
    decoder: Decoder,
    shard_clips: int,
    on_clip: Callable[[int, int], None],
) -> Transcribed:
    """Recognise what is wanted and not in the table yet; a shard every ``shard_clips`` clips.

    Args:
        root: the corpus root.
        print_: the recogniser's fingerprint.
        on_clip: told how many clips of how many are through.
    """
    wanted = {transcript_key(print_, clip): clip for clip in clips if needs_words(clip)}
    known = set(table.read(columns=["key"], where={"fingerprint": print_})["key"].to_pylist())
    todo = [(key, clip) for key, clip in wanted.items() if key not in known]
    written = unreadable = 0
    for first in range(0, len(todo), shard_clips):
        rows = []
        for key, clip in todo[first : first + shard_clips]:
            try:
                heard = _heard(recogniser, decoder, root, clip)
            except MediaError:
                unreadable += 1
            else:
                rows.append(_row(key, print_, clip, heard))
            on_clip(written + unreadable + len(rows), len(todo))
        table.write_shard(rows, keys=[row["key"] for row in rows])
        written += len(rows)
    return Transcribed(len(wanted), written, unreadable)


def with_words(clips: Sequence[Clip], table: Table, print_: str) -> tuple[list[Clip], int]:
    """Return the clips with what the table knows of them, and how many still need words.

    A transcript of the corpus stays as it is and gets times; one that is unknown is replaced.
    """
    keys = [transcript_key(print_, clip) for clip in clips if needs_words(clip)]
    rows = {row["key"]: row for row in table.read(keys=keys).to_pylist()} if keys else {}
    joined, lacking = [], 0
    for clip in clips:
        row = rows.get(transcript_key(print_, clip)) if needs_words(clip) else None
        lacking += needs_words(clip) and row is None
        joined.append(clip if row is None else _joined(clip, row))
    return joined, lacking


def _heard(recogniser: Recogniser, decoder: Decoder, root: str, clip: Clip) -> Recognition:
    wave = decoder.waveform(
        resolve_media(root, clip.media), start_s=clip.start_s, end_s=clip.end_s, rate_hz=RATE_HZ
    )
    # a medium without sound holds no words
    return NOTHING_SAID if wave is None or not len(wave.samples_N) else recogniser(wave)


def _row(key: str, print_: str, clip: Clip, heard: Recognition) -> dict[str, Any]:
    return {
        "clip_id": clip.clip_id,
        "fingerprint": print_,
        "key": key,
        "transcript": heard.transcript,
        "words": [
            {"text": word.text, "start_s": word.start_s, "end_s": word.end_s}
            for word in heard.words
        ],
        "language": heard.language,
    }


def _joined(clip: Clip, row: dict[str, Any]) -> Clip:
    heard = tuple(Word(**word) for word in row["words"])
    if clip.transcript is None:
        return replace(clip, transcript=row["transcript"], words=heard)
    return replace(clip, words=timed_words(clip.transcript, heard))
