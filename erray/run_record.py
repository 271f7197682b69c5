"""What a run writes about itself: ``<out>/run.json``, and the facts that go into it.

The file is small, read by people and by the report; the tracking store keeps the same facts for
comparison between runs.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import fsspec

from erray.credentials import without_credentials
from erray.errors import UserError, refusal

FILE_NAME = "run.json"
HOME_VARIABLE = "ERRAY_HOME"
COMMIT_VARIABLE = "ERRAY_GIT_COMMIT"
"""Commit of the code where there is no git: `erray submit` gives it to a job."""


@dataclass(frozen=True)
class RunRecord:
    """The record of the run in the folder (or fsspec URL) ``out``.

    A record is a snapshot: :meth:`update` writes the file and returns the next one.

    Attributes:
        recipe: the whole recipe after overrides.
        seconds: wall time per stage, summed over reruns of the stage in the same folder.
        model: ``{"name", "version"}`` of the registered model.
        clips: number of clips ``wanted``, ``done`` and ``rejected``.
        recipe_file: ``path`` and ``sha256`` of the recipe's file; None in runs of before.
    """

    out: str
    recipe: dict[str, Any] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    model: dict[str, str] | None = None
    git_commit: str | None = None
    data_fingerprint: str | None = None
    tracking_uri: str | None = None
    parent_run_id: str | None = None
    clips: dict[str, int] | None = None
    recipe_file: dict[str, Any] | None = None

    @classmethod
    def load(cls, out: str | Path) -> RunRecord:
        """Read the record; an empty one where the run has written none.

        Raises:
            UserError: the file is not JSON, or holds a key that this version does not know.
        """
        fs, path = fsspec.core.url_to_fs(_file(str(out)))
        if not fs.exists(path):
            return cls(str(out))
        with fs.open(path, "r", encoding="utf-8") as file:
            text = file.read()
        try:
            data = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} is not JSON ({error}): delete it and run again") from None
        known = _field_names()
        if not isinstance(data, dict) or not set(data) <= set(known):
            raise UserError(f"{path}: expected an object with keys {', '.join(known)}")
        return cls(str(out), **data)

    def update(self, **changes: Any) -> RunRecord:
        """Set fields on top of what the file holds now, write it whole, return the new record.

        Raises:
            UserError: the folder cannot be written.
        """
        assert set(changes) <= set(_field_names()), f"unknown fields in {sorted(changes)}"
        if changes.get("tracking_uri"):
            changes["tracking_uri"] = without_credentials(changes["tracking_uri"])
        record = replace(RunRecord.load(self.out), **changes)
        data = asdict(record)
        del data["out"]
        fs, path = fsspec.core.url_to_fs(_file(self.out))
        text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        try:
            _write_whole(fs, path, text)
        except OSError as error:
            found, advice = refusal(error) or (str(error), "look at the disk")
            raise UserError(
                f"{path} cannot be written ({found}): {advice}, or give another folder with --out"
            ) from None
        return record

    @contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Add the wall time of the block to ``seconds[stage]``, also when the block fails."""
        start_s = time.monotonic()
        try:
            yield
        finally:
            seconds = RunRecord.load(self.out).seconds
            spent_s = seconds.get(stage, 0.0) + time.monotonic() - start_s
            self.update(seconds={**seconds, stage: round(spent_s, 3)})


def erray_home() -> Path:
    """Return the absolute folder of the tracking store: ``ERRAY_HOME``, else ``./runs``."""
    return Path(os.environ.get(HOME_VARIABLE) or "runs").expanduser().absolute()


def require_absolute_home() -> Path:
    """Return :func:`erray_home` for a job, whose working folder is gone when it ends.

    Raises:
        UserError: ``ERRAY_HOME`` is unset or relative.
    """
    value = os.environ.get(HOME_VARIABLE, "")
    if not Path(value).is_absolute():
        raise UserError(
            f"{HOME_VARIABLE} is {value!r}, a job needs an absolute folder that outlives it: "
            f"set {HOME_VARIABLE}=/shared/folder in the job's runtime environment"
        )
    return Path(value)


def code_commit() -> str | None:
    """The commit that a job was given, else :func:`git_commit` of the working folder."""
    return os.environ.get(COMMIT_VARIABLE) or git_commit(Path.cwd())


def git_commit(folder: Path) -> str | None:
    """Return the commit checked out in ``folder``, with ``-dirty`` when tracked files differ.

    None where git is missing or ``folder`` is not in a work tree.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changes else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _write_whole(fs: Any, path: str, text: str) -> None:
    """Write a file under another name first, so that nobody sees a part of it."""
    fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with fs.open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        fs.mv(temporary, path)
    except BaseException:
        if fs.exists(temporary):
            fs.rm(temporary)
        raise


def _file(out: str) -> str:
    return f"{out.rstrip('/')}/{FILE_NAME}"


def _field_names() -> list[str]:
    return [f.name for f in fields(RunRecord) if f.name != "out"]
