"""What a corpus lacks for training, scoring and reading words; what its splits may mean."""

from __future__ import annotations

import pytest

from erray.corpora.findings import ERROR, WARNING
from erray.corpora.purpose import check_purpose
from erray.records import Clip, Word


def clips(split: str, num: int = 2, *, label: str | None = "Anger", **fields: object) -> list[Clip]:
    names = [f"{split}{i}" for i in range(num)]
    return [
        Clip(clip_id=n, media=f"{n}.mp4", split=split, group=n, label=label, **fields)
        for n in names
    ]


def check(*parts: list[Clip], training: bool | None = True, text: tuple[str, ...] = ()):
    """Findings by code."""
    all_clips = [clip for part in parts for clip in part]
    found = check_purpose(all_clips, training=training, predicted="challenge", text=text)
    assert [f.level for f in found] == sorted((f.level for f in found), key=lambda x: x != ERROR)
    return {finding.code: finding for finding in found}


def test_nothing_is_said_of_a_corpus_that_has_all():
    assert check(clips("train"), clips("val"), clips("test"), clips("challenge", label=None)) == {}


def test_val_without_labels_is_an_error():
    found = check(clips("train"), clips("val", 3, label=None), clips("test"))
    assert list(found) == ["no_labels_in_val"]
    assert (found["no_labels_in_val"].level, found["no_labels_in_val"].count) == (ERROR, 3)
    assert "none has a label" in found["no_labels_in_val"].line()


@pytest.mark.parametrize("training", [True, None])
def test_splits_by_other_names_are_said_with_what_they_may_mean(training):
    found = check(clips("Train"), clips("TEST"), clips("validation"), training=training)
    levels = {code: finding.level for code, finding in found.items()}
    assert levels == {
        "no_labels_in_train": ERROR,
        "no_labels_in_val": ERROR,
        "no_labels_in_test": WARNING,
        "unused_split": WARNING,
    }
    assert "rename Train to train" in found["no_labels_in_train"].line()
    assert "rename validation to val" in found["no_labels_in_val"].line()
    assert "rename TEST to test" in found["no_labels_in_test"].line()
    assert "validation with 2 clips (is it val?)" in found["unused_split"].line()


def test_a_split_called_dev_may_be_val():
    found = check(clips("train"), clips("dev"), clips("test"))
    assert "rename dev to val" in found["no_labels_in_val"].line()
    beside = check(clips("train"), clips("val"), clips("dev", 5), clips("test"))
    assert list(beside) == ["unused_split"]
    assert "dev with 5 clips (is it val?)" in beside["unused_split"].line()


def test_no_test_is_a_warning():
    found = check(clips("train"), clips("val"))
    assert {code: f.level for code, f in found.items()} == {"no_labels_in_test": WARNING}


def test_what_is_only_predicted_needs_no_labels():
    assert check(clips("challenge", label=None), training=None) == {}
    assert check(clips("test"), training=None) == {}
    assert check(clips("films", label=None), training=False) == {}


@pytest.mark.parametrize(
    ("fields", "num_wordless"),
    [
        ({"transcript": None}, 6),
        ({"transcript": " "}, 6),
        ({"transcript": ""}, 6),
        ({"transcript": "well"}, 0),
        ({"transcript": None, "words": (Word("well", 0.0, 0.5),)}, 0),
    ],
)
def test_a_text_stream_without_words_is_said(fields, num_wordless):
    parts = [clips(split, **fields) for split in ("train", "val", "test")]
    assert check(*parts) == {}, "no stream reads words"
    found = check(*parts, text=("hash", "bert"))
    assert {code: f.count for code, f in found.items()} == (
        {"no_words": num_wordless} if num_wordless else {}
    )
    if num_wordless:
        line = found["no_words"].line()
        assert "6 of 6 clips have no words for hash and bert" in line
        assert found["no_words"].level == WARNING and "erray transcribe" in line


def test_a_few_clips_without_words_are_nothing_to_speak_of():
    parts = [clips(split, transcript="well") for split in ("train", "val", "test")]
    assert check(*parts, clips("challenge", 6), text=("hash",)) == {}
    assert list(check(*parts, clips("challenge", 7), text=("hash",))) == ["no_words"]
