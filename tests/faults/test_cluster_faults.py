"""Clusters that let strangers in: submitting refuses, the doctor fails; and jobs that go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ray_head import Head, free_ports, started_head

pytestmark = pytest.mark.timeout(300)

ERRAY = str(Path(sys.executable).with_name("erray"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a job that says what it got."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "hello.py").write_text(
        "import os, sys\nprint('hello', *sys.argv[1:], os.environ.get('COLOUR'))\n"
        "sys.exit(int(os.environ.get('CODE', 0)))\n"
    )
    return tmp_path


def run(head: Head, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # a leftover address of another cluster must not win over the one that was checked
    (elsewhere,) = free_ports(1)
    other = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{elsewhere}", "ERRAY_HOME": str(folder)}
    return subprocess.run(
        [ERRAY, *arguments, "--address", head.address],
        env=head.environment | other,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def submit(head: Head, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    python = ["--python", sys.executable]
    return run(head, folder, "submit", "hello", *python, *options)


def cluster_line(head: Head, folder: Path) -> tuple[int, dict[str, str]]:
    done = run(head, folder, "doctor", "--json")
    (line,) = [c for c in json.loads(done.stdout)["checks"] if c["name"] == "cluster"]
    return done.returncode, line


def test_an_open_cluster_is_refused_unless_one_insists(ray_dir, folder):
    with started_head(ray_dir, with_token=False) as head:
        refused = submit(head, folder)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "answers without a token" in refused.stderr and "--insecure" in refused.stderr
        assert head.jobs(token=None) == []

        code, line = cluster_line(head, folder)
        assert (code, line["state"]) == (1, "failure")
        assert "answers without a token" in line["found"]
        assert "RAY_AUTH_MODE=token" in line["advice"]

        done = submit(head, folder, "--insecure", "--env", "COLOUR=green")
        assert done.returncode == 0 and "hello green\n" in done.stdout
        assert "warning: " in done.stderr
        done = submit(head, folder, "--insecure", "--env", "CODE=7")
        assert done.returncode == 7 and "failed with exit code 7" in done.stdout


def test_a_dashboard_on_all_addresses_is_refused_with_a_token_too(ray_dir, folder):
    with started_head(ray_dir, dashboard_host="0.0.0.0") as head:
        refused = submit(head, folder)
        assert refused.returncode == 2 and refused.stderr.count("\n") == 1
        assert "listens on 0.0.0.0, open to its network" in refused.stderr
        assert head.jobs(token=head.token) == []

        code, line = cluster_line(head, folder)
        assert (code, line["state"]) == (1, "failure")
        assert "--dashboard-host=127.0.0.1" in line["advice"]


def test_a_shut_cluster_is_well_and_takes_jobs(ray_dir, folder):
    with started_head(ray_dir) as head:
        code, line = cluster_line(head, folder)
        assert (code, line["state"]) == (0, "ok"), line
        done = submit(head, folder, "--env", "COLOUR=blue")
        assert done.returncode == 0 and "hello blue\n" in done.stdout

        command = ["submit", "hello", "--python", "/absent/python"]
        done = run(head, folder, *command)
        assert done.returncode == 127 and "failed with exit code 127" in done.stdout
