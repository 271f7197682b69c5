"""The worker that runs one encoder."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from erray.corpora.media_root import resolve_media
from erray.encoders import make_encoder
from erray.errors import MediaError
from erray.faces.crops import decode_crops
from erray.feature_rows import stream_rows
from erray.media import Decoder, MediaLimits
from erray.records import (
    DONE,
    Clip,
    FaceSample,
    Stream,
    TextSample,
    VoiceSample,
)
from erray.stages.clock import WAVEFORM_RATE_HZ
from erray.stages.rows import rejection, status_row, write_status
from erray.store import RunFolder

# Crops of a face encoder in memory at a time: 77 MB at 112 pixels.
_MAX_CROPS = 2048


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
        limits: MediaLimits | None = None,
    ) -> None:
        self.run, self.root, self.fingerprint = run, root, fingerprint
        self.decoder = Decoder(limits)
        self.encoder = make_encoder(encoder, options)
        self.table = self.run.features(encoder, fingerprint)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Encode a batch of clips; return their status rows."""
        rows = batch.to_pylist()
        status = [status_row(row, self.encoder.name, self.fingerprint) for row in rows]
        start = time.perf_counter()
        if self.encoder.modality == "face":
            streams = self._encode_faces(rows)
        else:
            streams = self._encode_samples(rows, status)
        seconds = (time.perf_counter() - start) / len(rows)
        features = [
            feature_row
            for row in rows
            if row["key"] in streams
            for feature_row in self._feature_rows(row, streams[row["key"]])
        ]
        keys = [row["key"] for row in rows]
        name = self.table.write_shard(features, keys=keys)
        for row in status:
            row["seconds"] = seconds
            if row["key"] in streams:
                row.update(state=DONE, shard=name)
        return write_status(self.run, status, keys)

    def _encode_samples(
        self, rows: list[dict[str, Any]], status: list[dict[str, Any]]
    ) -> dict[str, Stream]:
        """Return the streams by key; a medium that cannot be read is rejected in ``status``."""
        samples: dict[str, VoiceSample | TextSample] = {}
        for row, verdict in zip(rows, status, strict=True):
            try:
                samples[row["key"]], verdict["note"] = self._sample(row)
            except MediaError as error:
                verdict.update(rejection(error, self.decoder.limits))
        streams = self.encoder(list(samples.values())) if samples else []
        return dict(zip(samples, streams, strict=True))

    def _sample(self, row: dict[str, Any]) -> tuple[VoiceSample | TextSample, str | None]:
        """Return what the encoder reads of a clip, and what is missing of it."""
        clip = Clip.from_row(row)
        times_s_T = np.asarray(row["frame_times_s"], dtype=np.float64)
        if self.encoder.modality == "text":
            return TextSample(times_s_T, clip.transcript, clip.words), None
        path = resolve_media(self.root, clip.media)
        wave = self.decoder.waveform(
            path, start_s=clip.start_s, end_s=clip.end_s, rate_hz=WAVEFORM_RATE_HZ
        )
        if wave is None:
            return VoiceSample(times_s_T, None, WAVEFORM_RATE_HZ, 0.0), None
        return VoiceSample(times_s_T, wave.samples_N, wave.rate_hz, wave.start_s), wave.note

    def _encode_faces(self, rows: list[dict[str, Any]]) -> dict[str, Stream]:
        """Fill every clip's stream from a bounded number of crops at a time.

        A face encoder looks at one crop at a time, so a long clip may come in parts.
        """
        streams = {row["key"]: self._empty_stream(row) for row in rows}
        keys_of_tracks: dict[str, list[str]] = {}
        for row in rows:
            keys_of_tracks.setdefault(row["tracks_key"], []).append(row["key"])
        for part in self._crop_parts(rows):
            samples = [_face_sample(crops) for crops in part]
            for crops, found in zip(part, self.encoder(samples), strict=True):
                for key in keys_of_tracks[crops["key"]]:
                    for values_TD, part_TD in zip(streams[key].views, found.views, strict=True):
                        values_TD[crops["ticks"]] = part_TD
                    streams[key].present_T[crops["ticks"]] = found.present_T
        return streams

    def _empty_stream(self, row: dict[str, Any]) -> Stream:
        num_ticks = len(row["frame_times_s"])
        shape = (self.encoder.num_views, num_ticks, self.encoder.width)
        views_VTD = np.zeros(shape, np.float32)
        return Stream(views_VTD[0], np.zeros(num_ticks, np.bool_), views_VTD[1:])

    def _crop_parts(self, rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        shards = sorted({row["crops_shard"] for row in rows if row["crops_shard"]})
        part: list[dict[str, Any]] = []
        wanted = [row["tracks_key"] for row in rows]
        for crops in self.run.crops.scan(keys=wanted, shards=shards):
            if part and sum(len(one["ticks"]) for one in (*part, crops)) > _MAX_CROPS:
                yield part
                part = []
            part.append(crops)
        if part:
            yield part

    def _feature_rows(self, row: dict[str, Any], stream: Stream) -> Iterator[dict[str, Any]]:
        ids = {
            "clip_id": row["clip_id"],
            "fingerprint": self.fingerprint,
            "key": row["key"],
            "stream": self.encoder.name,
            "modality": self.encoder.modality,
        }
        for part in stream_rows(stream):
            yield ids | part


def _face_sample(crops: dict[str, Any]) -> FaceSample:
    """The crops of one row of the crops table as a sample of their own."""
    _, crops_NHWC = decode_crops([crops])
    return FaceSample(len(crops_NHWC), np.arange(len(crops_NHWC), dtype=np.int32), crops_NHWC)
