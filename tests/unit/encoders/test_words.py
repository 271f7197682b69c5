"""Words on the clock, against the published blocks and against what can be counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.encoders.words import (
    place,
    share_out,
    spoken_words,
    spread,
    spread_blocks,
    text_of,
    ticks_of_word,
)
from erray.records import TextSample, Word

TIMES_S = np.arange(10) / 10.0


@pytest.mark.reference
@pytest.mark.parametrize(
    ("num_tokens", "num_ticks", "sizes"),
    [
        (1, 10, [10]),
        (3, 10, [4, 3, 3]),
        (7, 10, [2, 2, 2, 1, 1, 1, 1]),
        (10, 10, [1] * 10),
        (12, 10, [1] * 10),
        (5, 123, [25, 25, 25, 24, 24]),
    ],
)
def test_blocks_as_published(num_tokens, num_ticks, sizes):
    assert spread_blocks(num_tokens, num_ticks).tolist() == sizes


@given(st.integers(0, 400), st.integers(0, 400))
def test_blocks_fill_the_clip(num_tokens, num_ticks):
    sizes = spread_blocks(num_tokens, num_ticks)
    assert len(sizes) == min(num_tokens, num_ticks)
    if len(sizes):
        assert sizes.sum() == num_ticks and sizes.min() >= 1
        assert sizes.max() - sizes.min() <= 1 and np.all(np.diff(sizes) <= 0)


@pytest.mark.parametrize(
    ("start_s", "end_s", "ticks"),
    [
        (0.1, 0.3, [1, 2]),
        (0.11, 0.15, [1]),
        (-0.5, -0.1, []),
        (-0.5, 0.05, [0]),
        (0.91, 0.95, [9]),
        (1.5, 2.0, []),
    ],
)
def test_ticks_of_a_word(start_s, end_s, ticks):
    found = np.arange(10)[ticks_of_word(Word("x", start_s, end_s), TIMES_S)]
    assert found.tolist() == ticks


@given(st.integers(0, 60), st.integers(0, 60))
def test_spread_units_lie_side_by_side(num_units, num_ticks):
    places = spread(num_units, num_ticks)
    assert len(places) == num_units
    ticks = [tick for p in places for tick in range(p.start, p.stop)]
    assert ticks == (list(range(num_ticks)) if num_units else [])


@given(st.integers(0, 30), st.integers(0, 9), st.integers(0, 9))
def test_pieces_of_a_word_fill_its_ticks_and_none_is_lost(num_units, start, length):
    places = share_out(num_units, slice(start, start + length))
    assert len(places) == num_units
    covered = [set(range(p.start, p.stop)) for p in places]
    if num_units and length:
        assert set.union(*covered) == set(range(start, start + length))
        assert all(covered)
        firsts = [p.start for p in places]
        assert firsts == sorted(firsts)


def test_units_that_share_a_tick_are_averaged():
    values_ND = np.array([[1.0, 2.0], [3.0, 4.0], [7.0, 7.0]])
    stream = place(values_ND, [slice(0, 2), slice(1, 3), slice(4, 4)], 5)
    assert stream.present_T.tolist() == [True, True, True, False, False]
    assert stream.values_TD.tolist() == [[1, 2], [2, 3], [3, 4], [0, 0], [0, 0]]


def test_words_without_letters_are_not_spoken():
    words = (Word(" ", 0.0, 0.1), Word("yes", 0.1, 0.2))
    assert [word.text for word in spoken_words(TextSample(TIMES_S, "yes", words))] == ["yes"]
    assert spoken_words(TextSample(TIMES_S, "yes")) == []


@pytest.mark.parametrize(
    ("transcript", "words", "text"),
    [
        (None, None, ""),
        (" \n", (), ""),
        (" so it is", (), "so it is"),
        ("no", (Word(" so", 0, 1), Word("", 1, 2), Word("it ", 2, 3)), "so it"),
    ],
)
def test_text_of_a_sample(transcript, words, text):
    assert text_of(TextSample(TIMES_S, transcript, words)) == text
