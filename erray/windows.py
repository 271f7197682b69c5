"""Streams on one clock: cut clips in windows, pad windows to batches, and stitch the results.

Spans are half-open ``[start, stop)`` in ticks of the clip's clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erray.errors import UserError

UNLABELLED = -1


def cut(length: int, window: int, hop: int) -> list[tuple[int, int]]:
    """Windows that cover ``length`` ticks: one every ``hop``, and a last one ending at ``length``.

    A clip no longer than ``window`` is one window of its own length; all others are ``window``
    long, so the last may overlap the one before by more than the rest do.

    Raises:
        UserError: a hop that is not positive or exceeds the window, which would leave ticks out.
    """
    if not 1 <= hop <= window:
        raise UserError(f"hop must be between 1 and the window's {window} ticks, found {hop}")
    assert length > 0, length
    if length <= window:
        return [(0, length)]
    starts = list(range(0, length - window + 1, hop))
    if starts[-1] + window < length:
        starts.append(length - window)
    return [(start, start + window) for start in starts]


def stitch(pieces: Iterable[tuple[int, npt.NDArray[Any]]], length: int) -> npt.NDArray[Any]:
    """The inverse of ``cut``: put (start, values [L, D]) together to [length, D].

    Ticks that several pieces cover get the mean of their values, accumulated in float64 and
    returned in the pieces' type. Every tick must be covered.
    """
    pieces = list(pieces)
    assert pieces, "nothing to stitch"
    first = pieces[0][1]
    total = np.zeros((length, *first.shape[1:]), np.float64)
    num_covering = np.zeros(length, np.int64)
    for start, values in pieces:
        assert start >= 0 and start + len(values) <= length, (start, len(values), length)
        total[start : start + len(values)] += values
        num_covering[start : start + len(values)] += 1
    assert num_covering.all(), "ticks without a piece"
    return (total / num_covering.reshape(-1, *[1] * (first.ndim - 1))).astype(first.dtype)


@dataclass(frozen=True, slots=True)
class WindowSample:
    """One window of one clip, before padding."""

    streams: Mapping[str, npt.NDArray[np.floating]]
    """Stream name to ``x_TD``; what is stored at absent ticks has no influence."""
    present: Mapping[str, npt.NDArray[np.bool_]]
    """Stream name to ``mask_T``: the stream has data at this tick."""
    label: int
    """Class id of the clip, ``UNLABELLED`` when it has none."""
    clip: int
    """Position of the clip in its split."""
    start: int
    """First tick of the window in the clip."""

    def __post_init__(self) -> None:
        lengths = {len(x_TD) for x_TD in self.streams.values()}
        lengths |= {len(mask_T) for mask_T in self.present.values()}
        assert len(lengths) == 1, f"streams and masks of different lengths: {sorted(lengths)}"
        assert self.streams.keys() == self.present.keys(), (set(self.streams), set(self.present))

    def __len__(self) -> int:
        return len(next(iter(self.streams.values())))


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows padded to the longest of them; padding comes last and is not ``valid``."""

    streams: dict[str, Tensor]
    """Stream name to ``x_BTD`` float32, zero where padded."""
    present: dict[str, Tensor]
    """Stream name to ``mask_BT`` bool, False where padded."""
    valid_BT: Tensor
    label_B: Tensor
    """int64 class ids, ``UNLABELLED`` where there is none."""
    clip_B: Tensor
    start_B: Tensor

    def __len__(self) -> int:
        return len(self.label_B)

    def to(self, device: torch.device | str) -> Self:
        """The same batch on ``device``."""
        return replace(
            self,
            streams={name: x.to(device, non_blocking=True) for name, x in self.streams.items()},
            present={name: m.to(device, non_blocking=True) for name, m in self.present.items()},
            valid_BT=self.valid_BT.to(device, non_blocking=True),
            label_B=self.label_B.to(device, non_blocking=True),
            clip_B=self.clip_B.to(device, non_blocking=True),
            start_B=self.start_B.to(device, non_blocking=True),
        )


def collate(samples: Sequence[WindowSample]) -> Batch:
    """Pad ``samples`` (same streams, at least one) to one batch, in their order."""
    assert samples, "no windows to collate"
    names = list(samples[0].streams)
    shape_BT = (len(samples), max(len(sample) for sample in samples))
    valid_BT = torch.zeros(shape_BT, dtype=torch.bool)
    streams = {name: torch.zeros(*shape_BT, samples[0].streams[name].shape[1]) for name in names}
    present = {name: torch.zeros(shape_BT, dtype=torch.bool) for name in names}
    for row, sample in enumerate(samples):
        assert sample.streams.keys() == set(names), (set(sample.streams), names)
        valid_BT[row, : len(sample)] = True
        for name in names:
            # through NumPy: a read-only memory map is no source for torch.from_numpy
            streams[name].numpy()[row, : len(sample)] = sample.streams[name]
            present[name].numpy()[row, : len(sample)] = sample.present[name]
    return Batch(
        streams=streams,
        present=present,
        valid_BT=valid_BT,
        label_B=torch.tensor([sample.label for sample in samples]),
        clip_B=torch.tensor([sample.clip for sample in samples]),
        start_B=torch.tensor([sample.start for sample in samples]),
    )
