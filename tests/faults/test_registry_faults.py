"""A tracking server that is away, that many write to at once, and secrets that nobody may see."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from erray.registry import Registry
from tests import tiny_run
from tests.tiny_run import RECIPE, REPOSITORY, TinyRun
from tests.tracking_server import TrackingServer, postgres

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

AWAY_S = 60
EPOCHS = 4
NUM_WRITERS, NUM_STEPS = 8, 150
# Made anew by every run: no file that was there before, this one included, holds them.
SECRETS = {
    name: f"{secrets.token_hex(12)}token"
    for name in ("MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN")
}
PASSWORD = f"{secrets.token_hex(12)}password"

WRITER = """
import json, sys
from pathlib import Path
from erray.registry import Registry
uri, home, number, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
registry = Registry(home, uri=uri, experiment="together")
folder = home / "model"
folder.mkdir()
(folder / "model.json").write_text(json.dumps({"writer": number}))
with registry.run(f"writer {number}", params={f"p{i}": i * number for i in range(150)}) as run_id:
    for step in range(steps):
        registry.log_metrics(run_id, [{"epoch": step, "loss": number + step / 1000, "f1": step}])
    registry.log_folder(run_id, folder, "files")
    registry.register(run_id, folder, model_name="together", tags={"writer": str(number)})
