"""A corpus that is a CSV or Parquet file with a row per clip.

Columns: ``clip_id``, ``media`` (relative to the corpus root) and ``split`` are required;
``start_s``, ``end_s`` (seconds in the medium, empty: from its start, to its end), ``group``
(empty: the medium), ``label`` (empty: unlabelled), ``transcript`` (an empty field of a CSV is an
unknown transcript; Parquet tells null from the empty string), ``duration_s`` (length in seconds as
the corpus states it, empty: unknown) are optional.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from erray.config import Corpus
from erray.corpora.clips import CorpusClips
from erray.corpora.media_root import corpus_root, resolve_media
from erray.corpora.rows import BadRows, check_width, csv_rows
from erray.errors import UserError
from erray.labels import LabelSet
from erray.records import Clip

REQUIRED = ("clip_id", "media", "split")
OPTIONAL = ("start_s", "end_s", "group", "label", "transcript", "duration_s")
_TEXT_COLUMNS = ("clip_id", "media", "split", "group", "label", "transcript")


def read_manifest(config: Corpus) -> CorpusClips:
    """Read the manifest of ``config``.

    Raises:
        UserError: no root, no manifest, missing or unknown columns, or bad rows: each with its
            line number (CSV) or row number (Parquet) and reason.
    """
    path = _manifest_path(config)
    clips: list[Clip] = []
    bad_rows = BadRows(path)
    seen: dict[str, str] = {}
    for where, row in _rows(path):
        try:
            clip = _clip(row, config.root, config.label_set)
        except ValueError as error:
            bad_rows.add(where, error)
            continue
        if clip.clip_id in seen:
            bad_rows.add(where, f"clip_id {clip.clip_id!r} repeats {seen[clip.clip_id]}")
            continue
        seen[clip.clip_id] = where
        clips.append(clip)
    bad_rows.refuse()
    if not clips:
        raise UserError(f"{path}: expected at least one clip, found none")
    return CorpusClips(clips)


def _manifest_path(config: Corpus) -> Path:
    path = corpus_root(config) / config.manifest
    if path.suffix not in {".csv", ".parquet"}:
        raise UserError(f"corpus.manifest {config.manifest!r}: expected .csv or .parquet")
    if not path.is_file():
        raise UserError(
            f"no manifest at {path}: `erray corpus manifest {config.root}` makes one of films in "
            f"folders named after their class; or set corpus.manifest"
        )
    return path


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.suffix == ".csv":
        for where, fields in csv_rows(path, lambda names: _check_columns(path, names)):
            yield where, {name: value or None for name, value in fields.items()}
        return
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"{path} is not a readable Parquet file: {detail}") from None
    _check_columns(path, table.column_names)
    for i, row in enumerate(table.to_pylist()):
        yield f"row {i + 1}", row


def _check_columns(path: Path, found: Sequence[str]) -> None:
    missing = [c for c in REQUIRED if c not in found]
    unknown = [str(c) for c in found if c not in (*REQUIRED, *OPTIONAL)]
    repeated = sorted({str(c) for c in found if list(found).count(c) > 1})
    if missing or unknown or repeated:
        raise UserError(
            f"{path}: missing columns: {', '.join(missing) or 'none'}; "
            f"unknown columns: {', '.join(unknown) or 'none'}; "
            f"repeated columns: {', '.join(repeated) or 'none'}; "
            f"expected {', '.join(REQUIRED)} and any of {', '.join(OPTIONAL)}"
        )


def _clip(row: Mapping[str, Any], root: str, labels: LabelSet) -> Clip:
    check_width(row)
    text = {name: _text(row.get(name), name) for name in _TEXT_COLUMNS}
    media = text["media"] or ""
    resolve_media(root, media)
    if text["label"]:
        labels.index(text["label"])
    return Clip(
        clip_id=text["clip_id"] or "",
        media=media,
        split=text["split"] or "",
        group=text["group"] or media,
        start_s=_seconds(row.get("start_s"), "start_s"),
        end_s=_seconds(row.get("end_s"), "end_s"),
        label=text["label"] or None,
        transcript=text["transcript"],
        duration_s=_seconds(row.get("duration_s"), "duration_s"),
    )


def _text(value: Any, name: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}, expected text")
    return value if value is None or name == "transcript" else value.strip()


def _seconds(value: Any, name: str) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value!r}, expected seconds") from None
    if not math.isfinite(seconds):
        raise ValueError(f"{name} is {value!r}, expected seconds")
    return seconds
