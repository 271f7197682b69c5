"""Disks that are full or can only be read: real file systems of few KB or MB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from erray.errors import UserError
from erray.registry import Registry
from erray.store import RunFolder
from tests.faults.small_disk import Disk
from tests.faults.tables import contents, rows
from tests.tiny_run import REPOSITORY, TinyRun, write_faceless, write_recipe

pytestmark = pytest.mark.timeout(600)

NUM_CLIPS = 8
STAGES = ("tracks", "logmel", "hash")
NUM_ROWS = len(STAGES) * NUM_CLIPS
PAGE_BYTES = 4096
REGISTER = """
import sys
from pathlib import Path
from erray.registry import Registry
home, model = map(Path, sys.argv[1:])
registry = Registry(home, experiment="kept")
with registry.run("train") as run_id:
    registry.register(run_id, model, model_name="kept")
"""
# 100 KB of features, as arrays in the folder that is given
BUILD = """
import sys
from pathlib import Path
from erray.errors import UserError
from erray.labels import CEXPR_7
from erray.plan import Plan
from erray.store import RunFolder
from erray.training.ingest import build_arrays
from tests.unit.made_up_features import tiny_clips, tiny_recipe, write_features
run, cache = RunFolder(sys.argv[1]), Path(sys.argv[2])
plan, clips = Plan(tiny_recipe()), tiny_clips(4)
write_features(run, plan, {clip.clip_id: 400 for clip in clips}, clips, shard_clips=4)
try:
    build_arrays(plan, run, clips, CEXPR_7, split="train", cache=cache)
except UserError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def run(tmp_path: Path, ray_dir: Path, disk: Disk) -> TinyRun:
    """A run whose tables lie on the disk."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = ["clip_id,media,split,transcript"]
    for i in range(NUM_CLIPS):
        write_faceless(corpus / f"clip_{i}.mp4", num_frames=20 + i)
        lines.append(f"clip_{i},clip_{i}.mp4,train,clip number {i}")
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = write_recipe(
        tmp_path / "faults.yaml",
        corpus,
        streams={"logmel": {}, "hash": {}},
        extract={
            "shard_clips": 1,
            "tables": str(disk.path / "tables"),
            "pools": {stage: {"num_workers": 1} for stage in STAGES},
        },
    )
    return TinyRun(corpus, recipe, tmp_path / "run", tmp_path / "home", ray_dir)


def refused(run: TinyRun) -> str:
    """Run an extraction that the storage stops; return all that it says on standard error."""
    done = subprocess.run(
        run.command("extract"),
        env=run.environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and "ray" not in done.stderr.lower(), done.stderr
    return done.stderr


def pages(folder: Path) -> int:
    """Pages that a file system in memory needs for a folder: one at least per file or folder."""
    return sum(1 + path.stat().st_size // PAGE_BYTES for path in folder.rglob("*"))


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(run, disk, tmp_path):
    whole = tmp_path / "whole"
    undisturbed = TinyRun(run.corpus, run.recipe, whole, run.home, run.ray_dir)
    undisturbed.json("extract", "-o", f"extract.tables={whole / 'tables'}")
    expected = contents(whole)
    assert len(expected["status"]) == NUM_ROWS

    disk.mount(f"size={pages(whole / 'tables') * 2 // 3 * PAGE_BYTES}")
    said = refused(run)
    assert "No space left on device (3 tries)" in said
    assert "what is done is kept" in said
    tables = disk.path / "tables"
    files: list[Any] = [path for path in tables.rglob("*") if path.is_file()]
    assert files and all(path.suffix == ".parquet" for path in files), "a rest of a failed write"
    for path in files:
        pq.ParquetFile(path).read()
    kept = len(rows(tables / "status"))
    assert 0 < kept < NUM_ROWS

    disk.remount("size=16m")
    result = run.json("extract")
    assert sum(result["computed"].values()) == NUM_ROWS - kept
    assert contents(disk.path) == expected
    assert set(run.json("extract")["computed"].values()) == {0}


def test_a_read_only_disk_is_refused_before_anything_runs(run, disk):
    disk.mount("size=16m,ro")
    said = refused(run)
    assert "could not make" in said and "Read-only file system" in said
    assert list(disk.path.iterdir()) == []
    disk.remount("rw")
    RunFolder(str(run.out), f"{disk.path}/tables").create()
    disk.remount("ro")
    said = refused(run)  # the folders are there, but nothing can be written
    assert f"could not write to {disk.path}/tables" in said and "Read-only file system" in said


def test_arrays_on_a_full_disk_are_one_line_and_leave_nothing(disk, tmp_path):
    disk.mount("size=64k")
    command = [sys.executable, "-c", BUILD, str(tmp_path / "run"), str(disk.path / "cache")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr  # not killed by a signal
    (line,) = done.stderr.splitlines()
    assert f"cannot be written to {disk.path}/cache: No space left on device" in line
    assert list((disk.path / "cache").iterdir()) == []
    disk.remount("size=64m")
    subprocess.run(command, cwd=REPOSITORY, check=True)


def test_a_home_that_can_only_be_read_is_read_and_a_moved_one_is_refused(disk, tmp_path):
    disk.mount("size=64m")
    home, model = disk.path / "home", tmp_path / "model"
    model.mkdir()
    (model / "model.json").write_text("{}", encoding="utf-8")
    # in a process that ends: while the database is open for writing the disk stays so
    command = [sys.executable, "-c", REGISTER, str(home), str(model)]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    disk.remount("ro")
    registry = Registry(home, experiment="kept")
    fetched = registry.fetch("models:/kept/1", tmp_path / "fetched")
    assert (fetched.folder / "model.json").read_text(encoding="utf-8") == "{}"
    with pytest.raises(UserError, match="can only be read"):
        registry.start_run("never")
    with pytest.raises(UserError, match="Read-only file system"), registry.deciding():
        pass

    disk.remount("rw")
    home.rename(disk.path / "moved")
    disk.remount("ro")
    with pytest.raises(UserError, match=f"{disk.path}/moved was moved from {home}.*readonly"):
        Registry(disk.path / "moved", experiment="kept").fetch("models:/kept/1", tmp_path)
    assert not home.exists()
    disk.remount("rw")
    registry = Registry(disk.path / "moved", experiment="kept")
    assert registry.fetch("models:/kept/1", tmp_path / "again").version == "1"
