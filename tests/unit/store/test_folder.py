"""Files that are whole or absent, storage that fails, and what the user is told."""

from __future__ import annotations

import errno
import pickle
import sys
from pathlib import Path

import pytest

from erray.errors import UserError
from erray.store import folder as folder_module
from erray.store.folder import Folder
from tests.unit.store.failing_storage import FailingFileSystem


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(folder_module, "_PAUSES_S", (0.0, 0.0))
    monkeypatch.setattr(FailingFileSystem, "failures", 0)


@pytest.fixture
def failing(tmp_path, monkeypatch):
    """A folder on the failing storage; call it to make the next writes fail."""

    class Failing(Folder):
        def fail(self, times: int, code: int = errno.ENOSPC) -> None:
            monkeypatch.setattr(FailingFileSystem, "failures", times)
            monkeypatch.setattr(FailingFileSystem, "code", code)

    return Failing(f"failing://{tmp_path}/table")


def content(file) -> None:
    file.write(b"whole")


def hidden(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "table").iterdir() if path.name != "a"]


def test_two_failures_are_tried_again(failing, tmp_path):
    failing.fail(2)
    failing.write("a", content)
    assert (tmp_path / "table" / "a").read_bytes() == b"whole" and hidden(tmp_path) == []


def test_a_third_failure_is_one_line_and_leaves_nothing(failing, tmp_path):
    failing.fail(3)
    with pytest.raises(UserError) as refused:
        failing.write("a", content)
    message = str(refused.value)
    assert "\n" not in message and f"could not write a to failing://{tmp_path}/table" in message
    assert "No space left on device (3 tries)" in message and "what is done is kept" in message
    assert failing.files() == [] and hidden(tmp_path) == []
    assert str(pickle.loads(pickle.dumps(refused.value))) == message


def test_a_file_that_was_there_survives_a_failed_write(failing, tmp_path):
    failing.write("a", content)
    failing.fail(3)
    with pytest.raises(UserError):
        failing.write("a", lambda file: file.write(b"other"))
    assert (tmp_path / "table" / "a").read_bytes() == b"whole" and hidden(tmp_path) == []


def test_a_write_that_is_interrupted_is_not_repeated(tmp_path):
    calls = []

    def interrupted(file) -> None:
        calls.append(file)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Folder(f"{tmp_path}/table").write("a", interrupted)
    assert len(calls) == 1 and hidden(tmp_path) == []


def test_a_read_only_folder_is_refused(failing, tmp_path):
    failing.check_writable()
    assert hidden(tmp_path) == []
    failing.fail(3, errno.EROFS)
    with pytest.raises(UserError, match="Read-only file system"):
        failing.check_writable()
    assert hidden(tmp_path) == []


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"could not make .*/file/table: "):
        Folder(f"{tmp_path}/file/table").create()


def test_files_are_those_that_are_not_hidden(tmp_path):
    folder = Folder(str(tmp_path))
    assert Folder(f"{tmp_path}/absent").files() == []
    for name in ("b", "a", ".c"):
        (tmp_path / name).touch()
    assert folder.files() == [folder.file("a"), folder.file("b")]
    folder.remove(["a", "absent"])
    assert folder.files() == [folder.file("b")]
    folder.clear()
    assert not tmp_path.exists()
    folder.clear()


def test_s3_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(UserError, match=r"s3://bucket/t .* install erray\[s3\]"):
        Folder("s3://bucket/t").files()


def test_an_unknown_storage_is_refused():
    with pytest.raises(UserError, match=r"nowhere://t: expected a folder or an fsspec URL"):
        Folder("nowhere://t").create()
