"""Actors of a stage that can use a GPU ask the cluster for one; here the GPUs are made up."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

from erray.config import Pool
from erray.ray_session import ray_session
from erray.streaming import plan_pool, stream

pytestmark = pytest.mark.integration

NUM_BATCHES = 4


class Witness:
    """Writes down what its actor was given; answers only when all actors of the pool are there."""

    def __init__(self, *, folder: str, num_workers: int) -> None:
        self.folder, self.num_workers = Path(folder), num_workers
        given = {
            "resources": ray.get_runtime_context().get_assigned_resources(),
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        }
        unfinished = self.folder / f".{os.getpid()}"
        unfinished.write_text(json.dumps(given), encoding="utf-8")
        unfinished.rename(self.folder / f"{os.getpid()}.json")

    def __call__(self, batch: pa.Table) -> pa.Table:
        give_up_s = time.monotonic() + 120
        while len(list(self.folder.glob("*.json"))) < self.num_workers:
            assert time.monotonic() < give_up_s, "an actor of the pool never started"
            time.sleep(0.05)
        return batch


@pytest.fixture(scope="module")
def cluster(ray_dir: Path) -> Iterator[dict[str, float]]:
    assert not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_dir))
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session(num_cpus=2, num_gpus=2) as resources:
            yield resources


def given_to_actors(
    cluster: dict[str, float], folder: Path, *, uses_gpu: bool
) -> list[dict[str, Any]]:
    """Send batches through a planned pool; return what each of its actors was given."""
    size = plan_pool(Pool(), uses_gpu=uses_gpu, num_batches=NUM_BATCHES, cluster=cluster)
    batches = [pa.table({"number": [i]}) for i in range(NUM_BATCHES)]
    settings = {"folder": str(folder), "num_workers": size.num_workers}
    results = list(stream(batches, Witness, settings, size=size, repeats=0))
    numbers = [number for table in results for number in table["number"].to_pylist()]
    assert sorted(numbers) == list(range(NUM_BATCHES))
    return [json.loads(path.read_text("utf-8")) for path in folder.glob("*.json")]


def test_each_actor_has_a_gpu_of_its_own(cluster, tmp_path):
    given = given_to_actors(cluster, tmp_path, uses_gpu=True)
    assert sorted(actor["gpus"] for actor in given) == [["0"], ["1"]]
    for actor in given:
        assert actor["resources"]["GPU"] == 1
        assert actor["resources"]["CPU"] == 1
        assert actor["visible"] == actor["gpus"][0]


def test_a_stage_without_use_for_a_gpu_asks_for_none(cluster, tmp_path):
    given = given_to_actors(cluster, tmp_path, uses_gpu=False)
    assert [actor["gpus"] for actor in given] == [[], []]
    assert all(actor["resources"].get("GPU", 0) == 0 for actor in given)
