"""Words on the clock, against the published blocks and against what can be counted by hand."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.encoders.bert import token_places
from erray.encoders.words import place, share_out, spoken_words, spread, text_of, ticks_of_word
from erray.records import TextSample, Word
from erray.stages.clock import stated_ticks

TIMES_S = np.arange(10) / 10.0
MELD = Path(__file__).parents[4] / "shared" / "data" / "meld"
lengths = st.floats(0.0, 2.0, allow_subnormal=False)


def weights(places, num_ticks):
    """Weight of every unit at every tick [T, N]: what its vector contributes to the tick's."""
    return place(np.eye(len(places)), places, num_ticks)


def check_nothing_is_lost(places, num_ticks):
    """Every unit is on some tick, a present tick's weights sum to 1, units come in order."""
    stream = weights(places, num_ticks)
    assert (stream.values_TD.sum(0) > 0).all()
    np.testing.assert_allclose(stream.values_TD.sum(1), stream.present_T, atol=1e-5)
    assert [p.start for p in places] == sorted(p.start for p in places)
    assert [p.stop for p in places] == sorted(p.stop for p in places)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("num_tokens", "num_ticks", "sizes"),
    [
        (1, 10, [10]),
        (3, 10, [4, 3, 3]),
        (7, 10, [2, 2, 2, 1, 1, 1, 1]),
        (10, 10, [1] * 10),
        (5, 123, [25, 25, 25, 24, 24]),
    ],
)
def test_blocks_as_published(num_tokens, num_ticks, sizes):
    assert [p.stop - p.start for p in spread(num_tokens, num_ticks)] == sizes


@given(st.integers(1, 200), st.integers(1, 200))
def test_of_units_without_times_none_is_lost(num_units, num_ticks):
    places = spread(num_units, num_ticks)
    check_nothing_is_lost(places, num_ticks)
    on_tick_T = (weights(places, num_ticks).values_TD > 0).sum(1)
    assert on_tick_T.min() >= 1 and on_tick_T.max() - on_tick_T.min() <= 1
    sizes = [p.stop - p.start for p in places]
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


@given(
    st.lists(st.tuples(lengths, lengths), max_size=12),
    st.integers(1, 8),
    st.floats(0.04, 1.0),
    st.floats(0.0, 2.0),
)
def test_of_words_with_times_none_is_lost(gaps_and_lengths, num_ticks, step_s, first_s):
    words, clock_s = [], 0.0
    for gap_s, length_s in gaps_and_lengths:
        words.append(Word("x", clock_s + gap_s, clock_s + gap_s + length_s))
        clock_s = words[-1].end_s
    times_s_T = first_s + np.arange(num_ticks) * step_s
    check_nothing_is_lost([ticks_of_word(word, times_s_T) for word in words], num_ticks)
    pieces = np.arange(2 * len(words)) + np.arange(2 * len(words)) // 2  # two of each "xx "
    words = [Word("xx", word.start_s, word.end_s) for word in words]
    check_nothing_is_lost(token_places(pieces, words, times_s_T), num_ticks)


@pytest.mark.parametrize("num_units", [0, 1, 3])
def test_one_tick_takes_all_and_no_tick_none(num_units):
    words = [Word("x", i, i + 1.0) for i in range(num_units)]
    timed = {n: [ticks_of_word(word, np.full(n, 0.5)) for word in words] for n in (0, 1)}
    for num_ticks, places in ((0, spread(num_units, 0)), (0, timed[0])):
        assert weights(places, num_ticks).values_TD.shape == (0, num_units)
    for places in (spread(num_units, 1), timed[1]):
        stream = weights(places, 1)
        assert stream.present_T.tolist() == [num_units > 0]
        np.testing.assert_allclose(stream.values_TD, np.full((1, num_units), 1 / (num_units or 1)))


@pytest.mark.skipif(
    not MELD.is_dir(), reason="the folder shared/data beside the repository is missing"
)
def test_no_token_of_meld_is_lost_at_five_ticks_a_second():
    config = Corpus(kind="meld", root=str(MELD), labels="basic7", clock_hz=5)
    num_tokens = num_beyond = 0
    for clip in read_corpus(config, needs_media=False).clips:
        num_ticks = len(stated_ticks(clip, 5)[0])
        tokens = re.findall(r"\w+|[^\w\s]", clip.transcript or "")  # BERT's, word pieces aside
        check_nothing_is_lost(spread(len(tokens), num_ticks), num_ticks)
        num_tokens += len(tokens)
        num_beyond += max(0, len(tokens) - num_ticks)
    # what keeping the first of them would lose
    assert num_beyond / num_tokens == pytest.approx(0.065, abs=0.001)


@pytest.mark.parametrize(
    ("start_s", "end_s", "ticks"),
    [
        (0.1, 0.3, [1, 2]),
        (0.11, 0.15, [1]),
        (-0.5, -0.1, [0]),
        (-0.5, 0.05, [0]),
        (0.91, 0.95, [9]),
        (1.5, 2.0, [9]),
    ],
)
def test_ticks_of_a_word(start_s, end_s, ticks):
    found = np.arange(10)[ticks_of_word(Word("x", start_s, end_s), TIMES_S)]
    assert found.tolist() == ticks


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
