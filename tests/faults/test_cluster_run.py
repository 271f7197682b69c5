"""The pipeline as a job on two nodes, one of which is killed twice: it ends with the same result.

The second node is a raylet of its own on this machine: killed with all its processes at once while
it finds faces, replaced by a fresh one, which is killed while it trains, and replaced again.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tables import contents, rows
from tests.ray_head import Head, Node, started_head
from tests.tiny_run import NUM_CLIPS, REPOSITORY, build_tiny_corpus, write_recipe

pytestmark = pytest.mark.timeout(1500)

ERRAY = str(Path(sys.executable).with_name("erray"))
NAME, EPOCHS = "two-nodes", 10
SECTIONS: dict[str, Any] = {
    "name": NAME,
    # a worker on each node: one CPU each is all that a node has
    "train": {
        "epochs": EPOCHS,
        "window": 75,
        "hop": 50,
        "batch_size": 4,
        "num_workers": 2,
        "optimiser": {"name": "adamw", "lr": 3e-3},
    },
    "tune": {"num_trials": 1, "epochs": 2, "grace_epochs": 2},
    "extract": {"shard_clips": 2},
}


@dataclass(frozen=True)
class Job:
    """The pipeline as it runs on a cluster; its process is the command that follows its log."""

    process: subprocess.Popen[str]
    log: Path
    out: Path

    @classmethod
    def submit(cls, head: Head, recipe: Path, home: Path) -> Job:
        command = [ERRAY, "submit", "pipeline", "--address", head.address]
        command += ["--python", sys.executable, "--env", f"ERRAY_HOME={home}"]
        log = home.with_suffix(".log")
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, "--", "--recipe", str(recipe)],
                env=head.environment,
                cwd=REPOSITORY,
                stdout=file,
                stderr=file,
                text=True,
            )
        return cls(process, log, home / NAME)

    def wait_until(self, what: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + 600
        while not what():
            assert self.process.poll() is None, f"it ended early:\n{self.log.read_text()}"
            assert time.monotonic() < give_up_s, f"it does not get on:\n{self.log.read_text()}"
            time.sleep(0.05)

    def end(self) -> None:
        """Wait for its end, which must be a good one."""
        code = self.process.wait(timeout=900)
        assert code == 0, self.log.read_text()

    def num_tracked(self) -> int:
        """Clips whose faces have been looked for."""
        status = self.out / "tables" / "status"
        return sum(row["stage"] == "tracks" for row in rows(status)) if status.is_dir() else 0

    def num_checkpoints(self) -> int:
        """Checkpoints of the fusion that Ray Train lists; it keeps the last two."""
        lists = self.out.glob("training/fusion/ray/*/checkpoint_manager_snapshot.json")
        return sum(path.read_text().count('"checkpoint_dir_name"') for path in lists)


@pytest.fixture
def submit(head: Head, tmp_path: Path) -> Iterator[Callable[[str, Path], Job]]:
    """Submits the pipeline with a home of its own; what still follows a job ends with the test."""
    jobs: list[Job] = []

    def start(name: str, recipe: Path) -> Job:
        jobs.append(Job.submit(head, recipe, tmp_path / name))
        return jobs[-1]

    yield start
    for job in jobs:
        job.process.kill()
        job.process.wait()


@pytest.fixture
def head(ray_dir: Path) -> Iterator[Head]:
    with started_head(ray_dir, num_cpus=1) as node:
        yield node


@pytest.fixture
def nodes(head: Head, ray_dir: Path) -> Iterator[Callable[[], Node]]:
    """Starts one more node and waits until it has joined."""
    started: list[Node] = []

    def join() -> Node:
        before = head.nodes_up()  # one that was just killed may be among them
        node = Node.join(head, ray_dir / f"n{len(started)}")
        started.append(node)
        give_up_s = time.monotonic() + 120
        while not head.nodes_up() - before:
            assert time.monotonic() < give_up_s, "the node did not join"
            time.sleep(0.2)
        return node

    yield join
    for node in started:
        node.kill()


def runs(node: Node, actor: str) -> bool:
    """Whether an actor of that kind lives on the node."""
    return any(title.startswith("ray::") and actor in title for title in node.titles())


def result(out: Path) -> dict[str, Any]:
    """All that a run computed, without the seconds it took."""
    found: dict[str, Any] = {"tables": contents(out)}
    for run in ("fusion", "hog", "logmel", "hash", "tuned"):
        folder = out / "training" / run
        history = json.loads((folder / "history.json").read_text("utf-8"))
        for row in history["epochs"]:
            del row["seconds"]
        found[run] = {
            "history": history,
            "weights": hashlib.sha256((folder / "model/model.safetensors").read_bytes()).digest(),
            "predictions": sorted(map(repr, rows(folder / "predictions"))),
        }
    metrics = json.loads((out / "report" / "metrics.json").read_text("utf-8"))
    found["metrics"] = {name: value for name, value in metrics.items() if name != "seconds"}
    found["predictions"] = sorted(map(repr, rows(out / "predictions")))
    found["submission"] = (out / "submission.csv").read_bytes()
    return found


def test_a_node_killed_in_extraction_and_one_in_training_change_nothing(submit, nodes, tmp_path):
    corpus = build_tiny_corpus(tmp_path / "corpus")
    recipe = write_recipe(tmp_path / "two-nodes.yaml", corpus, **SECTIONS)
    second = nodes()
    start_s = time.monotonic()
    undisturbed = submit("undisturbed", recipe)
    undisturbed.wait_until(lambda: undisturbed.num_checkpoints() > 0)
    assert runs(second, "RayTrainWorker"), "\n".join(second.titles())
    undisturbed.end()
    undisturbed_s = time.monotonic() - start_s

    start_s = time.monotonic()
    job = submit("disturbed", recipe)
    job.wait_until(lambda: job.num_tracked() >= 3 and runs(second, "MapWorker"))
    assert job.num_tracked() < NUM_CLIPS, "killed too late to prove anything"
    second.kill()
    third = nodes()
    job.wait_until(lambda: job.num_checkpoints() > 1 and runs(third, "RayTrainWorker"))
    assert not (job.out / "training/fusion/history.json").exists()
    third.kill()
    fourth = nodes()
    job.wait_until(lambda: runs(fourth, "RayTrainWorker"))
    job.end()
    disturbed_s = time.monotonic() - start_s
    print(f"undisturbed {undisturbed_s:.0f} s, two nodes killed {disturbed_s:.0f} s")

    expected = result(undisturbed.out)
    assert len(expected["fusion"]["history"]["epochs"]) == EPOCHS
    found = result(job.out)
    for name, value in expected.items():
        assert found[name] == value, name
