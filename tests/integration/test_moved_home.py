"""A home that was moved or copied, with a real store: nothing is read or written elsewhere."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from erray.cli.doctor_services import check_tracking
from erray.errors import UserError
from erray.registry import FIRST, Registry

pytestmark = pytest.mark.integration

MODEL = "models:/kept@champion"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run, its file, and a version that an alias names."""
    home = tmp_path_factory.mktemp("er ray") / "made 100%"
    registry = Registry(home, experiment="kept")
    with registry.run("train") as run_id:
        registry.log_dict(run_id, {"seed": 1}, "recipe.json")
        version = registry.register(run_id, weights(home.parent / "1", b"1"), model_name="kept")
    registry.move_alias(version, "champion", before=None, how=FIRST, why="")
    return home


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    """A home as if made here: the addresses are changed by another program than erray."""
    home = tmp_path / "old"
    shutil.copytree(made, home)
    with closing(sqlite3.connect(home / "mlflow.db")) as store, store:
        for table, column in columns(store):
            store.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?",
                (made.as_uri(), home.as_uri(), f"{made.as_uri().replace('%', '_')}%"),
            )
    assert named(home, made.as_uri()) == 0 and named(home, home.as_uri()) == 4
    return home


def weights(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(content)
    return folder


def columns(store: sqlite3.Connection) -> list[tuple[str, str]]:
    """Every column of every table."""
    tables = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    infos = [(t, store.execute(f"PRAGMA table_info('{t}')").fetchall()) for (t,) in tables]
    return [(table, f'"{row[1]}"') for table, info in infos for row in info]


def named(home: Path, text: str) -> int:
    """Cells of the database that hold ``text``."""
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        return sum(
            store.execute(f"SELECT count(*) FROM {t} WHERE instr({c}, ?)", (text,)).fetchone()[0]
            for t, c in columns(store)
        )


def contents(folder: Path) -> dict[Path, bytes]:
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def check_works(home: Path, tmp_path: Path) -> None:
    """Read the model, write a run and a version below the same experiment."""
    registry = Registry(home, experiment="kept")
    model = registry.fetch(MODEL, tmp_path / "models")
    assert contents(model.folder) == {Path("model.safetensors"): b"1"}
    assert registry.read_dict(model.run_id, "recipe.json") == {"seed": 1}
    with registry.run("again") as run_id:
        registry.log_dict(run_id, {"seed": 2}, "recipe.json")
        registry.register(run_id, weights(tmp_path / "2", b"2"), model_name="kept")
    assert (home / "artifacts" / run_id).is_dir()


def test_a_moved_home_is_read_and_written_where_it_is(old, tmp_path, caplog):
    new = tmp_path / "new 50%"
    old.rename(new)
    check = check_tracking(f"sqlite:///{new}/mlflow.db")
    assert (check.state, check.found.endswith(f"was made in {old}")) == ("warning", True)
    with caplog.at_level(logging.WARNING):
        check_works(new, tmp_path)
    assert f"the tracking store of {old} is in {new} now" in caplog.text
    assert not old.exists()
    assert named(new, f"{old}/") == 0
    assert check_tracking(f"sqlite:///{new}/mlflow.db").state == "ok"


def test_a_copied_home_leaves_the_first_one_alone(old, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(old, new)
    before = contents(old)
    check_works(new, tmp_path)
    assert contents(old) == before
    assert named(new, f"{old}/") == 0
    (tmp_path / "others").mkdir()
    model = Registry(old, experiment="kept").fetch(MODEL, tmp_path / "others")
    assert contents(model.folder) == {Path("model.safetensors"): b"1"}
    assert named(old, f"{new}/") == 0


def test_a_database_without_its_files_is_refused_until_they_are_copied(old, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    shutil.copy(old / "mlflow.db", new)
    before = contents(old)
    with pytest.raises(UserError, match=f"cp -r {old}/artifacts {new}/artifacts"):
        Registry(new, experiment="kept").open()
    assert "cp -r" in check_tracking(f"sqlite:///{new}/mlflow.db").advice
    assert contents(old) == before and named(new, f"{old}/") > 0
    shutil.copytree(old / "artifacts", new / "artifacts")
    check_works(new, tmp_path)
    assert contents(old) == before


def test_files_that_stayed_behind_are_told(old, tmp_path, caplog):
    new = tmp_path / "new"
    with Registry(old, experiment="kept").run("later") as run_id:
        Registry(old, experiment="kept").log_dict(run_id, {}, "recipe.json")
    shutil.copytree(old, new)
    shutil.rmtree(new / "artifacts" / run_id)
    with caplog.at_level(logging.WARNING):
        Registry(new, experiment="kept").open()
    assert "the files of 1 runs are there alone" in caplog.text


def test_a_home_by_another_name_and_a_chosen_place_stay_as_they_are(old, tmp_path):
    registry = Registry(old, experiment="kept")
    chosen = tmp_path / "big disk" / "artifacts"
    chosen.parent.mkdir()
    chosen_uri = chosen.as_uri()
    registry._connection.client.create_experiment("chosen", artifact_location=chosen_uri)
    before = (old / "mlflow.db").read_bytes()
    link = tmp_path / "link"
    link.symlink_to(old)
    assert Registry(link, experiment="kept").fetch(MODEL, tmp_path / "models").version == "1"
    assert (old / "mlflow.db").read_bytes() == before


def test_a_database_elsewhere_writes_nothing_where_its_home_was(old, tmp_path):
    new, uri = tmp_path / "new", f"sqlite:///{tmp_path}/elsewhere.db"
    old.rename(new)
    (new / "mlflow.db").rename(tmp_path / "elsewhere.db")
    registry = Registry(new, uri=uri, experiment="kept")
    with pytest.raises(UserError, match=f"there is no {old}: .*`ln -s {new} {old}`"):
        registry.start_run("lost")
    with pytest.raises(UserError, match=f"there is no {old}"):
        registry.fetch(MODEL, tmp_path / "models")
    assert not old.exists()
    old.symlink_to(new)
    model = Registry(new, uri=uri, experiment="kept").fetch(MODEL, tmp_path / "models")
    assert model.version == "1"


def test_a_version_whose_files_are_gone_is_one_line(old, tmp_path):
    shutil.rmtree(old / "artifacts")
    with pytest.raises(UserError, match=f"{MODEL}: no files in {old}/artifacts/"):
        Registry(old, experiment="kept").fetch(MODEL, tmp_path / "models")


def test_reading_makes_no_experiment_and_a_store_is_known_again(old, tmp_path):
    run_id = Registry(old, experiment="kept").find(MODEL).run_id
    new = tmp_path / "new"
    old.rename(new)
    registry = Registry(new, experiment="another")
    assert [v.version for v in registry.versions("kept")] == ["1"]
    assert registry._connection.client.get_experiment_by_name("another") is None
    assert registry.is_store(f"sqlite:///{old}/mlflow.db", run_id)
    assert not registry.is_store(f"sqlite:///{old}/mlflow.db", "0" * 32)
    assert not registry.is_store("http://127.0.0.1:9", run_id)
    assert not registry.is_store(None, None)
