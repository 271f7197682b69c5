"""Extraction with processes that are killed: a worker by one of its clips, and the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

import erray.extraction
from erray.config import load_recipe
from erray.corpora import read_corpus
from erray.extraction import Extractor
from erray.stages import TracksStage
from tests.faults.tables import contents, rows
from tests.tiny_run import REPOSITORY, TinyRun, write_faceless, write_recipe

pytestmark = pytest.mark.timeout(600)

NUM_CLIPS = 8
FATAL = ("clip_1", "clip_4")
MAX_ATTEMPTS = 3


class FatalStage(TracksStage):
    """Ends its process, as a decoder that crashes does, on the clips ``FATAL``."""

    def _process(self, row: dict[str, Any], shard: Any) -> None:
        with Path(self.root, f"attempts-{row['clip_id']}").open("ab") as file:
            file.write(b".")
        if row["clip_id"] in FATAL:
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)  # another thread may take the signal, and a while to die of it
        super()._process(row, shard)


class OnceFatalStage(TracksStage):
    """Is killed from outside at its first attempt at the clip ``FATAL[0]``."""

    def _process(self, row: dict[str, Any], shard: Any) -> None:
        marker = Path(self.root, "killed")
        if row["clip_id"] == FATAL[0] and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super()._process(row, shard)


@pytest.fixture
def run(tmp_path: Path, ray_dir: Path) -> TinyRun:
    """Clips with sound and words, of which every second lies in a shard of its own length."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    lines = ["clip_id,media,split,transcript"]
    for i in range(NUM_CLIPS):
        write_faceless(corpus / f"clip_{i}.mp4", num_frames=20 + i)
        lines.append(f"clip_{i},clip_{i}.mp4,train,clip number {i}")
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    pools = {stage: {"num_workers": 1} for stage in ("tracks", "logmel", "hash")}
    recipe = write_recipe(
        tmp_path / "faults.yaml",
        corpus,
        streams={"logmel": {}, "hash": {}},
        extract={"shard_clips": 2, "pools": pools},
    )
    return TinyRun(corpus, recipe, tmp_path / "run", tmp_path / "home", ray_dir)


def test_clips_that_kill_their_worker_are_rejected_and_all_others_done(run, monkeypatch):
    monkeypatch.setattr(erray.extraction, "TracksStage", FatalStage)
    recipe = load_recipe(str(run.recipe))
    clips = read_corpus(recipe.corpus, needs_media=True).clips
    extracted = Extractor(recipe, clips, str(run.out)).extract()
    rejects = rows(run.out / "tables" / "rejects")
    assert {(row["clip_id"], row["stage"]) for row in rejects} == {(c, "tracks") for c in FATAL}
    assert extracted.reasons == {"worker_died": len(FATAL)}
    assert extracted.wanted == extracted.done + extracted.rejected == NUM_CLIPS
    others = [f"clip_{i}" for i in range(NUM_CLIPS) if f"clip_{i}" not in FATAL]
    status = rows(run.out / "tables" / "status")
    for stage in ("tracks", "logmel", "hash"):
        done = [r["clip_id"] for r in status if (r["stage"], r["state"]) == (stage, "done")]
        assert sorted(done) == others
    attempts = {clip: (run.corpus / f"attempts-{clip}").stat().st_size for clip in FATAL}
    assert max(attempts.values()) <= MAX_ATTEMPTS, attempts


def test_a_killed_actor_changes_nothing(run, tmp_path, monkeypatch):
    recipe = load_recipe(str(run.recipe))
    clips = read_corpus(recipe.corpus, needs_media=True).clips
    Extractor(recipe, clips, str(tmp_path / "whole")).extract()
    monkeypatch.setattr(erray.extraction, "TracksStage", OnceFatalStage)
    extracted = Extractor(recipe, clips, str(run.out)).extract()
    assert (run.corpus / "killed").exists(), "the actor was killed"
    assert (extracted.done, extracted.rejected) == (NUM_CLIPS, 0)
    assert contents(run.out) == contents(tmp_path / "whole")


def test_a_killed_driver_and_a_second_start_give_the_undisturbed_tables(run, tmp_path):
    undisturbed = TinyRun(run.corpus, run.recipe, tmp_path / "whole", run.home, run.ray_dir)
    undisturbed.json("extract")
    expected = contents(undisturbed.out)
    assert len(expected["status"]) == 3 * NUM_CLIPS

    status = run.out / "tables" / "status"
    driver = subprocess.Popen(
        run.command("extract"),
        env=run.environment,
        cwd=REPOSITORY,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        give_up_s = time.monotonic() + 120
        while not list(status.glob("*.parquet")):
            assert driver.poll() is None and time.monotonic() < give_up_s
            time.sleep(0.005)
    finally:
        driver.kill()
        driver.wait()
    num_kept = len(rows(status))
    assert 0 < num_kept < 3 * NUM_CLIPS, "killed too late to prove anything"

    result = run.json("extract")
    assert sum(result["computed"].values()) <= 3 * NUM_CLIPS - num_kept
    assert contents(run.out) == expected
    assert [path for path in (run.out / "tables").rglob("*") if path.suffix == ".tmp"] == []
