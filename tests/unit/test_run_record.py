"""The run's own record: round trips, atomic writes, stage times, the home folder, git facts."""

import json
import subprocess
from pathlib import Path

import pytest

from erray.errors import UserError
from erray.run_record import (
    COMMIT_VARIABLE,
    RunRecord,
    code_commit,
    erray_home,
    git_commit,
    require_absolute_home,
)


def test_a_folder_without_record_gives_an_empty_one(tmp_path):
    record = RunRecord.load(tmp_path)
    assert record == RunRecord(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_updates_add_up_and_are_read_back(tmp_path):
    out = tmp_path / "runs" / "demo"
    stale = RunRecord.load(out)
    stale.update(recipe={"seed": 1, "name": "Zoë"}, git_commit="abc")
    record = stale.update(model={"name": "erray", "version": "3"})
    assert record.git_commit == "abc", "an update of an older snapshot lost a field"
    assert RunRecord.load(out) == record
    assert json.loads((out / "run.json").read_text("utf-8"))["recipe"]["name"] == "Zoë"
    assert [p.name for p in out.iterdir()] == ["run.json"]


def test_a_failing_write_keeps_the_record_before(tmp_path):
    record = RunRecord.load(tmp_path).update(git_commit="abc")
    with pytest.raises(TypeError):
        record.update(recipe={"broken": object()})
    assert RunRecord.load(tmp_path).git_commit == "abc"
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_stage_times_add_up_and_survive_a_failure(tmp_path):
    record = RunRecord.load(tmp_path).update(seconds={"extract": 10.0})
    with record.time("extract"):
        record.update(clips={"wanted": 2, "done": 1, "rejected": 1})
    with pytest.raises(KeyError), record.time("train"):
        raise KeyError
    saved = RunRecord.load(tmp_path)
    assert 10.0 <= saved.seconds["extract"] < 12.0
    assert 0.0 <= saved.seconds["train"] < 2.0
    assert saved.clips == {"wanted": 2, "done": 1, "rejected": 1}


@pytest.mark.parametrize("text", ["{", "[]", '{"colour": 1}'])
def test_a_foreign_file_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json"):
        RunRecord.load(tmp_path)


def test_an_unknown_field_is_our_own_mistake(tmp_path):
    with pytest.raises(AssertionError, match="colour"):
        RunRecord.load(tmp_path).update(colour=1)


def test_the_tracking_uri_is_kept_without_its_password(tmp_path):
    RunRecord.load(tmp_path).update(tracking_uri="postgresql://me:secret@db:5432/ml")
    assert "secret" not in (tmp_path / "run.json").read_text()
    assert RunRecord.load(tmp_path).tracking_uri == "postgresql://***@db:5432/ml"


def test_the_home_is_absolute_and_follows_the_variable(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ERRAY_HOME", raising=False)
    assert erray_home() == tmp_path / "runs"
    monkeypatch.setenv("ERRAY_HOME", "elsewhere")
    assert erray_home() == tmp_path / "elsewhere"
    monkeypatch.setenv("ERRAY_HOME", "/data/runs")
    assert erray_home() == require_absolute_home() == Path("/data/runs")


@pytest.mark.parametrize("value", [None, "", "runs", "./runs"])
def test_a_job_refuses_a_home_that_dies_with_it(monkeypatch, value):
    monkeypatch.delenv("ERRAY_HOME", raising=False)
    if value is not None:
        monkeypatch.setenv("ERRAY_HOME", value)
    with pytest.raises(UserError, match="absolute"):
        require_absolute_home()


def test_git_commit_marks_changed_tracked_files(tmp_path):
    def git(*arguments):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert git_commit(tmp_path) is None
    git("init", "--quiet")
    assert git_commit(tmp_path) is None, "a work tree without a commit"
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "first")
    (tmp_path / "untracked").write_text("1")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == git("rev-parse", "HEAD") + "-dirty"


def test_a_folder_that_cannot_be_written_is_one_line():
    with pytest.raises(UserError, match=r"run\.json cannot be written .*--out"):
        RunRecord.load("/proc/erray").update(git_commit="abc")


def test_a_job_has_the_commit_that_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a copy of the working folder has no .git
    monkeypatch.delenv(COMMIT_VARIABLE, raising=False)
    assert code_commit() == git_commit(tmp_path)
    monkeypatch.setenv(COMMIT_VARIABLE, "abc-dirty")
    assert code_commit() == "abc-dirty"
