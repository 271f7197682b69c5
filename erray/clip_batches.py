"""Clips as the batches that workers take, made while they are worked on.

A million clips and their clocks are gigabytes, so nobody holds them all: rows are made from one
status shard at a time, batches from rows, and groups of batches go to the pool one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from erray.records import CLIP_SCHEMA, Clip
from erray.store import RunFolder, ShardPlaces

CLOCKED_SCHEMA = pa.schema(
    [
        *CLIP_SCHEMA,
        ("key", pa.string()),
        ("frame_times_s", pa.list_(pa.float64())),
        ("tracks_key", pa.string()),
        ("crops_shard", pa.string()),
    ]
)
"""Clip rows with the key of the stage at hand, the clip's clock, and where its crops lie."""

_SLICE_ROWS = 256  # clocks as Python numbers are four times as large
_BATCH_TICKS = 100_000  # an hour at 25 frames per second, and a little
_BATCH_S = 4_000.0  # of sound: 256 MB
_GROUP_BATCHES = 2_000
_GROUP_BYTES = 64 * 2**20

Row = dict[str, Any]


def clip_row(clip: Clip) -> Row:
    """Return the row of the clips table: ``dataclasses.asdict`` takes ten times as long."""
    row = {name: getattr(clip, name) for name in CLIP_SCHEMA.names}
    if clip.words is not None:
        row["words"] = [
            {"text": word.text, "start_s": word.start_s, "end_s": word.end_s} for word in clip.words
        ]
    return row


def clip_table(clips: Sequence[Clip]) -> pa.Table:
    """Return the clips table, column by column."""
    columns = {name: [getattr(clip, name) for clip in clips] for name in CLIP_SCHEMA.names}
    if any(columns["words"]):
        columns["words"] = [clip_row(clip)["words"] for clip in clips]
    return pa.table(columns, schema=CLIP_SCHEMA)


def clocked_rows(
    run: RunFolder,
    fingerprint: str,
    clips: Mapping[str, Sequence[tuple[str, Clip]]],
    *,
    with_crops: bool,
) -> Iterator[Row]:
    """Yield rows of ``CLOCKED_SCHEMA``.

    Args:
        run: whose status table has the clocks.
        fingerprint: of the stage ``tracks``.
        clips: key of a clip in ``tracks``, done there, to keys and clips that have its clock.
        with_crops: name the shard of the clip's crops, and keep clips of one shard together.
    """
    places = ShardPlaces(run.crops)
    for part in run.status.scan_done(fingerprint, ["frame_times_s", "num_tracks", "shard"]):
        wanted = part.filter(pa.array([key in clips for key in part["key"].to_pylist()]))
        wanted = wanted.take(pc.sort_indices(wanted["shard"]))
        for first in range(0, wanted.num_rows, _SLICE_ROWS):
            for row in wanted.slice(first, _SLICE_ROWS).to_pylist():
                shard = places.path(row) if with_crops else ""
                more = {
                    "frame_times_s": row["frame_times_s"],
                    "tracks_key": row["key"],
                    "crops_shard": shard,
                }
                yield from (clip_row(clip) | more | {"key": key} for key, clip in clips[row["key"]])


def batched(rows: Iterable[Row], size: int, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield tables of up to ``size`` rows; rows of different ``crops_shard`` are never mixed.

    A worker thus reads a shard of crops once for all the clips it gets from it. Long clips come in
    smaller batches: a worker holds the features and the sound of one batch.
    """
    for _, group in groupby(rows, key=lambda row: row.get("crops_shard")):
        batch: list[Row] = []
        num_ticks, length_s = 0, 0.0
        for row in group:
            times_s = row.get("frame_times_s") or [0.0]
            num_ticks += len(times_s)
            length_s += times_s[-1] - times_s[0]
            full = len(batch) == size or num_ticks > _BATCH_TICKS or length_s > _BATCH_S
            if batch and full:
                yield pa.Table.from_pylist(batch, schema=schema)
                batch, num_ticks, length_s = [], len(times_s), times_s[-1] - times_s[0]
            batch.append(row)
        if batch:
            yield pa.Table.from_pylist(batch, schema=schema)


def grouped(batches: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """Yield lists of batches of bounded size, in order."""
    group: list[pa.Table] = []
    num_bytes = 0
    for batch in batches:
        group.append(batch)
        num_bytes += batch.nbytes
        if len(group) == _GROUP_BATCHES or num_bytes >= _GROUP_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group
