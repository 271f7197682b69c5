"""The annotation of C-EXPR-DB: a CSV file per source video, a row per span.

Ten columns: begin and end as hh:mm:ss.ms on the video's clock, then the seven compound classes in
the order of their numbers and Other, of which one is 1. Cells behind the last 1 may be left out or
blank. The spans are decoded in place; nothing is cut.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

from erray.corpora.clips import some
from erray.corpora.folds import UNSPLIT
from erray.corpora.media_root import find_medium
from erray.corpora.rows import BadRows, plain_csv_rows
from erray.labels import CEXPR_8
from erray.records import Clip

_NUM_COLUMNS = 2 + len(CEXPR_8)


def read_spans(root: str, paths: list[Path]) -> tuple[list[Clip], list[str]]:
    """Read the clips of every file; ids are as those of the published clips.

    Returns:
        The clips, and what somebody should know of them.

    Raises:
        UserError: bad rows, each with its line.
    """
    clips = [clip for path in paths for clip in _read_video(root, path)]
    overlapping = [
        clip.clip_id
        for before, clip in pairwise(clips)
        if before.group == clip.group and (clip.start_s or 0) < (before.end_s or 0)
    ]
    if not overlapping:
        return clips, []
    return clips, [
        f"{len(overlapping)} spans begin before the span above them ends, so that frames have two "
        f"labels: {some(overlapping)}"
    ]


def _read_video(root: str, path: Path) -> list[Clip]:
    video, clips = path.stem, list[Clip]()
    counts: Counter[str] = Counter()
    bad_rows = BadRows(path)
    for number, (where, cells) in enumerate(plain_csv_rows(path)):
        texts = [cell.strip() for cell in cells]
        if not any(texts) or (number == 0 and _is_header(texts)):
            continue
        try:
            start_s, end_s, label = _span(texts)
            name = label.replace(" ", "-")
            clips.append(
                Clip(
                    clip_id=f"{name}/{video}_{name}_{counts[label]}",
                    media=find_medium(root, [video, f"videos/{video}"]),
                    split=UNSPLIT,
                    group=video,
                    start_s=start_s,
                    end_s=end_s,
                    label=label,
                )
            )
            counts[label] += 1
        except ValueError as error:
            bad_rows.add(where, error)
    bad_rows.refuse()
    return clips


def _is_header(texts: list[str]) -> bool:
    return not any(character.isdigit() for text in texts for character in text)


def _span(texts: list[str]) -> tuple[float, float, str]:
    while texts and len(texts) > _NUM_COLUMNS and not texts[-1]:
        texts = texts[:-1]
    if not 2 < len(texts) <= _NUM_COLUMNS:
        raise ValueError(
            f"expected {_NUM_COLUMNS} columns (begin, end, the seven classes, Other), found "
            f"{len(texts)}"
        )
    flags = texts[2:]
    if set(flags) - {"", "0", "1"} or flags.count("1") != 1:
        raise ValueError(f"expected one 1 among {', '.join(CEXPR_8.names)}, found {flags}")
    return _seconds(texts[0]), _seconds(texts[1]), CEXPR_8.names[flags.index("1")]


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([0-9]+):([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]+)?)", text)
    if not found:
        raise ValueError(f"time is {text!r}, expected hh:mm:ss.ms")
    hours, minutes, seconds = found.groups()
    return round(int(hours) * 3600 + int(minutes) * 60 + float(seconds), 6)
