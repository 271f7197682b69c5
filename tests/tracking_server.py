"""A real tracking server that can be killed and started again, and a real PostgreSQL for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class TrackingServer:
    """``mlflow server`` on the loopback address, in a process group of its own.

    Args:
        folder: of its log, its artifacts and, without ``database``, its sqlite file.
        database: SQLAlchemy URI of its store.
        workers: processes that answer.
    """

    def __init__(self, folder: Path, *, database: str | None = None, workers: int = 1) -> None:
        self.folder, self.port = folder, free_port()
        self.database = database or f"sqlite:///{folder / 'server.db'}"
        self.workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def group(self) -> int:
        """The process group, for signals."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it on its port, with what it had, and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        command += ["--backend-store-uri", self.database]
        command += ["--artifacts-destination", str(self.folder / "served")]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                start_new_session=True,
            )
        self._wait(self._process)

    def kill(self) -> None:
        """Kill it with all its workers; nothing happens where it does not run."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        give_up_s = time.monotonic() + 150
        while time.monotonic() < give_up_s and process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.2)
        said = (self.folder / "server.log").read_text(encoding="utf-8")[-2000:]
        pytest.fail(f"the tracking server did not start: {said}")


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL of Debian's packages in ``folder``; yield its SQLAlchemy URI.

    The test that asks for it is skipped where its programs or the driver are missing.
    """
    pytest.importorskip("psycopg", reason="needs erray[postgres]")
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not programs:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    user: list[str] = []
    folder.mkdir()
    if os.geteuid() == 0:  # the server refuses to run as root
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv to run PostgreSQL from root's account")
        user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        shutil.chown(folder, "postgres", "postgres")
    port, data = free_port(), folder / "data"
    programs_dir = programs[-1].parent

    def call(program: str, *arguments: str) -> None:
        command = [*user, str(programs_dir / program), *arguments]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        assert done.returncode == 0, done.stderr.decode()

    call("initdb", "-D", str(data), "-U", "erray", "--auth=trust", "--no-sync", "--encoding=UTF8")
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories="
    log = str(folder / "postgres.log")
    call("pg_ctl", "-D", str(data), "-l", log, "-w", "-o", options, "start")
    try:
        yield f"postgresql://erray@127.0.0.1:{port}/postgres"
    finally:
        call("pg_ctl", "-D", str(data), "-m", "immediate", "stop")


def free_port() -> int:
    """A port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
