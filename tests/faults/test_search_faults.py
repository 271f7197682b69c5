"""Searches whose driver is killed keep what was finished, and end with the exact number of trials.

Half a line of a journal, and drivers that end between any two steps: ``tests/unit/tuning``.
"""

from __future__ import annotations

import os
import pickle
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import optuna
import pytest
import ray
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from erray.config import Recipe
from erray.errors import UserError
from erray.ray_session import ray_session
from erray.training.job import TrainJob
from erray.tuning import Study
from erray.tuning.ledger import INTERRUPTED, REASON
from erray.tuning.search import search
from erray.tuning.storage import JOURNAL
from tests.faults.small_search import (
    NUM_TRIALS,
    SlowArrays,
    make_job,
    make_recipe,
    windows_of_a_trial,
)
from tests.tiny_run import REPOSITORY
from tests.tracking_server import postgres

pytestmark = pytest.mark.timeout(300)

# Made anew by every run: no file that was there before, this one included, holds it.
PASSWORD = f"{secrets.token_hex(12)}password"
# A driver with a Ray of its own; its processes end with it. What it searches comes through a pipe:
# the password must be in no file.
DRIVER = """
import pickle, sys
from erray.ray_session import ray_session
from erray.tuning.search import search
arguments = pickle.load(sys.stdin.buffer)
with ray_session(num_cpus=2):
    search(*arguments)
"""
RATES = """
def space(trial):
    trial.suggest_float("train.optimiser.lr", 1e-4, 1e-1, log=True)
"""


@dataclass(frozen=True)
class Killed:
    """A search whose driver was killed in the middle.

    Attributes:
        jobs: as the driver had them, without its pauses.
        refused: what a second search was told while the driver ran.
        left: the trials in the storage after the driver's death.
        folders: all that the searches write to.
        said: all that the driver printed.
    """

    recipe: Recipe
    jobs: list[TrainJob]
    out: Path
    refused: str
    left: list[FrozenTrial]
    folders: Sequence[Path]
    said: str

    @property
    def num_read(self) -> int:
        """Windows that all trials have read since."""
        train = self.jobs[0].train
        assert isinstance(train, SlowArrays)
        return train.num_read

    def stored(self) -> list[FrozenTrial]:
        """Every trial as another program sees it."""
        return stored(self.recipe, self.out)


def stored(recipe: Recipe, out: Path) -> list[FrozenTrial]:
    url = recipe.tune.storage
    storage = RDBStorage(url) if url else JournalStorage(JournalFileBackend(str(out / JOURNAL)))
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage).trials


@pytest.fixture(scope="module")
def killed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, ray_dir: Path
) -> Iterator[Killed]:
    """One of six trials is finished or two are, the next ones run."""
    folder = tmp_path_factory.mktemp(request.param)
    with ExitStack() as servers:
        url = None
        if request.param == "postgresql":
            place = servers.enter_context(tempfile.TemporaryDirectory(prefix="pg-"))
            Path(place).chmod(0o755)
            database = servers.enter_context(postgres(Path(place) / "server"))
            url = database.replace("erray@", f"erray:{PASSWORD}@")
            assert url != database
        yield kill_in_the_middle(make_recipe(folder, RATES, storage=url), folder, ray_dir)


