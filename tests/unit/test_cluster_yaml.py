"""The cluster file: valid for ``ray up``, and shut to the outside."""

import copy
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import fillout_defaults, validate_config

CLUSTER_FILE = Path(__file__).parents[2] / "cluster.yaml"


@pytest.fixture
def config():
    return yaml.safe_load(CLUSTER_FILE.read_text("utf-8"))


def check(config):
    """Check as ``ray up`` does before it reaches for a cloud."""
    validate_config(fillout_defaults(copy.deepcopy(config)))


def starts(config):
    """The start command of the head and of the workers."""
    kinds = ("head_start_ray_commands", "worker_start_ray_commands")
    return [next(c for c in config[kind] if "ray start" in c) for kind in kinds]


def test_ray_takes_the_file(config):
    check(config)


@pytest.mark.parametrize(
    ("where", "key", "value", "message"),
    [
        ((), "max_wokers", 4, "'max_wokers' was unexpected"),
        ((), "max_workers", "four", "'four' is not of type 'integer'"),
        (("auth",), "ssh_usr", "ubuntu", "'ssh_usr' was unexpected"),
        (("available_node_types", "gpu"), "min_worker", 1, "'min_worker' was unexpected"),
        (("available_node_types", "gpu", "resources"), "GPU", "one", "'one' is not of type"),
    ],
)
def test_the_check_refuses_unknown_keys_and_wrong_types(config, where, key, value, message):
    section = config
    for part in where:
        section = section[part]
    section[key] = value
    with pytest.raises(jsonschema.ValidationError, match=message):
        check(config)


def test_gpu_workers_start_on_demand_below_a_head_without_tasks(config):
    types = config["available_node_types"]
    head = types.pop(config["head_node_type"])
    assert head["resources"] == {"CPU": 0}
    assert [t["resources"]["GPU"] for t in types.values()] == [1]
    assert all(1 <= t["min_workers"] < t["max_workers"] for t in types.values())
    assert sum(t["max_workers"] for t in types.values()) == config["max_workers"]


def test_every_node_asks_for_the_token(config):
    for command in starts(config):
        assert "RAY_AUTH_MODE=token " in command.split("ray start")[0]
    assert config["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    assert "RAY_AUTH_TOKEN=" not in CLUSTER_FILE.read_text("utf-8"), "a token in the file leaks"


def test_the_dashboard_listens_on_the_loopback_address_only(config):
    head, worker = starts(config)
    assert "--dashboard-host=127.0.0.1 " in head
    assert "dashboard-host" not in worker
    assert "0.0.0.0" not in CLUSTER_FILE.read_text("utf-8")


def test_every_node_sees_one_absolute_home(config):
    for command in starts(config):
        assert "ERRAY_HOME=/mnt/erray/runs " in command
    assert any("/mnt/erray" in command for command in config["setup_commands"])
