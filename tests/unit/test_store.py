"""Tables of shards: whole or absent, named by content, read back as written."""

import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.records import STATUS_SCHEMA
from erray.store import RunFolder, Table, latest_status, row_key

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
    assert table.read(keys=[]).num_rows == 0
    assert table.read(keys=["absent"]).schema == SCHEMA
    where = table.shard_of_key()
    assert set(where) == {"a", "b", "c"} and where["a"] == where["b"] != where["c"]
    assert table.read(shards=[where["c"]]).to_pylist() == [row("c", 3.0)]


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


def test_a_row_of_another_type_is_refused_and_leaves_nothing(table):
    table.create()
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        table.write_shard([row("a", "text")], keys=["a"])
    assert table.shards() == []


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failing_write_leaves_no_shard_and_no_rest(tmp_path, monkeypatch, failure):
    table = Table(str(tmp_path), SCHEMA)
    table.write_shard([row("a", 1.0)], keys=["a"])

    def write_half(rows, file, **options):
        file.write(b"PAR1")
        raise failure

    monkeypatch.setattr(pq, "write_table", write_half)
    for key in ("a", "b"):  # a shard that is there, and one that is not
        with pytest.raises(type(failure)):
            table.write_shard([row(key, 2.0)], keys=[key])
    assert [p.name for p in tmp_path.iterdir()] == [Path(table.shards()[0]).name]
    assert table.read().to_pylist() == [row("a", 1.0)]


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


def test_shards_hold_no_extension_types():
    folder = RunFolder("memory://run")
    tables = [folder.clips, folder.tracks, folder.crops, folder.status, folder.predictions]
    for table in [*tables, folder.features("hog", "0")]:
        kinds = [field.type for field in table.schema]
        assert not any(isinstance(kind, pa.BaseExtensionType) for kind in kinds)


def test_a_run_folder_makes_its_tables(tmp_path):
    folder = RunFolder(f"{tmp_path}/run/").create()
    made = {p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*")}
    expected = {f"tables/{name}" for name in ("clips", "tracks", "crops", "status", "rejects")}
    assert made == {"tables", "tables/features", "predictions", *expected}
    assert folder.features("hog", "f00").path == f"{tmp_path}/run/tables/features/hog/f00"


values = st.none() | st.text(max_size=4) | st.floats(allow_nan=False) | st.integers(-5, 5)
parts = st.lists(values, max_size=4)


@given(parts, parts)
def test_keys_are_equal_only_for_equal_content(a, b):
    same = [(type(x), x) for x in map(repr, a)] == [(type(x), x) for x in map(repr, b)]
    assert (row_key("f", *a) == row_key("f", *b)) == same
    assert row_key("f", *a) != row_key("g", *a)


def test_absent_and_empty_are_different_keys():
    assert row_key("f", None) != row_key("f", "") != row_key("f")
    assert row_key("f", "a", "b") != row_key("f", "a\x1f'b'") != row_key("f", "ab")


def test_a_clip_once_done_stays_done():
    def status(key, state, reason=None):
        return {"clip_id": key, "key": key, "state": state, "reason": reason}

    rows = [
        status("a", "done"),
        status("a", "rejected", "late"),
        status("b", "rejected", "first"),
        status("b", "done"),
        status("c", "rejected", "first"),
        status("c", "rejected", "second"),
    ]
    latest = latest_status(pa.Table.from_pylist(rows, schema=STATUS_SCHEMA))
    assert {key: (r["state"], r["reason"]) for key, r in latest.items()} == {
        "a": ("done", None),
        "b": ("done", None),
        "c": ("rejected", "second"),
    }
