"""Label sets: ids, names, and the pairs behind compound classes."""

import pytest

from erray.errors import UserError
from erray.labels import BASIC_7, CEXPR_7, CEXPR_8, COMPOUND_PAIRS, LABEL_SETS, LabelSet


@pytest.mark.parametrize("labels", LABEL_SETS.values(), ids=LABEL_SETS)
def test_a_class_id_is_the_position_of_its_name(labels):
    assert [labels.index(name) for name in labels.names] == list(range(len(labels)))


def test_an_unknown_label_lists_the_valid_ones():
    with pytest.raises(UserError, match=r"'Joy' is not in the label set 'basic7'.*Happiness"):
        BASIC_7.index("Joy")


def test_names_do_not_repeat():
    with pytest.raises(AssertionError, match="repeat"):
        LabelSet("broken", ("a", "b", "a"))


def test_the_challenge_classes_keep_their_published_order():
    assert CEXPR_7.index("Fearfully Surprised") == 0
    assert CEXPR_7.index("Sadly Angry") == 6
    assert CEXPR_8.names == (*CEXPR_7.names, "Other")


def test_every_compound_class_is_a_pair_of_basic_emotions():
    basic = {name.lower() for name in BASIC_7.names}
    assert tuple(COMPOUND_PAIRS) == CEXPR_7.names
    assert len({frozenset(pair) for pair in COMPOUND_PAIRS.values()}) == len(CEXPR_7)
    for name, pair in COMPOUND_PAIRS.items():
        assert set(pair) <= basic and len(set(pair)) == 2
        # "Sadly Angry" begins as "sadness" and "anger" do
        stems = {word[:3].lower() for word in name.split()}
        assert stems == {emotion[:3] for emotion in pair}, name
