"""The worker that finds a clip's clock and faces."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from erray.corpora.media_root import resolve_media
from erray.errors import MediaError
from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.track import ClipFaces, FaceTracker, TrackerConfig
from erray.media import Decoder, MediaLimits
from erray.records import DONE, Clip
from erray.stages.clock import on_clock, sound_ticks, stated_ticks, ticks_on_clock
from erray.stages.rows import CropRows, rejection, status_row, track_rows, write_status
from erray.store import RunFolder


@dataclass
class _Shard:
    """Rows that one batch writes; crops stay in their clips' spools until then."""

    status: list[dict[str, Any]] = field(default_factory=list)
    tracks: list[dict[str, Any]] = field(default_factory=list)
    crops: list[tuple[dict[str, str], ClipFaces]] = field(default_factory=list)


class TracksStage:
    """Decode, detect, track, align, crop: clips to the clock, tracks and crops.

    Args:
        run: where the tables lie.
        root: the corpus root.
        fingerprint: of everything that shapes the result.
        clock_hz: ticks per second; None: the frames' own times.
        detector: None where no stream asks for faces: then only the clock is read.
        tracker: settings of the tracker.
        reads_media: whether any stream does; else the clock is the length that the corpus states.
        limits: of one medium.
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        root: str,
        fingerprint: str,
        clock_hz: float | None,
        detector: DetectorConfig | None,
        tracker: TrackerConfig,
        reads_media: bool = True,
        limits: MediaLimits | None = None,
    ) -> None:
        self.run, self.root, self.fingerprint = run, root, fingerprint
        self.clock_hz, self.reads_media = clock_hz, reads_media
        self.decoder = Decoder(limits)
        self.tracker = FaceTracker(MtcnnDetector(detector), tracker) if detector else None
        self.crop_size_px = tracker.crop_size_px

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process a batch of clip rows with a ``key`` column; return their status rows."""
        shard = _Shard()
        for row in batch.to_pylist():
            self._process(row, shard)
        keys = [row["key"] for row in shard.status]
        self.run.crops.write_shard(CropRows(shard.crops, self.crop_size_px), keys=keys)
        name = self.run.tracks.write_shard(shard.tracks, keys=keys)
        for row in shard.status:
            row["shard"] = name if row.get("num_tracks") else None
        return write_status(self.run, shard.status, keys)

    def _process(self, row: dict[str, Any], shard: _Shard) -> None:
        clip, start = Clip.from_row(row), time.perf_counter()
        status = status_row(row, "tracks", self.fingerprint)
        try:
            faces, note = self._faces(clip)
        except MediaError as error:
            status.update(rejection(error, self.decoder.limits))
        else:
            ids = {"clip_id": clip.clip_id, "fingerprint": self.fingerprint, "key": row["key"]}
            shard.tracks.extend(track_rows(ids, faces))
            shard.crops.append((ids, faces))
            status.update(
                state=DONE,
                note=note,
                frame_times_s=faces.frame_times_s_T.tolist(),
                num_tracks=len(faces.tracks),
            )
        status["seconds"] = time.perf_counter() - start
        shard.status.append(status)

    def _faces(self, clip: Clip) -> tuple[ClipFaces, str | None]:
        if not self.reads_media:
            times_s_T, note = stated_ticks(clip, self.clock_hz)
            return without_faces(times_s_T), note
        path = str(resolve_media(self.root, clip.media))
        try:
            return self._seen_faces(clip, path) if self.tracker else self._frame_clock(clip, path)
        except MediaError as error:
            if not str(error).startswith("no_video"):
                raise
            if self.clock_hz is None:
                raise MediaError(f"{error}; sound alone needs corpus.clock_hz") from None
            times_s_T, note = sound_ticks(self.decoder, clip, path, self.clock_hz)
            return without_faces(times_s_T), note

    def _seen_faces(self, clip: Clip, path: str) -> tuple[ClipFaces, str | None]:
        assert self.tracker is not None
        decoded = self.decoder.frames(path, start_s=clip.start_s, end_s=clip.end_s)
        frames: Iterable[tuple[float, NDArray[np.uint8]]] = decoded
        if self.clock_hz is not None:
            frames = on_clock(decoded, self.clock_hz)
        return self.tracker.track(frames), decoded.note

    def _frame_clock(self, clip: Clip, path: str) -> tuple[ClipFaces, str | None]:
        times_s_T, note = self.decoder.times(path, start_s=clip.start_s, end_s=clip.end_s)
        if self.clock_hz is not None:
            times_s_T = ticks_on_clock(times_s_T, self.clock_hz)
        return without_faces(times_s_T), note


def without_faces(times_s_T: NDArray[np.float64]) -> ClipFaces:
    """Return a clip of which only the clock is known."""
    return ClipFaces(times_s_T, [], {}, (0, 0))
