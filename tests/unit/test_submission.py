"""The challenge's file: every frame of the list once, or no file at all."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erray.errors import UserError
from erray.labels import BASIC_7, CEXPR_7
from erray.records import PREDICTION_SCHEMA, tensor_columns
from erray.submission import check_frames, write_submission

HEADER = (
    "image_location,Fearfully_Surprised,Happily_Surprised,Sadly_Surprised,"
    "Disgustedly_Surprised,Angrily_Surprised,Sadly_Fearful,Sadly_Angry"
)


def prediction(clip_id: str, classes: list[int], names=CEXPR_7.names) -> dict[str, Any]:
    """A row whose frame i is of class ``classes[i]``."""
    logits_TC = np.eye(len(names), dtype=np.float32)[np.array(classes, dtype=int)]
    columns = tensor_columns(logits_TC)
    return {
        "clip_id": clip_id,
        "classes": list(names),
        "logits": columns["values"],
        "shape": columns["shape"],
        "dtype": columns["dtype"],
    }


def table(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PREDICTION_SCHEMA)


def frames(clip_id: str, num: int) -> list[str]:
    return [f"{clip_id}/{i:05d}.jpg" for i in range(1, num + 1)]


def submit(folder: Path, predictions: pa.Table, listed: list[str]) -> list[str]:
    frame_list = folder / "frames.txt"
    frame_list.write_text("\n".join(listed) + "\n")
    count = write_submission(folder / "submission.csv", predictions, frame_list)
    lines = (folder / "submission.csv").read_text().splitlines()
    assert count == len(lines) - 1
    return lines


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
    predictions = table(*(prediction(clip_id, found) for clip_id, found in clips.items()))
    header, *lines = submit(tmp_path_factory.mktemp("submission"), predictions, listed)
    assert header == HEADER
    rows = [(frame, int(number)) for frame, number in csv.reader(lines)]
    assert [frame for frame, _ in rows] == listed
    for frame, number in rows:
        clip_id, _, name = frame.rpartition("/")
        assert number == clips[clip_id][int(name.removesuffix(".jpg")) - 1]


def test_the_bytes_of_a_small_file(tmp_path):
    (tmp_path / "frames.txt").write_bytes(b"v/00001.jpg\r\n\r\nv/00002.jpg")
    path = tmp_path / "submission.csv"
    assert write_submission(path, table(prediction("v", [3, 0])), tmp_path / "frames.txt") == 2
    assert path.read_bytes() == f"{HEADER}\nv/00001.jpg,3\nv/00002.jpg,0\n".encode()
    assert {file.name for file in tmp_path.iterdir()} == {"frames.txt", "submission.csv"}


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        (frames("v", 2), r"1 predicted frames that are not in the list \(first: v/00003.jpg\)"),
        (frames("v", 4), r"1 frames without a prediction \(first: v/00004.jpg\)"),
        ([*frames("v", 3), "v/00002.jpg"], "1 frames twice in the list"),
        (frames("w", 3), "3 frames without a prediction .*; 3 predicted frames"),
        ([], "3 predicted frames"),
    ],
)
def test_a_list_that_differs_is_refused_and_nothing_is_written(tmp_path, listed, problem):
    with pytest.raises(UserError, match=problem) as caught:
        submit(tmp_path, table(prediction("v", [1, 2, 3])), listed)
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["frames.txt"]


def test_other_classes_are_refused(tmp_path):
    with pytest.raises(UserError, match="the model predicts Neutral, Happiness"):
        submit(tmp_path, table(prediction("v", [1], BASIC_7.names)), frames("v", 1))
    assert [file.name for file in tmp_path.iterdir()] == ["frames.txt"]


def test_a_clip_predicted_twice_is_a_defect(tmp_path):
    with pytest.raises(AssertionError, match=r"two predictions of v/00001\.jpg"):
        submit(tmp_path, table(prediction("v", [1]), prediction("v", [2])), frames("v", 1))
    assert [file.name for file in tmp_path.iterdir()] == ["frames.txt"]


def test_a_refused_list_leaves_the_file_before_it(tmp_path):
    submit(tmp_path, table(prediction("v", [1])), frames("v", 1))
    before = (tmp_path / "submission.csv").read_bytes()
    with pytest.raises(UserError):
        submit(tmp_path, table(prediction("v", [2])), frames("v", 2))
    assert (tmp_path / "submission.csv").read_bytes() == before


names = st.lists(st.text("ab", max_size=2), max_size=6)


@given(names, names)
def test_frames_pass_only_when_both_sides_are_the_same_set_once(found, expected):
    same = sorted(set(found)) == sorted(expected)
    try:
        check_frames(dict.fromkeys(found, 0), expected, frame_list=Path("list.txt"))
    except UserError:
        assert not same
    else:
        assert same
