"""The compound expression challenge (ABAW-7): unlabelled videos, from the list of their frames.

The list has a line ``<video>/<frame>.jpg`` for every frame that a submission must classify, frames
counted from 1 in presentation order. The clip is the whole video, its id the name in the list, so
that a submission's rows name the frames as the list does.
"""

from __future__ import annotations

import re

from erray.config import Corpus
from erray.corpora.clips import CorpusClips
from erray.corpora.media_root import corpus_root, find_medium
from erray.corpora.rows import BadRows, text_lines
from erray.errors import UserError
from erray.records import Clip

SPLIT = "challenge"


def read_challenge(config: Corpus) -> CorpusClips:
    """Read the videos that the frame list names.

    Raises:
        UserError: no frame list, or bad lines: each with its number.
    """
    root = corpus_root(config)
    if config.annotations is None:
        raise UserError(
            "corpus.annotations is not set: give the organisers' list of frames, relative to "
            "corpus.root"
        )
    path = root / config.annotations
    if not path.is_file():
        raise UserError(
            f"no frame list at {path}: set corpus.annotations to the organisers' list of frames, "
            f"relative to corpus.root"
        )
    media: dict[str, str] = {}
    first_line: dict[str, str] = {}
    bad_rows = BadRows(path)
    for where, line in text_lines(path):
        try:
            frame, video = _frame(line)
            if frame in first_line:
                raise ValueError(f"{frame} repeats {first_line[frame]}")
            if video not in media:
                media[video] = find_medium(config.root, [video, f"videos/{video}"])
            first_line[frame] = where
        except ValueError as error:
            bad_rows.add(where, error)
    bad_rows.refuse()
    if not media:
        raise UserError(f"{path}: expected lines such as videos/01/00001.jpg, found none")
    return CorpusClips(
        [
            Clip(clip_id=video, media=medium, split=SPLIT, group=video)
            for video, medium in media.items()
        ]
    )


def _frame(line: str) -> tuple[str, str]:
    text = line.strip()
    found = re.fullmatch(r"(?P<video>.+)/[0-9]{5,}\.jpg", text)
    if not found:
        raise ValueError(f"{text!r} is not <video>/<frame, 5 digits>.jpg")
    return text, found["video"]
