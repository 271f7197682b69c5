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

_BUCKET_BATCHES = 64  # pads MELD's train frames by 6 %; 8 and a tenth of noise would by 29 %
_LENGTH_NOISE = 0.05  # lengths sort as if up to so much off, or few clips would never mix


@dataclass(frozen=True, slots=True)
class Span:
    """Ticks ``[start, stop)`` of the clip at position ``clip``."""

    clip: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


def training_spans(
    arrays: FeatureArrays, *, window: int, hop: int, clips: Sequence[int] | None = None
) -> list[Span]:
    """Windows of every labelled clip at the positions ``clips`` (None: all), in their order."""
    return [
        Span(i, start, stop)
        for i in (range(len(arrays.clips)) if clips is None else clips)
        if arrays.clips[i].label != UNLABELLED
        for start, stop in cut(arrays.clips[i].num_ticks, window, hop)
    ]


def share_of_clips(arrays: FeatureArrays, percent: float, *, seed: int) -> list[int]:
    """Positions of ``percent`` per cent of the clips of each class, at least one, in order.

    Clips without a label are a class of their own. A smaller share is part of a larger one of the
    same seed.
    """
    labels = np.array([place.label for place in arrays.clips])
    chosen: list[int] = []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)
        rng = np.random.default_rng([seed, label - UNLABELLED])
        num_kept = max(1, round(len(members) * percent / 100))
        chosen += rng.permutation(members)[:num_kept].tolist()
    return sorted(chosen)


def epoch_steps(
    lengths: Sequence[int], batch_size: int, accumulate: int, *, seed: int, epoch: int
) -> list[list[list[int]]]:
    """Return the steps of an epoch: each a list of at most ``accumulate`` batches of positions.

    A step has the windows that one batch of ``accumulate * batch_size`` would have.
    """
    steps = epoch_batches(lengths, accumulate * batch_size, seed=seed, epoch=epoch)
    return [[step[i : i + batch_size] for i in range(0, len(step), batch_size)] for step in steps]


def epoch_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int
) -> list[list[int]]:
    """Return batches of positions: every one once, alike lengths together, in random order.

    Positions are shuffled, then sorted by length, give or take a twentieth, within groups of
    batches, so that little is padded while batches still differ from epoch to epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(len(lengths))
    about = np.asarray(lengths) * rng.uniform(1 - _LENGTH_NOISE, 1 + _LENGTH_NOISE, len(lengths))
    group = batch_size * _BUCKET_BATCHES
    batches = []
    for first in range(0, len(order), group):
        members = sorted(order[first : first + group].tolist(), key=lambda i: float(about[i]))
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


def dropped_streams(
    has_data: Mapping[str, bool], chance: float, span: Span, *, seed: int, epoch: int
) -> set[str]:
    """Streams of a window that training hides in an epoch, each with the given chance.

    Of the streams with data in the window (``has_data``) one always stays: the one that was
    farthest from being dropped. A draw depends on the seed, the epoch, the window and the stream's
    name alone.
    """
    draws = {
        name: np.random.default_rng(
            [seed, epoch, span.clip, span.start, zlib.crc32(name.encode())]
        ).random()
        for name, has in has_data.items()
        if has
    }
    if not draws:
        return set()
    kept = max(draws, key=lambda name: draws[name])
    return {name for name, draw in draws.items() if draw < chance and name != kept}


def rank_slice(batch: Sequence[int], rank: int, world_size: int) -> list[int]:
    """Return the part of ``batch`` that ``rank`` works on; empty when there are more ranks."""
    return list(batch[rank::world_size])
