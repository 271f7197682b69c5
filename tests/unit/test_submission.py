"""The challenge's file: every frame of the list once, or no file at all."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.errors import UserError
from erray.labels import BASIC_7, CEXPR_7
from erray.submission import Submitted, differences, write_submission

HEADER = (
    "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,"
    "Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
)


def frames(clip_id: str, num: int) -> list[str]:
    return [f"{clip_id}/{i:05d}.jpg" for i in range(1, num + 1)]


def submit(
    folder: Path,
    classes: dict[str, list[int]],
    listed: list[str],
    *,
    fill: str = "refuse",
    rejected: dict[str, str] | None = None,
    names: tuple[str, ...] = CEXPR_7.names,
) -> tuple[Submitted, list[str]]:
    """Write a submission; return the counts and the file's lines."""
    frame_list = folder / "frames.txt"
    frame_list.write_text("\n".join(listed) + "\n")
    found = {video: np.array(ids, dtype=np.int64) for video, ids in classes.items()}
    path = folder / "submission.csv"
    counts = write_submission(
        path, found, frame_list, class_names=names, rejected=rejected or {}, fill=fill
    )
    return counts, path.read_text().splitlines()


def files(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


clips = st.dictionaries(
    st.text("abc_1", min_size=1, max_size=6),
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    min_size=1,
    max_size=4,
)


@given(clips, st.randoms())
@settings(max_examples=50)
def test_row_n_is_the_nth_frame_whatever_the_lists_order(tmp_path_factory, clips, random):
    listed = [frame for clip_id, found in clips.items() for frame in frames(clip_id, len(found))]
    random.shuffle(listed)
    counts, (header, *lines) = submit(tmp_path_factory.mktemp("submission"), clips, listed)
    assert header == HEADER and counts == Submitted(len(listed), 0)
    rows = [(frame, int(number)) for frame, number in csv.reader(lines)]
    assert [frame for frame, _ in rows] == listed
    for frame, number in rows:
        clip_id, _, name = frame.rpartition("/")
        assert number == clips[clip_id][int(name.removesuffix(".jpg")) - 1]


def test_the_bytes_of_a_small_file(tmp_path):
    frame_list, path = tmp_path / "frames.txt", tmp_path / "submission.csv"
    frame_list.write_bytes(b"v/00001.jpg\r\n\r\nv/00002.jpg")
    classes = {"v": np.array([3, 0])}
    write_submission(path, classes, frame_list, class_names=CEXPR_7.names, rejected={})
    assert path.read_bytes() == f"{HEADER}\nv/00001.jpg,3\nv/00002.jpg,0\n".encode()
    assert files(tmp_path) == {"frames.txt", "submission.csv"}


@pytest.mark.parametrize(
    ("listed", "problem", "line"),
    [
        (
            frames("v", 2),
            r"1 predicted frames that are not listed: v \(2 listed, 3 predicted: 1 unknown\)",
            "v,2,3,0,,1,v/00003.jpg,0",
        ),
        (
            frames("v", 4),
            r"1 listed frames without a prediction: v \(4 listed, .*predict\.submission\.fill=hold",
            "v,4,3,1,v/00004.jpg,0,,0",
        ),
        ([*frames("v", 3), "v/00002.jpg"], "1 frames twice in the list", "v,3,3,0,,0,,1"),
        (frames("w", 3), "3 listed frames .*, 3 predicted", "w,3,0,3,w/00001.jpg,0,,0"),
        ([], "3 predicted frames", "v,0,3,0,,3,v/00001.jpg,0"),
    ],
)
def test_a_list_that_differs_is_refused_and_the_differences_are_listed(
    tmp_path, listed, problem, line
):
    with pytest.raises(UserError, match=problem) as caught:
        submit(tmp_path, {"v": [1, 2, 3]}, listed)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == {"frames.txt", "submission_differences.csv"}
    header, *lines = (tmp_path / "submission_differences.csv").read_text().splitlines()
    assert header.split(",")[:4] == ["video", "listed", "predicted", "missing"]
    assert line in lines


def test_the_worst_videos_are_named_and_the_others_are_counted(tmp_path):
    listed = [frame for i in range(5) for frame in frames(f"v{i}", 3 + i)]
    with pytest.raises(UserError) as caught:
        submit(tmp_path, {f"v{i}": [0, 0] for i in range(5)}, listed)
    assert "15 listed frames" in str(caught.value) and " and 2 more (every" in str(caught.value)
    assert str(caught.value).index("v4 (7 listed") < str(caught.value).index("v3 (6 listed")
    assert len((tmp_path / "submission_differences.csv").read_text().splitlines()) == 6


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=9),
    st.integers(0, 5),
    st.integers(1, 3),
    st.randoms(),
)
@settings(max_examples=50)
def test_held_frames_have_the_class_before_them(tmp_path_factory, ids, more, other, random):
    """Missing at the end, which is where a decoder that gives up leaves off."""
    listed = [*frames("v", len(ids) + more), *frames("w", other)]
    random.shuffle(listed)
    folder = tmp_path_factory.mktemp("submission")
    counts, lines = submit(folder, {"v": ids, "w": [6] * other}, listed, fill="hold")
    assert counts == Submitted(len(listed), more)
    found = dict(csv.reader(lines[1:]))
    said = [int(found[frame]) for frame in frames("v", len(ids) + more)]
    assert said == ids + [ids[-1]] * more
    assert ("submission_differences.csv" in files(folder)) == (more > 0)


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        ([*frames("v", 2), *frames("w", 2)], r"w \(2 listed, 0 predicted: 2 missing\)"),
        (frames("v", 1), "1 predicted frames that are not listed"),
        ([*frames("v", 2), "v/00001.jpg"], "1 frames twice"),
    ],
)
def test_hold_invents_no_video_and_drops_no_frame(tmp_path, listed, problem):
    with pytest.raises(UserError, match=problem):
        submit(tmp_path, {"v": [1, 2]}, listed, fill="hold")
    assert "submission.csv" not in files(tmp_path)


