"""What fault tests need: a short folder for Ray, a small disk."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.small_disk import Disk


@pytest.fixture(scope="module")
def ray_dir() -> Iterator[Path]:
    """Ray's folder: its name must be short, as Unix sockets lie in it.

    It is the file's own and goes with it: a test that searches it finds what its own runs wrote,
    and a job's copy of the working folder stays for nobody else to find.
    """
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def own_ray(ray_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test starts a Ray of its own, whatever runs on this machine."""
    monkeypatch.setenv("RAY_TMPDIR", str(ray_dir))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    yield Disk(path)
    if path.is_mount():
        # lazily: this process may have a database open on it
        subprocess.run(["umount", "--lazy", str(path)], check=True)
