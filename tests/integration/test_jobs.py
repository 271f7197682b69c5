"""A script of ``jobs/`` on a started head that asks for a token, as on a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_run import NUM_CLIPS, REPOSITORY, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

RAY = str(Path(sys.executable).with_name("ray"))
# The least that is a whole pipeline: no faces, one worker, one trial, one epoch.
SMALLEST: dict[str, Any] = {
    "streams": {"logmel": {}},
    "model": {"name": "lfan", "options": {"leader": "logmel", "channels": {"logmel": [8]}}},
    "train": {"epochs": 1, "window": 75, "hop": 50, "num_workers": 1},
    "tune": {"num_trials": 1, "epochs": 1, "grace_epochs": 1},
}


@dataclass(frozen=True)
class Head:
    """A head node on the loopback address, and the token it asks for."""

    address: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        outer = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
        return outer | quiet | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token}

    def jobs(self, *, token: str | None, submit: dict[str, Any] | None = None) -> Any:
        """List the jobs, or ``submit`` one, as a plain HTTP client with ``token``."""
        request = urllib.request.Request(f"{self.address}/api/jobs/")
        if submit is not None:
            request.data = json.dumps(submit).encode()
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def head(ray_dir: Path) -> Iterator[Head]:
    port, dashboard, agent, client = free_ports(4)
    node = Head(f"http://127.0.0.1:{dashboard}", secrets.token_hex(32))
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    command += [f"--port={port}", f"--temp-dir={ray_dir}", f"--object-store-memory={2**28}"]
    command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--ray-client-server-port={client}"]
    with (ray_dir / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command, env=node.environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(node, process, ray_dir / "head.log")
        yield node
    finally:
        # not SIGTERM, on which a head drains for up to 30 s; its children are in its group
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(node: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    give_up_s = time.monotonic() + 120
    while time.monotonic() < give_up_s and process.poll() is None:
        try:
            node.jobs(token=node.token)
        except OSError:
            time.sleep(0.3)
        else:
            return
    pytest.fail(f"the head did not start:\n{log.read_text()}")


def test_nobody_without_the_token_gets_in(head, tmp_path):
    canary = {"entrypoint": f"touch {tmp_path / 'canary'}"}
    for token in (None, secrets.token_hex(32)):
        for submit in (None, canary):
            with pytest.raises(urllib.error.HTTPError) as refused:
                head.jobs(token=token, submit=submit)
            assert refused.value.code in {401, 403}
    assert head.jobs(token=head.token) == []
    assert not (tmp_path / "canary").exists()


def test_the_pipeline_as_a_job(head, tiny_corpus, tmp_path):
    recipe = write_recipe(tmp_path / "job.yaml", tiny_corpus, name="job", **SMALLEST)
    home = tmp_path / "home"
    command = [RAY, "job", "submit", "--address", head.address, "--working-dir", "."]
    command += ["--runtime-env-json", json.dumps({"env_vars": {"ERRAY_HOME": str(home)}})]
    command += ["--", sys.executable, "jobs/pipeline.py", "--recipe", str(recipe)]
    done = subprocess.run(
        command,
        env=head.environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    out = home / "job"
    metrics = json.loads((out / "report" / "metrics.json").read_text("utf-8"))
    assert metrics["clips"] == {"wanted": NUM_CLIPS, "done": NUM_CLIPS - 2, "rejected": 2}
    assert metrics["model"] == {"name": "tiny", "version": "1"}
    assert (out / "submission.csv").is_file()
    assert (home / "mlflow.db").is_file()
    (job,) = [job for job in head.jobs(token=head.token) if job["type"] == "SUBMISSION"]
    assert job["status"] == "SUCCEEDED"
