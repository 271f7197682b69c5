import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.encoders.hash import HashConfig, HashEncoder, spread_blocks, ticks_of_word
from erray.errors import UserError
from erray.records import TextSample, Word

TIMES_S = np.arange(10) / 10.0


def encode(transcript, words=None, times_s=TIMES_S):
    return HashEncoder()([TextSample(times_s, transcript, words)])[0]


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


def test_words_without_times_are_spread():
    stream = encode("one two  three")
    embed = HashEncoder().embed
    expected = [embed("one")] * 4 + [embed("two")] * 3 + [embed("three")] * 3
    np.testing.assert_allclose(stream.values_TD, expected, rtol=1e-6)
    assert stream.present_T.all()


@pytest.mark.parametrize("transcript", [None, "", "  \n "])
def test_nothing_said_is_absent(transcript):
    stream = encode(transcript)
    assert stream.values_TD.shape == (10, 256) and not stream.present_T.any()
    assert encode("hello", times_s=np.zeros(0)).values_TD.shape == (0, 256)


def test_words_with_times_sit_where_they_are_spoken():
    stream = encode("hi there", (Word("hi", 0.1, 0.3), Word("there", 0.75, 5.0)))
    assert np.flatnonzero(stream.present_T).tolist() == [1, 2, 8, 9]
    np.testing.assert_allclose(stream.values_TD[2], HashEncoder().embed("hi"), rtol=1e-6)
    np.testing.assert_allclose(stream.values_TD[8], HashEncoder().embed("there"), rtol=1e-6)


def test_two_words_on_one_tick_share_it():
    stream = encode("a b", (Word("yes", 0.4, 0.45), Word("no", 0.45, 0.49)))
    assert np.flatnonzero(stream.present_T).tolist() == [4]
    both = HashEncoder().embed("yes") + HashEncoder().embed("no")
    np.testing.assert_allclose(stream.values_TD[4], both / np.linalg.norm(both), rtol=1e-5)


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


@given(st.text(min_size=1, max_size=20).filter(str.strip))
def test_every_word_is_a_unit_vector(text):
    assert np.linalg.norm(HashEncoder().embed(text)) == pytest.approx(1.0)
    tiny = HashEncoder(HashConfig(width=1, min_chars=1, max_chars=1))
    assert np.linalg.norm(tiny.embed(text)) == pytest.approx(1.0)


def test_spelling_counts_case_and_width_do_not():
    embed = HashEncoder(HashConfig(width=4096)).embed
    np.testing.assert_array_equal(embed("HELLO"), embed("hello"))
    np.testing.assert_array_equal(embed("\uff48ello"), embed("hello"))  # a full-width h
    assert embed("laughing") @ embed("laughed") > 0.3
    assert abs(embed("laughing") @ embed("sorry")) < 0.1


def test_equal_in_another_process():
    code = "from erray.encoders.hash import HashEncoder; print(HashEncoder().embed('why').tolist())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(HashEncoder().embed("why").tolist())


@pytest.mark.parametrize("options", [{"width": 0}, {"min_chars": 6}, {"min_chars": 0}])
def test_options_that_cannot_be_are_refused(options):
    with pytest.raises(UserError, match="expected"):
        HashConfig(**options)
