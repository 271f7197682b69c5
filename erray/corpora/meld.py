"""MELD: utterances of a television series, from its CSV files and its folders of cut clips.

``StartTime`` and ``EndTime`` are times in the episode, never cuts: the clip files are cut already.
Their difference is the length that the corpus states. Dialogue and utterance numbers restart in
every split, so ids and groups begin with MELD's own name of the split (train, dev, test), whatever
erray calls it (train, val, test).

Left out: two clips known to be bad, and under ``protocol: strict`` the train utterances whose time
span in their episode repeats one of dev or test.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from erray.config import Corpus
from erray.corpora.clips import CorpusClips, some
from erray.corpora.media_root import corpus_root
from erray.corpora.rows import BadRows, check_width, csv_rows
from erray.errors import UserError
from erray.records import Clip

SPLITS = {"train": "train", "dev": "val", "test": "test"}
"""MELD's name of a split to erray's."""

MAX_UTTERANCE_S = 60.0
"""No real utterance is longer than 41.04 s; the two spans above it, of 235 and 305 s, are wrong."""

_FOLDERS = {
    "train": ("train", "train_splits"),
    "dev": ("dev", "dev_splits_complete"),
    "test": ("test", "output_repeated_splits_test"),
}
_COLUMNS = (
    "Utterance",
    "Emotion",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
)
_EMOTIONS = {
    "neutral": "Neutral",
    "joy": "Happiness",
    "surprise": "Surprise",
    "fear": "Fear",
    "anger": "Anger",
    "disgust": "Disgust",
    "sadness": "Sadness",
}
_KNOWN_BAD = frozenset({"train/dia125_utt3", "dev/dia110_utt7"})
# Code points of Windows' characters that the files carry as they are, and two of Unicode's.
_CLEANED = str.maketrans(
    {0x92: "'", 0x2019: "'", 0x2026: "..."}
    | dict.fromkeys((0x85, 0x97, 0x91, 0x93, 0x94, 0x96, 0xA0), " ")
)


@dataclass(frozen=True)
class _Utterance:
    """A clip, and its season, episode, start and end there; None without times."""

    clip: Clip
    episode_span: tuple[str, str, float, float] | None


def read_meld(config: Corpus) -> CorpusClips:
    """Read ``{train,dev,test}_sent_emo.csv``.

    Raises:
        UserError: a file or column is missing, or bad rows: each with its line number.
    """
    folder = corpus_root(config) / (config.annotations or "")
    utterances = {split: _read_split(config, folder, split) for split in SPLITS}
    held_out = {
        utterance.episode_span: utterance.clip.clip_id
        for split in ("dev", "test")
        for utterance in utterances[split]
        if utterance.episode_span is not None
    }
    clips: list[Clip] = []
    excluded: list[tuple[Clip, str]] = []
    for split, found in utterances.items():
        for utterance in found:
            clip = utterance.clip
            span = utterance.episode_span if split == "train" else None
            twin = held_out.get(span) if span is not None else None
            if clip.clip_id in _KNOWN_BAD:
                excluded.append((clip, "excluded_known_bad: MELD's file of this clip is broken"))
            elif twin is not None and config.protocol == "strict":
                excluded.append((clip, f"excluded_repeated: the same time span as {twin}"))
            else:
                clips.append(clip)
    return CorpusClips(clips, excluded, _warnings(clips))


def check_media_folders(config: Corpus) -> None:
    """Refuse a corpus without its folders of clips.

    Raises:
        UserError: a split has no folder; the names that were looked for are listed.
    """
    root = corpus_root(config)
    missing = [
        f"{split}: {' or '.join(f'{name}/' for name in names)}"
        for split, names in _FOLDERS.items()
        if not any((root / name).is_dir() for name in names)
    ]
    if missing:
        raise UserError(
            f"MELD's clips are not in {root}: expected a folder for {'; for '.join(missing)}, each "
            f"with files such as dia0_utt0.mp4: set corpus.root (text alone needs no files, only "
            f"corpus.clock_hz)"
        )


def clean_transcript(text: str) -> str:
    """Replace the characters that MELD's files carry over from another encoding."""
    return text.translate(_CLEANED)


def _read_split(config: Corpus, folder: Path, split: str) -> list[_Utterance]:
    path = folder / f"{split}_sent_emo.csv"
    if not path.is_file():
        raise UserError(
            f"no {path}: expected {', '.join(f'{s}_sent_emo.csv' for s in SPLITS)} in "
            f"{folder}: set corpus.annotations to their folder"
        )
    media = next((n for n in _FOLDERS[split] if (Path(config.root) / n).is_dir()), split)
    utterances: list[_Utterance] = []
    bad_rows = BadRows(path)
    for where, row in csv_rows(path, lambda names: _check_header(path, names)):
        try:
            check_width(row)
            utterances.append(_utterance(row, split, media))
        except ValueError as error:
            bad_rows.add(where, error)
    bad_rows.refuse()
    return utterances


def _check_header(path: Path, found: Sequence[str]) -> None:
    missing = [name for name in _COLUMNS if name not in found]
    if missing:
        raise UserError(f"{path}: missing columns: {', '.join(missing)}")


def _utterance(row: Mapping[str, str], split: str, media: str) -> _Utterance:
    dialogue, number = (_number(row, name) for name in ("Dialogue_ID", "Utterance_ID"))
    emotion = row["Emotion"].strip()
    if emotion not in _EMOTIONS:
        raise ValueError(f"Emotion is {emotion!r}, expected one of {', '.join(_EMOTIONS)}")
    start_s, end_s = _episode_time_s(row["StartTime"]), _episode_time_s(row["EndTime"])
    duration_s, episode_span = None, None
    if start_s is not None and end_s is not None:
        episode_span = (row["Season"].strip(), row["Episode"].strip(), start_s, end_s)
        duration_s = round(end_s - start_s, 3)
    if duration_s is not None and not 0 < duration_s <= MAX_UTTERANCE_S:
        duration_s = None
    name = f"dia{dialogue}_utt{number}"
    clip = Clip(
        clip_id=f"{split}/{name}",
        media=f"{media}/{name}.mp4",
        split=SPLITS[split],
        group=f"{split}/dia{dialogue}",
        label=_EMOTIONS[emotion],
        transcript=clean_transcript(row["Utterance"]),
        duration_s=duration_s,
    )
    return _Utterance(clip, episode_span)


def _number(row: Mapping[str, str], name: str) -> int:
    if not re.fullmatch(r"[0-9]+", row[name].strip()):
        raise ValueError(f"{name} is {row[name]!r}, expected a number")
    return int(row[name])


def _episode_time_s(text: str) -> float | None:
    """Seconds of a subtitle's time: hours, minutes, seconds, and milliseconds behind the comma."""
    found = re.fullmatch(r"([0-9]+):([0-9]{2}):([0-9]{2}),([0-9]{1,3})", text.strip())
    if not found:
        return None
    hours, minutes, seconds, milliseconds = map(int, found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _warnings(clips: Sequence[Clip]) -> list[str]:
    unknown = [clip.clip_id for clip in clips if clip.duration_s is None]
    if not unknown:
        return []
    return [
        f"{len(unknown)} utterances have wrong times in the CSV (none, an end that is not after "
        f"the start, or more than {MAX_UTTERANCE_S:.0f} s), so their stated length is unknown: "
        f"{some(unknown)}"
    ]
