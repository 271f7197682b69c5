"""The challenge: videos of the frame list, unlabelled, named as the submission names them."""

import numpy as np
import pytest

from erray.config import Corpus
from erray.corpora.challenge import read_challenge
from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.submission import write_submission


@pytest.fixture
def root(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in ("videos/01.mp4", "02.mkv"):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def read(root, *lines):
    (root / "frames.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_challenge(Corpus(kind="cexpr-challenge", root=str(root), annotations="frames.txt"))


def test_a_video_of_the_list_is_an_unlabelled_clip(root):
    lines = ["01/00001.jpg", "02/00001.jpg", "01/00002.jpg", "videos/01/00001.jpg", "3/00001.jpg"]
    clips = read(root, *lines).clips
    assert [(clip.clip_id, clip.media) for clip in clips] == [
        ("01", "videos/01.mp4"),
        ("02", "02.mkv"),
        ("videos/01", "videos/01.mp4"),
        ("3", "3.mp4"),
    ]
    assert {(clip.split, clip.label, clip.start_s) for clip in clips} == {("challenge", None, None)}


def test_a_submission_from_its_clips_fits_the_list(root):
    lines = [f"{video}/{number:05}.jpg" for video in ("01", "02") for number in (1, 2, 3)]
    classes = {clip.clip_id: np.arange(3) for clip in read(root, *lines).clips}
    frame_list = root / "frames.txt"
    names = CEXPR_7.names
    written = write_submission(
        root / "out.csv", classes, frame_list, class_names=names, rejected={}
    )
    assert (written.rows, written.held) == (6, 0)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("image_location", "is not <video>/<frame, 5 digits>.jpg"),
        ("01/1.jpg", "is not <video>/<frame, 5 digits>.jpg"),
        ("01/00001.jpg", "01/00001.jpg repeats line 1"),
        ("../01/00001.jpg", "leads outside the corpus root"),
        ("/etc/00001.jpg", "must be a path relative to the corpus root"),
    ],
)
def test_bad_lines_are_refused_with_their_number(root, line, message):
    with pytest.raises(UserError, match=r"frames.txt: 1 bad rows, .*: line 2: ") as caught:
        read(root, "01/00001.jpg", line)
    assert message in str(caught.value)


def test_a_missing_or_empty_list_is_refused(root):
    with pytest.raises(UserError, match=r"corpus.annotations is not set: give the organisers'"):
        read_challenge(Corpus(kind="cexpr-challenge", root=str(root)))
    with pytest.raises(UserError, match=r"no frame list at .*absent.txt"):
        read_challenge(Corpus(kind="cexpr-challenge", root=str(root), annotations="absent.txt"))
    with pytest.raises(UserError, match="found none"):
        read(root, "")
