"""Smoothing over time, against the definition written out tick by tick."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d, uniform_filter1d

from erray.smoothing import smoothed


def by_definition(x_TC, times_T, weight):
    rows = []
    for time in times_T:
        weight_T = np.array([weight(abs(other - time)) for other in times_T])
        rows.append(weight_T @ x_TC / weight_T.sum())
    return np.array(rows)


def box(width):
    return lambda d: float(d <= width / 2 + 1e-6)


def gaussian(width):
    return lambda d: np.exp(-0.5 * (d / width) ** 2) if d <= 4 * width else 0.0


@given(
    st.lists(st.floats(0.01, 1), min_size=1, max_size=30),
    st.sampled_from([("box", box), ("gaussian", gaussian)]),
    st.floats(0.02, 3),
)
def test_any_clock_is_smoothed_by_the_definition(steps_s, kind, width):
    times_T = np.cumsum(steps_s)
    x_TC = np.random.default_rng(len(steps_s)).dirichlet(np.ones(4), len(steps_s))
    found_TC = smoothed(x_TC, times_T, kind=kind[0], width=width)
    np.testing.assert_allclose(found_TC, by_definition(x_TC, times_T, kind[1](width)), atol=1e-9)
    np.testing.assert_allclose(found_TC.sum(1), 1)
    assert (found_TC >= 0).all()


def test_even_ticks_are_what_scipy_makes_of_them_away_from_the_ends():
    x_TC = np.random.default_rng(0).dirichlet(np.ones(3), 60)
    clock_T = np.arange(60.0)
    inner = slice(16, -16)
    found_TC = smoothed(x_TC, clock_T, kind="box", width=5)
    np.testing.assert_allclose(found_TC[inner], uniform_filter1d(x_TC, 5, axis=0)[inner])
    found_TC = smoothed(x_TC, clock_T, kind="gaussian", width=3)
    expected_TC = gaussian_filter1d(x_TC, 3, axis=0, truncate=4)
    np.testing.assert_allclose(found_TC[inner], expected_TC[inner], atol=1e-12)


@pytest.mark.parametrize("kind", ["box", "gaussian"])
def test_a_flicker_goes_and_a_change_stays(kind):
    class_T = np.repeat([0, 1], 30)
    class_T[10] = class_T[40] = 2
    found_TC = smoothed(np.eye(3)[class_T], np.arange(60.0), kind=kind, width=4)
    assert found_TC.argmax(1).tolist() == [0] * 30 + [1] * 30


def test_a_width_below_the_ticks_changes_nothing():
    x_TC = np.random.default_rng(1).dirichlet(np.ones(3), 9)
    for kind in ("box", "gaussian"):
        found_TC = smoothed(x_TC, np.arange(9.0), kind=kind, width=0.2)
        np.testing.assert_allclose(found_TC, x_TC, atol=1e-9)
