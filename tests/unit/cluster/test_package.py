"""What of a folder travels with a job."""

from __future__ import annotations

import subprocess
import zipfile

import pytest

from erray.cluster import package, working_folder
from erray.errors import UserError

CODE = ["erray/__init__.py", "films.yaml", "jobs/extract.py", "requirements.lock"]
JUNK = [
    ".venv/bin/python",
    "runs/demo/run.json",
    "dist/erray.whl",
    "erray/__pycache__/a.cpython-311.pyc",
    "erray.egg-info/PKG-INFO",
    ".mypy_cache/a.json",
    "node_modules/a/index.js",
    "deep/venv/pyvenv.cfg",
]
SECRETS = [".env", ".env.local", "keys/aws.pem", "tls.key", "auth_token", ".netrc"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.delenv("ERRAY_HOME", raising=False)
    root = tmp_path / "tree"
    for name in [*CODE, *JUNK, *SECRETS]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (tmp_path / "elsewhere.txt").write_text("not of this tree")
    (root / "outside").symlink_to(tmp_path / "elsewhere.txt")
    (root / "outer").symlink_to(tmp_path)
    (root / "dangling").symlink_to("nowhere")
    (root / "inside.yaml").symlink_to("films.yaml")
    return root


def git(root, *arguments):
    settings = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
    subprocess.run(["git", *settings, "-C", str(root), *arguments], check=True, capture_output=True)


@pytest.mark.parametrize("with_git", [False, True])
def test_code_travels_junk_and_secrets_stay(tree, with_git):
    if with_git:
        git(tree, "init")
        git(tree, "add", "--all", "--force")  # also what somebody committed by mistake
    folder = working_folder(tree)
    assert list(folder.files) == sorted([*CODE, "inside.yaml"])
    assert folder.num_bytes == sum(len((tree / name).read_text()) for name in folder.files)


def test_in_a_work_tree_git_decides(tree):
    git(tree, "init")
    (tree / ".gitignore").write_text("/films.yaml\n*.mp4\n")
    (tree / "clip.mp4").write_text("much")
    git(tree, "add", "erray", "jobs")
    (tree / "jobs" / "extract.py").unlink()  # tracked, and gone
    (tree / "new.yaml").write_text("untracked")
    expected = {".gitignore", "erray/__init__.py", "inside.yaml", "new.yaml", "requirements.lock"}
    assert set(working_folder(tree).files) == expected
    assert set(working_folder(tree / "erray").files) == {"__init__.py"}


def test_runs_stay_wherever_the_home_is(tree, monkeypatch):
    (tree / "mine" / "deep").mkdir(parents=True)
    (tree / "mine" / "deep" / "mlflow.db").write_text("rows")
    assert "mine/deep/mlflow.db" in working_folder(tree).files
    monkeypatch.setenv("ERRAY_HOME", str(tree / "mine"))
    assert list(working_folder(tree).files) == sorted([*CODE, "inside.yaml"])


def test_the_archive_holds_the_files_and_is_the_same_twice(tree, tmp_path):
    (tree / "jobs" / "extract.py").chmod(0o755)
    folder = working_folder(tree)
    folder.write_zip(tmp_path / "a.zip")
    (tree / "films.yaml").touch()
    folder.write_zip(tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert sorted(archive.namelist()) == list(folder.files)
        assert archive.read("inside.yaml") == b"films.yaml"
        assert archive.getinfo("jobs/extract.py").external_attr >> 16 & 0o777 == 0o755


def test_too_much_is_refused_with_the_largest_files(tree, monkeypatch):
    monkeypatch.setattr(package, "MAX_BYTES", 2_000_000)
    (tree / "film.mp4").write_bytes(bytes(3_000_000))
    with pytest.raises(UserError, match=r"at most 2 MB of code, found 3 MB .* film.mp4 \(3 MB\)"):
        working_folder(tree)


def test_no_folder_and_an_empty_one(tmp_path):
    with pytest.raises(UserError, match="expected a folder, found"):
        working_folder(tmp_path / "absent")
    with pytest.raises(UserError, match="found none in"):
        working_folder(tmp_path)
