"""C-EXPR-DB from its published split files and from its annotation files, both made up here."""

from collections import Counter

import pytest

from erray.config import Corpus
from erray.corpora.cexpr import fold_numbers, read_cexpr
from erray.corpora.cexpr_spans import read_spans
from erray.errors import UserError
from erray.labels import CEXPR_8

CLASS_ID = "".join(
    f"{name.replace(' ', '-')}: {number}\n" for number, name in enumerate(CEXPR_8.names)
)
NUM_VIDEOS = 40


def clip_id(video, label, number=0):
    name = CEXPR_8.names[label].replace(" ", "-")
    return f"{name}/{video}_{name}_{number}"


def published_line(video, label, number=0, text="Oh, well, no"):
    return f"{clip_id(video, label, number)},{label},{text}"


def write_splits(folder, fold, *, train, val, test=None):
    target = folder / f"split-{fold}"
    target.mkdir(parents=True)
    for split, lines in (("train", train), ("val", val), ("test", test or val)):
        (target / f"{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def root(tmp_path):
    """Two published folds over 80 clips of 40 videos, the second clip of each of another class."""
    folder = tmp_path / "folds"
    lines = [
        published_line(video, (video + number) % 8, number)
        for video in range(NUM_VIDEOS)
        for number in range(2)
    ]
    for fold in range(2):
        val = lines[fold::2][:20]
        write_splits(folder, fold, train=[line for line in lines if line not in val], val=val)
    (folder / "class_id.yaml").write_text(CLASS_ID)
    return tmp_path


def read(root, **settings):
    settings = {"annotations": "folds"} | settings
    return read_cexpr(Corpus(kind="cexpr", root=str(root), **settings))


def groups_of(clips):
    return {s: {c.group for c in clips if c.split == s} for s in ("train", "val", "test")}


def test_the_published_fold_is_taken_as_it_is(root):
    corpus = read(root, protocol="published", labels="cexpr8", fold=1)
    assert Counter(clip.split for clip in corpus.clips) == {"train": 60, "val": 20, "test": 20}
    val = [clip for clip in corpus.clips if clip.split == "val"]
    assert (val[0].clip_id, val[0].label) == (clip_id(0, 1, 1), CEXPR_8.names[1])
    assert (val[0].group, val[0].transcript) == ("0", "Oh, well, no")
    assert val[0].media == f"{clip_id(0, 1, 1)}.mp4"


def test_val_as_test_is_the_same_content_under_another_id(root):
    clips = read(root, protocol="published").clips
    assert len({clip.clip_id for clip in clips}) == len(clips)
    val = {c.media: c.clip_id for c in clips if c.split == "val"}
    test = {c.media: c.clip_id for c in clips if c.split == "test"}
    assert test == {media: f"{name}#test" for media, name in val.items()}


def test_the_published_protocol_says_what_leaks(root):
    (text,) = read(root, protocol="published", labels="cexpr8").warnings
    assert "20 of 20 val clips share a source video with train" in text
    assert "20 of 20 test clips are val clips" in text
    folder = root / "clean"
    write_splits(
        folder,
        0,
        train=[published_line(1, 0)],
        val=[published_line(2, 0), published_line(1, 2)],
        test=[published_line(3, 0)],
    )
    (folder / "class_id.yaml").write_text(CLASS_ID)
    (text,) = read(root, annotations="clean", protocol="published").warnings
    assert "1 of 2 val clips share a source video" in text
    assert "0 of 1 test clips are val clips" in text


def test_the_strict_protocol_makes_grouped_folds_of_the_same_clips(root):
    tested = Counter()
    for fold in range(5):
        corpus = read(root, labels="cexpr8", fold=fold)
        groups = groups_of(corpus.clips)
        assert len(corpus.clips) == 2 * NUM_VIDEOS and all(groups.values())
        assert sum(map(len, groups.values())) == NUM_VIDEOS, "a video is in one split"
        assert corpus.warnings == []
        tested.update(clip.clip_id for clip in corpus.clips if clip.split == "test")
    assert set(tested.values()) == {1} and len(tested) == 2 * NUM_VIDEOS


def test_other_is_left_out_of_seven_classes(root):
    for settings in ({}, {"protocol": "published"}):
        corpus = read(root, **settings)
        assert {clip.label for clip in corpus.clips} == set(CEXPR_8.names[:7])
        assert {clip.label for clip, _ in corpus.excluded} == {"Other"}
        assert {why.split(":")[0] for _, why in corpus.excluded} == {"excluded_other"}
        both = [*corpus.clips, *(clip for clip, _ in corpus.excluded)]
        assert len(both) == len(read(root, labels="cexpr8", **settings).clips)


def test_class_numbers_come_from_the_file(root):
    names = {name.replace(" ", "_"): 7 - i for i, name in enumerate(CEXPR_8.names)}
    (root / "folds" / "class_id.yaml").write_text(
        "".join(f"{name}: {number}\n" for name, number in names.items())
    )
    clips = read(root, labels="cexpr8").clips
    label_of = {clip.clip_id: clip.label for clip in clips}
    assert label_of[clip_id(0, 0)] == "Other"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Sadly-Angry/1_Sadly-Angry_0,6", "expected <clip_id>,<class number>,<transcript>"),
        ("Sadly-Angry/1_Sadly-Angry_0,9,x", "class number is '9', expected one of 0, 1"),
        ("Sadly-Angry/1_Sadly-Angry_0,a,x", "class number is 'a'"),
        ("Sadly-Angry/1_Other_0,6,x", "expected <class>/<source video>_<class>_<number>"),
        ("clip1,6,x", "expected <class>/<source video>_<class>_<number>"),
        ("../../Other/1_Other_0,6,x", "leads outside the corpus root"),
    ],
)
def test_bad_lines_are_refused_with_their_number(root, line, message):
    path = root / "folds" / "split-0" / "val.txt"
    path.write_text(f"{published_line(1, 0)}\n\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"val.txt: 1 bad rows, .*line 3: ") as caught:
        read(root)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Bored: 1\n", "'Bored': 1, expected a number for each of Fearfully Surprised"),
        ("Other: x\n", "'Other': 'x', expected a number"),
        ("Other: 7\n", "expected a number for each of"),
        ("[1\n", "is not valid YAML"),
    ],
)
def test_a_wrong_class_file_is_refused(root, content, message):
    (root / "folds" / "class_id.yaml").write_text(content)
    with pytest.raises(UserError, match=message):
        read(root)


