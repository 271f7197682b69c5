"""The status table: which row of a key counts, and shards merged without a row lost."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.records import CROP_SCHEMA, DONE, REJECTED, STATUS_SCHEMA
from erray.store import ShardPlaces, StatusTable, Table
from erray.store import folder as folder_module
from erray.store import status as status_module
from erray.store.folder import Folder


@pytest.fixture
def table(tmp_path) -> StatusTable:
    return StatusTable(str(tmp_path / "status"), STATUS_SCHEMA)


def status(key: str, state: str = DONE, *, stage: str = "tracks", **more: object) -> dict:
    row = {"clip_id": f"clip-{key}", "key": key, "state": state, "stage": stage}
    return row | {"fingerprint": f"f-{stage}"} | more


def names(table: Table) -> list[str]:
    """Names of the shards; of a merged one without the letters that are its own."""
    paths = map(Path, table.shards())
    return [re.sub(r"^(merged-\d{6})-[0-9a-f]{8}\.", r"\1.", path.name) for path in paths]


def rows_of(table: Table) -> list[str]:
    return sorted(map(repr, table.read().to_pylist()))


def test_a_clip_once_done_stays_done(table):
    rows = [
        status("a", DONE),
        status("a", REJECTED, reason="late"),
        status("b", REJECTED, reason="first"),
        status("b", DONE),
        status("c", REJECTED, reason="first"),
        status("c", REJECTED, reason="second"),
        status("a", REJECTED, stage="hog"),
    ]
    table.write_shard(rows, keys=["all"])
    where = {"fingerprint": "f-tracks"}
    latest = table.latest(columns=["key", "state", "reason"], where=where).to_pylist()
    assert {row["key"]: (row["state"], row["reason"]) for row in latest} == {
        "a": (DONE, None),
        "b": (DONE, None),
        "c": (REJECTED, "second"),
    }
    assert table.latest(columns=["clip_id"]).column_names == ["clip_id"]
    assert table.states("f-tracks") == {"a": DONE, "b": DONE, "c": REJECTED}
    assert table.states("f-hog") == {"a": REJECTED} and table.states("f-none") == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from([DONE, REJECTED])), max_size=12))
def test_states_and_latest_agree_with_a_plain_loop(rows):
    expected: dict[str, str] = {}
    for key, state in rows:
        if expected.get(key) != DONE:
            expected[key] = state
    table = StatusTable("memory://agree", STATUS_SCHEMA)
    table.clear()
    table.write_shard([status(key, state) for key, state in rows], keys=["all"])
    assert table.states("f-tracks") == expected
    latest = table.latest(columns=["key", "state"]).to_pylist()
    assert {row["key"]: row["state"] for row in latest} == expected


def test_a_scan_gives_every_done_key_once(table):
    table.write_shard([status("a", frame_times_s=[0.0, 0.04]), status("b", REJECTED)], keys=["1"])
    table.write_shard([status("a", frame_times_s=[0.0, 0.04]), status("c")], keys=["2"])
    table.write_shard([status("d", stage="hog")], keys=["3"])
    parts = list(table.scan_done("f-tracks", ["frame_times_s"]))
    assert [part.column_names for part in parts] == [["key", "frame_times_s"]] * 2
    found = {row["key"]: row["frame_times_s"] for part in parts for row in part.to_pylist()}
    assert found == {"a": [0.0, 0.04], "c": None}
    assert sum(part.num_rows for part in parts) == 2


def many(table: StatusTable, num: int, *, first: int = 0) -> None:
    for i in range(first, first + num):
        stage = "tracks" if i % 2 else "hog"
        times_s = [0.0, i / 7] if i % 2 else None
        table.write_shard([status(f"k{i}", stage=stage, frame_times_s=times_s)], keys=[f"k{i}"])


def test_merging_keeps_every_row_in_few_files(table, monkeypatch):
    monkeypatch.setattr(status_module, "_MERGE_SHARDS", 8)
    many(table, 20)
    expected, shards = rows_of(table), names(table)
    table.merge(least=21)
    assert names(table) == shards
    table.merge(least=20)
    assert names(table) == [f"merged-00000{i}.parquet" for i in (1, 2, 3)]
    assert rows_of(table) == expected
    many(table, 3, first=20)
    table.merge(least=3)
    assert len(names(table)) == 4 and len(rows_of(table)) == 23


def test_merged_rows_of_a_stage_lie_together(table):
    many(table, 20)
    table.merge(least=2)
    (path,) = table.shards()
    metadata = pq.ParquetFile(path).metadata
    column = metadata.schema.names.index("fingerprint")
    groups = [metadata.row_group(i).column(column).statistics for i in range(2)]
    assert metadata.num_row_groups == 2 and all(group.min == group.max for group in groups)
    assert len(table.states("f-hog")) == len(table.states("f-tracks")) == 10


def test_long_clocks_are_merged_in_files_of_bounded_size(table, monkeypatch):
    monkeypatch.setattr(status_module, "_MERGE_BYTES", 50_000)
    for i in range(10):
        rows = [status(f"k{i}", frame_times_s=[t / 25 for t in range(2_000)])]
        table.write_shard(rows, keys=[f"k{i}"])
    expected = rows_of(table)
    table.merge(least=2)
    assert len(names(table)) == 3 and rows_of(table) == expected


def test_a_merge_that_is_killed_costs_no_row(table, monkeypatch):
    many(table, 6)
    expected = table.states("f-tracks") | table.states("f-hog")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Folder, "remove", killed)
        table.merge(least=2)
    assert len(names(table)) == 7
    assert table.states("f-tracks") | table.states("f-hog") == expected
    table.merge(least=2)
    assert names(table) == ["merged-000001.parquet", "merged-000002.parquet"]
    assert table.latest(columns=["key"]).num_rows == 6


def test_a_reader_that_meets_a_merge_lists_the_shards_again(table, monkeypatch):
    monkeypatch.setattr(folder_module, "_PAUSES_S", (0.0, 0.0))
    many(table, 4)
    expected, files = table.states("f-hog"), Folder.files

    def stale(folder: Folder) -> list[str]:
        monkeypatch.setattr(Folder, "files", files)
        listed = files(folder)
        table.merge(least=2)
        return listed

    monkeypatch.setattr(Folder, "files", stale)
    assert table.states("f-hog") == expected
    assert names(table) == ["merged-000001.parquet"]


def test_two_merges_at_once_lose_no_row(table, monkeypatch):
    """Both choose the same number: the second one begins before the first has written."""
    many(table, 4)
    write = StatusTable.write

    def interrupted(self: StatusTable, name: str, chunks) -> str:
        monkeypatch.setattr(StatusTable, "write", write)
        other = StatusTable(self.path, self.schema)
        many(other, 4, first=4)
        other.merge(least=2)
        return write(self, name, chunks)

    monkeypatch.setattr(StatusTable, "write", interrupted)
    table.merge(least=2)
    assert names(table) == ["merged-000001.parquet"] * 2
    assert set(table.read(columns=["key"])["key"].to_pylist()) == {f"k{i}" for i in range(8)}


def test_merged_shards_of_before_count_too(table):
    many(table, 2)
    table.merge(least=2)
    (path,) = table.shards()
    Path(path).rename(Path(path).with_name("merged-000007.parquet"))
    many(table, 2, first=2)
    table.merge(least=2)
    assert names(table) == ["merged-000007.parquet", "merged-000008.parquet"]
    assert table.read().num_rows == 4


def test_a_scan_that_meets_a_merge_gives_every_key_once(table, monkeypatch):
    monkeypatch.setattr(folder_module, "_PAUSES_S", (0.0, 0.0))
    many(table, 12)
    scan = table.scan_done("f-tracks", ["frame_times_s"])
    first = next(scan)
    table.merge(least=2)
    many(table, 2, first=12)
    keys = [key for part in (first, *scan) for key in part["key"].to_pylist()]
    assert sorted(keys) == sorted(f"k{i}" for i in range(1, 14, 2))


def test_a_rejection_after_a_merge_is_the_later_one(table):
    table.write_shard([status("a", REJECTED, reason="before")], keys=["a"])
    table.write_shard([status("b")], keys=["b"])
    table.merge(least=2)
    table.write_shard([status("a", REJECTED, reason="after")], keys=["a"])
    for _ in range(2):
        (row,) = table.latest(columns=["reason"], where={"state": REJECTED}).to_pylist()
        assert row["reason"] == "after"
        table.merge(least=1)


def test_rows_without_a_newer_column_are_merged(table):
    old = pa.schema([f for f in STATUS_SCHEMA if f.name not in {"shard", "fingerprint"}])
    Table(table.path, old).write_shard([status("a"), status("b")], keys=["a"])
    table.merge(least=1)
    assert table.read(columns=["key", "shard"]).to_pylist() == [
        {"key": "a", "shard": None},
        {"key": "b", "shard": None},
    ]


def test_a_status_row_leads_to_its_shard(tmp_path):
    crops = Table(str(tmp_path / "crops"), CROP_SCHEMA)
    name = crops.write_shard([{"key": "a"}, {"key": "old"}], keys=["a"])
    places = ShardPlaces(crops)
    (path,) = crops.shards()
    assert places.path({"key": "a", "num_tracks": 1, "shard": name}) == path
    assert places.path({"key": "none", "num_tracks": 0, "shard": None}) == ""
    # rows from before the column was there are searched for
    assert places.path({"key": "old", "num_tracks": 1, "shard": None}) == path
    assert places.path({"key": "gone", "num_tracks": 1, "shard": None}) == ""
