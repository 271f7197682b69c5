"""The registry on real MLflow stores: sqlite files and a server that goes away."""

import json
import logging
import math
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from erray.errors import UserError
from erray.registry import BETTER, FIRST, Registry, StoreAway, connection, require_valid_names
from erray.registry.connection import is_outage
from erray.registry.runs import MAX_PARAM_CHARS
from tests.tracking_server import TrackingServer

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder whose name needs quoting; every test uses its own runs and models in it."""
    return tmp_path_factory.mktemp("er ray")


@pytest.fixture(scope="module")
def registry(home):
    return Registry(home, experiment="tests")


@pytest.fixture
def client(registry):
    """MLflow's own client as the oracle, told nothing but the address."""
    return MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)


@pytest.fixture
def checkpoint(tmp_path):
    return write_checkpoint(tmp_path / "checkpoint", b"weights")


def write_checkpoint(folder, weights):
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights)
    (folder / "model.json").write_text('{"name": "lfan"}')
    return folder


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_run_keeps_params_tags_and_its_parent(registry, client):
    recipe = {
        "seed": 3,
        "train": {"optimiser": {"lr": 1e-3}, "hop": None},
        "streams": {"hog": {}},
        "labels": ["a", "b"],
        "note": "é" * (MAX_PARAM_CHARS + 1),
        **{f"extra{i}": i for i in range(250)},
    }
    flow = registry.start_run("flow", params=recipe, tags={"git_commit": "abc"})
    trial = registry.start_run("trial", parent=flow)
    data = client.get_run(flow).data
    assert data.params["train.optimiser.lr"] == "0.001"
    assert data.params["train.hop"] == "null"
    assert data.params["streams.hog"] == "{}"
    assert data.params["labels"] == '["a", "b"]'
    assert data.params["note"] == "é" * (MAX_PARAM_CHARS - 3) + "..."
    assert sum(key.startswith("extra") for key in data.params) == 250
    assert data.tags["git_commit"] == "abc"
    assert client.get_run(trial).data.tags["mlflow.parentRunId"] == flow
    assert client.get_run(flow).info.status == "RUNNING"
    registry.finish(trial)
    registry.finish(flow)
    assert client.get_run(flow).info.status == "FINISHED"


def test_metrics_keep_their_epoch_and_their_gaps(registry, client):
    with registry.run("metrics") as run_id:
        registry.log_metrics(run_id, [{"epoch": 0, "loss": 2.0, "f1": math.nan}])
        registry.log_metrics(run_id, [{"epoch": 1, "loss": math.inf, "f1": 0.5}])
        registry.log_metrics(run_id, [{"epoch": e, "long": e / 2} for e in range(2100)])
        registry.log_metrics(run_id, [{"test_f1": 0.25}])

    def history(key):
        return [(m.step, m.value) for m in client.get_metric_history(run_id, key)]

    assert history("f1") == [(0, pytest.approx(math.nan, nan_ok=True)), (1, 0.5)]
    assert history("loss") == [(0, 2.0), (1, pytest.approx(math.nan, nan_ok=True))]
    assert sorted(history("long")) == [(e, e / 2) for e in range(2100)]
    assert history("test_f1") == [(0, 0.25)]
    assert client.get_metric_history(run_id, "epoch") == []


def test_a_run_that_raises_is_marked_failed(registry, client):
    with pytest.raises(ZeroDivisionError), registry.run("broken") as run_id:
        registry.log_metrics(run_id, [{"epoch": 0, "loss": 1 / 0}])
    assert client.get_run(run_id).info.status == "FAILED"


def test_what_failed_elsewhere_is_marked_failed(registry, client):
    with registry.run("trial", tags={"erray.trial.reason": "no room"}, failed=True) as run_id:
        assert client.get_run(run_id).info.status == "RUNNING"
    assert client.get_run(run_id).info.status == "FAILED"
    assert registry.run_facts(run_id).tags == {"erray.trial.reason": "no room"}


def test_files_arrive_in_the_local_artifact_folder(registry, client, checkpoint, tmp_path, home):
    with registry.run("files") as run_id:
        registry.log_file(run_id, checkpoint / "model.json", "notes")
        registry.log_folder(run_id, checkpoint, "weights")
        registry.log_dict(run_id, {"seed": 1, "name": "Zoë"}, "recipe.json")
    got = tmp_path / "got"
    got.mkdir()
    client.download_artifacts(run_id, "", str(got))
    assert {p.as_posix() for p in contents(got)} == {
        "notes/model.json",
        "weights/model.json",
        "weights/model.safetensors",
        "recipe.json",
    }
    assert json.loads((got / "recipe.json").read_text("utf-8")) == {"seed": 1, "name": "Zoë"}
    assert (home / "artifacts" / run_id).is_dir()


