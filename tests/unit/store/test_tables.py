"""Tables of shards: whole or absent, named by content, read back as written."""

import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from erray.errors import UserError
from erray.store import Table, folder, tables
from tests.unit.store.failing_storage import FailingFileSystem

SCHEMA = pa.schema([("key", pa.string()), ("value", pa.float64())])


def row(key, value=0.0):
    return {"key": key, "value": value}


@pytest.fixture(params=["disk", "memory"])
def table(request, tmp_path):
    """A table on the disk, and one on a file system that is only fsspec's."""
    place = tmp_path / "table" if request.param == "disk" else f"memory://{tmp_path.name}/table"
    return Table(str(place), SCHEMA)


def test_rows_come_back_as_written(table):
    assert table.read().num_rows == 0 and table.shards() == []
    table.write_shard([row("a", 1.5), row("b", None)], keys=["a", "b"])
    table.write_shard([row("c", 2.5)], keys=["c"])
    rows = sorted(table.read().to_pylist(), key=lambda r: r["key"])
    assert rows == [row("a", 1.5), row("b", None), row("c", 2.5)]
    assert table.read().schema == SCHEMA


def test_the_same_keys_make_the_same_shard(table):
    first = table.write_shard([row("a", 1.0), row("b", 2.0)], keys=["a", "b"])
    again = table.write_shard([row("b", 3.0), row("a", 4.0)], keys=["b", "a"])
    other = table.write_shard([row("c")], keys=["c"])
    assert first == again != other
    assert len(table.shards()) == 2
    assert sorted(table.read(keys=["a", "b"])["value"].to_pylist()) == [3.0, 4.0]


def test_no_rows_make_no_shard(table):
    assert table.write_shard([], keys=["a"]) is None
    assert table.shards() == []


def test_reading_takes_columns_keys_and_shards(table):
    table.write_shard([row("a", 1.0), row("b", 2.0)], keys=["a", "b"])
    table.write_shard([row("c", 3.0)], keys=["c"])
    assert table.read(columns=["value"], keys=["b"]).to_pylist() == [{"value": 2.0}]
    assert table.read(where={"key": "b"}).to_pylist() == [row("b", 2.0)]
    assert table.read(keys=[]).num_rows == 0
    assert table.read(keys=["absent"]).schema == SCHEMA
    where = table.shard_of_key()
    assert set(where) == {"a", "b", "c"} and where["a"] == where["b"] != where["c"]
    assert table.read(shards=[where["c"]]).to_pylist() == [row("c", 3.0)]
    assert where["c"] == table.shard(Path(where["c"]).name)


def test_a_column_that_a_shard_lacks_is_null(table):
    Table(table.path, pa.schema([SCHEMA.field("key")])).write_shard([{"key": "a"}], keys=["a"])
    table.write_shard([row("b", 2.0)], keys=["b"])
    assert sorted(table.read().to_pylist(), key=lambda r: r["key"]) == [row("a", None), row("b", 2)]


def test_replace_is_one_snapshot(table):
    table.write_shard([row("a")], keys=["a"])
    table.write_shard([row("b")], keys=["b"])
    table.replace([row("c", 1.0)])
    assert table.read().to_pylist() == [row("c", 1.0)]
    table.replace(pa.Table.from_pylist([row("d", 2.0)], schema=SCHEMA))
    assert table.read().to_pylist() == [row("d", 2.0)]
    assert len(table.shards()) == 1


def test_a_table_takes_anothers_content_a_few_rows_at_a_time(tmp_path, monkeypatch):
    """The predictions of a large corpus are no table in memory."""
    monkeypatch.setattr(tables, "_CHUNK_BYTES", 2**18)
    schema = pa.schema([("key", pa.string()), ("value", pa.binary())])
    target, other = Table(str(tmp_path / "target"), schema), Table(str(tmp_path / "other"), schema)
    target.write_shard([{"key": "old", "value": b""}], keys=["old"])
    for name in "abcd":
        values = ({"key": name, "value": os.urandom(2**16)} for _ in range(128))
        other.write_shard(values, keys=[name])
    before = pa.total_allocated_bytes()
    most = []
    original = tables.Table.row_groups

    def watched(self, shards=None):
        for group in original(self, shards):
            most.append(pa.total_allocated_bytes() - before)
            yield group

    monkeypatch.setattr(tables.Table, "row_groups", watched)
    target.replace_by(other)
    assert target.read().equals(other.read())
    assert len(target.shards()) == 1
    assert max(most) < 8 * 2**20, "of 32 MB"


