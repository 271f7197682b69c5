"""Trainings whose driver, whose worker or whose checkpoint is lost end where undisturbed ones end.

A worker that is killed and replaced within one run: ``tests/integration/test_distributed.py``.
"""

from __future__ import annotations

import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from erray.checkpoint import load_state
from erray.config import Model, parse_recipe
from erray.errors import UserError
from erray.ray_session import ray_session
from erray.training.distributed import train_distributed
from erray.training.fanout import train_each
from erray.training.job import TrainJob
from erray.training.runs import TrainingRun, train_in_process
from tests.deadly_arrays import DeadlyArrays, equal_states
from tests.tiny_run import REPOSITORY
from tests.unit.training.conftest import NUM_CLASSES, WIDTHS, write_arrays

pytestmark = pytest.mark.timeout(600)

EPOCHS = 5
LIST = "checkpoint_manager_snapshot.json"
# A driver with a Ray of its own; its processes end with it.
DRIVER = """
import pickle, sys
from erray.ray_session import ray_session
from erray.training.distributed import train_distributed
with open(sys.argv[1], "rb") as file:
    job, run = pickle.load(file)
with ray_session(num_cpus=2):
    train_distributed(job, run)
"""
# From its second epoch on, the process is killed by the kernel at the first byte too many.
WRITER = """
import pickle, resource, signal, sys
from erray.training.runs import train_in_process
with open(sys.argv[1], "rb") as file:
    job, run, num_bytes = pickle.load(file)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
def on_epoch(event):
    if event.epoch == 1:
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
train_in_process(job, run, on_epoch=on_epoch)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainJob:
    """Windows that two workers cannot share evenly, a last batch of one among them; 3 val clips.

    No dropout: every worker would draw its own.
    """
    folder = tmp_path_factory.mktemp("arrays")
    settings = {"epochs": EPOCHS, "window": 40, "hop": 40, "batch_size": 5, "num_workers": 2}
    job = TrainJob(
        train=write_arrays(folder / "train", num_clips=21, seed=1),
        val=write_arrays(folder / "val", num_clips=3, seed=2),
        streams=WIDTHS,
        num_classes=NUM_CLASSES,
        model=Model(options={"dropout": 0.0, "channels": {"hog": [8, 8], "logmel": [8, 8]}}),
        settings=parse_recipe({"train": settings}).train,
        seed=0,
    )
    assert len(job.train.clips) % 5 == 1
    return job


@pytest.fixture(scope="module")
def undisturbed(job: TrainJob, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """The plain loop, without Ray."""
    return train_in_process(job, TrainingRun(tmp_path_factory.mktemp("undisturbed")))


@pytest.fixture
def run(tmp_path: Path) -> TrainingRun:
    return TrainingRun(tmp_path / "fusion")


def with_workers(job: TrainJob, num_workers: int) -> TrainJob:
    settings = job.settings.model_copy(update={"num_workers": num_workers})
    return replace(job, settings=settings)


def states(job: TrainJob, run: TrainingRun) -> list[Path]:
    """Ray Train's checkpoints of the run, the newest last."""
    found = (run.folder / "ray" / job.fingerprint).glob("checkpoint_*/state.pt")
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def seconds(state: Mapping[str, Any]) -> list[float]:
    """How long every epoch took: tells an epoch that was kept from one that ran again."""
    return [row["seconds"] for row in state["history"]]


@pytest.mark.parametrize("num_workers", [2, 1])
def test_a_run_of_two_workers_whose_driver_was_killed_goes_on_with(
    num_workers, job, undisturbed, run, tmp_path
):
    arguments = tmp_path / "arguments.pickle"
    arguments.write_bytes(pickle.dumps((job, run)))
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(arguments)], cwd=REPOSITORY)
    try:
        listed = run.folder / "ray" / job.fingerprint / LIST
        give_up_s = time.monotonic() + 200
        while not (listed.is_file() and listed.read_text().count("checkpoint_2") >= 2):
            assert driver.poll() is None and time.monotonic() < give_up_s
            time.sleep(0.02)
    finally:
        driver.kill()
        driver.wait()
    kept = load_state(states(job, run)[0])
    assert 0 < kept["epoch"] < EPOCHS, "killed too late to prove anything"

    with ray_session(num_cpus=2):
        state = train_distributed(with_workers(job, num_workers), run)
    equal_states(state, undisturbed, tolerance=1e-5)
    assert seconds(state)[: kept["epoch"]] == seconds(kept), "epochs were trained again"


def test_a_worker_lost_once_too_often_fails_the_run_and_the_next_one_goes_on(
    job, undisturbed, run, tmp_path
):
    notes = tmp_path / "notes"
    notes.mkdir()
    # a worker reads 10 or 11 windows in an epoch: this is in its second
    deadly = DeadlyArrays(job.train.folder, notes, run.folder, fatal=16)
    settings = job.settings.model_copy(update={"max_failures": 0})
    fragile = replace(job, train=deadly, settings=settings)
    with ray_session(num_cpus=2):
        with pytest.raises(Exception, match="worker"):
            train_distributed(fragile, run)
        assert (notes / "died").exists()
        state = train_distributed(fragile, run)
    equal_states(state, undisturbed, tolerance=1e-5)


