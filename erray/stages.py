"""The workers of an extraction: plain classes that turn a batch of clips into written shards.

A worker is made once per actor and called on batches of clip rows. It writes its own shards
(data first, status last: the status shard is what makes a batch count) and returns the status
rows. It knows nothing of Ray and runs as well in a plain shell.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from erray.corpora.media_root import resolve_media
from erray.encoders import make_encoder
from erray.errors import MediaError
from erray.faces.detect import DetectorConfig, MtcnnDetector
from erray.faces.track import ClipFaces, FaceTracker, TrackerConfig, decode_crops
from erray.media import VideoReader, read_waveform
from erray.records import (
    DONE,
    REJECTED,
    STATUS_SCHEMA,
    Clip,
    FaceSample,
    Stream,
    TextSample,
    VoiceSample,
    tensor_columns,
)
from erray.store import RunFolder

WAVEFORM_RATE_HZ = 16_000
_CROPS_PER_ROW = 256
_ROUNDING_S = 1e-6  # a tick that falls on a frame must not miss it by a rounding error


@dataclass
class _Shard:
    """Rows that one batch writes."""

    status: list[dict[str, Any]] = field(default_factory=list)
    tracks: list[dict[str, Any]] = field(default_factory=list)
    crops: list[dict[str, Any]] = field(default_factory=list)
    features: list[dict[str, Any]] = field(default_factory=list)


class TracksStage:
    """Decode, detect, track, align, crop: clips to the clock, tracks and crops.

    Args:
        run: where the tables lie.
        root: the corpus root.
        fingerprint: of everything that shapes the result.
        clock_hz: ticks per second; None: the frames' own times.
        detector: None where no stream asks for faces: then only the clock is read.
        tracker: settings of the tracker.
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
    ) -> None:
        self.run, self.root, self.fingerprint = run, root, fingerprint
        self.clock_hz = clock_hz
        self.tracker = FaceTracker(MtcnnDetector(detector), tracker) if detector else None
        self.crop_size_px = tracker.crop_size_px

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Process a batch of clip rows with a ``key`` column; return their status rows."""
        shard = _Shard()
        for row in batch.to_pylist():
            self._process(row, shard)
        keys = [row["key"] for row in shard.status]
        self.run.crops.write_shard(shard.crops, keys=keys)
        name = self.run.tracks.write_shard(shard.tracks, keys=keys)
        for row in shard.status:
            row["shard"] = name if row.get("num_tracks") else None
        return _write_status(self.run, shard, keys)

    def _process(self, row: dict[str, Any], shard: _Shard) -> None:
        clip, start = Clip.from_row(row), time.perf_counter()
        status = _status(row, "tracks", self.fingerprint)
        try:
            faces, note = self._faces(clip)
        except MediaError as error:
            status.update(state=REJECTED, reason=str(error))
        else:
            ids = {"clip_id": clip.clip_id, "fingerprint": self.fingerprint, "key": row["key"]}
            shard.tracks.extend(_track_rows(ids, faces))
            shard.crops.extend(_crop_rows(ids, faces, self.crop_size_px))
            status.update(
                state=DONE,
                note=note,
                frame_times_s=faces.frame_times_s_T.tolist(),
                num_tracks=len(faces.tracks),
            )
        status["seconds"] = time.perf_counter() - start
        shard.status.append(status)

    def _faces(self, clip: Clip) -> tuple[ClipFaces, str | None]:
        path = resolve_media(self.root, clip.media)
        reader = VideoReader(path, start_s=clip.start_s, end_s=clip.end_s)
        try:
            frames: Iterable[tuple[float, NDArray[np.uint8]]] = reader
            if self.clock_hz is not None:
                frames = on_clock(reader, self.clock_hz)
            faces = self.tracker.track(frames) if self.tracker else _clock_only(frames)
        except MediaError as error:
            if not str(error).startswith("no_video"):
                raise
            if self.clock_hz is None:
                raise MediaError(f"{error}; sound alone needs corpus.clock_hz") from None
            return _sound_clock(clip, str(path), self.clock_hz), None
        return faces, reader.note


class EncodeStage:
    """Run one encoder: what it reads of every clip to a feature row.

    Batches hold clip rows with ``key``, ``frame_times_s`` and, for face encoders, ``tracks_key``
    and ``crops_shard`` (one shard per batch, empty where no face was found).
    """

    def __init__(
        self,
        *,
        run: RunFolder,
        root: str,
        encoder: str,
        options: dict[str, Any],
        fingerprint: str,
    ) -> None:
        self.run, self.root, self.fingerprint = run, root, fingerprint
        self.encoder = make_encoder(encoder, options)
        self.table = self.run.features(encoder, fingerprint)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode a batch of clips; return their status rows."""
        rows, shard = batch.to_pylist(), _Shard()
        crops = self._read_crops(rows) if self.encoder.modality == "face" else {}
        samples, kept = [], []
        for row in rows:
            status = _status(row, self.encoder.name, self.fingerprint)
            shard.status.append(status)
            try:
                samples.append(self._sample(row, crops))
            except MediaError as error:
                status.update(state=REJECTED, reason=str(error))
            else:
                kept.append(row)
                status["state"] = DONE
        start = time.perf_counter()
        streams = self.encoder(samples) if samples else []
        seconds = (time.perf_counter() - start) / max(len(samples), 1)
        for status in shard.status:
            status["seconds"] = seconds
        for row, stream in zip(kept, streams, strict=True):
            shard.features.append(self._feature_row(row, stream))
        keys = [row["key"] for row in rows]
        name = self.table.write_shard(shard.features, keys=keys)
        for status in shard.status:
            status["shard"] = name if status["state"] == DONE else None
        return _write_status(self.run, shard, keys)

    def _read_crops(self, rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        shards = sorted({row["crops_shard"] for row in rows if row["crops_shard"]})
        wanted = [row["tracks_key"] for row in rows]
        found: dict[str, list[dict[str, Any]]] = {}
        for row in self.run.crops.read(keys=wanted, shards=shards).to_pylist():
            found.setdefault(row["key"], []).append(row)
        return found

    def _sample(
        self, row: dict[str, Any], crops: dict[str, list[dict[str, Any]]]
    ) -> FaceSample | VoiceSample | TextSample:
        clip = Clip.from_row(row)
        times_s_T = np.asarray(row["frame_times_s"], dtype=np.float64)
        if self.encoder.modality == "face":
            ticks_N, crops_NHWC = decode_crops(crops.get(row["tracks_key"], []))
            return FaceSample(len(times_s_T), ticks_N, crops_NHWC)
        if self.encoder.modality == "text":
            return TextSample(times_s_T, clip.transcript, clip.words)
        path = resolve_media(self.root, clip.media)
        wave = read_waveform(path, start_s=clip.start_s, end_s=clip.end_s, rate_hz=WAVEFORM_RATE_HZ)
        if wave is None:
            return VoiceSample(times_s_T, None, WAVEFORM_RATE_HZ, 0.0)
        return VoiceSample(times_s_T, wave.samples_N, wave.rate_hz, wave.start_s)

    def _feature_row(self, row: dict[str, Any], stream: Stream) -> dict[str, Any]:
        return {
            "clip_id": row["clip_id"],
            "fingerprint": self.fingerprint,
            "key": row["key"],
            "stream": self.encoder.name,
            "modality": self.encoder.modality,
            "present": stream.present_T.tolist(),
            **tensor_columns(stream.values_TD),
        }


def on_clock(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], clock_hz: float
) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """Yield the picture on screen at ticks ``first + k / clock_hz`` up to the last frame."""
    tick, first_s, last_s, shown = 0, 0.0, 0.0, None
    for time_s, image in frames:
        if shown is None:
            first_s = time_s
        while shown is not None and first_s + tick / clock_hz < time_s - _ROUNDING_S:
            yield first_s + tick / clock_hz, shown
            tick += 1
        last_s, shown = time_s, image
    if shown is not None and first_s + tick / clock_hz <= last_s + _ROUNDING_S:
        yield first_s + tick / clock_hz, shown


