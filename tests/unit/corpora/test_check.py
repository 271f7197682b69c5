"""The check of a corpus: what each finding says, and what refuses."""

from dataclasses import replace

import pytest

from erray.config import Corpus
from erray.corpora.check import check_corpus
from erray.corpora.clips import CorpusClips
from erray.corpora.findings import ERROR, WARNING, refuse_errors
from erray.corpora.holdout import set_apart
from erray.corpora.scan import ScannedMedium
from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.records import Clip

CLASSES = CEXPR_7.names


def clip(name, split="train", **fields):
    return Clip(**{"clip_id": name, "media": f"{name}.mp4", "split": split, "group": name} | fields)


def medium(sha256, duration_s=3.0, problem=None, *, start_s=0.0, num_video=1):
    return ScannedMedium(sha256, 1, 0, 0, sha256, True, start_s, duration_s, num_video, problem)


def check(*clips, media=None, kind="manifest", warnings=(), needs_media=True, **settings):
    """Findings by code; media are there and three seconds long unless ``media`` says otherwise."""
    found = {c.media: medium(c.file_sha256 or c.media) for c in clips} | (media or {})
    corpus = CorpusClips(list(clips), warnings=list(warnings), media=found if needs_media else None)
    findings = check_corpus(Corpus(kind=kind, **settings), corpus)
    assert len({finding.code for finding in findings}) == len(findings)
    return {finding.code: finding for finding in findings}


def test_nothing_is_wrong_with_a_good_corpus():
    train = [clip(f"t{i}", label=name) for i, name in enumerate(CLASSES)]
    assert check(*train, clip("v", "val", label=CLASSES[0]), clip("x", "test")) == {}


def test_groups_and_files_across_splits_are_errors_unless_published():
    clips = [
        clip("a", "train", group="film", file_sha256="1"),
        clip("b", "val", group="film", file_sha256="2"),
        clip("c", "test", group="other", file_sha256="1"),
    ]
    for protocol, level in (("strict", ERROR), ("published", WARNING)):
        found = check(*clips, protocol=protocol)
        assert {name: f.level for name, f in found.items()} == {
            "group_across_splits": level,
            "file_across_splits": level,
        }
        assert found["group_across_splits"].examples == ("film in train and val",)
        assert found["file_across_splits"].examples == ("a.mp4 in test and train",)
    with pytest.raises(
        UserError, match=r"the corpus has errors: group_across_splits: 1 .*published"
    ):
        refuse_errors(check(*clips).values())
    refuse_errors(check(*clips, protocol="published").values())


def test_a_file_whose_groups_are_parted_by_the_holdout_is_a_warning():
    """Scenes of one film are groups of val: a corpus that erray itself has parted is no error."""
    film = [
        clip(f"s{i}", "val", media="film.mp4", group=f"scene{i}", label=CLASSES[0])
        for i in range(12)
    ]
    clips, _ = set_apart(
        Corpus(),
        [replace(c, file_sha256="1", start_s=float(i), end_s=i + 1.0) for i, c in enumerate(film)],
    )
    assert {c.split for c in clips} == {"val", "holdout"}
    found = check(*clips, media={"film.mp4": medium("1", 20.0)})
    assert {name: f.level for name, f in found.items()} == {"file_across_holdout": WARNING}
    assert found["file_across_holdout"].examples == ("film.mp4",)
    with_train = check(*clips, clip("t", "train", file_sha256="1"))
    assert with_train["file_across_splits"].examples == ("film.mp4 in holdout and train and val",)


def test_the_same_content_twice_in_a_split_is_a_warning():
    clips = [
        clip("a", file_sha256="1"),
        clip("b", file_sha256="1"),
        clip("c", file_sha256="1", start_s=1.0),
        clip("d", file_sha256="1", start_s=1.0, end_s=2.0),
        clip("e", file_sha256=None),
        clip("f", file_sha256=None),
    ]
    found = check(*clips)
    assert list(found) == ["same_content"]
    assert (found["same_content"].level, found["same_content"].count) == (WARNING, 1)
    assert found["same_content"].examples == ("b is a",)


def test_ids_twice_are_an_error():
    found = check(clip("a"), clip("a", media="b.mp4"), clip("c"))
    assert (found["repeated_id"].level, found["repeated_id"].examples) == (ERROR, ("a",))


def test_no_clips_at_all_are_an_error():
    assert list(check()) == ["no_clips"] and check()["no_clips"].level == ERROR


def test_single_missing_media_are_a_warning_and_a_whole_split_is_an_error():
    clips = [clip("a"), clip("b"), clip("v", "val"), clip("w", "val")]
    some_gone = check(*clips, media={"a.mp4": None, "v.mp4": None})["no_media"]
    assert (some_gone.level, some_gone.count) == (WARNING, 2)
    split_gone = check(*clips, media={"a.mp4": None, "v.mp4": None, "w.mp4": None})["no_media"]
    assert (split_gone.level, split_gone.count) == (ERROR, 3)
    assert "every file of val is missing" in split_gone.advice
    assert split_gone.examples == ("a.mp4", "v.mp4", "w.mp4")