def test_what_is_missing_is_named(root):
    with pytest.raises(UserError, match=r"corpus.fold 4: .*folds has the folds 0, 1"):
        read(root, protocol="published", fold=4)
    with pytest.raises(UserError, match=r"expected the published split folders .* found neither"):
        read(root, annotations="nowhere")
    (root / "folds" / "split-0" / "test.txt").unlink()
    with pytest.raises(UserError, match=r"no split file .*test.txt"):
        read(root)
    (root / "folds" / "1.csv").touch()
    with pytest.raises(UserError, match="found both"):
        read(root)


def test_the_folds_are_those_that_are_made_or_those_of_the_files(root):
    for name in ("split-12", "split-none"):
        (root / "folds" / name).mkdir()
    settings = {"kind": "cexpr", "root": str(root), "annotations": "folds"}
    assert fold_numbers(Corpus(**settings, num_folds=3)) == [0, 1, 2]
    assert fold_numbers(Corpus(**settings, protocol="published")) == [0, 1, 12]


def test_one_clip_with_two_labels_is_refused(root):
    path = root / "folds" / "split-1" / "val.txt"
    changed = path.read_text().replace(f"{clip_id(0, 1, 1)},1,", f"{clip_id(0, 1, 1)},2,")
    path.write_text(changed)
    with pytest.raises(UserError, match=r"is Happily Surprised in one .* and Sadly Surprised in"):
        read(root)


def flags(label):
    return ",".join('"1"' if i == label else '"0"' for i in range(8))


