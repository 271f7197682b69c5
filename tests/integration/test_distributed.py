"""The main run under Ray Train: two workers, one of which dies once, and the run taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from erray.config import Model, parse_recipe
from erray.ray_session import ray_session
from erray.training.batches import training_spans
from erray.training.distributed import train_distributed
from erray.training.events import EpochEnd
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, train_in_process
from tests.deadly_arrays import DeadlyArrays, equal_states
from tests.unit.training.conftest import NUM_CLASSES, WIDTHS, write_arrays

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

EPOCHS, BATCH_SIZE = 3, 6


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


def test_two_workers_one_of_them_killed_end_where_the_plain_loop_ends(cluster, job, tmp_path):
    plain = train_in_process(job, TrainingRun(tmp_path / "plain"))
    assert plain["epoch"] == EPOCHS

    notes = tmp_path / "notes"
    notes.mkdir()
    settings = job.settings
    num_windows = len(training_spans(job.train, window=settings.window, hop=settings.hop))
    # a worker reads half of the windows in every epoch: this is in the middle of the second
    run = TrainingRun(tmp_path / "fusion")
    deadly = DeadlyArrays(job.train.folder, notes, run.folder, fatal=num_windows * 3 // 4)
    killed = replace(job, train=deadly)
    assert killed.fingerprint == job.fingerprint
    told: list[EpochEnd] = []
    state = train_distributed(killed, run, on_epoch=told.append)
    assert (notes / "died").exists()
    assert [event.epoch for event in told] == [0, 1, 2], "each once, though a worker died"
    assert [event.row for event in told] == state["history"]
    readers = deadly.readers()
    assert len(readers) == 4, "two workers, and two after the death of one"
    # whoever went on after the first epoch read two epochs, not three
    assert max(readers.values()) == pytest.approx(num_windows, abs=0.1 * num_windows)
    equal_states(state, plain, tolerance=1e-5)

    again = train_distributed(killed, run, on_epoch=told.append)
    assert len(told) == EPOCHS
    assert deadly.readers() == readers, "a finished run was trained again"
    equal_states(again, state, tolerance=0)
    assert again["history"] == state["history"]