def test_credentials_never_reach_the_store(registry, home):
    uri = "postgresql://me:hunter2@db/ml"
    with registry.run("secrets", params={"tracking": {"uri": uri}}) as run_id:
        registry.log_dict(run_id, {"tracking": {"uri": uri}}, "recipe.json")
    stored = b"".join(contents(home).values())
    assert b"postgresql://***@db/ml" in stored
    assert b"hunter2" not in stored


def test_versions_keep_their_bytes_and_the_alias_moves(registry, client, checkpoint, tmp_path):
    other = write_checkpoint(tmp_path / "other", b"better")
    with registry.run("train") as run_id:
        first = registry.register(
            run_id,
            checkpoint,
            model_name="lfan.demo",
            metrics={"val_f1": 0.5},
            tags={"data_fingerprint": "abc"},
        )
        second = registry.register(run_id, other, model_name="lfan.demo")
    assert (first.version, second.version) == ("1", "2")
    registry.move_alias(first, "champion", before=None, how=FIRST, why="none before")
    before = registry.alias("lfan.demo", "champion")
    registry.move_alias(second, "champion", before=before, how=BETTER, why="p 0.01")
    tags = client.get_model_version("lfan.demo", "1").tags
    assert (tags["metric.val_f1"], tags["data_fingerprint"]) == ("0.5", "abc")

    old = registry.fetch("models:/lfan.demo/1", tmp_path / "models")
    best = registry.fetch("models:/lfan.demo@champion", tmp_path / "models")
    assert contents(old.folder) == contents(checkpoint)
    assert contents(best.folder) == contents(other)
    assert (best.name, best.version, best.run_id) == ("lfan.demo", "2", run_id)


def test_a_spoilt_local_copy_is_fetched_again(registry, checkpoint, tmp_path):
    with registry.run("copy") as run_id:
        registry.register(run_id, checkpoint, model_name="copied")
    model = registry.fetch("models:/copied/1", tmp_path / "models")
    (model.folder / "model.json").write_text("spoilt")
    assert contents(registry.fetch("models:/copied/1", tmp_path / "models").folder) == contents(
        checkpoint
    )
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["copied-1"]


def test_changed_artifacts_are_refused(registry, checkpoint, tmp_path, home):
    with registry.run("altered") as run_id:
        registry.register(run_id, checkpoint, model_name="altered")
    stored = next((home / "artifacts" / run_id).rglob("model.safetensors"))
    stored.write_bytes(b"weightz")
    with pytest.raises(UserError, match="sha256"):
        registry.fetch("models:/altered/1", tmp_path / "models")
    assert list((tmp_path / "models").iterdir()) == []


class _Canary:
    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return (open, (str(self._path), "w"))


def test_nothing_is_unpickled_on_the_way(registry, checkpoint, tmp_path):
    canary = tmp_path / "canary"
    (checkpoint / "data.pkl").write_bytes(pickle.dumps(_Canary(canary)))
    with registry.run("pickle") as run_id:
        registry.register(run_id, checkpoint, model_name="pickled")
    model = registry.fetch("models:/pickled/1", tmp_path / "models")
    assert contents(model.folder) == contents(checkpoint)
    assert not canary.exists()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("erray", "expected models:/name@alias"),
        ("models:/listed", "expected models:/name@alias"),
        ("models:/listed/latest", "expected models:/name@alias"),
        ("models:/listed/0", "expected models:/name@alias"),
        ("models:/../../etc/1", "expected models:/name@alias"),
        ("runs:/abc/model", "expected models:/name@alias"),
        ("models:/absent/1", "no model 'absent'; there are: .*listed"),
        ("models:/listed@best", "no alias 'best'; there are: champion"),
        ("models:/listed/7", "no version 7; there are: 1; `erray registry list listed`"),
    ],
)
def test_a_wrong_uri_lists_what_exists(registry, client, tmp_path, uri, message):
    if not client.search_registered_models("name='listed'"):
        folder = write_checkpoint(tmp_path / "listed", b"1")
        with registry.run("listed") as run_id:
            version = registry.register(run_id, folder, model_name="listed")
            registry.move_alias(version, "champion", before=None, how=FIRST, why="")
    with pytest.raises(UserError, match=message):
        registry.fetch(uri, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_version_of_another_tool_is_refused(registry, client, tmp_path):
    client.create_registered_model("foreign")
    client.create_model_version("foreign", "file:///nowhere", await_creation_for=0)
    with pytest.raises(UserError, match="not registered by erray"):
        registry.fetch("models:/foreign/1", tmp_path)


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("a/b", "x"),
        ("a:b", "x"),
        ("", "x"),
        ("..", "x"),
        ("a", "latest"),
        ("a", "v3"),
        ("a", "x y"),
    ],
)
def test_names_that_cannot_be_registered_are_refused_early(name, alias):
    with pytest.raises(UserError, match="expected letters"):
        require_valid_names(name, alias)