def test_a_checkpoint_that_was_cut_off_falls_back_to_the_one_before(job, undisturbed, run):
    alone = with_workers(job, 1)
    with ray_session(num_cpus=2):
        whole = train_distributed(alone, run)
        *_, before, newest = states(job, run)
        assert load_state(before)["epoch"] == EPOCHS - 1
        content = newest.read_bytes()
        newest.write_bytes(content[: len(content) // 2])
        mended = train_distributed(alone, run)
        equal_states(mended, undisturbed, tolerance=1e-5)
        assert seconds(mended)[:-1] == seconds(whole)[:-1], "more than the last epoch ran again"
        assert seconds(mended)[-1] != seconds(whole)[-1]

        # Ray Train writes its list in place
        listed = run.folder / "ray" / job.fingerprint / LIST
        listed.write_bytes(listed.read_bytes()[:100])
        again = train_distributed(alone, run)
        equal_states(again, mended, tolerance=0)
        assert seconds(again) == seconds(mended), "an epoch ran again"

        for path in states(job, run):
            path.write_bytes(path.read_bytes()[:-1])
        anew = train_distributed(alone, run)
        equal_states(anew, undisturbed, tolerance=1e-5)
        assert not set(seconds(anew)) & set(seconds(mended))
        assert json.loads(listed.read_text())["checkpoint_results"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.9])
def test_killed_while_it_writes_a_state_the_one_before_is_whole(
    share, job, undisturbed, run, tmp_path
):
    train_in_process(job, TrainingRun(tmp_path / "whole"))
    num_bytes = int(share * (tmp_path / "whole" / "state.pt").stat().st_size)
    arguments = tmp_path / "arguments.pickle"
    arguments.write_bytes(pickle.dumps((job, run, num_bytes)))
    command = [sys.executable, "-c", WRITER, str(arguments)]
    writer = subprocess.run(command, cwd=REPOSITORY, check=False)
    assert writer.returncode == -signal.SIGXFSZ
    (part,) = run.folder.glob(".state.pt.*")
    assert part.stat().st_size == num_bytes, "it was killed in the middle of the file"
    kept = load_state(run.state)
    assert kept["epoch"] == 2
    state = train_in_process(job, run)
    equal_states(state, undisturbed, tolerance=1e-6)
    assert seconds(state)[:2] == seconds(kept)


def test_what_a_worker_refuses_is_one_line_for_the_user(job, run, tmp_path):
    train = write_arrays(tmp_path / "bad" / "train", num_clips=21, seed=1)
    for stream in WIDTHS:
        values = np.load(train.folder / f"{stream}.values.npy", mmap_mode="r+")
        values[:] = np.nan
        values.flush()
    settings = job.settings.model_copy(update={"max_failures": 0, "max_bad_windows": 2})
    bad = replace(job, train=train, settings=settings)
    with ray_session(num_cpus=2):
        with pytest.raises(UserError) as of_workers:
            train_distributed(bad, run)
        with pytest.raises(UserError) as of_task:
            train_each([(bad, TrainingRun(tmp_path / "alone"))], on_done=never)
    for caught in (of_workers, of_task):
        message = str(caught.value)
        assert "clip" in message and "\n" not in message and "Traceback" not in message
    assert str(of_task.value).startswith("alone: ")


def never(*done: object) -> None:
    raise AssertionError(done)


def test_a_full_disk_is_one_line_for_the_user_and_the_last_state_is_whole(job, disk):
    """The disk has room for the states of some epochs, if for any."""
    settings = job.settings.model_copy(update={"max_failures": 0})
    unlucky = replace(job, settings=settings)
    disk.mount("size=400k")
    fusion, alone = TrainingRun(disk.path / "fusion"), TrainingRun(disk.path / "alone")
    with ray_session(num_cpus=2):
        with pytest.raises(UserError) as of_workers:
            train_distributed(unlucky, fusion)
        shutil.rmtree(fusion.folder)
        fill = disk.path / "fill"
        fill.write_bytes(bytes(360_000))
        with pytest.raises(UserError) as of_task:
            train_each([(unlucky, alone)], on_done=never)
        for caught in (of_workers, of_task):
            message = str(caught.value)
            assert "No space left on device" in message and "make room" in message
            assert "\n" not in message and "Traceback" not in message
        assert str(of_task.value).startswith("alone: could not write ")
        fill.unlink()
        done = []
        train_each([(unlucky, alone)], on_done=lambda _, run, state: done.append(run.name))
    assert done == ["alone"]
