"""Where a local Ray puts its sockets and its token; no Ray starts here."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from erray import ray_session
from erray.errors import UserError
from erray.ray_session import ray_folder


@pytest.fixture
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place that is fallen back to: it may be long here, as no socket is made."""
    monkeypatch.setattr(ray_session, "_SHORT_PLACES", ("/proc/nowhere", str(tmp_path)))
    monkeypatch.setattr(ray_session, "_MOST_BYTES", len(os.fsencode(tmp_path)) + 20)
    return tmp_path / f"ray-{os.getuid()}"


def test_the_limit_is_that_of_a_socket():
    """``sun_path`` of Linux holds 108 bytes, the last of them zero."""
    assert ray_session._MOST_BYTES + len(ray_session._LONGEST_SOCKET) == 107
    assert 35 < ray_session._MOST_BYTES < 50


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_that_is_too_long_is_replaced_by_a_short_one(
    variable, short, tmp_path, monkeypatch, caplog
):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / ("x" * 60)))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / ("x" * 60)).mkdir()
    assert ray_folder() == str(short) and short.is_dir()
    assert stat.S_IMODE(short.stat().st_mode) == 0o700
    assert f"Ray's files lie in {short}" in caplog.text and "is longer than" in caplog.text


def test_a_folder_that_cannot_be_written_is_replaced(short, monkeypatch, caplog):
    monkeypatch.setenv("RAY_TMPDIR", "/proc/ray")
    assert ray_folder() == str(short)
    assert "/proc/ray cannot be written" in caplog.text


def test_a_good_folder_is_taken_as_it_is(short, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "own"))
    assert ray_folder() == str(tmp_path / "own")
    assert caplog.text == "" and not short.exists()


def test_without_any_folder_it_is_a_users_mistake(monkeypatch):
    monkeypatch.setattr(ray_session, "_SHORT_PLACES", ("/proc/nowhere",))
    monkeypatch.setenv("RAY_TMPDIR", "/proc/ray")
    with pytest.raises(UserError, match=r"/proc/ray cannot be written .*set RAY_TMPDIR"):
        ray_folder()


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ray_session._TOKEN_VARIABLES:
        monkeypatch.setenv(name, "")
    ray_session._temporary_token.cache_clear()


def test_without_a_home_the_token_is_a_temporary_file(no_token, monkeypatch):
    monkeypatch.setenv("HOME", "/proc/nobody")
    ray_session._keep_token_elsewhere()
    path = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
    try:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_text()) == 64
    finally:
        path.unlink()


def test_a_home_that_can_be_written_keeps_it(no_token, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    ray_session._keep_token_elsewhere()
    (tmp_path / ".ray" / "auth_token").write_text("mine")
    ray_session._keep_token_elsewhere()
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == ""