def _clock_only(frames: Iterable[tuple[float, NDArray[np.uint8]]]) -> ClipFaces:
    times_s, size_px = [], (0, 0)
    for time_s, image in frames:
        times_s.append(time_s)
        size_px = (image.shape[1], image.shape[0])
    return ClipFaces(np.asarray(times_s), [], {}, size_px)


def _sound_clock(clip: Clip, path: str, clock_hz: float) -> ClipFaces:
    """Ticks of a medium without pictures: as long as its sound."""
    wave = read_waveform(path, start_s=clip.start_s, end_s=clip.end_s, rate_hz=WAVEFORM_RATE_HZ)
    num_samples = 0 if wave is None else len(wave.samples_N)
    num_ticks = int(np.ceil(num_samples * clock_hz / WAVEFORM_RATE_HZ))
    if wave is None or num_ticks == 0:
        raise MediaError("no_clock: the medium has neither frames nor sound")
    return ClipFaces(wave.start_s + np.arange(num_ticks) / clock_hz, [], {}, (0, 0))


def _status(row: dict[str, Any], stage: str, fingerprint: str) -> dict[str, Any]:
    return {
        "clip_id": row["clip_id"],
        "stage": stage,
        "fingerprint": fingerprint,
        "key": row["key"],
        "file_sha256": row["file_sha256"],
    }


def _write_status(run: RunFolder, shard: _Shard, keys: list[str]) -> pa.Table:
    run.status.write_shard(shard.status, keys=keys)
    return pa.Table.from_pylist(shard.status, schema=STATUS_SCHEMA)


def _track_rows(ids: dict[str, str], faces: ClipFaces) -> Iterator[dict[str, Any]]:
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


def _crop_rows(ids: dict[str, str], faces: ClipFaces, size_px: int) -> Iterator[dict[str, Any]]:
    for track in (t for t in faces.tracks if t.is_main):
        ticks_N, jpegs = faces.crops[track.track_id]
        for first in range(0, len(jpegs), _CROPS_PER_ROW):
            rows = slice(first, first + _CROPS_PER_ROW)
            yield {
                **ids,
                "track_id": track.track_id,
                "ticks": ticks_N[rows].tolist(),
                "size_px": size_px,
                "jpegs": jpegs[rows],
            }
