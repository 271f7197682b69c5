import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.records import Word
from erray.speech import timed_words

HEARD = (
    Word("I", 1.0, 1.2),
    Word("ever", 1.2, 1.6),
    Word("said", 1.6, 2.0),
    Word("that", 2.2, 2.5),
)


def test_words_that_were_heard_take_their_times():
    words = timed_words("I ever SAID, that!", HEARD)
    assert [w.text for w in words] == ["I", "ever", "SAID,", "that!"]
    assert [(w.start_s, w.end_s) for w in words] == [(w.start_s, w.end_s) for w in HEARD]


def test_words_between_share_the_time_by_their_letters():
    words = timed_words("I never ev said", HEARD)
    times = [(w.start_s, w.end_s) for w in words]
    assert times[0] == (1.0, 1.2) and times[3] == (1.6, 2.0)
    middle = 1.2 + 0.4 * 5 / 7
    assert times[1] == pytest.approx((1.2, middle)) and times[2] == pytest.approx((middle, 1.6))


def test_nothing_in_common_still_tells_when_somebody_spoke():
    words = timed_words("ab cd", HEARD)
    assert [w.start_s for w in words] == pytest.approx([1.0, 1.75])
    assert [w.end_s for w in words] == pytest.approx([1.75, 2.5])


@pytest.mark.parametrize(("transcript", "heard"), [("", HEARD), (" ", HEARD), ("yes", ())])
def test_nothing_to_go_by(transcript, heard):
    assert timed_words(transcript, heard) is None


@given(
    st.lists(st.sampled_from(["so", "it", "is", "--", "Is!"]), min_size=1),
    st.lists(st.sampled_from(["so", "it", "is", "was"]), min_size=1),
)
def test_every_word_has_its_place_in_order(texts, heard):
    times = [Word(text, i, i + 0.5) for i, text in enumerate(heard)]
    words = timed_words(" ".join(texts), times)
    assert [word.text for word in words] == texts
    edges = [edge for word in words for edge in (word.start_s, word.end_s)]
    assert edges == sorted(edges)
    assert edges[0] >= 0.0 and edges[-1] <= len(heard) - 0.5
