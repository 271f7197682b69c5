"""Arrays that are written in pieces are those that NumPy writes whole."""

from __future__ import annotations

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from erray.training.array_file import ArrayFile


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.bool_])
@pytest.mark.parametrize("shape", [(7,), (7, 3), (2, 7, 3)])
def test_pieces_in_any_order_are_the_array(tmp_path, monkeypatch, dtype, shape):
    whole = np.random.default_rng(0).normal(size=shape).astype(dtype)
    axis = min(len(shape) - 1, 1) if len(shape) == 3 else 0
    write = os.pwrite
    # a disk may take less than it is given
    monkeypatch.setattr(os, "pwrite", lambda file, rest, at: write(file, rest[:5], at))
    with ArrayFile(tmp_path / "pieces.npy", dtype, shape) as file:
        for *lead, start in product(*map(range, shape[:axis]), (4, 0, 2, 6)):
            file.write((*lead, start), whole[(*lead, slice(start, start + 2))])
    np.save(tmp_path / "whole.npy", whole)
    pieces = np.load(tmp_path / "pieces.npy", mmap_mode="r")
    assert isinstance(pieces, np.memmap) and pieces.dtype == whole.dtype
    np.testing.assert_array_equal(pieces, whole)
    whole_bytes = (tmp_path / "whole.npy").stat().st_size
    assert (tmp_path / "pieces.npy").stat().st_size == whole_bytes


def test_what_does_not_fit_is_a_defect(tmp_path: Path):
    with ArrayFile(tmp_path / "a.npy", np.float32, (4, 2)) as file:
        for place, block in (((3,), np.zeros((2, 2))), ((0,), np.zeros((2, 3)))):
            with pytest.raises(AssertionError, match="a block "):
                file.write(place, block)
