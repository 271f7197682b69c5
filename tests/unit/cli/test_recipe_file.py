"""Whose run a folder holds: another recipe of its name is refused, the same one moved is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from erray.cli.main import main
from erray.cli.recipe_file import RecipeFile
from erray.errors import UserError
from erray.run_record import RunRecord


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def recipe(path: Path, *, epochs: int = 3) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"streams: {{hash: {{}}}}\ntrain: {{epochs: {epochs}}}\n", encoding="utf-8")
    return path


def test_the_second_recipe_of_a_name_is_refused_with_both_paths(tmp_path, home, capsys):
    first, second = (recipe(tmp_path / d / "films.yaml", epochs=e) for d, e in (("a", 1), ("b", 2)))
    out = home / "films"
    assert RecipeFile.of(str(first)).take(out) is None
    before = (out / "run.json").read_bytes()
    for more in ([], ["--dry-run"]):
        with pytest.raises(SystemExit) as caught:
            main(["extract", "-r", str(second), *more])
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert f"{out} holds the run of {first}, and {second} has the same name" in said
        assert len(said.splitlines()) == 1
    assert (out / "run.json").read_bytes() == before

    own = RecipeFile.of(str(second))
    assert own.take(out) == f"{out} held the run of {first} until now"  # with --out
    own.require_own(out)
    with pytest.raises(UserError, match=f"holds the run of {second}, and {first} has"):
        RecipeFile.of(str(first)).require_own(out)


def test_a_file_that_was_edited_moved_or_copied_is_the_same_recipe(tmp_path, home):
    first = recipe(tmp_path / "a" / "films.yaml")
    RecipeFile.of(str(first)).take(home)
    recipe(first, epochs=9)
    RecipeFile.of(str(first)).require_own(home)
    RecipeFile.of(str(first)).take(home)
    copied = recipe(tmp_path / "b" / "films.yaml", epochs=9)
    RecipeFile.of(str(copied)).require_own(home)
    recipe(first, epochs=8)  # edited, copied, and not run in between
    RecipeFile.of(str(recipe(copied, epochs=8))).require_own(home)
    moved = first.rename(tmp_path / "c.yaml")
    recipe(moved, epochs=4)
    RecipeFile.of(str(moved)).require_own(home)
    assert RecipeFile.of(str(moved)).take(home) is None
    assert RunRecord.load(home).recipe_file == {
        "path": str(moved),
        "sha256": RecipeFile.of(str(moved)).sha256,
        "corpus_root": None,
    }


def test_the_same_text_over_another_corpus_is_another_recipe(tmp_path, home, monkeypatch):
    """``root: films`` in two projects that share a home."""
    first, second = (recipe(tmp_path / d / "films.yaml") for d in ("a", "b"))
    monkeypatch.chdir(first.parent)
    RecipeFile.of("films.yaml", corpus_root="films").take(home)
    RecipeFile.of(str(second), corpus_root="films").require_own(home)  # a copy, the same films
    monkeypatch.chdir(second.parent)
    with pytest.raises(UserError, match=f"holds the run of {first}, and {second} has"):
        RecipeFile.of("films.yaml", corpus_root="films").require_own(home)
    first.unlink()
    RecipeFile.of("films.yaml", corpus_root="films").require_own(home)  # the project was moved


def test_a_run_of_before_opens_and_is_noted(tmp_path, home):
    home.mkdir()
    (home / "run.json").write_text(json.dumps({"recipe": {"name": "films"}, "seconds": {}}))
    file = RecipeFile.of(str(recipe(tmp_path / "films.yaml")))
    file.require_own(home)
    file.take(home)
    assert RunRecord.load(home).recipe_file["path"] == file.path
    assert RunRecord.load(home).recipe == {"name": "films"}


def test_a_packaged_recipe_and_a_file_of_its_name_are_two(tmp_path, home):
    RecipeFile.of("demo").take(home)
    RecipeFile.of("demo").require_own(home)
    with pytest.raises(UserError, match="holds the run of demo, and /"):
        RecipeFile.of(str(recipe(tmp_path / "demo.yaml"))).require_own(home)


def test_jobs_are_told_apart_by_the_path_in_their_working_folder(tmp_path, home):
    first = recipe(tmp_path / "_ray_pkg_1" / "films.yaml", epochs=1)
    edited = recipe(tmp_path / "_ray_pkg_2" / "films.yaml", epochs=2)
    (tmp_path / "_ray_pkg_2" / "b").mkdir()
    other = recipe(tmp_path / "_ray_pkg_2" / "b" / "films.yaml", epochs=3)
    RecipeFile.of(str(first)).take(home)
    RecipeFile.of(str(edited)).require_own(home)
    with pytest.raises(UserError, match=r"holds the run of films\.yaml, and b/films\.yaml has"):
        RecipeFile.of(str(other)).require_own(home)
