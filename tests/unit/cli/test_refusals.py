"""What the system refuses is one line that says what and where, and exit code 2."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.exceptions import RayTaskError

from erray.cli.main import guarded
from tests.unit.file_limit import file_limit
from tests.unit.media_files import write_video

REPOSITORY = Path(__file__).parents[3]
# to root, permissions mean nothing while it has these rights
RIGHTS = "-dac_override,-dac_read_search"


@pytest.mark.parametrize(
    ("number", "found", "advice"),
    [
        (errno.ENOSPC, "No space left on device", "make room"),
        (errno.EDQUOT, "Disk quota exceeded", "make room"),
        (errno.EACCES, "Permission denied", "change its owner or its mode"),
        (errno.EROFS, "Read-only file system", "name a place that can be written"),
        (errno.EMFILE, "Too many open files", "ulimit -n"),
    ],
)
def test_kinds_of_refusals_are_told_apart(number, found, advice, capsys):
    with pytest.raises(SystemExit) as caught, guarded():
        raise OSError(number, os.strerror(number), "/a/[file]")
    line = capsys.readouterr().err
    assert caught.value.code == 2 and line.count("\n") == 1
    assert line.startswith(f"error: /a/[file]: {found}: ") and advice in line


def test_what_the_system_refused_a_worker_is_told_as_here(capsys):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/a/b")
    wrapped = RayTaskError("train", "Traceback ...", full, ip="::1").as_instanceof_cause()
    assert isinstance(wrapped, OSError) and wrapped.errno is None, "Ray tells it by itself now"
    with pytest.raises(SystemExit) as caught, guarded():
        raise wrapped
    assert caught.value.code == 2
    assert capsys.readouterr().err == "error: /a/b: No space left on device: make room\n"


def test_a_folder_that_cannot_be_copied_whole_is_told_by_its_first_file(tmp_path, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "weights").write_bytes(bytes(9000))
    with pytest.raises(SystemExit), guarded(), file_limit(4096):
        shutil.copytree(tmp_path / "a", tmp_path / "b")
    line = capsys.readouterr().err
    assert line.startswith("error: ") and line.count("\n") == 1 and "File too large: " in line


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EBADF, errno.EINVAL])
def test_what_may_be_a_defect_keeps_its_traceback(number):
    with pytest.raises(OSError, match=os.strerror(number)), guarded():
        raise OSError(number, os.strerror(number))


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as somebody to whom permissions apply."""
    prefix = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to give its rights away")
        prefix = ["setpriv", f"--bounding-set={RIGHTS}", f"--inh-caps={RIGHTS}"]
    return subprocess.run(
        [*prefix, sys.executable, "-c", "from erray.cli.main import main; main()", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """Films in a folder that nobody may write to."""
    root = tmp_path / "films"
    for i in range(6):
        folder = root / "Anger" / f"p{i}"
        folder.mkdir(parents=True)
        write_video(folder / "1.mp4", [0, 40 + i])
    root.chmod(0o555)
    yield root
    root.chmod(0o755)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and done.stderr.count("\n") == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_manifest_in_a_folder_that_is_read_only(locked, tmp_path):
    line = refused(run("corpus", "manifest", str(locked), cwd=tmp_path))
    assert f"{locked / 'manifest.csv'}: Permission denied" in line
    assert list(locked.iterdir()) == [locked / "Anger"]


@pytest.mark.parametrize("out", ["faces.png", "faces.mp4"])
def test_faces_in_a_folder_that_is_read_only(out, locked, tmp_path):
    clip = next(locked.rglob("*.mp4"))
    line = refused(run("faces", str(clip), "--out", str(locked / out), cwd=tmp_path))
    assert f"--out {locked / out}: Permission denied" in line


def test_a_run_folder_that_is_read_only(locked, tmp_path):
    (locked.parent / "mine.yaml").write_text(
        f"corpus: {{root: {locked}, manifest: m.csv, labels: basic7}}\nstreams: {{logmel: {{}}}}\n"
    )
    (locked / "Anger" / "m.csv").write_text("clip_id,media,split\na,p0/1.mp4,train\n")
    override = f"corpus.root={locked / 'Anger'}"
    arguments = ("extract", "-r", "mine.yaml", "-o", override, "--out", str(locked / "run"))
    line = refused(run(*arguments, cwd=tmp_path))
    assert str(locked / "run") in line and "Permission denied" in line


def test_a_manifest_that_nobody_may_read(locked, tmp_path):
    manifest = locked / "Anger" / "m.csv"
    manifest.write_text("clip_id,media,split\na,p0/1.mp4,train\n")
    manifest.chmod(0)
    (tmp_path / "mine.yaml").write_text(
        f"corpus: {{root: {locked / 'Anger'}, manifest: m.csv}}\nstreams: {{logmel: {{}}}}\n"
    )
    line = refused(run("corpus", "check", "-r", "mine.yaml", cwd=tmp_path))
    assert f"{manifest}: Permission denied" in line