def kill_in_the_middle(recipe: Recipe, folder: Path, ray_dir: Path) -> Killed:
    job, out = make_job(folder, recipe), folder / "tune"
    num_windows = windows_of_a_trial(job)
    # what the dead driver's processes still read must not be taken for the next search's
    notes = {"before": folder / "before", "after": folder / "after"}
    for place in notes.values():
        place.mkdir()
    slow = SlowArrays(job.train.folder, notes["before"], pause_s=0.005)
    fast = SlowArrays(job.train.folder, notes["after"], pause_s=0)
    with (folder / "driver.log").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-c", DRIVER],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
            env={**os.environ, "RAY_TMPDIR": str(ray_dir)},
        )
    try:
        assert driver.stdin is not None
        with driver.stdin as pipe:
            pickle.dump((recipe, [replace(job, train=slow)], out), pipe)
        wait_for_reads(slow, 1, driver)
        with pytest.raises(UserError) as refused:
            search(recipe, [job], out)
        # the two that run cannot have read that many: one is finished
        wait_for_reads(slow, 3 * num_windows, driver)
    finally:
        driver.kill()
        driver.wait()
    return Killed(
        recipe=recipe,
        jobs=[replace(job, train=fast)],
        out=out,
        refused=str(refused.value),
        left=stored(recipe, out),
        folders=[folder, ray_dir],
        said=(folder / "driver.log").read_text(encoding="utf-8"),
    )


def wait_for_reads(arrays: SlowArrays, num: int, driver: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + 150
    while arrays.num_read < num:
        assert driver.poll() is None and time.monotonic() < give_up_s
        time.sleep(0.02)


both_storages = pytest.mark.parametrize("killed", ["journal", "postgresql"], indirect=True)


@both_storages
def test_a_second_search_at_the_same_time_is_refused_in_one_line(killed: Killed) -> None:
    assert killed.refused.startswith("another search ")
    assert " now: wait for it to end" in killed.refused
    assert "\n" not in killed.refused and PASSWORD not in killed.refused
    assert killed.said == "", "the one that ran was disturbed"


@both_storages
def test_a_search_whose_driver_was_killed_ends_with_the_exact_number(killed: Killed) -> None:
    finished = [t for t in killed.left if t.state == TrialState.COMPLETE]
    running = [t for t in killed.left if t.state == TrialState.RUNNING]
    assert finished and running and len(finished) + len(running) == len(killed.left)

    with ray_session(num_cpus=2):
        study = search(killed.recipe, killed.jobs, killed.out)
    check_study(study, num_interrupted=len(running))
    found = killed.stored()
    check_stored(found, finished, running)
    num_read = (NUM_TRIALS - len(finished)) * windows_of_a_trial(killed.jobs[0])
    assert killed.num_read == num_read, "what was finished was trained again"

    assert not ray.is_initialized()
    assert search(killed.recipe, killed.jobs, killed.out) == study
    assert not ray.is_initialized(), "a finished search needs no cluster"
    assert killed.num_read == num_read
    assert killed.stored() == found


def check_study(study: Study, *, num_interrupted: int) -> None:
    assert study.counts == {
        "complete": NUM_TRIALS,
        "pruned": 0,
        "failed": 0,
        "interrupted": num_interrupted,
    }
    values = {t["number"]: t["value"] for t in study.trials if t["state"] == "complete"}
    assert values[study.best] == max(values.values())


def check_stored(
    found: Sequence[FrozenTrial], finished: Sequence[FrozenTrial], running: Sequence[FrozenTrial]
) -> None:
    """What was finished is as it was; what ran has failed, and its settings came next."""
    assert [found[trial.number] for trial in finished] == list(finished)
    for trial in running:
        ended = found[trial.number]
        assert (ended.state, ended.params) == (TrialState.FAIL, trial.params)
        assert ended.user_attrs[INTERRUPTED] is True
        assert ended.user_attrs[REASON] == "the search's driver ended before the trial"
    resumed = found[len(finished) + len(running) :]
    assert [t.params for t in resumed[: len(running)]] == [t.params for t in running]
    assert {trial.state for trial in resumed} == {TrialState.COMPLETE}


@pytest.mark.parametrize("killed", ["postgresql"], indirect=True)
def test_the_password_of_the_database_is_in_no_file(killed: Killed) -> None:
    files = [path for folder in killed.folders for path in folder.rglob("*") if path.is_file()]
    assert any(path.is_relative_to(killed.out / "ray") for path in files), "Ray Tune writes"
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    assert not (killed.out / JOURNAL).exists()
