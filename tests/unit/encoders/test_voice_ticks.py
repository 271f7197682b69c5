import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.encoders.voice_ticks import frames_to_ticks, tick_edges, within_sound
from tests.unit.encoders.voice_samples import sample_of


def test_ticks_within_the_sound_are_half_open():
    times_s = [0.9, 1.0, 1.5, 2.0, 2.1]
    found = within_sound(sample_of(times_s, np.zeros(16000), 1.0))
    assert found.tolist() == [False, True, True, False, False]
    assert not within_sound(sample_of(times_s, None)).any()


def test_a_tick_stands_for_the_time_around_it():
    np.testing.assert_allclose(tick_edges(np.array([1.0, 2.0, 4.0])), [0.5, 1.5, 3.0, 5.0])
    np.testing.assert_array_equal(tick_edges(np.array([3.0])), [3.0, 3.0])


@given(
    st.lists(st.integers(-50, 300), min_size=1, max_size=20, unique=True),
    st.lists(st.integers(0, 250), min_size=1, max_size=40, unique=True),
)
def test_mean_of_the_frames_inside_else_the_nearest(ticks, frames):
    times_s, centres_s = np.sort(ticks) / 100, np.sort(frames) / 100 + 0.0011
    values_FD = np.column_stack([np.arange(len(frames)), centres_s]).astype(np.float32)
    found = frames_to_ticks(values_FD, centres_s, times_s)
    edges_s = tick_edges(times_s)
    for tick, time_s in enumerate(times_s):
        inside = (centres_s >= edges_s[tick]) & (centres_s < edges_s[tick + 1])
        if inside.any():
            np.testing.assert_allclose(found[tick], values_FD[inside].mean(axis=0), rtol=1e-5)
        else:
            assert abs(found[tick, 1] - time_s) == pytest.approx(
                np.abs(centres_s - time_s).min(), abs=1e-5
            )


def test_a_ramp_stays_at_its_time():
    centres_s = np.arange(100) * 0.02 + 0.0125
    times_s = np.arange(2, 45) / 25
    found = frames_to_ticks(centres_s[:, None].astype(np.float32), centres_s, times_s)
    assert np.abs(found[:, 0] - times_s).max() < 0.011
