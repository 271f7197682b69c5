import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.encoders.hash import HashConfig, HashEncoder
from erray.errors import UserError
from erray.records import TextSample, Word

TIMES_S = np.arange(10) / 10.0


def encode(transcript, words=None, times_s=TIMES_S):
    return HashEncoder()([TextSample(times_s, transcript, words)])[0]


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


def test_more_words_than_ticks_share_them():
    stream = encode("so it is", times_s=np.arange(2) / 5)
    embed = HashEncoder().embed
    both = embed("so") + embed("it")
    expected = [both / np.linalg.norm(both), embed("is")]
    np.testing.assert_allclose(stream.values_TD, expected, atol=1e-6)


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