def test_a_row_of_another_type_is_refused_and_leaves_nothing(table):
    table.create()
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        table.write_shard([row("a", "text")], keys=["a"])
    assert table.shards() == []


def test_a_failing_write_leaves_no_shard_and_no_rest(tmp_path, monkeypatch):
    table = Table(str(tmp_path), SCHEMA)
    table.write_shard([row("a", 1.0)], keys=["a"])

    def failing(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", failing)
    for key in ("a", "b"):  # a shard that is there, and one that is not
        with pytest.raises(KeyboardInterrupt):
            table.write_shard([row(key, 2.0)], keys=[key])
    assert [p.name for p in tmp_path.iterdir()] == [Path(table.shards()[0]).name]
    assert table.read().to_pylist() == [row("a", 1.0)]


def test_an_iterator_is_written_whole_by_a_second_try(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(FailingFileSystem, "failures", 1)
    table = Table(f"failing://{tmp_path}/table", SCHEMA)
    table.write_shard((row(key) for key in "abc"), keys=list("abc"))
    assert FailingFileSystem.failures == 0
    assert table.read()["key"].to_pylist() == list("abc")


def test_long_shards_are_written_in_parts_that_fit_in_memory(tmp_path):
    schema = pa.schema([("key", pa.string()), ("jpegs", pa.list_(pa.binary()))])
    jpegs = [bytes(2**20)] * 8
    rows = [{"key": str(i), "jpegs": jpegs} for i in range(20)]  # 160 MB as Arrow, 1 MB as Python
    pool, default = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        name = Table(str(tmp_path), schema).write_shard(rows, keys=["a"])
    finally:
        pa.set_memory_pool(default)
    assert pool.max_memory() < 100 * 2**20
    parquet = pq.ParquetFile(tmp_path / name)
    assert parquet.num_row_groups == 5
    assert parquet.read().to_pylist() == rows


def test_the_same_rows_make_the_same_bytes(tmp_path):
    rows = [row(str(i), i / 3) for i in range(100)]
    files = []
    for folder_ in ("a", "b"):
        table = Table(f"{tmp_path}/{folder_}", SCHEMA)
        table.write_shard(iter(rows), keys=["same"])
        files.append(Path(table.shards()[0]).read_bytes())
    assert files[0] == files[1]


def test_half_written_and_foreign_files_are_never_read(tmp_path):
    table = Table(str(tmp_path), SCHEMA)
    name = table.write_shard([row("a")], keys=["a"])
    shutil.copy(tmp_path / name, tmp_path / f".{name}.0123abcd.tmp")
    (tmp_path / ".hidden.parquet").write_bytes(b"PAR1")
    (tmp_path / "notes.txt").write_text("x")
    assert [Path(p).name for p in table.shards()] == [name]
    assert table.read().num_rows == 1


def test_writers_at_once_leave_whole_shards(tmp_path):
    table = Table(str(tmp_path), SCHEMA)
    rows = [row(f"k{i}", float(i)) for i in range(2000)]
    writers = [
        threading.Thread(target=lambda: table.write_shard(rows, keys=["same"])) for _ in range(8)
    ]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert table.read().num_rows in {0, 2000}
    assert [p.suffix for p in tmp_path.iterdir()] == [".parquet"]
    assert table.read().num_rows == 2000


def test_a_damaged_shard_is_one_line_that_names_it(tmp_path):
    table = Table(str(tmp_path / "table"), SCHEMA)
    name = table.write_shard([row("a")], keys=["a"])
    (tmp_path / "table" / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name} is damaged .*extract again"):
        table.read()


def test_a_scan_holds_one_row_group_of_a_large_shard(tmp_path, monkeypatch):
    """A long clip's pictures are hundreds of megabytes; the worker that reads them has not."""
    monkeypatch.setattr(tables, "_CHUNK_BYTES", 2**20)
    large = Table(
        str(tmp_path / "large"), pa.schema([("key", pa.string()), ("value", pa.binary())])
    )
    name = large.write_shard(
        ({"key": "a", "value": os.urandom(2**19)} for _ in range(64)), keys=["a"]
    )
    tracemalloc.start()  # what is read of the file arrives as Python's bytes
    try:
        for found in large.scan(keys=["a"], shards=[large.shard(name)]):
            assert len(found["value"]) == 2**19
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 12 * 2**20, "of 32 MB"
