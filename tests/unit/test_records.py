"""Records check themselves and survive their Arrow schema."""

import math
from dataclasses import asdict, fields

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from erray.records import (
    CLIP_SCHEMA,
    Clip,
    FaceTrack,
    Stream,
    Word,
    tensor_columns,
    tensor_from_columns,
)

text = st.text(min_size=1, max_size=8)
seconds = st.floats(0, 1e6)
words = st.lists(st.builds(Word, text, seconds, seconds), max_size=3).map(tuple)


@st.composite
def clips(draw):
    start_s = draw(st.none() | seconds)
    length_s = draw(st.none() | st.floats(1e-3, 1e4))
    end_s = None if length_s is None else (start_s or 0.0) + length_s
    return Clip(
        *(draw(text) for _ in range(4)),
        start_s=start_s,
        end_s=end_s,
        label=draw(st.none() | text),
        transcript=draw(st.none() | st.text(max_size=8)),
        words=draw(st.none() | words),
        duration_s=draw(st.none() | st.floats(1e-3, 1e4)),
        file_sha256=draw(st.none() | text),
    )


@given(clips())
def test_a_clip_survives_its_table(clip):
    table = pa.Table.from_pylist([asdict(clip)], schema=CLIP_SCHEMA)
    assert Clip.from_row({**table.to_pylist()[0], "stage": "ignored"}) == clip


def test_the_clips_table_has_a_column_per_field():
    assert {f.name for f in fields(Clip)} == set(CLIP_SCHEMA.names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_id": ""}, "clip_id is empty"),
        ({"media": ""}, "media is empty"),
        ({"split": ""}, "split is empty"),
        ({"group": ""}, "group is empty"),
        ({"start_s": -0.1}, r"start_s is -0\.1"),
        ({"start_s": math.nan}, "start_s is nan"),
        ({"start_s": math.inf}, "start_s is inf"),
        ({"start_s": 2.0, "end_s": 2.0}, r"end_s is 2\.0"),
        ({"end_s": 0.0}, r"end_s is 0\.0"),
        ({"end_s": math.nan}, "end_s is nan"),
        ({"duration_s": 0.0}, r"duration_s is 0\.0, expected more than 0"),
        ({"duration_s": math.inf}, "duration_s is inf"),
        ({"duration_s": math.nan}, "duration_s is nan"),
    ],
)
def test_an_impossible_clip_is_refused(changes, message):
    values = {"clip_id": "a", "media": "a.mp4", "split": "train", "group": "g"}
    with pytest.raises(ValueError, match=message):
        Clip(**{**values, **changes})


numbers = (
    hnp.floating_dtypes() | hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | st.just(bool)
)
arrays = hnp.arrays(numbers, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))


@given(arrays, st.booleans())
def test_an_array_survives_its_columns(x, transposed):
    x = x.T if transposed else x  # memory that is not contiguous
    back = tensor_from_columns(**tensor_columns(x))
    assert back.shape == x.shape and back.dtype == x.dtype
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("dtype", ["|O", "<U4", "|S4", "<M8[s]", "f4,f4", "no such type"])
def test_only_plain_numbers_become_arrays(dtype):
    with pytest.raises(ValueError, match="plain number"):
        tensor_from_columns(b"\0" * 16, [1], dtype)


def test_bytes_that_do_not_fit_the_shape_are_refused():
    columns = tensor_columns(np.arange(6.0).reshape(2, 3))
    with pytest.raises(ValueError, match="reshape"):
        tensor_from_columns(columns["values"], [2, 4], columns["dtype"])
    with pytest.raises(ValueError, match="size"):
        tensor_from_columns(columns["values"][:-1], [2, 3], columns["dtype"])


def make_track(**changes):
    arrays = {
        "present_T": np.ones(3, bool),
        "boxes_px_T4": np.zeros((3, 4), np.float32),
        "landmarks_px_T52": np.zeros((3, 5, 2), np.float32),
        "scores_T": np.zeros(3, np.float32),
    }
    return FaceTrack(track_id=0, is_main=True, **{**arrays, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"present_T": np.ones(3, np.uint8)},
        {"present_T": np.ones(2, bool)},
        {"boxes_px_T4": np.zeros((3, 5), np.float32)},
        {"landmarks_px_T52": np.zeros((3, 10), np.float32)},
        {"scores_T": np.zeros((3, 1), np.float32)},
    ],
)
def test_a_track_of_unequal_lengths_is_our_own_mistake(changes):
    make_track()
    with pytest.raises(AssertionError):
        make_track(**changes)


@pytest.mark.parametrize(
    ("values", "present"),
    [
        (np.zeros((3, 2)), np.ones(3, bool)),
        (np.zeros(3, np.float32), np.ones(3, bool)),
        (np.zeros((3, 2), np.float32), np.ones(2, bool)),
        (np.zeros((3, 2), np.float32), np.ones(3)),
    ],
)
def test_a_stream_of_another_form_is_our_own_mistake(values, present):
    Stream(np.zeros((3, 2), np.float32), np.ones(3, bool))
    with pytest.raises(AssertionError):
        Stream(values, present)
