"""Where the tables of a run lie, and the keys of rows."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erray.config import parse_recipe
from erray.errors import UserError
from erray.store import RunFolder, row_key


def test_shards_hold_no_extension_types():
    folder = RunFolder("memory://run")
    tables = [folder.clips, folder.tracks, folder.crops, folder.status, folder.predictions]
    for table in [*tables, folder.features("hog", "0")]:
        kinds = [field.type for field in table.schema]
        assert not any(isinstance(kind, pa.BaseExtensionType) for kind in kinds)


def test_tables_may_lie_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"extract": {"tables": "shared/demo"}}
    folder = RunFolder.of(parse_recipe(settings), tmp_path / "run").create()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"predictions"}
    assert {path.name for path in (tmp_path / "shared" / "demo").iterdir()} == {
        *("clips", "tracks", "crops", "status", "rejects", "features")
    }
    assert folder.features("hog", "f00").path == f"{tmp_path}/shared/demo/features/hog/f00"
    remote = RunFolder.of(parse_recipe({"extract": {"tables": "memory://t/"}}), "/run")
    assert (remote.status.path, remote.predictions.path) == (
        "memory://t/status",
        "/run/predictions",
    )


def test_tables_that_cannot_be_written_are_refused_at_once(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"could not make .*/file/tables/clips"):
        RunFolder(f"{tmp_path}/file").create()


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
