"""Coverage: at which share of a clip's ticks its face is there, and every stream has data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from erray.records import Clip
from erray.report.tables import Tables

_NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class SplitCoverage:
    """Coverage in one split: mean share of its clips, and how many have nothing."""

    num_clips: int
    mean: float
    num_without: int


@dataclass(frozen=True)
class Coverage:
    """Coverage of one thing.

    Attributes:
        modality: face, voice or text.
        histogram: clips per tenth of the share of ticks.
        splits: in the order of the page's splits; None where a split has no clip.
    """

    name: str
    modality: str
    histogram: list[int]
    median: float
    num_clips: int
    num_without: int
    splits: list[SplitCoverage | None]


def measure_coverage(tables: Tables, splits: Sequence[str]) -> list[Coverage]:
    """Measure the main face where the recipe reads faces, then every stream with features."""
    shares = {}
    if tables.plan.detector is not None:
        shares["main face"] = ("face", tables.face_shares())
    for stream, modality in tables.plan.modalities.items():
        shares[stream] = (modality, tables.stream_shares(stream))
    return [
        coverage(name, modality, share_of_clip, tables.clips, splits)
        for name, (modality, share_of_clip) in shares.items()
        if share_of_clip
    ]


def coverage(
    name: str,
    modality: str,
    share_of_clip: Mapping[str, float],
    clips: Mapping[str, Clip],
    splits: Sequence[str],
) -> Coverage:
    """Count the shares [0, 1] of at least one clip."""
    shares = np.array(list(share_of_clip.values()))
    by_split: dict[str, list[float]] = {split: [] for split in splits}
    for clip_id, share in share_of_clip.items():
        by_split[clips[clip_id].split].append(share)
    return Coverage(
        name=name,
        modality=modality,
        histogram=np.histogram(shares, bins=_NUM_BINS, range=(0.0, 1.0))[0].tolist(),
        median=float(np.median(shares)),
        num_clips=len(shares),
        num_without=int((shares == 0).sum()),
        splits=[_of_split(found) if found else None for found in by_split.values()],
    )


def _of_split(shares: Sequence[float]) -> SplitCoverage:
    return SplitCoverage(len(shares), float(np.mean(shares)), sum(s == 0.0 for s in shares))
