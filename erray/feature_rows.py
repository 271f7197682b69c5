"""A stream as rows of its features table, and back: a row per view and at most so many ticks.

Rows of a bounded number of ticks keep what a worker holds of an hour's clip bounded while it
writes: a cell of 200 MB takes five times its size on its way through Arrow and Parquet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erray.records import Stream, tensor_columns, tensor_from_columns

TICKS_PER_ROW = 8192


def stream_rows(stream: Stream, *, ticks_per_row: int = TICKS_PER_ROW) -> Iterator[dict[str, Any]]:
    """Yield the columns ``view``, ``first_tick``, ``present`` and the values' of every row."""
    for view, values_TD in enumerate(stream.views):
        for first in range(0, len(values_TD), ticks_per_row):
            ticks = slice(first, first + ticks_per_row)
            yield {
                "view": view,
                "first_tick": first,
                "present": stream.present_T[ticks].tolist(),
                **tensor_columns(values_TD[ticks]),
            }


def joined(rows: Sequence[dict[str, Any]]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Return values [T, D] and presence [T] of one clip's rows of one view, in any order.

    Rows that were written before there was a ``first_tick`` hold a whole clip.
    """
    ordered = sorted(rows, key=first_tick)
    values = [tensor_from_columns(row["values"], row["shape"], row["dtype"]) for row in ordered]
    present = [np.asarray(row["present"], dtype=np.bool_) for row in ordered]
    return np.concatenate(values), np.concatenate(present)


def first_tick(row: dict[str, Any]) -> int:
    """Where in its clip a row begins."""
    return row["first_tick"] or 0
