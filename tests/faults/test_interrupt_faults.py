"""Ctrl-C at several moments of several steps: one line, exit code 130, nothing registered after.

The real command in a process group of its own, as a shell starts it; the signal goes to the group,
as a terminal sends it.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.tables import rows
from tests.tiny_run import REPOSITORY, TinyRun, write_faceless, write_recipe

pytestmark = pytest.mark.timeout(1800)

SPLITS = ("train",) * 8 + ("val",) * 4 + ("test",) * 4
LABELS = ("Sadly Angry", "Sadly Fearful")
STREAMS = ("logmel", "hash")
EPOCHS, NUM_TRIALS = 30, 3
MARK = "ERRAY_TEST_MARK"
# whoever started the tests may ignore Ctrl-C, as a shell does for what runs in the background
START = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
START += "os.execv(sys.argv[1], sys.argv[1:])"


@dataclass(frozen=True)
class Ended:
    """How a command ended that was signalled."""

    code: int
    out: str
    error: str
    seconds: float

    def kept(self) -> str:
        """What its last line says is kept; it says nothing else but warnings."""
        lines = [line for line in self.error.splitlines() if not line.startswith("warning: ")]
        found = re.fullmatch(r"interrupted: kept (.+), the same command goes on", lines[-1])
        assert found and self.error.count("interrupted") == 1, self.error
        assert "Traceback" not in self.error and "Aborted" not in self.error
        return found[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, ray_dir: Path) -> TinyRun:
    """Labelled clips without a face, two streams that need none."""
    folder = tmp_path_factory.mktemp("interrupt")
    corpus = folder / "corpus"
    corpus.mkdir()
    lines = ["clip_id,media,split,group,label,transcript"]
    for i, split in enumerate(SPLITS):
        write_faceless(corpus / f"clip_{i}.mp4", num_frames=20 + i)
        lines.append(f"clip_{i},clip_{i}.mp4,{split},group_{i},{LABELS[i % 2]},clip number {i}")
    (corpus / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = write_recipe(
        folder / "stopped.yaml",
        corpus,
        streams={name: {} for name in STREAMS},
        model={"name": "lfan", "options": {"channels": {name: [8] for name in STREAMS}}},
        extract={"shard_clips": 1},
        train={"epochs": EPOCHS, "min_epochs": EPOCHS, "window": 50, "hop": 50},
        tune={"num_trials": NUM_TRIALS, "epochs": 4, "grace_epochs": 4, "seeds": [0]},
        predict={"split": "test"},
    )
    return TinyRun(corpus, recipe, folder / "run", folder / "home", ray_dir)


def stop(run: TinyRun, step: str, when: Callable[[], bool], *numbers: signal.Signals) -> Ended:
    """Start ``step``, signal its group when ``when`` is true, see that nothing of it is left."""
    mark = secrets.token_hex(8)
    process = subprocess.Popen(
        [sys.executable, "-c", START, *run.command(step)],
        env={**run.environment, MARK: mark, "COLUMNS": "200"},
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        give_up_s = time.monotonic() + 300
        while not when():
            assert process.poll() is None and time.monotonic() < give_up_s, process.communicate()
            time.sleep(0.005)
        signalled_s = time.monotonic()
        for number in numbers or (signal.SIGINT,):
            os.killpg(process.pid, number)
            time.sleep(1.2 if len(numbers) > 1 else 0)
        out, error = process.communicate(timeout=120)
        ended = Ended(process.returncode, out, error, time.monotonic() - signalled_s)
    finally:
        process.kill()
    give_up_s = time.monotonic() + 15
    while left := offspring(process.pid, mark):
        assert time.monotonic() < give_up_s, f"left running: {left}"
        time.sleep(0.1)
    return ended


def offspring(session: int, mark: str) -> list[str]:
    """Command lines of the processes of a session, or with its mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes()
            of_session = int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, ValueError):
            continue  # it has ended meanwhile, or is not ours
        if command and (of_session or f"{MARK}={mark}".encode() in environment):
            found.append(command)
    return found


def num_registered(run: TinyRun) -> int:
    """Versions, and moves of aliases, in the tracking store."""
    store = run.home / "mlflow.db"
    if not store.is_file():
        return 0
    tables = ("model_versions", "registered_model_aliases")
    with closing(sqlite3.connect(store)) as connection:
        counts = [connection.execute(f"SELECT COUNT(*) FROM {t}").fetchone()[0] for t in tables]
    return int(sum(counts))


def there(folder: Path, pattern: str, least: int = 1) -> Callable[[], bool]:
    """Whether ``least`` paths match."""
    return lambda: len(list(folder.glob(pattern))) >= least


def test_an_extraction(run):
    status = run.out / "tables" / "status"
    for least in (1, 20):
        ended = stop(run, "extract", there(status, "*.parquet", least))
        assert ended.code == 130 and ended.out == ""
        stage = re.fullmatch(rf"(\d+) of {len(SPLITS)} clips \((\w+)\)", ended.kept())
        assert stage, ended.kept()
        on_disk = {row["key"] for row in rows(status) if row["stage"] == stage[2]}
        assert len(on_disk) == int(stage[1])
    before = len(rows(status))
    result = run.json("extract")
    assert sum(result["computed"].values()) == 3 * len(SPLITS) - before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training(run, number):
    run.json("extract")
    fusion = run.out / "training" / "fusion"
    ended = stop(run, "train", there(fusion, "ray/*/checkpoint_*", 2), number)
    assert ended.code == 128 + number and ended.out == ""
    kept = re.fullmatch(rf"0 of 3 trainings, (\d+) of {EPOCHS} epochs of fusion", ended.kept())
    assert kept and int(kept[1]) >= 1, ended.kept()
    assert num_registered(run) == 0


def test_a_training_near_its_end_registers_nothing(run):
    run.json("extract")
    folder = run.out / "training"
    ended = stop(run, "train", there(folder, "fusion/history.json"))
    assert ended.code == 130 and ended.kept().startswith(("0 of 3 trainings", "1 of 3 trainings"))
    ended = stop(run, "train", there(run.out, ".version-*"))
    assert ended.code == 130 and "Registered" not in ended.out
    assert num_registered(run) == 0
    result = run.json("train")
    assert result["model"]["version"] == "1" and num_registered(run) == 2
    assert {r["epochs"] for r in result["runs"].values()} == {EPOCHS}


def test_a_search_and_a_second_ctrl_c(run):
    run.json("extract")
    run.json("train")
    journal = run.out / "tune" / "study.journal"

    def one_ended() -> bool:
        return journal.is_file() and '"values":' in journal.read_text("utf-8").replace(" ", "")

    before = num_registered(run)
    ended = stop(run, "tune", one_ended, signal.SIGINT, signal.SIGINT)
    assert ended.code == 130 and ended.seconds < 30
    kept = re.match(rf"(\d) of {NUM_TRIALS} trials", ended.kept())
    assert kept and 1 <= int(kept[1]) <= NUM_TRIALS
    assert num_registered(run) == before
    result = run.json("tune")
    assert sum(result["trials"][state] for state in ("complete", "pruned")) == NUM_TRIALS


def test_a_prediction(run):
    run.json("extract")
    run.json("train")
    ended = stop(run, "predict", there(run.out, "predictions/.partial"))
    assert ended.code == 130 and ended.kept() == "0 of 4 predictions"
    assert run.json("predict")["clips"] == 4
