"""Cutting and stitching are inverses; padding is marked as such."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erray.errors import UserError
from erray.windows import UNLABELLED, WindowSample, collate, cut, stitch

CASES = json.loads(
    (Path(__file__).parents[1] / "assets" / "reference" / "windowing.json").read_text()
)

spans = st.tuples(st.integers(1, 400), st.integers(1, 90)).flatmap(
    lambda pair: st.tuples(st.just(pair[0]), st.just(pair[1]), st.integers(1, pair[1]))
)


@pytest.mark.reference
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["length"]))
def test_windows_are_the_published_ones(case):
    windows = cut(case["length"], case["window"], case["hop"])
    assert windows == [tuple(window) for window in case["windows"]]


@given(spans)
def test_windows_cover_every_tick_and_have_one_size(span):
    length, window, hop = span
    windows = cut(length, window, hop)
    assert {stop - start for start, stop in windows} == {min(length, window)}
    assert windows == sorted(set(windows))
    covered = {tick for start, stop in windows for tick in range(start, stop)}
    assert covered == set(range(length))


@given(spans, st.integers(0, 2**31))
def test_stitch_undoes_cut(span, seed):
    length, window, hop = span
    x_LD = np.random.default_rng(seed).standard_normal((length, 3)).astype(np.float32)
    pieces = [(start, x_LD[start:stop]) for start, stop in cut(length, window, hop)]
    stitched = stitch(pieces, length)
    assert stitched.dtype == np.float32
    np.testing.assert_array_equal(stitched, x_LD)


def test_stitch_averages_where_windows_overlap():
    pieces = [(0, np.array([[1.0], [2.0], [3.0]])), (1, np.array([[4.0], [5.0]]))]
    assert stitch(pieces, 3).tolist() == [[1], [3], [4]]


def test_stitch_refuses_gaps():
    with pytest.raises(AssertionError, match="without a piece"):
        stitch([(0, np.ones((2, 1)))], 3)


@pytest.mark.parametrize("hop", [0, -1, 11])
def test_a_hop_that_leaves_ticks_out_is_refused(hop):
    with pytest.raises(UserError, match=f"between 1 and the window's 10 ticks, found {hop}"):
        cut(30, 10, hop)


def sample(length, *, label=0, clip=0, start=0):
    random = np.random.default_rng(length)
    return WindowSample(
        streams={
            "face": random.standard_normal((length, 4)).astype(np.float32),
            "voice": random.standard_normal((length, 2)).astype(np.float16),
        },
        present={"face": random.random(length) < 0.5, "voice": np.ones(length, bool)},
        label=label,
        clip=clip,
        start=start,
    )


def test_collate_pads_to_the_longest_and_marks_it():
    samples = [sample(3, label=2, clip=7), sample(5, label=UNLABELLED, clip=8, start=200)]
    batch = collate(samples)
    assert len(batch) == 2
    assert batch.valid_BT.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert (batch.label_B.tolist(), batch.label_B.dtype) == ([2, -1], torch.int64)
    assert (batch.clip_B.tolist(), batch.start_B.tolist()) == ([7, 8], [0, 200])
    for name in ("face", "voice"):
        x_BTD, mask_BT = batch.streams[name], batch.present[name]
        assert (x_BTD.dtype, mask_BT.dtype) == (torch.float32, torch.bool)
        assert not x_BTD[~batch.valid_BT].any()
        assert not mask_BT[~batch.valid_BT].any()
        for row, window in enumerate(samples):
            np.testing.assert_array_equal(x_BTD[row, : len(window)], window.streams[name])
            np.testing.assert_array_equal(mask_BT[row, : len(window)], window.present[name])


def test_collate_takes_read_only_arrays_and_copies_them():
    window = sample(4)
    for x_TD in window.streams.values():
        x_TD.setflags(write=False)
    before = window.streams["face"].copy()
    collate([window]).streams["face"].zero_()
    np.testing.assert_array_equal(window.streams["face"], before)


def test_a_batch_moves_whole():
    moved = collate([sample(3), sample(2)]).to("meta")
    tensors = [*moved.streams.values(), *moved.present.values()]
    tensors += [moved.valid_BT, moved.label_B, moved.clip_B, moved.start_B]
    assert {x.device.type for x in tensors} == {"meta"}


def test_samples_check_themselves():
    x_TD, mask_T = np.zeros((4, 2), np.float32), np.ones(4, bool)
    with pytest.raises(AssertionError, match="different lengths"):
        WindowSample({"face": x_TD}, {"face": mask_T[:3]}, label=0, clip=0, start=0)
    with pytest.raises(AssertionError, match="voice"):
        WindowSample({"face": x_TD}, {"voice": mask_T}, label=0, clip=0, start=0)
