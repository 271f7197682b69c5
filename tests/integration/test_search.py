"""Trials share a GPU, which is made up here; searches that are hurt: ``tests/faults``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from erray.ray_session import ray_session
from erray.tuning.driver import Slots, run_trials
from erray.tuning.trial import Epoch
from tests.unit.tuning.conftest import open_ledger

__all__ = ["open_ledger"]

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def cluster(ray_dir: Path) -> Iterator[None]:
    assert not ray.is_initialized()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(ray_dir))
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_session(num_cpus=2, num_gpus=1):
            yield


@dataclass(frozen=True)
class Meeting:
    """A trial that waits until ``num_together`` of them are there, and notes what it was given."""

    folder: Path
    num_together: int

    def __call__(self, settings: Mapping[str, Any]) -> Iterator[Epoch]:
        began_s = time.monotonic()  # one clock for all processes of a machine
        name = str(settings["train.x"])
        (self.folder / f"{name}.here").touch()
        while len(list(self.folder.glob("*.here"))) < self.num_together:
            assert time.monotonic() < began_s + 60, "the others never came"
            time.sleep(0.02)
        time.sleep(0.1)
        given = {
            "began_s": began_s,
            "ended_s": time.monotonic(),
            "gpus": [str(gpu) for gpu in ray.get_gpu_ids()],
            "share": ray.get_runtime_context().get_assigned_resources()["GPU"],
        }
        (self.folder / f"{name}.json").write_text(json.dumps(given), encoding="utf-8")
        yield Epoch(0.5, 0.1)


@pytest.mark.parametrize(("gpus", "num_together"), [(0.5, 2), (1.0, 1)])
def test_two_halves_of_a_gpu_are_used_at_once_and_two_wholes_in_turn(
    gpus, num_together, cluster, open_ledger, tmp_path
):
    with open_ledger(2, epochs=1, halving=None) as ledger:
        slots = Slots(max_concurrent=2, cpus=1, gpus=gpus)
        run_trials(ledger, Meeting(tmp_path, num_together), slots=slots, folder=tmp_path / "ray")
        assert [trial.state.name for trial in ledger.trials] == ["COMPLETE", "COMPLETE"]
    found = [json.loads(path.read_text("utf-8")) for path in tmp_path.glob("*.json")]
    first, second = sorted(found, key=lambda given: given["began_s"])
    assert (second["began_s"] < first["ended_s"]) == (num_together == 2)
    for given in (first, second):
        assert given["gpus"] == ["0"] and given["share"] == gpus
