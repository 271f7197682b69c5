"""Building the demo corpus: files as promised, the same bytes every time, all or nothing."""

import csv
import hashlib
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from facenet_pytorch import MTCNN

from erray.demo import corpus
from erray.demo.corpus import build_demo_corpus
from erray.errors import UserError
from erray.labels import CEXPR_7

COUNTS = {"num_train": 1, "num_val": 1, "num_test": 1, "num_challenge": 1}


def _hashes(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    manifest = build_demo_corpus(
        tmp_path_factory.mktemp("demo") / "made" / "corpus", **COUNTS, num_processes=2
    )
    assert manifest.name == "manifest.csv"
    return manifest.parent


def test_one_process_writes_the_same_bytes_as_two(root: Path, tmp_path: Path) -> None:
    build_demo_corpus(tmp_path / "again", **COUNTS, num_processes=1)
    assert _hashes(tmp_path / "again") == _hashes(root)


def test_manifest_has_the_columns_and_files_of_any_user(root: Path) -> None:
    rows = _rows(root / "manifest.csv")
    columns = "clip_id,media,start_s,end_s,group,split,label,transcript"
    assert (root / "manifest.csv").read_text().splitlines()[0] == columns
    assert [row["split"] for row in rows] == ["train", "val", "test", "challenge"]
    for row in rows:
        assert (root / row["media"]).is_file()
        assert row["media"] == f"videos/{row['split']}/{row['clip_id']}.mp4"
        assert row["transcript"]
        if row["split"] == "challenge":
            assert row["label"] == ""
        else:
            assert row["label"] in CEXPR_7.names


def test_truth_covers_every_clip_and_agrees_with_the_manifest(root: Path) -> None:
    truth = {row["clip_id"]: row for row in _rows(root / "truth.csv")}
    for row in _rows(root / "manifest.csv"):
        hidden = truth.pop(row["clip_id"])
        assert hidden["label"] in CEXPR_7.names
        assert row["label"] in ("", hidden["label"])
    assert not truth


def test_media_are_small_h264_and_aac_of_equal_length(root: Path) -> None:
    for row in _rows(root / "manifest.csv"):
        with av.open(str(root / row["media"])) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert video.codec_context.name == "h264" and audio.codec_context.name == "aac"
            assert video.width <= 320 and video.average_rate == 25
            assert audio.codec_context.sample_rate == 16_000 and audio.codec_context.channels == 1
            times = [frame.pts * frame.time_base for frame in container.decode(video)]
        duration_s = len(times) / 25
        assert times == [Fraction(n, 25) for n in range(len(times))]
        assert 2 <= duration_s <= 4
        with av.open(str(root / row["media"])) as container:
            blocks = [f.to_ndarray() for f in container.decode(audio=0)]
            num_samples = sum(block.shape[1] for block in blocks)
        # The last AAC block may be filled up: 1024 samples.
        assert duration_s <= num_samples / 16_000 < duration_s + 1024 / 16_000
        assert np.concatenate(blocks, axis=1).std() > 0.005


def test_frame_list_names_every_decoded_frame_of_the_challenge(root: Path) -> None:
    expected = []
    for row in _rows(root / "manifest.csv"):
        if row["split"] != "challenge":
            continue
        with av.open(str(root / row["media"])) as container:
            num_frames = sum(1 for _ in container.decode(video=0))
        expected += [f"{row['clip_id']}/{n:05d}.jpg" for n in range(1, num_frames + 1)]
    assert (root / "challenge_frames.txt").read_text().splitlines() == expected
    assert expected[0] == "01/00001.jpg"


def test_detector_finds_exactly_one_whole_face(root: Path) -> None:
    detector = MTCNN(min_face_size=40)
    for row in _rows(root / "manifest.csv"):
        with av.open(str(root / row["media"])) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
        for frame in (frames[0], frames[-1]):
            boxes, scores = detector.detect(frame)
            assert boxes is not None and len(boxes) == 1
            left, top, right, bottom = boxes[0]
            assert scores[0] > 0.9
            assert 0 <= left < right <= frame.shape[1] and 0 <= top < bottom <= frame.shape[0]
            assert 60 <= bottom - top <= 135


def test_finished_corpus_is_reused(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert build_demo_corpus(root, **COUNTS, num_processes=1) == root / "manifest.csv"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_other_settings_in_the_same_place_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"other settings.*delete that folder or name another"):
        build_demo_corpus(root, **COUNTS, seed=1)


def test_foreign_folder_and_file_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="not a demo corpus"):
        build_demo_corpus(tmp_path, **COUNTS)
    with pytest.raises(UserError, match="is a file"):
        build_demo_corpus(tmp_path / "thesis.txt", **COUNTS)
    assert (tmp_path / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize("wrong", [{"num_train": -1}, {"seed": -1}, {"num_processes": 0}])
def test_numbers_out_of_range_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    name = next(iter(wrong))
    with pytest.raises(UserError, match=f"{name} is"):
        build_demo_corpus(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_interrupted_build_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(folder: Path, plans: object, **_: int) -> None:
        (folder / "videos").mkdir(parents=True)
        (folder / "manifest.csv").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(corpus, "_build", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_demo_corpus(tmp_path / "demo", **COUNTS)
    assert list(tmp_path.iterdir()) == []


def test_two_builders_at_once_share_the_first_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "demo"
    num_clips = {"train": 0, "val": 0, "test": 0, "challenge": 0}

    def lose_the_race(folder: Path, plans: object, **_: int) -> None:
        folder.mkdir()
        target.mkdir()
        stamp = {"version": corpus._VERSION, "seed": 0, "num_clips": num_clips}
        (target / "corpus.json").write_text(json.dumps(stamp))

    monkeypatch.setattr(corpus, "_build", lose_the_race)
    counts = {f"num_{split}": 0 for split in num_clips}
    assert build_demo_corpus(target, **counts) == target / "manifest.csv"
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]
