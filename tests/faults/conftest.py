"""What every fault test needs: a short folder for Ray, and the rows of a run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


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
