"""MELD: the real annotation where it is at hand, and made-up files for what is wrong."""

import csv
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.config import Corpus
from erray.corpora import read_corpus
from erray.corpora.check import check_corpus
from erray.corpora.findings import ERROR
from erray.corpora.meld import SPLITS, check_media_folders, clean_transcript, read_meld
from erray.errors import UserError
from erray.labels import BASIC_7

REAL = Path(__file__).parents[4] / "shared" / "data" / "meld"
needs_real = pytest.mark.skipif(
    not REAL.is_dir(), reason="the folder shared/data beside the repository is missing"
)
# Known numbers of the corpus: clips, and clips per class in the order of the label set.
COUNTS = {
    "train": [9988, 4709, 1743, 1205, 268, 1109, 271, 683],
    "val": [1108, 469, 163, 150, 40, 153, 22, 111],
    "test": [2610, 1256, 402, 281, 50, 345, 68, 208],
}
# Train counts to dialogue 1038, and has none of number 60.
NUM_DIALOGUES = {"train": 1038, "val": 114, "test": 280}
REPEATED_TRAIN = {"dia12_utt7", "dia12_utt8", "dia53_utt0", "dia433_utt1", "dia887_utt0"}

ROW = {
    "Utterance": "Hey!",
    "Emotion": "joy",
    "Dialogue_ID": "0",
    "Utterance_ID": "0",
    "Season": "1",
    "Episode": "2",
    "StartTime": "00:01:02,500",
    "EndTime": "0:01:04,000",
}
HEADER = ["Sr No.", *ROW]


def write_split(root, split, *changes, header=HEADER):
    """A file with a row per dict of changes to :data:`ROW`, at times and with ids of its own."""
    with (root / f"{split}_sent_emo.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header, extrasaction="ignore", lineterminator="\r\n")
        writer.writeheader()
        for number, change in enumerate(changes):
            own = {"Utterance_ID": str(number), "Episode": f"{split} {number}"}
            writer.writerow(ROW | own | change)


@pytest.fixture
def root(tmp_path):
    for split in SPLITS:
        write_split(tmp_path, split, {}, {})
    return tmp_path


def read(root, **settings):
    return read_meld(Corpus(kind="meld", root=str(root), **settings))


def counts_of(clips):
    found = {}
    for split in SPLITS.values():
        labels = [clip.label for clip in clips if clip.split == split]
        found[split] = [len(labels), *(Counter(labels)[name] for name in BASIC_7.names)]
    return found


@needs_real
def test_the_real_corpus_has_its_known_counts_under_the_published_protocol():
    corpus = read(REAL, protocol="published")
    assert counts_of(corpus.clips) == COUNTS
    assert {clip.clip_id: why.split(":")[0] for clip, why in corpus.excluded} == {
        "train/dia125_utt3": "excluded_known_bad",
        "dev/dia110_utt7": "excluded_known_bad",
    }


@needs_real
def test_the_strict_protocol_drops_from_train_what_dev_and_test_repeat():
    corpus = read(REAL)
    repeated = {c.clip_id for c, why in corpus.excluded if why.startswith("excluded_repeated: ")}
    assert repeated == {f"train/{name}" for name in REPEATED_TRAIN}
    assert counts_of(corpus.clips) == COUNTS | {
        "train": [9983, 4706, 1742, 1204, 268, 1109, 271, 683]
    }
    every = [*corpus.clips, *(clip for clip, _ in corpus.excluded)]
    assert len({clip.clip_id for clip in every}) == len(every) == 9989 + 1109 + 2610
    dialogues = {split: {c.group for c in every if c.split == split} for split in COUNTS}
    assert {split: len(groups) for split, groups in dialogues.items()} == NUM_DIALOGUES
    assert len(set.union(*dialogues.values())) == sum(NUM_DIALOGUES.values())


@needs_real
def test_the_real_lengths_are_known_but_for_three():
    corpus = read(REAL)
    train = sorted(c.duration_s for c in corpus.clips if c.split == "train")
    assert sum(train) / len(train) == pytest.approx(3.14, abs=0.005)
    assert train[len(train) // 2] == pytest.approx(2.46, abs=0.005)
    assert train[-1] == pytest.approx(41.04)
    unknown = {clip.clip_id for clip in corpus.clips if clip.duration_s is None}
    assert unknown == {"test/dia38_utt4", "test/dia220_utt0", "test/dia155_utt3"}
    assert len(corpus.warnings) == 1 and all(name in corpus.warnings[0] for name in unknown)


@needs_real
def test_the_real_text_alone_is_a_valid_corpus():
    config = Corpus(kind="meld", root=str(REAL), clock_hz=25)
    corpus = read_corpus(config, needs_media=False)
    assert {clip.file_sha256 for clip in corpus.clips} == {None}
    assert all(clip.transcript for clip in corpus.clips)
    assert not any(c in clip.transcript for clip in corpus.clips for c in "\x92\u2019\u2026\xa0")
    findings = check_corpus(config, corpus)
    assert ERROR not in {finding.level for finding in findings}
    found = {finding.code: finding.count for finding in findings}
    assert found == {"too_short": 10, "no_length": 3, "note": 1}
    with pytest.raises(UserError, match=r"MELD's clips are not in .*expected a folder for train"):
        read_corpus(config, needs_media=True)


def test_an_utterance_becomes_a_clip(root):
    clip = read(root).clips[2]
    assert (clip.clip_id, clip.media) == ("dev/dia0_utt0", "dev/dia0_utt0.mp4")
    assert (clip.split, clip.group) == ("val", "dev/dia0")
    assert (clip.label, clip.transcript, clip.duration_s) == ("Happiness", "Hey!", 1.5)
    assert clip.start_s is None and clip.end_s is None, "times of the episode are no cuts"


def test_annotations_may_lie_elsewhere(root, tmp_path):
    (tmp_path / "clips").mkdir()
    for folder in ("..", str(tmp_path)):
        assert len(read(tmp_path / "clips", annotations=folder).clips) == 6


@pytest.mark.parametrize(
    "names",
    [("train", "dev", "test"), ("train_splits", "dev", "output_repeated_splits_test")],
)
def test_media_lie_in_the_folders_that_are_there(root, names):
    for name in names:
        (root / name).mkdir()
    check_media_folders(Corpus(kind="meld", root=str(root)))
    assert [clip.media for clip in read(root).clips[::2]] == [f"{n}/dia0_utt0.mp4" for n in names]


def test_a_split_without_a_folder_says_what_was_looked_for(root):
    (root / "train").mkdir()
    (root / "test").mkdir()
    with pytest.raises(UserError, match=r"for dev: dev/ or dev_splits_complete/, each") as caught:
        read_corpus(Corpus(kind="meld", root=str(root)), needs_media=True)
    assert "train_splits" not in str(caught.value)


def test_clips_behind_a_link_that_leads_outside_are_refused(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "dia0_utt0.mp4").write_bytes(b"secret")
    for name in SPLITS:
        (root / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=r"media 'dev/dia0_utt0.mp4' leads outside the corpus root"):
        read_corpus(Corpus(kind="meld", root=str(root)), needs_media=True)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("00:01:02,500", "00:01:02,500"),
        ("00:01:04,500", "00:01:02,500"),
        ("00:01:02,500", "00:05:02,500"),
        ("", "00:01:02,500"),
        ("soon", "later"),
    ],
)
def test_wrong_times_are_a_warning(root, start, end):
    write_split(root, "test", {}, {"StartTime": start, "EndTime": end})
    corpus = read(root)
    assert [clip.duration_s for clip in corpus.clips[4:]] == [1.5, None]
    assert corpus.warnings[0].startswith("1 utterances have wrong times")
    assert corpus.warnings[0].endswith("test/dia0_utt1")


