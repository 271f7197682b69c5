"""Memory-mapped arrays hold what the feature tables hold, once, whole or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.plan import TRACKS, Plan
from erray.records import REJECTED, tensor_columns
from erray.store import RunFolder
from erray.training import arrays, ingest
from erray.training.arrays import FeatureArrays
from erray.training.ingest import build_arrays
from erray.windows import UNLABELLED
from tests.unit.file_limit import file_limit
from tests.unit.made_up_features import (
    STREAMS,
    Features,
    clock_s,
    tiny_clips,
    tiny_recipe,
    write_features,
)

PLAN = Plan(tiny_recipe())
CLIPS = [*tiny_clips(5), *tiny_clips(3, split="val")]
LENGTHS = {clip.clip_id: 3 + 2 * i for i, clip in enumerate(CLIPS)}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


@pytest.fixture
def features(run: RunFolder) -> Features:
    return write_features(run, PLAN, LENGTHS, CLIPS, shard_clips=3)


def build(run: RunFolder, clips=CLIPS, *, split: str = "train") -> FeatureArrays:
    return build_arrays(PLAN, run, clips, CEXPR_7, split=split, cache=Path(run.out) / "cache")


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_arrays_are_the_tables(run, features, split):
    built = build(run, split=split)
    wanted = [clip for clip in CLIPS if clip.split == split]
    assert [place.clip_id for place in built.clips] == [clip.clip_id for clip in wanted]
    assert built.streams == list(PLAN.modalities)
    for i, (clip, place) in enumerate(zip(wanted, built.clips, strict=True)):
        length = LENGTHS[clip.clip_id]
        assert (place.split, place.group, place.num_ticks) == (split, clip.group, length)
        assert CEXPR_7.names[place.label] == clip.label
        assert built.times_s(i).tolist() == clock_s(length)
        whole = built.window(i, 0, length, built.streams)
        for name, stream in features[clip.clip_id].items():
            np.testing.assert_array_equal(whole.streams[name], stream.values_TD)
            np.testing.assert_array_equal(whole.present[name], stream.present_T)
        part = built.window(i, 1, length - 1, ["hash"])
        assert (list(part.streams), part.clip, part.start) == (["hash"], i, 1)
        np.testing.assert_array_equal(
            part.streams["hash"], features[clip.clip_id]["hash"].values_TD[1:-1]
        )
    assert sum(place.num_ticks for place in built.clips) == len(built.present("hog"))
    assert isinstance(built.values("hog"), np.memmap), "mapped, not read"


def test_clips_of_equal_content_share_features(run, features):
    twin = replace(CLIPS[1], clip_id="train/twin", label=None)
    built = build(run, [*CLIPS, twin])
    assert built.clips[-1].clip_id == "train/twin" and built.clips[-1].label == UNLABELLED
    whole = built.window(len(built.clips) - 1, 0, LENGTHS["train/1"], ["hog"])
    np.testing.assert_array_equal(whole.streams["hog"], features["train/1"]["hog"].values_TD)


def test_a_clip_that_one_stream_lacks_is_left_out(run, features):
    late = replace(CLIPS[0], clip_id="train/late", file_sha256="late")
    rows = [
        {
            "clip_id": "train/late",
            "stage": name,
            "fingerprint": PLAN.fingerprints[name],
            "key": PLAN.key(name, late),
            "state": REJECTED,
        }
        for name in (TRACKS, "hog")
    ]
    run.status.write_shard(rows, keys=["late"])
    assert [place.clip_id for place in build(run, [*CLIPS, late]).clips] == [
        clip.clip_id for clip in CLIPS if clip.split == "train"
    ]


def test_a_split_without_features_is_a_users_mistake(run, features):
    with pytest.raises(UserError, match="split 'tset' has features of hog, hash: check the split"):
        build(run, split="tset")
    with pytest.raises(UserError, match="run `erray extract` first"):
        build(RunFolder(run.out + "-empty"))
    assert not Path(run.out, "cache").exists()


def test_a_part_of_a_split_is_not_taken_for_all_of_it(run):
    """As after an extraction that was stopped, or that another version of erray made."""
    write_features(run, PLAN, LENGTHS, CLIPS[1:], shard_clips=3)
    with pytest.raises(UserError, match=r"^1 of 5 clips of split 'train' .* 'train/0': run `erray"):
        build(run)
    assert not Path(run.out, "cache").exists()
    assert len(build(run, split="val").clips) == 3


VOICED = Plan(tiny_recipe(streams={**STREAMS, "logmel": {}}))


def test_the_stream_that_is_missing_is_named_alone(run, features):
    with pytest.raises(UserError, match="split 'train' has features of logmel: check the split"):
        build_arrays(VOICED, run, CLIPS, CEXPR_7, split="train", cache=Path(run.out, "cache"))


def voice_alone(**sections: object) -> Plan:
    return Plan(tiny_recipe(streams={"logmel": {}}, **sections))


def test_a_stream_without_a_face_takes_the_clock_that_was_read_with_faces(run, tmp_path):
    write_features(run, VOICED, LENGTHS, CLIPS, shard_clips=3)
    plan = voice_alone()
    assert plan.fingerprints["logmel"] == VOICED.fingerprints["logmel"]
    assert plan.fingerprints[TRACKS] != VOICED.fingerprints[TRACKS]
    found = build_arrays(plan, run, CLIPS, CEXPR_7, split="val", cache=tmp_path)
    assert found.streams == ["logmel"] and len(found.clips) == 3
    for i, place in enumerate(found.clips):
        assert found.times_s(i).tolist() == clock_s(LENGTHS[place.clip_id])


@pytest.mark.parametrize("sections", [{"corpus": {"clock_hz": 5}}, {"faces": {"stride": 3}}])
def test_a_clock_is_taken_where_it_says_the_same(run, sections):
    """Another rate is another clock; other settings of faces are not known to have none."""
    taken = {print_ for clip in CLIPS for print_, _ in voice_alone(**sections).clocks(clip)}
    assert VOICED.fingerprints[TRACKS] not in taken
    own = {print_ for clip in CLIPS for print_, _ in voice_alone().clocks(clip)}
    assert VOICED.fingerprints[TRACKS] in own
    words = Plan(tiny_recipe(streams={"hash": {}}))  # whose clock is what the corpus states
    assert words.clocks(CLIPS[0]) == [(words.fingerprints[TRACKS], words.key(TRACKS, CLIPS[0]))]


def test_a_clock_that_nobody_read_is_a_users_mistake(run, tmp_path):
    write_features(run, VOICED, LENGTHS, CLIPS, shard_clips=3)
    plan = voice_alone(faces={"stride": 3})
    with pytest.raises(UserError, match=r"^3 of 3 clips .* no clock: run `erray extract`"):
        build_arrays(plan, run, CLIPS, CEXPR_7, split="val", cache=tmp_path)


def test_they_are_built_once_and_anew_when_a_label_changes(run, features, monkeypatch):
    first = build(run)
    with monkeypatch.context() as patch:
        patch.setattr(ingest, "_write", pytest.fail)
        assert build(run).folder == first.folder
    relabelled = [replace(CLIPS[0], label=CEXPR_7.names[4]), *CLIPS[1:]]
    second = build(run, relabelled)
    assert second.folder != first.folder and second.clips[0].label == 4
    assert {path.name for path in Path(run.out, "cache").iterdir()} == {
        first.folder.name,
        second.folder.name,
    }


@pytest.mark.parametrize("function", ["_write_stream", "_write_times", "_publish"])
def test_an_interrupted_build_leaves_nothing_visible(run, features, monkeypatch, function):
    def dying(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(ingest, function, dying)
        build(run)
    assert list(Path(run.out, "cache").iterdir()) == []
    assert len(build(run).clips) == 5


@pytest.mark.parametrize("limit_bytes", [150, 300, 1000])
def test_a_disk_that_takes_no_more_is_one_line_and_leaves_nothing(run, features, limit_bytes):
    """The system refuses to let any file grow beyond a size: a clock, a stream, the next one."""
    with file_limit(limit_bytes), pytest.raises(UserError) as refused:
        build(run)
    said = str(refused.value)
    assert f"the arrays for training cannot be written to {run.out}/cache: File too large" in said
    assert "\n" not in said
    assert list(Path(run.out, "cache").iterdir()) == []
    assert len(build(run).clips) == 5


def test_who_comes_second_throws_its_copy_away(run, features, monkeypatch):
    def raced(temporary: Path, folder: Path) -> None:
        monkeypatch.undo()
        build(run)  # another process finishes first
        ingest._publish(temporary, folder)

    monkeypatch.setattr(ingest, "_publish", raced)
    built = build(run)
    assert list(built.folder.parent.iterdir()) == [built.folder]
    assert len(built.clips) == 5


def test_streams_of_different_lengths_are_a_defect(run, features):
    table = run.features("hash", PLAN.fingerprints["hash"])
    rows = table.read().to_pylist()
    for row in rows:
        row["shape"] = [row["shape"][0] + 1, row["shape"][1]]
        row["values"] += bytes(4 * row["shape"][1])
        row["present"] = [*row["present"], False]
    table.replace(rows)
    with pytest.raises(RuntimeError, match="stream 'hash' has another length"):
        build(run)


def normalise(folder: Path, values_ND: np.ndarray, present_N: np.ndarray):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "s.values.npy", values_ND.astype(np.float32))
    np.save(folder / "s.present.npy", present_N)
    return FeatureArrays(folder).normaliser("s")


finite = st.floats(-1e6, 1e6, width=32)


@given(values_ND=numpy_arrays(np.float32, (11, 2), elements=finite), present=st.integers(1, 2047))
@settings(max_examples=40)
def test_the_normaliser_is_numpys_over_present_ticks(tmp_path_factory, values_ND, present):
    present_N = np.array([present >> i & 1 for i in range(11)], dtype=np.bool_)
    folder = tmp_path_factory.mktemp("normaliser")
    mean_D, std_D = normalise(folder, values_ND, present_N)
    kept_ND = values_ND[present_N].astype(np.float64)
    scale = np.abs(kept_ND).max() + 1e-30
    np.testing.assert_allclose(mean_D, kept_ND.mean(axis=0), rtol=1e-9, atol=1e-12 * scale)
    np.testing.assert_allclose(std_D, kept_ND.std(axis=0), rtol=1e-6, atol=1e-7 * scale)


@pytest.mark.parametrize("mean", [0.0, 1e4, -3e6])
def test_the_normaliser_keeps_its_digits_over_chunks_and_large_means(tmp_path, monkeypatch, mean):
    monkeypatch.setattr(arrays, "_CHUNK_TICKS", 64)
    rng = np.random.default_rng(0)
    values_ND = (mean + rng.normal(size=(1000, 3)) * [0.5, 3.0, 40.0]).astype(np.float32)
    present_N = rng.random(1000) > 0.3
    present_N[:130] = False  # the first chunks hold nothing
    mean_D, std_D = normalise(tmp_path, values_ND, present_N)
    kept_ND = values_ND[present_N].astype(np.float64)
    np.testing.assert_allclose(mean_D, kept_ND.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(std_D, kept_ND.std(axis=0), rtol=1e-9)


def test_a_stream_that_is_never_present_is_left_as_it_is(tmp_path):
    mean_D, std_D = normalise(tmp_path, np.full((4, 3), 7.0), np.zeros(4, np.bool_))
    assert mean_D.tolist() == [0.0] * 3 and std_D.tolist() == [1.0] * 3


def test_only_training_has_the_other_views(run):
    rng = np.random.default_rng(0)
    features = write_features(run, PLAN, LENGTHS, CLIPS, shard_clips=3)
    more = {}
    table = run.features("hog", PLAN.fingerprints["hog"])
    for shard in table.shards():
        rows = table.read(shards=[shard]).to_pylist()
        for row in list(rows):
            row["view"] = None  # as in rows of before there were views
            of_clip = more.setdefault(
                row["clip_id"], rng.normal(size=(2, 50, 8)).astype(np.float32)
            )
            first, length = row["first_tick"], row["shape"][0]
            rows += [
                row | {"view": i + 1} | tensor_columns(x_TD[first : first + length])
                for i, x_TD in enumerate(of_clip)
            ]
        table.write_shard(rows[::-1], keys=list(dict.fromkeys(row["key"] for row in rows)))
    with_views = Plan(PLAN.recipe)
    with_views.__dict__["num_views"] = PLAN.num_views | {"hog": 3}
    cache = Path(run.out) / "cache"
    for split in ("train", "val"):
        built = build_arrays(with_views, run, CLIPS, CEXPR_7, split=split, cache=cache)
        assert built.num_views("hog") == (3 if split == "train" else 1)
        assert built.num_views("hash") == 1
        for i, place in enumerate(built.clips):
            stream = features[place.clip_id]["hog"]
            for view in range(built.num_views("hog")):
                others_TD = more[place.clip_id][view - 1, : place.num_ticks]
                expected_TD = others_TD if view else stream.values_TD
                found = built.window(i, 0, place.num_ticks, ["hog"], views={"hog": view})
                np.testing.assert_array_equal(found.streams["hog"], expected_TD)
                np.testing.assert_array_equal(found.present["hog"], stream.present_T)
        mean_D, _ = built.normaliser("hog")
        first = [features[place.clip_id]["hog"] for place in built.clips]
        seen = np.concatenate([stream.values_TD[stream.present_T] for stream in first])
        np.testing.assert_allclose(mean_D, seen.mean(axis=0), atol=1e-6)
