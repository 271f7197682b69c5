"""A ``.npy`` file that is written piece by piece, each at its place.

The writes are plain. A map of a new file has no blocks on the disk yet: when the disk is full the
system cannot say so to who writes to the map, and kills the process (SIGBUS).
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import ArrayLike, DTypeLike


class ArrayFile:
    """The new file ``path`` of an array; all of it must be written before it is closed.

    Raises:
        OSError: the disk is full, or fails in another way; so do its methods.
    """

    def __init__(self, path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
        self._dtype, self._shape = np.dtype(dtype), shape
        self._file = path.open("xb")
        header = {"descr": dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        write_array_header_1_0(self._file, header)
        self._file.flush()
        self._data_start = self._file.tell()

    def write(self, place: tuple[int, ...], block: ArrayLike) -> None:
        """Write ``block`` [n, ...] as what ``array[*place[:-1], place[-1] : place[-1] + n]`` is."""
        values, axis = np.ascontiguousarray(block, self._dtype), len(place) - 1
        assert values.shape[1:] == self._shape[axis + 1 :], "a block of another shape"
        assert place[-1] + len(values) <= self._shape[axis], "a block beyond the end"
        index = sum(i * math.prod(self._shape[k + 1 :]) for k, i in enumerate(place))
        at, rest = self._data_start + index * self._dtype.itemsize, values.data.cast("B")
        while rest:
            num_bytes = os.pwrite(self._file.fileno(), rest, at)
            at, rest = at + num_bytes, rest[num_bytes:]

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._file:
            if error is None:
                os.fsync(self._file.fileno())  # some disks find out here that they are full
