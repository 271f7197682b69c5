"""A stream cut into rows of its table and put together again."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from erray.feature_rows import joined, stream_rows
from erray.records import Stream


@given(
    num_ticks=st.integers(1, 40),
    num_views=st.integers(1, 3),
    ticks_per_row=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_rows_put_together_are_the_stream(num_ticks, num_views, ticks_per_row, seed):
    rng = np.random.default_rng(seed)
    views_VTD = rng.random((num_views, num_ticks, 3), np.float32)
    stream = Stream(views_VTD[0], rng.random(num_ticks) < 0.5, views_VTD[1:])
    rows = list(stream_rows(stream, ticks_per_row=ticks_per_row))
    assert all(row["shape"][0] <= ticks_per_row for row in rows)
    random.Random(seed).shuffle(rows)
    for view in range(num_views):
        values_TD, present_T = joined([row for row in rows if row["view"] == view])
        np.testing.assert_array_equal(values_TD, views_VTD[view])
        np.testing.assert_array_equal(present_T, stream.present_T)


def test_a_row_of_before_there_were_parts_is_a_whole_clip():
    stream = Stream(np.ones((5, 2), np.float32), np.ones(5, np.bool_))
    (row,) = stream_rows(stream)
    values_TD, present_T = joined([row | {"first_tick": None}])
    np.testing.assert_array_equal(values_TD, stream.values_TD)
    assert present_T.all()