def test_a_repeated_time_span_is_compared_as_a_time(root):
    times = {"Episode": "9", "StartTime": "0:01:02,500", "EndTime": "00:01:04,000"}
    write_split(root, "train", {}, {"Episode": "9"}, {"Episode": "9", "Season": "2"})
    write_split(root, "test", times)
    corpus = read(root)
    assert [(clip.clip_id, why) for clip, why in corpus.excluded] == [
        ("train/dia0_utt1", "excluded_repeated: the same time span as test/dia0_utt0")
    ]
    assert read(root, protocol="published").excluded == []


def test_text_is_cleaned():
    assert clean_transcript("you\x92re you\u2019re") == "you're you're"
    assert clean_transcript("a\x85b\x97c\x91d\x93e\x94f\x96g\xa0h") == "a b c d e f g h"
    assert clean_transcript("so\u2026") == "so..."


@given(st.text(st.characters(exclude_characters="\x92\u2019\u2026\x85\x97\x91\x93\x94\x96\xa0")))
def test_other_text_stays_as_it_is(text):
    assert clean_transcript(text) == text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Emotion": "bored"}, "line 3: Emotion is 'bored', expected one of neutral, joy"),
        ({"Dialogue_ID": "x"}, "line 3: Dialogue_ID is 'x', expected a number"),
        ({"Utterance_ID": ""}, "line 3: Utterance_ID is '', expected a number"),
    ],
)
def test_bad_rows_are_refused_with_their_line(root, change, message):
    write_split(root, "dev", {}, change)
    with pytest.raises(UserError, match=f"dev_sent_emo.csv: 1 bad rows, .*{message}"):
        read(root)


def test_missing_files_and_columns_are_named(root):
    write_split(root, "dev", {}, header=[name for name in HEADER if name != "Emotion"])
    with pytest.raises(UserError, match=r"dev_sent_emo.csv: missing columns: Emotion"):
        read(root)
    (root / "dev_sent_emo.csv").unlink()
    with pytest.raises(UserError, match=r"no .*dev_sent_emo.csv: expected train_sent_emo.csv, "):
        read(root)
