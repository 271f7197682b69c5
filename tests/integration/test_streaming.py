"""A pool of actors that die, fail to start or raise, with a real local Ray."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import ray

from erray.errors import UserError
from erray.ray_session import ray_session
from erray.streaming import PoolSize, WorkerLostError, stream

pytestmark = pytest.mark.integration

NUM_BATCHES = 6
FATAL = (1, 4)


class Mortal:
    """Ends its process on the batches ``FATAL``; counts the attempts at each batch."""

    def __init__(self, *, folder: str) -> None:
        self.folder = folder

    def __call__(self, batch: pa.Table) -> pa.Table:
        number = batch["number"][0].as_py()
        with Path(self.folder, str(number)).open("ab") as file:
            file.write(b".")
        if number in FATAL:
            os.kill(os.getpid(), signal.SIGSEGV)
            time.sleep(60)  # another thread may take the signal, and a while to die of it
        return batch


class Failing:
    """Raises what it is told to, when it is made or when it is called."""

    def __init__(self, *, error: Exception, at_start: bool) -> None:
        self.error = error
        if at_start:
            raise error

    def __call__(self, batch: pa.Table) -> pa.Table:
        raise self.error


@pytest.fixture(scope="module", autouse=True)
def cluster(ray_dir: Path) -> Iterator[None]:
    assert not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_dir))
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session(num_cpus=2):
            yield


def run(worker: type, settings: dict) -> list[int]:
    batches = [pa.table({"number": [i]}) for i in range(NUM_BATCHES)]
    found: list[int] = []
    try:
        for table in stream(batches, worker, settings, size=PoolSize(1, 1, 0), repeats=1):
            found += table["number"].to_pylist()
    except WorkerLostError as error:
        assert str(error).startswith(f"{NUM_BATCHES - len(found)} of {NUM_BATCHES} batches")
        assert len(found) < NUM_BATCHES
    else:
        assert len(found) == NUM_BATCHES
    return sorted(found)


def test_batches_that_end_the_only_actor_are_the_only_ones_lost(tmp_path):
    found = run(Mortal, {"folder": str(tmp_path)})
    assert found == [i for i in range(NUM_BATCHES) if i not in FATAL]
    attempts = {int(path.name): path.stat().st_size for path in tmp_path.iterdir()}
    assert attempts == {i: 2 if i in FATAL else 1 for i in range(NUM_BATCHES)}


@pytest.mark.parametrize("at_start", [True, False])
def test_what_a_worker_raises_is_raised_here(at_start):
    settings = {"error": KeyError("a defect"), "at_start": at_start}
    with pytest.raises(KeyError, match="a defect") as caught:
        run(Failing, settings)
    assert any("test_streaming.py" in note for note in caught.value.__notes__), "where it happened"
    settings["error"] = UserError("expected this, found that: do so")
    with pytest.raises(UserError, match=r"^expected this, found that: do so$") as caught:
        run(Failing, settings)
    assert not hasattr(caught.value, "__notes__"), "one line for the user"
