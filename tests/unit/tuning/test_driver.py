"""What a trial asks for is compared with the nodes before any is started."""

from __future__ import annotations

import pytest
import ray

from erray.errors import UserError
from erray.tuning.driver import Slots, require_room

NODES = [
    {"Alive": True, "Resources": {"CPU": 4.0}},
    {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
    {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
]


@pytest.fixture(autouse=True)
def nodes(monkeypatch):
    monkeypatch.setattr(ray, "nodes", lambda: NODES)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.mark.parametrize(("cpus", "gpus"), [(4, 0), (2, 1), (0.5, 0.25)])
def test_a_trial_that_fits_a_node_may_start(cpus, gpus):
    require_room(Slots(8, cpus, gpus))


@pytest.mark.parametrize(("cpus", "gpus"), [(5, 0), (3, 1), (1, 2)])
def test_a_trial_that_fits_none_is_refused(cpus, gpus):
    with pytest.raises(UserError, match=r"the largest has 2 and 1: lower tune\.cpus_per_trial"):
        require_room(Slots(1, cpus, gpus))


def test_on_a_cluster_a_node_may_yet_join(monkeypatch, caplog):
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    require_room(Slots(1, 1, 2))
    assert "waits until one joins" in caplog.text