"""


def test_eight_runs_write_to_postgresql_at_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    with tempfile.TemporaryDirectory(prefix="pg-") as name:
        Path(name).chmod(0o755)
        with postgres(Path(name) / "server") as database:
            server = TrackingServer(tmp_path_factory.mktemp("server"), database=database, workers=2)
            server.start()
            try:
                write_at_once(server.uri, tmp_path_factory.mktemp("writers"))
                check_what_arrived(server.uri, tmp_path_factory.mktemp("fetched"))
            finally:
                server.kill()


def write_at_once(uri: str, folder: Path) -> None:
    writers = []
    for number in range(NUM_WRITERS):
        home = folder / str(number)
        home.mkdir()
        arguments = [uri, str(home), str(number), str(NUM_STEPS)]
        command = [sys.executable, "-c", WRITER, *arguments]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
    for writer in writers:
        said, _ = writer.communicate(timeout=600)
        assert writer.returncode == 0, said.decode()


def check_what_arrived(uri: str, folder: Path) -> None:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = client.get_experiment_by_name("together")
    runs = {r.info.run_name: r for r in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {f"writer {number}" for number in range(NUM_WRITERS)}
    for number in range(NUM_WRITERS):
        run = runs[f"writer {number}"]
        assert run.info.status == "FINISHED"
        assert run.data.params == {f"p{i}": str(i * number) for i in range(150)}
        loss = client.get_metric_history(run.info.run_id, "loss")
        expected = [(step, number + step / 1000) for step in range(NUM_STEPS)]
        assert sorted((m.step, m.value) for m in loss) == expected
        assert len(client.get_metric_history(run.info.run_id, "f1")) == NUM_STEPS
        assert [f.path for f in client.list_artifacts(run.info.run_id, "files")]
    registry = Registry(folder, uri=uri, experiment="together")
    versions = registry.versions("together")
    assert [int(v.version) for v in versions] == list(range(1, NUM_WRITERS + 1))
    assert {v.tags["writer"] for v in versions} == {str(n) for n in range(NUM_WRITERS)}
    for version in versions:
        model = registry.fetch(version.uri, folder)
        content = json.loads((model.folder / "model.json").read_text())
        assert content == {"writer": int(version.tags["writer"])}
        assert runs[f"writer {content['writer']}"].info.run_id == version.run_id


@dataclass(frozen=True)
class Outage:
    """A pipeline whose server was killed when the training began, and came back later.

    Attributes:
        said: all that the command printed.
        trained: training runs that ended while the server was away.
        folders: everything that was written, but the recipe and the corpus.
    """

    client: MlflowClient
    said: str
    trained: list[str]
    out: Path
    folders: list[Path]


@pytest.fixture(scope="module")
def outage(tmp_path_factory: pytest.TempPathFactory, ray_dir: Path) -> Iterator[Outage]:
    folder = tmp_path_factory.mktemp("outage")
    server_folder = tmp_path_factory.mktemp("server")
    server = TrackingServer(server_folder)
    corpus = tiny_run.build_tiny_corpus(folder / "corpus")
    uri = server.uri.replace("//", f"//somebody:{PASSWORD}@")
    recipe = tiny_run.write_recipe(
        folder / "tiny.yaml",
        corpus,
        train=RECIPE["train"] | {"epochs": EPOCHS},
        tracking=RECIPE["tracking"] | {"uri": uri},
    )
    run = TinyRun(corpus, recipe, folder / "run", folder / "home", ray_dir)
    server.start()
    try:
        said, trained = pipeline_through_outage(run, server)
        # sqlite and the log are read when nobody writes them any more
        yield Outage(
            client=MlflowClient(tracking_uri=server.uri, registry_uri=server.uri),
            said=said,
            trained=trained,
            out=run.out,
            folders=[run.out, run.home, server_folder, ray_dir],
        )
    finally:
        server.kill()


def pipeline_through_outage(run: TinyRun, server: TrackingServer) -> tuple[str, list[str]]:
    log = run.out.parent / "pipeline.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            run.command("pipeline", "--json"),
            env={**run.environment, **SECRETS},
            cwd=REPOSITORY,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_for(run.out / "training" / "fusion" / "ray", process)
            server.kill()
            back_s = time.monotonic() + AWAY_S
            for name in ("fusion", *RECIPE["streams"]):
                wait_for(run.out / "training" / name / "history.json", process)
            time.sleep(max(0.0, back_s - time.monotonic()))
            trained = [
                path.parent.name
                for path in (run.out / "training").glob("*/history.json")
                if not path.with_name("tracking.json").is_file()
            ]
            server.start()
            assert process.wait(timeout=400) == 0, log.read_text()
        finally:
            process.kill()
            process.wait()
    return log.read_text(), trained


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    give_up_s = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, "the pipeline ended early"
        assert time.monotonic() < give_up_s, path
        time.sleep(0.05)


def test_training_goes_on_while_the_server_is_away(outage: Outage) -> None:
    assert set(outage.trained) >= {"fusion", *RECIPE["streams"]}
    said = " ".join(outage.said.split())
    for name in outage.trained:
        assert f"the tracking store is away: {name} is trained and waits" in said
    assert list((outage.out / "outbox").iterdir()) == []


def test_every_value_arrives_once(outage: Outage) -> None:
    experiment = outage.client.get_experiment_by_name("tiny")
    runs: list[Run] = list(outage.client.search_runs([experiment.experiment_id]))
    assert {run.info.status for run in runs} == {"FINISHED"}
    names = [r.info.run_name for r in runs if not r.info.run_name.startswith("trial")]
    assert sorted(names) == sorted(["tiny", "fusion", "tuned", *RECIPE["streams"]])
    for run in runs:
        if run.info.run_name not in {"fusion", *RECIPE["streams"]}:
            continue
        folder = outage.out / "training" / run.info.run_name
        epochs = json.loads((folder / "history.json").read_text())["epochs"]
        for key in ("train_loss", "val_weighted_f1"):
            history = outage.client.get_metric_history(run.info.run_id, key)
            assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [
                (epoch, row[key]) for epoch, row in enumerate(epochs)
            ]
        assert len(epochs) == EPOCHS
        assert json.loads((folder / "tracking.json").read_text())["run_id"] == run.info.run_id
        assert {"history.json", "model"} <= {
            f.path for f in outage.client.list_artifacts(run.info.run_id)
        }


def test_no_secret_is_written_anywhere(outage: Outage) -> None:
    wanted = {name: value.encode() for name, value in (SECRETS | {"uri": PASSWORD}).items()}
    found = [
        f"{name} in {path}"
        for folder in outage.folders
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
        for name, value in wanted.items()
        if value in path.read_bytes()
    ]
    found += [f"{name} on the screen" for name, v in wanted.items() if v.decode() in outage.said]
    assert not found, "\n".join(found)
    assert b"somebody:" not in (outage.out / "run.json").read_bytes()
    assert any(os.scandir(outage.folders[-1])), "Ray's logs were searched"