@pytest.fixture
def spans(tmp_path):
    """Annotation files of twelve videos, four spans each; video 3 is an .mkv."""
    folder = tmp_path / "annotation"
    folder.mkdir()
    (tmp_path / "videos").mkdir()
    for video in range(12):
        rows = [
            f'"00:00:{4 * i:02}.250","00:01:{4 * i:02}.5",{flags((video + i) % 8)}'
            if i == 3
            else f'"00:00:{4 * i:02}.250","00:00:{4 * i + 3:02}.5",{flags((video + i) % 8)}'
            for i in range(4)
        ]
        (folder / f"{video}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
        suffix = "mkv" if video == 3 else "mp4"
        (tmp_path / "videos" / f"{video}.{suffix}").write_bytes(b"x")
    return tmp_path


def read_annotation(root, **settings):
    return read(root, annotations="annotation", **settings)


def test_annotated_spans_become_clips_of_their_video(spans):
    clips = {c.clip_id: c for c in read_annotation(spans, labels="cexpr8", num_folds=3).clips}
    assert len(clips) == 48
    last = clips[clip_id(3, 6)]
    assert (last.media, last.group, last.label) == ("videos/3.mkv", "3", "Sadly Angry")
    assert (last.start_s, last.end_s, last.transcript) == (12.25, 72.5, None)
    groups = groups_of(clips.values())
    assert all(groups.values()) and sum(map(len, groups.values())) == 12


def test_annotation_files_have_no_published_folds(spans):
    with pytest.raises(UserError, match="needs the published split folders"):
        read_annotation(spans, protocol="published")


def write_annotation(root, text):
    (root / "24.csv").write_text(text, encoding="utf-8")
    return [root / "24.csv"]


def test_headers_blanks_and_short_rows_are_understood(tmp_path):
    path = write_annotation(
        tmp_path,
        "Begin,End,FS,HS,SS,DS,AS,SF,SA,Other\n"
        f'"00:00:01.000","00:00:02.000",{flags(7)},"", \n'
        "\n"
        '"01:00:03.5","01:00:04","","1","","","","","",""\n'
        '"01:00:05.0","01:00:06.25 ","0","1"\n',
    )
    clips, warnings = read_spans(str(tmp_path), path)
    assert [(c.clip_id, c.start_s, c.end_s) for c in clips] == [
        (clip_id(24, 7), 1.0, 2.0),
        (clip_id(24, 1), 3603.5, 3604.0),
        (clip_id(24, 1, 1), 3605.0, 3606.25),
    ]
    assert {clip.media for clip in clips} == {"24.mp4"} and warnings == []


def test_overlapping_spans_are_a_warning(tmp_path):
    rows = [f'"00:00:0{s}.0","00:00:0{s + 2}.0",{flags(0)}' for s in (1, 3, 4)]
    _, (text,) = read_spans(str(tmp_path), write_annotation(tmp_path, "\n".join(rows)))
    assert text.startswith("1 spans begin before") and text.endswith(clip_id(24, 0, 2))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"1.5","2.5","1"', "time is '1.5', expected hh:mm:ss.ms"),
        ('"00:00:61.0","00:02:00.0","1"', "time is '00:00:61.0'"),
        ('"00:00:03.0","00:00:02.0","1"', "end_s is 2.0, expected more than start_s 3.0"),
        ('"00:00:01.0","00:00:02.0","0","0"', "expected one 1 among"),
        ('"00:00:01.0","00:00:02.0","1","1"', "expected one 1 among"),
        ('"00:00:01.0","00:00:02.0","2","1"', "expected one 1 among"),
        ('"00:00:01.0","00:00:02.0"', "expected 10 columns"),
        ('"00:00:01.0","00:00:02.0",1,0,0,0,0,0,0,0,0', "expected 10 columns"),
    ],
)
def test_bad_spans_are_refused_with_their_line(tmp_path, row, message):
    text = f'"00:00:01.0","00:00:02.0",{flags(1)}\n{row}\n'
    with pytest.raises(
        UserError, match=r"24.csv: 1 bad rows, nothing was read: line 2: "
    ) as caught:
        read_spans(str(tmp_path), write_annotation(tmp_path, text))
    assert message in str(caught.value)
