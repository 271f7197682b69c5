"""Rows of the tables as the workers write them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from erray.errors import MediaError
from erray.faces.track import ClipFaces
from erray.media import LIMIT_REASONS, MediaLimits, limits_print
from erray.records import REJECTED, STATUS_SCHEMA
from erray.store import RunFolder

_CROPS_PER_ROW = 256


def status_row(row: dict[str, Any], stage: str, fingerprint: str) -> dict[str, Any]:
    return {
        "clip_id": row["clip_id"],
        "stage": stage,
        "fingerprint": fingerprint,
        "key": row["key"],
        "file_sha256": row["file_sha256"],
    }


def rejection(error: MediaError, limits: MediaLimits) -> dict[str, Any]:
    """Columns of the status row of a clip whose medium was refused.

    Those that the limits are to blame for name the limits: others may let them pass.
    """
    code = str(error).split(":", 1)[0]
    named = limits_print(limits) if code in LIMIT_REASONS else None
    return {"state": REJECTED, "reason": str(error), "limits": named}


def write_status(run: RunFolder, rows: list[dict[str, Any]], keys: list[str]) -> pa.Table:
    run.status.write_shard(rows, keys=keys)
    return pa.Table.from_pylist(rows, schema=STATUS_SCHEMA)


def track_rows(ids: dict[str, str], faces: ClipFaces) -> Iterator[dict[str, Any]]:
    width_px, height_px = faces.frame_size_px
    num_ticks = len(faces.frame_times_s_T)
    for track in faces.tracks:
        yield {
            **ids,
            "track_id": track.track_id,
            "is_main": track.is_main,
            "times_s": faces.frame_times_s_T.tolist(),
            "present": track.present_T.tolist(),
            "boxes_px": track.boxes_px_T4.tolist(),
            "landmarks_px": track.landmarks_px_T52.reshape(num_ticks, 10).tolist(),
            "scores": track.scores_T.tolist(),
            "frame_width_px": width_px,
            "frame_height_px": height_px,
        }


@dataclass(frozen=True)
class CropRows:
    """Rows of the crops table of several clips; each iteration reads the crops anew.

    Attributes:
        clips: the columns that name a clip, and its faces.
        size_px: side of the crops.
    """

    clips: Sequence[tuple[dict[str, str], ClipFaces]]
    size_px: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for ids, faces in self.clips:
            for track in (t for t in faces.tracks if t.is_main):
                ticks_N, jpegs = faces.crops[track.track_id]
                for first in range(0, len(jpegs), _CROPS_PER_ROW):
                    rows = slice(first, first + _CROPS_PER_ROW)
                    yield {
                        **ids,
                        "track_id": track.track_id,
                        "ticks": ticks_N[rows].tolist(),
                        "size_px": self.size_px,
                        "jpegs": list(jpegs[rows]),
                    }
