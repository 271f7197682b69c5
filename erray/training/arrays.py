"""Memory-mapped features of one split, as training and evaluation read them.

An array folder holds, over the ticks of all its clips one after the other, ``times_s.npy`` [N] and
for every stream ``<stream>.values.npy`` [N, D] float32 and ``<stream>.present.npy`` [N] bool;
``index.json`` has each clip's place. The split that is trained on also has the other views of a
stream that has any, ``<stream>.more_views.npy`` [V - 1, N, D]. ``erray.training.ingest`` writes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.windows import WindowSample

_CHUNK_TICKS = 65_536


@dataclass(frozen=True)
class ClipPlace:
    """Where a clip lies in the arrays, and what is known of it."""

    clip_id: str
    split: str
    group: str
    label: int
    offset: int
    num_ticks: int


@dataclass(frozen=True)
class FeatureArrays:
    """Mapped streams of the clips of one split."""

    folder: Path

    def __getstate__(self) -> dict[str, Any]:
        # what was mapped here must not travel: a worker maps the files of its own node
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def clips(self) -> list[ClipPlace]:
        """Every clip, in the order of the corpus."""
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        return [ClipPlace(**row) for row in index["clips"]]

    @cached_property
    def streams(self) -> list[str]:
        """Names of the streams in the recipe's order."""
        index = json.loads((self.folder / "index.json").read_text(encoding="utf-8"))
        return list(index["streams"])

    def values(self, stream: str) -> NDArray[np.float32]:
        """Values of all ticks, [N, D]."""
        return self._mapped[f"{stream}.values"]

    def present(self, stream: str) -> NDArray[np.bool_]:
        """Presence of all ticks, [N]."""
        return self._mapped[f"{stream}.present"]

    def num_views(self, stream: str) -> int:
        """Views that training may draw from; the first is :meth:`values`."""
        return 1 + len(self._mapped.get(f"{stream}.more_views", ()))

    def times_s(self, clip: int) -> NDArray[np.float64]:
        """The clock of the clip at position ``clip``, [T]."""
        place = self.clips[clip]
        return self._mapped["times_s"][place.offset : place.offset + place.num_ticks]

    def window(
        self,
        clip: int,
        start: int,
        stop: int,
        streams: Sequence[str],
        *,
        views: Mapping[str, int] | None = None,
    ) -> WindowSample:
        """Cut ticks ``[start, stop)`` of the clip at position ``clip``.

        ``views`` names another view of some streams than the first.
        """
        place = self.clips[clip]
        rows = slice(place.offset + start, place.offset + stop)
        chosen = views or {}
        return WindowSample(
            streams={name: self._view(name, chosen.get(name, 0))[rows] for name in streams},
            present={name: self.present(name)[rows] for name in streams},
            label=place.label,
            clip=clip,
            start=start,
        )

    def normaliser(
        self, stream: str, *, clips: Sequence[int] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mean and standard deviation [D] over the ticks where the stream is present.

        Only ticks of the clips at the positions ``clips`` (None: all) count, and only those whose
        values are all finite.
        """
        values_ND, present_N = self.values(stream), self.present(stream)
        if clips is not None:
            chosen = np.zeros(len(self.clips), bool)
            chosen[list(clips)] = True
            present_N = present_N & np.repeat(chosen, [place.num_ticks for place in self.clips])
        count, width = 0, values_ND.shape[1]
        total_D, square_D = np.zeros(width), np.zeros(width)
        shift_D = np.zeros(width)
        for first in range(0, len(present_N), _CHUNK_TICKS):
            rows = slice(first, first + _CHUNK_TICKS)
            x_ND = np.asarray(values_ND[rows][present_N[rows]], dtype=np.float64)
            x_ND = x_ND[np.isfinite(x_ND).all(axis=1)]
            if count == 0 and len(x_ND):
                shift_D = x_ND.mean(axis=0)  # keeps digits when the mean is large
            count += len(x_ND)
            total_D += (x_ND - shift_D).sum(axis=0)
            square_D += ((x_ND - shift_D) ** 2).sum(axis=0)
        if count == 0:
            return np.zeros(width), np.ones(width)
        variance_D = square_D / count - (total_D / count) ** 2
        return shift_D + total_D / count, np.sqrt(np.maximum(variance_D, 0.0))

    def _view(self, stream: str, view: int) -> NDArray[np.float32]:
        return self._mapped[f"{stream}.more_views"][view - 1] if view else self.values(stream)

    @cached_property
    def _mapped(self) -> dict[str, NDArray]:
        return {
            path.name.removesuffix(".npy"): np.load(path, mmap_mode="r")
            for path in self.folder.glob("*.npy")
        }
