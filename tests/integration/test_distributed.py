"""The main run under Ray Train: two workers, one of which dies once, and the run taken up again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from erray.config import Model, parse_recipe
from erray.ray_session import ray_session
from erray.training.arrays import FeatureArrays
from erray.training.batches import training_spans
from erray.training.distributed import train_distributed
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, train_in_process
from erray.windows import WindowSample
from tests.unit.training.conftest import NUM_CLASSES, WIDTHS, write_arrays

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

EPOCHS, BATCH_SIZE = 3, 6


@dataclass(frozen=True)
class DeadlyArrays(FeatureArrays):
    """Arrays that note every process that reads them, and kill the first to read ``fatal`` windows.

    Same content, same folder, same job: only the process that reads them may end. It waits for a
    checkpoint to be listed, which takes longer than an epoch as short as here.
    """

    notes: Path
    checkpoints: Path
    fatal: int

    def window(self, *where: Any, **views: Any) -> WindowSample:
        reader = self.notes / f"reader-{os.getpid()}"
        with reader.open("ab") as file:
            file.write(b".")
            num_read = file.tell()
        if num_read == self.fatal:
            try:
                (self.notes / "died").touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                while not any(self.checkpoints.rglob("checkpoint_manager_snapshot.json")):
                    time.sleep(0.05)
                os._exit(1)
        return super().window(*where, **views)

    def readers(self) -> dict[str, int]:
        """Process to number of windows it read."""
        return {path.name: path.stat().st_size for path in self.notes.glob("reader-*")}


@pytest.fixture(scope="module")
def cluster(ray_dir: Path) -> Iterator[None]:
    assert not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_dir))
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session(num_cpus=3):
            yield


@pytest.fixture
def job(tmp_path: Path) -> TrainJob:
    options = {"dropout": 0.0, "channels": {"hog": [8, 8], "logmel": [8, 8]}}
    settings = {"epochs": EPOCHS, "window": 16, "hop": 8, "batch_size": BATCH_SIZE}
    return TrainJob(
        train=write_arrays(tmp_path / "train", num_clips=24, seed=1),
        val=write_arrays(tmp_path / "val", num_clips=9, seed=2),
        streams=WIDTHS,
        num_classes=NUM_CLASSES,
        model=Model(name="lfan", options=options),
        settings=parse_recipe({"train": {**settings, "num_workers": 2}}).train,
        seed=0,
    )


def equal_states(
    found: Mapping[str, Any], expected: Mapping[str, Any], *, tolerance: float
) -> None:
    """Compare two final training states; seconds are not part of the result."""
    assert found["job"] == expected["job"]
    assert found["epoch"] == expected["epoch"] == EPOCHS
    assert found["best_epoch"] == expected["best_epoch"]
    for weights in ("model", "best_weights"):
        assert set(found[weights]) == set(expected[weights])
        for name, x in expected[weights].items():
            torch.testing.assert_close(
                found[weights][name], x, rtol=tolerance, atol=tolerance, msg=lambda m, n=name: n + m
            )
    for found_row, row in zip(found["history"], expected["history"], strict=True):
        kept = {key: value for key, value in row.items() if key != "seconds"}
        assert {k: found_row[k] for k in kept} == pytest.approx(kept, abs=tolerance)


def test_two_workers_one_of_them_killed_end_where_the_plain_loop_ends(cluster, job, tmp_path):
    plain = train_in_process(job, TrainingRun(tmp_path / "plain"))

    notes = tmp_path / "notes"
    notes.mkdir()
    settings = job.settings
    num_windows = len(training_spans(job.train, window=settings.window, hop=settings.hop))
    # a worker reads half of the windows in every epoch: this is in the middle of the second
    run = TrainingRun(tmp_path / "fusion")
    deadly = DeadlyArrays(job.train.folder, notes, run.folder, fatal=num_windows * 3 // 4)
    killed = replace(job, train=deadly)
    assert killed.fingerprint == job.fingerprint
    state = train_distributed(killed, run)
    assert (notes / "died").exists()
    readers = deadly.readers()
    assert len(readers) == 4, "two workers, and two after the death of one"
    # whoever went on after the first epoch read two epochs, not three
    assert max(readers.values()) == pytest.approx(num_windows, abs=0.1 * num_windows)
    equal_states(state, plain, tolerance=1e-5)

    again = train_distributed(killed, run)
    assert deadly.readers() == readers, "a finished run was trained again"
    equal_states(again, state, tolerance=0)
    assert again["history"] == state["history"]
