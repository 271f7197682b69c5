from __future__ import annotations

import math
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.report.charts import Scale, area, line, number, path

finite = st.floats(-1e4, 1e4).map(lambda x: round(x, 4))


@given(st.lists(finite, min_size=1, max_size=20))
def test_a_scale_keeps_the_order_of_its_values_within_the_plot(values: list[float]) -> None:
    scale = Scale.over(values)
    placed = [scale.at(v) for v in sorted(values)]
    assert placed == sorted(placed)
    assert all(0 <= x <= 100 for x in placed)


@given(st.lists(finite, min_size=1, max_size=20), st.integers(3, 8))
def test_rounded_ends_enclose_the_values_and_ticks_are_even(values: list[float], num: int) -> None:
    scale = Scale.rounded(values)
    assert scale.low <= min(values) + 1e-9 * abs(min(values))
    assert scale.high >= max(values) - 1e-9 * abs(max(values))
    ticks = scale.ticks(num)
    assert 2 <= len(ticks) <= 2 * num + 2
    gaps = [b.at - a.at for a, b in pairwise(ticks)]
    assert max(gaps) - min(gaps) < 0.05


def test_ticks_are_written_with_the_places_that_their_step_needs() -> None:
    assert [t.text for t in Scale(0, 0.001).ticks(4)] == [
        "0.0000", "0.0002", "0.0004", "0.0006", "0.0008", "0.0010",
    ]  # fmt: skip
    assert [t.text for t in Scale(0, 30).ticks(3)] == ["0", "10", "20", "30"]


def test_a_logarithmic_scale_puts_the_geometric_mean_in_the_middle() -> None:
    scale = Scale(1e-4, 1e-2, log=True)
    assert scale.at(1e-3) == pytest.approx(50)
    assert [t.text for t in scale.ticks()] == ["1e-4", "0.01"]


def test_paths_turn_upside_down() -> None:
    scale = Scale(0, 10)
    drawn = line("a", "fusion", [(0, 0), (10, 2.5)], x=scale, y=scale)
    assert drawn.path == "M0 100L100 75"
    assert drawn.ends == (100, 25)
    assert path([(50, 50)]) == "M49.5 50L50.5 50"


def test_an_area_of_one_tick_fills_the_width() -> None:
    corners = re.findall(r"([\d.]+) ([\d.]+)", area([0.0], [0.0], [30.0]))
    assert corners == [("0", "70"), ("100", "70"), ("100", "100"), ("0", "100")]


@given(st.floats(-1e8, 1e8).filter(lambda x: x == 0 or abs(x) > 1e-12))
def test_numbers_are_short_and_right_to_three_digits(value: float) -> None:
    text = number(value)
    assert len(text) <= 9
    assert math.isclose(float(text), value, rel_tol=0.06)


def test_a_diverged_number_is_written_as_such() -> None:
    assert [number(x) for x in (math.inf, -math.inf, math.nan)] == ["inf", "-inf", "nan"]
