"""What the command would send, and what it refuses before it connects to anything."""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import version

import pytest
from ray.runtime_env import RuntimeEnv

import erray.cluster
from erray.cli.main import main
from erray.cli.submit import _environment
from erray.cluster import Door, working_folder
from erray.cluster.door import Fault
from erray.run_record import COMMIT_VARIABLE

ADDRESS = "http://127.0.0.1:9999"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "extract.py").write_text("print()")
    (tmp_path / "requirements.lock").write_text("a==1 --hash=sha256:00\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    return tmp_path


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["submit", *arguments])
    return int(caught.value.code or 0)


def test_a_dry_run_says_what_would_be_sent(capsys):
    arguments = ["extract", "--address", ADDRESS, "--dry-run", "--env", "KEY=a secret"]
    assert call(*arguments, "--json", "--", "-r", "my films.yaml", "--retry") == 0
    captured = capsys.readouterr()
    plan = json.loads(captured.out)
    assert plan["files"] == ["jobs/extract.py", "requirements.lock"]
    assert (plan["num_files"], plan["num_bytes"]) == (2, 29)
    assert plan["entrypoint"] == "python jobs/extract.py -r 'my films.yaml' --retry"
    assert plan["variables"] == ["KEY"] and "a secret" not in captured.out + captured.err
    packages = RuntimeEnv(uv=plan["packages"])  # Ray checks it
    assert packages["uv"]["packages"] == [
        "-r ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/requirements.lock"
    ]
    assert packages["uv"]["uv_pip_install_options"] == ["--require-hashes"]

    assert call(*arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.split()[:2] == plan["files"]
    assert "num_bytes: 29" in captured.out and "a secret" not in captured.out


def test_a_python_of_the_nodes_needs_no_lock(capsys, folder):
    (folder / "requirements.lock").unlink()
    arguments = ["extract", "--address", ADDRESS, "--dry-run", "--json"]
    assert call(*arguments) == 2
    assert "expected requirements.lock in" in capsys.readouterr().err
    assert call(*arguments, "--python", "/opt/venv/bin/python") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["entrypoint"] == "/opt/venv/bin/python jobs/extract.py"
    assert "--python names" in plan["packages"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--address", ADDRESS], "found 'train'; there are extract"),
        (["../x", "--address", ADDRESS], "expected a job of"),
        (["extract"], "expected the address of a cluster's job server"),
        (["extract", "--env", "NOT_SET_HERE", "--address", ADDRESS], "expected NAME=VALUE"),
        (["extract", "--env", "RAY_AUTH_TOKEN=a", "--address", ADDRESS], "leave it out"),
        (["extract", "--working-dir", "absent", "--address", ADDRESS], "expected a folder"),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys):
    assert call(*arguments, "--dry-run") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_variable_of_this_shell_goes_by_its_name(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    arguments = ["extract", "--address", ADDRESS, "--env", "MLFLOW_TRACKING_PASSWORD"]
    assert call(*arguments, "--dry-run", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["variables"] == ["MLFLOW_TRACKING_PASSWORD"]
    assert "hunter2" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("exposure", "asks", "ray_version", "message"),
    [
        (None, False, version("ray"), "answers without a token"),
        (Fault("port 9999 is open", "shut it"), True, version("ray"), "is open: shut it"),
        (None, True, "2.9.0", "on the cluster, found 2.9.0"),
    ],
)
def test_what_a_cluster_is_refused_for(exposure, asks, ray_version, message, capsys, monkeypatch):
    door = Door(ADDRESS, asks, exposure, ray_version, "token" if asks else None)
    monkeypatch.setattr(erray.cluster, "knock", lambda address: door)
    assert call("extract", "--address", ADDRESS) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        "postgresql://u:SECRET@h/db",
        "postgresql://u:a/SECRET@h/db",
        "postgresql://h/db?password=SECRET",
    ],
)
def test_a_password_in_an_argument_is_neither_shown_nor_sent(value, dry_run, capsys, monkeypatch):
    def knock(address):
        raise AssertionError("connected")

    monkeypatch.setattr(erray.cluster, "knock", knock)
    options = ["--dry-run"] * dry_run
    arguments = ["extract", "--address", ADDRESS, *options, "--", "-o", f"tune.storage={value}"]
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert "argument 2 after --" in captured.err and "--env PGPASSWORD=..." in captured.err
    assert captured.err.count("\n") == 1 and "SECRET" not in captured.out + captured.err


def test_a_database_without_its_password_is_sent(capsys):
    arguments = ["extract", "--address", ADDRESS, "--dry-run", "--json", "--"]
    assert call(*arguments, "-o", "tune.storage=postgresql://u@h/db") == 0
    assert "postgresql://u@h/db" in json.loads(capsys.readouterr().out)["entrypoint"]


def test_the_commit_travels_with_the_job(folder, capsys):
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(folder)]
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    noted = {COMMIT_VARIABLE: git("rev-parse", "HEAD")}
    assert _environment(working_folder(folder), "python", [])["env_vars"] == noted
    given = _environment(working_folder(folder), "python", [f"{COMMIT_VARIABLE}=mine"])
    assert given["env_vars"] == {COMMIT_VARIABLE: "mine"}
    arguments = ["extract", "--address", ADDRESS, "--dry-run", "--json"]
    assert call(*arguments) == 0
    assert json.loads(capsys.readouterr().out)["variables"] == [COMMIT_VARIABLE]
