"""Each line of the doctor in its states; the exit code is that of the worst line."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version

import pytest

from erray.cli import doctor_machine as machine
from erray.cli import doctor_services as services
from erray.cli.main import main
from erray.encoders import weights as pretrained


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)


def call(capsys, *arguments: str):
    """Exit code, and line by name."""
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--json", *arguments])
    checks = json.loads(capsys.readouterr().out)["checks"]
    return int(caught.value.code or 0), {check["name"]: check for check in checks}


def test_a_line_for_everything_and_the_worst_decides(capsys, tmp_path):
    code, lines = call(capsys, "-r", "demo")
    assert list(lines) == [
        *("python", "packages", "gpu", "decoder", "detector", "weights", "recipe", "home"),
        *("disk", "storage", "cluster", "tracking"),
    ]
    assert code == 0 and lines["recipe"]["state"] == "ok"
    assert lines["weights"]["state"] == "warning"
    assert not list(tmp_path.iterdir()), "the doctor left something behind"

    code, lines = call(capsys, "-r", "demo", "-o", "streams.bert={model: absent/model}")
    assert (code, lines["recipe"]["state"]) == (1, "failure")
    assert "absent/model" in lines["recipe"]["found"]


def test_people_get_lines_with_what_to_do(capsys):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "--address", f"127.0.0.1:{port}"])
    text = capsys.readouterr().out
    assert caught.value.code == 1
    assert f"failure  cluster   expected a Ray job server at http://127.0.0.1:{port}" in text
    assert "warning  weights" in text and "erray weights fetch NAME" in " ".join(text.split())


@pytest.mark.parametrize(
    ("requirements", "state", "found"),
    [
        (["numpy>=2", "absent; extra == 'dev'"], "ok", f"ray {version('ray')}"),
        (["numpy>=99"], "failure", f"numpy {version('numpy')}, expected >=99"),
        (["no-such-package>=1"], "failure", "no-such-package is missing"),
    ],
)
def test_packages(requirements, state, found):
    check = machine.check_packages(requirements)
    assert check.state == state and found in check.found
    assert bool(check.advice) == (state == "failure")


def test_weights_that_were_altered(tmp_path):
    name, entry = next(
        (name, entry) for name, entry in pretrained.manifest().items() if entry.can_be_fetched
    )
    path = tmp_path / "weights" / entry.files[0].file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    check = machine.check_weights()
    assert check.state == "failure" and name in check.found


def test_a_home_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("ERRAY_HOME", "/proc/runs")
    check = machine.check_home()
    assert check.state == "failure" and check.advice == "set ERRAY_HOME"


def test_tables_in_a_storage(tmp_path):
    assert services.check_storage(None).state == "ok"
    check = services.check_storage(f"file://{tmp_path}/tables")
    assert check.state == "ok" and not list((tmp_path / "tables").iterdir())
    check = services.check_storage("nosuch://user:hunter2@bucket/tables")
    assert check.state == "failure" and "hunter2" not in check.found + check.advice


class Tracking(BaseHTTPRequestHandler):
    status, body = 200, version("mlflow")

    def do_GET(self):
        assert self.path == "/version"
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body.encode())

    def log_message(self, format, *args):
        """Quiet."""


@pytest.mark.parametrize(
    ("status", "body", "state", "words"),
    [
        (200, version("mlflow"), "ok", f"MLflow {version('mlflow')}"),
        (200, "1.0.0", "warning", "MLflow 1.0.0"),
        (200, "<html>", "failure", "no MLflow answers there"),
        (404, "", "failure", "no MLflow answers there"),
        (401, "", "failure", "refuses this user"),
    ],
)
def test_a_tracking_server(status, body, state, words):
    handler = type("Handler", (Tracking,), {"status": status, "body": body})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        check = services.check_tracking(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert check.state == state and words in check.found
    check = services.check_tracking(f"http://me:hunter2@127.0.0.1:{server.server_port}/")
    assert check.state == "failure" and "ConnectionError" in check.found
    assert "hunter2" not in check.found + check.advice


def test_a_tracking_file(tmp_path):
    path = tmp_path / "mlflow.db"
    check = services.check_tracking(f"sqlite:///{path}")
    assert check.state == "ok" and "made by the first run" in check.found and not path.exists()
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    assert services.check_tracking(f"sqlite:///{path}").state == "failure"
    path.unlink()
    with sqlite3.connect(path) as store:
        store.execute("create table runs (name text)")
        store.execute("insert into runs values ('a')")
    assert services.check_tracking(f"sqlite:///{path}").found.endswith("1 runs")


def test_a_tracking_database():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        uri = f"postgresql+psycopg://me:hunter2@127.0.0.1:{port}/mlflow"
        check = services.check_tracking(uri)
        assert check.state == "ok" and "hunter2" not in check.found
    check = services.check_tracking(uri)
    assert check.state == "failure" and "hunter2" not in check.found
    assert services.check_tracking("odd:thing").state == "failure"
