"""Rows, batches and groups: every clip once, crops of a shard together, nothing held whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray import clip_batches
from erray.clip_batches import (
    CLOCKED_SCHEMA,
    batched,
    clip_row,
    clip_table,
    clocked_rows,
    grouped,
)
from erray.plan import TRACKS, Plan
from erray.records import CLIP_SCHEMA, Clip, Word
from erray.store import RunFolder
from tests.unit.made_up_features import clock_s, tiny_clips, tiny_recipe, write_features

PLAN = Plan(tiny_recipe())
WORDS = (Word("no", 0.0, 0.5), Word("way", 0.5, 1.0))
SPOKEN = Clip("w", "w.mp4", "train", "g", 1.0, 2.0, transcript="no way", words=WORDS)


def test_a_clip_as_a_row_is_the_clip(tmp_path):
    clips = [SPOKEN, *tiny_clips(2)]
    assert [Clip.from_row(clip_row(clip)) for clip in clips] == clips
    assert clip_table(clips) == pa.Table.from_pylist(list(map(asdict, clips)), schema=CLIP_SCHEMA)
    assert clip_table(clips[1:]).schema == clip_table([]).schema == CLIP_SCHEMA


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(str(tmp_path / "run"))


def test_every_wanted_clip_gets_its_own_clock(run):
    clips = tiny_clips(7)
    lengths = {clip.clip_id: 3 + i for i, clip in enumerate(clips)}
    write_features(run, PLAN, lengths, clips, shard_clips=2)
    wanted = {PLAN.key(TRACKS, clip): [(f"key-{clip.clip_id}", clip)] for clip in clips[:5]}
    twin_of = PLAN.key(TRACKS, clips[0])
    wanted[twin_of] = [*wanted[twin_of], ("key-twin", SPOKEN)]
    rows = clocked_rows(run, PLAN.fingerprints[TRACKS], wanted, with_crops=False)
    found = {row["key"]: row for row in rows}
    assert set(found) == {*(f"key-{clip.clip_id}" for clip in clips[:5]), "key-twin"}
    for clip in clips[:5]:
        row = found[f"key-{clip.clip_id}"]
        assert Clip.from_row(row) == clip and row["tracks_key"] == PLAN.key(TRACKS, clip)
        assert row["frame_times_s"] == clock_s(lengths[clip.clip_id])
    assert found["key-twin"]["frame_times_s"] == found["key-train/0"]["frame_times_s"]
    assert pa.Table.from_pylist(list(found.values()), schema=CLOCKED_SCHEMA).num_rows == 6


def test_clips_whose_crops_share_a_shard_come_together(run):
    clips = tiny_clips(6)
    keys = [PLAN.key(TRACKS, clip) for clip in clips]
    names = [
        run.crops.write_shard([{"key": k} for k in keys[i::2]], keys=keys[i::2]) for i in (0, 1)
    ]
    common = {"fingerprint": PLAN.fingerprints[TRACKS], "state": "done", "frame_times_s": [0.0]}
    status = [
        common | {"key": key, "num_tracks": int(i < 5), "shard": names[i % 2] if i < 5 else None}
        for i, key in enumerate(keys)
    ]
    run.status.write_shard(status, keys=keys)
    wanted = {key: [(key, clip)] for key, clip in zip(keys, clips, strict=True)}
    rows = list(clocked_rows(run, PLAN.fingerprints[TRACKS], wanted, with_crops=True))
    shards = [row["crops_shard"] for row in rows]
    expected = {key: run.crops.shard(names[i % 2]) if i < 5 else "" for i, key in enumerate(keys)}
    assert {row["key"]: row["crops_shard"] for row in rows} == expected
    changes = sum(a != b for a, b in pairwise(shards))
    assert changes == 2, shards
    batches = list(batched(rows, 4, CLOCKED_SCHEMA))
    assert sorted(batch.num_rows for batch in batches) == [1, 2, 3]


@given(st.lists(st.integers(0, 2), max_size=30), st.integers(1, 5))
def test_batches_are_the_rows_in_order(shards, size):
    schema = pa.schema([("i", pa.int64()), ("crops_shard", pa.string())])
    rows = [{"i": i, "crops_shard": str(shard)} for i, shard in enumerate(shards)]
    batches = list(batched(rows, size, schema))
    assert [row for batch in batches for row in batch.to_pylist()] == rows
    assert all(1 <= batch.num_rows <= size for batch in batches)
    assert all(len(set(batch["crops_shard"].to_pylist())) == 1 for batch in batches)


def test_groups_are_made_while_they_are_worked_on(monkeypatch):
    monkeypatch.setattr(clip_batches, "_GROUP_BATCHES", 3)
    made = []

    def batches() -> Iterator[pa.Table]:
        for i in range(8):
            made.append(i)
            yield pa.table({"i": [i]})

    groups = grouped(batches())
    assert [batch["i"][0].as_py() for batch in next(groups)] == made == [0, 1, 2]
    assert [len(group) for group in groups] == [3, 2]


def test_long_clocks_make_small_groups(monkeypatch):
    monkeypatch.setattr(clip_batches, "_GROUP_BYTES", 20_000)
    batches = [pa.table({"frame_times_s": [[0.0] * 1_000]}) for _ in range(5)]
    assert [len(group) for group in grouped(batches)] == [3, 2]
