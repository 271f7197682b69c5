"""Long sounds in overlapping chunks for networks that make a frame of every so many samples.

Chunks begin on the grid of the sound's frames and all have one length, so that any of them fit in
one batch; of what two neighbours share, each gives up half, where it has seen too little of the
other side.

    frames    0 ------------------------------------------- total
    chunk 0   [kept kept kept kept|......]
    chunk 1                  [....|kept kept kept|......]
    chunk 2 (moved back to fit)     [............|kept kept kept]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class FrameGrid:
    """Samples that one frame sees, and samples from one frame to the next."""

    seen: int
    step: int

    def count(self, num_samples: int) -> int:
        """Frames of so many samples."""
        return max(0, 1 + (num_samples - self.seen) // self.step)

    def centres(self, num_frames: int) -> NDArray[np.float64]:
        """Return the middle of what each frame sees, in samples."""
        return np.arange(num_frames, dtype=np.float64) * self.step + self.seen / 2


@dataclass(frozen=True)
class Chunk:
    """A part of a clip's sound, and the frames of the clip that it gives.

    Attributes:
        clip: index in the batch.
        start_sample: first sample in the clip's waveform.
        num_samples: length of the part.
        frames: frames of the clip that are kept, half-open.
        skip: frames of the part before them.
    """

    clip: int
    start_sample: int
    num_samples: int
    frames: tuple[int, int]
    skip: int


def cut_sound(
    clip: int, num_samples: int, grid: FrameGrid, *, size: int, margin: int
) -> Iterator[Chunk]:
    """Cut a sound; every frame of it is kept exactly once.

    Args:
        clip: goes into the chunks.
        num_samples: length of the sound.
        grid: where its frames lie.
        size: frames of a chunk; a sound of at most so many is one chunk, whatever its length.
        margin: frames that a chunk gives up where it has a neighbour; less than half of ``size``.
    """
    assert 0 <= 2 * margin < size
    total = grid.count(num_samples)
    if total <= size:
        if total:
            yield Chunk(clip, 0, num_samples, (0, total), 0)
        return
    start, kept_to = 0, 0
    while kept_to < total:
        start = min(start, total - size)
        until = total if start + size == total else start + size - margin
        length = (size - 1) * grid.step + grid.seen
        yield Chunk(clip, start * grid.step, length, (kept_to, until), kept_to - start)
        kept_to, start = until, until - margin


def equal_batches(chunks: Sequence[Chunk], max_samples: int) -> Iterator[list[Chunk]]:
    """Group chunks of equal length, at most ``max_samples`` together, but at least one chunk."""
    in_order = sorted(chunks, key=lambda chunk: chunk.num_samples)
    for length, same in groupby(in_order, lambda chunk: chunk.num_samples):
        together = list(same)
        most = max(1, max_samples // length)
        for first in range(0, len(together), most):
            yield together[first : first + most]
