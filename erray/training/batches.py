"""Which windows make which batch: one seeded list for all workers, sliced by rank.

Because the list depends on the seed and the epoch alone, one and two workers see the same data in
the same steps, and a resumed run the same order as an undisturbed one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erray.training.arrays import FeatureArrays
from erray.windows import UNLABELLED, cut

_BUCKET_BATCHES = 8


@dataclass(frozen=True, slots=True)
class Span:
    """Ticks ``[start, stop)`` of the clip at position ``clip``."""

    clip: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def training_spans(arrays: FeatureArrays, *, window: int, hop: int) -> list[Span]:
    """Windows of every labelled clip, in the clips' order."""
    return [
        Span(i, start, stop)
        for i, place in enumerate(arrays.clips)
        if place.label != UNLABELLED
        for start, stop in cut(place.num_ticks, window, hop)
    ]


def epoch_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int
) -> list[list[int]]:
    """Return batches of positions: every one once, alike lengths together, in random order.

    Positions are shuffled, then sorted by length within groups of a few batches, so that little
    is padded while batches still differ from epoch to epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    group = batch_size * _BUCKET_BATCHES
    batches = []
    for first in range(0, len(order), group):
        members = sorted(order[first : first + group].tolist(), key=lambda i: lengths[i])
        batches += [members[i : i + batch_size] for i in range(0, len(members), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def epoch_views(
    num_clips: int, num_views: Mapping[str, int], *, seed: int, epoch: int
) -> dict[str, NDArray[np.int64]]:
    """Return the view of every clip [num_clips] in an epoch, for streams that have several.

    All windows of a clip share the draw, and it depends on the seed, the epoch and the stream's
    name alone: neither on the number of workers nor on the other streams.
    """
    return {
        stream: np.random.default_rng([seed, epoch, zlib.crc32(stream.encode())]).integers(
            count, size=num_clips
        )
        for stream, count in num_views.items()
        if count > 1
    }


def rank_slice(batch: Sequence[int], rank: int, world_size: int) -> list[int]:
    """Return the part of ``batch`` that ``rank`` works on; empty when there are more ranks."""
    return list(batch[rank::world_size])
