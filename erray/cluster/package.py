"""What of a working folder travels with a job: code and recipes, no junk and no secrets."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from erray.errors import UserError
from erray.run_record import erray_home

MAX_BYTES = 100 * 1024**2
"""What a job server takes at most (``DASHBOARD_CLIENT_MAX_SIZE`` of ray.dashboard)."""

_JUNK = {".git", ".hg", ".venv", "venv", "__pycache__", "node_modules", ".ipynb_checkpoints"}
_JUNK |= {".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
_JUNK_AT_TOP = {"runs", "dist", "build", "mlruns"}
_SECRETS = (".env", ".env.*", "*.pem", "*.key", "auth_token", ".netrc", ".pypirc")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first that a zip knows: equal files make equal archives


@dataclass(frozen=True)
class WorkingFolder:
    """The files of ``root`` that travel, as paths relative to it, and their size unpacked."""

    root: Path
    files: tuple[str, ...]
    num_bytes: int

    def largest(self, count: int) -> list[tuple[str, int]]:
        """The ``count`` largest files with their bytes."""
        sizes = [(name, (self.root / name).stat().st_size) for name in self.files]
        return sorted(sizes, key=lambda entry: (-entry[1], entry[0]))[:count]

    def write_zip(self, path: Path) -> None:
        """Write the files to an archive; equal files give equal bytes."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.files:
                source = self.root / name
                entry = zipfile.ZipInfo(name, _EPOCH)
                entry.external_attr = (source.stat().st_mode & 0xFFFF) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, source.read_bytes())


def working_folder(root: Path) -> WorkingFolder:
    """Choose what of the folder ``root`` travels.

    In a git work tree what git tracks or does not ignore, elsewhere every file; never version
    control, environments, caches, runs, files that look like keys, nor links that lead outside.

    Raises:
        UserError: no such folder, nothing in it, or more than a job server takes.
    """
    root = root.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"--working-dir: expected a folder, found {root}")
    names = sorted(name for name in _candidates(root) if _travels(root, name))
    if not names:
        raise UserError(f"--working-dir: expected files that travel, found none in {root}")
    num_bytes = sum((root / name).stat().st_size for name in names)
    folder = WorkingFolder(root, tuple(names), num_bytes)
    if num_bytes > MAX_BYTES:
        largest = ", ".join(f"{name} ({size / 1e6:.0f} MB)" for name, size in folder.largest(3))
        raise UserError(
            f"--working-dir: expected at most {MAX_BYTES / 1e6:.0f} MB of code, found "
            f"{num_bytes / 1e6:.0f} MB in {root}, the largest are {largest}: put media where the "
            f"nodes see them, and name what stays here in .gitignore"
        )
    return folder


def _candidates(root: Path) -> Iterator[str]:
    listed = _git_files(root)
    if listed is not None:
        yield from (name for name in listed if not _is_junk(name))
        return
    folders = [root]
    while folders:
        for path in folders.pop().iterdir():
            name = path.relative_to(root).as_posix()
            if _is_junk(name):
                continue
            if path.is_dir() and not path.is_symlink():
                folders.append(path)
            else:
                yield name


def _git_files(root: Path) -> list[str] | None:
    """What git tracks or does not ignore; None where git is missing or this is no work tree."""
    command = ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others"]
    try:
        done = subprocess.run(
            [*command, "--exclude-standard"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return None
    return sorted(set(done.stdout.split("\0")) - {""}) if done.returncode == 0 else None


def _is_junk(name: str) -> bool:
    parts = name.split("/")
    if parts[0] in _JUNK_AT_TOP or not _JUNK.isdisjoint(parts):
        return True
    return name.endswith((".pyc", ".pyo")) or any(part.endswith(".egg-info") for part in parts)


def _travels(root: Path, name: str) -> bool:
    path = root / name
    if any(fnmatch(path.name, pattern) for pattern in _SECRETS) or not path.is_file():
        return False
    real = path.resolve()
    home = erray_home()
    return real.is_relative_to(root) and not (home != root and real.is_relative_to(home))
