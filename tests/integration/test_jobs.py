"""A script of ``jobs/`` on a started head that asks for a token, as on a cluster."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from erray.run_record import git_commit
from tests.ray_head import Head, started_head
from tests.tiny_run import NUM_CLIPS, REPOSITORY, write_recipe

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

ERRAY = str(Path(sys.executable).with_name("erray"))
# The least that is a whole pipeline: no faces, one worker, one trial, one epoch.
SMALLEST: dict[str, Any] = {
    "streams": {"logmel": {}},
    "model": {"name": "lfan", "options": {"leader": "logmel", "channels": {"logmel": [8]}}},
    "train": {"epochs": 1, "window": 75, "hop": 50, "num_workers": 1},
    "tune": {"num_trials": 1, "epochs": 1, "grace_epochs": 1},
}


@pytest.fixture(scope="module")
def head(ray_dir: Path) -> Iterator[Head]:
    with started_head(ray_dir) as node:
        yield node


def submit(
    head: Head, *arguments: str, token: str | None, job: str = "pipeline"
) -> subprocess.CompletedProcess[str]:
    """Submit a job of this repository as the command does, with ``token`` in a file."""
    command = [ERRAY, "submit", job, "--address", head.address]
    command += ["--python", sys.executable, *arguments]
    environment = {n: v for n, v in head.environment.items() if not n.startswith("RAY_AUTH_")}
    environment["HOME"] = "/nonexistent"  # a token in ~/.ray would be taken
    if token is not None:
        environment["RAY_AUTH_TOKEN"] = token
    return subprocess.run(
        command,
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def test_nobody_without_the_token_gets_in(head, tmp_path):
    canary = {"entrypoint": f"touch {tmp_path / 'canary'}"}
    for token in (None, secrets.token_hex(32)):
        for entry in (None, canary):
            with pytest.raises(urllib.error.HTTPError) as refused:
                head.jobs(token=token, submit=entry)
            assert refused.value.code in {401, 403}
    for token, message in (
        (None, "asks for a token, found none"),
        (secrets.token_hex(32), "refuses the token of this machine"),
    ):
        refused = submit(head, token=token)
        assert refused.returncode == 2 and message in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert head.jobs(token=head.token) == []
    assert not (tmp_path / "canary").exists()


def test_the_pipeline_as_a_job(head, tiny_corpus, tmp_path):
    recipe = write_recipe(tmp_path / "job.yaml", tiny_corpus, name="job", **SMALLEST)
    home = tmp_path / "home"
    arguments = ["--env", f"ERRAY_HOME={home}", "--json", "--", "--recipe", str(recipe)]
    done = submit(head, *arguments, token=head.token)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["exit_code"] == 0
    assert str(head.token) not in done.stdout + done.stderr
    out = home / "job"
    assert f"Report:  {out}/report/index.html" in done.stderr, "the job's log was not followed"
    metrics = json.loads((out / "report" / "metrics.json").read_text("utf-8"))
    assert metrics["clips"] == {"wanted": NUM_CLIPS, "done": NUM_CLIPS - 2, "rejected": 2}
    assert metrics["model"] == {"name": "tiny", "version": "1"}
    assert (out / "submission.csv").is_file()
    assert (home / "mlflow.db").is_file()
    record = json.loads((out / "run.json").read_text("utf-8"))
    assert record["git_commit"] == git_commit(REPOSITORY), "it travels with the job"
    (job,) = [job for job in head.jobs(token=head.token) if job["type"] == "SUBMISSION"]
    assert job["status"] == "SUCCEEDED"


def test_a_job_that_fails_ends_the_command_with_its_exit_code(head):
    done = submit(head, "--", "--recipe", "absent", token=head.token, job="extract")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "ERRAY_HOME is '', a job needs an absolute folder" in done.stdout