def test_the_challenge_needs_every_medium():
    clips = [clip("a", "challenge"), clip("b", "challenge")]
    found = check(*clips, media={"b.mp4": None}, kind="cexpr-challenge")["no_media"]
    assert (found.level, found.examples) == (ERROR, ("b.mp4",))


def test_sound_alone_needs_a_clock():
    media = {"a.mp4": medium("1", num_video=0), "b.mp4": medium("2", num_video=None)}
    found = check(clip("a"), clip("b"), media=media)
    assert list(found) == ["no_pictures"] and found["no_pictures"].examples == ("a.mp4",)
    assert check(clip("a"), clip("b"), media=media, clock_hz=10.0) == {}


def test_media_that_cannot_be_opened_are_a_warning_with_their_reason():
    found = check(clip("a"), media={"a.mp4": medium("1", None, "not_media: no film")})
    assert list(found) == ["unreadable"]
    assert found["unreadable"].examples == ("a.mp4 (not_media)",)


@pytest.mark.parametrize(
    ("fields", "header_s", "expected"),
    [
        ({}, 3.0, []),
        ({}, 0.05, ["too_short"]),
        ({}, 601.0, ["too_long"]),
        ({}, None, []),
        ({"start_s": 1.0, "end_s": 1.05}, 3.0, ["too_short"]),
        ({"start_s": 2.0}, 3600.0, ["too_long"]),
        ({"start_s": 2.0, "end_s": 602.0}, 3600.0, []),
        ({"end_s": 3.4}, 3.0, []),
        ({"end_s": 3.6}, 3.0, ["span_outside"]),
        ({"start_s": 4.0, "end_s": 5.0}, 3.0, ["span_outside"]),
        ({"start_s": 4.0}, 3.0, ["span_outside", "too_short"]),
        ({"duration_s": 2.5}, 3.0, []),
        ({"duration_s": 0.5}, 1.6, ["length_differs"]),
        ({"duration_s": 10.0}, 4.9, ["length_differs"]),
        ({"duration_s": 10.0}, 5.1, []),
        ({"duration_s": 0.05}, None, ["too_short"]),
        ({"duration_s": 9.0, "end_s": 2.0}, 3.0, []),
    ],
)
def test_implausible_lengths_are_warnings(fields, header_s, expected):
    found = check(clip("a", **fields), media={"a.mp4": medium("1", header_s)})
    assert sorted(found) == expected
    assert {finding.level for finding in found.values()} <= {WARNING}


def test_spans_are_on_the_clock_of_the_medium():
    late = {"a.mp4": medium("1", 3.0, start_s=8.0)}
    assert check(clip("a", start_s=8.5, end_s=11.0), media=late) == {}
    assert check(clip("a", start_s=10.8), media=late) == {}
    assert list(check(clip("a", start_s=10.95), media=late)) == ["too_short"]
    assert list(check(clip("a", end_s=11.6), media=late)) == ["span_outside"]


def test_an_utterance_of_minutes_is_implausible_in_meld():
    """The media of test dia38_utt4 and dia220_utt0 last as long as their wrong times say."""
    for kind, expected in (("meld", ["too_long"]), ("manifest", [])):
        found = check(clip("a"), media={"a.mp4": medium("1", 235.068)}, kind=kind)
        assert list(found) == expected


def test_classes_without_train_clips_are_a_warning():
    clips = [clip("a", label=CLASSES[0]), clip("b", label=CLASSES[1]), clip("v", "val")]
    found = check(*clips)["class_not_in_train"]
    assert (found.level, found.count) == (WARNING, 5) and CLASSES[2] not in CLASSES[:2]
    assert set(found.examples) < set(CLASSES[2:])
    assert check(clip("x", "challenge")) == {}, "nothing is trained on the challenge"


def test_without_need_media_are_not_missed_but_lengths_are():
    clips = [
        clip("a", duration_s=2.0),
        clip("b"),
        clip("c", start_s=1.0, end_s=2.0),
        clip("d", end_s=2.0),
        clip("e", "val", start_s=2.0),
    ]
    found = check(*clips, needs_media=False, clock_hz=25)
    assert list(found) == ["no_length"]
    assert (found["no_length"].level, found["no_length"].examples) == (WARNING, ("b", "e"))


def test_text_alone_needs_a_clock():
    found = check(clip("a", duration_s=2.0), needs_media=False)
    assert (found["no_clock"].level, found["no_clock"].count) == (ERROR, 1)


def test_a_finding_is_one_line_with_three_examples():
    clips = [
        clip(f"c{i}", media="m.mp4", group=f"g{i % 5}", split=["train", "val"][i // 5])
        for i in range(10)
    ]
    found = check(*clips, warnings=["something is odd"])
    line = found["group_across_splits"].line()
    assert line.startswith(
        "group_across_splits: 5 groups in several splits: g0 in train and val, g1 in train and "
        "val, g2 in train and val, ... - put each"
    )
    assert found["note"].line() == "note: 1 something is odd"
    assert [f.level for f in found.values()] == [ERROR, WARNING]
