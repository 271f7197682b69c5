"""The workers of an extraction in a plain shell: tiny media in, tables on disk out."""

from __future__ import annotations

import io
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage.data import astronaut

from erray.faces.associate import Detections
from erray.faces.detect import DetectorConfig
from erray.faces.track import FaceTracker, TrackerConfig
from erray.records import (
    CLIP_SCHEMA,
    DONE,
    REJECTED,
    STATUS_SCHEMA,
    Clip,
    FaceSample,
    Stream,
    Word,
    tensor_from_columns,
)
from erray.stages import EncodeStage, TracksStage
from erray.stages.clock import on_clock, stated_ticks, ticks_on_clock
from erray.store import RunFolder
from tests.unit.media_files import cut_file, write_images, write_video, write_wav

TRACKER = TrackerConfig(stride=10, crop_size_px=32)
TIMES_MS = [40 * i for i in range(10)]


class CornerDetector:
    """The white corner of a made-up picture is a face; a picture without one has none."""

    def __call__(self, images: list[np.ndarray]) -> list[Detections]:
        return [self._one(image) for image in images]

    def follow(self, images: list[np.ndarray], boxes: list[np.ndarray]) -> list[Detections]:
        return self(images)

    def _one(self, image: np.ndarray) -> Detections:
        if image[2:10, 2:10].mean() < 240:
            return Detections(np.zeros((0, 4), "f4"), np.zeros((0, 5, 2), "f4"), np.zeros(0, "f4"))
        points = np.array([[[6, 6], [14, 6], [10, 9], [7, 13], [13, 13]]], "f4")
        return Detections(np.array([[0, 0, 20, 16]], "f4"), points, np.array([0.9], "f4"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def tracks_stage(
    run: RunFolder, root: Path, *, faces: bool = False, clock_hz: float | None = None
) -> TracksStage:
    stage = TracksStage(
        run=run,
        root=str(root),
        fingerprint="f1",
        clock_hz=clock_hz,
        detector=None,
        tracker=TRACKER,
    )
    if faces:
        stage.tracker = FaceTracker(CornerDetector(), TRACKER)
    return stage


def clip_rows(*media: str, **fields: Any) -> list[dict[str, Any]]:
    """Clips named after their media; ``key`` is ``key-<media>``."""
    clips = [Clip(clip_id=m, media=m, split="train", group=m, file_sha256=m) for m in media]
    return [asdict(clip) | {"key": f"key-{clip.media}"} | fields for clip in clips]


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=CLIP_SCHEMA.append(pa.field("key", pa.string())))


def encode_stage(run: RunFolder, root: Path, encoder: str, **options: Any) -> EncodeStage:
    return EncodeStage(
        run=run, root=str(root), encoder=encoder, options=options, fingerprint=f"f-{encoder}"
    )


def encode_table(status: pa.Table, rows: list[dict[str, Any]], crops_shard: str = "") -> pa.Table:
    """Rows for an encoder from the clips and the status rows of their tracks."""
    clocks = {row["key"]: row["frame_times_s"] for row in status.to_pylist()}
    schema = pa.schema(
        [
            *CLIP_SCHEMA,
            ("key", pa.string()),
            ("frame_times_s", pa.list_(pa.float64())),
            ("tracks_key", pa.string()),
            ("crops_shard", pa.string()),
        ]
    )
    more = {"crops_shard": crops_shard}
    return pa.Table.from_pylist(
        [
            row
            | {"key": f"enc-{row['media']}", "tracks_key": row["key"]}
            | {"frame_times_s": clocks[row["key"]], **more}
            for row in rows
        ],
        schema=schema,
    )


def values_of(row: dict[str, Any]) -> np.ndarray:
    return tensor_from_columns(row["values"], row["shape"], row["dtype"])


def test_a_clip_leaves_its_clock_its_tracks_and_its_crops(run, root):
    write_video(root / "a.mp4", TIMES_MS)
    returned = tracks_stage(run, root, faces=True)(table(clip_rows("a.mp4")))
    assert returned.schema == STATUS_SCHEMA
    assert returned.to_pylist() == run.status.read().to_pylist()
    (status,) = returned.to_pylist()
    expected = {"clip_id": "a.mp4", "stage": "tracks", "fingerprint": "f1", "key": "key-a.mp4"}
    expected |= {"state": DONE, "reason": None, "note": None, "num_tracks": 1}
    assert {name: status[name] for name in expected} == expected
    assert status["frame_times_s"] == pytest.approx([t / 1000 for t in TIMES_MS], abs=1e-4)
    assert status["seconds"] > 0
    (track,) = run.tracks.read().to_pylist()
    assert (track["key"], track["fingerprint"], track["is_main"]) == ("key-a.mp4", "f1", True)
    assert (track["frame_width_px"], track["frame_height_px"]) == (64, 48)
    assert track["present"] == [True] * 10 and track["times_s"] == status["frame_times_s"]
    np.testing.assert_allclose(track["boxes_px"], [[0, 0, 20, 16]] * 10)
    for stored in (run.tracks, run.crops):
        assert [Path(path).name for path in stored.shards()] == [status["shard"]]
    (crops,) = run.crops.read().to_pylist()
    assert (crops["key"], crops["ticks"], crops["size_px"]) == ("key-a.mp4", list(range(10)), 32)
    assert {Image.open(io.BytesIO(jpeg)).size for jpeg in crops["jpegs"]} == {(32, 32)}


def test_the_real_detector_finds_a_portrait(run, root):
    portrait = np.ascontiguousarray(astronaut()[40:240:2, 120:320:2])
    write_images(root / "a.mp4", [portrait] * 3)
    stage = TracksStage(
        run=run,
        root=str(root),
        fingerprint="f1",
        clock_hz=None,
        detector=DetectorConfig(min_face_px=30),
        tracker=TRACKER,
    )
    (status,) = stage(table(clip_rows("a.mp4"))).to_pylist()
    assert (status["state"], status["num_tracks"]) == (DONE, 1)
    (track,) = run.tracks.read().to_pylist()
    np.testing.assert_allclose(track["boxes_px"][0], [28, 11, 75, 69], atol=8)


def test_what_cannot_be_read_is_a_row_and_its_neighbours_are_done(run, root):
    write_video(root / "good.mp4", TIMES_MS)
    (root / "empty.mp4").write_bytes(b"")
    (root / "text.mp4").write_text("nothing but words")
    write_wav(root / "sound.wav", np.zeros((1, 8000)), 8000)
    names = ["empty.mp4", "good.mp4", "text.mp4", "missing.mp4", "sound.wav"]
    status = tracks_stage(run, root, faces=True)(table(clip_rows(*names))).to_pylist()
    assert [row["clip_id"] for row in status] == names
    assert [row["state"] for row in status] == [REJECTED, DONE, *[REJECTED] * 3]
    assert [(row["reason"] or "").split(":")[0] for row in status] == [
        "empty",
        "",
        "not_media",
        "no_media",
        "no_video",
    ]
    assert all(row["frame_times_s"] is None for row in status if row["state"] == REJECTED)
    for stored in (run.tracks, run.crops):
        assert set(stored.read(columns=["key"])["key"].to_pylist()) == {"key-good.mp4"}


def test_a_truncated_medium_is_done_with_a_note(run, root):
    options = {"options": {"g": "1"}, "container_options": {"movflags": "faststart"}}
    whole = write_video(root / "whole.mp4", [40 * i for i in range(50)], **options)
    cut_file(root / "cut.mp4", whole)
    (status,) = tracks_stage(run, root)(table(clip_rows("cut.mp4"))).to_pylist()
    num_ticks = len(status["frame_times_s"])
    assert status["state"] == DONE and 15 < num_ticks < 35
    assert status["note"] == f"truncated {num_ticks}/50"


def test_without_a_face_a_clip_is_done_with_no_track(run, root):
    dark = np.full((48, 64, 3), 30, np.uint8)
    write_images(root / "dark.mp4", [dark] * 5)
    stage = tracks_stage(run, root, faces=True)
    (status,) = stage(table(clip_rows("dark.mp4"))).to_pylist()
    assert (status["state"], status["num_tracks"], status["reason"]) == (DONE, 0, None)
    assert len(status["frame_times_s"]) == 5
    assert run.tracks.shards() == [] and run.crops.shards() == [] and status["shard"] is None
    encoder = encode_stage(run, root, "hog", size_px=16)
    encoded = encoder(encode_table(run.status.read(), clip_rows("dark.mp4"))).to_pylist()
    assert [row["state"] for row in encoded] == [DONE]
    (row,) = encoder.table.read().to_pylist()
    assert row["present"] == [False] * 5
    assert values_of(row).shape == (5, encoder.encoder.width) and not values_of(row).any()


def test_crops_lie_in_rows_of_at_most_256(run, root):
    write_video(root / "long.mp4", [40 * i for i in range(300)], size_px=(32, 32))
    tracks_stage(run, root, faces=True)(table(clip_rows("long.mp4")))
    rows = run.crops.read().to_pylist()
    assert [len(row["jpegs"]) for row in rows] == [256, 44]
    assert [tick for row in rows for tick in row["ticks"]] == list(range(300))


def test_a_face_encoder_reads_the_crops_of_its_clips(run, root):
    names = ["a.mp4", "b.mp4"]
    for name in names:
        write_video(root / name, TIMES_MS if name == "a.mp4" else TIMES_MS[:4])
    status = tracks_stage(run, root, faces=True)(table(clip_rows(*names)))
    (shard,) = run.crops.shards()
    stage = encode_stage(run, root, "hog", size_px=16)
    rows = encode_table(status, clip_rows(*names), shard)
    assert [row["state"] for row in stage(rows).to_pylist()] == [DONE, DONE]
    together = {row["clip_id"]: row for row in stage.table.read().to_pylist()}
    assert {name: len(row["present"]) for name, row in together.items()} == {
        "a.mp4": 10,
        "b.mp4": 4,
    }
    assert all(all(row["present"]) for row in together.values())
    alone = encode_stage(RunFolder(run.out), root, "hog", size_px=16)
    alone.table.clear()
    alone(rows.slice(1, 1))
    (row,) = alone.table.read().to_pylist()
    np.testing.assert_array_equal(values_of(row), values_of(together["b.mp4"]))


class TwoViews:
    """Mean brightness of a crop, and its negative as the second view."""

    name, version, modality, width, num_views = "two", 1, "face", 1, 2

    def __call__(self, batch: list[FaceSample]) -> list[Stream]:
        return [self._stream(sample.crops_NHWC.mean(axis=(1, 2, 3))) for sample in batch]

    def _stream(self, means_N: np.ndarray) -> Stream:
        values_TD = means_N[:, None].astype(np.float32)
        return Stream(values_TD, np.ones(len(means_N), np.bool_), -values_TD[None])


def test_every_view_is_a_row_of_its_own_with_the_same_presence(run, root):
    write_video(root / "a.mp4", [40 * i for i in range(300)], size_px=(32, 32))
    write_images(root / "none.mp4", [np.zeros((32, 32, 3), np.uint8)] * 3)
    names = ["a.mp4", "none.mp4"]
    status = tracks_stage(run, root, faces=True)(table(clip_rows(*names)))
    (shard,) = run.crops.shards()
    stage = encode_stage(run, root, "hog")
    stage.encoder = TwoViews()
    stage(encode_table(status, clip_rows(*names), shard))
    rows = {(row["clip_id"], row["view"]): row for row in stage.table.read().to_pylist()}
    assert rows.keys() == {(name, view) for name in names for view in (0, 1)}
    first, second = rows["a.mp4", 0], rows["a.mp4", 1]
    assert first["present"] == second["present"] == [True] * 300
    assert values_of(first).shape == (300, 1) and values_of(first).min() > 0
    np.testing.assert_array_equal(values_of(second), -values_of(first))
    assert not any(rows["none.mp4", 1]["present"]) and not values_of(rows["none.mp4", 1]).any()


def test_a_voice_encoder_follows_the_picture_and_silence_is_absence(run, root):
    write_video(root / "tone.mkv", [40 * i for i in range(25)], tone=(16000, 1, 0.0, 1.0))
    write_video(root / "mute.mkv", TIMES_MS)
    rows = clip_rows("tone.mkv", "mute.mkv")
    status = tracks_stage(run, root)(table(rows))
    stage = encode_stage(run, root, "logmel")
    encoded = stage(encode_table(status, rows)).to_pylist()
    assert [(row["stage"], row["state"]) for row in encoded] == [("logmel", DONE)] * 2
    tone, mute = stage.table.read().to_pylist()
    assert (tone["stream"], tone["modality"], tone["fingerprint"]) == (
        "logmel",
        "voice",
        "f-logmel",
    )
    assert len(tone["present"]) == 25 and all(tone["present"][2:-2])
    assert mute["present"] == [False] * 10 and not values_of(mute).any()


def test_a_text_encoder_needs_no_medium(run, root):
    write_video(root / "a.mp4", TIMES_MS)
    rows = clip_rows("a.mp4", transcript="no way")
    status = tracks_stage(run, root)(table(rows))
    (root / "a.mp4").unlink()
    stage = encode_stage(run, root, "hash", width=8)
    (encoded,) = stage(encode_table(status, rows)).to_pylist()
    (row,) = stage.table.read().to_pylist()
    assert encoded["state"] == DONE and row["present"] == [True] * 10
    values_TD = values_of(row)
    assert (values_TD[:5] == values_TD[0]).all() and (values_TD[5:] == values_TD[9]).all()
    assert (values_TD[0] != values_TD[9]).any()


def test_a_medium_that_is_gone_rejects_one_row_of_an_encoder(run, root):
    for name in ("a.mkv", "b.mkv"):
        write_video(root / name, TIMES_MS, tone=(16000, 1, 0.0, 0.4))
    rows = clip_rows("a.mkv", "b.mkv")
    status = tracks_stage(run, root)(table(rows))
    (root / "a.mkv").unlink()
    stage = encode_stage(run, root, "logmel")
    gone, kept = stage(encode_table(status, rows)).to_pylist()
    assert (gone["state"], gone["reason"].split(":")[0]) == (REJECTED, "no_media")
    assert kept["state"] == DONE
    assert gone["shard"] is None and [Path(p).name for p in stage.table.shards()] == [kept["shard"]]
    assert stage.table.read(columns=["clip_id"])["clip_id"].to_pylist() == ["b.mkv"]


def test_sound_that_breaks_off_leaves_a_note(run, root):
    write_wav(root / "whole.wav", np.zeros((1, 16000 * 4)), 16000)
    (root / "a.wav").write_bytes((root / "whole.wav").read_bytes()[: 16000 * 4])
    rows = clip_rows("a.wav")
    status = tracks_stage(run, root, clock_hz=10.0)(table(rows))
    encoded = encode_stage(run, root, "logmel")(encode_table(status, rows))
    for (row,) in (status.to_pylist(), encoded.to_pylist()):
        assert row["state"] == DONE and row["note"].startswith("sound ends at ")


def test_a_batch_that_runs_twice_is_stored_once(run, root):
    write_video(root / "a.mp4", TIMES_MS)
    stage = tracks_stage(run, root, faces=True)
    for _ in range(2):
        stage(table(clip_rows("a.mp4")))
    for stored in (run.status, run.tracks, run.crops):
        assert len(stored.shards()) == 1 and stored.read().num_rows == 1


def test_the_status_comes_last(run, root, monkeypatch):
    """A worker that dies while it writes has done nothing: what counts is the status."""
    write_video(root / "a.mp4", TIMES_MS)

    def dying(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    stage = tracks_stage(run, root, faces=True)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("erray.stages.tracks.write_status", dying)
        stage(table(clip_rows("a.mp4")))
    assert run.tracks.read().num_rows == 1 and run.status.read().num_rows == 0
    stage(table(clip_rows("a.mp4")))
    assert run.tracks.read().num_rows == 1 and run.status.read().num_rows == 1


def test_a_clock_samples_the_pictures(run, root):
    write_video(root / "a.mkv", [0, 40, 400, 440, 1000])
    (status,) = tracks_stage(run, root, clock_hz=5.0)(table(clip_rows("a.mkv"))).to_pylist()
    assert status["frame_times_s"] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize(
    ("start_s", "end_s", "num_ticks"), [(None, None, 10), (0.25, None, 8), (0.2, 0.6, 4)]
)
def test_sound_without_pictures_has_the_clock_of_its_samples(run, root, start_s, end_s, num_ticks):
    write_wav(root / "a.wav", np.zeros((1, 8000)), 8000)
    rows = clip_rows("a.wav", start_s=start_s, end_s=end_s)
    (status,) = tracks_stage(run, root, clock_hz=10.0)(table(rows)).to_pylist()
    expected = (start_s or 0.0) + np.arange(num_ticks) / 10
    assert (status["state"], status["num_tracks"]) == (DONE, 0)
    assert status["frame_times_s"] == pytest.approx(expected.tolist())


def test_a_medium_with_neither_pictures_nor_samples_has_no_clock(run, root):
    write_wav(root / "a.wav", np.zeros((1, 8000)), 8000)
    rows = clip_rows("a.wav", start_s=5.0)
    (status,) = tracks_stage(run, root, clock_hz=10.0)(table(rows)).to_pylist()
    assert (status["state"], status["reason"].split(":")[0]) == (REJECTED, "no_clock")


@pytest.mark.parametrize(
    ("fields", "clock_hz", "expected"),
    [
        ({"duration_s": 1.05}, 10.0, np.arange(11) / 10),
        ({"start_s": 2.0, "end_s": 2.5}, 4.0, [2.0, 2.25]),
        ({"start_s": 2.0, "duration_s": 0.01}, 4.0, [2.0]),
        ({"start_s": 1.0, "transcript": "two words"}, 4.0, [1.0, 1.25, 1.5, 1.75]),
        ({}, 4.0, [0.0]),
        ({"duration_s": 1.0}, None, None),
    ],
)
def test_words_alone_need_no_medium_but_a_length(run, root, fields, clock_hz, expected):
    stage = TracksStage(
        run=run,
        root=str(root),
        fingerprint="f1",
        clock_hz=clock_hz,
        detector=None,
        tracker=TRACKER,
        reads_media=False,
    )
    (status,) = stage(table(clip_rows("not_there.mp4", **fields))).to_pylist()
    if expected is None:
        assert (status["state"], status["reason"].split(":")[0]) == (REJECTED, "no_clock")
    else:
        assert status["state"] == DONE
        assert status["frame_times_s"] == pytest.approx(list(expected))
        stated = "duration_s" in fields or "end_s" in fields
        assert status["note"] == (None if stated else "length guessed from the number of words")


def test_a_guessed_length_holds_every_word_whose_time_is_known():
    words = (Word("ask", 9.58, 9.9), Word("not", 10.0, 10.45))
    clip = Clip("a", "a.flac", "train", "a", transcript="ask not", words=words)
    times_s, note = stated_ticks(clip, 10)
    assert times_s.tolist() == pytest.approx([k / 10 for k in range(105)])
    assert note == "length guessed from the end of the last word"
    times_s, _ = stated_ticks(replace(clip, start_s=9.5), 10)
    assert times_s.tolist() == pytest.approx([9.5 + k / 10 for k in range(10)])
    assert len(stated_ticks(replace(clip, words=()), 10)[0]) == 8
    assert stated_ticks(replace(clip, duration_s=2.0), 10) == (
        pytest.approx(np.arange(20) / 10),
        None,
    )


frame_times_s = st.lists(st.integers(0, 3000), min_size=1, max_size=30, unique=True).map(
    lambda times: [t / 1000 for t in sorted(times)]
)


@given(frame_times_s, st.sampled_from([0.7, 5.0, 10.0, 12.5, 25.0, 30.0]))
def test_every_tick_shows_the_last_picture_before_it(times_s, clock_hz):
    frames = [(t, np.full((1, 1, 3), i, np.uint8)) for i, t in enumerate(times_s)]
    ticks = list(on_clock(iter(frames), clock_hz))
    num_ticks = int((times_s[-1] - times_s[0]) * clock_hz + 1e-6) + 1
    assert [t for t, _ in ticks] == pytest.approx(
        [times_s[0] + k / clock_hz for k in range(num_ticks)]
    )
    assert ticks_on_clock(np.array(times_s), clock_hz).tolist() == [t for t, _ in ticks]
    for tick_s, image in ticks:
        shown = max(i for i, t in enumerate(times_s) if t <= tick_s + 1e-6)
        assert image[0, 0, 0] == shown


def test_a_clock_without_pictures_has_no_ticks():
    assert list(on_clock(iter([]), 25.0)) == []