def test_names_that_pass_are_taken_by_mlflow(registry, client, checkpoint):
    require_valid_names("My model_1.0-b", "the-best_2")
    with registry.run("names") as run_id:
        version = registry.register(run_id, checkpoint, model_name="My model_1.0-b")
        registry.move_alias(version, "the-best_2", before=None, how=FIRST, why="")
    assert client.get_model_version_by_alias("My model_1.0-b", "the-best_2").run_id == run_id


def test_the_ui_command_opens_the_store(registry, home):
    program, *arguments = shlex.split(registry.ui_command())
    assert Path(program).name == "mlflow"
    assert arguments[:3] == ["ui", "--backend-store-uri", f"sqlite:///{home}/mlflow.db"]


def test_a_deleted_experiment_is_named(registry, client, home):
    client.delete_experiment(client.create_experiment("gone"))
    with pytest.raises(UserError, match=r"experiment 'gone' was deleted: .* restore -x \d+"):
        Registry(home, experiment="gone").start_run("late")


def test_a_store_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot open the tracking store nonsense://\*\*\*@x"):
        Registry(tmp_path, uri="nonsense://me:secret@x").start_run("never")


ONE_RUN = """
import sys, time
from pathlib import Path
from erray.registry import Registry
home, mine = Path(sys.argv[1]), Path(sys.argv[2])
mine.write_text("")
while len(list(home.glob("*.run"))) < 2:
    time.sleep(0.01)
registry = Registry(home, experiment="shared")
run_id = registry.start_run("one")
registry.finish(run_id)
mine.write_text(run_id)
"""


def test_two_processes_create_one_store_at_once_and_quietly(tmp_path):
    run_files = [tmp_path / "a.run", tmp_path / "b.run"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_RUN, str(tmp_path), str(mine)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for mine in run_files
    ]
    assert [process.communicate(timeout=200)[0] for process in processes] == [b"", b""]
    store = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    runs = [store.get_run(mine.read_text()) for mine in run_files]
    assert runs[0].info.run_id != runs[1].info.run_id
    assert runs[0].info.experiment_id == runs[1].info.experiment_id


def test_a_refused_call_is_no_outage(registry):
    with pytest.raises(MlflowException) as caught:
        registry.log_metrics("no-such-run", [{"epoch": 0, "loss": 1.0}])
    assert not is_outage(caught.value)


@pytest.fixture
def server(tmp_path):
    server = TrackingServer(tmp_path)
    server.start()
    yield server
    server.kill()


def test_an_outage_of_the_server_loses_nothing(server, tmp_path, checkpoint, monkeypatch, caplog):
    monkeypatch.setattr(connection, "RETRY_PAUSE_S", 0.2)
    uri, group = server.uri, server.group
    registry = Registry(tmp_path / "home", uri=uri, outage_limit_s=120)
    run_id = registry.start_run("train")
    registry.log_metrics(run_id, [{"epoch": 0, "loss": 3.0}])

    # Stopped, it still takes what is sent and answers nobody: what arrived is sent once more.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    os.killpg(group, signal.SIGSTOP)
    with caplog.at_level(logging.WARNING):
        start_s = time.monotonic()
        for epoch in range(1, 4):
            registry.log_metrics(run_id, [{"epoch": epoch, "loss": 3.0 - epoch}])
        assert time.monotonic() - start_s < 10, "training waited for the server"
    assert "the tracking store is away" in caplog.text
    closing = threading.Thread(target=registry.finish, args=(run_id,))
    closing.start()
    time.sleep(1.5)
    assert closing.is_alive(), "closing a run has to wait for the server"
    os.killpg(group, signal.SIGCONT)
    closing.join(60)

    client = MlflowClient(tracking_uri=uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    history = client.get_metric_history(run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(0, 3.0), (1, 2.0), (2, 1.0), (3, 0.0)]
    assert client.get_run(run_id).info.status == "FINISHED"

    registry.register(run_id, checkpoint, model_name="served")
    model = registry.fetch("models:/served/1", tmp_path / "models")
    assert contents(model.folder) == contents(checkpoint)
    assert (tmp_path / "served").is_dir(), "artifacts belong to the server"
    assert not (tmp_path / "home" / "artifacts").exists()
    assert registry.ui_command() == uri


def test_an_outage_beyond_the_limit_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "RETRY_PAUSE_S", 0.1)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry(tmp_path, uri="http://127.0.0.1:9", outage_limit_s=0.5)  # discard port
    with pytest.raises(UserError, match="cannot open the tracking store http"):
        registry.start_run("never")
    calls = []

    def call():
        calls.append(1)
        raise MlflowException("no answer")

    with pytest.raises(StoreAway, match=r"away \(no answer\): what is computed is kept"):
        registry._connection.patiently(call)
    assert 2 <= len(calls) <= 6
