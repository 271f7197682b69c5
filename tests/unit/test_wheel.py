"""What a plain install has: every file that a command reads is in the wheel, and found there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
# The list comes from the spaces that `erray tune` looks up; each is loaded, and asked once.
LOOK = """
import json, optuna
import erray
from erray.config import load_recipe, recipe_names
from erray.tuning import load_space, space_names, trial_recipe
recipe = trial_recipe(load_recipe("demo"))
spaces = {}
for name in space_names():
    space = load_space(name)
    trial = optuna.create_study().ask()
    spaces[name] = [str(space.file), len(space.suggest(trial, recipe))]
print(json.dumps({
    "erray": erray.__file__,
    "spaces": spaces,
    "recipes": [load_recipe(name).name for name in recipe_names()],
}))
"""


def files_below(folder: Path, pattern: str = "**/*") -> set[str]:
    found = (path for path in folder.glob(pattern) if path.is_file())
    return {
        path.relative_to(folder).as_posix() for path in found if "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built without network and without isolation: hatchling is here."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    (path,) = folder.glob("erray-*.whl")
    return path


def names(wheel: Path, prefix: str) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        found = [name for name in archive.namelist() if name.startswith(prefix)]
    return {name.removeprefix(prefix) for name in found}


def test_the_wheel_holds_the_package_whole_and_the_spaces(wheel: Path) -> None:
    spaces = {f"tune_spaces/{name}" for name in files_below(REPOSITORY / "tune_spaces", "*.py")}
    assert len(spaces) >= 5
    assert names(wheel, "erray/") == files_below(REPOSITORY / "erray") | spaces


@pytest.mark.parametrize(
    ("folder", "patterns"),
    [
        ("recipes", ["*.yaml"]),
        ("report/templates", ["*.j2", "*.css", "*.js"]),
        ("encoders", ["weights.yaml"]),
    ],
)
def test_the_wheel_holds_what_commands_read(
    wheel: Path, folder: str, patterns: Sequence[str]
) -> None:
    there = names(wheel, f"erray/{folder}/")
    for pattern in patterns:
        wanted = files_below(REPOSITORY / "erray" / folder, pattern)
        assert wanted and wanted <= there


def test_an_installed_erray_finds_its_spaces_and_recipes(wheel: Path, tmp_path: Path) -> None:
    """In an empty folder, with nothing of the checkout in sight."""
    installed, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    elsewhere.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=True,
        capture_output=True,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["erray"]) == installed / "erray" / "__init__.py"
    wanted = {path.stem for path in (REPOSITORY / "tune_spaces").glob("*.py")}
    assert set(found["spaces"]) == wanted
    for file, num_settings in found["spaces"].values():
        assert Path(file).is_relative_to(installed) and num_settings > 5
    recipes = {path.stem for path in (REPOSITORY / "erray" / "recipes").glob("*.yaml")}
    assert set(found["recipes"]) == recipes