def test_frames_of_a_long_video_are_held_in_order_of_number(tmp_path):
    ids = [0] * 99_999 + [4]
    _, lines = submit(tmp_path, {"v": ids}, frames("v", 100_001), fill="hold")
    assert lines[-1] == "v/100001.jpg,4"
    assert Counter(line.rpartition(",")[2] for line in lines[1:]) == {"0": 99_999, "4": 2}


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="the model predicts Neutral, Happiness"):
        submit(tmp_path, {"v": [1]}, frames("v", 1), names=BASIC_7.names)
    assert files(tmp_path) == {"frames.txt"}


def test_a_refused_list_leaves_the_file_before_it_and_a_good_one_clears_the_differences(tmp_path):
    submit(tmp_path, {"v": [1]}, frames("v", 1))
    before = (tmp_path / "submission.csv").read_bytes()
    with pytest.raises(UserError):
        submit(tmp_path, {"v": [2]}, frames("v", 2))
    assert (tmp_path / "submission.csv").read_bytes() == before
    assert "submission_differences.csv" in files(tmp_path)
    submit(tmp_path, {"v": [2, 2]}, frames("v", 2))
    assert files(tmp_path) == {"frames.txt", "submission.csv"}


names = st.lists(st.text("ab/", max_size=3), max_size=6)


@given(names, names)
def test_frames_pass_only_when_both_sides_are_the_same_set_once(found, expected):
    wrong = differences(dict.fromkeys(found, 0), expected)
    assert (not wrong) == (sorted(set(found)) == sorted(expected))
    assert sum(video.missing for video in wrong) == len(set(expected) - set(found))
    assert sum(video.unknown for video in wrong) == len(set(found) - set(expected))


@pytest.mark.parametrize("fill", ["refuse", "hold"])
def test_a_listed_clip_that_was_rejected_is_refused_by_name_and_reason(tmp_path, fill):
    rejected = {"w": "not_finite: logits of 2 of 2 ticks", "unlisted": "no_video: none"}
    listed = [*frames("v", 2), *frames("w", 2)]
    with pytest.raises(UserError) as caught:
        submit(tmp_path, {"v": [3, 0]}, listed, fill=fill, rejected=rejected)
    said = str(caught.value)
    assert "1 clips that" in said and "were rejected: w: not_finite: logits of 2 of 2" in said
    assert "unlisted" not in said and "\n" not in said
    assert files(tmp_path) == {"frames.txt", "submission_differences.csv"}
    counts, _ = submit(tmp_path, {"v": [3, 0]}, frames("v", 2), rejected=rejected)
    assert counts == Submitted(2, 0), "a rejected clip that is not listed is nobody's frame"
