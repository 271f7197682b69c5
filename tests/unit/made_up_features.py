"""Feature tables with random values, as an extraction leaves them, without any medium."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from erray.config import Recipe, parse_recipe
from erray.feature_rows import stream_rows
from erray.labels import CEXPR_7
from erray.plan import TRACKS, Plan
from erray.records import DONE, Clip, Stream
from erray.store import RunFolder

STREAMS = {
    "hog": {"size_px": 16, "orientations": 2},
    "hash": {"width": 5},
}
"""Small streams; hog is 8 values wide."""

Features = dict[str, dict[str, Stream]]
"""Clip id to stream name to values and presence."""


def tiny_recipe(**sections: object) -> Recipe:
    return parse_recipe({"name": "tiny", "streams": STREAMS} | sections)


def tiny_clips(num: int, *, split: str = "train", labelled: bool = True) -> list[Clip]:
    """Clips of different content, their labels in turn."""
    return [
        Clip(
            clip_id=f"{split}/{i}",
            media=f"{split}{i}.mp4",
            split=split,
            group=f"{split}-{i // 2}",
            label=CEXPR_7.names[i % len(CEXPR_7)] if labelled else None,
            transcript=f"word {i}",
            file_sha256=f"{split}{i}",
        )
        for i in range(num)
    ]


def random_stream(num_ticks: int, width: int, rng: np.random.Generator) -> Stream:
    """About a fifth of the ticks is absent; absent values are zero as encoders leave them."""
    present_T = rng.random(num_ticks) > 0.2
    values_TD = rng.normal(size=(num_ticks, width)) * present_T[:, None]
    return Stream(values_TD.astype(np.float32), present_T)


def write_features(
    run: RunFolder, plan: Plan, lengths: Mapping[str, int], clips: list[Clip], *, shard_clips: int
) -> Features:
    """Write clocks and features of ``clips``, in shards that hold them in reverse order."""
    rng = np.random.default_rng(5)
    run.clips.replace([asdict(clip) for clip in clips])
    features: Features = {clip.clip_id: {} for clip in clips}
    order = list(reversed(clips))
    for first in range(0, len(order), shard_clips):
        batch = order[first : first + shard_clips]
        for name in (TRACKS, *plan.modalities):
            ids = [_ids(plan, name, clip) for clip in batch]
            keys = [row["key"] for row in ids]
            if name == TRACKS:
                more = [{"frame_times_s": clock_s(lengths[clip.clip_id])} for clip in batch]
            else:
                more = [{} for _ in batch]
                rows = []
                for clip, row in zip(batch, ids, strict=True):
                    stream = random_stream(lengths[clip.clip_id], plan.widths[name], rng)
                    features[clip.clip_id][name] = stream
                    rows += [row | part for part in stream_rows(stream, ticks_per_row=7)]
                run.features(name, plan.fingerprints[name]).write_shard(rows, keys=keys)
            status = [
                a | b | {"state": DONE, "stage": name} for a, b in zip(ids, more, strict=True)
            ]
            run.status.write_shard(status, keys=keys)
    return features


def clock_s(num_ticks: int) -> list[float]:
    """25 ticks per second from 0."""
    return [i / 25 for i in range(num_ticks)]


def _ids(plan: Plan, stage: str, clip: Clip) -> dict[str, str]:
    key, fingerprint = plan.key(stage, clip), plan.fingerprints[stage]
    return {"clip_id": clip.clip_id, "fingerprint": fingerprint, "key": key}
