"""Aligned crops as JPEG files: kept until the main track is known, and read from a table."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from tempfile import SpooledTemporaryFile
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# An hour of one face is 90,000 crops, 450 MB: what exceeds this lies in a temporary file.
MEMORY_BYTES = 32 * 2**20


class CropSpool:
    """One clip's JPEG files, of all its tracks, in the order they came."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES) -> None:
        self._file = SpooledTemporaryFile(max_size=memory_bytes)  # noqa: SIM115
        self._end = 0

    def add(self, jpeg: bytes) -> slice:
        """Keep a file; return where it lies."""
        self._file.seek(self._end)
        self._file.write(jpeg)
        place = slice(self._end, self._end + len(jpeg))
        self._end = place.stop
        return place

    def read(self, place: slice) -> bytes:
        """Return the file at a place that :meth:`add` gave."""
        self._file.seek(place.start)
        return self._file.read(place.stop - place.start)


class Jpegs(Sequence[bytes]):
    """The files of one track; a slice of it is a list."""

    def __init__(self, spool: CropSpool) -> None:
        self._spool = spool
        self._places: list[slice] = []

    def append(self, crop_HWC: NDArray[np.uint8], quality: int) -> None:
        """Compress a crop and keep it."""
        file = io.BytesIO()
        Image.fromarray(crop_HWC).save(file, "JPEG", quality=quality, subsampling=0)
        self._places.append(self._spool.add(file.getvalue()))

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self._spool.read(place) for place in self._places[index]]
        return self._spool.read(self._places[index])


def decode_crops(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Return ticks [N], rising, and uint8 RGB crops [N, size, size, 3] of rows of a crops table.

    A clip without crops gives N = 0.
    """
    pairs = sorted(
        (
            (int(tick), jpeg)
            for row in rows
            for tick, jpeg in zip(row["ticks"], row["jpegs"], strict=True)
        ),
        key=lambda pair: pair[0],
    )
    if not pairs:
        return np.zeros(0, np.int32), np.zeros((0, 0, 0, 3), np.uint8)
    images = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")) for _, jpeg in pairs]
    return np.array([tick for tick, _ in pairs], np.int32), np.stack(images)
